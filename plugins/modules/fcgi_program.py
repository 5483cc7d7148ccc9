# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_program
short_description: Make what runs under fcgivisord or supervisord what is declared
version_added: 1.0.0
description:
  - Brings programs to a state, all of them in one call, and waits for a verdict.
  - A program whose section changed is stopped, removed and added, and nothing else is touched. An unchanged one keeps its processes.
  - Programs and sections of others are left alone, even when their configuration has changed too.
  - A program that an earlier generation of O(declared) declared and the live one does not is stopped and removed when the whole list is brought to a
    state, once its section is gone, and the file of its unix socket with it.
  - A program whose own configuration changed while its section did not, as C(reload_digest) of O(declared) tells, is reloaded by its signal.
  - Talks XML-RPC to the supervisor and never uses its command line.
  - The supervisor is asked to read its configuration files again, in check mode too. That starts and stops nothing; it refreshes its view.
    In check mode it sees the files as they are; O(assume_programs) and O(assume_changed) tell it what the play would make of them.
author: webops.fastcgi contributors (@webops)
extends_documentation_fragment:
  - webops.fastcgi.program
attributes:
  check_mode:
    support: full
    description: Nothing is started, stopped, added or removed; the plan is returned.
  diff_mode:
    support: full
    description: Returns the configuration and the process states of every program that the plan touches, before and after.
  idempotent:
    support: partial
    details: >-
      V(restarted) and V(reloaded) act each time. A program whose own configuration changed is reloaded each time until the whole list of O(declared),
      and no selection of it, has come to run, with nothing pending.
    description: When run twice in a row with the same arguments, the second run changes nothing.
options:
  state:
    description:
      - V(present), configuration applied and everything running that the supervisor starts by itself. What was stopped by hand stays stopped. Where its
        section changed, fcgivisord takes the change. Under supervisord it stays pending, since that starts whatever is added; if only some processes of a
        pool were stopped by hand, the pool is updated and those are stopped again. Processes that are exited or fatal are started again.
        Where C(reload_digest) of a program is not what it was in the generation that came to run last, or in one since, its C(reload_signal) (V(HUP), if it
        has none) is sent to each process that has run since before this call. A digest that comes or goes is no change, since the command differs then.
        A php-fpm whose executable has been replaced since it was started, as an update of its package does, gets its signal too.
        In V(started) and V(restarted) likewise.
      - V(started), like V(present), and what was stopped by hand or is not started by itself is started too.
      - V(stopped), processes are stopped, exited or fatal. A process that is being tried again (backoff) is stopped.
      - V(restarted), what runs is stopped and started, one process of a pool after the other, each waited for. A changed section is
        applied, in the same restart. What was stopped by hand is started only if its name is written out in O(name).
      - V(reloaded), O(signal) is sent to each running process. Like all that get a signal, it has to go on running for its section's C(startsecs).
      - V(absent), programs are stopped and taken out of the supervisor.
    type: str
    choices: [present, started, stopped, restarted, reloaded, absent]
    default: present
  signal:
    description: The signal of O(state=reloaded), a name such as V(HUP). By default the one that the program declares, else V(HUP).
    type: str
  timeout:
    description:
      - Seconds until there has to be a verdict on all processes, beyond those that their sections grant them by C(stopwaitsecs) and C(startsecs).
      - A process that does not come to run ends the wait. No further one is restarted then, but what was stopped already is started again.
    type: int
    default: 60
  assume_absent:
    description:
      - In check mode only, take a supervisor that does not answer for one that this play would install or start. Then every program of O(name) and of
        O(assume_programs), or else of O(declared), counts as one that would be added.
    type: bool
    default: false
  assume_programs:
    description:
      - In check mode only, what this play would declare, as C(metadata.programs) of O(declared). It takes the place of what the live generation declares.
    type: list
    elements: dict
  assume_changed:
    description:
      - In check mode only, those of O(assume_programs) whose sections this play would write anew, as C(changed_parts) of M(webops.fastcgi.config_set).
    type: list
    elements: str
    default: []
seealso:
  - module: webops.fastcgi.fcgi_program_info
"""

EXAMPLES = r"""
- name: Run what is declared, and nothing else of ours
  webops.fastcgi.fcgi_program:
    declared: /etc/fcgi/default/fcgi_app

- name: Restart the programs of a group, one process after the other
  webops.fastcgi.fcgi_program:
    declared: /etc/fcgi/default/fcgi_app
    groups: [web]
    state: restarted

