# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The minimal way from what runs to what the files say: process by process and key by key, where supervisord goes group by group."""

from __future__ import annotations

from collections import namedtuple

from fcgivisor import keys, states
from fcgivisor.group import Group
from fcgivisor.model import GroupConfig
from fcgivisor.process import Process
from fcgivisor.sockets import SocketError, SocketInUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from fcgivisor.model import ProcessConfig, Settings
    from fcgivisor.supervisor import Supervisor

# action: ADD, REMOVE, RESTART, or CHANGE (nobody stops). group, process: names. keys: those that differ.
Step = namedtuple("Step", "action group process keys")
ADD, REMOVE, RESTART, CHANGE = "add", "remove", "restart", "change"

# Attributes of a ProcessConfig that are no keys of their own, and the key that stands behind them.
_KEY_OF = {"uid": "user", "policy": "restart_delay", "name": "process_name", "kind": "command"}
_SOCKET_KEYS = {"url": "socket", "owner": "socket_owner", "mode": "socket_mode", "backlog": "socket_backlog"}


def plan(supervisor: Supervisor, settings: Settings, names: Collection[str] = ()) -> list[Step]:
    """What update() would do; names: of groups, all where there are none."""
    steps: list[Step] = []
    for name in sorted({*supervisor.groups, *settings.groups}):
        if names and name not in names:
            continue
        held, wanted = supervisor.groups.get(name), settings.groups.get(name)
        if held is not None and wanted is not None and held.config.kind == wanted.kind:
            steps += _within(held, wanted)
            continue
        if held is not None:
            steps += [Step(REMOVE, name, process, []) for process in held.processes]
        if wanted is not None:
            steps += [Step(ADD, name, process, []) for process in wanted.processes]
    return steps


def _within(group: Group, wanted: GroupConfig) -> list[Step]:
    name = wanted.name
    held = {process_name: process for process_name, process in group.processes.items() if not process.leaving}
    steps = [Step(REMOVE, name, process, []) for process in held if process not in wanted.processes]
    steps += [Step(ADD, name, process, []) for process in wanted.processes if process not in held]
    for process_name, config in wanted.processes.items():
        process = held.get(process_name)
        if process is None:
            continue
        changed = _changed_keys(process.config, config)
        if changed:
            needs_restart = any(keys.PROGRAM_CHANGE[key] == keys.RESTART for key in changed)
            # What was stopped by hand stays stopped, and what ended by itself and does not start by itself has done its work.
            ended = process.state in (states.EXITED, states.FATAL)
            runs = config.autostart if ended else process.state not in (states.STOPPED, states.STOPPING)
            steps.append(Step(RESTART if needs_restart and runs else CHANGE, name, process_name, changed))
    if (group.config.priority, group.config.events, group.config.buffer_size) != (wanted.priority, wanted.events, wanted.buffer_size):
        steps.append(Step(CHANGE, name, "", ["priority", "events", "buffer_size"]))
    return steps


def _changed_keys(before: ProcessConfig, after: ProcessConfig) -> list[str]:
    changed = {_KEY_OF.get(name, name) for name in before.differences(after)}
    if (before.socket is None) != (after.socket is None):
        changed.add("socket")
    elif before.socket is not None and after.socket is not None:
        changed |= {key for name, key in _SOCKET_KEYS.items() if getattr(before.socket, name) != getattr(after.socket, name)}
    return sorted(changed)


class Update:
    """One update under way. failed: texts, such as of sockets that could not be made. done(): whether everything has come to its end."""

    def __init__(self, supervisor: Supervisor, settings: Settings, steps: list[Step]) -> None:
        self._supervisor, self._settings, self.steps = supervisor, settings, steps
        self.failed: list[str] = []
        self._leaving: list[tuple[Group, Process]] = []
        self._coming: list[Process] = []
        self._crowded: list[Group] = []  # whose socket is still held by processes that are about to end
        self._replaced: list[GroupConfig] = []  # by another kind of group under the same name, which comes when the old one has gone
        for name in dict.fromkeys(step.group for step in steps):
            self._update_group(name, [step for step in steps if step.group == name])
        supervisor.wait(self._go_on)
        supervisor.changed()

    def done(self) -> bool:
        return not (self._leaving or self._replaced or self._crowded or any(self._is_coming(process) for process in self._coming))

    def _is_coming(self, process: Process) -> bool:
        """Whether more is to happen to a process by itself; one that starts by itself has its turn after this moment."""
        if process.state in (states.STARTING, states.STOPPING):
            return True
        group = process.group
        held = self._supervisor.groups.get(group.config.name) is group and group.processes.get(process.config.name) is process
        return held and process.state == states.STOPPED and not process.last_start and process.config.autostart and not self._supervisor.stopping

    def _update_group(self, name: str, steps: list[Step]) -> None:
        supervisor, wanted = self._supervisor, self._settings.groups.get(name)
        group = supervisor.groups.get(name)
        for step in steps:
            if step.action == REMOVE and group is not None:
                process = group.processes[step.process]
                process.leaving = True
                process.stop()
                self._leaving.append((group, process))
        if wanted is None:
            return
        if group is None:
            self._add_group(wanted)
        elif group.config.kind == wanted.kind:
            self._change_group(group, wanted, steps)
        else:
            self._replaced.append(wanted)

    def _add_group(self, wanted: GroupConfig) -> None:
        try:
            self._supervisor.add_group(wanted)
        except SocketError as error:
            self.failed.append(str(error))
        self._coming += self._supervisor.groups[wanted.name].processes.values()

    def _change_group(self, group: Group, wanted: GroupConfig, steps: list[Step]) -> None:
        leaving = {process.config.name: process for held, process in self._leaving if held is group}
        group.configure(wanted, keep=leaving)
        self._apply_sockets(group)
        for step in steps:
            if step.action == RESTART:
                process = group.processes[step.process]
                process.restart() if process.pid else process.start()
                self._coming.append(process)
            elif step.action == ADD:
                process = group.processes[step.process]
                if process.leaving:  # an earlier update is stopping it
                    process.leaving = False
                    process.restart()
                self._coming.append(process)
        self._supervisor.schedule_ticks()
        self._supervisor.watch_memory()
        group.autostart()

    def _apply_sockets(self, group: Group) -> None:
        try:
            group.open_sockets()
        except SocketInUse as error:
            if any(process.state == states.STOPPING for process in self._supervisor.processes()):
                self._crowded.append(group)
            else:
                self._fail(error)
        except (SocketError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failed.append(str(error))
        self._supervisor.log.warn(f"update: {error}")  # whoever asked may not have waited for it

    def _go_on(self) -> bool:
        """Take out of their groups what has stopped by now, and try again what that was in the way of. Returns whether that was all."""
        leaving, self._leaving = self._leaving, []
        for group, process in leaving:
            if not process.leaving:  # a later update wants it again
                continue
            if process.state not in states.STOPPED_STATES:
                self._leaving.append((group, process))
                continue
            group.drop(process)
            if not group.processes and self._supervisor.groups.get(group.config.name) is group:
                self._supervisor.remove_group(group.config.name)
        for wanted in self._replaced[:]:
            if wanted.name not in self._supervisor.groups:
                self._replaced.remove(wanted)
                self._add_group(wanted)
        crowded, self._crowded = self._crowded, []
        for group in crowded:
            if self._supervisor.groups.get(group.config.name) is group:
                self._apply_sockets(group)
        return not (self._leaving or self._crowded)
