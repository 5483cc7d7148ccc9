# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods that clients call: supervisord's (supervisor/rpcinterface.py), in one fixed table, and ours beside them.

A method returns its answer, raises wire.Fault, or returns a Deferred, whose answer comes later.
"""

from __future__ import annotations

import os
import time

from fcgivisor import API_VERSION, SUPERVISOR_VERSION, VERSION, events, logread, spawn, states, update
from fcgivisor.ini import ConfigError
from fcgivisor.loop import now
from fcgivisor.sockets import SocketError
from fcgivisor.spawn import SpawnError
from fcgivisor.states import SupervisorState
from fcgivisor.supervisor import reread, resident_memory
from fcgivisor.values import AUTO, signal_number
from fcgivisor.wire import FAULTS, Fault, Ready, capped, escape, ready_struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.group import Group
    from fcgivisor.model import Settings
    from fcgivisor.process import Process
    from fcgivisor.supervisor import Supervisor


class Deferred:
    """An answer that is not there yet: poll() returns it, raises Fault, or returns NOT_YET. It is asked after every change of a process's state."""

    NOT_YET = object()

    def __init__(self, poll: Callable[[], object]) -> None:
        self.poll = poll


class Interface:
    """The methods, bound to a supervisor. load: reads the configuration files again, or raises ConfigError."""

    def __init__(self, supervisor: Supervisor, load: Callable[[], Settings]) -> None:
        self.supervisor, self._load = supervisor, load

    # The supervisor

    def get_api_version(self) -> str:
        return API_VERSION

    def get_supervisor_version(self) -> str:
        return SUPERVISOR_VERSION

    def get_identification(self) -> str:
        return self.supervisor.settings.identifier

    def get_state(self) -> dict:
        mood = self.supervisor.mood
        return {"statecode": mood, "statename": states.SUPERVISOR_NAMES[mood]}

    def get_pid(self) -> int:
        return os.getpid()

    def read_log(self, offset: int, length: int) -> str:
        return logread.read(self.supervisor.log.path, offset, length)

    def clear_log(self) -> bool:
        log = self.supervisor.log
        if log.path is None or not os.path.exists(log.path):
            raise Fault("NO_FILE")
        try:
            for sink in log.sinks:
                sink.clear()
        except OSError:
            raise Fault("FAILED") from None
        return True

    def shutdown(self) -> bool:
        self.supervisor.loop.soon(lambda: self.supervisor.shut_down(SupervisorState.SHUTDOWN))
        return True

    def restart(self) -> bool:
        self.supervisor.loop.soon(lambda: self.supervisor.shut_down(SupervisorState.RESTARTING))
        return True

    def reload_config(self) -> list:
        added, changed, removed = reread(self.supervisor, self._settings())
        return [[added, changed, removed]]

    def _settings(self) -> Settings:
        try:
            return self._load()
        except ConfigError as error:
            raise Fault("CANT_REREAD", error) from None

    # Groups

    def add_process_group(self, name: str) -> bool:
        group = self.supervisor.settings.groups.get(name)
        if group is None:
            raise Fault("BAD_NAME", name)
        try:
            added = self.supervisor.add_group(group)
        except SocketError as error:
            self.supervisor.remove_group(name)
            raise Fault("FAILED", f"Could not create FastCGI socket {error}") from None
        if not added:
            raise Fault("ALREADY_ADDED", name)
        return True

    def remove_process_group(self, name: str) -> bool:
        self._group(name)
        if not self.supervisor.remove_group(name):
            raise Fault("STILL_RUNNING", name)
        return True

    def _group(self, name: str) -> Group:
        try:
            return self.supervisor.groups[name]
        except KeyError:
            raise Fault("BAD_NAME", name) from None

    def _named(self, name: str) -> tuple[Group, Process | None]:
        """Of group:process, group:*, or a name that is both."""
        group_name, colon, process_name = name.partition(":")
        group = self.supervisor.groups.get(group_name)
        if group is None:
            raise Fault("BAD_NAME", name)
        if colon and process_name in ("", "*"):
            return group, None
        process = group.processes.get(process_name if colon else group_name)
        if process is None:
            raise Fault("BAD_NAME", name)
        return group, process

    def _process(self, name: str) -> Process:
        process = self._named(name)[1]
        if process is None:
            raise Fault("BAD_NAME", name)
        return process

    # Starting, stopping, signals

    def start_process(self, name: str, wait: bool = True) -> object:
        group, process = self._named(name)
        if process is None:
            return self.start_process_group(group.config.name, wait)
        return self._start(process, name, wait)

    def start_process_group(self, name: str, wait: bool = True) -> object:
        return self._all(_by_priority(self._group(name)), _is_not_running, lambda process, name: self._start(process, name, wait))

    def start_all_processes(self, wait: bool = True) -> object:
        return self._all(self.supervisor.by_priority(), _is_not_running, lambda process, name: self._start(process, name, wait))

    def _start(self, process: Process, name: str, wait: bool) -> object:
        try:
            search = process.config.environment.get("PATH", os.environ.get("PATH", os.defpath))
            spawn.find(spawn.words(process.config.command)[0], search)
        except SpawnError as error:
            raise Fault(error.fault, error) from None
        if process.state in states.RUNNING_STATES:
            raise Fault("ALREADY_STARTED", name)
        if process.state == states.UNKNOWN:
            raise Fault("FAILED", f"{name} is in an unknown process state")
        process.start()
        if process.spawn_error:
            raise Fault("SPAWN_ERROR", name)
        return Deferred(lambda: _started(process, name)) if wait and process.state != states.RUNNING else True

    def stop_process(self, name: str, wait: bool = True) -> object:
        group, process = self._named(name)
        if process is None:
            return self.stop_process_group(group.config.name, wait)
        return self._stop(process, name, wait)

    def stop_process_group(self, name: str, wait: bool = True) -> object:
        return self._all(_by_priority(self._group(name)), _is_running, lambda process, name: self._stop(process, name, wait))

    def stop_all_processes(self, wait: bool = True) -> object:
        return self._all(self.supervisor.by_priority(), _is_running, lambda process, name: self._stop(process, name, wait))

    @staticmethod
    def _stop(process: Process, name: str, wait: bool) -> object:
        if process.state not in states.RUNNING_STATES:
            raise Fault("NOT_RUNNING", name)
        process.stop()
        if process.state == states.UNKNOWN:
            raise Fault("FAILED", f"{name} cannot be signalled")
        if not wait or process.state in states.STOPPED_STATES:
            return True
        return Deferred(lambda: True if process.state in states.STOPPED_STATES else Deferred.NOT_YET)

    def signal_process(self, name: str, signal: str) -> object:
        group, process = self._named(name)
        if process is None:
            return self.signal_process_group(group.config.name, signal)
        return self._signal(process, name, signal)

    def signal_process_group(self, name: str, signal: str) -> object:
        return self._all(_by_priority(self._group(name)), _is_signallable, lambda process, name: self._signal(process, name, signal))

    def signal_all_processes(self, signal: str) -> object:
        return self._all(self.supervisor.by_priority(), _is_signallable, lambda process, name: self._signal(process, name, signal))

    @staticmethod
    def _signal(process: Process, name: str, signal: str) -> bool:
        try:
            number = signal_number(signal)
        except ValueError:
            raise Fault("BAD_SIGNAL", signal) from None
        if not _is_signallable(process):
            raise Fault("NOT_RUNNING", name)
        problem = process.signal(number)
        if problem is not None:
            raise Fault("FAILED", problem)
        return True

    def _all(self, processes: list[Process], chosen: Callable[[Process], bool], call: Callable[[Process, str], object]) -> object:
        """Call for each process; the answer lists what came of it, those that had to be waited for last."""
        results: list[dict] = []
        pending: list[tuple[Process, Deferred]] = []
        for process in filter(chosen, processes):
            try:
                value = call(process, process.full_name)
            except Fault as fault:
                results.append(_result(process, fault))
            else:
                if isinstance(value, Deferred):
                    pending.append((process, value))
                else:
                    results.append(_result(process, None))

        def poll() -> object:
            for item in pending[:]:
                process, deferred = item
                try:
                    if deferred.poll() is Deferred.NOT_YET:
                        continue
                    results.append(_result(process, None))
                except Fault as fault:
                    results.append(_result(process, fault))
                pending.remove(item)
            return Deferred.NOT_YET if pending else results

        return Deferred(poll) if pending else results

    # What there is to know

    def get_process_info(self, name: str) -> dict:
        return process_info(self._process(name), int(time.time()), now())

    def get_all_process_info(self) -> list:
        wall, moment = capped(int(time.time())), now()
        return [Ready(_INFO_STRUCT % _info(process, wall, moment, escape)) for process in self.supervisor.processes()]

    def get_all_config_info(self) -> list:
        found = []
        for group in self.supervisor.settings.groups.values():
            in_use = group.name in self.supervisor.groups
            for process in group.processes.values():
                info = {name: getattr(process, name) for name in _CONFIG_INFO}
                held = self.supervisor.groups[group.name].processes.get(process.name) if in_use else None
                if held is not None and held.config is process:  # AUTO logs have their names by now
                    info.update({f"{channel}_logfile": held.logfile(channel) for channel in ("stdout", "stderr")})
                info.update(group=group.name, group_prio=group.priority, inuse=in_use, name=process.name, process_prio=process.priority, uid=process.uid)
                info["autorestart"] = process.autorestart
                found.append({name: "none" if value is None else "auto" if value is AUTO else value for name, value in info.items()})
        return sorted(found, key=lambda info: info["name"])

    def read_process_stdout_log(self, name: str, offset: int, length: int) -> str:
        return logread.read(self._process(name).logfile("stdout"), offset, length)

    def read_process_stderr_log(self, name: str, offset: int, length: int) -> str:
        return logread.read(self._process(name).logfile("stderr"), offset, length)

    def tail_process_stdout_log(self, name: str, offset: int, length: int) -> list:
        return logread.tail(self._process(name).logfile("stdout"), offset, length)

    def tail_process_stderr_log(self, name: str, offset: int, length: int) -> list:
        return logread.tail(self._process(name).logfile("stderr"), offset, length)

    def clear_process_logs(self, name: str) -> bool:
        return self._clear(self._process(name), name)

    def clear_all_process_logs(self) -> object:
        return self._all(self.supervisor.by_priority(), lambda process: True, self._clear)

    @staticmethod
    def _clear(process: Process, name: str) -> bool:
        try:
            process.clear_logs()
        except OSError:
            raise Fault("FAILED", name) from None
        return True

    # Talking to processes

    def send_process_stdin(self, name: str, chars: str) -> bool:
        process = self._process(name)
        if not process.pid or process.state == states.STOPPING:
            raise Fault("NOT_RUNNING", name)
        if not process.write_stdin(chars.encode("utf-8", "surrogateescape")):
            raise Fault("NO_FILE", name)
        return True

    def send_remote_comm_event(self, kind: str, data: str) -> bool:
        self.supervisor.bus.notify(events.remote_communication(kind, data))
        return True

    # Ours

    def get_version(self) -> str:
        return VERSION

    def get_status(self) -> list:
        """All that is known of every process, more than supervisord's interface has room for."""
        moment = now()
        return [status(process, moment) for process in self.supervisor.processes()]

    def update(self, names: list | None = None, dry_run: bool = False, wait: bool = True) -> object:
        """Make what runs what the files say, process by process. Returns the steps, each with the keys that differ."""
        settings = self._settings()
        for name in names or ():
            if name not in settings.groups and name not in self.supervisor.groups:
                raise Fault("BAD_NAME", name)
        steps = update.plan(self.supervisor, settings, names or ())
        told = [{"action": step.action, "group": step.group, "process": step.process, "keys": step.keys} for step in steps]
        if dry_run:
            return told
        reread(self.supervisor, settings)
        running = update.Update(self.supervisor, settings, steps)

        def poll() -> object:
            if running.failed:
                raise Fault("FAILED", "; ".join(running.failed))
            return told if running.done() or not wait else Deferred.NOT_YET

        return Deferred(poll) if poll() is Deferred.NOT_YET else told


