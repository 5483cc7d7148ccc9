# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine of a process, as a table: this is what the supervisor does.

The states, their numbers and their names are supervisord's (supervisor/states.py); so are the ways between them (supervisor/process.py), but for one:
where a restart has to wait, an exited process waits in BACKOFF.
"""

from __future__ import annotations

STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL, UNKNOWN = 0, 10, 20, 30, 40, 100, 200, 1000

NAMES = {
    STOPPED: "STOPPED",
    STARTING: "STARTING",
    RUNNING: "RUNNING",
    BACKOFF: "BACKOFF",
    STOPPING: "STOPPING",
    EXITED: "EXITED",
    FATAL: "FATAL",
    UNKNOWN: "UNKNOWN",
}

STOPPED_STATES = frozenset({STOPPED, EXITED, FATAL, UNKNOWN})
RUNNING_STATES = frozenset({RUNNING, BACKOFF, STARTING})
SIGNALLABLE_STATES = frozenset({RUNNING, STARTING, STOPPING})

# state, event -> the next state, and what is done on arrival (methods of process.Process).
TABLE: dict[tuple[int, str], tuple[int, str]] = {
    # An order, autostart, or a restart that is due.
    (STOPPED, "start"): (STARTING, "spawn"),
    (EXITED, "start"): (STARTING, "spawn"),
    (BACKOFF, "start"): (STARTING, "spawn"),
    (FATAL, "start"): (STARTING, "spawn"),
    # It did not come to live: no such command, no process left in the system, dead within startsecs, or not ready in time.
    (STARTING, "unspawnable"): (BACKOFF, "retry"),
    (STARTING, "died_early"): (BACKOFF, "retry"),
    # It lived for startsecs, or said that it is ready.
    (STARTING, "alive"): (RUNNING, "settle"),
    # It died by itself. The restart is at once, or waits (for its delay, or for what the dead process left behind).
    (RUNNING, "died"): (EXITED, "respawn"),
    (EXITED, "wait"): (BACKOFF, "await_restart"),
    # An order to stop: signals of the stop sequence, one after the other, until it is dead.
    (STARTING, "stop"): (STOPPING, "begin_stop"),
    (RUNNING, "stop"): (STOPPING, "begin_stop"),
    (BACKOFF, "stop"): (STOPPED, "rest"),
    (STOPPING, "overdue"): (STOPPING, "continue_stop"),
    (STOPPING, "died"): (STOPPED, "rest"),
    # Too many tries (supervisord's policy), or the supervisor is shutting down.
    (BACKOFF, "give_up"): (FATAL, "rest"),
    # The kernel refuses a signal to our own child.
    (STARTING, "lost"): (UNKNOWN, "rest"),
    (RUNNING, "lost"): (UNKNOWN, "rest"),
    (STOPPING, "lost"): (UNKNOWN, "rest"),
    (UNKNOWN, "died"): (STOPPED, "rest"),
}


class SupervisorState:
    """Moods of the supervisor itself (supervisor/states.py, SupervisorStates)."""

    FATAL = 2
    RUNNING = 1
    RESTARTING = 0
    SHUTDOWN = -1


SUPERVISOR_NAMES = {
    SupervisorState.FATAL: "FATAL",
    SupervisorState.RUNNING: "RUNNING",
    SupervisorState.RESTARTING: "RESTARTING",
    SupervisorState.SHUTDOWN: "SHUTDOWN",
}
