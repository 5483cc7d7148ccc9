# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisord from its command line to its end."""

from __future__ import annotations

import gc
import getopt
import os
import pwd
import resource
import socket
import sys

from fcgivisor import VERSION, config, http_server, logs, spawn
from fcgivisor.http_server import Server
from fcgivisor.ini import ConfigError, search_path
from fcgivisor.loop import Loop
from fcgivisor.mainlog import MainLog
from fcgivisor.methods import Dispatcher
from fcgivisor.rpc import Interface
from fcgivisor.sockets import Sockets
from fcgivisor.states import SupervisorState
from fcgivisor.supervisor import Supervisor
from fcgivisor.values import SYSLOG, byte_size, existing_directory, integer, log_level, octal, path_in_directory
from fcgivisor.web import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.model import Settings

USAGE = """Usage: fcgivisord [options]

  -c, --configuration FILE   its configuration (looked for where supervisord looks, if it is missing)
  -n, --nodaemon             stay in the foreground
  -s, --silent               no log on stdout in the foreground
      --check                say whether the configuration is right, and end
  -v, --version              print the version
  -h, --help                 print this

As in supervisord, these come before what the file says:
  -u, --user USER            become this user
  -m, --umask OCTAL          umask
  -d, --directory DIR        where a daemon runs
  -l, --logfile FILE         its own log, with -y, --logfile_maxbytes BYTES, -z, --logfile_backups N and -e, --loglevel LEVEL
  -j, --pidfile FILE         where its process ID stands
  -i, --identifier NAME      its name
  -q, --childlogdir DIR      the directory of AUTO logs; -k, --nocleanup keeps old ones
  -a, --minfds N             file descriptors that it must be able to open; --minprocs N processes
  -t, --strip_ansi           take escape sequences out of logs
"""

# Of the command line: the setting, and its converter (None for a flag).
_OPTIONS = {
    "user": str,
    "umask": octal,
    "directory": existing_directory,
    "logfile": path_in_directory,
    "logfile_maxbytes": byte_size,
    "logfile_backups": integer,
    "loglevel": log_level,
    "pidfile": path_in_directory,
    "identifier": str,
    "childlogdir": existing_directory,
    "minfds": integer,
    "minprocs": integer,
    "nodaemon": None,
    "silent": None,
    "nocleanup": None,
    "strip_ansi": None,
}
_SHORT = {
    "-c": "configuration", "-n": "nodaemon", "-s": "silent", "-u": "user", "-m": "umask", "-d": "directory", "-l": "logfile", "-y": "logfile_maxbytes",
    "-z": "logfile_backups", "-e": "loglevel", "-j": "pidfile", "-i": "identifier", "-q": "childlogdir", "-k": "nocleanup", "-a": "minfds",
    "-t": "strip_ansi", "-v": "version", "-h": "help", "-?": "help",
}  # fmt: skip


class UsageError(Exception):
    """What is wrong with the command line, or with the machine; it ends the supervisor before it has begun."""


def main(arguments: list[str]) -> int:
    try:
        return run(arguments)
    except ConfigError as error:
        text = str(error)
    except UsageError as error:
        text = str(error)
    sys.stderr.write(f"Error: {text}\nFor help, use fcgivisord -h\n")
    return 2


def run(arguments: list[str]) -> int:
    """Raises UsageError and ConfigError."""
    options = _parse(arguments)
    if "help" in options:
        sys.stdout.write(USAGE)
        return 0
    if "version" in options:
        sys.stdout.write(f"{VERSION}\n")
        return 0
    path = str(options.pop("configuration", None) or _default_configuration())
    check = options.pop("check", False)
    environ = dict(os.environ)

    def load() -> Settings:
        settings = config.load(path, environ)
        for name, value in options.items():
            setattr(settings, name, value)
        return settings

    settings = load()
    if check:
        for warning in settings.warnings:
            sys.stdout.write(f"warning: {warning}\n")
        count = sum(len(group.processes) for group in settings.groups.values())
        sys.stdout.write(f"{path}: {len(settings.groups)} groups, {count} processes; it can be used\n")
        return 0
    return _serve(settings, load)


def _parse(arguments: list[str]) -> dict[str, object]:
    long = ["configuration=", "check", "version", "help", *(name + ("=" if convert else "") for name, convert in _OPTIONS.items())]
    try:
        found, rest = getopt.getopt(arguments, "c:nsu:m:d:l:y:z:e:j:i:q:ka:tvh?", long)
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    if rest:
        raise UsageError(f"positional arguments are not supported: {rest}")
    options: dict[str, object] = {}
    for option, text in found:
        name = _SHORT.get(option, option.lstrip("-"))
        convert = _OPTIONS.get(name)
        try:
            options[name] = convert(text) if convert else text or True  # type: ignore[operator]
        except ValueError as error:
            raise UsageError(f"invalid value for {option} {text!r}: {error}") from None
    return options


def _default_configuration() -> str:
    places = search_path(sys.argv[0])
    for place in places:
        if os.path.exists(place):
            return place
    raise UsageError(f"No config file found at default paths ({', '.join(places)}); use the -c option to specify a config file at a different path")


