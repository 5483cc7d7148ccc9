# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A generation checked, before it goes live, by the program that will read it.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

The program sees a scratch copy of the generation and, where asked, of the tree that takes it in (/etc/nginx). Absolute
paths in both are rewritten to the copies: "nginx -t -c staged" would follow them into the live configuration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import stat
import subprocess
import time
import typing as t

from ansible_collections.webops.fastcgi.plugins.module_utils.generation import write_new_file

Rewrite = t.Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class Scratch:
    """Where the copies lie, and what they are copies of."""

    staged: str
    tree: str
    current: str  # PATH/current
    original_tree: str | None

    def fill(self, text: str) -> str:
        return text.replace("{staged}", self.staged).replace("{tree}", self.tree)

    def translate(self, text: str) -> str:
        """A message about the copies as one about what they are copies of."""
        text = text.replace(self.staged, self.current)
        return text.replace(self.tree, self.original_tree) if self.original_tree else text


def build_scratch(
    directory: str,
    staged: str,
    current: str,
    tree: str | None,
    substitute: list[dict[str, str]],
    links: list[dict[str, str]],
    stale_links: list[str],
) -> Scratch:
    """Copy the staged generation, and the tree with our links in it as they will be, into an empty directory."""
    scratch = Scratch(os.path.join(directory, "staged"), os.path.join(directory, "tree"), current, tree)
    places = {current: scratch.staged}
    if tree:
        places[tree] = scratch.tree
    relocate = _relocation(places)
    patterns = [(re.compile(item["pattern"], re.MULTILINE), item["replacement"]) for item in substitute]

    def rewrite(text: str) -> str:
        text = relocate(text)
        for pattern, replacement in patterns:
            text = pattern.sub(lambda match, template=replacement: scratch.fill(match.expand(template)), text)
        return text

    _copy(staged, scratch.staged, rewrite, relocate)
    if tree:
        _copy(tree, scratch.tree, rewrite, relocate)
        _place_links(scratch, tree, links, stale_links)
    return scratch


def _relocation(places: dict[str, str]) -> Rewrite:
    """The function that replaces each path in a text; whole paths only, and the longest that fits."""
    alternatives = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w./-])({alternatives})(?![\w.-])")
    return lambda text: pattern.sub(lambda match: places[match.group(1)], text)


def _copy(source: str, target: str, rewrite: Rewrite, relocate: Rewrite) -> None:
    """Copy a file, directory or link; sockets and the like are left out."""
    status = os.lstat(source)
    mode = stat.S_IMODE(status.st_mode)
    uid, gid = (status.st_uid, status.st_gid) if os.geteuid() == 0 else (-1, -1)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(relocate(os.readlink(source)), target)
    elif stat.S_ISDIR(status.st_mode):
        os.mkdir(target, 0o700)
        for name in os.listdir(source):
            _copy(os.path.join(source, name), os.path.join(target, name), rewrite, relocate)
        os.chown(target, uid, gid)
        os.chmod(target, mode)
    elif stat.S_ISREG(status.st_mode):
        with open(source, "rb") as stream:
            content = stream.read()
        if b"\0" not in content:
            content = rewrite(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        write_new_file(target, content, mode, uid, gid)


def _place_links(scratch: Scratch, tree: str, links: list[dict[str, str]], stale_links: list[str]) -> None:
    targets: dict[str, str | None] = dict.fromkeys(stale_links)
    targets.update((link["path"], os.path.join(scratch.staged, link["target"])) for link in links)
    for path, target in targets.items():
        if path.startswith(tree + os.sep):
            copy = os.path.join(scratch.tree, os.path.relpath(path, tree))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copy)
            if target is not None:
                os.symlink(target, copy)


def run(argv: list[str], timeout: float, environment: dict[str, str]) -> dict[str, t.Any]:
    """Run a validator; return cmd, rc (None when it took longer than timeout seconds and was killed), stdout, stderr, seconds."""
    started = time.monotonic()
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C", **environment},
        start_new_session=True,  # a process group of its own, so that its children end with it
        text=True,
        errors="replace",
    ) as process:
        returncode: int | None
        try:
            stdout, stderr = process.communicate(timeout=timeout)
            returncode = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            returncode = None
    return {
        "cmd": argv,
        "rc": returncode,
        "stdout": stdout,
        "stderr": stderr,
        "seconds": round(time.monotonic() - started, 3),
    }


def problem(outcome: dict[str, t.Any], timeout: float, forbid: str | None) -> str | None:
    """What is wrong with the configuration by a validator's outcome, None if nothing is."""
    output = (outcome["stderr"].strip() or outcome["stdout"].strip()) or "it said nothing"
    if outcome["rc"] is None:
        return f"did not answer within {timeout:g} s and was killed; until then: {output}"
    if outcome["rc"] != 0:
        return f"refuses the configuration (rc {outcome['rc']}): {output}"
    if forbid and re.search(forbid, outcome["stdout"] + outcome["stderr"], re.MULTILINE):
        return f"warns of what is forbidden here ({forbid}): {output}"
    return None
