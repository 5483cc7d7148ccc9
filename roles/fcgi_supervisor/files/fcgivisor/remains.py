# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dead process left behind: members of its process group that live on, and may hold its port. They are stopped before it is started again."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.loop import Loop, Timer

# Seconds until we look again for members, where that failed.
LOOK_AGAIN = 1.0


class Remains:
    """Stops the rest of a process group: TERM, and after patience seconds KILL. when_gone(self) is called once all are gone.

    The group's number is that of its dead leader; the kernel gives it to nobody else as long as a member lives.
    """

    def __init__(self, loop: Loop, group: int, patience: float, when_gone: Callable[[Remains], None]) -> None:
        self._loop, self._group, self._when_gone = loop, group, when_gone
        self._watched: dict[int, int] = {}  # pidfd by process ID
        self._timer: Timer | None = loop.after(patience, self.kill)
        self._watch()
        self._signal(signal.SIGTERM)

    @property
    def pids(self) -> list[int]:
        return sorted(self._watched)

    def _watch(self) -> None:
        """Hear of the end of each member; forks of theirs are found when it comes."""
        try:
            for pid in members(self._group):
                self._watch_one(pid)
        except OSError:  # no descriptor is left to look with: they get no time, and we look again
            self.kill()
            self._loop.after(LOOK_AGAIN, self._watch)
            return
        if not self._watched:
            self._loop.soon(self._gone)

    def _watch_one(self, pid: int) -> None:
        if pid in self._watched:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._watched[pid] = descriptor
        self._loop.watch(descriptor, lambda _events: self._died(pid))

    def _died(self, pid: int) -> None:
        descriptor = self._watched.pop(pid)
        self._loop.forget(descriptor)
        os.close(descriptor)
        if not self._watched:
            self._watch()

    def kill(self) -> None:
        """Their time is up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._group, number)
        except (ProcessLookupError, PermissionError):
            pass

    def _gone(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._when_gone(self)


def exist(group: int) -> bool:
    """Whether anybody is left in the process group of a leader that has just been reaped."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def members(group: int) -> list[int]:
    """IDs of the living processes of a group (proc(5), stat: state and pgrp)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, _parent, pgrp = file.read().rpartition(b")")[2].split()[:3]
            except (OSError, ValueError):
                continue
            if int(pgrp) == group and state not in (b"Z", b"X"):
                found.append(int(name))
    return found
