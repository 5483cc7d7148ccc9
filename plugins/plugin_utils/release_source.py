# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources of releases on the controller, directories and tar archives: what their content is, what is refused in them, how they are sent.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ansible_collections.webops.fastcgi.plugins.module_utils.release import MARKER


class SourceError(Exception):
    """A sentence about what makes a source unfit."""


@dataclass(frozen=True)
class Entry:
    """A directory, file or link of a source. ``path`` is relative and normal, with ``/``; ``open`` gives a file's content."""

    path: str
    kind: str  # "directory", "file" or "link"
    mode: int = 0o755
    target: str = ""
    size: int = 0
    open: Callable[[], BinaryIO] | None = None


def source_entries(path: str) -> Iterator[Entry]:
    """Yield the entries of a directory or tar archive, each checked, in an order in which they can be written.

    :raises SourceError: for anything that must not be in a release.
    """
    kinds: dict[str, str] = {}
    for entry in _directory_entries(path) if os.path.isdir(path) else _archive_entries(path):
        _check(entry, kinds)
        yield entry


def _check(entry: Entry, kinds: dict[str, str]) -> None:
    """Refuse an entry that could come to lie, or lead, outside the release. ``kinds`` has what came before it, by path."""
    if entry.path == MARKER:
        raise SourceError(f"{MARKER} is a name that releases use themselves: leave it out")
    if kinds.get(entry.path, entry.kind) != entry.kind or (entry.path in kinds and entry.kind != "directory"):
        raise SourceError(f"{entry.path} is in it twice")
    kinds[entry.path] = entry.kind
    for parent in _parents(entry.path):
        if kinds.setdefault(parent, "directory") != "directory":
            raise SourceError(f"{entry.path} lies under {parent}, which is no directory")
    if entry.kind == "link" and _leads_out(entry):
        raise SourceError(f"{entry.path} is a link out of the tree (to {entry.target}): leave it out, or put what it points to in")


def _leads_out(link: Entry) -> bool:
    """Whether a link can lead out of the tree, alone or by way of another link: only leading ``..`` pass nothing but real directories."""
    parts = [part for part in link.target.split("/") if part not in ("", ".")]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    return posixpath.isabs(link.target) or ups > link.path.count("/") or ".." in parts[ups:]


def _directory_entries(root: str) -> Iterator[Entry]:
    pending = [""]
    while pending:
        parent = pending.pop()
        for found in os.scandir(os.path.join(root, parent)):
            if found.name in (".git", "__pycache__") or found.name.endswith(".pyc"):
                continue
            path = posixpath.join(parent, found.name)
            status = found.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                yield Entry(path, "link", target=os.readlink(found.path))
            elif stat.S_ISDIR(status.st_mode):
                yield Entry(path, "directory", status.st_mode & 0o777)
                pending.append(path)
            elif stat.S_ISREG(status.st_mode):
                yield Entry(path, "file", status.st_mode & 0o777, size=status.st_size, open=_opener(found.path))
            else:
                raise SourceError(f"{path} is neither a file nor a directory nor a link: leave it out")


def _opener(path: str) -> Callable[[], BinaryIO]:
    return lambda: open(path, "rb")


def _archive_entries(path: str) -> Iterator[Entry]:
    with tarfile.open(path) as tar:
        files: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            name = _member_path(member.name)
            if name != ".":
                yield _member_entry(tar, member, name, files)


def _member_path(name: str) -> str:
    if posixpath.isabs(name) or ".." in name.split("/"):
        raise SourceError(f"{name} leads out of the archive: make the archive with relative names, without ..")
    return posixpath.normpath(name)


def _member_entry(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, files: dict[str, tarfile.TarInfo]) -> Entry:
    """Return the entry for an archive's member; ``files`` collects its files by path, for the hard links that follow them."""
    if member.isdir():
        return Entry(path, "directory", member.mode & 0o777)
    if member.issym():
        return Entry(path, "link", target=member.linkname)
    if member.islnk():
        content = files.get(_member_path(member.linkname))
        if content is None:
            raise SourceError(f"{path} is a hard link to {member.linkname}, which is not in the archive before it")
    elif member.isreg():
        content = files[path] = member
    else:
        raise SourceError(f"{path} is neither a file nor a directory nor a link: leave it out")
    return Entry(path, "file", content.mode & 0o777, size=content.size, open=lambda: tar.extractfile(content))  # type: ignore[arg-type,return-value]


def content_digest(entries: dict[str, str]) -> str:
    """Return the SHA-256, in hexadecimal, of a source's content as ``describe`` returns it."""
    return hashlib.sha256(json.dumps(sorted(entries.items())).encode()).hexdigest()


def describe(path: str) -> dict[str, str]:
    """Return what makes up the content of a source: for each path its type and what it holds.

    Times, owners and the order of an archive are no content; of the mode only the owner's x of a file is.

    :raises SourceError: for what source_entries refuses, and for an archive that cannot be read.
    """
    entries: dict[str, str] = {}
    try:
        for entry in source_entries(path):
            for parent in _parents(entry.path):
                entries.setdefault(parent, "directory")
            entries[entry.path] = " ".join(filter(None, [entry.kind, entry.target, _file_content(entry)]))
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise SourceError(f"it is neither a directory nor a readable tar archive (plain, gzip, bzip2 or xz): {error}") from error
    return entries


def _parents(path: str) -> Iterator[str]:
    """Yield the directories above a path, the nearest first."""
    while path := posixpath.dirname(path):
        yield path


def _file_content(entry: Entry) -> str:
    if entry.open is None:
        return ""
    content = hashlib.sha256()
    with entry.open() as stream:
        while block := stream.read(1 << 20):
            content.update(block)
    return f"{'x' if entry.mode & stat.S_IXUSR else '-'} {content.hexdigest()}"


def pack(sources: dict[int, str], stream: BinaryIO) -> None:
    """Write one archive with the content of ``sources[N]`` under ``N/``."""
    # The lowest compression: the archive is used once, and on most networks more would take longer than it saves.
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as tar:
        for number, path in sources.items():
            for entry in source_entries(path):
                _pack_entry(tar, f"{number}/{entry.path}", entry)


def _pack_entry(tar: tarfile.TarFile, name: str, entry: Entry) -> None:
    member = tarfile.TarInfo(name)
    member.type = {"directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "file": tarfile.REGTYPE}[entry.kind]
    member.mode, member.linkname, member.size = entry.mode, entry.target, entry.size
    if entry.open is None:
        tar.addfile(member)
        return
    with entry.open() as content:
        tar.addfile(member, content)
