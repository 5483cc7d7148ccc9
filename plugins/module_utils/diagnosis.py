# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a program does not run, or runs and cannot be reached, in words: from its log, and from the kernel's socket tables.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

Programs are dicts as in metadata.programs (docs/architecture.md).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import typing as t

_LISTENING_UNIX = 0x10000  # __SO_ACCEPTCON in the Flags column of /proc/net/unix
_LISTENING_TCP = "0A"  # TCP_LISTEN in the st column of /proc/net/tcp

_IN_USE = re.compile(r"address already in use|EADDRINUSE|already in use|seems to already listen on", re.IGNORECASE)
# "bind" alone may be a database's parameter or LDAP's log-in.
_BIND_FAILED = re.compile(r"\bbind\b.*\b(address|socket|port|listen)|\b(address|socket|port|listen\w*)\b.*\bbind\b|\bbind\(\)", re.IGNORECASE)
# php-fpm listens at several, and says at which it could not.
_PHP_FPM_ADDRESS = re.compile(r"listening socket for address '([^']+)'|already listen on (\S+)")
_HINTS = (
    (
        re.compile(r"can't find command|not executable|couldn't exec|child process was not spawned", re.IGNORECASE),
        "the supervisor could not execute the command: does it exist, is it executable, may {user} reach it through every directory above, "
        "does its #! line name an interpreter that is installed?",
    ),
    (re.compile(r"couldn't setuid", re.IGNORECASE), "the supervisor could not become {user}: does it run as root?"),
    (re.compile(r"couldn't chdir", re.IGNORECASE), "the working directory is missing, or {user} may not enter it"),
    (
        re.compile(r"ModuleNotFoundError|ImportError|error while loading shared libraries|Can't locate \S+\.pm", re.IGNORECASE),
        "a library is missing that the program needs: is it in its release or its virtual environment?",
    ),
    (
        re.compile(r"permission denied|EACCES|operation not permitted", re.IGNORECASE),
        "{user} lacks a permission: compare it with the owner and mode of what the log names",
    ),
    (re.compile(r"no such file or directory|ENOENT", re.IGNORECASE), "a file that the program needs is missing: the log names it"),
)


def hint(lines: t.Sequence[str], spawn_error: str | None, program: t.Mapping[str, t.Any]) -> str | None:
    """What the last lines of a log and the supervisor's own words say about a failed start, as a way out; None if they say nothing known."""
    text = "\n".join([*lines, spawn_error or ""])
    held = program.get("socket")
    if program.get("kind") == "fcgi" and held and (_IN_USE.search(text) or _BIND_FAILED.search(text)):
        return (
            f"the program seems to bind a socket itself, but the supervisor already holds {held} and passes it on as file descriptor 0: "
            "take the listening socket from fd 0, or declare the app with kind: listener"
        )
    if _IN_USE.search(text):
        named = _PHP_FPM_ADDRESS.search(text)
        where = named.group(1) or named.group(2) if named else ", ".join(program.get("listen") or [held or "its address"])
        return f"another process has {where} already: '{'ss -lxp' if '/' in where else 'ss -ltnp'}' names it"
    for pattern, words in _HINTS:
        if pattern.search(text):
            return words.format(user=program.get("user") or "its user")
    if not lines:
        return "it wrote nothing to its log. A program that puts itself into the background looks like this; under a supervisor it has to stay in front"
    return None


class Finding(t.NamedTuple):
    """Something about a running program's sockets."""

    program: str
    words: str
    broken: bool  # nginx cannot reach the program, or reaches a part of it


class Sockets:
    """The kernel's listening sockets, as a process in their network namespace sees them."""

    def __init__(self, proc: str = "/proc/self/net") -> None:
        self._unix: dict[str, set[int]] = {}
        self._tcp: dict[int, set[int]] = {}
        self._held: dict[int, set[int] | None] = {}
        self.addresses: dict[int, str] = {}
        for fields in _table(os.path.join(proc, "unix")):
            if len(fields) > 7 and int(fields[3], 16) & _LISTENING_UNIX:
                self._unix.setdefault(fields[7], set()).add(int(fields[6]))
                self.addresses[int(fields[6])] = fields[7]
        for table in ("tcp", "tcp6"):
            for fields in _table(os.path.join(proc, table)):
                if fields[3] == _LISTENING_TCP:
                    port = int(fields[1].rpartition(":")[2], 16)
                    self._tcp.setdefault(port, set()).add(int(fields[9]))
                    self.addresses[int(fields[9])] = f"TCP port {port}"

    def held_by_parent(self, pid: int) -> set[int] | None:
        """Inodes of the sockets of a process's parent, the supervisor; None where they cannot be seen."""
        try:
            parent = _parent(pid)
        except OSError:
            return None
        if parent not in self._held:
            self._held[parent] = _socket_inodes(parent)
        return self._held[parent]

    def at(self, url: str) -> set[int]:
        """Inodes of the sockets that listen at "unix:///path" or "tcp://host:port". A path can have several: only the last one made is reached."""
        if url.startswith("unix://"):
            return self._unix.get(url[len("unix://") :], set())
        return self._tcp.get(int(url.rpartition(":")[2]), set())


