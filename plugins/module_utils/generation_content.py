# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a generation consists of: declared by a task, staged in a directory, compared with what lies on disk.

This module util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import dataclasses
import grp
import hashlib
import json
import os
import pwd
import re
import stat
import typing as t

from ansible_collections.webops.fastcgi.plugins.module_utils.generation import MANIFEST, GenerationError, sync, write_new_file

SELINUX_KEYS = ("seuser", "serole", "setype", "selevel")  # in the order of a context's parts
_ENTRY_KEYS = ("path", "mode", "owner", "group", *SELINUX_KEYS)
_FORMAT_VERSION = 1
UNKNOWN_ID = -2  # of a user or group that this play has yet to create (check mode); equals none on disk


class State(t.NamedTuple):
    """What can be seen of one entry of a generation on disk, or is to be seen there."""

    kind: str  # file, directory or other
    mode: int
    uid: int
    gid: int
    sha256: str  # of a file's content


@dataclasses.dataclass(frozen=True)
class Declaration:
    """A generation as declared: its manifest, and the content (bytes) of each of its files by path."""

    manifest: dict[str, t.Any]
    contents: dict[str, bytes]

    @property
    def files(self) -> list[dict[str, t.Any]]:
        return self.manifest["files"]

    @property
    def directories(self) -> list[dict[str, t.Any]]:
        return self.manifest["directories"]

    @property
    def links(self) -> list[dict[str, t.Any]]:
        return self.manifest["links"]


