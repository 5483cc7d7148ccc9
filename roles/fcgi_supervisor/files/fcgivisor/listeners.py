# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Event listeners (supervisor/dispatchers.py, PEventListenerDispatcher, and process.py, EventListenerPool): READY, an event, RESULT 2, OK."""

from __future__ import annotations

from fcgivisor import states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.events import Event
    from fcgivisor.model import GroupConfig
    from fcgivisor.process import Process
    from fcgivisor.supervisor import Supervisor

ACKNOWLEDGED, READY, BUSY, UNKNOWN = "ACKNOWLEDGED", "READY", "BUSY", "UNKNOWN"
_READY_TOKEN = b"READY\n"
_RESULT_START = b"RESULT "
# Bytes of a line or a result; who sends more does not speak this protocol.
_LONGEST_RESULT = 1024 * 1024


class Conversation:
    """What one listener said so far. It begins anew with each life of the process."""

    def __init__(self, pool: Pool, process: Process) -> None:
        self._pool, self._process = pool, process
        self.state = ACKNOWLEDGED
        self._event: tuple[Event, int] | None = None  # that it has not answered, with its serial of the pool
        self._heard = b""
        self._result_size = -1

    def hear(self, data: bytes) -> None:
        """What the listener wrote to stdout."""
        self._heard += data
        while self._heard and self._step():
            pass

    def send(self, event: Event, serial: int, envelope: bytes) -> bool:
        if not self._process.write_stdin(envelope):
            return False
        self._change(BUSY)
        self._event = event, serial
        return True

    def end(self) -> None:
        """The listener is dead. What it had not answered goes to another."""
        if self._event is not None:
            self._pool.take_back(*self._event)
            self._event = None

    def _step(self) -> bool:
        """Take one thing that was said. Returns whether there may be another."""
        if self.state == ACKNOWLEDGED:
            return self._expect_ready()
        if self.state == BUSY:
            return self._expect_result()
        if self.state == READY:  # it has nothing to say before it is asked
            self._change(UNKNOWN)
        self._heard = b""
        return False

    def _expect_ready(self) -> bool:
        if len(self._heard) < len(_READY_TOKEN):
            return False
        if not self._heard.startswith(_READY_TOKEN):
            self._change(UNKNOWN)
            self._heard = b""
            return False
        self._heard = self._heard[len(_READY_TOKEN) :]
        self._change(READY)
        self._pool.dispatch_soon()
        return True

    def _expect_result(self) -> bool:
        if self._result_size < 0:
            line, found, rest = self._heard.partition(b"\n")
            if not found and len(line) < _LONGEST_RESULT:
                return False
            digits = line[len(_RESULT_START) :].strip()
            self._heard = rest
            if not digits.isdigit() or int(digits) > _LONGEST_RESULT:
                self._pool.supervisor.log.warn(f"{self._process.config.name}: bad result line: {line[:80]!r}")
                return self._reject(UNKNOWN)
            self._result_size = int(digits)
        if len(self._heard) < self._result_size:
            return False
        result, self._heard = self._heard[: self._result_size], self._heard[self._result_size :]
        self._result_size = -1
        if result != b"OK":
            self._pool.supervisor.log.warn(f"{self._process.config.name}: event was rejected")
            return self._reject(ACKNOWLEDGED)
        self._event = None
        self._change(ACKNOWLEDGED)
        return True

    def _reject(self, state: str) -> bool:
        self._change(state)
        self.end()
        return bool(self._heard)

    def _change(self, state: str) -> None:
        log, name = self._pool.supervisor.log, self._process.config.name
        log.debug(f"{name}: {self.state} -> {state}")
        self.state = state
        if state == UNKNOWN:
            log.warn(
                f"{name}: has entered the UNKNOWN state and will no longer receive events, "
                "this usually indicates the process violated the eventlistener protocol"
            )


class Pool:
    """The listeners of one group, and the events that wait for one of them."""

    def __init__(self, supervisor: Supervisor, config: GroupConfig) -> None:
        self.supervisor = supervisor
        self.name, self.buffer_size = config.name, config.buffer_size
        self.conversations: dict[str, Conversation] = {}
        self._processes: dict[str, Process] = {}
        self._waiting: list[tuple[Event, int]] = []  # with their serial of this pool
        self._serial = -1
        self._scheduled = False
        supervisor.bus.subscribe(frozenset(config.events), self._accept)

    def configure(self, config: GroupConfig) -> None:
        self.buffer_size = config.buffer_size
        self.supervisor.bus.unsubscribe(self._accept)
        self.supervisor.bus.subscribe(frozenset(config.events), self._accept)

    def close(self) -> None:
        self.supervisor.bus.unsubscribe(self._accept)

    def begin(self, process: Process) -> Conversation:
        """A listener was started."""
        self._processes[process.config.name] = process
        self.conversations[process.config.name] = Conversation(self, process)
        return self.conversations[process.config.name]

    def take_back(self, event: Event, serial: int) -> None:
        """An event that nobody has processed yet: it is the next one."""
        self._waiting.insert(0, (event, serial))
        self._drop_oldest()
        self.dispatch_soon()

    def dispatch_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.supervisor.loop.soon(self._dispatch)

    def _accept(self, event: Event) -> None:
        self._serial += 1
        self._waiting.append((event, self._serial))
        self._drop_oldest()
        self.dispatch_soon()

    def _drop_oldest(self) -> None:
        if len(self._waiting) > self.buffer_size:
            event, _serial = self._waiting.pop(0)
            self.supervisor.log.error(f"pool {self.name} event buffer overflowed, discarding event {event.serial}")

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._waiting:
            event, serial = self._waiting[0]
            if not self._send(event, serial):
                return
            self._waiting.pop(0)

    def _send(self, event: Event, serial: int) -> bool:
        head = (
            f"ver:3.0 server:{self.supervisor.settings.identifier} serial:{event.serial} pool:{self.name} poolserial:{serial} "
            f"eventname:{event.name} len:{len(event.payload.decode('utf-8', 'replace'))}\n"
        )
        for name, conversation in self.conversations.items():
            ready = self._processes[name].state == states.RUNNING and conversation.state == READY
            if ready and conversation.send(event, serial, head.encode() + event.payload):
                return True
        return False