def examine(program: t.Mapping[str, t.Any], pids: t.Mapping[str, int], sockets: Sockets) -> list[Finding]:
    """Whether the workers of a program of kind fcgi hold the socket that nginx is pointed to, and nobody else has taken its address.

    pids: process id by process name. What cannot be looked at (a process that just ended, or another user's) is passed over.
    """
    if program["kind"] != "fcgi" or not program["socket"] or not pids:
        return []
    if not sockets.at(program["socket"]) or _file_is_gone(program["socket"]):
        words = f"nothing can be reached at {program['socket']} although the program runs; stop all its processes and start them to have the socket made again"
        return [Finding(program["name"], words, True)]
    findings = []
    known: set[int] = set()
    for name, pid in sorted(pids.items()):
        held, passed = _socket_inodes(pid), sockets.held_by_parent(pid)
        if held is None or passed is None:
            return []
        known |= held | passed
        findings += _examine_worker(program, name, held, passed, sockets)
    if sockets.at(program["socket"]) - known:
        words = f"another process listens at {program['socket']} too ('ss -lxp' and 'ss -ltp' name it); nginx reaches the one that bound it last"
        findings.append(Finding(program["name"], words, False))
    return findings


def _examine_worker(program: t.Mapping[str, t.Any], name: str, held: set[int], passed: set[int], sockets: Sockets) -> list[Finding]:
    """held: inodes of the worker's sockets; passed: of the supervisor's, which hands one of them on to its workers as fd 0."""
    address = program["socket"]
    own = {inode for inode in held - passed if inode in sockets.addresses}
    if own & sockets.at(address):
        words = (
            f"{name} has bound {address} itself instead of taking the socket that the supervisor holds there from file descriptor 0, so nginx "
            "reaches only the process that bound it last. Accept connections from fd 0, or declare the app with kind: listener"
        )
        return [Finding(program["name"], words, True)]
    if not held & passed & sockets.at(address):
        words = f"{name} has closed the socket {address} that the supervisor passed to it as file descriptor 0: it answers nobody"
        return [Finding(program["name"], words, True)]
    if own:
        where = ", ".join(sorted(sockets.addresses[inode] for inode in own))
        words = f"{name} also listens at {where} itself. nginx is pointed to {address}; if it serves FastCGI there and not on fd 0, declare kind: listener"
        return [Finding(program["name"], words, False)]
    return []


def _file_is_gone(url: str) -> bool:
    return url.startswith("unix://") and not os.path.exists(url[len("unix://") :])


def remove_stale_socket(url: str, sockets: Sockets) -> str | None:
    """Unlink a unix socket's file if nobody listens at it any more; its path if that was done."""
    if not url.startswith("unix://") or sockets.at(url):
        return None
    path = url[len("unix://") :]
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return None
        os.unlink(path)
    except FileNotFoundError:
        return None
    return path


def _socket_inodes(pid: int) -> set[int] | None:
    """Inodes of a process's sockets; None where they cannot be seen."""
    directory = f"/proc/{pid}/fd"
    found = set()
    try:
        for descriptor in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                status = os.stat(os.path.join(directory, descriptor))
                if stat.S_ISSOCK(status.st_mode):
                    found.add(status.st_ino)
    except OSError:
        return None
    return found


def _parent(pid: int) -> int:
    """Raises OSError if the process is gone."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        return int(stream.read().rpartition(")")[2].split()[1])


def _table(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return [line.split(maxsplit=7 if path.endswith("unix") else -1) for line in stream.read().splitlines()[1:]]
    except FileNotFoundError:  # no IPv6
        return []
