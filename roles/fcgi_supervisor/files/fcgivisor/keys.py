# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of keys: what every section may hold, its default, and what a change of it means for a process that runs.

Keys of supervisord are in supervisor/options.py, with the same defaults; those marked "ours" are new, and supervisord ignores them.
"""

from __future__ import annotations

from collections import namedtuple

from fcgivisor import values

# What a changed key asks of a running process: nothing (it is looked up when it is needed), nothing until the next start, or a restart.
LIVE, NEXT_SPAWN, RESTART = "live", "next spawn", "restart"

# name; convert: from text, None for text as it is; default: the value itself, not text; change: LIVE, NEXT_SPAWN or RESTART;
# each: whether it is expanded for each process of its own, with %(process_num)d; about: for the documentation.
Key = namedtuple("Key", "name convert default change each ours about")


def _key(name, convert=None, default=None, change=LIVE, each=False, ours=False, about=""):
    return Key(name, convert, default, change, each, ours, about)


def _ours(name, convert, default, about, change=LIVE, each=False):
    return Key(name, convert, default, change, each, True, about)


LIMITS = ("nofile", "nproc", "core", "as", "data", "stack", "fsize", "cpu", "memlock", "rss")


def _log_keys(channel: str) -> tuple[Key, ...]:
    return (
        _key(f"{channel}_logfile", values.log_file, values.AUTO, each=True, about="A path, AUTO, NONE or syslog."),
        _key(f"{channel}_logfile_maxbytes", values.byte_size, 50 * 1024 * 1024, about="Size at which the file is rotated; 0 is never."),
        _key(f"{channel}_logfile_backups", values.count, 10, about="How many rotated files stay."),
        _key(f"{channel}_capture_maxbytes", values.byte_size, 0, about="Bytes kept of what stands between the capture tokens; 0 captures nothing."),
        _key(f"{channel}_events_enabled", values.boolean, False, about="Whether each piece of output is a PROCESS_LOG event."),
        _key(f"{channel}_syslog", values.boolean, False, about="Whether each line also goes to syslog."),
        _ours(f"{channel}_journald", values.boolean, False, "Whether each line also goes to systemd's journal, under the process's name."),
    )


PROGRAM = (
    _key("command", default=None, change=RESTART, each=True, about="What is run; split into words as a shell does, but no shell runs it."),
    _key("process_name", default="%(program_name)s", change=RESTART, each=True, about="Needs %(process_num)s where numprocs is above 1."),
    _key("numprocs", values.integer, 1, about="How many processes."),
    _key("numprocs_start", values.integer, 0, about="The first process_num."),
    _key("priority", values.integer, 999, about="Lower ones start first and stop last."),
    _key("autostart", values.boolean, True, about="Whether it starts with the supervisor."),
    _key("startsecs", values.integer, 1, about="Seconds that it must live to count as started."),
    _key("startretries", values.integer, 3, about="Failed starts in a row until FATAL, less one."),
    _key("autorestart", values.autorestart, values.RESTART_UNEXPECTED, about="true, false, or unexpected: unless its exit code is in exitcodes."),
    _key("exitcodes", values.exit_codes, [0], about="Exit codes that are expected."),
    _key("stopsignal", values.signal_number, 15, about="The signal that stops it."),
    _key("stopwaitsecs", values.integer, 10, about="Seconds from that signal to SIGKILL."),
    _key("stopasgroup", values.boolean, False, about="Whether stopsignal goes to the whole process group."),
    _key("killasgroup", values.boolean, None, about="Whether SIGKILL goes to the whole process group; as stopasgroup where it is missing."),
    _key("user", default=None, change=RESTART, about="The user that it runs as."),
    _key("redirect_stderr", values.boolean, False, change=RESTART, about="Whether stderr goes where stdout goes."),
    *_log_keys("stdout"),
    *_log_keys("stderr"),
    _key("environment", default="", change=RESTART, each=True, about='KEY="value",KEY2="value2".'),
    _key("directory", default=None, change=RESTART, each=True, about="Where it runs."),
    _key("umask", values.octal, None, change=RESTART, about="Its umask."),
    _key("serverurl", default=None, change=RESTART, about="SUPERVISOR_SERVER_URL in its environment; AUTO is the supervisor's own."),
    _ours(
        "environment_file", None, None, "A file of KEY=value lines, read at each start; with a - before it, it may be missing.", change=NEXT_SPAWN, each=True
    ),
    _ours("log_format", values.one_of("plain", "json"), "plain", "plain, or json: one object a line, with time and process name."),
    _ours(
        "restart_delay",
        values.seconds,
        None,
        "Seconds from a start to the next one (mod_fastcgi -restart-delay). Selects mod_fastcgi's policy; so do the next four.",
    ),
    _ours("start_delay", values.seconds, None, "Seconds between the first starts of a program's processes (-init-start-delay)."),
    _ours("min_server_life", values.seconds, None, "Seconds of life that forgive failures (-min-server-life)."),
    _ours("max_failed_starts", values.count, None, "Failures until the penalty (MAX_FAILED_STARTS)."),
    _ours("failed_start_delay", values.seconds, None, "The penalty in seconds, instead of FATAL (FAILED_STARTS_DELAY)."),
    _ours("backoff", values.one_of("linear", "exponential"), "linear", "How the delay after a failed start grows: 1, 2, 3, … s, or 1, 2, 4, … s with jitter."),
    _ours("backoff_max", values.seconds, 60.0, "The longest exponential delay in seconds."),
    _ours("stop_sequence", values.stop_sequence, None, "SIGNAL:SECONDS …, such as TERM:10 QUIT:5 KILL, instead of stopsignal and stopwaitsecs."),
    _ours("max_lifetime", values.seconds, 0.0, "Seconds after which a process is replaced; one process of a program at a time; 0 is never."),
    _ours("max_memory", values.byte_size, 0, "Resident memory above which a process is replaced, looked at every 10 s; 0 is never."),
    _ours("ready", values.one_of("startsecs", "notify"), "startsecs", "notify: RUNNING when it sends READY=1 to NOTIFY_SOCKET (sd_notify(3)).", change=RESTART),
    _ours("ready_timeout", values.seconds, 60.0, "Seconds in which READY=1 has to come; then it is stopped, and the start has failed."),
    _ours("heartbeat", values.seconds, 0.0, "Seconds between its signs of life: WATCHDOG=1 on NOTIFY_SOCKET, or byte 26 on UWSGI_EMPEROR_FD.", change=RESTART),
    _ours("heartbeat_tolerance", values.seconds, None, "Seconds of silence until SIGABRT; 3 times heartbeat where it is missing, 2 times at least."),
    _ours("heartbeat_required", values.boolean, False, "Whether the first sign of life may not be missing; else watching begins with it."),
    *(_ours(f"rlimit_{name}", values.limit, None, f"RLIMIT_{name.upper()} of getrlimit(2): N, soft:hard or unlimited.", change=NEXT_SPAWN) for name in LIMITS),
)

FCGI = (
    _key("socket", values.socket_url, None, change=RESTART, about="unix:///path or tcp://host:port; the same one in several programs is one socket."),
    _key("socket_backlog", values.backlog, None, about="The queue of listen(2); the kernel's largest where it is missing."),
    _key("socket_owner", values.owner, None, about="user:group or user of the socket's file."),
    _key("socket_mode", values.octal, None, about="The mode of the socket's file, 0700 where it is missing."),
)

LISTENER = (
    _key("events", default="", about="Names of events, separated by commas."),
    _key("buffer_size", values.integer, 10, about="Events that wait for a listener; the oldest is lost when one more comes."),
    _key("result_handler", default="supervisor.dispatchers:default_handler", about="Only supervisord's own is known."),
)

GROUP = (
    _key("programs", values.words, None, about="Names of programs, separated by commas."),
    _key("priority", values.integer, 999, about="Of the group."),
)

SUPERVISORD = (
    _key("logfile", values.path_in_directory, "supervisord.log", about="Its own log; syslog is possible."),
    _key("logfile_maxbytes", values.byte_size, 50 * 1024 * 1024, about="Size at which it is rotated."),
    _key("logfile_backups", values.count, 10, about="How many rotated files stay."),
    _key("loglevel", values.log_level, 20, about="critical, error, warn, info, debug, trace or blather."),
    _key("pidfile", values.path_in_directory, "supervisord.pid", about="Where its process ID stands."),
    _key("umask", values.octal, None, about="Of itself and its children; 022 for a daemon, in the foreground what it was given, where it is missing."),
    _key("nodaemon", values.boolean, False, about="Whether it stays in the foreground."),
    _key("silent", values.boolean, False, about="Whether its log does not go to stdout too."),
    _key("minfds", values.integer, 1024, about="File descriptors that it must be able to open."),
    _key("minprocs", values.integer, 200, about="Processes that must be possible."),
    _key("nocleanup", values.boolean, False, about="Whether old AUTO logs stay at its start."),
    _key("childlogdir", values.existing_directory, None, about="The directory of AUTO logs; TMPDIR or /tmp where it is missing."),
    _key("user", default=None, about="The user that it becomes at its start."),
    _key("directory", values.existing_directory, None, about="Where a daemon runs."),
    _key("strip_ansi", values.boolean, False, about="Whether escape sequences are taken out of logs."),
    _key("environment", default="", about="For it and all children."),
    _key("identifier", default="supervisor", about="Its name."),
    _key("profile_options", default=None, about="Ignored."),
)

INET_SERVER = (
    _key("port", values.host_and_port, None, about="host:port, *:port or port."),
    _key("username", default=None, about="Needs password too."),
    _key("password", default=None, about="Cleartext, or {SHA} and the hexadecimal SHA-1."),
)

UNIX_SERVER = (
    _key("file", default=None, about="The socket's path."),
    _key("chmod", values.octal, 0o700, about="Its mode."),
    _key("chown", values.owner, (-1, -1), about="Its user and group."),
    *INET_SERVER[1:],
)

CTL = (
    _key("serverurl", default="http://localhost:9001", about="Where the supervisor answers."),
    _key("username", default=None, about=""),
    _key("password", default=None, about=""),
    _key("prompt", default="supervisor", about=""),
    _key("history_file", default=None, about="Where the lines of the interactive mode are kept."),
)

INCLUDE = (_key("files", default=None, about="Patterns of files, separated by spaces."),)

PROGRAM_CHANGE = {key.name: key.change for key in (*PROGRAM, *FCGI)}
