# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of fcgivisorctl about processes. Texts and exit codes are those of supervisorctl (supervisor/supervisorctl.py), where it has the command."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import xmlrpc.client
from collections import namedtuple
from typing import TYPE_CHECKING, Any

from fcgivisor import ctl_names
from fcgivisor.client import ClientError, Exit
from fcgivisor.ctl_session import Command, UsageError
from fcgivisor.ctl_text import lines, printable, short_duration, size
from fcgivisor.wire import FAULTS

if TYPE_CHECKING:
    import http.client

    from fcgivisor.ctl_session import Session

# Bytes of a log that tail shows.
TAIL = 1600
_STOPPED = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")

# one, group, all: methods. done: what has happened then. ignored: a fault that is no failure. bad_group: the exit code for a group that is not there.
_Verb = namedtuple("_Verb", "one group all done ignored bad_group")
_START = _Verb("startProcess", "startProcessGroup", "startAllProcesses", "started", FAULTS["ALREADY_STARTED"], Exit.INVALID_ARGUMENTS)
_STOP = _Verb("stopProcess", "stopProcessGroup", "stopAllProcesses", "stopped", FAULTS["NOT_RUNNING"], Exit.GENERIC)
_SIGNAL = _Verb("signalProcess", "signalProcessGroup", "signalAllProcesses", "signalled", FAULTS["SUCCESS"], Exit.GENERIC)
_CLEAR = _Verb("clearProcessLogs", "", "clearAllProcessLogs", "cleared", FAULTS["SUCCESS"], Exit.GENERIC)


def status(session: Session, words: list[str]) -> None:
    processes = session.client.status()["processes"]
    known = [(process["group"], _own_name(process)) for process in processes]
    if not words or "all" in words:
        chosen = list(range(len(processes)))
    else:
        chosen = []
        for name in words:
            found = ctl_names.matching(name, known)
            if not found:
                what = "group" if ctl_names.split(name)[1] is None else "process"
                session.line(f"{name.partition(':')[0] if what == 'group' else name}: ERROR (no such {what}){ctl_names.did_you_mean(name, known)}")
                session.status = Exit.STATUS_UNKNOWN
            chosen += [index for index, entry in enumerate(known) if entry in found]
    for text in _status_lines([processes[index] for index in chosen]):
        session.line(text)
    if any(processes[index]["state"] in _STOPPED for index in chosen):
        session.status = Exit.STATUS_NOT_RUNNING
    session.data = [processes[index] for index in chosen]


def _own_name(process: dict[str, Any]) -> str:
    """The process's name, of its full one."""
    return str(process["name"]).partition(":")[2] or str(process["name"])


def _status_lines(processes: list[dict[str, Any]]) -> list[str]:
    """Name, state and description as supervisorctl writes them, then what only fcgivisord knows."""
    rows = []
    for process in processes:
        row = [process["name"], process["state"], process["description"]]
        if process["restarts"] is not None:
            row.append(f"restarts {process['restarts']}")
            row.append(size(process["memory"]) if process["memory"] is not None else "")
            age = process["heartbeat_age"]
            row.append(f"heartbeat {short_duration(age)} ago" if age is not None else "")
        rows.append([printable(text) for text in row])
    return lines(rows)


def start(session: Session, words: list[str]) -> None:
    if not words:
        raise UsageError("Error: start requires a process name", Exit.INVALID_ARGUMENTS)
    _act(session, words, _START)


def stop(session: Session, words: list[str]) -> None:
    if not words:
        raise UsageError("Error: stop requires a process name")
    _act(session, words, _STOP)


def restart(session: Session, words: list[str]) -> None:
    if not words:
        raise UsageError("Error: restart requires a process name")
    _act(session, words, _STOP)
    _act(session, words, _START)


def signal(session: Session, words: list[str]) -> None:
    if len(words) < 2:
        raise UsageError("Error: signal requires a signal name and a process name")
    _act(session, words[1:], _SIGNAL, words[0])


def clear(session: Session, words: list[str]) -> None:
    if not words:
        raise UsageError("Error: clear requires a process name")
    _act(session, words, _CLEAR)


def _act(session: Session, names: list[str], verb: _Verb, *more: str) -> None:
    call = session.client.call
    if "all" in names:
        _tell_all(session, call(verb.all, *more), verb)
        return
    for name in session.expanded(names):
        group, process = ctl_names.split(name)
        try:
            if process is None and verb.group:
                _tell_all(session, call(verb.group, group, *more), verb)
            elif process is None:
                for member in [ctl_names.join(*entry) for entry in ctl_names.matching(name, session.known())] or [name]:
                    call(verb.one, member, *more)
                    session.result(member, verb.done)
            else:
                call(verb.one, name, *more)
                session.result(ctl_names.join(group, process), verb.done)
        except xmlrpc.client.Fault as fault:
            _tell_fault(session, name, fault, verb)


