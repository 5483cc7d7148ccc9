# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only room that starts processes. No shell, no descriptor but 0, 1, 2 and those asked for, privileges dropped in the right order and verified.

Where a process needs no user, directory, umask or limit of its own, posix_spawn serves: it costs the same however large we are. The rest is fork.
"""

from __future__ import annotations

import _signal  # what signal wraps: its wrappers turn every number into an enum and back, which costs a child of fork half of its time
import functools
import os
import pwd
import resource
import shlex
import signal
import stat
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What the kernel is asked for. stdin, stdout, stderr: our descriptors. passed: those that it keeps under their own numbers.
# identity: Identity or None. directory: str or None. umask: int or None. limits: (resource, (soft, hard)) pairs.
Order = namedtuple("Order", "file argv env stdin stdout stderr passed identity directory umask limits")
Identity = namedtuple("Identity", "uid gid groups")

# Python ignores these, and what is ignored stays so across exec; all others are caught by us or at their default.
_IGNORED_BY_PYTHON = (int(signal.SIGPIPE), int(signal.SIGXFSZ))
# Those that have a handler of ours (daemon.py, supervisor.py).
_CAUGHT = tuple(
    map(int, (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGIO)),
)
_CAUGHT_AND_IGNORED = _CAUGHT + _IGNORED_BY_PYTHON
_DEFAULT = int(signal.SIG_DFL)
# The exit code of a child that did not become the program (supervisor/process.py).
NOT_SPAWNED = 127
# Processes that are forked in a row at most: each has its pipes open until then, and waits for those before it.
_ROW = 32


# (soft, hard) of RLIMIT_NOFILE for children, where it is not our own: we need many descriptors, but a program that uses select(2) breaks on numbers above 1023.
_worker_limits: dict[str, tuple[int, int] | None] = {"nofile": None}


def set_nofile(limit: tuple[int, int] | None) -> None:
    """What children get as RLIMIT_NOFILE, None for ours."""
    _worker_limits["nofile"] = limit


class SpawnError(Exception):
    """A program that cannot be started; the text is supervisord's where it has one. fault: name of the RPC fault, empty for none of its own."""

    def __init__(self, text: str, fault: str = "") -> None:
        super().__init__(text)
        self.fault = fault


@functools.lru_cache(maxsize=512)
def words(command: str) -> tuple[str, ...]:
    """The words of a command line. Raises SpawnError."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise SpawnError(f"can't parse command {command!r}: {error}", "NOT_EXECUTABLE") from None
    if not found:
        raise SpawnError("command is empty", "NOT_EXECUTABLE")
    return tuple(found)


def find(program: str, search: str) -> str:
    """The file of a program, as supervisord finds it (options.py, check_execv_args). search: a PATH. Raises SpawnError."""
    candidates = [program] if "/" in program else [os.path.join(directory, program) for directory in search.split(os.pathsep)]
    for file in candidates:
        try:
            status = os.stat(file)
        except (OSError, ValueError):
            continue
        if stat.S_ISDIR(status.st_mode):
            raise SpawnError(f"command at {file!r} is a directory", "NOT_EXECUTABLE")
        if not status.st_mode & 0o111:
            raise SpawnError(f"command at {file!r} is not executable", "NOT_EXECUTABLE")
        if not os.access(file, os.X_OK):
            raise SpawnError(f"no permission to run command {file!r}", "NOT_EXECUTABLE")
        return file
    raise SpawnError(f"can't find command {program!r}", "NO_FILE")


@functools.lru_cache(maxsize=512)
def identity(user: str, uid: int, gid: int) -> Identity:
    """Whom to become. Groups are looked up once: where they come over a network, that is slow (Supervisor issue 1391). See forget_identities."""
    return Identity(uid, gid, tuple(sorted(set(os.getgrouplist(user, gid)))))


@functools.lru_cache(maxsize=512)
def home(user: str) -> str:
    """The home directory of a user, looked up once too. Raises KeyError."""
    return pwd.getpwnam(user).pw_dir


def forget_identities() -> None:
    """Look groups and homes up anew: the configuration has been read again."""
    identity.cache_clear()
    home.cache_clear()


def read_environment_file(path: str) -> dict[str, str]:
    """KEY=value lines, as systemd's EnvironmentFile=: # and ; begin a comment line, quotes around a value are taken off. Raises SpawnError."""
    optional = path.startswith("-")
    path = path[1:] if optional else path
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        if optional:
            return {}
        raise SpawnError(f"environment_file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpawnError(f"environment_file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip() or "\0" in line:
            raise SpawnError(f"environment_file {path}: line {number} is not KEY=value")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[key.strip()] = value
    return found


def start(order: Order) -> int:
    """Start a process that leads a process group of its own, and return its ID. Raises SpawnError.

    A child of fork that fails on its way says why on its stderr and exits with NOT_SPAWNED, as supervisord's do.
    """
    if any("\0" in word for word in order.argv):
        raise SpawnError("the command holds a NUL byte, which no argument can have", "NOT_EXECUTABLE")
    needs_fork = order.passed or order.identity or order.limits or order.directory is not None or order.umask is not None
    try:
        return _fork(order) if needs_fork else _posix_spawn(order)
    except BlockingIOError:  # EAGAIN
        raise SpawnError("Too many processes in process table") from None
    except (OSError, ValueError) as error:
        name = os.path.basename(order.file)
        raise SpawnError(f"couldn't exec {name}: {getattr(error, 'strerror', None) or error}") from None


class Launches:
    """Starts of processes; between collect() and launch() several at a time.

    After a fork, every page of ours that is written is copied first, until the child is its program. So what lies between two forks is dear, and where
    hundreds are due they come in a row: that halves the time until all run. All forks of a row are done before the first of them is told.
    """

    def __init__(self) -> None:
        self._collected: list[tuple[Order, Callable[[int, SpawnError | None], None]]] = []
        self._collecting = False

    def add(self, order: Order, launched: Callable[[int, SpawnError | None], None]) -> None:
        """Start a process. launched(pid, None) is called when that is done, or launched(0, error)."""
        self._collected.append((order, launched))
        if not self._collecting or len(self._collected) >= _ROW:
            self._launch()

    def collect(self) -> None:
        self._collecting = True

    def launch(self) -> None:
        """Start what has been collected, and from now on each at once."""
        self._collecting = False
        self._launch()

    def _launch(self) -> None:
        collected, self._collected = self._collected, []
        results: list[tuple[int, SpawnError | None]] = []
        for order, _launched in collected:
            try:
                results.append((start(order), None))
            except SpawnError as error:
                results.append((0, error))
        for (_order, launched), result in zip(collected, results):
            launched(*result)


def _posix_spawn(order: Order) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate((order.stdin, order.stdout, order.stderr))]
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    theirs = _worker_limits["nofile"]
    if theirs is not None:  # a limit holds for new descriptors, and none is opened here
        resource.setrlimit(resource.RLIMIT_NOFILE, theirs)
    try:
        return os.posix_spawn(order.file, order.argv, order.env, file_actions=actions, setpgroup=0, setsigmask=[], setsigdef=_IGNORED_BY_PYTHON)
    finally:
        if theirs is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, ours)


