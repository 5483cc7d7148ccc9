# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs of life: READY=1 and WATCHDOG=1 on NOTIFY_SOCKET (sd_notify(3)), byte 26 on UWSGI_EMPEROR_FD (uwsgi-docs, EmperorProtocol)."""

from __future__ import annotations

import os
import signal
import socket
import struct

from fcgivisor.loop import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.loop import Loop, Timer
    from fcgivisor.process import Process

# Seconds from SIGABRT, which leaves a core or a traceback, to SIGKILL.
ABORT_PATIENCE = 5.0
_EMPEROR_BEAT = 26
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class NotifySocket:
    """Where workers say READY=1 and WATCHDOG=1. The kernel tells who speaks, so no worker can speak for another.

    It has an abstract name: no directory has to let the workers' users in.
    """

    def __init__(self, loop: Loop, find: Callable[[int], Process | None]) -> None:
        self._find = find
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0fcgivisord/{os.getpid()}/{os.urandom(4).hex()}")
        self.address = "@" + self._socket.getsockname()[1:].decode()
        loop.watch(self._socket.fileno(), self._readable)
        self._loop = loop

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()

    def _readable(self, _events: int) -> None:
        try:
            data, ancillary, _flags, _address = self._socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
        except OSError:
            return
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                process = self._find(_CREDENTIALS.unpack(value[: _CREDENTIALS.size])[0])
                if process is not None:
                    self._hear(process, data.split(b"\n"))

    @staticmethod
    def _hear(process: Process, lines: list[bytes]) -> None:
        if b"READY=1" in lines:
            process.ready()
        if b"WATCHDOG=1" in lines:
            process.beat()
        if b"WATCHDOG=trigger" in lines and process.watch is not None:
            process.watch.expire()


class Watch:
    """Watches one life of a process. silent(seconds) is called once, when no sign of life came for tolerance seconds; then SIGABRT, then SIGKILL."""

    def __init__(self, loop: Loop, process: Process, tolerance: float, required: bool, silent: Callable[[float], None]) -> None:
        self._loop, self._process, self.tolerance, self._silent = loop, process, tolerance, silent
        self.last = now() if required else 0.0  # seconds; 0 before the first sign, where that may be missing
        self._timer: Timer | None = loop.after(tolerance, self._look) if required else None

    def beat(self) -> None:
        self.last = now()
        if self._timer is None:
            self._timer = self._loop.after(self.tolerance, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        # One timer for many beats: each look sets the next to where the last beat leads.
        due = self.last + self.tolerance
        if now() < due:
            self._timer = self._loop.at(due, self._look)
        else:
            self.expire()

    def expire(self) -> None:
        self.stop()
        self._silent(now() - self.last)
        self._process.signal(signal.SIGABRT)
        self._timer = self._loop.after(ABORT_PATIENCE, self._kill)

    def _kill(self) -> None:
        self._process.signal(signal.SIGKILL)


class EmperorPipe:
    """Our end of the socket pair that a uWSGI vassal beats into."""

    def __init__(self, loop: Loop, process: Process) -> None:
        self._loop, self._process = loop, process
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ours.setblocking(False)
        self.child: socket.socket | None = theirs
        loop.watch(self._ours.fileno(), self._readable)

    def close_child(self) -> None:
        if self.child is not None:
            self.child.close()
            self.child = None

    def close(self) -> None:
        self.close_child()
        if self._ours.fileno() >= 0:
            self._loop.forget(self._ours.fileno())
            self._ours.close()

    def _readable(self, _events: int) -> None:
        try:
            data = self._ours.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.forget(self._ours.fileno())
        elif _EMPEROR_BEAT in data:
            self._process.beat()