_CONFIG_INFO = (
    "autostart", "directory", "command", "exitcodes", "killasgroup", "redirect_stderr", "startretries", "startsecs", "stopsignal", "stopwaitsecs",
    "serverurl",
    *(f"{channel}_{name}" for channel in ("stdout", "stderr") for name in (
        "capture_maxbytes", "events_enabled", "logfile", "logfile_backups", "logfile_maxbytes", "syslog",
    )),
)  # fmt: skip


def _result(process: Process, fault: Fault | None) -> dict:
    """Of one process in an answer about many."""
    code, words = (fault.code, fault.text) if fault else (FAULTS["SUCCESS"], "OK")
    return {"name": process.config.name, "group": process.group.config.name, "status": code, "description": words}


def _started(process: Process, name: str) -> object:
    if process.spawn_error:
        raise Fault("SPAWN_ERROR", name)
    if process.state == states.RUNNING:
        return True
    if process.state != states.STARTING:
        raise Fault("ABNORMAL_TERMINATION", name)
    return Deferred.NOT_YET


def _by_priority(group: Group) -> list[Process]:
    return sorted(group.processes.values(), key=lambda process: process.config.priority)


def _is_running(process: Process) -> bool:
    return process.state in states.RUNNING_STATES


def _is_not_running(process: Process) -> bool:
    return process.state not in states.RUNNING_STATES


