# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What connects us with a process: its stdout and stderr, its stdin unless that is a listening socket, and the pair that a uWSGI beats into."""

from __future__ import annotations

import os

from fcgivisor.heartbeat import EmperorPipe
from fcgivisor.loop import OUT
from fcgivisor.model import LISTENER
from fcgivisor.output import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.loop import Loop
    from fcgivisor.process import Process


class Stdin:
    """A pipe to a process's stdin, which takes as much as it likes; the rest waits here."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.child, self._fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)
        self._unsent = b""

    def write(self, data: bytes) -> bool:
        """Returns whether the process still has its end."""
        if self._fd < 0:
            return False
        waiting = bool(self._unsent)
        self._unsent += data
        if waiting:
            return True
        self._flush()
        if self._unsent:
            self._loop.watch(self._fd, lambda _events: self._flush(), OUT)
        return self._fd >= 0

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd, self._unsent = -1, b""

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # it has closed its end
            self.close()
            return
        if not self._unsent:
            self._loop.forget(self._fd)


class Pipes:
    """Of one process. Its channels outlive its lives; the rest is made anew for each.

    open() and close() frame a life; between them stdin, streams and passed are the child's ends, until close_child_ends().
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self.channels: tuple[Channel, ...] = ()
        self._stdin: Stdin | None = None
        self._emperor: EmperorPipe | None = None
        self._child_ends: list[int] = []

    def open(self, environment: dict[str, str]) -> None:
        """Make the pipes of a new life. Raises OSError."""
        config, loop = self._process.config, self._process.supervisor.loop
        if config.socket is None:
            self._stdin = Stdin(loop)
            self._child_ends.append(self._stdin.child)
        self._open_channels()
        if config.heartbeat:
            self._emperor = EmperorPipe(loop, self._process)
            assert self._emperor.child is not None
            environment["UWSGI_EMPEROR_FD"] = str(self._emperor.child.fileno())

    @property
    def stdin(self) -> int:
        """For the child, where it gets no socket."""
        assert self._stdin is not None
        return self._stdin.child

    @property
    def streams(self) -> list[int]:
        """For the child: stdout, and stderr unless that goes the same way."""
        return self._child_ends[-len(self.channels) :]

    @property
    def passed(self) -> tuple[int, ...]:
        """What the child keeps under its own number."""
        return (self._emperor.child.fileno(),) if self._emperor is not None and self._emperor.child is not None else ()

    def close_child_ends(self) -> None:
        """The child has them, or there is none."""
        for descriptor in self._child_ends:
            os.close(descriptor)
        self._child_ends = []
        if self._emperor is not None:
            self._emperor.close_child()

    def write_stdin(self, data: bytes) -> bool:
        return self._stdin is not None and self._stdin.write(data)

    def finish(self) -> None:
        """The process is dead: take what it has left in the pipes."""
        for channel in self.channels:
            channel.finish()

    def close(self) -> None:
        """The end of a life."""
        self.finish()
        if self._stdin is not None:
            self._stdin.close()
            self._stdin = None
        if self._emperor is not None:
            self._emperor.close()
            self._emperor = None

    def forget(self) -> None:
        """The process leaves the supervisor."""
        for channel in self.channels:
            channel.close()
        self.channels = ()

    def _open_channels(self) -> None:
        config = self._process.config
        names = ("stdout",) if config.redirect_stderr and config.kind != LISTENER else ("stdout", "stderr")
        if tuple(channel.name for channel in self.channels) != names:
            self.forget()
            self.channels = tuple(Channel(self._process.supervisor, self._process, name) for name in names)
        for channel in self.channels:
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            self._child_ends.append(theirs)
            os.set_blocking(ours, False)
            channel.watch(ours)
