# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration as plain data: what config.py makes of the files, and everybody else reads."""

from __future__ import annotations

from collections import namedtuple

from fcgivisor import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fcgivisor.policy import FastCgi

PROGRAM, FCGI, LISTENER = "program", "fcgi-program", "eventlistener"

# The keys that make many processes of one section, and have no meaning for one of them.
_OF_THE_SECTION = {"process_name", "numprocs", "numprocs_start", "user"}
PROCESS_KEYS = tuple(key.name for key in keys.PROGRAM if key.name not in _OF_THE_SECTION)

# A listening socket. owner: (uid, gid), -1 for what stays as it is; None: nobody asked. mode: bits. backlog: None is the kernel's largest.
SocketConfig = namedtuple("SocketConfig", "url owner mode backlog")

# family: "unix" or "inet". file, chmod and chown; or host and port.
ServerConfig = namedtuple("ServerConfig", "section family file chmod chown host port username password")


class ProcessConfig:
    """One process of a program: its name, and the values of PROCESS_KEYS as attributes.

    uid (int or None), user (str or None: its name, for HOME, USER and its groups), gid (int or None); kind: PROGRAM, FCGI or LISTENER;
    program: the section's name; number: its process_num; socket: SocketConfig or None; policy: policy.FastCgi, or None for supervisord's.
    """

    __slots__ = ("name", "program", "number", "kind", "uid", "gid", "user", "socket", "policy", "section", *PROCESS_KEYS)

    name: str
    program: str
    number: int
    kind: str
    section: str
    uid: int | None
    gid: int | None
    user: str | None
    socket: SocketConfig | None
    policy: FastCgi | None
    command: str
    environment: dict[str, str]
    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    # What supervisord compares (supervisor/options.py, ProcessConfig), and what is ours.
    COMPARED = ("name", "uid", "policy", "kind", *PROCESS_KEYS)

    def differences(self, other: ProcessConfig) -> list[str]:
        """Names of the attributes that differ."""
        return [name for name in self.COMPARED if getattr(self, name) != getattr(other, name)]

    def same_as(self, other: ProcessConfig) -> bool:
        """Whether supervisord would see no difference: to it, a log that it names itself equals any other, and a socket is its address."""
        if _url(self) != _url(other):
            return False
        return all(keys.values.AUTO in (getattr(self, name), getattr(other, name)) for name in self.differences(other))

    def __repr__(self) -> str:
        return f"<ProcessConfig {self.name}>"


class GroupConfig:
    """A process group: of one section, or of a [group:x]. processes: by name. events, buffer_size: of an event listener pool."""

    __slots__ = ("buffer_size", "events", "kind", "name", "priority", "processes")

    def __init__(self, name: str, priority: int, kind: str, processes: list[ProcessConfig]) -> None:
        self.name, self.priority, self.kind = name, priority, kind
        self.processes = {process.name: process for process in sorted(processes, key=lambda process: process.priority)}
        self.events: tuple[str, ...] = ()
        self.buffer_size = 10

    def same_as(self, other: GroupConfig) -> bool:
        """Whether supervisord would call the group unchanged."""
        if (self.priority, self.kind, self.events, self.buffer_size) != (other.priority, other.kind, other.events, other.buffer_size):
            return False
        if list(self.processes) != list(other.processes):
            return False
        return all(process.same_as(other.processes[name]) for name, process in self.processes.items())

    def __repr__(self) -> str:
        return f"<GroupConfig {self.name}>"


def _url(process: ProcessConfig) -> str | None:
    return process.socket.url if process.socket else None


class Settings:
    """The values of [supervisord] as attributes, and what stands beside it.

    environment: dict. groups: GroupConfig by name, by priority. servers: ServerConfig. warnings: texts for the log. rpc: whether the supervisor
    namespace is asked for. files: those that were read. serverurl: where children reach us, or None.
    """

    __slots__ = ("groups", "servers", "warnings", "infos", "rpc", "files", "serverurl", *(key.name for key in keys.SUPERVISORD))

    groups: dict[str, GroupConfig]
    servers: list[ServerConfig]
    warnings: list[str]
    infos: list[str]
    rpc: bool
    files: list[str]
    serverurl: str | None
    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...