def _serve(settings: Settings, load) -> int:
    """From one configuration to the next, until a shutdown."""
    _occupy_standard_descriptors()
    _close_on_exec()
    _name_process()
    if settings.umask is not None or not settings.nodaemon:  # supervisord has its default in daemon mode only (options.py, _daemonize)
        os.umask(0o022 if settings.umask is None else settings.umask)
    _raise_limits(settings)
    _become_user(settings)
    log = MainLog(settings.loglevel)
    loop = Loop()
    loop.on_error = lambda error: log.critical(f"unexpected exception: {_where(error)}")
    sockets = Sockets(loop, log)
    first = True
    while True:
        _open_log(log, settings)
        supervisor = Supervisor(settings, loop, log, sockets)
        if not settings.nocleanup:
            supervisor.clear_old_auto_logs()
        servers = _open_servers(settings, loop, log, supervisor, load)
        if first and not settings.nodaemon:
            _daemonize(settings, log, loop)
        _write_pid_file(settings, log)
        supervisor.begin()
        _notify("READY=1")
        gc.collect()
        gc.freeze()  # what is here stays: a fork need not copy it to count references
        loop.run()
        supervisor.end()
        for server in servers:
            server.close()
        first = False
        if supervisor.mood == SupervisorState.SHUTDOWN:
            break
        settings = _reload(settings, load, log)
        log.close()
    _notify("STOPPING=1")
    loop.uncatch()
    sockets.close()
    _unlink(settings.pidfile)
    log.close()
    loop.close()
    return 0


def _reload(settings: Settings, load, log: MainLog) -> Settings:
    """The files anew. Where they are wrong supervisord ends; we go on with what we had, which served until now."""
    try:
        return load()
    except ConfigError as error:
        log.critical(f"the configuration was not read again: {error}")
        return settings


def _where(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def _open_log(log: MainLog, settings: Settings) -> None:
    log.level = settings.loglevel
    path = None if settings.logfile == SYSLOG else os.path.abspath(os.path.expanduser(settings.logfile))
    sink: logs.Sink = logs.Syslog("", log.complain) if path is None else logs.File(path, settings.logfile_maxbytes, settings.logfile_backups, log.complain)
    log.open([sink], path, settings.nodaemon and not settings.silent)
    for warning in settings.warnings:
        log.warn(warning)
    for info in settings.infos:
        log.info(info)
    if os.getuid() == 0 and settings.user is None:
        log.critical(
            "Supervisor is running as root.  Privileges were not dropped because no user is specified in the config file.  "
            "If you intend to run as root, you can set user=root in the config file to avoid this message."
        )


def _open_servers(settings: Settings, loop: Loop, log: MainLog, supervisor: Supervisor, load) -> list[Server]:
    site = Site(supervisor, Dispatcher(Interface(supervisor, load), settings.rpc))
    servers = []
    for server_config in settings.servers:
        place = server_config.file or f"{server_config.host or '*'}:{server_config.port}"
        try:
            servers.append(Server(server_config, loop, log, site.handle))
        except OSError as error:
            for server in servers:
                server.close()
            if error.errno == http_server.errno.EADDRINUSE:
                raise UsageError(
                    f"Another program is already listening on a port that one of our HTTP servers is configured to use ({place}).  "
                    "Shut this program down first before starting supervisord."
                ) from None
            raise UsageError(f"Cannot open an HTTP server: {place}: {error.strerror or error}") from None
        if not server_config.username:
            log.critical(f"Server {server_config.section!r} running without any HTTP authentication checking")
    return servers


def _occupy_standard_descriptors() -> None:
    """A pipe or socket of ours that got number 0, 1 or 2 would be taken for a worker's."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return


def _close_on_exec() -> None:
    """What we inherited is not for the workers."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                pass


def _name_process() -> None:
    """Be called fcgivisord by ps and start-stop-daemon, not python3 (proc(5), /proc/PID/comm)."""
    try:
        with open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write("fcgivisord")
    except OSError:
        pass


def _notify(text: str) -> None:
    """Tell systemd how far we are, if it asks (sd_notify(3), Type=notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError:
        pass


def _raise_limits(settings: Settings) -> None:
    """Have room for minfds and minprocs, and for the pipes of many workers."""
    wanted = ((resource.RLIMIT_NOFILE, settings.minfds, "file descriptors", "minfds"), (resource.RLIMIT_NPROC, settings.minprocs, "processes", "minprocs"))
    for number, least, what, key in wanted:
        soft, hard = resource.getrlimit(number)
        if 0 <= soft < least:
            if 0 <= hard < least:
                try:
                    resource.setrlimit(number, (least, least))
                except (OSError, ValueError):
                    raise UsageError(
                        f"{least} {what} are needed as per {key}, but the environment allows {hard}: raise that limit (LimitNOFILE=, ulimit), or lower {key}"
                    ) from None
            else:
                resource.setrlimit(number, (least, hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        spawn.set_nofile((soft, hard))


def _become_user(settings: Settings) -> None:
    if settings.user is None:
        return
    record = pwd.getpwuid(int(settings.user)) if settings.user.isdigit() else pwd.getpwnam(settings.user)
    if record.pw_uid == os.getuid():
        return
    if os.getuid() != 0:
        raise UsageError("Can't drop privilege as nonroot user")
    spawn.drop_privileges(spawn.identity(record.pw_name, record.pw_uid, record.pw_gid))


def _daemonize(settings: Settings, log: MainLog, loop: Loop) -> None:
    if os.fork():
        os._exit(0)
    log.info("daemonizing the supervisord process")
    os.setsid()
    if settings.directory:
        os.chdir(settings.directory)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)


def _write_pid_file(settings: Settings, log: MainLog) -> None:
    try:
        with open(settings.pidfile, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        log.critical(f"could not write pidfile {settings.pidfile}: {error.strerror}")
    log.info(f"supervisord started with pid {os.getpid()}")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
