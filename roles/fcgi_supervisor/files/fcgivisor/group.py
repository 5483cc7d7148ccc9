# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of processes, and what processes of one program share: their record of failures, and the order in which they are replaced."""

from __future__ import annotations

from functools import partial

from fcgivisor import states
from fcgivisor.listeners import Pool
from fcgivisor.model import LISTENER
from fcgivisor.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.model import GroupConfig, ProcessConfig
    from fcgivisor.sockets import Held
    from fcgivisor.supervisor import Supervisor


class History:
    """Of one program. failures: deaths that were not clean, since they were last forgiven."""

    __slots__ = ("failures",)

    def __init__(self) -> None:
        self.failures = 0


class Group:
    """A group that the supervisor holds. processes: by name, by priority. pool: of event listeners, else None."""

    def __init__(self, supervisor: Supervisor, config: GroupConfig) -> None:
        self.supervisor, self.config = supervisor, config
        self.processes = {name: Process(supervisor, self, process) for name, process in config.processes.items()}
        self.pool = Pool(supervisor, config) if config.kind == LISTENER else None
        self._histories: dict[str, History] = {}
        self._recycle_queue: list[Process] = []

    # Sockets

    def open_sockets(self) -> None:
        """Make all sockets of the group. Raises SocketError."""
        for config in self.config.processes.values():
            if config.socket is not None:
                self.open_socket(config)

    def open_socket(self, config: ProcessConfig) -> Held:
        """The socket of a process, listening. Raises SocketError."""
        assert config.socket is not None
        return self.supervisor.sockets.use(config.socket, self._socket_user(config))

    def release_socket(self, config: ProcessConfig) -> None:
        if config.socket is not None:
            self.supervisor.sockets.release(config.socket.url, self._socket_user(config))

    def _socket_user(self, config: ProcessConfig) -> str:
        return f"{self.config.name}:{config.program}"

    # Life

    def autostart(self) -> None:
        """Have started what starts by itself and never did. By mod_fastcgi's policy the processes of a program start one after the other."""
        positions: dict[str, int] = {}
        for process in self.processes.values():
            config = process.config
            if not config.autostart or process.state != states.STOPPED or process.last_start:
                continue
            position = positions.get(config.program, 0)
            positions[config.program] = position + 1
            if config.policy is None or position == 0:
                self.supervisor.start_soon(process)
            else:
                self.supervisor.loop.after(position * config.policy.start_delay, partial(self.supervisor.start_soon, process))

    def stop_all(self) -> None:
        """Stop everything, for a shutdown (supervisor/process.py, ProcessGroupBase.stop_all)."""
        for process in reversed(list(self.processes.values())):
            if process.state == states.BACKOFF:
                process.give_up()
            else:
                process.stop()

    def unstopped(self) -> list[Process]:
        return [process for process in self.processes.values() if process.state not in states.STOPPED_STATES]

    def configure(self, config: GroupConfig, keep: dict[str, Process]) -> None:
        """Take on a new configuration of the same kind. keep: processes that it lacks, but that have not stopped yet."""
        before, self.config = self.config, config
        urls = {process.socket.url for process in config.processes.values() if process.socket}
        for old in before.processes.values():
            if old.socket is not None and old.socket.url not in urls and old.name not in keep:
                self.release_socket(old)
        processes = {}
        for name, wanted in config.processes.items():
            process = self.processes.get(name)
            if process is None:
                process = Process(self.supervisor, self, wanted)
                process.prepare()
            else:
                process.configure(wanted)
            processes[name] = process
        self.processes = {**processes, **keep}
        if self.pool is not None:
            self.pool.configure(config)

    def drop(self, process: Process) -> None:
        """Forget one process, which has stopped."""
        if self.processes.get(process.config.name) is process:
            del self.processes[process.config.name]
        process.close()
        shared = {other.config.socket.url for other in self.processes.values() if other.config.socket}
        if process.config.socket is not None and process.config.socket.url not in shared:
            self.release_socket(process.config)

    def close(self) -> None:
        """The group leaves the supervisor."""
        for process in self.processes.values():
            process.close()
            self.release_socket(process.config)
        if self.pool is not None:
            self.pool.close()

    # What a program's processes share

    def history(self, program: str) -> History:
        return self._histories.setdefault(program, History())

    def siblings(self, process: Process) -> list[Process]:
        """The other processes of the same program."""
        return [other for other in self.processes.values() if other.config.program == process.config.program and other is not process]

    def recycle(self, process: Process) -> None:
        """Replace a process, unless another of its program is on its way: then after that."""
        if process.state != states.RUNNING:
            return
        if any(sibling.recycling for sibling in self.siblings(process)):
            if process not in self._recycle_queue:
                self._recycle_queue.append(process)
            return
        process.recycling = True
        process.restart()

    def settled(self, process: Process) -> None:
        """A process runs: the next one may be replaced. A new one that does not come to run leaves the others alone."""
        if process in self._recycle_queue:  # it has been replaced meanwhile
            self._recycle_queue.remove(process)
        if self.pool is not None:
            self.pool.dispatch_soon()  # a listener that was READY before it counted as running
        for waiting in self._recycle_queue:
            if waiting.config.program == process.config.program:
                self._recycle_queue.remove(waiting)
                self.recycle(waiting)
                return
