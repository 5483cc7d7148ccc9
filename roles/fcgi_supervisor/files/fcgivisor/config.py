# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From configuration files to the model. The rules are those of supervisor/options.py; an error is a ConfigError that names its place and the way out."""

from __future__ import annotations

import os
import pwd
import socket
from collections import namedtuple

from fcgivisor import keys, values
from fcgivisor.events import NAMES
from fcgivisor.ini import ConfigError, Ini, Section, included
from fcgivisor.model import FCGI, LISTENER, PROCESS_KEYS, PROGRAM, GroupConfig, ProcessConfig, ServerConfig, Settings, SocketConfig
from fcgivisor.policy import FASTCGI_DEFAULTS, FastCgi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_OWN_RPC_FACTORY = "supervisor.rpcinterface:make_main_rpcinterface"
_OWN_RESULT_HANDLER = "supervisor.dispatchers:default_handler"
_TABLES = {
    "program": {key.name: key for key in keys.PROGRAM},
    "fcgi-program": {key.name: key for key in (*keys.PROGRAM, *keys.FCGI)},
    "eventlistener": {key.name: key for key in (*keys.PROGRAM, *keys.LISTENER)},
    "group": {key.name: key for key in keys.GROUP},
    "supervisord": {key.name: key for key in keys.SUPERVISORD},
    "unix_http_server": {key.name: key for key in keys.UNIX_SERVER},
    "inet_http_server": {key.name: key for key in keys.INET_SERVER},
    "supervisorctl": {key.name: key for key in keys.CTL},
    "include": {key.name: key for key in keys.INCLUDE},
}
# Sections whose own keys are not ours to judge.
_FREE = ("rpcinterface", "ctlplugin")

_User = namedtuple("_User", "uid gid name")
_NOBODY = _User(None, None, None)


def load(path: str, environ: Mapping[str, str]) -> Settings:
    """The configuration in a file and all that it includes. environ: for %(ENV_X)s. Raises ConfigError."""
    return _Loader(path, environ).load()


