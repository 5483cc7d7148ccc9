# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of fcgivisorctl about the configuration and the supervisor itself. Texts and exit codes are those of supervisorctl, where it has them."""

from __future__ import annotations

import xmlrpc.client
from typing import TYPE_CHECKING, Any

from fcgivisor import VERSION, ctl_names, ctl_processes
from fcgivisor.client import Client, Exit, NotReached
from fcgivisor.ctl_session import Command, UsageError
from fcgivisor.ctl_text import lines
from fcgivisor.wire import FAULTS

if TYPE_CHECKING:
    from fcgivisor.ctl_session import Session

_PAST = {"add": "added", "restart": "restarted", "remove": "stopped and removed", "change": "changed without a restart"}
_FUTURE = {"add": "add", "restart": "restart", "remove": "stop and remove", "change": "change without a restart"}


def _no_words(name: str, words: list[str]) -> None:
    if words:
        raise UsageError(f"Error: {name} accepts no arguments")


def avail(session: Session, words: list[str]) -> None:
    _no_words("avail", words)
    session.data = session.client.call("getAllConfigInfo")
    for info in session.data:
        name = ctl_names.join(info["group"], info["name"])
        in_use, auto = "in use" if info["inuse"] else "avail", "auto" if info["autostart"] else "manual"
        session.line(f"{name:<32} {in_use:<9} {auto:<9} {info['group_prio']}:{info['process_prio']}")


def reread(session: Session, words: list[str]) -> None:
    _no_words("reread", words)
    changes = _reload(session)
    if changes is None:
        return
    added, changed, removed = changes
    told = {**dict.fromkeys(added, "available"), **dict.fromkeys(changed, "changed"), **dict.fromkeys(removed, "disappeared")}
    for name in sorted(told):
        session.line(f"{name}: {told[name]}")
    if not told:
        session.line("No config updates to processes")
    session.data = {"added": added, "changed": changed, "removed": removed}


def _reload(session: Session) -> list[list[str]] | None:
    try:
        return session.client.call("reloadConfig")[0]
    except xmlrpc.client.Fault as fault:
        _tell_reading_fault(session, fault)
        return None


def _tell_reading_fault(session: Session, fault: xmlrpc.client.Fault) -> None:
    if fault.faultCode not in (FAULTS["CANT_REREAD"], FAULTS["FAILED"]):
        raise fault
    session.error(f"ERROR: {fault.faultString}")


