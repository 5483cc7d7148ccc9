# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is declared and what runs to the steps between them: pure functions over plain data.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

Processes are the dicts of backend/__init__.py and are named by their full name throughout ("shop:shop_00").
"""

from __future__ import annotations

import difflib
import fnmatch
import typing as t

UP = frozenset({"starting", "running", "backoff"})
AT_REST = frozenset({"stopped", "exited", "fatal", "unknown"})
# At rest, but for how long only the supervisor knows: it may start it again by itself.
_RESTLESS = UP | {"stopping", "exited"}

# Seconds that a process takes at most to stop and to start, where nothing is known of its section: supervisord's stopwaitsecs and startsecs.
_USUAL_CYCLE = 11

# How a program's section in the configuration files compares with what the supervisor holds.
SAME = "same"
CHANGED = "changed"
ADDED = "added"  # in the files only
REMOVED = "removed"  # in the supervisor only

_CONFIGURATION_WORDS = {SAME: "current", CHANGED: "outdated", ADDED: "none", REMOVED: "gone from the files"}


class SelectionError(Exception):
    """A name or group that selects nothing; the text names it and what comes nearest."""


class Program(t.NamedTuple):
    """One program (supervisord: process group) as the supervisor's files and its state show it."""

    name: str
    section: str  # SAME, CHANGED, ADDED, REMOVED
    processes: dict[str, dict[str, t.Any]]  # that the supervisor holds now
    autostart: dict[str, bool]  # of each process that the files declare

    @property
    def process_names(self) -> list[str]:
        return sorted({*self.processes, *self.autostart})

    @property
    def automatic(self) -> set[str]:
        """Processes that the supervisor starts by itself once the program is added."""
        return {name for name, autostart in self.autostart.items() if autostart}


class Selected(t.NamedTuple):
    """A program that a call is about."""

    program: str
    processes: frozenset[str] | None = None  # None: all of them
    by_name: bool = False  # its name was written out, which asks even for what was stopped by hand


class Step(t.NamedTuple):
    """What is to be done with one program. Steps of different programs do not depend on one another, but they have their sequence (in_sequence)."""

    action: str  # add, update, remove, start, stop, restart, reload
    program: str
    processes: tuple[str, ...] = ()  # that it is done to; add, update: to be started besides those that the supervisor starts itself
    stops: tuple[str, ...] = ()  # update: what may have to be stopped first; in place: what is to be restarted though the update may not ask for that
    rests: tuple[str, ...] = ()  # update: stopped by hand before, so stopped again after
    signal: str = ""  # reload


class Plan(t.NamedTuple):
    """Steps, and what must be true at the end."""

    steps: tuple[Step, ...] = ()
    running: frozenset[str] = frozenset()  # processes that have to run
    resting: frozenset[str] = frozenset()  # processes that have to be stopped, exited or fatal
    pending: tuple[str, ...] = ()  # programs whose change waits, since applying it would start what was stopped by hand
    warnings: tuple[str, ...] = ()

    def joined(self, other: Plan) -> Plan:
        return Plan(
            self.steps + other.steps,
            self.running | other.running,
            self.resting | other.resting,
            self.pending + other.pending,
            self.warnings + other.warnings,
        )


def programs_of(survey: t.Any, configurations: t.Iterable[t.Any]) -> dict[str, Program]:
    """All programs of a backend's Survey and its Configurations, by name."""
    sections = {**dict.fromkeys(survey.added, ADDED), **dict.fromkeys(survey.changed, CHANGED), **dict.fromkeys(survey.removed, REMOVED)}
    programs: dict[str, Program] = {name: Program(name, section, {}, {}) for name, section in sections.items()}
    for one in configurations:
        programs.setdefault(one.program, Program(one.program, SAME, {}, {})).autostart[one.full_name] = one.autostart
    for process in survey.processes:
        programs.setdefault(process["program"], Program(process["program"], SAME, {}, {})).processes[process["full_name"]] = process
    return programs