def declare(
    path: str,
    files: list[dict[str, t.Any]],
    directories: list[dict[str, t.Any]],
    links: list[dict[str, t.Any]],
    metadata: dict[str, t.Any],
    contents: dict[str, bytes],
) -> Declaration:
    """Check what a task declares for PATH and return it, with the parents of all entries as directories.

    Raises GenerationError naming the option and the value.
    """
    file_entries = [_file_entry(item, contents) for item in files]
    directory_entries = [_entry("directories", item, "0755") for item in directories]
    _check_unique("files and directories", [item["path"] for item in file_entries + directory_entries])
    directory_entries += _missing_parents(file_entries, directory_entries)
    _check_links(path, links, {item["path"] for item in file_entries + directory_entries})
    described = {
        "files": sorted(file_entries, key=_path_of),
        "directories": sorted(directory_entries, key=_path_of),
        "links": sorted(map(_link_entry, links), key=_path_of),
        "metadata": metadata,
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return Declaration({"version": _FORMAT_VERSION, "digest": digest, **described}, contents)


def load(directory: str, manifest: dict[str, t.Any]) -> Declaration:
    """The declaration that a generation on disk was made from."""
    contents = {item["path"]: read_file(os.path.join(directory, item["path"])) or b"" for item in manifest["files"]}
    return Declaration(manifest, contents)


def _path_of(item: dict[str, t.Any]) -> str:
    return item["path"]


def _entry(option: str, item: dict[str, t.Any], default_mode: str) -> dict[str, t.Any]:
    path = item["path"]
    if path != os.path.normpath(path) or path.startswith(("/", "../")) or path in ("", ".", "..", MANIFEST) or "\0" in path:
        raise GenerationError(f'{option}: path "{path}" has to be relative, without "..", "//" or a trailing slash')
    entry = {key: item[key] for key in _ENTRY_KEYS if item.get(key) is not None}
    entry["mode"] = f"{_parse_mode(option, path, entry.get('mode', default_mode)):04o}"
    return entry


def _file_entry(item: dict[str, t.Any], contents: dict[str, bytes]) -> dict[str, t.Any]:
    entry = _entry("files", item, "0644")
    entry["sha256"] = hashlib.sha256(contents[entry["path"]]).hexdigest()
    for flag in ("secret", "brief"):
        if item.get(flag):
            entry[flag] = True
    if item.get("mask"):
        entry["mask"] = [_check_mask(entry["path"], pattern) for pattern in item["mask"]]
    return entry


def _parse_mode(option: str, path: str, mode: t.Any) -> int:
    """Mode bits of 0644 (a YAML integer) or "0644"."""
    try:
        bits = mode if isinstance(mode, int) else int(mode, 8)
    except (TypeError, ValueError):
        bits = -1
    if not 0 <= bits <= 0o7777:
        raise GenerationError(f'{option}[{path}].mode: "{mode}" is not an octal mode such as "0644"')
    return bits


def _check_mask(path: str, pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise GenerationError(f'files[{path}].mask: "{pattern}" is not a regular expression: {error}') from error
    if groups < 1:
        raise GenerationError(f'files[{path}].mask: "{pattern}" needs a group around what may be shown, such as ^(password=).*')
    return pattern


def _check_unique(option: str, paths: list[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise GenerationError(f'{option}: "{path}" is declared twice')
        seen.add(path)


def _missing_parents(files: list[dict[str, t.Any]], directories: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    file_paths = {item["path"] for item in files}
    declared = {item["path"] for item in directories}
    missing = {parent for item in files + directories for parent in _parents(item["path"])} - declared
    for path in sorted(missing & file_paths):
        raise GenerationError(f'files: "{path}" is declared as a file, and as the directory of another one')
    return [{"path": path, "mode": "0755"} for path in sorted(missing)]


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _link_entry(link: dict[str, t.Any]) -> dict[str, t.Any]:
    """What a manifest holds of a link; one that is not shared, without a word of it."""
    return {"path": link["path"], "target": link["target"], **({"shared": True} if link.get("shared") else {})}


def _check_links(path: str, links: list[dict[str, t.Any]], inside: set[str]) -> None:
    _check_unique("links", [link["path"] for link in links])
    for link in links:
        name = link["path"]
        if not os.path.isabs(name) or os.path.normpath(name) != name or name.startswith(path + os.sep):
            raise GenerationError(f'links: path "{name}" has to be absolute, without "..", and outside {path}')
        if link["target"] not in inside:
            raise GenerationError(f'links[{name}].target: "{link["target"]}" is not among the files and directories')


class Identity:
    """Users and groups of this host by name or number.

    With lenient=True (check mode, where this play may have yet to create them) an unknown name is collected in
    `unknown`; else it raises GenerationError.
    """

    def __init__(self, lenient: bool = False) -> None:
        self.lenient = lenient
        self.unknown: set[str] = set()

    def uid(self, entry: dict[str, t.Any]) -> int:
        return self._resolve("user", entry, "owner", os.geteuid(), lambda name: pwd.getpwnam(name).pw_uid)

    def gid(self, entry: dict[str, t.Any]) -> int:
        return self._resolve("group", entry, "group", os.getegid(), lambda name: grp.getgrnam(name).gr_gid)

    def _resolve(self, kind: str, entry: dict[str, t.Any], key: str, default: int, look_up: t.Callable[[str], int]) -> int:
        name = entry.get(key)
        if name is None:
            return default
        if name.isdigit():
            return int(name)
        try:
            return look_up(name)
        except KeyError:
            problem = f'{entry["path"]}: {key}: there is no {kind} "{name}" on this host; create it first, or name another one'
            if not self.lenient:
                raise GenerationError(problem) from None
            self.unknown.add(problem)
            return UNKNOWN_ID


_LINK = {"mode": "0777"}


class Labels:
    """SELinux contexts of a generation's entries, through AnsibleModule. Where SELinux is off, all is well as it is."""

    def __init__(self, module: t.Any) -> None:
        self.module = module

    def _wanted(self, final_path: str, entry: dict[str, t.Any], kind: int) -> list[t.Any]:
        """What is declared; for the rest the policy's default for the place where the entry is going to live."""
        context = list(self.module.selinux_default_context(final_path, kind | int(entry["mode"], 8)))
        return [entry.get(key) or default for key, default in zip(SELINUX_KEYS, context)]

    def apply(self, path: str, final_path: str, entry: dict[str, t.Any], kind: int) -> None:
        if self.module.selinux_enabled():
            self.module.set_context_if_different(path, self._wanted(final_path, entry, kind), False)

    def differ(self, path: str, entry: dict[str, t.Any], kind: int) -> bool:
        if not self.module.selinux_enabled() or not os.path.lexists(path):
            return False
        pairs = zip(self._wanted(path, entry, kind), self.module.selinux_context(path))
        return any(want is not None and want != have for want, have in pairs)

    def apply_to_link(self, path: str, final_path: str) -> None:
        self.apply(path, final_path, _LINK, stat.S_IFLNK)

    def link_differs(self, path: str) -> bool:
        return os.path.islink(path) and self.differ(path, _LINK, stat.S_IFLNK)


def expected(declaration: Declaration, identity: Identity) -> dict[str, State]:
    """What is to be seen on disk of a generation, by path."""
    states = {entry["path"]: State("directory", int(entry["mode"], 8), identity.uid(entry), identity.gid(entry), "") for entry in declaration.directories}
    for entry in declaration.files:
        states[entry["path"]] = State("file", int(entry["mode"], 8), identity.uid(entry), identity.gid(entry), entry["sha256"])
    return states


def observe(directory: str) -> dict[str, State]:
    """What is to be seen in a generation's directory, by path; empty if it is missing."""
    states: dict[str, State] = {}
    for parent, directories, files in os.walk(directory):
        for name in directories + files:
            path = os.path.join(parent, name)
            states[os.path.relpath(path, directory)] = _observe_one(path)
    states.pop(MANIFEST, None)
    return states


def _observe_one(path: str) -> State:
    status = os.lstat(path)
    mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    if stat.S_ISDIR(status.st_mode):
        return State("directory", mode, uid, gid, "")
    content = read_file(path)
    if content is None:
        return State("other", mode, uid, gid, "")
    return State("file", mode, uid, gid, hashlib.sha256(content).hexdigest())


def read_file(path: str) -> bytes | None:
    """Content of a regular file; None for anything else, or nothing."""
    if os.path.islink(path) or not os.path.isfile(path):
        return None
    with open(path, "rb") as stream:
        return stream.read()


def parts(content: bytes, pattern: str) -> dict[str, list[str]]:
    """The lines of a file's parts by name, without blank ones. A part begins with a line that matches the pattern, whose group is its name."""
    named: dict[str, list[str]] = {}
    lines: list[str] = []  # of what comes before the first part
    for line in content.decode("utf-8", "surrogateescape").splitlines():
        begin = re.search(pattern, line)
        if begin:
            lines = named.setdefault(begin.group(1), [])
        if line.strip():
            lines.append(line)
    return named


def labels_differ(declaration: Declaration, directory: str, labels: Labels) -> bool:
    return any(
        labels.differ(os.path.join(directory, entry["path"]), entry, kind)
        for kind, entries in ((stat.S_IFDIR, declaration.directories), (stat.S_IFREG, declaration.files))
        for entry in entries
    )


def stage(declaration: Declaration, directory: str, states: dict[str, State]) -> None:
    """Write a generation into a directory that this makes: every file has its owner and mode before its content."""
    os.mkdir(directory, 0o700)
    for entry in declaration.directories:
        os.mkdir(os.path.join(directory, entry["path"]), 0o700)
    for path, content in declaration.contents.items():
        state = states[path]
        write_new_file(os.path.join(directory, path), content, state.mode, _existing(state.uid), _existing(state.gid))
    write_new_file(os.path.join(directory, MANIFEST), json.dumps(declaration.manifest, indent=1, sort_keys=True).encode(), 0o600)
    for entry in reversed(declaration.directories):  # sorted, so that a directory comes after what is in it
        path, state = os.path.join(directory, entry["path"]), states[entry["path"]]
        os.chown(path, _existing(state.uid), _existing(state.gid))
        os.chmod(path, state.mode)
    os.chmod(directory, 0o755)


def _existing(number: int) -> int:
    return -1 if number == UNKNOWN_ID else number


def label(declaration: Declaration, directory: str, final_directory: str, labels: Labels) -> None:
    """Give a staged generation the SELinux contexts of the place where it is going to live."""
    top = {"mode": "0755"}
    labels.apply(directory, final_directory, top, stat.S_IFDIR)
    for kind, entries in ((stat.S_IFDIR, declaration.directories), (stat.S_IFREG, declaration.files)):
        for entry in entries:
            labels.apply(os.path.join(directory, entry["path"]), os.path.join(final_directory, entry["path"]), entry, kind)


def sync_tree(directory: str) -> None:
    """Bring all of a directory to the disk."""
    for parent, _directories, files in os.walk(directory):
        for name in files:
            sync(os.path.join(parent, name))
        sync(parent)
