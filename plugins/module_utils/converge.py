# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a plan out: all programs side by side, one look at the supervisor per round, until there is a verdict.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

A step is a script: a generator that yields the orders it wants given now (none: wait for the next look) and gets their faults
back. The orders of all scripts of a round travel in one call, so that 200 programs take few more calls than one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing as t

from ansible_collections.webops.fastcgi.plugins.module_utils.backend import Backend, Order, SupervisorFault, SupervisorStillRunning, Survey
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationStore, replace_file
from ansible_collections.webops.fastcgi.plugins.module_utils.plan import AT_REST, UP, Plan, Step, granted_seconds, in_sequence

Faults = list[t.Optional[SupervisorFault]]
Script = t.Generator[list[Order], Faults, None]

_SHORTEST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25
# supervisord looks once a second at what has exited: until then nobody knows whether it will start it again.
_EXITED_IS_FINAL = 2.5
# What ended may have left children behind that hold its address for a moment.
_ADDRESS_PATIENCE = 2
# supervisord announces RUNNING falsely now and then (a death that it has not noticed): with startsecs=0 one look is not enough either.
_SHORTEST_PROOF = 0.25


class Journal:
    """Which processes were stopped in order to be started again: a run that is killed in between must not leave them "stopped by hand"."""

    def __init__(self, directory: str | None) -> None:
        self._path = GenerationStore(directory).restarting_path if directory else None

    def read(self) -> frozenset[str]:
        if self._path is None:
            return frozenset()
        try:
            with open(self._path, encoding="utf-8") as stream:
                return frozenset(json.load(stream))
        except (FileNotFoundError, ValueError):
            return frozenset()

    def write(self, names: t.Iterable[str]) -> None:
        names = sorted(names)
        if self._path is None:
            return
        if names:
            replace_file(self._path, json.dumps(names).encode("utf-8"), 0o644)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