def _tell_fault(session: Session, name: str, fault: xmlrpc.client.Fault, verb: _Verb) -> None:
    group, process = ctl_names.split(name)
    code, hint = fault.faultCode, session.hint(name, fault.faultCode)
    if ctl_names.is_pattern(name) and code == FAULTS["BAD_NAME"]:
        session.result(name, verb.done, code, "no process has such a name", hint)
    elif process is None and code == FAULTS["BAD_NAME"]:
        session.result(group, verb.done, code, "no such group", hint)
        session.status = verb.bad_group
    else:
        words = _cause(session, name, code) or ("" if code != FAULTS["FAILED"] else fault.faultString)
        session.result(ctl_names.join(group, process), verb.done, code, "", f": {words}" if words else hint, verb.ignored)


def _cause(session: Session, name: str, code: int) -> str:
    """Why a process did not start, where the supervisor knows more than its fault says."""
    if code not in (FAULTS["SPAWN_ERROR"], FAULTS["ABNORMAL_TERMINATION"]):
        return ""
    try:
        return printable(session.client.call("getProcessInfo", name)["spawnerr"])
    except (xmlrpc.client.Fault, ClientError):
        return ""


def _tell_all(session: Session, results: list[dict[str, Any]], verb: _Verb) -> None:
    for result in results:
        name, code = ctl_names.join(result["group"], result["name"]), result["status"]
        cause = _cause(session, f"{result['group']}:{result['name']}", code)
        session.result(name, verb.done, code, "", f": {cause}" if cause else "", verb.ignored)


def pid(session: Session, words: list[str]) -> None:
    if not words:
        number = session.client.call("getPID")
        session.line(str(number))
        session.data = {"pid": number}
        return
    found: list[dict[str, Any]] = []
    if "all" in words:
        found = [{"name": ctl_names.join(info["group"], info["name"]), "pid": info["pid"]} for info in session.client.call("getAllProcessInfo")]
    else:
        for name in _members(session, words):
            try:
                info = session.client.call("getProcessInfo", name)
            except xmlrpc.client.Fault as fault:
                session.status = Exit.GENERIC
                if fault.faultCode != FAULTS["BAD_NAME"]:
                    raise
                session.line(f"No such process {name}{session.hint(name, fault.faultCode)}")
                continue
            found.append({"name": name, "pid": info["pid"]})
            if info["pid"] == 0:
                session.status = Exit.NOT_RUNNING
    for entry in found:
        session.line(str(entry["pid"]))
    session.data = found


def _members(session: Session, words: list[str]) -> list[str]:
    """The names of processes, with patterns and group:* replaced by what they fit."""
    names: list[str] = []
    for word in words:
        many = ctl_names.is_pattern(word) or ctl_names.split(word)[1] is None
        names += ([ctl_names.join(*entry) for entry in ctl_names.matching(word, session.known())] if many else []) or [word]
    return list(dict.fromkeys(names))


# Logs


def tail(session: Session, words: list[str]) -> None:
    if not words:
        raise UsageError("Error: too few arguments")
    if len(words) > 3:
        raise UsageError("Error: too many arguments")
    modifier = words.pop(0) if words[0].startswith("-") else None
    if not words:
        raise UsageError("Error: tail requires process name")
    name, channel = words[0], words[-1].lower() if len(words) > 1 else "stdout"
    if channel not in ("stdout", "stderr"):
        raise UsageError(f"Error: bad channel {channel!r}")
    count = _bytes(modifier)
    if count is None:
        try:
            session.client.call("getProcessInfo", name)
        except xmlrpc.client.Fault as fault:
            _tell_log_fault(session, name, fault, "no such process name")
            return
        _follow(session, f"/logtail/{name}/{channel}", name)
        return
    try:
        text = session.client.call("readProcessStdoutLog" if channel == "stdout" else "readProcessStderrLog", name, -count, 0)
    except xmlrpc.client.Fault as fault:
        _tell_log_fault(session, name, fault, "no such process name")
        return
    session.line(text)
    session.data = {"name": name, "channel": channel, "log": text}


def maintail(session: Session, words: list[str]) -> None:
    if len(words) > 1:
        raise UsageError("Error: too many arguments")
    if words and not words[0].startswith("-"):
        raise UsageError(f"Error: bad argument {words[0]}")
    count = _bytes(words[0] if words else None)
    if count is None:
        _follow(session, "/mainlogtail", "supervisord")
        return
    try:
        text = session.client.call("readLog", -count, 0)
    except xmlrpc.client.Fault as fault:
        _tell_log_fault(session, "supervisord", fault, "")
        return
    session.line(text)
    session.data = {"log": text}


def _bytes(modifier: str | None) -> int | None:
    """Of -100; None for -f."""
    if modifier is None:
        return TAIL
    if modifier == "-f":
        return None
    try:
        return int(modifier[1:])
    except ValueError:
        raise UsageError(f"Error: bad argument {modifier}") from None


def _tell_log_fault(session: Session, name: str, fault: xmlrpc.client.Fault, unknown: str) -> None:
    words = {FAULTS["NO_FILE"]: "no log file", FAULTS["FAILED"]: "unknown error reading log", FAULTS["BAD_NAME"]: unknown}.get(fault.faultCode)
    if words is None:
        raise fault
    session.result(name, "", fault.faultCode, words, session.hint(name, fault.faultCode))


