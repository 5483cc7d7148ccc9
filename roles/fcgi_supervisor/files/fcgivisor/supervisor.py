# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's state and its reactions: groups, signals, deaths, and the order of a shutdown."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from collections import deque

from fcgivisor import events, logs, spawn, states
from fcgivisor.group import Group
from fcgivisor.heartbeat import NotifySocket
from fcgivisor.loop import now
from fcgivisor.output import auto_log_prefix
from fcgivisor.process import decode_status
from fcgivisor.sockets import SocketError
from fcgivisor.spawn import Launches
from fcgivisor.states import SupervisorState
from fcgivisor.values import AUTO, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.loop import Loop, Timer
    from fcgivisor.mainlog import MainLog
    from fcgivisor.model import GroupConfig, ProcessConfig, Settings
    from fcgivisor.process import Process
    from fcgivisor.sockets import Held, Sockets

# Seconds between two looks at the memory of processes that have max_memory.
MEMORY_LOOKS = 10.0
# Seconds that starting processes may take until requests and deaths are looked at again.
STARTING_SLICE = 0.02
# Seconds between two lines about what a shutdown waits for (supervisor/supervisord.py, shutdown_report).
SHUTDOWN_REPORTS = 3.0


class Supervisor:
    """One life of the supervisor, from one reading of its configuration to a shutdown or a restart.

    settings: what the files say now. groups: what runs, by name. mood: of SupervisorState. by_pid: the processes that live.
    """

    def __init__(self, settings: Settings, loop: Loop, log: MainLog, sockets: Sockets) -> None:
        self.settings, self.loop, self.log, self.sockets = settings, loop, log, sockets
        self.bus = events.Bus()
        self.groups: dict[str, Group] = {}
        self.by_pid: dict[int, Process] = {}
        self.launches = Launches()
        self.mood = SupervisorState.RUNNING
        self.waiters: list[Callable[[], bool]] = []  # called after changes of state, until they return True
        self._stop_order: list[Group] = []
        self._to_start: deque[Process] = deque()
        self._notify: NotifySocket | None = None
        self._ticks: dict[str, Timer] = {}
        self._memory_timer: Timer | None = None
        self._change_noted = False
        sockets.on_rebound = self._socket_rebound  # type: ignore[method-assign]

    @property
    def stopping(self) -> bool:
        return self.mood < SupervisorState.RUNNING

    # Beginning and end

    def begin(self) -> None:
        """Add all groups and start what starts by itself; from now on signals are heard."""
        self.loop.catch(
            {
                signal.SIGCHLD: self.reap,
                signal.SIGTERM: lambda: self._asked_to_end(signal.SIGTERM),
                signal.SIGINT: lambda: self._asked_to_end(signal.SIGINT),
                signal.SIGQUIT: lambda: self._asked_to_end(signal.SIGQUIT),
                signal.SIGHUP: self._asked_to_restart,
                signal.SIGUSR2: self.reopen_logs,
            }
        )
        wanted = {config.socket.url for group in self.settings.groups.values() for config in group.processes.values() if config.socket}
        self.sockets.keep_only(wanted)
        for config in self.settings.groups.values():
            try:
                self.add_group(config)
            except SocketError as error:
                # supervisord would not start at all (its issue 1567). Its processes say why they do not run, and try again.
                self.log.error(f"could not create FastCGI socket {error}")
        self.bus.notify(events.supervisor_state(stopping=False))
        self.loop.soon(self.reap)

    def shut_down(self, mood: int) -> None:
        """Stop all groups, the highest priority first, one after the other; then the loop ends."""
        already, self.mood = self.stopping, min(mood, self.mood)
        if already:
            return
        self._stop_order = sorted(self.groups.values(), key=lambda group: (group.config.priority, group.config.name))
        self.bus.notify(events.supervisor_state(stopping=True))
        self.loop.soon(self._continue_shut_down)
        self._report_shut_down()

    def _continue_shut_down(self) -> None:
        while self._stop_order:
            group = self._stop_order[-1]
            group.stop_all()
            if group.unstopped():
                return
            self._stop_order.pop()
        self.loop.stop()

    def _report_shut_down(self) -> None:
        names = [process.config.name for group in self.groups.values() for process in group.unstopped()]
        if names:
            self.log.info(f"waiting for {', '.join(names)} to die")
            self.loop.after(SHUTDOWN_REPORTS, self._report_shut_down)

    def end(self) -> None:
        """Nothing runs any more: let go of all but the sockets."""
        for group in self.groups.values():
            for process in group.processes.values():
                process.close()
            if group.pool is not None:
                group.pool.close()
        if self._notify is not None:
            self._notify.close()

    # Groups

    def add_group(self, config: GroupConfig) -> bool:
        """Add a group and start what starts by itself. Returns False if it is there already. Raises SocketError; the group is added all the same."""
        if config.name in self.groups:
            return False
        group = self.groups[config.name] = Group(self, config)
        for process in group.processes.values():
            process.prepare()
        self.bus.notify(events.group(True, config.name))
        self.schedule_ticks()
        self.watch_memory()
        self.loop.soon(lambda: self._autostart(group))
        group.open_sockets()
        return True

    def _autostart(self, group: Group) -> None:
        if not self.stopping and self.groups.get(group.config.name) is group:
            group.autostart()

    def start_soon(self, process: Process) -> None:
        """Start a process that never ran, unless that has become wrong by then."""
        self._to_start.append(process)
        if len(self._to_start) == 1:
            self.loop.after(0, self._start_some)

    def _start_some(self) -> None:
        """Hundreds of processes take a while to start: requests are answered in between."""
        end = now() + STARTING_SLICE
        self.launches.collect()
        try:
            while self._to_start and not self.stopping:
                process = self._to_start.popleft()
                if process.state == states.STOPPED and not process.last_start and process.group.processes.get(process.config.name) is process:
                    process.start()
                if now() >= end:
                    break
        finally:
            self.launches.launch()
        if self._to_start:
            self.loop.after(0, self._start_some)

    def remove_group(self, name: str) -> bool:
        """Forget a group, unless something of it runs. Raises KeyError."""
        if self.groups[name].unstopped():
            return False
        self.groups.pop(name).close()
        self.bus.notify(events.group(False, name))
        return True

    def processes(self) -> list[Process]:
        """All, in the order of their groups' names and their own."""
        return [process for _name, group in sorted(self.groups.items()) for _other, process in sorted(group.processes.items())]

    def by_priority(self) -> list[Process]:
        groups = sorted(self.groups.values(), key=lambda group: group.config.priority)
        return [process for group in groups for process in sorted(group.processes.values(), key=lambda process: process.config.priority)]

    # What happens

    def changed(self) -> None:
        """A process has changed its state: whoever waits for that is asked once, after everything that happens now."""
        if not self._change_noted:
            self._change_noted = True
            self.loop.soon(self._tell_waiters)

    def _tell_waiters(self) -> None:
        self._change_noted = False
        waiters, self.waiters = self.waiters, []
        self.waiters[:0] = [waiter for waiter in waiters if not waiter()]
        if self.stopping:
            self._continue_shut_down()

    def wait(self, waiter: Callable[[], bool]) -> None:
        """Have waiter() called after each change of state until it returns True."""
        self.waiters.append(waiter)

    def reap(self) -> None:
        """Bury all that have died: our own, and as PID 1 everybody's orphans."""
        dead = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            dead.append((pid, status))
        self.launches.collect()
        try:
            for pid, status in dead:
                process = self.by_pid.get(pid)
                if process is None:
                    self.log.info(f"reaped unknown pid {pid} ({decode_status(status)[1]})")
                else:
                    process.died(status)
        finally:
            self.launches.launch()

    def find(self, pid: int) -> Process | None:
        """The process that a process ID belongs to: its own, or that of a child in its group."""
        try:
            return self.by_pid.get(pid) or self.by_pid.get(os.getpgid(pid))
        except ProcessLookupError:
            return None

    def _asked_to_end(self, number: int) -> None:
        self.log.warn(f"received {signal_name(number)} indicating exit request")
        self.shut_down(SupervisorState.SHUTDOWN)

    def _asked_to_restart(self) -> None:
        if self.mood == SupervisorState.SHUTDOWN:
            self.log.warn("ignored SIGHUP indicating restart request (shutdown in progress)")
            return
        self.log.warn("received SIGHUP indicating restart request")
        self.shut_down(SupervisorState.RESTARTING)

    def reopen_logs(self) -> None:
        self.log.info("received SIGUSR2 indicating log reopen request")
        self.log.info("supervisord logreopen")
        self.log.reopen()
        for process in self.processes():
            process.reopen_logs()

    def _socket_rebound(self, held: Held) -> None:
        """Workers still accept on a socket that nobody reaches any more: replace them, one after the other."""
        for process in self.processes():
            if process.config.socket is None or process.config.socket.url != held.config.url or not process.pid:
                continue
            if process.state == states.STARTING:  # it serves nobody yet
                process.restart()
            else:
                process.recycle("its socket was bound anew")

    # Services for processes

    def notify_address(self) -> str:
        if self._notify is None:
            self._notify = NotifySocket(self.loop, self.find)
        return self._notify.address

    def auto_logs(self, config: ProcessConfig, known: dict[str, str]) -> dict[str, str]:
        """Paths of a process's AUTO logs: those that it has, and new ones for those that it lacks."""
        paths = {}
        for channel in ("stdout", "stderr"):
            if getattr(config, f"{channel}_logfile") != AUTO:
                continue
            try:
                paths[channel] = known.get(channel) or logs.create_auto_log(
                    self.settings.childlogdir, auto_log_prefix(config.name, channel, self.settings.identifier)
                )
            except OSError as error:
                self.log.error(f"{config.name}: no {channel} log in {self.settings.childlogdir}: {error.strerror}")
                paths[channel] = os.devnull
        return paths

    def clear_old_auto_logs(self) -> None:
        """Those of an earlier supervisor of this name (supervisor/options.py, clear_autochildlogdir)."""
        pattern = re.compile(rf".+?---{re.escape(self.settings.identifier)}-\S+\.log\.?\d{{0,4}}")
        try:
            names = os.listdir(self.settings.childlogdir)
        except OSError:
            self.log.warn("Could not clear childlog dir")
            return
        for name in filter(pattern.match, names):
            try:
                os.unlink(os.path.join(self.settings.childlogdir, name))
            except OSError:
                self.log.warn(f"Failed to clean up {name!r}")

    # Time, for those who asked for it

    def schedule_ticks(self) -> None:
        """A timer for each kind of tick that a listener waits for, and none else."""
        for name, period in events.TICKS.items():
            if name not in self._ticks and self.bus.wants(name):
                self._set_tick(name, period)

    def _set_tick(self, name: str, period: int) -> None:
        moment = time.time()
        self._ticks[name] = self.loop.after(period - moment % period, lambda: self._tick(name, period))

    def _tick(self, name: str, period: int) -> None:
        del self._ticks[name]
        moment = round(time.time())
        self.bus.notify(events.tick(name, moment - moment % period))
        self.schedule_ticks()

    def watch_memory(self) -> None:
        if self._memory_timer is None and any(process.config.max_memory for process in self.processes()):
            self._memory_timer = self.loop.after(MEMORY_LOOKS, self._look_at_memory)

    def _look_at_memory(self) -> None:
        self._memory_timer = None
        for process in self.processes():
            if process.config.max_memory and process.state == states.RUNNING and not process.recycling:
                used = resident_memory(process.pid)
                if used > process.config.max_memory:
                    process.recycle(f"it uses {used // 1024} KB of memory (max_memory {process.config.max_memory // 1024} KB)")
        self.watch_memory()


def resident_memory(pid: int) -> int:
    """Bytes (proc(5), statm); 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0


def reread(supervisor: Supervisor, settings: Settings) -> tuple[list[str], list[str], list[str]]:
    """Take on new settings, which starts and stops nothing. Returns the groups that were added, changed and removed (supervisord.py, diff_to_active)."""
    supervisor.settings = settings
    spawn.forget_identities()
    added = [name for name in settings.groups if name not in supervisor.groups]
    removed = [name for name in supervisor.groups if name not in settings.groups]
    changed = [name for name, config in settings.groups.items() if name in supervisor.groups and not config.same_as(supervisor.groups[name].config)]
    return added, changed, removed