def _fork(order: Order) -> int:
    # Blocked until the child is the program: a stop signal between fork and exec waits for it, and does not go to a handler of ours.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _CAUGHT)
    try:
        pid = os.fork()
        if pid == 0:
            _become(order)
    finally:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _CAUGHT)
    return pid


def _become(order: Order) -> None:
    """In the child: become the program, or exit. Every page that Python touches here is copied first, so it does little, and nothing twice."""
    step: Any = "start"
    file, argv, env, stdin, stdout, stderr, passed, identity, directory, umask, limits = order
    try:
        os.setpgid(0, 0)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        nofile = _worker_limits["nofile"]
        if nofile is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
        for step in limits:
            resource.setrlimit(step[0], step[1])
        step = identity
        if identity is not None:
            drop_privileges(identity)
        step = directory
        if directory is not None:
            os.chdir(directory)
        if umask is not None:
            os.umask(umask)
        step = argv
        # A signal that is pending now is for the program: no handler of ours may take it before exec.
        _signal.set_wakeup_fd(-1)
        for number in _CAUGHT_AND_IGNORED:
            _signal.signal(number, _DEFAULT)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        os.execve(file, argv, env)
    except BaseException as error:
        reason = getattr(error, "strerror", None) or error
        _say(f"supervisor: couldn't {_words_for(step, order)}: {reason}\nsupervisor: child process was not spawned\n")
    finally:
        os._exit(NOT_SPAWNED)


def _words_for(step: Any, order: Order) -> str:
    """What a child was doing, as supervisord says it."""
    if step is order.argv:
        return f"exec {order.argv[0]}"
    if isinstance(step, Identity):
        return f"setuid to {step.uid}"
    if step is order.directory:
        return f"chdir to {step}"
    if isinstance(step, tuple):
        return f"set limit {step[0]} to {step[1]}"
    return str(step)


def _say(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def drop_privileges(wanted: Identity) -> None:
    """Groups first, then the group, then the user: afterwards we may do none of it. Raises OSError."""
    if os.getuid() == wanted.uid:
        return
    os.setgroups(wanted.groups)
    os.setresgid(wanted.gid, wanted.gid, wanted.gid)
    os.setresuid(wanted.uid, wanted.uid, wanted.uid)
    if os.getresuid() != (wanted.uid,) * 3 or os.getresgid() != (wanted.gid,) * 3:
        raise PermissionError("the kernel did not switch users")
