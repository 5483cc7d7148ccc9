# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of methods: the only names that a client can call (CVE-2017-11610 was a walk over attributes), with their signatures and help."""

from __future__ import annotations

from collections import namedtuple

from fcgivisor.rpc import Deferred, Interface
from fcgivisor.wire import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# attribute: of Interface. returns, takes: types of XML-RPC. names: of the parameters. optional: how many may be left out. help: for system.methodHelp.
Method = namedtuple("Method", "attribute returns takes names optional help")

_TYPES = {"string": str, "int": int, "array": list}


def _method(attribute: str, returns: str, parameters: str, text: str, optional: int = 0) -> Method:
    """parameters: "type name, type name"."""
    pairs = [part.split() for part in parameters.split(",")] if parameters else []
    takes, names = [kind for kind, _name in pairs], [name for _kind, name in pairs]
    lines = [text, "", *(f"@param {kind} {name}" for kind, name in pairs), f"@return {returns} result"]
    return Method(attribute, returns, takes, names, optional, "\n".join(lines))


_READ_LOG = "string name, int offset, int length"

_SUPERVISOR = {
    "getAPIVersion": _method("get_api_version", "string", "", "Version of this interface."),
    "getSupervisorVersion": _method("get_supervisor_version", "string", "", "Version of the supervisor."),
    "getIdentification": _method("get_identification", "string", "", "The supervisor's name (identifier=)."),
    "getState": _method("get_state", "struct", "", "What the supervisor does: statecode and statename."),
    "getPID": _method("get_pid", "int", "", "The supervisor's process ID."),
    "readLog": _method("read_log", "string", "int offset, int length", "Part of the supervisor's log; a negative offset counts from its end, length 0 is all."),
    "clearLog": _method("clear_log", "boolean", "", "Empty the supervisor's log."),
    "shutdown": _method("shutdown", "boolean", "", "Stop all processes and end."),
    "restart": _method("restart", "boolean", "", "Stop all processes, read the configuration and begin anew."),
    "reloadConfig": _method(
        "reload_config", "array", "", "Read the configuration again: [[added, changed, removed]] names of groups. Nothing starts or stops."
    ),
    "addProcessGroup": _method("add_process_group", "boolean", "string name", "Take on a group of the configuration."),
    "removeProcessGroup": _method("remove_process_group", "boolean", "string name", "Forget a group that has stopped."),
    "startProcess": _method("start_process", "boolean", "string name, boolean wait", "Start a process (name, group:name, or group:*).", 1),
    "startProcessGroup": _method("start_process_group", "array", "string name, boolean wait", "Start the processes of a group.", 1),
    "startAllProcesses": _method("start_all_processes", "array", "boolean wait", "Start all processes.", 1),
    "stopProcess": _method("stop_process", "boolean", "string name, boolean wait", "Stop a process (name, group:name, or group:*).", 1),
    "stopProcessGroup": _method("stop_process_group", "array", "string name, boolean wait", "Stop the processes of a group.", 1),
    "stopAllProcesses": _method("stop_all_processes", "array", "boolean wait", "Stop all processes.", 1),
    "signalProcess": _method("signal_process", "boolean", "string name, string signal", "Send a signal, a name (HUP) or a number (1), to a process."),
    "signalProcessGroup": _method("signal_process_group", "array", "string name, string signal", "Send a signal to the processes of a group."),
    "signalAllProcesses": _method("signal_all_processes", "array", "string signal", "Send a signal to all processes."),
    "getAllConfigInfo": _method("get_all_config_info", "array", "", "The configuration of every process, as it was read last."),
    "getProcessInfo": _method("get_process_info", "struct", "string name", "The state of a process."),
    "getAllProcessInfo": _method("get_all_process_info", "array", "", "The state of all processes."),
    "readProcessStdoutLog": _method("read_process_stdout_log", "string", _READ_LOG, "Part of a process's log of stdout, as readLog."),
    "readProcessStderrLog": _method("read_process_stderr_log", "string", _READ_LOG, "Part of a process's log of stderr, as readLog."),
    "tailProcessStdoutLog": _method("tail_process_stdout_log", "array", _READ_LOG, "News of a process's log of stdout: [text, offset, overflow]."),
    "tailProcessStderrLog": _method("tail_process_stderr_log", "array", _READ_LOG, "News of a process's log of stderr: [text, offset, overflow]."),
    "clearProcessLogs": _method("clear_process_logs", "boolean", "string name", "Empty the logs of a process."),
    "clearAllProcessLogs": _method("clear_all_process_logs", "array", "", "Empty the logs of all processes."),
    "sendProcessStdin": _method("send_process_stdin", "boolean", "string name, string chars", "Write to a process's stdin, as UTF-8."),
    "sendRemoteCommEvent": _method("send_remote_comm_event", "boolean", "string type, string data", "Tell event listeners something (REMOTE_COMMUNICATION)."),
}
# Names that older clients use.
_ALIASES = {
    "getVersion": "getAPIVersion",
    "readMainLog": "readLog",
    "readProcessLog": "readProcessStdoutLog",
    "tailProcessLog": "tailProcessStdoutLog",
    "clearProcessLog": "clearProcessLogs",
}
_OURS = {
    "getVersion": _method("get_version", "string", "", "Version of fcgivisord."),
    "getStatus": _method("get_status", "array", "", "All about every process."),
    "update": _method("update", "array", "array names, boolean dry_run, boolean wait", "Make what runs what the files say, process by process.", 3),
}
_SYSTEM = {
    "listMethods": _method("list_methods", "array", "", "The names of all methods."),
    "methodHelp": _method("method_help", "string", "string name", "What a method does."),
    "methodSignature": _method("method_signature", "array", "string name", "The type that a method returns, and those that it takes."),
    "multicall": _method("multicall", "array", "array calls", "Several calls, one after the other: [{methodName, params}, ...]."),
}