def _is_signallable(process: Process) -> bool:
    return process.state in states.SIGNALLABLE_STATES


def process_info(process: Process, wall: int, moment: float) -> dict:
    """supervisord's answer about a process. wall, moment: the time, since the epoch and on the monotonic clock."""
    return dict(zip(_INFO_MEMBERS, _info(process, capped(wall), moment, str)))


_INFO_MEMBERS = (
    "name", "group", "start", "stop", "now", "state", "statename", "spawnerr", "exitstatus", "logfile", "stdout_logfile", "stderr_logfile", "pid",
    "description",
)  # fmt: skip
_INFO_STRUCT = ready_struct(_INFO_MEMBERS, "ssiiiississsis")


def _info(process: Process, wall: int, moment: float, text: Callable[[str], str]) -> tuple:
    """The values of process_info(). text: what becomes of each string. A status of a thousand processes is little else than this."""
    state, stdout = process.state, text(process.logfile("stdout") or "")
    return (
        text(process.config.name),
        text(process.group.config.name),
        capped(int(process.last_start)),
        capped(int(process.last_stop)),
        wall,
        state,
        states.NAMES[state],
        text(process.spawn_error),
        process.exit_status or 0,
        stdout,
        stdout,
        text(process.logfile("stderr") or ""),
        process.pid,
        text(_description(process, moment)),
    )