def add(session: Session, words: list[str]) -> None:
    for name in words:
        try:
            session.client.call("addProcessGroup", name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == FAULTS["ALREADY_ADDED"]:
                _failure(session, name, "ERROR: process group already active", counts=False)
            elif fault.faultCode == FAULTS["BAD_NAME"]:
                known = sorted({info["group"] for info in session.client.call("getAllConfigInfo")})
                hint = ctl_names.nearest(name, known) or "; a new section of the configuration has to be reread first"
                _failure(session, name, f"ERROR: no such process/group: {name}{hint}")
            elif fault.faultCode == FAULTS["FAILED"]:
                _failure(session, name, f"ERROR: {fault.faultString}")
            else:
                raise
        else:
            _done(session, name, "added process group")


def remove(session: Session, words: list[str]) -> None:
    for name in words:
        try:
            session.client.call("removeProcessGroup", name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == FAULTS["STILL_RUNNING"]:
                _failure(session, name, f"ERROR: process/group still running: {name}; stop {name}:* first")
            elif fault.faultCode == FAULTS["BAD_NAME"]:
                _failure(session, name, f"ERROR: no such process/group: {name}{_nearest_group(session, name)}")
            else:
                raise
        else:
            _done(session, name, "removed process group")


def _done(session: Session, name: str, what: str) -> None:
    session.line(f"{name}: {what}")
    session.results.append({"name": name, "result": what, "error": None})


def _failure(session: Session, name: str, text: str, counts: bool = True) -> None:
    """counts: whether it makes the exit code one of failure."""
    session.line(text)
    session.results.append({"name": name, "result": "error", "error": text})
    if counts:
        session.status = Exit.GENERIC


def _nearest_group(session: Session, name: str) -> str:
    return ctl_names.nearest(name, sorted({group for group, _process in session.known()}))


# update


def update(session: Session, words: list[str]) -> None:
    dry_run = "--dry-run" in words or "-n" in words
    names = [word for word in words if word not in ("--dry-run", "-n")]
    for word in names:
        if word.startswith("-"):
            raise UsageError(f"Error: update knows --dry-run, not {word}", Exit.INVALID_ARGUMENTS)
    before = list(session.known())
    try:
        steps = _our_update(session, [] if "all" in names else names, dry_run)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode == FAULTS["UNKNOWN_METHOD"]:
            _update_as_supervisorctl(session, set() if "all" in names else set(names), dry_run)
        else:
            _tell_reading_fault(session, fault)
        return
    if steps is None:
        return
    session.forget()
    groups = _group_words(before, steps)
    for group, word in groups.items():
        session.line(f"{group}: would be {word}" if dry_run else f"{group}: {word} process group")
        mine = [step for step in steps if step["group"] == group]
        words_for = _FUTURE if dry_run else _PAST
        rows = [["", ctl_names.join(group, step["process"] or None), words_for[step["action"]], ", ".join(step["keys"])] for step in mine]
        for text in lines(rows):
            session.line(text)
    if not steps and session.status == Exit.SUCCESS:
        session.line("No config updates to processes")
    elif dry_run and steps:
        session.line("Nothing has been changed (--dry-run).")
    failed = [] if dry_run else _failed(session, steps)
    session.data = {"dry_run": dry_run, "groups": groups, "steps": steps, "failed": failed, "errors": [result["error"] for result in session.results]}


def _our_update(session: Session, names: list[str], dry_run: bool) -> list[dict[str, Any]] | None:
    """The steps; None where no name is left that the supervisor knows, which has been told."""
    if any(ctl_names.is_pattern(name) for name in names):
        steps = session.client.call("fcgivisor.update", [], True, True)
        groups = [(group, group) for group in dict.fromkeys([*(group for group, _process in session.known()), *(step["group"] for step in steps)])]
        names = [found for name in names for found in (ctl_names.expand(name, groups) or [name])]
    wanted = list(dict.fromkeys(names))
    while True:
        try:
            return session.client.call("fcgivisor.update", wanted, dry_run, True)
        except xmlrpc.client.Fault as fault:
            name = fault.faultString.partition(": ")[2]
            if fault.faultCode != FAULTS["BAD_NAME"] or name not in wanted:
                raise
            _failure(session, name, f"ERROR: no such group: {name}{_nearest_group(session, name)}")
            wanted.remove(name)
            if not wanted:
                return None


def _group_words(before: list[tuple[str, str]], steps: list[dict[str, Any]]) -> dict[str, str]:
    """What becomes of each group: added, removed or updated."""
    words = {}
    for group in dict.fromkeys(step["group"] for step in steps):
        members = {process for name, process in before if name == group}
        actions = {action: {step["process"] for step in steps if (step["group"], step["action"]) == (group, action)} for action in ("add", "remove")}
        gone = bool(members) and actions["remove"] == members and not actions["add"]
        words[group] = "added" if not members else "removed" if gone else "updated"
    return words


def _failed(session: Session, steps: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Of the processes that were to start, those that do not run: supervisord would say nothing of them."""
    touched = {ctl_names.join(step["group"], step["process"]) for step in steps if step["action"] in ("add", "restart")}
    if not touched:
        return []
    failed = []
    for process in session.client.status()["processes"]:
        if process["name"] in touched and process["state"] in ("BACKOFF", "FATAL"):
            session.line(f"{process['name']}: ERROR (abnormal termination): {process['description']}")
            failed.append({"name": process["name"], "state": process["state"], "description": process["description"]})
            session.status = Exit.NOT_RUNNING
    return failed


def _update_as_supervisorctl(session: Session, names: set[str], dry_run: bool) -> None:
    """Group by group, since supervisord can do no other (supervisorctl.py, do_update)."""
    changes = _reload(session)
    if changes is None:
        return
    added, changed, removed = changes
    known = {group for group, _process in session.known()} | set(added)
    chosen = set()
    for name in sorted(names):
        found = {entry[0] for entry in ctl_names.matching(name, [(group, group) for group in sorted(known)])}
        chosen |= found
        if not found:
            _failure(session, name, f"ERROR: no such group: {name}{ctl_names.nearest(name, known)}")
    steps: list[dict[str, Any]] = []
    call = session.client.call
    for action, groups in (("remove", removed), ("restart", changed), ("add", added)):
        for group in groups:
            if names and group not in chosen:
                continue
            steps.append({"action": action, "group": group, "process": "", "keys": []})
            if dry_run:
                session.line(f"{group}: would be {'updated' if action == 'restart' else _PAST[action].rpartition(' ')[2]} as a whole")
                continue
            if action != "add":
                results = call("stopProcessGroup", group)
                session.line(f"{group}: stopped")
                if any(result["status"] == FAULTS["FAILED"] for result in results):
                    _failure(session, group, f"{group}: has problems; not removing")
                    continue
                call("removeProcessGroup", group)
            if action != "remove":
                call("addProcessGroup", group)
            session.line(f"{group}: {'updated' if action == 'restart' else _PAST[action].rpartition(' ')[2]} process group")
    if not steps and session.status == Exit.SUCCESS:
        session.line("No config updates to processes")
    groups_told = {step["group"]: "updated" if step["action"] == "restart" else _PAST[step["action"]].rpartition(" ")[2] for step in steps}
    session.data = {"dry_run": dry_run, "groups": groups_told, "steps": steps, "failed": [], "errors": [result["error"] for result in session.results]}


# The supervisor


def shutdown(session: Session, words: list[str]) -> None:
    _no_words("shutdown", words)
    _end(session, "shutdown", "Really shut the remote supervisord process down y/N? ", "Shut down", ignored=True)


def reload(session: Session, words: list[str]) -> None:
    _no_words("reload", words)
    _end(session, "restart", "Really restart the remote supervisord process y/N? ", "Restarted supervisord", ignored=False)


def _end(session: Session, method: str, question: str, done: str, ignored: bool) -> None:
    """ignored: whether a shutdown that is under way already is no failure."""
    if session.interactive and not input(question).lower().startswith("y"):
        return
    try:
        session.client.call(method)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != FAULTS["SHUTDOWN_STATE"]:
            raise
        session.error("ERROR: already shutting down", Exit.SUCCESS if ignored else Exit.GENERIC)
        return
    session.line(done)
    session.data = {"result": done}


def version(session: Session, words: list[str]) -> None:
    _no_words("version", words)
    told = session.client.call("getSupervisorVersion")
    session.line(told)
    session.data = {"supervisor": told, "fcgivisorctl": VERSION}


def open_url(session: Session, words: list[str]) -> None:
    if len(words) != 1 or not words[0].startswith(("unix://", "http://")):
        raise UsageError("ERROR: url must be http:// or unix://")
    before, session.client = session.client, Client(words[0], session.client.username, session.client.password)
    before.close()
    session.forget()
    status_before = session.status
    try:
        session.client.require_interface()
        ctl_processes.status(session, [])
    except NotReached as error:
        session.explain(error, "open")
    session.status = status_before


COMMANDS = {
    "update": Command(
        update,
        (
            ("update [--dry-run]", "Read the configuration and make what runs what it says, process by process; --dry-run only tells the steps"),
            ("update [--dry-run] <group> [...]", "The same for some groups, by name or pattern"),
        ),
        "group",
    ),
    "reread": Command(reread, (("reread", "Read the configuration and tell which groups differ; nothing starts or stops"),)),
    "avail": Command(avail, (("avail", "All processes that the configuration knows"),)),
    "add": Command(add, (("add <group> [...]", "Take on groups of the configuration that was read last"),), "group"),
    "remove": Command(remove, (("remove <group> [...]", "Forget groups that have stopped"),), "group"),
    "reload": Command(reload, (("reload", "Stop everything, read the configuration and begin anew"),)),
    "shutdown": Command(shutdown, (("shutdown", "Stop everything and end the supervisor"),)),
    "version": Command(version, (("version", "The supervisor's version"),)),
    "open": Command(open_url, (("open <url>", "Go on with another supervisor: unix:///path or http://host:port"),), alone=True),
}
