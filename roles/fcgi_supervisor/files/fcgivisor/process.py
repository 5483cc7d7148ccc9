# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process through its lives. What happens when is the table in states.py; here is what the actions do."""

from __future__ import annotations

import errno
import os
import signal
import time

from fcgivisor import birth, events, policy, remains, spawn, states
from fcgivisor.heartbeat import Watch
from fcgivisor.loop import now
from fcgivisor.model import LISTENER
from fcgivisor.pipes import Pipes
from fcgivisor.sockets import SocketError
from fcgivisor.spawn import SpawnError
from fcgivisor.values import RESTART_ALWAYS, RESTART_NEVER, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.group import Group
    from fcgivisor.listeners import Conversation
    from fcgivisor.loop import Timer
    from fcgivisor.model import ProcessConfig
    from fcgivisor.supervisor import Supervisor

# Seconds: a program whose startsecs is 0 and that ends at once is not started more often than this.
SHORTEST_CYCLE = 1.0
TOO_QUICK = "Exited too quickly (process log may have details)"


class Process:
    """A slot that the configuration declares, with or without a process in it.

    pid: 0 where there is none. state: of states. tries: failed starts in a row. last_start, last_stop: seconds since the epoch, 0 for never;
    started: the same on the monotonic clock. exit_status: -1 for a signal. restarts: starts after the first one. leaving: an update stops it
    and forgets it then.
    """

    __slots__ = (
        "_auto_logs", "_conversation", "_life_timer", "_lived", "_pipes", "_remains", "_step", "_timer", "_waiting",
        "config", "exit_status", "group", "last_start", "last_stop", "leaving", "pid", "recycling", "restarts", "spawn_error", "start_again", "started",
        "state", "supervisor", "tries", "watch",
    )  # fmt: skip

    def __init__(self, supervisor: Supervisor, group: Group, config: ProcessConfig) -> None:
        self.supervisor, self.group, self.config = supervisor, group, config
        self.state, self.pid, self.tries = states.STOPPED, 0, 0
        self.last_start = self.last_stop = self.started = 0.0
        self.exit_status: int | None = None
        self.spawn_error = ""
        self.restarts = -1
        self.watch: Watch | None = None
        self.recycling = self.start_again = self.leaving = self._waiting = False
        self._pipes = Pipes(self)
        self._auto_logs: dict[str, str] = {}
        self._conversation: Conversation | None = None
        self._timer: Timer | None = None  # of the state: startsecs, a restart, a step of the stop sequence
        self._life_timer: Timer | None = None
        self._lived = 0.0  # seconds, of the life that ended last
        self._remains: remains.Remains | None = None
        self._step = 0

    def __repr__(self) -> str:
        return f"<Process {self.full_name} {states.NAMES[self.state]}>"

    @property
    def full_name(self) -> str:
        """As clients write it: group:name, or the name where both are the same."""
        name, group = self.config.name, self.group.config.name
        return name if name == group else f"{group}:{name}"

    # Orders

    def start(self) -> None:
        """Start it, unless there is a process already. What comes of it is in the state."""
        if self.pid:
            self.supervisor.log.warn(f"process '{self.config.name}' already running")
        else:
            self._forget_timer()
            if self._remains is not None:  # whoever orders a start waits for nobody
                self._remains.kill()
            self.handle("start")

    def stop(self) -> None:
        """Begin to stop it, or give up a restart that waits."""
        self.start_again = False
        if self.state in (states.STARTING, states.RUNNING, states.BACKOFF):
            self.handle("stop")

    def restart(self) -> None:
        """Stop it, and start it when it is dead."""
        if self.state in (states.STARTING, states.RUNNING):
            self.handle("stop")
        if self.state == states.STOPPING:
            self.start_again = True
        elif self.state == states.BACKOFF:
            self.start()

    def give_up(self) -> None:
        if self.state == states.BACKOFF:
            self.handle("give_up")

    def signal(self, number: int) -> str | None:
        """Send a signal. Returns what is wrong, in words."""
        self.supervisor.launches.launch()
        if not self.pid:
            return f"attempted to send {self.config.name} sig {signal_name(number)} but it wasn't running"
        self.supervisor.log.debug(f"sending {self.config.name} (pid {self.pid}) sig {signal_name(number)}")
        return self._kill(self.pid, number)

    def write_stdin(self, data: bytes) -> bool:
        """Send this to its stdin. Returns whether that can be: it runs, and has a pipe there that it has not closed."""
        return bool(self.pid) and self.state != states.STOPPING and self._pipes.write_stdin(data)

    def configure(self, config: ProcessConfig) -> None:
        """Take on a configuration that needs no restart, or has one coming."""
        changed = self.config.differences(config)
        self.config = config
        if "heartbeat_tolerance" in changed and self.watch is not None:
            self.watch.tolerance = config.heartbeat_tolerance
        if "max_lifetime" in changed and self.state == states.RUNNING:
            self._limit_life()
        if any(name.startswith(("stdout_", "stderr_", "log_format")) for name in changed):
            self._make_auto_logs()
            for channel in self._pipes.channels:
                channel.configure()

    # What happens to it

    def handle(self, event: str, expected: bool = True) -> None:
        """One step through the table."""
        before = self.state
        self.state, action = states.TABLE[before, event]
        if self.state == states.BACKOFF and event != "wait":
            self.tries += 1
        name = f"PROCESS_STATE_{states.NAMES[self.state]}"
        if before != self.state and self.supervisor.bus.wants(name):
            self.supervisor.bus.notify(events.process_state(self, before, self.state, expected))
        if event in ("died", "died_early"):
            self._release()
        self.supervisor.changed()
        getattr(self, f"_{action}")()

    def died(self, status: int) -> None:
        """The kernel says that it is dead (wait status of waitpid(2))."""
        self._pipes.finish()
        code, words = decode_status(status)
        self.last_stop = time.time()
        self._lived, pid = now() - self.started, self.pid
        self._forget_timer()
        log, name = self.supervisor.log, self.config.name
        expected = code in self.config.exitcodes
        if self.state in (states.STOPPING, states.UNKNOWN):
            self.exit_status = code
            (log.info if expected else log.warn)(f"stopped: {name} ({words})")
            self.handle("died")
            return
        if self.state == states.STARTING:
            self.exit_status = None
            self.spawn_error = self.spawn_error or TOO_QUICK
            log.warn(f"exited: {name} ({words}; not expected)")
            self._count_failure(code)
            self._find_remains(pid)
            self.handle("died_early")
            return
        self.exit_status = code
        if not expected:
            self.spawn_error = f"Bad exit code {code}"
        (log.info if expected else log.warn)(f"exited: {name} ({words}; {'expected' if expected else 'not expected'})")
        self._count_failure(code)
        self._find_remains(pid)
        self.handle("died", expected)

    def ready(self) -> None:
        """It said READY=1."""
        if self.state == states.STARTING and self.config.ready == "notify":
            self._forget_timer()
            self.handle("alive")

    def beat(self) -> None:
        """A sign of life."""
        if self.watch is not None:
            self.watch.beat()

    # Actions of the table

    def _spawn(self) -> None:
        self.exit_status, self.spawn_error = None, ""
        self.last_start, self.started, self._lived = time.time(), now(), 0.0
        self.start_again = False
        self.restarts += 1
        try:
            order = self._order()
        except SpawnError as error:
            self._pipes.close_child_ends()
            self._unspawnable(error)
        else:
            self.supervisor.launches.add(order, self._launched)

    def _launched(self, pid: int, error: SpawnError | None) -> None:
        """It has been started, or could not be."""
        self._pipes.close_child_ends()
        if error is not None:
            self._unspawnable(error)
            return
        config = self.config
        self.pid, self.started = pid, now()
        self.supervisor.by_pid[pid] = self
        if config.heartbeat:
            self.watch = Watch(self.supervisor.loop, self, config.heartbeat_tolerance, config.heartbeat_required, self._silent)
        if config.kind == LISTENER and self.group.pool is not None:
            self._conversation = self.group.pool.begin(self)
            self._pipes.channels[0].tap = self._conversation.hear
        self.supervisor.log.info(f"spawned: '{self.config.name}' with pid {self.pid}")
        if config.ready == "notify":
            self._timer = self.supervisor.loop.after(config.ready_timeout, self._not_ready)
        elif config.startsecs <= 0:
            self.handle("alive")
        else:
            self._timer = self.supervisor.loop.at(self.started + config.startsecs, self._startsecs_over)

    def _unspawnable(self, error: SpawnError) -> None:
        for channel in self._pipes.channels[-1:]:
            channel.write(f"supervisor: {error}\nsupervisor: child process was not spawned\n".encode())
        self._pipes.close()
        self.spawn_error = str(error)
        self.supervisor.log.info(f"spawnerr: {error}")
        self._count_failure(spawn.NOT_SPAWNED)
        self.handle("unspawnable")

    def _startsecs_over(self) -> None:
        """It is alive, unless it has died and that is still to be told."""
        self._timer = None
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            self.handle("alive")

    def _settle(self) -> None:
        self._forget_timer()
        self.tries = 0
        self.recycling = False
        how = (
            "it said that it is ready (READY=1)"
            if self.config.ready == "notify"
            else f"process has stayed up for > than {self.config.startsecs} seconds (startsecs)"
        )
        self.supervisor.log.info(f"success: {self.config.name} entered RUNNING state, {how}")
        self._limit_life()
        self.group.settled(self)

    def _limit_life(self) -> None:
        if self._life_timer is not None:
            self._life_timer.cancel()
        if self.config.max_lifetime:
            # Spread, so that processes that were started together do not all end together.
            lifetime = self.config.max_lifetime * (1 - policy.JITTER * policy.random_fraction())
            self._life_timer = self.supervisor.loop.at(self.started + lifetime, lambda: self.recycle(f"it has lived for {lifetime:.0f} s (max_lifetime)"))

    def _retry(self) -> None:
        """A start has failed."""
        config = self.config
        if self.supervisor.stopping:
            self.handle("give_up")
        elif config.policy is not None:
            self._wait_as_fastcgi()
        elif self.tries > config.startretries:
            self.handle("give_up")
            self.supervisor.log.info(f"gave up: {config.name} entered FATAL state, too many start retries too quickly")
        else:
            self._start_after(policy.backoff_delay(self.tries, config.backoff == "exponential", config.backoff_max))

    def _respawn(self) -> None:
        """It has died by itself, after it had lived."""
        config = self.config
        self.tries = 0
        wanted = config.autorestart == RESTART_ALWAYS or (config.autorestart != RESTART_NEVER and self.exit_status not in config.exitcodes)
        if self.supervisor.stopping or not wanted:
            self.recycling = False
        elif config.policy is not None:
            self._wait_as_fastcgi()
        else:
            self._start_after(max(0.0, self.started + SHORTEST_CYCLE - now()) if config.startsecs <= 0 else 0.0)

    def _begin_stop(self) -> None:
        self._step = 0
        self._send_stop()

    def _continue_stop(self) -> None:
        self._step = min(self._step + 1, len(self._stop_sequence()) - 1)
        self.supervisor.log.warn(f"killing '{self.config.name}' ({self.pid}) with {signal_name(self._stop_sequence()[self._step][0])}")
        self._send_stop()

    def _rest(self) -> None:
        self._forget_timer()
        self.tries = 0
        if self.start_again and not self.supervisor.stopping:
            self.start()
        else:
            self.recycling = False

    def _await_restart(self) -> None:
        pass  # _start_after has set the timer

    # How they do it

    def _order(self) -> spawn.Order:
        """What the kernel is to be asked for; the pipes are open then. Raises SpawnError."""
        config = self.config
        words = spawn.words(config.command)
        try:
            environment = birth.environment(self)
            file = spawn.find(words[0], environment.get("PATH", os.defpath))
            socket = self._socket() if config.socket else None
            self._pipes.open(environment)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise SpawnError(f"too many open files to spawn '{config.name}'") from None
            raise SpawnError(f"'{config.name}' cannot be started: {error.strerror or error}") from None
        streams = self._pipes.streams
        return spawn.Order(
            file=file, argv=list(words), env=environment, stdin=self._pipes.stdin if socket is None else socket, stdout=streams[0],
            stderr=streams[-1], passed=self._pipes.passed, identity=birth.identity(config), directory=config.directory, umask=config.umask,
            limits=birth.limits(config),
        )  # fmt: skip

    def _socket(self) -> int:
        try:
            held = self.group.open_socket(self.config)
            return held.fileno()
        except SocketError as error:
            raise SpawnError(f"could not create its socket: {error}") from None

    def _start_after(self, seconds: float, final: bool = True) -> None:
        """Start it in so many seconds, and not before what the dead one left behind is gone. final: else only look again then."""
        if self.state == states.EXITED:
            if seconds <= 0 and self._remains is None:
                self.handle("start")
                return
            self.handle("wait")
        self._waiting = True
        self._timer = self.supervisor.loop.after(seconds, self._time_is_up if final else self._wait_as_fastcgi)

    def _time_is_up(self) -> None:
        self._timer = None
        if self._remains is None:
            self._forget_timer()
            self.handle("start")

    def _wait_as_fastcgi(self) -> None:
        config, history = self.config, self.group.history(self.config.program)
        assert config.policy is not None
        starts = [sibling.started for sibling in self.group.siblings(self) if sibling.state == states.RUNNING]
        decision = policy.fastcgi_restart(config.policy, history.failures, self.started, self._lived, starts, now())
        if decision.failures > config.policy.max_failed_starts and history.failures > config.policy.max_failed_starts:
            self.spawn_error = self.spawn_error or "failed too often"
        history.failures = min(history.failures, decision.failures)
        self._start_after(decision.wait, decision.final)

    def _count_failure(self, code: int) -> None:
        """For mod_fastcgi's policy: every death counts, but a clean one."""
        if self.config.policy is not None and code != 0:
            self.group.history(self.config.program).failures += 1

    def _find_remains(self, pid: int) -> None:
        if remains.exist(pid):
            self._remains = remains.Remains(self.supervisor.loop, pid, self.config.stopwaitsecs, self._remains_gone)
            self.supervisor.log.warn(f"{self.config.name}: it is dead, but left processes behind, which are stopped first: {self._remains.pids}")

    def _remains_gone(self, gone: remains.Remains) -> None:
        if gone is not self._remains:
            return
        self._remains = None
        if self.state == states.BACKOFF and self._waiting and self._timer is None:
            self.handle("start")

    def _not_ready(self) -> None:
        self._timer = None
        self.spawn_error = f"not ready within {self.config.ready_timeout:g} s (ready_timeout)"
        self.supervisor.log.warn(f"{self.config.name}: {self.spawn_error}; it is killed")
        self.signal(signal.SIGKILL)

    def _silent(self, seconds: float) -> None:
        self.supervisor.log.warn(
            f"{self.config.name} ({self.pid}) has sent no heartbeat for {seconds:.1f} s: it is sent SIGABRT, and SIGKILL if that does not end it"
        )

    def recycle(self, why: str) -> None:
        """Replace it by a new one, when no other process of its program is being replaced."""
        self.supervisor.log.info(f"{self.config.name} is replaced: {why}")
        self.group.recycle(self)

    def _stop_sequence(self) -> tuple[tuple[int, float], ...]:
        config = self.config
        return config.stop_sequence or ((config.stopsignal, config.stopwaitsecs), (signal.SIGKILL, config.stopwaitsecs))

    def _send_stop(self) -> None:
        self.supervisor.launches.launch()
        number, wait = self._stop_sequence()[self._step]
        as_group = self.config.killasgroup if number == signal.SIGKILL else self.config.stopasgroup
        self._forget_timer()
        self.supervisor.log.debug(f"killing {self.config.name} (pid {self.pid}) {'process group ' if as_group else ''}with signal {signal_name(number)}")
        self._timer = self.supervisor.loop.after(max(wait, 0.01), lambda: self.handle("overdue"))
        if self._kill(-self.pid if as_group else self.pid, number) is not None and self.state == states.STOPPING:
            self.handle("lost")

    def _kill(self, target: int, number: int) -> str | None:
        try:
            os.kill(target, number)
        except ProcessLookupError:
            return None  # it has just died; that is told soon
        except OSError as error:
            text = f"{self.config.name} (pid {self.pid}) cannot be sent {signal_name(number)}: {error.strerror}"
            self.supervisor.log.critical(text)
            return text
        return None

    def _release(self) -> None:
        """Nobody is in the slot any more."""
        self.supervisor.by_pid.pop(self.pid, None)
        self.pid = 0
        if self.watch is not None:
            self.watch.stop()
            self.watch = None
        if self._conversation is not None:
            self._conversation.end()
            self._conversation = None
        if self._life_timer is not None:
            self._life_timer.cancel()
        self._pipes.close()

    def _forget_timer(self) -> None:
        self._waiting = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Logs

    def prepare(self) -> None:
        """It belongs to the supervisor now: AUTO logs get their names."""
        self._make_auto_logs()

    def logfile(self, channel: str) -> str | None:
        """The path of a channel's log, None where there is none."""
        return self._auto_logs.get(channel) or getattr(self.config, f"{channel}_logfile")

    def reopen_logs(self) -> None:
        for channel in self._pipes.channels:
            channel.reopen()

    def clear_logs(self) -> None:
        """Raises OSError."""
        for channel in self._pipes.channels:
            channel.clear()

    def close(self) -> None:
        """It leaves the supervisor."""
        self._pipes.forget()

    def _make_auto_logs(self) -> None:
        self._auto_logs = self.supervisor.auto_logs(self.config, self._auto_logs)


def decode_status(status: int) -> tuple[int, str]:
    """Of a wait status, the exit code (-1 for a signal) and supervisord's words (options.py, decode_wait_status)."""
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        return code, f"exit status {code}"
    words = f"terminated by {signal_name(os.WTERMSIG(status))}"
    return -1, words + (" (core dumped)" if os.WCOREDUMP(status) else "")