def _description(process: Process, moment: float) -> str:
    state = process.state
    if state == states.RUNNING:
        return f"pid {process.pid}, uptime {duration(moment - process.started)}"
    if state in (states.FATAL, states.BACKOFF):
        return process.spawn_error or f'unknown error (try "tail {process.config.name}")'
    if state in (states.STOPPED, states.EXITED):
        return time.strftime("%b %d %I:%M %p", time.localtime(process.last_stop)) if process.last_start else "Not started"
    return ""


def duration(seconds: float) -> str:
    """H:MM:SS, with days before it, as Python prints a timedelta."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    before = f"{days} day{'s' if days != 1 else ''}, " if days else ""
    return f"{before}{hour}:{minute:02d}:{second:02d}"


def status(process: Process, moment: float) -> dict:
    """All about a process, for our own clients. Seconds are seconds; what is not known is None."""
    config, watch = process.config, process.watch
    return {
        "name": process.full_name,
        "group": process.group.config.name,
        "program": config.program,
        "state": states.NAMES[process.state],
        "pid": process.pid or None,
        "uptime": round(moment - process.started, 3) if process.pid else None,
        "restarts": max(process.restarts, 0),
        "tries": process.tries,
        "exit_status": process.exit_status,
        "spawn_error": process.spawn_error or None,
        "socket": config.socket.url if config.socket else None,
        "memory": resident_memory(process.pid) if process.pid else None,
        "heartbeat_age": round(moment - watch.last, 3) if watch and watch.last else None,
        "stdout_logfile": process.logfile("stdout"),
        "stderr_logfile": process.logfile("stderr"),
        "description": _description(process, moment),
    }


def status_json(supervisor: Supervisor) -> bytes:
    import json  # where it is asked for

    moment = now()
    told = {"version": VERSION, "pid": os.getpid(), "state": states.SUPERVISOR_NAMES[supervisor.mood]}
    return json.dumps({**told, "processes": [status(process, moment) for process in supervisor.processes()]}).encode()