def assume(programs: t.Mapping[str, Program], declared: t.Mapping[str, bool], changed: t.Container[str], gone: t.Container[str]) -> dict[str, Program]:
    """The programs as they would be seen once a play, now in check mode, had written their sections.

    declared: whether it starts by itself, by program. changed: programs whose section differs. gone: programs that have none any more.
    """
    assumed = dict(programs)
    for name, autostart in declared.items():
        held = programs.get(name, Program(name, ADDED, {}, {}))
        if not held.processes:
            assumed[name] = held._replace(section=ADDED, autostart=held.autostart or {name: autostart})
        elif name in changed or held.section == REMOVED:
            assumed[name] = held._replace(section=CHANGED, autostart=dict.fromkeys(held.processes, autostart))
    for name, program in programs.items():
        if name in gone:
            assumed[name] = program._replace(section=REMOVED, autostart={})
    return assumed


def in_sequence(steps: t.Sequence[Step]) -> tuple[list[Step], list[Step], list[Step]]:
    """Removals, what comes after them, and reloads: they are for what is not started anew meanwhile."""
    removals = [step for step in steps if step.action == "remove"]
    reloads = [step for step in steps if step.action == "reload"]
    return removals, [step for step in steps if step.action not in ("remove", "reload")], reloads


def granted_seconds(plan: Plan, cycles: t.Mapping[str, float]) -> float:
    """How long a plan may take by what the sections themselves grant: programs side by side, the processes of a restarted pool one after the other.

    cycles: seconds that one process of a program may take to stop and to start again.
    """

    def granted(program: str) -> float:
        return cycles.get(program, _USUAL_CYCLE)

    removals, others, reloads = [
        [granted(step.program) * (len(step.processes) if step.action == "restart" else 1) for step in steps] for steps in in_sequence(plan.steps)
    ]
    waits = [granted(name.partition(":")[0]) for name in plan.running | plan.resting]
    return max(removals, default=0) + max(others + waits, default=0) + max(reloads, default=0)


def select(
    names: t.Sequence[str], groups: t.Sequence[str], candidates: t.Mapping[str, t.Sequence[str]], known: t.Mapping[str, t.Sequence[str]]
) -> tuple[list[Selected], list[str]]:
    """What names and group labels select, and the names that select nothing.

    names: programs ("shop"), processes ("shop:shop_00"), patterns of either ("shop*", "shop:*"); "shop:" is "shop".
    groups: group labels. Neither names nor groups: all candidates.
    candidates: the programs that can be selected, and the labels of each.
    known: full names of the processes by program, as the supervisor knows them.
    Raises SelectionError for a label that no candidate has.
    """
    if not names and not groups:
        return [Selected(name) for name in candidates], []
    chosen = {name: Selected(name) for label in groups for name in _labelled(label, candidates)}
    missing = []
    for name in names:
        matches = _matches(name, candidates, known)
        for match in matches:
            chosen[match.program] = _union(chosen.get(match.program, match), match)
        if not matches:
            missing.append(name)
    return list(chosen.values()), missing


