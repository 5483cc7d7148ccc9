# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where output goes: files that are rotated, syslog, the journal. A sink never raises: what it cannot write is counted, reported once, and let go."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds until a file that could not be opened is tried again.
REOPEN_AFTER = 1.0
# Seconds between two looks, while there is output, whether the file still has its name.
LOOK_AFTER = 1.0
_JOURNAL = "/run/systemd/journal/socket"
# Bytes of one line; the journal's own limit is 48K (LineMax= in journald.conf(5)).
_LONGEST_LINE = 48 * 1024


class Sink:
    """report(text): for the main log, on the first failure and on recovery."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.lost = 0  # bytes since it failed

    def write(self, data: bytes) -> None:
        """Every kind of sink has its own."""
        raise NotImplementedError

    def flush(self) -> None:
        """What was begun is complete: nothing more comes from this life of the process."""

    def reopen(self) -> None:
        """Open anew, since somebody has moved the file away."""

    def clear(self) -> None:
        """Begin with an empty log."""

    def close(self) -> None:
        pass

    def _failed(self, where: str, error: OSError, size: int) -> None:
        if not self.lost:
            self.report(f"{where} cannot be written: {error.strerror or error}; output is lost until it can")
        self.lost += max(size, 1)

    def _recovered(self, where: str) -> None:
        self.report(f"{where} can be written again; {self.lost} bytes were lost")
        self.lost = 0


class File(Sink):
    """A file that is appended to, and rotated as supervisord does (loggers.py, RotatingFileHandler): path becomes path.1, and so on up to backups.

    maxbytes: size in bytes at which it is rotated, 0 for never. What is no regular file is never rotated.
    """

    def __init__(self, path: str, maxbytes: int, backups: int, report: Callable[[str], None]) -> None:
        super().__init__(report)
        self.path, self.maxbytes, self.backups = path, maxbytes, backups
        self._fd = -1
        self._size = 0
        self._regular = True
        self._next_try = self._next_look = 0.0
        self._open()

    def write(self, data: bytes) -> None:
        moment = time.monotonic()
        if self._fd >= 0 and moment >= self._next_look:
            self._next_look = moment + LOOK_AFTER
            self._look_at_path()
        if self._fd < 0 and not (moment >= self._next_try and self._open()):
            self.lost += len(data)
            return
        written = 0
        try:
            while written < len(data):  # less is written where a disk becomes full, or to a pipe
                written += os.write(self._fd, data[written:])
        except OSError as error:
            self._failed(self.path, error, len(data) - written)
            return
        finally:
            self._size += written
        if self.lost:
            self._recovered(self.path)
        if self.maxbytes and self._size >= self.maxbytes and self._regular:
            self._rotate()

    def reopen(self) -> None:
        self.close()
        self._open()

    def clear(self) -> None:
        self.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        self._open()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look_at_path(self) -> None:
        """A file without a name is written for nobody. One that was only renamed is still wanted, until reopen()."""
        if self._regular and os.fstat(self._fd).st_nlink == 0:
            self.close()
            if self._open():
                self.report(f"{self.path} was removed; it is begun anew")

    def _open(self) -> bool:
        try:
            self._fd = self._descriptor(os.O_APPEND)
            status = os.fstat(self._fd)
        except OSError as error:
            self._failed(self.path, error, 0)
            self._next_try = time.monotonic() + REOPEN_AFTER
            return False
        self._regular, self._size = stat.S_ISREG(status.st_mode), status.st_size
        if self.lost:
            self._recovered(self.path)
        return True

    def _descriptor(self, how: int) -> int:
        # Of a named pipe without a reader, O_NONBLOCK makes an error and not a supervisor that waits.
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | how
        try:
            return os.open(self.path, flags, 0o666)
        except OSError as error:
            standard = {"/dev/stdout": 1, "/dev/stderr": 2}.get(self.path)
            if error.errno != errno.ENXIO or standard is None:
                raise
            return os.dup(standard)  # it is a socket, as of the journal, which cannot be opened by name

    def _rotate(self) -> None:
        self.close()
        try:
            for number in range(self.backups - 1, 0, -1):
                _rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            if self.backups > 0:
                _rename(self.path, f"{self.path}.1")
            self._fd = self._descriptor(os.O_APPEND | os.O_TRUNC)
            self._size = 0
        except OSError as error:
            # Rather one file that grows than output that is lost.
            self.report(f"{self.path} cannot be rotated: {error.strerror or error}")
            self._open()
            self._size = 0


def _rename(old: str, new: str) -> None:
    try:
        os.rename(old, new)
    except FileNotFoundError:  # somebody else cleans up here too
        pass


class Lines(Sink):
    """What takes whole lines. The end of a line may come later; a line that is too long is cut."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(report)
        self._rest = b""

    def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._cut(line)
        while len(self._rest) > _LONGEST_LINE:
            self.line(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]

    def _cut(self, line: bytes) -> None:
        for start in range(0, len(line) or 1, _LONGEST_LINE):
            self.line(line[start : start + _LONGEST_LINE])

    def flush(self) -> None:
        if self._rest:
            self.line(self._rest)
            self._rest = b""

    def close(self) -> None:
        self.flush()

    def line(self, line: bytes) -> None:
        """Every kind has its own."""
        raise NotImplementedError


class Syslog(Lines):
    """syslog(3): "NAME line"."""

    def __init__(self, prefix: str, report: Callable[[str], None]) -> None:
        super().__init__(report)
        self._prefix = prefix

    def line(self, line: bytes) -> None:
        import syslog  # where it is asked for

        # syslog(3) takes a C string.
        syslog.syslog((self._prefix + line.decode("utf-8", "replace")).replace("\0", "�"))


class Journal(Lines):
    """systemd's journal, by its own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

    def __init__(self, fields: dict[str, str], report: Callable[[str], None], address: str = _JOURNAL) -> None:
        super().__init__(report)
        self._head = "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
        self._address = address
        self._socket: socket.socket | None = None

    def line(self, line: bytes) -> None:
        message = self._head + b"MESSAGE\n" + len(line).to_bytes(8, "little") + line + b"\n"
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.sendto(message, self._address)
        except OSError as error:
            self._failed("the journal", error, len(line))
        else:
            if self.lost:
                self._recovered("the journal")

    def close(self) -> None:
        super().close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Json(Lines):
    """In front of a sink: each line becomes an object with its time (ISO 8601, UTC), the process and the channel."""

    def __init__(self, sink: Sink, fields: dict[str, str], report: Callable[[str], None]) -> None:
        super().__init__(report)
        self._sink, self._fields = sink, fields

    def line(self, line: bytes) -> None:
        import json  # where it is asked for

        moment = time.time()
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(moment))}.{int(moment % 1 * 1000):03d}Z"
        text = json.dumps({"time": stamp, **self._fields, "message": line.decode("utf-8", "backslashreplace")})
        self._sink.write(text.encode() + b"\n")

    def reopen(self) -> None:
        self._sink.reopen()

    def clear(self) -> None:
        self._sink.clear()

    def close(self) -> None:
        super().close()
        self._sink.close()


def create_auto_log(directory: str, prefix: str) -> str:
    """Make a new empty file for *_logfile=AUTO, and return its path. Raises OSError."""
    while True:
        path = os.path.join(directory, f"{prefix}{os.urandom(6).hex()}.log")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            continue
        return path