class Converger:
    """One call's way to its plan. After run(): done, failures, processes and warnings tell what came of it.

    startsecs: by process. cycles: seconds that one process may take to stop and to start, by program. timeout: seconds of patience beyond those.
    done: steps carried out. failures: reason by process (or by program, where it concerns no single one). processes: the last look.
    """

    def __init__(
        self, backend: Backend, survey: Survey, startsecs: t.Mapping[str, int], cycles: t.Mapping[str, float], timeout: float, journal: Journal
    ) -> None:
        self._backend = backend
        self._startsecs = startsecs
        self._cycles = cycles
        self._timeout = timeout
        self._deadline = 0.0
        self._journal = journal
        self._open: list[Step] = []  # steps that are not carried out yet
        self._pause = _SHORTEST_PAUSE
        self._look_seconds = 0.0
        self._since: dict[str, tuple[t.Any, float]] = {}  # full name: (pid or state, when that was first seen)
        self._freeing: set[str] = set()  # programs on their way to rest: they may free addresses that others need
        self.processes = {process["full_name"]: process for process in survey.processes}
        self._first_pids = {process["full_name"]: process["pid"] for process in survey.processes}
        self._proven_pids = {process["pid"] for process in survey.processes if process["state"] == "running"}
        self.done: list[Step] = []
        self.failures: dict[str, str] = {}
        self.warnings: list[str] = []
        self.touched = False

    def run(self, plan: Plan) -> None:
        """Raises SupervisorUnreachable and SupervisorBusy; whatever else goes wrong is in failures."""
        self._timeout += granted_seconds(plan, self._cycles)
        self._deadline = time.monotonic() + self._timeout
        to_be_restarted = {name for step in plan.steps for name in _stopped_to_start_again(step, plan)} | self._journal.read()
        self._journal.write(to_be_restarted)
        self._open = list(plan.steps)
        for steps in in_sequence(plan.steps):
            self._carry_out(steps, plan)
        unfinished, self._open = self._open, []
        self._reach(plan)
        for step in unfinished:
            self.failures.setdefault(step.program, f"not finished after {self._timeout:g} s ({step.action})")
        self._journal.write(name for name in to_be_restarted - plan.resting if self._state(name) in ("stopped", "stopping"))

    def _carry_out(self, steps: t.Sequence[Step], plan: Plan) -> None:
        """Drive the scripts of steps to their end; those that do not get there in time stay open.

        A failure meanwhile ends none of them, since what was stopped has to be started again.
        """
        scripts = {self._script(step): step for step in steps}
        answers: dict[Script, t.Any] = dict.fromkeys(scripts)
        while answers:
            wishes = {}
            for script, answer in answers.items():
                try:
                    wishes[script] = script.send(answer)
                except StopIteration:
                    self._open.remove(scripts[script])
            if time.monotonic() > self._deadline:
                return
            answers = self._exchange(wishes)
            self._judge(plan)

    def _exchange(self, wishes: dict[Script, list[Order]]) -> dict[Script, Faults]:
        orders = [order for wished in wishes.values() for order in wished]
        faults = iter(self._give(orders))
        answers = {script: [next(faults) for order in wished] for script, wished in wishes.items()}
        if wishes:
            self._look_again(at_once=bool(orders))
        return answers

    def _give(self, orders: t.Sequence[Order]) -> Faults:
        self.touched = self.touched or bool(orders)
        return self._backend.execute(orders)

    def _look_again(self, at_once: bool = False) -> None:
        self._pause = _SHORTEST_PAUSE if at_once else min(self._pause * 1.5, _LONGEST_PAUSE)
        time.sleep(max(self._pause, 2 * self._look_seconds))  # a supervisord that describes hundreds of programs does nothing else meanwhile
        begin = time.monotonic()
        self.processes = {process["full_name"]: process for process in self._backend.processes()}
        now = time.monotonic()
        self._look_seconds = now - begin
        for name, process in self.processes.items():
            token = process["pid"] or process["state"]
            if self._since.get(name, (None,))[0] != token:
                self._since[name] = (token, now)

    def _state(self, name: str) -> str | None:
        process = self.processes.get(name)
        return process["state"] if process else None

    def _pid(self, name: str) -> int | None:
        process = self.processes.get(name)
        return process["pid"] if process else None

    def _is_of_before(self, name: str) -> bool:
        """Whether a process has run since before this call."""
        return name in self.processes and self._pid(name) == self._first_pids.get(name)

    def _rests(self, name: str) -> bool:
        state = self._state(name)
        return state is None or state in AT_REST

    def _known_for(self, name: str) -> float:
        """Seconds since a process was first seen with its present pid, or in its present state if it has none."""
        return time.monotonic() - self._since[name][1] if name in self._since else 0.0

    # scripts: one for each action of a step

    def _script(self, step: Step) -> Script:
        return getattr(self, f"_{step.action}")(step)

    def _add(self, step: Step) -> Script:
        faults = yield [Order("add", step.program)]
        if (yield from self._added(step, faults)):
            yield from self._start(step)
            self._finish(step)

    def _update(self, step: Step) -> Script:
        if self._backend.updates_in_place():
            yield from self._update_in_place(step)
            return
        faults = yield from self._take_out(step.program, Order("add", step.program))
        if (yield from self._added(step, faults)):
            yield from self._start(step)
            yield from self._stop_again(step.rests)
            self._finish(step)

    def _update_in_place(self, step: Step) -> Script:
        pids = {name: self.processes[name]["pid"] for name in step.stops}
        faults = yield [Order("update", step.program)]
        if self._refused(step.program, faults):
            return
        while any(process["program"] == step.program and process["state"] == "stopping" for process in self.processes.values()):
            yield []
        yield from self._start(step)
        yield from self._in_turn([name for name, pid in pids.items() if name in self.processes and self.processes[name]["pid"] == pid])
        self._finish(step)

    def _remove(self, step: Step) -> Script:
        faults = yield from self._take_out(step.program)
        if not self._refused(step.program, faults):
            self._finish(step)

    def _start(self, step: Step) -> Script:
        while any(self._state(name) == "stopping" for name in step.processes):
            yield []
        if step.processes:
            faults = yield [Order("start", name) for name in step.processes]
            for name, fault in zip(step.processes, faults):
                self._refused(name, [fault])
        if step.action == "start":
            self._finish(step)

    def _stop(self, step: Step) -> Script:
        faults = yield [Order("stop", name) for name in step.processes]
        if not self._refused(step.program, faults):
            self._finish(step)

    def _restart(self, step: Step) -> Script:
        restarted = yield from self._in_turn(step.processes)
        if restarted:
            self._finish(step._replace(processes=tuple(restarted)))

    def _reload(self, step: Step) -> Script:
        """What was started since the call began has read everything anew, and needs no signal."""
        while any(self._state(name) == "starting" and self._is_of_before(name) for name in step.processes):  # it may not handle the signal yet
            yield []
        names = [name for name in step.processes if self._state(name) == "running" and self._is_of_before(name)]
        for name in names:  # each has to prove itself again
            self._proven_pids.discard(self._pid(name))
            self._since[name] = (self._pid(name), time.monotonic())
        faults = yield [Order("signal", name, step.signal) for name in names]
        if self._refused(step.program, [fault for name, fault in zip(names, faults) if self._is_of_before(name)]):
            return
        signalled = [name for name, fault in zip(names, faults) if fault is None]  # the others had ended by themselves
        while any(self._is_of_before(name) and self._verdict(name) == "" for name in signalled):
            yield []
        ended = [name for name in signalled if not self._is_of_before(name)]
        if ended:
            self.warnings.append(f"{', '.join(ended)}: ended on signal {step.signal} instead of reloading, which leaves it to the supervisor to start it anew")
        if signalled:
            self._finish(step._replace(processes=tuple(signalled)))

    # parts of scripts

    def _take_out(self, program: str, *then: Order) -> t.Generator[list[Order], Faults, Faults]:
        """Bring a program to rest and remove it; the faults of that and of the orders after it."""
        while True:
            yield from self._to_rest(program)
            faults = yield [Order("remove", program), *then]
            if not isinstance(faults[0], SupervisorStillRunning):
                return faults

    def _in_turn(self, names: t.Sequence[str]) -> t.Generator[list[Order], Faults, list[str]]:
        """Restart one process after the other: the shared socket then never closes. Whatever fails meanwhile, the others go on serving.

        Returns those that were stopped.
        """
        restarted: list[str] = []
        for name in names:
            if self.failures:
                break
            yield from self._until_at_rest([name])
            restarted.append(name)
            faults = yield [Order("start", name)]
            if self._refused(name, faults):
                break
            while self._verdict(name) == "":
                yield []
            if self._verdict(name) is not None:
                break
        return restarted

    def _added(self, step: Step, faults: Faults) -> t.Generator[list[Order], Faults, bool]:
        """Whether the program was added. Its address may still be taken: by a program about to swap it for another, by children of what just ended."""
        patience = time.monotonic() + _ADDRESS_PATIENCE
        while faults[-1] is not None and (self._freeing or time.monotonic() < patience):
            if self._freeing:
                patience = time.monotonic() + _ADDRESS_PATIENCE
            yield []
            faults = yield [Order("add", step.program)]
        return not self._refused(step.program, faults)

    def _to_rest(self, program: str) -> Script:
        self._freeing.add(program)
        yield from self._until_at_rest([name for name, process in self.processes.items() if process["program"] == program])
        self._freeing.discard(program)

    def _until_at_rest(self, names: t.Sequence[str]) -> Script:
        while not all(self._rests(name) for name in names):
            yield [Order("stop", name) for name in names if self._state(name) in UP]

    def _stop_again(self, names: t.Sequence[str]) -> Script:
        """The supervisor starts all of a program that is added; it can only be stopped once that has happened."""
        while any(self._state(name) == "stopped" and not self.processes[name]["ever_started"] for name in names):
            yield []
        yield from self._until_at_rest(names)

    def _refused(self, name: str, faults: Faults) -> bool:
        for fault in faults:
            if fault is not None:
                self.failures.setdefault(name, fault.text)
        return any(faults)

    def _finish(self, step: Step) -> None:
        self.done.append(step)

    # the verdict

    def _reach(self, plan: Plan) -> None:
        """Wait until everything that has to run runs and everything that has to rest rests; the first failure ends it."""
        while True:
            started_again = [name for name in plan.resting if self._state(name) in UP]
            self._give([Order("stop", name) for name in started_again])
            waiting = [*self._judge(plan), *(name for name in plan.resting if self._rest_verdict(name) == "")]
            if not self.failures and time.monotonic() > self._deadline:
                self.failures.update({name: f"still {self._state(name) or 'absent'} after {self._timeout:g} s" for name in waiting})
            if self.failures or not waiting:
                return
            self._look_again(at_once=bool(started_again))

    def _judge(self, plan: Plan) -> list[str]:
        """Note what failed to run. The processes on which there is no verdict yet; those of open steps are not judged."""
        busy = {step.program for step in self._open}
        verdicts = {name: self._verdict(name) for name in plan.running if name in self.processes and self.processes[name]["program"] not in busy}
        for name, reason in verdicts.items():
            if reason:
                self.failures.setdefault(name, reason)
        absent = [name for name in plan.running if name not in self.processes]
        return absent + [name for name, reason in verdicts.items() if reason == ""]

    def _verdict(self, name: str) -> str | None:
        """Whether a process runs: None if it does, empty if that cannot be said yet, else why it does not."""
        process = self.processes.get(name)
        if process is None:
            return ""
        state = process["state"]
        if state == "running":
            proof = max(self._startsecs.get(name, 1), _SHORTEST_PROOF)
            return None if process["pid"] in self._proven_pids or self._known_for(name) >= proof else ""
        if state in ("starting", "backoff"):
            return ""
        if state == "stopped" and not process["ever_started"]:  # the supervisor starts it at its next tick
            return ""
        if state == "exited" and self._known_for(name) < _EXITED_IS_FINAL:
            return ""
        return f"is {state}"

    def _rest_verdict(self, name: str) -> str | None:
        state = self._state(name)
        if state == "exited" and self._known_for(name) < _EXITED_IS_FINAL:
            return ""
        return None if self._rests(name) else ""


def _stopped_to_start_again(step: Step, plan: Plan) -> set[str]:
    stopped = step.stops if step.action == "update" else step.processes if step.action == "restart" else ()
    return set(stopped) & plan.running