def nearest(name: str, candidates: t.Iterable[str]) -> str:
    """The words that help with a name that nothing has."""
    candidates = sorted(candidates)
    close = difflib.get_close_matches(name, candidates, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are: {', '.join(candidates[:20])}" if candidates else "there are none"


def make_plan(
    state: str,
    selection: t.Iterable[Selected],
    programs: t.Mapping[str, Program],
    interrupted: t.Container[str] = (),
    signals: t.Mapping[str, str] | None = None,
    in_place: bool = False,
    rereads: t.Container[str] = (),
) -> Plan:
    """The way from what is to state (present, started, stopped, restarted, reloaded, absent).

    interrupted: processes that an earlier call stopped and did not come to start again: not stopped by hand.
    signals: of a reload, by program. in_place: whether the supervisor takes a changed section process by process.
    rereads: programs whose own configuration changed, which what runs has to read again.
    """
    plan = Plan()
    for selected in selection:
        program = programs.get(selected.program, Program(selected.program, REMOVED, {}, {}))
        signal = (signals or {}).get(program.name, "HUP")
        chosen = program.process_names if selected.processes is None else sorted(selected.processes)
        if state == "stopped":
            part = _stop(program, chosen)
        elif state == "reloaded":
            part = _reload(program, chosen, signal)
        elif state == "absent":
            part = remove(program)
        else:
            asked = frozenset(chosen) if state == "started" or (state == "restarted" and selected.by_name) else frozenset()
            part = _run(program, chosen, asked, state == "restarted", interrupted, in_place)
            if program.name in rereads:
                part = part.joined(_reread(program, chosen, part, signal, in_place))
        plan = plan.joined(part)
    return plan


def remove(program: Program) -> Plan:
    """Stop a program and take it out of the supervisor."""
    still_there = f"{program.name}: its section is still in the configuration files, so the supervisor adds it again when it is restarted"
    warnings = () if program.section == REMOVED else (still_there,)
    if not program.processes:  # the supervisor does not hold it
        return Plan(warnings=warnings)
    return Plan((Step("remove", program.name),), warnings=warnings)


def pictures(plan: Plan, programs: t.Mapping[str, Program]) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """Before and after of every program that the plan touches, for a diff."""
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    for name in dict.fromkeys(step.program for step in plan.steps):
        program = programs[name]
        states = {process: told["state"] for process, told in program.processes.items()}
        before[name] = _picture(program.section, states)
        after[name] = _picture(*_outcome([step for step in plan.steps if step.program == name], program, states, plan))
    return before, after


def _picture(section: str, states: t.Mapping[str, str]) -> dict[str, t.Any]:
    return {"configuration": _CONFIGURATION_WORDS[section], "processes": dict(states)}


def _outcome(steps: t.Sequence[Step], program: Program, states: dict[str, str], plan: Plan) -> tuple[str, dict[str, str]]:
    """Section and states of the processes as they will be after the steps of a program."""
    actions = {step.action for step in steps}
    if "remove" in actions:
        return ADDED if program.autostart else REMOVED, {}
    section = program.section
    if actions & {"add", "update"}:
        section, states = SAME, dict.fromkeys(sorted(program.autostart), "stopped")
    states = {name: "running" if name in plan.running else "stopped" if name in plan.resting else state for name, state in states.items()}
    for step in steps:
        if step.action in ("restart", "reload"):  # else nobody would see that anything is done
            words = f"running (signal {step.signal})" if step.signal else "running (restarted)"
            states.update(dict.fromkeys(step.processes, words))
    return section, states


def _run(program: Program, chosen: t.Sequence[str], asked: frozenset[str], restart: bool, interrupted: t.Container[str], in_place: bool) -> Plan:
    if program.section == ADDED:
        return Plan((Step("add", program.name, _names(asked - program.automatic)),), asked | program.automatic)
    if program.section == CHANGED:
        return _update_in_place(program, asked, restart, interrupted) if in_place else _update(program, asked, interrupted)
    return _keep(program, chosen, asked, restart, interrupted)


def _update(program: Program, asked: frozenset[str], interrupted: t.Container[str]) -> Plan:
    """A changed section: the supervisor takes it only by removing the program and adding it, and starts what it adds."""
    by_hand = {name for name, process in program.processes.items() if name not in asked and _stopped_by_hand(process, interrupted)}
    if program.automatic and by_hand and by_hand == set(program.processes):
        text = "its section has changed, but it was stopped by hand and the supervisor would start it, so the change waits; state=started applies it"
        return Plan(pending=(program.name,), warnings=(f"{program.name}: {text}",))
    was_up = {name for name, process in program.processes.items() if process["state"] in UP or name in interrupted}
    wanted = (program.automatic | asked | was_up) & set(program.autostart) - by_hand
    stops = tuple(name for name, process in program.processes.items() if process["state"] in _RESTLESS)
    step = Step("update", program.name, _names(wanted - program.automatic), stops, _names(by_hand & program.automatic))
    return Plan((step,), frozenset(wanted))


def _update_in_place(program: Program, asked: frozenset[str], restart: bool, interrupted: t.Container[str]) -> Plan:
    """A changed section, for a supervisor that knows itself which processes it concerns, and lets those rest that were stopped by hand."""
    running, to_start = set(), set()
    for name, autostart in program.autostart.items():
        process = program.processes.get(name)
        if process is None:
            fate = "run" if autostart else "start" if name in asked else ""
        elif process["state"] in UP:
            fate = "run"
        else:
            fate = _fate(process, autostart, name in asked or name in interrupted, restart=False)
        running |= {name} if fate else set()
        to_start |= {name} if fate == "start" else set()
    up = [name for name in running if name in program.processes and program.processes[name]["state"] in UP]
    return Plan((Step("update", program.name, _names(to_start), stops=_names(up) if restart else ()),), frozenset(running))


def _keep(program: Program, chosen: t.Iterable[str], asked: frozenset[str], restart: bool, interrupted: t.Container[str]) -> Plan:
    """An unchanged section: each process has its own fate."""
    fates: dict[str, list[str]] = {"restart": [], "start": [], "run": [], "": []}
    for name in chosen:
        process = program.processes[name]
        fates[_fate(process, name in program.automatic, name in asked or name in interrupted, restart)].append(name)
    steps = tuple(Step(action, program.name, tuple(fates[action])) for action in ("restart", "start") if fates[action])
    return Plan(steps, frozenset(fates["restart"] + fates["start"] + fates["run"]))


def _fate(process: t.Mapping[str, t.Any], automatic: bool, asked: bool, restart: bool) -> str:
    """restart; start; run (is to run, and nothing has to be done for it); empty (none of our business)."""
    if restart and process["state"] in UP:
        return "restart"
    if not (automatic or asked):
        return ""
    if process["state"] in ("exited", "fatal"):
        return "start"
    if process["state"] in ("stopped", "stopping") and asked:
        return "start"
    return "" if _stopped_by_hand(process, ()) else "run"


def _stopped_by_hand(process: t.Mapping[str, t.Any], interrupted: t.Container[str]) -> bool:
    """Only an order stops what ran before; what was never started has no such history."""
    return process["state"] in ("stopped", "stopping") and process["ever_started"] and process["full_name"] not in interrupted


def _stop(program: Program, chosen: t.Iterable[str]) -> Plan:
    held = [name for name in chosen if name in program.processes]
    up = tuple(name for name in held if program.processes[name]["state"] in UP)
    return Plan((Step("stop", program.name, up),) if up else (), resting=frozenset(held))


def _reload(program: Program, chosen: t.Iterable[str], signal: str) -> Plan:
    running = tuple(name for name in chosen if name in program.processes and program.processes[name]["state"] == "running")
    steps = (Step("reload", program.name, running, signal=signal),) if running else ()
    if program.section == CHANGED:
        text = "its section has changed, which a signal does not apply; state=present does"
        return Plan(steps, frozenset(running), pending=(program.name,), warnings=(f"{program.name}: {text}",))
    warnings = () if running else (f"{program.name}: not running, so there is nothing to reload",)
    return Plan(steps, frozenset(running), warnings=warnings)


def _reread(program: Program, chosen: t.Iterable[str], part: Plan, signal: str, in_place: bool) -> Plan:
    """The program's own configuration changed: a signal to each process that has read the old one, unless part starts it anew anyway."""
    if program.section == CHANGED and not in_place:
        return Plan()
    anew = {name for step in part.steps for name in (step.processes if step.action == "restart" else step.stops)}
    stays = program.autostart if program.section == CHANGED else program.processes
    held = {name: program.processes[name]["state"] for name in chosen if name in program.processes and name in stays}
    readers = _names(name for name, state in held.items() if state in ("running", "starting") and name not in anew)
    return Plan((Step("reload", program.name, readers, signal=signal),) if readers else (), frozenset(readers))


def _names(names: t.Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _labelled(label: str, candidates: t.Mapping[str, t.Sequence[str]]) -> list[str]:
    programs = [name for name, labels in candidates.items() if label in labels]
    if not programs:
        there = {label for labels in candidates.values() for label in labels}
        raise SelectionError(f"groups: no declared program is in a group {label!r}; {nearest(label, there)}")
    return programs


def _matches(name: str, candidates: t.Iterable[str], known: t.Mapping[str, t.Sequence[str]]) -> list[Selected]:
    program_pattern, _colon, process_pattern = name.partition(":")
    by_name = not any(character in program_pattern for character in "*?[")
    programs = [candidate for candidate in candidates if fnmatch.fnmatchcase(candidate, program_pattern)]
    if not process_pattern or process_pattern == "*":
        return [Selected(program, None, by_name) for program in programs]
    found = []
    for program in programs:
        processes = frozenset(process for process in known.get(program, ()) if fnmatch.fnmatchcase(process.partition(":")[2] or process, process_pattern))
        if processes:
            found.append(Selected(program, processes, by_name))
    return found


def _union(one: Selected, other: Selected) -> Selected:
    processes = None if one.processes is None or other.processes is None else one.processes | other.processes
    return Selected(one.program, processes, one.by_name or other.by_name)
