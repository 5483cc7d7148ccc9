# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes write: from the pipe, past the capture tokens, to the sinks of one channel (stdout or stderr)."""

from __future__ import annotations

import os
import re

from fcgivisor import events, logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.process import Process
    from fcgivisor.supervisor import Supervisor

# Bytes that are read at once, as supervisord does (options.py, readfd): 2 << 16.
READ_SIZE = 131072
# Reads after a death, so that a pipe that a grandchild fills cannot hold up the next start.
LAST_READS = 64

_BEGIN, _END = b"<!--XSUPERVISOR:BEGIN-->", b"<!--XSUPERVISOR:END-->"
_ESCAPE = re.compile(rb"\x1b\[[^HfABCDRsuJKhlpm]*[HfABCDRsuJKhlpm]?")


class Channel:
    """One channel of one process. It outlives the process's lives: only the pipe is new each time."""

    def __init__(self, supervisor: Supervisor, process: Process, name: str) -> None:
        self._supervisor, self._process, self.name = supervisor, process, name
        self._fd = -1
        self._sinks: list[logs.Sink] | None = None
        self._capturing = False
        self._captured = b""
        self._undecided = b""  # the beginning of what may become a token
        self.tap: Callable[[bytes], None] | None = None  # hears everything too

    def watch(self, fd: int) -> None:
        """Read from this pipe, which is ours from now on, until it ends."""
        if self._sinks is None:
            self.configure()
        self._fd = fd
        self._supervisor.loop.watch(fd, self._readable)

    def configure(self) -> None:
        """Make the sinks that the process's configuration asks for."""
        config, name, report = self._process.config, self.name, self._report
        fields = {"process": config.name, "group": self._process.group.config.name, "channel": name}
        if self._sinks is not None:
            for sink in self._sinks:
                sink.close()
        sinks: list[logs.Sink] = []
        path = self._process.logfile(name)
        if path:
            maxbytes, backups = getattr(config, f"{name}_logfile_maxbytes"), getattr(config, f"{name}_logfile_backups")
            file: logs.Sink = logs.File(path, maxbytes, backups, report)
            sinks.append(logs.Json(file, fields, report) if config.log_format == "json" else file)
        if getattr(config, f"{name}_syslog"):
            sinks.append(logs.Syslog(f"{config.name} ", report))
        if getattr(config, f"{name}_journald"):
            journal = {"SYSLOG_IDENTIFIER": config.name, "PRIORITY": "6", "FCGIVISOR_GROUP": fields["group"], "FCGIVISOR_CHANNEL": name}
            sinks.append(logs.Journal(journal, report))
        self._sinks = sinks

    def write(self, data: bytes) -> None:
        """Log this as if the process had written it."""
        if self._sinks is None:
            self.configure()
        self._log(data)

    def finish(self) -> None:
        """The process is dead: take what is left in the pipe, and close it."""
        for _number in range(LAST_READS):
            if self._fd < 0 or not self._read():
                break
        if self._undecided:
            undecided, self._undecided = self._undecided, b""
            self._take(undecided)
        self._capturing, self._captured = False, b""
        for sink in self._sinks or ():
            sink.flush()
        self._close_pipe()

    def close(self) -> None:
        self._close_pipe()
        for sink in self._sinks or ():
            sink.close()
        self._sinks = None

    def reopen(self) -> None:
        for sink in self._sinks or ():
            sink.reopen()

    def clear(self) -> None:
        """Empty the log. Raises OSError."""
        for sink in self._sinks or ():
            sink.clear()

    def _readable(self, _events: int) -> None:
        self._read()

    def _read(self) -> bool:
        """Take one piece. Returns whether there may be more."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:
            self._report(f"its output cannot be read: {error.strerror}")
            data = b""
        if not data:  # closed by all that held it, dead or alive
            self._close_pipe()
            return False
        if getattr(self._process.config, f"{self.name}_capture_maxbytes"):
            self._separate(data)
        else:
            self._log(data)
        return True

    def _close_pipe(self) -> None:
        if self._fd >= 0:
            self._supervisor.loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _separate(self, data: bytes) -> None:
        """Take out what stands between the capture tokens: it is a PROCESS_COMMUNICATION event and no output (dispatchers.py, record_output)."""
        data = self._undecided + data
        self._undecided = b""
        while data:
            token = _END if self._capturing else _BEGIN
            before, found, after = data.partition(token)
            if not found:
                keep = _prefix_at_end(data, token)
                self._undecided = data[len(data) - keep :]
                before = data[: len(data) - keep]
            self._take(before)
            if found:
                self._capturing = not self._capturing
                if not self._capturing:
                    captured, self._captured = self._captured, b""
                    self._supervisor.bus.notify(events.communication(self._process, self.name, captured))
            data = after

    def _take(self, data: bytes) -> None:
        if not self._capturing:
            self._log(data)
            return
        most = getattr(self._process.config, f"{self.name}_capture_maxbytes")
        if len(self._captured) + len(data) > most:  # as supervisord's BoundIO: what came first goes first
            self._captured = self._captured[len(data) :]
        self._captured += data

    def _log(self, data: bytes) -> None:
        if not data:
            return
        supervisor = self._supervisor
        if self.tap is not None:
            self.tap(data)
        if supervisor.settings.strip_ansi:
            data = strip_escapes(data)
        for sink in self._sinks or ():
            sink.write(data)
        if supervisor.log.level <= 10:
            text = data.decode("utf-8", "backslashreplace")
            supervisor.log.debug(f"{self._process.config.name!r} {self.name} output:\n{text}")
        if getattr(self._process.config, f"{self.name}_events_enabled"):
            supervisor.bus.notify(events.log(self._process, self.name, data))

    def _report(self, text: str) -> None:
        self._supervisor.log.error(f"{self._process.full_name}: {self.name}: {text}")


def auto_log_prefix(process_name: str, channel: str, identifier: str) -> str:
    """Of the name of an AUTO log (options.py, get_autochildlog_name)."""
    return f"{process_name}-{channel}---{identifier}-"


def _prefix_at_end(data: bytes, token: bytes) -> int:
    """How many bytes at the end of data are the beginning of token."""
    for size in range(min(len(token) - 1, len(data)), 0, -1):
        if data.endswith(token[:size]):
            return size
    return 0


def strip_escapes(data: bytes) -> bytes:
    """Without the ANSI sequences that supervisord takes out (dispatchers.py, stripEscapes)."""
    return _ESCAPE.sub(b"", data)