class _Loader:
    def __init__(self, path: str, environ: Mapping[str, str]) -> None:
        self._here = os.path.dirname(os.path.abspath(path))
        self._path = path
        self._ini = Ini()
        self._settings = Settings()
        self._settings.warnings = []
        self._settings.infos = []
        self._expansions: dict[str, object] = {f"ENV_{name}": value for name, value in environ.items()}
        self._expansions.update(here=self._here, host_node_name=os.uname().nodename)
        self._users: dict[str, _User] = {}
        self._sockets: dict[str, tuple[str, SocketConfig]] = {}  # by URL: the section that named it first, and its options

    def load(self) -> Settings:
        ini, settings = self._ini, self._settings
        ini.read(self._path)
        self._include()
        ini.inherit()
        settings.files = ini.files
        if "supervisord" not in ini.sections:
            raise ConfigError("has no section [supervisord], which every configuration needs", self._path)
        self._warn_of_unknown()
        self._read_supervisord(ini.sections["supervisord"])
        settings.rpc = self._rpc_interfaces()
        settings.servers = self._servers()
        settings.serverurl = _server_url(settings.servers)
        settings.groups = self._groups()
        return settings

    # Sections of the supervisor itself

    def _include(self) -> None:
        section = self._ini.sections.get("include")
        if section is None:
            return
        if "files" not in section.values:
            raise section.error("has no files=")
        files, empty = included(self._get(section, "files") or "", self._here)
        for pattern in empty:
            self._settings.warnings.append(f'No file matches via include "{pattern}"')
        for file in files:
            self._settings.infos.append(f'Included extra file "{file}" during parsing')
            self._ini.read(file)

    def _warn_of_unknown(self) -> None:
        for section in self._ini.sections.values():
            kind = section.name.partition(":")[0]
            if kind in _FREE:
                continue
            if kind not in _TABLES:
                self._warn(section, "", f"is no section of ours; it is ignored{_nearest(kind, _TABLES)}")
                continue
            for key in section.values:
                if key not in _TABLES[kind] and key not in section.inherited:
                    self._warn(section, key, f"is no key of this section; it is ignored{_nearest(key, _TABLES[kind])}")

    def _warn(self, section: Section, key: str, text: str) -> None:
        self._settings.warnings.append(str(section.error(text, key)))

    def _read_supervisord(self, section: Section) -> None:
        for key in keys.SUPERVISORD:
            setattr(self._settings, key.name, self._value(section, key))
        self._settings.childlogdir = self._settings.childlogdir or os.environ.get("TMPDIR", "/tmp")
        try:
            environment = values.environment(self._settings.environment)
        except ValueError as error:
            raise section.error(str(error), "environment") from None
        self._settings.environment = environment
        self._expansions.update({f"ENV_{name}": value for name, value in environment.items()})
        if self._settings.user is not None:
            self._user(section)

    def _rpc_interfaces(self) -> bool:
        """Whether there is supervisord's own interface. Others are Python code for supervisord's inside, which is not ours."""
        found = False
        for section in self._ini.named("rpcinterface"):
            factory = section.values.get("supervisor.rpcinterface_factory")
            if factory is None:
                raise section.error("has no supervisor.rpcinterface_factory")
            if factory.text == _OWN_RPC_FACTORY:
                found = True
            else:
                self._warn(section, "supervisor.rpcinterface_factory", f"{factory.text} is Python code for supervisord, which fcgivisord does not load")
        return found

    def _servers(self) -> list[ServerConfig]:
        servers = []
        for name, section in self._ini.sections.items():
            if name.partition(":")[0] == "inet_http_server":
                servers.append(self._server(section, "inet", keys.INET_SERVER, "port"))
            elif name.partition(":")[0] == "unix_http_server":
                servers.append(self._server(section, "unix", keys.UNIX_SERVER, "file"))
        return sorted(servers, key=lambda server: server.family)

    def _server(self, section: Section, family: str, table: tuple[keys.Key, ...], required: str) -> ServerConfig:
        found = {key.name: self._value(section, key) for key in table}
        if found[required] is None:
            raise section.error(f"has no {required}=")
        if (found["username"] is None) != (found["password"] is None):
            raise section.error("has only one of username and password: give both or neither")
        host, port = found.get("port") or ("", 0)
        if family == "inet" and not found["username"] and not _is_loopback(host):
            raise section.error(
                f"{host or '*'}:{port} can be reached from other hosts without a password, and whoever reaches it commands this supervisor: "
                "set username and password, or bind it to 127.0.0.1",
                "port",
            )
        file = os.path.abspath(os.path.expanduser(found["file"].strip())) if family == "unix" else ""
        if len(os.fsencode(file)) > 100:  # we bind a temporary name beside it
            raise section.error(f"{file} is too long for a unix socket: 100 bytes at most", "file")
        return ServerConfig(section.name, family, file, found.get("chmod"), found.get("chown"), host, port, found["username"], found["password"])

    # Groups and programs

    def _groups(self) -> dict[str, GroupConfig]:
        groups: list[GroupConfig] = []
        grouped: set[str] = set()
        for section in self._ini.named("group"):
            groups.append(self._heterogeneous(section, grouped))
        for kind in (PROGRAM, LISTENER, FCGI):
            groups += [self._homogeneous(section, kind) for section in self._ini.named(kind) if section.name not in grouped]
        by_name: dict[str, GroupConfig] = {}
        for group in sorted(groups, key=lambda group: (group.priority, group.name)):
            if group.name in by_name:
                raise ConfigError(f"two groups of processes are called {group.name}: rename one of them", self._path)
            by_name[group.name] = group
        return by_name

    def _heterogeneous(self, section: Section, grouped: set[str]) -> GroupConfig:
        group_name = self._name(section)
        programs = self._value(section, keys.GROUP[0])
        if not programs:
            raise section.error("has no programs=")
        processes: list[ProcessConfig] = []
        for program in programs:
            found = [f"{kind}:{program}" for kind in (PROGRAM, FCGI) if f"{kind}:{program}" in self._ini.sections]
            if not found:
                raise section.error(f"there is no [program:{program}] or [fcgi-program:{program}]", "programs")
            if len(found) > 1:
                raise section.error(f"{program} is both a program and an fcgi-program: rename one of them", "programs")
            grouped.add(found[0])
            member = self._ini.sections[found[0]]
            processes += self._processes(member, group_name, found[0].partition(":")[0])
        self._require_names(section, processes)
        return GroupConfig(group_name, self._value(section, keys.GROUP[1]), "group", processes)

    def _homogeneous(self, section: Section, kind: str) -> GroupConfig:
        group_name = self._name(section)
        processes = self._processes(section, group_name, kind)
        self._require_names(section, processes)
        priority = self._value(section, _TABLES[kind]["priority"]) if "priority" in section.values or kind != LISTENER else -1
        group = GroupConfig(group_name, priority, kind, processes)
        if kind == LISTENER:
            self._read_listener(section, group)
        return group

    def _read_listener(self, section: Section, group: GroupConfig) -> None:
        if self._value(section, _TABLES[PROGRAM]["redirect_stderr"]):
            raise section.error("true would mix stderr into the protocol of event listeners: leave it out", "redirect_stderr")
        wanted = [word.upper() for word in values.words(self._get(section, "events") or "")]
        if not wanted:
            raise section.error("has no events=, such as PROCESS_STATE or TICK_60")
        for word in wanted:
            if word not in NAMES:
                raise section.error(f"there is no event {word}{_nearest(word, NAMES)}", "events")
        group.events = tuple(sorted(set(wanted)))
        group.buffer_size = self._value(section, _TABLES[LISTENER]["buffer_size"])
        if group.buffer_size < 1:
            raise section.error(f"{group.buffer_size} is not 1 or more", "buffer_size")
        handler = section.values.get("result_handler")
        if handler and handler.text != _OWN_RESULT_HANDLER:
            self._warn(section, "result_handler", f"{handler.text} is Python code for supervisord, which fcgivisord does not load")

    @staticmethod
    def _require_names(section: Section, processes: list[ProcessConfig]) -> None:
        seen: set[str] = set()
        for process in processes:
            if process.name in seen:
                raise section.error(f"two processes are called {process.name}", "process_name")
            seen.add(process.name)

    def _processes(self, section: Section, group_name: str, kind: str) -> list[ProcessConfig]:
        """All processes of a section. What does not depend on the process is looked up once, and shared."""
        table = _TABLES[kind]
        program_name = self._name(section)
        expansions = {**self._expansions, "program_name": program_name, "group_name": group_name}
        shared = {key.name: self._value(section, key, expansions) for key in keys.PROGRAM if not key.each}
        if section.values.get("command") is None:
            raise section.error("has no command=")
        self._check(section, shared)
        user = self._user(section, expansions)
        first, number = shared["numprocs_start"], shared["numprocs"]
        if not 0 <= number <= 65535:
            raise section.error(f"{number} is not a number of processes", "numprocs")
        name_format = section.values["process_name"].text if "process_name" in section.values else table["process_name"].default
        if number > 1 and "%(process_num)" not in name_format:
            # Not as arguments of the exception: pylint would take the percent sign for a format.
            text = "needs %(process_num)02d in it, since numprocs is above 1: else all processes have one name"
            raise section.error(text, "process_name")
        shared["policy"] = _policy(shared)
        if shared["policy"] and "autorestart" not in section.values:
            shared["autorestart"] = values.RESTART_ALWAYS
        shared["socket"] = self._socket(section, user, expansions) if kind == FCGI else None
        processes = []
        for process_num in range(first, first + number):
            expansions.update(process_num=process_num, numprocs=number)
            process = self._process(section, shared, expansions)
            process.kind, process.program, process.number, process.section = kind, program_name, process_num, section.name
            process.uid, process.gid, process.user = user
            processes.append(process)
        return processes

    def _process(self, section: Section, shared: Mapping[str, Any], expansions: dict[str, object]) -> ProcessConfig:
        """One process; expansions already has its number."""
        process = ProcessConfig()
        for name in PROCESS_KEYS:
            setattr(process, name, shared.get(name))
        process.policy, process.socket = shared["policy"], shared["socket"]
        environment = self._environment(section, expansions)
        process.environment = {**self._settings.environment, **environment}
        expansions.update({f"ENV_{name}": value for name, value in environment.items()})
        for key in keys.PROGRAM:
            if key.each and key.name not in ("environment", "process_name"):
                setattr(process, key.name, self._value(section, key, expansions))
        process.name = self._checked_name(section, str(self._value(section, _TABLES[PROGRAM]["process_name"], expansions)))
        if process.redirect_stderr:
            if process.stderr_logfile not in (None, values.AUTO):
                self._warn(section, "stderr_logfile", "has no effect, since redirect_stderr is true")
            process.stderr_logfile = None
        for channel in ("stdout", "stderr"):
            if getattr(process, f"{channel}_logfile") == values.SYSLOG:
                setattr(process, f"{channel}_logfile", None)
                setattr(process, f"{channel}_syslog", True)
        return process

    def _environment(self, section: Section, expansions: Mapping[str, object]) -> dict[str, str]:
        try:
            return values.environment(self._get(section, "environment", expansions) or "")
        except ValueError as error:
            # The value is not shown: it may hold secrets.
            raise section.error(str(error), "environment") from None

    @staticmethod
    def _check(section: Section, shared: dict) -> None:
        """The rules between the keys of a program."""
        if shared["killasgroup"] is None:
            shared["killasgroup"] = shared["stopasgroup"]
        if shared["stopasgroup"] and not shared["killasgroup"]:
            raise section.error("false is impossible with stopasgroup=true: leave it out", "killasgroup")
        heartbeat, tolerance = shared["heartbeat"], shared["heartbeat_tolerance"]
        if tolerance is None:
            shared["heartbeat_tolerance"] = 3 * heartbeat
        elif not heartbeat:
            raise section.error("needs heartbeat=, the seconds between two signs of life", "heartbeat_tolerance")
        elif tolerance < 2 * heartbeat:
            raise section.error(
                f"{tolerance:g} s is less than two heartbeats of {heartbeat:g} s: one that comes late would cost a healthy process its life; "
                f"allow {2 * heartbeat:g} s or more, or have it beat more often",
                "heartbeat_tolerance",
            )

    def _socket(self, section: Section, user: _User, expansions: Mapping[str, object]) -> SocketConfig:
        url, backlog, owner, mode = (self._value(section, key, expansions) for key in keys.FCGI)
        if url is None:
            raise section.error("has no socket=, such as unix:///run/fastcgi/app.sock")
        if not url.startswith("unix:"):
            for key, value in (("socket_owner", owner), ("socket_mode", mode)):
                if value is not None:
                    raise section.error("has a meaning for unix sockets only", key)
            return self._shared_socket(section, SocketConfig(url, None, None, backlog))
        if owner is None and user.uid is not None and user.uid != os.getuid():
            owner = (user.uid, user.gid)
        return self._shared_socket(section, SocketConfig(url, owner, 0o700 if mode is None else mode, backlog))

    def _shared_socket(self, section: Section, wanted: SocketConfig) -> SocketConfig:
        """Programs that name one URL share one socket, which has the options of the first of them."""
        first, found = self._sockets.setdefault(wanted.url, (section.name, wanted))
        if found != wanted:
            self._warn(section, "socket", f"{wanted.url} is also that of [{first}], whose owner, mode and backlog count: say the same in both, or nothing here")
        return found

    # Single values

    def _get(self, section: Section, key: str, expansions: Mapping[str, object] | None = None) -> str | None:
        value = self._ini.get(section.name, key)
        if value is None:
            return None
        try:
            return values.expand(value.text, expansions or self._expansions)
        except ValueError as error:
            raise section.error(str(error), key) from None

    def _value(self, section: Section, key: keys.Key, expansions: Mapping[str, object] | None = None):
        text = self._get(section, key.name, expansions)
        try:
            if text is None:
                # The defaults of some are written as in a file.
                return values.expand(key.default, expansions) if key.each and isinstance(key.default, str) and expansions else key.default
            return text if key.convert is None else key.convert(text)
        except ValueError as error:
            raise section.error(str(error), key.name) from None

    def _name(self, section: Section) -> str:
        return self._checked_name(section, section.name.partition(":")[2])

    @staticmethod
    def _checked_name(section: Section, text: str) -> str:
        try:
            return values.name(text)
        except ValueError as error:
            raise section.error(str(error)) from None

    def _user(self, section: Section, expansions: Mapping[str, object] | None = None) -> _User:
        text = self._get(section, "user", expansions)
        if text is None:
            return _NOBODY
        if text not in self._users:
            try:
                record = pwd.getpwuid(values.uid(text))
            except ValueError as error:
                raise section.error(str(error), "user") from None
            self._users[text] = _User(record.pw_uid, record.pw_gid, record.pw_name)
        return self._users[text]


def _policy(shared: dict) -> FastCgi | None:
    """mod_fastcgi's policy, if any of its keys is set."""
    given = {name: shared[name] for name in FastCgi._fields if shared[name] is not None}
    return FASTCGI_DEFAULTS._replace(**given) if given else None


def _server_url(servers: list[ServerConfig]) -> str | None:
    """Where children find us (supervisor/options.py, realize): a unix socket rather than an address."""
    for server in servers:
        if server.family == "unix":
            return f"unix://{server.file}"
    for server in servers:
        return f"http://{server.host or 'localhost'}:{server.port}"
    return None


def _is_loopback(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)  # 127.example.org is a name, of anybody
    except OSError:
        return host in ("localhost", "::1")
    return host.startswith("127.")


def _nearest(word: str, known) -> str:
    import difflib  # only where something is wrong: it would stay in memory

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
