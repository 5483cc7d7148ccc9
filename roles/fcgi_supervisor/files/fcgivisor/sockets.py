# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listening sockets: as long as their configuration, not as long as a worker. Connections wait while nobody accepts."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.loop import Loop, Timer
    from fcgivisor.mainlog import MainLog
    from fcgivisor.model import SocketConfig

# Seconds between tries to bind where the directory is gone, or somebody else took the path.
REBIND_AFTER = 1.0
_DIRECTORY_CHANGES = fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_CREATE | fcntl.DN_MULTISHOT


class SocketError(Exception):
    """A socket that cannot be made; the text names it, the reason and, where somebody else has it, that process."""


class SocketInUse(SocketError):
    """Somebody else listens there, or one of our own that is about to end."""


class Held:
    """One socket, and the programs that use it."""

    def __init__(self, config: SocketConfig) -> None:
        self.config = config
        self.users: set[str] = set()
        self.socket: socket.socket | None = None
        self.complaint = ""  # why it could not be bound anew, as it stands in the log
        self._file = (0, 0)  # device and inode of a unix socket's path

    @property
    def path(self) -> str | None:
        return self.config.url[len("unix://") :] if self.config.url.startswith("unix://") else None

    def open(self) -> None:
        """Make it, unless it is there. Raises SocketError."""
        if self.socket is not None:
            return
        try:
            self.socket = self._unix() if self.path else self._tcp()
        except OSError as error:
            raise SocketError(f"{self.config.url}: {error.strerror or error}") from None

    def close(self) -> None:
        """Give it up, with its path if that is still ours."""
        if self.socket is None:
            return
        if self.path and self.in_place():
            _unlink(self.path)
        self.socket.close()
        self.socket = None

    def fileno(self) -> int:
        """For a worker's fd 0: blocking, since that is a property of the socket and not of the descriptor, and workers in Go change it for all."""
        if self.socket is None:
            self.open()
        assert self.socket is not None
        os.set_blocking(self.socket.fileno(), True)
        return self.socket.fileno()

    def in_place(self) -> bool:
        """Whether the path still leads to this socket."""
        if self.path is None:
            return True
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    def change(self, config: SocketConfig) -> list[str]:
        """Take on other options of the same address, without a restart. Returns their names. Raises SocketError."""
        before, self.config = self.config, config
        changed = [name for name in ("owner", "mode", "backlog") if getattr(before, name) != getattr(config, name)]
        if self.socket is None or not changed:
            return changed
        try:
            if "backlog" in changed:
                self.socket.listen(self._backlog())
            if self.path and self.in_place():
                self._own(self.path)
                if config.mode is not None:
                    os.chmod(self.path, config.mode)
        except OSError as error:
            raise SocketError(f"{config.url}: {error.strerror}") from None
        return changed

    def _unix(self) -> socket.socket:
        assert self.path is not None
        self._clear_path(self.path)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        group = os.getegid()
        bound = False
        try:
            # Linux gives the file the mode of the socket itself, less the umask (unix(7)), and the effective group: so both are right at once.
            # The owner follows before anybody can connect, since nobody listens yet.
            if self.config.mode is not None:
                os.fchmod(made.fileno(), self.config.mode)
            mask = os.umask(0 if self.config.mode is not None else 0o077)
            try:
                if self.config.owner and self.config.owner[1] >= 0 and os.geteuid() == 0:
                    os.setegid(self.config.owner[1])
                made.bind(self.path)
                bound = True
            finally:
                os.umask(mask)
                if os.getegid() != group:
                    os.setegid(group)
            self._own(self.path)
            made.listen(self._backlog())
            status = os.lstat(self.path)
            self._file = (status.st_dev, status.st_ino)
        except OSError:
            made.close()
            if bound:
                _unlink(self.path)
            raise
        return made

    def _own(self, path: str) -> None:
        owner = self.config.owner
        if owner is not None:
            os.chown(path, owner[0], owner[1])

    @staticmethod
    def _clear_path(path: str) -> None:
        """Remove a dead socket. Raises SocketError if there is anything else."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(status.st_mode):
            raise SocketError(f"{path} is there, and is no socket: remove it or choose another path")
        owner = listener_of(path)
        if owner is not None:
            raise SocketInUse(f"{path} is in use: {_described(owner)} listens there; stop it or choose another path")
        os.unlink(path)

    def _tcp(self) -> socket.socket:
        host, _colon, port = self.config.url[len("tcp://") :].rpartition(":")
        host = host.strip("[]")
        family, kind, protocol, _name, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(self._backlog())
        except OSError as error:
            made.close()
            if error.errno == errno.EADDRINUSE:
                raise SocketInUse(f"{self.config.url} is in use: {_tcp_owner(int(port))} listens there; stop it or choose another port") from None
            raise
        return made

    def _backlog(self) -> int:
        return self.config.backlog or socket.SOMAXCONN


class Sockets:
    """All sockets, by address, and the watch over the paths of unix sockets: dnotify (fcntl(2), F_NOTIFY) tells when one of their directories changes."""

    def __init__(self, loop: Loop, log: MainLog) -> None:
        self._loop, self._log = loop, log
        self._held: dict[str, Held] = {}
        self._directories: dict[str, int] = {}  # descriptors
        self._retry: Timer | None = None
        loop.catch({signal.SIGIO: self.check_paths})

    def attach(self, loop: Loop) -> None:
        """Move to another loop: the configuration is read anew, and the sockets stay."""
        self._loop = loop
        loop.catch({signal.SIGIO: self.check_paths})

    def use(self, config: SocketConfig, user: str) -> Held:
        """The socket of this address, listening, for the program user; several programs may share it. Raises SocketError."""
        held = self._held.setdefault(config.url, Held(config))
        held.users.add(user)
        if held.config != config:
            held.change(config)
        if held.socket is None:
            held.open()
            self._watch(held)
        elif not held.in_place():  # its directory was renamed, or another file system mounted over it: nobody tells us of that
            self._bind_anew(held)
        return held

    def release(self, url: str, user: str) -> None:
        held = self._held.get(url)
        if held is None:
            return
        held.users.discard(user)
        if not held.users:
            held.close()
            del self._held[url]

    def keep_only(self, wanted: set[str]) -> None:
        """Give up the sockets whose address no program has any more."""
        for url in [url for url in self._held if url not in wanted]:
            self._held.pop(url).close()

    def close(self) -> None:
        for held in self._held.values():
            held.close()
        self._held.clear()
        for descriptor in self._directories.values():
            os.close(descriptor)
        self._directories.clear()

    def check_paths(self) -> None:
        """Bind anew what is no longer in its place. Workers that run still accept on the old socket, which nobody reaches: see on_rebound."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for held in self._held.values():
            if held.socket is not None and not held.in_place():
                self._bind_anew(held)

    def _bind_anew(self, held: Held) -> None:
        """Where that cannot be, the old socket stays, whose queue workers may still serve; and we try again, but complain once."""
        old, held.socket = held.socket, None
        assert old is not None
        try:
            held.open()
        except SocketError as error:
            held.socket = old
            if held.complaint != str(error):
                held.complaint = str(error)
                self._log.error(f"{held.config.url} is not in its place any more, and cannot be put back: {error}")
            if self._retry is None:
                self._retry = self._loop.after(REBIND_AFTER, self.check_paths)
        else:
            old.close()
            held.complaint = ""
            self._log.warn(f"{held.config.url} was not in its place any more: bound anew")
            self.on_rebound(held)
        self._watch(held)

    @staticmethod
    def on_rebound(held: Held) -> None:
        """To be replaced: what is done about the workers of a socket that was bound anew."""

    def _watch(self, held: Held) -> None:
        """Hear of changes in the directory of its path, which may be another one than before under the same name."""
        if held.path is None:
            return
        directory = os.path.dirname(held.path)
        try:
            status = os.stat(directory)
        except OSError:
            return
        descriptor = self._directories.get(directory)
        if descriptor is not None:
            known = os.fstat(descriptor)
            if (known.st_dev, known.st_ino) == (status.st_dev, status.st_ino):
                return
            os.close(self._directories.pop(directory))
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.fcntl(descriptor, fcntl.F_NOTIFY, _DIRECTORY_CHANGES)
        except OSError as error:
            self._log.warn(f"changes of {directory} are not told ({error.strerror}): a socket that vanishes is bound anew when a worker starts")
            return
        self._directories[directory] = descriptor


def listener_of(path: str) -> int | None:
    """The ID of a living process that listens at a unix socket's path, None if nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # its queue is full
            return 0
        except OSError:
            return None
        pid = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
    if pid == 0:  # it lives in another PID namespace
        return 0
    # The one that called listen(2). Workers of a supervisor that was killed still hold its socket, but nobody will start them anew.
    return pid if pid != os.getpid() and os.path.exists(f"/proc/{pid}") else None


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # the directory has become read-only, or somebody else was quicker
        pass


def _described(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        words = ""
    return f"process {pid} ({words[:60]})" if pid else "a process"


def _tcp_owner(port: int) -> str:
    """In words, the process that listens on a TCP port (proc(5), net/tcp)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        inodes |= {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                links = {os.readlink(f"/proc/{name}/fd/{number}") for number in os.listdir(f"/proc/{name}/fd")}
            except OSError:
                continue
            if any(f"socket:[{inode}]" in links for inode in inodes):
                return _described(int(name))
    return "another process"