def _follow(session: Session, path: str, name: str) -> None:
    if session.as_json:
        raise UsageError("Error: a log that is followed has no end, so it cannot be one JSON document: leave out -f or --json", Exit.INVALID_ARGUMENTS)
    session.note("==> Press Ctrl-C to exit <==")
    try:
        for data in session.client.follow(path):
            _write(session, data)
    except ClientError as error:
        if "no such log" not in str(error):
            raise
        session.result(name, "", FAULTS["NO_FILE"], "no log file")
    except KeyboardInterrupt:
        session.line()


def _write(session: Session, data: bytes) -> None:
    session.output.flush()
    session.output.buffer.write(data)
    session.output.buffer.flush()


# The foreground


def foreground(session: Session, words: list[str]) -> None:
    if len(words) != 1:
        raise UsageError("ERROR: too many process names supplied" if words else "ERROR: no process name supplied")
    if session.as_json:
        raise UsageError("ERROR: fg talks to a process and has no answer for --json", Exit.INVALID_ARGUMENTS)
    name = words[0]
    try:
        running = _runs(session, name)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != FAULTS["BAD_NAME"]:
            raise
        session.error(f"ERROR: bad process name supplied{session.hint(name, fault.faultCode)}")
        return
    if not running:
        session.error("ERROR: process not running")
        return
    session.note("==> Press Ctrl-C to exit <==")
    connections: list[http.client.HTTPConnection] = []
    readers = [threading.Thread(target=_show, args=(session, name, channel, connections), daemon=True) for channel in ("stdout", "stderr")]
    for reader in readers:
        reader.start()
    try:
        _talk(session, name)
    except KeyboardInterrupt:
        pass
    session.line("Exiting foreground")
    for connection in connections:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)  # the reader sees its end
        except (OSError, AttributeError):
            pass
    for reader in readers:
        reader.join(5)


def _runs(session: Session, name: str) -> bool:
    return session.client.call("getProcessInfo", name)["statename"] == "RUNNING"


def _show(session: Session, name: str, channel: str, connections: list[http.client.HTTPConnection]) -> None:
    try:
        for data in session.client.follow(f"/logtail/{name}/{channel}", connections):
            _write(session, data)
    except (ClientError, ValueError, OSError):
        return  # it has no such log, or there is nobody to show it to


def _talk(session: Session, name: str) -> None:
    """Send lines of stdin to the process, until either ends."""
    unsent = b""
    while True:
        ready = select.select([sys.stdin], [], [], 1.0)[0]
        if ready:
            data = os.read(sys.stdin.fileno(), 65536)
            if not data:
                return
            unsent += data
        whole, newline, rest = unsent.rpartition(b"\n")
        try:
            if newline:
                session.client.call("sendProcessStdin", name, (whole + newline).decode("utf-8", "replace"))
                unsent = rest
            if not _runs(session, name):
                session.line("Process got killed")
                return
        except xmlrpc.client.Fault as fault:
            session.line("Process got killed" if fault.faultCode == FAULTS["NOT_RUNNING"] else f"ERROR: {fault.faultString}")
            return


COMMANDS = {
    "status": Command(
        status,
        (("status", "Status of all processes"), ("status <name> [...]", "Status of processes (name, group:name, group:*, or a pattern such as 'shop*')")),
        "process",
    ),
    "start": Command(
        start, (("start <name> [...]", "Start processes (name, group:name, group:*, or a pattern)"), ("start all", "Start all processes")), "process"
    ),
    "stop": Command(stop, (("stop <name> [...]", "Stop processes"), ("stop all", "Stop all processes")), "process"),
    "restart": Command(
        restart,
        (("restart <name> [...]", "Stop processes and start them"), ("restart all", "The same for all; it does not read the configuration: see update")),
        "process",
    ),
    "signal": Command(
        signal,
        (("signal <signal> <name> [...]", "Send a signal, a name (HUP) or a number (1)"), ("signal <signal> all", "Send it to all processes")),
        "process",
    ),
    "pid": Command(pid, (("pid", "The supervisor's process ID"), ("pid <name> [...]", "Those of processes; 0 where none runs"), ("pid all", "All")), "process"),
    "tail": Command(
        tail,
        (
            ("tail [-f] <name> [stdout|stderr]", "The end of a process's log; -f follows it until Ctrl-C"),
            ("tail -100 <name>", f"Its last 100 bytes instead of {TAIL}"),
        ),
        "process",
    ),
    "maintail": Command(maintail, (("maintail [-f|-100]", "The end of the supervisor's own log, as tail"),)),
    "clear": Command(clear, (("clear <name> [...]", "Empty logs of processes"), ("clear all", "Empty the logs of all processes")), "process"),
    "fg": Command(foreground, (("fg <name>", "Talk to a process: see what it writes, and send it lines; Ctrl-C ends that"),), "process"),
}