- name: Stop a pool by its plain name
  webops.fastcgi.fcgi_program:
    name: [shop]
    state: stopped

- name: Have programs reload gracefully
  webops.fastcgi.fcgi_program:
    declared: /etc/fcgi/default/fcgi_app
    name: ["shop*"]
    state: reloaded
    signal: USR1
"""

RETURN = r"""
programs:
  description: The processes of the selected programs as they are at the end, each as RV(webops.fastcgi.fcgi_program_info#module:programs).
  returned: when the supervisor answers
  type: list
  elements: dict
  sample: [{name: shop_00, program: shop, state: running, pid: 4711}]
added:
  description: Programs that were added.
  returned: always
  type: list
  elements: str
removed:
  description: Programs that were stopped and taken out of the supervisor.
  returned: always
  type: list
  elements: str
updated:
  description: Programs whose changed section was applied.
  returned: always
  type: list
  elements: str
started:
  description: Processes that were started, as C(program:process), or the plain name where both are the same.
  returned: always
  type: list
  elements: str
stopped:
  description: Processes that were stopped.
  returned: always
  type: list
  elements: str
restarted:
  description: Processes that were restarted.
  returned: always
  type: list
  elements: str
reloaded:
  description:
    - Processes that got the signal.
    - In check mode also those that fcgivisord may replace instead, where the program's section changed too.
  returned: always
  type: list
  elements: str
pending:
  description: Programs whose section changed and is not applied yet, and why is in the warnings.
  returned: always
  type: list
  elements: str
sockets_removed:
  description: Files of unix sockets that were deleted since their program is gone and nobody listens there.
  returned: always
  type: list
  elements: str
failed_programs:
  description: What did not come to run, on success an empty list.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The process, or the program where no single process is meant.
      type: str
    state:
      description: Its state, V(null) if the supervisor does not hold it.
      type: str
    reason:
      description: Why that is a failure.
      type: str
    spawnerr:
      description: Supervisord's words about the failed start.
      type: str
    exitstatus:
      description: How it ended last, in the supervisor's words, such as C(exit status 1).
      type: str
    log:
      description: The last 20 lines of its log.
      type: list
      elements: str
    hint:
      description: What that probably means and what to do.
      type: str
diagnosis:
  description: What is wrong, or looks wrong, with the sockets of running programs of kind C(fcgi).
  returned: always
  type: list
  elements: str
seconds:
  description: How long it took.
  returned: always
  type: float
msg:
  description: What happened, in words.
  returned: always
  type: str
"""

import contextlib
import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.fastcgi.plugins.module_utils import diagnosis, programs
from ansible_collections.webops.fastcgi.plugins.module_utils.backend import Backend, Configuration, SupervisorError, SupervisorUnreachable, Survey
from ansible_collections.webops.fastcgi.plugins.module_utils.converge import Converger, Journal
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationError, GenerationStore
from ansible_collections.webops.fastcgi.plugins.module_utils.plan import (
    REMOVED,
    Plan,
    Program,
    Selected,
    SelectionError,
    Step,
    assume,
    make_plan,
    nearest,
    pictures,
    programs_of,
    remove,
    select,
)

LOG_LINES = 20
# In these states the whole declared list comes to run as declared: leftovers go, and the generation counts as applied.
CONVERGING = ("present", "started", "restarted")
# Result key by action of a step: programs, or processes.
PROGRAM_ACTIONS = {"add": "added", "remove": "removed", "update": "updated"}
PROCESS_ACTIONS = {"start": "started", "stop": "stopped", "restart": "restarted", "reload": "reloaded"}


class Failed(Exception):
    """The call cannot do what it was asked for; the text is for the operator."""


class Declared:
    """What the generations at one path declare; nothing where no path is given.

    assumed: what a new generation would declare (check mode). Raises OptionError if a live generation is required and there is none, and GenerationError.
    """

    def __init__(self, path: str | None, required: bool, assumed: list[dict[str, t.Any]] | None) -> None:
        self.path = path
        self.programs: list[dict[str, t.Any]] = []
        self.earlier: list[dict[str, t.Any]] = []
        if path is not None:
            self._read(GenerationStore(path), required)
        if assumed is not None:
            self.programs, self.earlier = assumed, self.earlier + self.programs

    def _read(self, store: GenerationStore, required: bool) -> None:
        self._store = store
        self._live = store.current()
        if self._live is not None or required:
            self.programs = programs.declared_programs(store)
            self.earlier = [program for metadata in store.metadata_since_applied() for program in metadata.get("programs", [])]

    def metadata(self, name: str) -> dict[str, t.Any]:
        """What was declared last about a program; empty if nothing ever was."""
        return next((program for program in [*self.programs, *reversed(self.earlier)] if program["name"] == name), {})

    def rereads(self) -> set[str]:
        """Programs that declare another configuration of their own than an earlier generation, which what runs may have read."""
        now = {program["name"]: program.get("reload_digest") for program in self.programs}
        then = {(program["name"], program.get("reload_digest")) for program in self.earlier}
        return {name for name, digest in then if digest is not None and now.get(name) not in (None, digest)}

    def php_fpms(self) -> list[str]:
        """Masters of php-fpm, which execute themselves anew when they reload."""
        return [program["name"] for program in self.programs if program["kind"] == "php_fpm"]

    def leftovers(self) -> list[str]:
        """Programs that were declared and are no longer."""
        return sorted({program["name"] for program in self.earlier} - {program["name"] for program in self.programs})

    def mark_applied(self) -> None:
        if self.path is not None and self._live is not None and self._store.applied() != self._live:
            self._store.mark_applied(self._live)


class Call:
    """One run of this module. run() fills result; when it raises, result tells what had been done by then."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.state: str = module.params["state"]
        self.names: list[str] = module.params["name"] or []
        self.groups: list[str] = module.params["groups"] or []
        self.converging = self.state in CONVERGING
        self.assumes_absent: bool = module.check_mode and module.params["assume_absent"]
        self.whole_list = not self.names and not self.groups
        self.result: dict[str, t.Any] = {
            **{"changed": False, "programs": [], "pending": [], "sockets_removed": [], "failed_programs": [], "diagnosis": []},
            **_lists(()),
        }

    def run(self) -> None:
        """Raises Failed, and the errors of the rooms below."""
        check_mode, timeout = self.module.check_mode, self.module.params["timeout"]
        assumed = self.module.params["assume_programs"] if check_mode else None
        backend = programs.connect(self.module, 0 if check_mode else timeout)
        with self._alone():
            declared = Declared(self.module.params["declared"], required=not check_mode, assumed=assumed)
            try:
                survey = backend.survey()
            except SupervisorUnreachable:
                if not self.assumes_absent:
                    raise
                self._foresee({**dict.fromkeys(self.names, True), **{program["name"]: program["autostart"] for program in declared.programs}})
                self.result["msg"] = "the supervisor does not answer; taken for one that is yet to be installed, as assume_absent says"
                return
            configurations = self._configurations(backend, survey, declared)
            known = programs_of(survey, configurations)
            if assumed is not None:
                wanted = {program["name"]: program["autostart"] for program in assumed}
                known = assume(known, wanted, self.module.params["assume_changed"], declared.leftovers())
            selection = self._select(declared, known)
            plan = self._plan(declared, selection, known, backend.updates_in_place())
            startsecs = {one.full_name: one.startsecs for one in configurations}
            converger = Converger(backend, survey, startsecs, _cycles(configurations, declared), timeout, Journal(declared.path))
            try:
                if check_mode:
                    converger.done = list(plan.steps)
                else:
                    self._apply(plan, converger, declared)
            finally:
                self._tell(plan, known, converger)
                self.result["programs"] = programs.told(converger.processes.values(), selection, declared.programs, programs.measured(backend))
            self.result["failed_programs"] = [_failure(name, converger, backend, declared) for name in converger.failures]
        if self.result["failed_programs"]:
            raise Failed(_failure_words(self.result["failed_programs"]))

    def _foresee(self, autostart: dict[str, bool]) -> None:
        """What a supervisor that is yet to come would add and start; autostart: by program."""
        coming = assume({}, autostart, (), ())
        self.result.update(added=sorted(coming), changed=bool(coming))
        if self.module._diff:
            before, after = pictures(make_plan(self.state, map(Selected, coming), coming), coming)
            self.result["diff"] = {"before": before, "after": after}

    def _configurations(self, backend: Backend, survey: Survey, declared: Declared) -> list[Configuration]:
        """What the sections say; from the metadata where nothing has changed, since no other question takes the supervisor so long."""
        if survey.added or survey.changed or not (declared.path and self.whole_list):
            return backend.configurations()
        metadata = {program["name"]: program for program in declared.programs if program["name"] not in survey.removed}
        held = [(process["full_name"], metadata[process["program"]]) for process in survey.processes if process["program"] in metadata]
        return [Configuration(program["name"], name, program["autostart"], program["startsecs"], program["stopwaitsecs"]) for name, program in held]

    def _alone(self) -> t.ContextManager[t.Any]:
        """Two deployments of one set take turns."""
        store = GenerationStore(self.module.params["declared"] or "")
        if self.module.check_mode or store.current() is None:
            return contextlib.nullcontext()
        return store.lock(self.module.params["timeout"])

    def _select(self, declared: Declared, known: dict[str, Program]) -> list[Selected]:
        absent = self.state == "absent"
        candidates = {program["name"]: program["groups"] for program in declared.programs}
        if self.names and (absent or not declared.path):  # what is no longer declared can still be removed
            candidates = {**dict.fromkeys(known, ()), **candidates}
        selection, missing = select(self.names, self.groups, candidates, {name: program.process_names for name, program in known.items()})
        if missing and not absent:
            place = f"declared by {declared.path}" if declared.path else "known to the supervisor"
            raise Failed("; ".join(f"name: no program {name!r} is {place}; {nearest(name, candidates)}" for name in missing))
        if absent and any(one.processes is not None for one in selection):
            raise Failed("name: state=absent takes whole programs out of the supervisor; name the program, not one of its processes")
        return selection

    def _plan(self, declared: Declared, selection: list[Selected], known: dict[str, Program], in_place: bool) -> Plan:
        plan = Plan()
        if self.converging:
            self._require_sections(declared, selection, known)
        if self.converging and self.whole_list:
            for name in declared.leftovers():
                if name in known and known[name].section == REMOVED:
                    plan = plan.joined(remove(known[name]))
        asked = self.module.params["signal"] if self.state == "reloaded" else None
        signals = {one.program: asked or declared.metadata(one.program).get("reload_signal") or "HUP" for one in selection}
        rereads = declared.rereads() | {name for name in declared.php_fpms() if name in known and _runs_replaced(known[name])}
        return plan.joined(make_plan(self.state, selection, known, Journal(declared.path).read(), signals, in_place, rereads))

    def _require_sections(self, declared: Declared, selection: list[Selected], known: dict[str, Program]) -> None:
        without = [one.program for one in selection if one.program not in known]
        if not without:
            return
        text = (
            f"the supervisor's configuration has no section for {', '.join(without)}, which {declared.path} declares: "
            "does [include] files= of its configuration file name the directory of the set's link?"
        )
        if not self.module.check_mode:
            raise Failed(text)
        self.module.warn(text)

    def _apply(self, plan: Plan, converger: Converger, declared: Declared) -> None:
        try:
            converger.run(plan)
        finally:
            self.result["changed"] = converger.touched
        sockets = diagnosis.Sockets()
        self._remove_stale_sockets(converger.done, declared, sockets)
        self._examine_sockets(plan, converger, declared, sockets)
        if self.converging and self.whole_list and not plan.pending and not converger.failures:
            declared.mark_applied()

    def _remove_stale_sockets(self, done: list[Step], declared: Declared, sockets: diagnosis.Sockets) -> None:
        removed = {step.program for step in done if step.action == "remove"}
        in_use = {program["socket"] for program in declared.programs if program["name"] not in removed}
        stale = {declared.metadata(name).get("socket") for name in removed}
        if self.converging and self.whole_list:
            stale |= {program["socket"] for program in declared.earlier}
        paths = [diagnosis.remove_stale_socket(url, sockets) for url in sorted(url for url in stale - in_use if url)]
        self.result["sockets_removed"] = [path for path in paths if path]
        self.result["changed"] = self.result["changed"] or bool(self.result["sockets_removed"])

    def _examine_sockets(self, plan: Plan, converger: Converger, declared: Declared, sockets: diagnosis.Sockets) -> None:
        pids: dict[str, dict[str, int]] = {}
        for name in plan.running:
            process = converger.processes.get(name)
            if process and process["state"] == "running":
                pids.setdefault(process["program"], {})[name] = process["pid"]
        for program in declared.programs:
            for finding in diagnosis.examine(program, pids.get(program["name"], {}), sockets):
                self.result["diagnosis"].append(finding.words)
                if finding.broken:
                    converger.failures.setdefault(finding.program, finding.words)

    def _tell(self, plan: Plan, known: dict[str, Program], converger: Converger) -> None:
        result = self.result
        result.update(_lists(converger.done))
        result["pending"] = list(plan.pending)
        result["changed"] = result["changed"] or bool(converger.done)
        result["msg"] = _success_words(result)
        if self.module._diff:
            before, after = pictures(plan, known)
            result["diff"] = {"before": before, "after": after}
        for warning in [*plan.warnings, *converger.warnings]:
            self.module.warn(warning)


def _runs_replaced(program: Program) -> bool:
    """Whether some process runs an executable that has been replaced since, as an update of its package does."""
    return any(_replaced(process["pid"]) for process in program.processes.values() if process["pid"])


def _replaced(pid: int) -> bool:
    try:
        path, gone, _rest = os.readlink(f"/proc/{pid}/exe").partition(" (deleted)")
    except OSError:  # it has ended, or is another user's
        return False
    return bool(gone) and os.path.isfile(path)


def _cycles(configurations: t.Iterable[Configuration], declared: Declared) -> dict[str, int]:
    """Seconds that one process of a program may take to stop and to start: the longest of what its section, and earlier ones, grant."""
    cycles: dict[str, int] = {}
    sections = [(one.program, one.stopwaitsecs + one.startsecs) for one in configurations]
    sections += [(program["name"], program["stopwaitsecs"] + program["startsecs"]) for program in [*declared.programs, *declared.earlier]]
    for name, seconds in sections:
        cycles[name] = max(seconds, cycles.get(name, 0))
    return cycles


def _failure(name: str, converger: Converger, backend: Backend, declared: Declared) -> dict[str, t.Any]:
    process = converger.processes.get(name)
    failure: dict[str, t.Any] = {"name": name, "reason": converger.failures[name]}
    failure.update({"state": None, "spawnerr": None, "exitstatus": None, "log": [], "hint": None})
    if process is None:
        return failure
    failure.update(state=process["state"], spawnerr=process["spawn_error"], log=backend.log_lines(name, LOG_LINES))
    if process["state"] in ("fatal", "backoff", "exited"):
        failure["exitstatus"] = backend.last_exit(process["name"])
        failure["hint"] = diagnosis.hint(failure["log"], process["spawn_error"], declared.metadata(process["program"]))
    return failure


def _lists(steps: t.Iterable[Step]) -> dict[str, list[str]]:
    """The result's lists of what was done."""
    lists: dict[str, list[str]] = {key: [] for key in [*PROGRAM_ACTIONS.values(), *PROCESS_ACTIONS.values()]}
    for step in steps:
        if step.action in PROGRAM_ACTIONS:
            lists[PROGRAM_ACTIONS[step.action]].append(step.program)
        else:
            lists[PROCESS_ACTIONS[step.action]].extend(step.processes)
    return lists


def _success_words(result: dict[str, t.Any]) -> str:
    done = [f"{len(result[key])} {key}" for key in [*PROGRAM_ACTIONS.values(), *PROCESS_ACTIONS.values(), "pending"] if result[key]]
    return ", ".join(done) or "nothing to do"


def _failure_words(failures: list[dict[str, t.Any]]) -> str:
    words = [_failure_word(failure) for failure in failures[:3]]
    if len(failures) > 3:
        words.append(f"and {len(failures) - 3} more in failed_programs")
    return "\n".join(words)


def _failure_word(failure: dict[str, t.Any]) -> str:
    details = [failure["spawnerr"], failure["exitstatus"], failure["hint"], failure["log"] and f"its last words: {failure['log'][-1]}"]
    return "; ".join([f"{failure['name']}: {failure['reason']}", *(detail for detail in details if detail)])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **programs.ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "started", "stopped", "restarted", "reloaded", "absent"], "default": "present"},
            "signal": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
            "assume_absent": {"type": "bool", "default": False},
            "assume_programs": {"type": "list", "elements": "dict"},
            "assume_changed": {"type": "list", "elements": "str", "default": []},
        },
        required_by={"groups": "declared"},
        required_one_of=[("declared", "name")],
        supports_check_mode=True,
    )
    call = Call(module)
    begin = time.monotonic()
    finish = module.exit_json
    try:
        call.run()
    except (SupervisorError, GenerationError, programs.OptionError, SelectionError, Failed) as error:
        finish = module.fail_json
        call.result["msg"] = str(error)
    finish(seconds=round(time.monotonic() - begin, 2), **call.result)


if __name__ == "__main__":
    main()
