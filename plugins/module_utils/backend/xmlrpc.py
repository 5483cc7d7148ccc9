# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord, and fcgivisord, which speaks its XML-RPC and some more, as a backend.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

The API is that of supervisor/rpcinterface.py, the same in supervisor 4.2.5 and 4.3.0. Its CLI is never used: states are
numbers here, credentials never reach "ps", and a supervisord that is down is an error that can be told from an empty answer.
"""

from __future__ import annotations

import base64
import re
import socket
import time
import traceback
import typing as t
import urllib.parse

try:
    import http.client
    import xml.parsers.expat
    import xmlrpc.client
except ImportError:  # Debian's python3-minimal
    XMLRPC_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    XMLRPC_IMPORT_ERROR = None

from ansible_collections.webops.fastcgi.plugins.module_utils.backend import (
    Backend,
    Configuration,
    Order,
    SupervisorBusy,
    SupervisorFault,
    SupervisorStillRunning,
    SupervisorUnreachable,
    Survey,
)

# Seconds without a byte from supervisord. 1000 programs take it 3 s to describe; a stopped process must not hang a deployment.
CALL_TIMEOUT = 60
# Seconds for which a supervisord that was only just started may take to open its socket.
STARTUP_GRACE = 3
_RETRY_SECONDS = 0.1
_TAIL_BYTES = 8192
_MAIN_LOG_BYTES = 65536

# supervisor/states.py
_STATES = {0: "stopped", 10: "starting", 20: "running", 30: "backoff", 40: "stopping", 100: "exited", 200: "fatal", 1000: "unknown"}

# supervisor/xmlrpc.py, Faults
_SHUTDOWN_STATE = 6
_BAD_NAME = 10
_SPAWN_ERROR = 50
_ALREADY_STARTED = 60
_NOT_RUNNING = 70
_ALREADY_ADDED = 90
_STILL_RUNNING = 91

_METHODS = {
    "add": "supervisor.addProcessGroup",
    "remove": "supervisor.removeProcessGroup",
    "start": "supervisor.startProcess",
    "stop": "supervisor.stopProcess",
    "signal": "supervisor.signalProcess",
    "update": "fcgivisor.update",
}
# What is as it was ordered to become. A spawn error is not hidden: the process is in backoff then, and its state tells why.
_ALREADY_SO = {
    "add": {_ALREADY_ADDED},
    "remove": {_BAD_NAME},
    "start": {_ALREADY_STARTED, _SPAWN_ERROR},
    "stop": {_NOT_RUNNING},
    "signal": set(),
    "update": set(),
}
# In the version of the bundled supervisor: 4.3.0+fcgivisord.1.1.0.
_OURS = "+fcgivisord."
_MEASURES = ("restarts", "memory", "heartbeat_age")


class XmlRpcSupervisor(Backend):
    """The supervisor at url ("unix:///run/supervisor.sock" or "http://localhost:9001").

    Raises ValueError for any other url. The first call waits up to ready_timeout seconds for a supervisord that is restarting
    and up to startup_grace (but not longer than ready_timeout) for one that was only just started.
    """

    def __init__(
        self, url: str, username: str | None = None, password: str | None = None, ready_timeout: float = 0, startup_grace: float = STARTUP_GRACE
    ) -> None:
        self.url = url
        transport = _Transport(_connector(url), _login(username, password))
        self._proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport)
        self._ready_timeout = ready_timeout
        self._startup_grace = startup_grace
        self._version: str | None = None  # None until it answers

    def survey(self) -> Survey:
        calls: list[tuple[str, tuple[t.Any, ...]]] = [("supervisor.reloadConfig", ()), ("supervisor.getAllProcessInfo", ())]
        if self.updates_in_place():  # which sees more than supervisord's rule of what has changed, such as the mode of a socket
            calls.append(("fcgivisor.update", ([], True, False)))
        answers = self._several(calls)
        for answer in answers:
            if isinstance(answer, SupervisorFault):
                raise answer
        (added, changed, removed), processes = answers[0][0], answers[1]
        stepped = [step["group"] for step in answers[2]] if len(answers) > 2 else []
        changed += sorted(set(stepped) - {*added, *changed, *removed})
        return Survey(added, changed, removed, [_process(info) for info in processes])

    def updates_in_place(self) -> bool:
        if self._version is None:
            self._wait_until_ready()
        return _OURS in str(self._version)

    def measures(self) -> dict[str, dict[str, t.Any]]:
        if not self.updates_in_place():
            return {}
        return {told["name"]: {key: told[key] for key in _MEASURES} for told in self._call("fcgivisor.getStatus")}

    def configurations(self) -> list[Configuration]:
        return [_configuration(info) for info in self._call("supervisor.getAllConfigInfo")]

    def processes(self) -> list[dict[str, t.Any]]:
        return [_process(info) for info in self._call("supervisor.getAllProcessInfo")]

    def execute(self, orders: t.Sequence[Order]) -> list[SupervisorFault | None]:
        answers = self._several([(_METHODS[order.verb], _parameters(order)) for order in orders]) if orders else []
        return [_refusal(order, answer) for order, answer in zip(orders, answers)]

    def log_lines(self, full_name: str, count: int) -> list[str]:
        lines: list[str] = []
        for method in ("supervisor.tailProcessStdoutLog", "supervisor.tailProcessStderrLog"):
            try:
                text = self._call(method, full_name, 0, _TAIL_BYTES)[0]
            except SupervisorFault as fault:
                lines.append(f"(log not readable over XML-RPC: {fault.text})")
            else:
                lines += [line for line in text.splitlines() if line.strip()]
        return lines[-count:]

    def last_exit(self, name: str) -> str | None:
        try:
            log = self._call("supervisor.readLog", -_MAIN_LOG_BYTES, 0)
        except SupervisorFault:  # supervisord logs to nowhere, or to syslog
            return None
        endings = re.findall(rf"exited: {re.escape(name)} \((exit status \d+|terminated by SIG\w+)", log)
        return endings[-1] if endings else None

    def _several(self, calls: t.Sequence[tuple[str, tuple[t.Any, ...]]]) -> list[t.Any]:
        """Results of several calls in one round trip; SupervisorFault objects stand where one was refused."""
        answers = self._call("system.multicall", [{"methodName": method, "params": list(parameters)} for method, parameters in calls])
        return [_fault(answer["faultCode"], answer["faultString"]) if _is_fault(answer) else answer for answer in answers]

    def _call(self, method: str, *parameters: t.Any) -> t.Any:
        if self._version is None:
            self._wait_until_ready()
        return self._call_now(method, *parameters)

    def _wait_until_ready(self) -> None:
        begin = time.monotonic()
        patience = min(self._startup_grace, self._ready_timeout)
        while self._version is None:
            try:
                self._version = self._call_now("supervisor.getSupervisorVersion")
            except (SupervisorUnreachable, SupervisorBusy) as error:
                if isinstance(error, SupervisorBusy):
                    patience = self._ready_timeout  # a restart closes the socket for as long as the programs take to stop
                if isinstance(error, SupervisorRefusesLogin) or time.monotonic() - begin >= patience:
                    raise
                time.sleep(_RETRY_SECONDS)

    def _call_now(self, method: str, *parameters: t.Any) -> t.Any:
        try:
            return getattr(self._proxy, method)(*parameters)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _SHUTDOWN_STATE:
                raise SupervisorBusy(f"the supervisor at {self.url} is shutting down or restarting; run this again when it is back") from fault
            raise _fault(fault.faultCode, fault.faultString) from fault
        except xmlrpc.client.ProtocolError as error:
            if error.errcode == 401:
                raise SupervisorRefusesLogin(f"the supervisor at {self.url} refuses these credentials (HTTP 401); give its username and password") from error
            raise SupervisorFault(error.errcode, f"HTTP {error.errcode} {error.errmsg} for {method}; the supervisor's own log tells why") from error
        except xml.parsers.expat.ExpatError as error:  # control characters, which XML cannot hold
            raise SupervisorFault(0, f"the answer to {method} is not valid XML ({error})") from error
        except (OSError, http.client.HTTPException) as error:
            raise SupervisorUnreachable(
                f"no supervisor answers at {self.url}: {error or type(error).__name__}. Is this its address, and does its service run ('service fcgivisord "
                "status', of Debian's supervisord 'service supervisor status', of EPEL's 'service supervisord status', of one from pip 'service "
                "fcgi-supervisord status')?"
            ) from error


class SupervisorRefusesLogin(SupervisorUnreachable):
    """The supervisor answers, but not to us."""


def _login(username: str | None, password: str | None) -> list[tuple[str, str]]:
    if username is None:
        return []
    credentials = base64.b64encode(f"{username}:{password or ''}".encode()).decode("ascii")
    return [("Authorization", f"Basic {credentials}")]


def _connector(url: str) -> t.Callable[[], http.client.HTTPConnection]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return lambda: _UnixConnection(parts.path)
    if parts.scheme == "http" and parts.hostname:
        return lambda: http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=CALL_TIMEOUT)
    raise ValueError(f"url: {url} is neither unix:///PATH nor http://HOST:PORT, as in supervisord's [unix_http_server] and [inet_http_server]")


if XMLRPC_IMPORT_ERROR is None:

    class _UnixConnection(http.client.HTTPConnection):
        def __init__(self, path: str) -> None:
            super().__init__("localhost", timeout=CALL_TIMEOUT)
            self._path = path

        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)

    class _Transport(xmlrpc.client.Transport):
        def __init__(self, connect: t.Callable[[], http.client.HTTPConnection], headers: list[tuple[str, str]]) -> None:
            super().__init__(headers=headers)
            self._connect = connect
            self._kept: http.client.HTTPConnection | None = None

        def make_connection(self, host: t.Any) -> http.client.HTTPConnection:
            if self._kept is None:
                self._kept = self._connect()
            return self._kept

        def close(self) -> None:
            if self._kept is not None:
                self._kept.close()
                self._kept = None


def _parameters(order: Order) -> tuple[t.Any, ...]:
    if order.verb in ("start", "stop"):
        return (order.target, False)  # wait=False: we wait for all of them together
    if order.verb == "update":
        return ([order.target], False, False)  # not only to be told, and without waiting
    if order.verb == "signal":
        return (order.target, order.signal)
    return (order.target,)


def _is_fault(answer: t.Any) -> bool:
    return isinstance(answer, dict) and "faultCode" in answer


def _fault(code: int, text: str) -> SupervisorFault:
    kind = SupervisorStillRunning if code == _STILL_RUNNING else SupervisorFault
    # "FAILED: <class 'ValueError'>:Could not create FastCGI socket ...": the class is noise to an operator.
    return kind(code, re.sub(r"^FAILED: <class '\w+'>:", "", text))


def _refusal(order: Order, answer: t.Any) -> SupervisorFault | None:
    if isinstance(answer, SupervisorFault) and answer.code not in _ALREADY_SO[order.verb]:
        return answer
    return None


def _full_name(group: str, process: str) -> str:
    return process if group == process else f"{group}:{process}"


def _configuration(info: dict[str, t.Any]) -> Configuration:
    full_name = _full_name(info["group"], info["name"])
    return Configuration(info["group"], full_name, bool(info["autostart"]), int(info["startsecs"]), int(info["stopwaitsecs"]))


def _process(info: dict[str, t.Any]) -> dict[str, t.Any]:
    state = _STATES.get(info["state"], "unknown")
    ended = state in ("exited", "stopped") and bool(info["stop"])
    return {
        "name": info["name"],
        "program": info["group"],
        "group": info["group"],
        "full_name": _full_name(info["group"], info["name"]),
        "state": state,
        "pid": info["pid"] or None,
        "uptime": max(0, info["now"] - info["start"]) if state == "running" else None,
        "ever_started": bool(info["start"]),
        "exit_status": info["exitstatus"] if ended else None,  # the API says 0 where there is none
        "spawn_error": info["spawnerr"] or None,
        "logfile": info["stdout_logfile"] or None,
        "stderr_logfile": info["stderr_logfile"] or None,
        "description": info["description"],
    }
