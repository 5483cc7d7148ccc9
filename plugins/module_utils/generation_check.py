# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A generation checked, before it goes live, by the program that will read it.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

The program sees a scratch copy of the generation and, where asked, of the tree that takes it in (/etc/nginx). Absolute
paths in both are rewritten to the copies: "nginx -t -c staged" would follow them into the live configuration.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
import signal
import stat
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.webops.fastcgi.plugins.module_utils.generation import write_new_file


@dataclasses.dataclass(frozen=True)
class Scratch:
    """Where the copies lie, and what they are copies of."""

    staged: str
    tree: str
    originals: dict[str, str]  # by the path of the copy

    def fill(self, text: str) -> str:
        return text.replace("{staged}", self.staged).replace("{tree}", self.tree)

    def translate(self, text: str) -> str:
        """A message about the copies as one about what they are copies of."""
        for copy, original in self.originals.items():
            text = text.replace(copy, original)
        return text


def build_scratch(
    directory: str, staged: str | None, current: str, tree: str | None, substitute: list[dict[str, str]], links: dict[str, str | None]
) -> Scratch:
    """Copy the staged generation, and the tree with our links in it as they will be, into an empty directory.

    links: their targets, by path; None where one will be gone. The directories of those that lie outside of the tree are copied as well. Without
    a staged generation the tree is copied as it is.
    """
    copies = {current: os.path.join(directory, "staged")} if staged else {}
    if tree:
        places = [tree, *sorted({os.path.dirname(path) for path in links if not path.startswith(tree + os.sep)})]
        copies.update({place: os.path.join(directory, f"beside{number}" if number else "tree") for number, place in enumerate(places)})
    scratch = Scratch(os.path.join(directory, "staged"), os.path.join(directory, "tree"), {copy: original for original, copy in copies.items()})
    copier = _Copier({**copies, **{os.path.realpath(original): copy for original, copy in copies.items() if original != current}}, scratch, substitute)
    for original, copy in copies.items():
        source = staged if original == current else os.path.realpath(original)
        if source and os.path.isdir(source):
            copier.copy(source, copy)
    for path, target in links.items() if tree else ():
        root = next(place for place in copies if place != current and path.startswith(place + os.sep))
        copier.place_link(copies[root], os.path.relpath(path, root), target)
    return scratch


class _Copier:
    """Copies in which paths and what else is asked for are replaced. places: path of the copy, by path."""

    def __init__(self, places: dict[str, str], scratch: Scratch, substitute: list[dict[str, str]]) -> None:
        self.places = places
        self.scratch = scratch
        self.substitute = substitute
        alternatives = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
        self.known_path = re.compile(rf"(?<![\w./-])({alternatives})(?![\w.-])")  # whole ones only

    def copy(self, source: str, target: str) -> None:
        """Copy a file, directory or link; sockets and the like are left out."""
        status = os.lstat(source)
        mode = stat.S_IMODE(status.st_mode)
        uid, gid = (status.st_uid, status.st_gid) if os.geteuid() == 0 else (-1, -1)
        if stat.S_ISLNK(status.st_mode):
            # A relative one may lead out of the tree, and would lead elsewhere from its copy.
            self._link(os.path.normpath(os.path.join(os.path.dirname(source), os.readlink(source))), target)
        elif stat.S_ISDIR(status.st_mode):
            os.mkdir(target, 0o700)
            for name in os.listdir(source):
                self.copy(os.path.join(source, name), os.path.join(target, name))
            os.chown(target, uid, gid)
            os.chmod(target, mode)
        elif stat.S_ISREG(status.st_mode):
            with open(source, "rb") as stream:
                write_new_file(target, self._rewrite(stream.read()), mode, uid, gid)

    def place_link(self, root: str, path: str, target: str | None) -> None:
        """Make (without a target: remove) a link in the copy of a tree, which begins at root."""
        parent = root
        for part in os.path.dirname(path).split(os.sep):
            parent = os.path.join(parent, part)
            if os.path.islink(parent):  # it may lead out of the copy, where nothing is ours to change
                source = os.path.realpath(parent)
                os.unlink(parent)
                self.copy(source, parent)
        os.makedirs(parent, exist_ok=True)
        link = os.path.join(root, path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        if target is not None:
            self._link(target, link)

    def _link(self, target: str, link: str) -> None:
        """Make a link to the copy of its target. A file that has none is copied in the link's place: it may include what has a copy."""
        relocated = self._relocate(target)
        if relocated == target and os.path.isfile(target):
            self.copy(os.path.realpath(target), link)
        else:
            os.symlink(relocated, link)

    def _relocate(self, text: str) -> str:
        return self.known_path.sub(lambda match: self.places[match.group(1)], text)

    def _rewrite(self, content: bytes) -> bytes:
        if b"\0" in content:
            return content
        text = self._relocate(content.decode("utf-8", "surrogateescape"))
        for item in self.substitute:
            text = re.sub(item["pattern"], self.scratch.fill(item["replacement"]), text, flags=re.MULTILINE)
        return text.encode("utf-8", "surrogateescape")


def run(argv: list[str], timeout: float, environment: dict[str, str], directory: str) -> dict[str, t.Any]:
    """Run a validator; return cmd, rc (None when it took longer than timeout seconds and was killed), stdout, stderr, seconds.

    Its output goes to files in the directory: a child that it leaves behind may keep a pipe open for ever.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile(dir=directory) as stdout, tempfile.TemporaryFile(dir=directory) as stderr:
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "LC_ALL": "C", **environment},
            start_new_session=True,  # a process group of its own, so that its children end with it
        ) as process:
            returncode: int | None
            try:
                returncode = process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                returncode = None
        return {
            "cmd": argv,
            "rc": returncode,
            "stdout": _written(stdout),
            "stderr": _written(stderr),
            "seconds": round(time.monotonic() - started, 3),
        }


def _written(stream: t.IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace")


def problem(outcome: dict[str, t.Any], timeout: float) -> str | None:
    """What is wrong with the configuration by a validator's outcome, None if nothing is."""
    output = (outcome["stderr"].strip() or outcome["stdout"].strip()) or "it said nothing"
    if outcome["rc"] is None:
        return f"did not answer within {timeout:g} s and was killed; until then: {output}"
    if outcome["rc"] != 0:
        return f"refuses the configuration (rc {outcome['rc']}): {output}"
    return None


def forbidden(outcome: dict[str, t.Any], pattern: str) -> collections.Counter[str]:
    """What of a validator's output the pattern matches, and how often each."""
    return collections.Counter(match.group() for match in re.finditer(pattern, outcome["stdout"] + outcome["stderr"], re.MULTILINE))