def _argument(kind: str, name: str, value: object) -> object:
    """A parameter as the method takes it. supervisord looks at no type, so clients send numbers as text, and the number of a signal as such. Raises Fault."""
    if kind == "boolean":
        return bool(value)
    if kind == "int" and isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise Fault("INCORRECT_PARAMETERS", value) from None
    if name == "signal" and isinstance(value, int):
        return str(int(value))
    if not isinstance(value, _TYPES[kind]):
        raise Fault("INCORRECT_PARAMETERS", value)
    return value


class Dispatcher:
    """Calls methods by name. With rpc false, supervisord's own are missing, as where [rpcinterface:supervisor] is."""

    def __init__(self, interface: Interface, rpc: bool) -> None:
        self._interface = interface
        named = {**_SUPERVISOR, **{alias: _SUPERVISOR[name] for alias, name in _ALIASES.items()}} if rpc else {}
        self.methods = {
            **{f"supervisor.{name}": method for name, method in named.items()},
            **{f"fcgivisor.{name}": method for name, method in _OURS.items()},
            **{f"system.{name}": method for name, method in _SYSTEM.items()},
        }

    def call(self, name: str, params: list) -> object:
        """The answer, or a Deferred. Raises Fault."""
        method = self.methods.get(name)
        if method is None:
            raise Fault("UNKNOWN_METHOD")
        if not len(method.takes) - method.optional <= len(params) <= len(method.takes):
            raise Fault("INCORRECT_PARAMETERS")
        arguments = [_argument(*each) for each in zip(method.takes, method.names, params)]
        namespace = name.partition(".")[0]
        if namespace == "supervisor" and self._interface.supervisor.stopping:
            raise Fault("SHUTDOWN_STATE")
        function: Callable = getattr(self if namespace == "system" else self._interface, method.attribute)
        return function(*arguments)

    def list_methods(self) -> list[str]:
        return sorted(self.methods)

    def method_help(self, name: str) -> str:
        return self._known(name).help

    def method_signature(self, name: str) -> list[str]:
        method = self._known(name)
        return [method.returns, *method.takes]

    def _known(self, name: str) -> Method:
        try:
            return self.methods[name]
        except KeyError:
            raise Fault("SIGNATURE_UNSUPPORTED") from None

    def multicall(self, calls: list) -> object:
        """One after the other: a call that has to wait holds up those behind it."""
        remaining, results = list(calls), []
        pending: list[Deferred] = []

        def poll() -> object:
            while pending or remaining:
                try:
                    value = pending[0].poll() if pending else self._one_of_many(remaining.pop(0))
                    if value is Deferred.NOT_YET:
                        return Deferred.NOT_YET
                    if isinstance(value, Deferred):
                        pending.append(value)
                        continue
                except Fault as fault:
                    value = {"faultCode": fault.code, "faultString": fault.text}
                pending.clear()
                results.append(value)
            return results

        value = poll()
        return Deferred(poll) if value is Deferred.NOT_YET else value

    def _one_of_many(self, call: object) -> object:
        if not isinstance(call, dict) or not isinstance(call.get("methodName"), str):
            raise Fault("INCORRECT_PARAMETERS", "No methodName")
        if call["methodName"] == "system.multicall":
            raise Fault("INCORRECT_PARAMETERS", "Recursive system.multicall forbidden")
        params = call.get("params", [])
        if not isinstance(params, list):
            raise Fault("INCORRECT_PARAMETERS")
        return self.call(call["methodName"], params)
