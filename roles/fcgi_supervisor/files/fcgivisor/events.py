# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events, their payloads and who hears of them (supervisor/events.py). An event is rendered when it happens, since its process goes on changing."""

from __future__ import annotations

from fcgivisor import states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.process import Process

# Each event and all that it is also subscribed as.
_PARENTS = {
    **{f"PROCESS_STATE_{name}": ("PROCESS_STATE", "EVENT") for name in states.NAMES.values()},
    "PROCESS_COMMUNICATION_STDOUT": ("PROCESS_COMMUNICATION", "EVENT"),
    "PROCESS_COMMUNICATION_STDERR": ("PROCESS_COMMUNICATION", "EVENT"),
    "PROCESS_LOG_STDOUT": ("PROCESS_LOG", "EVENT"),
    "PROCESS_LOG_STDERR": ("PROCESS_LOG", "EVENT"),
    "REMOTE_COMMUNICATION": ("EVENT",),
    "SUPERVISOR_STATE_CHANGE_RUNNING": ("SUPERVISOR_STATE_CHANGE", "EVENT"),
    "SUPERVISOR_STATE_CHANGE_STOPPING": ("SUPERVISOR_STATE_CHANGE", "EVENT"),
    "TICK_5": ("TICK", "EVENT"),
    "TICK_60": ("TICK", "EVENT"),
    "TICK_3600": ("TICK", "EVENT"),
    "PROCESS_GROUP_ADDED": ("PROCESS_GROUP", "EVENT"),
    "PROCESS_GROUP_REMOVED": ("PROCESS_GROUP", "EVENT"),
}
NAMES = frozenset(_PARENTS) | {parent for parents in _PARENTS.values() for parent in parents}
# Seconds, by event.
TICKS = {"TICK_5": 5, "TICK_60": 60, "TICK_3600": 3600}


class Event:
    """name: one of NAMES. payload: bytes, as a listener gets it. serial: over all events, given when somebody wants it."""

    __slots__ = ("name", "payload", "serial")

    def __init__(self, name: str, payload: str) -> None:
        self.name = name
        self.payload = payload.encode("utf-8", "surrogateescape")
        self.serial = -1


class Bus:
    """Who hears of what. Nobody listening costs nothing."""

    def __init__(self) -> None:
        self._listeners: list[tuple[frozenset[str], Callable[[Event], None]]] = []
        self._serial = -1

    def subscribe(self, names: frozenset[str], callback: Callable[[Event], None]) -> None:
        self._listeners.append((names, callback))

    def unsubscribe(self, callback: Callable[[Event], None]) -> None:
        self._listeners = [(names, listener) for names, listener in self._listeners if listener != callback]

    def wants(self, *names: str) -> bool:
        return any(_matches(name, wanted) for name in names for wanted, _callback in self._listeners)

    def notify(self, event: Event) -> None:
        for wanted, callback in self._listeners:
            if _matches(event.name, wanted):
                if event.serial < 0:
                    self._serial += 1
                    event.serial = self._serial
                callback(event)


def _matches(name: str, wanted: frozenset[str]) -> bool:
    return name in wanted or any(parent in wanted for parent in _PARENTS[name])


def process_state(process: Process, before: int, after: int, expected: bool) -> Event:
    """A change of state; its payload ends with what this state tells (events.py, ProcessStateEvent.get_extra_values)."""
    payload = f"processname:{process.config.name} groupname:{process.group.config.name} from_state:{states.NAMES[before]}"
    if after in (states.STARTING, states.BACKOFF):
        payload += f" tries:{process.tries}"
    elif after == states.EXITED:
        payload += f" expected:{int(expected)} pid:{process.pid}"
    elif after in (states.RUNNING, states.STOPPING, states.STOPPED):
        payload += f" pid:{process.pid}"
    return Event(f"PROCESS_STATE_{states.NAMES[after]}", payload)


def log(process: Process, channel: str, data: bytes) -> Event:
    head = f"processname:{process.config.name} groupname:{process.group.config.name} pid:{process.pid} channel:{channel}"
    return Event(f"PROCESS_LOG_{channel.upper()}", f"{head}\n{_text(data)}")


def communication(process: Process, channel: str, data: bytes) -> Event:
    head = f"processname:{process.config.name} groupname:{process.group.config.name} pid:{process.pid}"
    return Event(f"PROCESS_COMMUNICATION_{channel.upper()}", f"{head}\n{_text(data)}")


def remote_communication(kind: str, data: str) -> Event:
    return Event("REMOTE_COMMUNICATION", f"type:{kind}\n{data}")


def group(added: bool, name: str) -> Event:
    return Event("PROCESS_GROUP_ADDED" if added else "PROCESS_GROUP_REMOVED", f"groupname:{name}\n")


def supervisor_state(stopping: bool) -> Event:
    return Event("SUPERVISOR_STATE_CHANGE_STOPPING" if stopping else "SUPERVISOR_STATE_CHANGE_RUNNING", "")


def tick(name: str, when: int) -> Event:
    """when: seconds since the epoch, a multiple of the tick's."""
    return Event(name, f"when:{when}")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"Undecodable: {data!r}"
