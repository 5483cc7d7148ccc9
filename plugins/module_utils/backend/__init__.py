# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every supervisor can be asked and told, and the errors that it answers with.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

A process is a plain dict, the same for every backend:
    name (of the process), program, group (str), full_name (str: "group:process", or "name" if both are the same),
    state (one of STATES), pid (int, None if there is none), uptime (int seconds, None unless running),
    ever_started (bool), exit_status (int or None), spawn_error (str or None), logfile, stderr_logfile (str or None),
    description (str)
"""

from __future__ import annotations

import abc
import typing as t

STATES = ("starting", "running", "backoff", "stopping", "stopped", "exited", "fatal", "unknown")


class SupervisorError(Exception):
    """The supervisor could not be used; the text names it, the reason and the way out."""


class SupervisorUnreachable(SupervisorError):
    """Nobody answers at the supervisor's address."""


class SupervisorBusy(SupervisorError):
    """The supervisor is shutting down or restarting, and takes no orders."""


class SupervisorFault(SupervisorError):
    """The supervisor answered, and refused. code is its own number, text its own words."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the supervisor refused: {text}")
        self.code = code
        self.text = text


class SupervisorStillRunning(SupervisorFault):
    """A program was not removed, since one of its processes runs: what ends by itself may be started again between a look and an order."""


class Order(t.NamedTuple):
    """One thing that a supervisor is told to do; it answers at once and does not wait for the effect."""

    verb: str  # add, remove, update (target: a program), start, stop, signal (target: a process's full name)
    target: str
    signal: str = ""  # for verb signal: a name without SIG ("HUP") or a number


class Configuration(t.NamedTuple):
    """What the configuration files say about one process."""

    program: str
    full_name: str
    autostart: bool
    startsecs: int
    stopwaitsecs: int


class Survey(t.NamedTuple):
    """The configuration files, read anew, beside what the supervisor runs: programs that differ, and all processes."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    processes: list[dict[str, t.Any]]


class Backend(abc.ABC):
    """A supervisor. Every method raises SupervisorUnreachable, SupervisorBusy or SupervisorFault."""

    @abc.abstractmethod
    def survey(self) -> Survey:
        """Have the supervisor read its configuration files again (that starts and stops nothing) and compare."""

    @abc.abstractmethod
    def updates_in_place(self) -> bool:
        """Whether the supervisor obeys the verb update: it then takes a changed section process by process, and starts nothing that was stopped by hand."""

    @abc.abstractmethod
    def measures(self) -> dict[str, dict[str, t.Any]]:
        """What the supervisor tells of processes beyond processes(), by full name: restarts (int), memory (int bytes), heartbeat_age (float seconds)."""

    @abc.abstractmethod
    def configurations(self) -> list[Configuration]:
        """All processes that the configuration files declare, as they were read last."""

    @abc.abstractmethod
    def processes(self) -> list[dict[str, t.Any]]:
        """All processes that the supervisor runs or has run, in one call."""

    @abc.abstractmethod
    def execute(self, orders: t.Sequence[Order]) -> list[SupervisorFault | None]:
        """Give orders, in their sequence and in one call; for each the fault, or None if it was carried out or was not needed."""

    @abc.abstractmethod
    def log_lines(self, full_name: str, count: int) -> list[str]:
        """The last lines that a process wrote, what it wrote to stderr last; empty where there is no log."""

    @abc.abstractmethod
    def last_exit(self, name: str) -> str | None:
        """How a process ended last, in the supervisor's words ("exit status 1"), None if that is not known."""
