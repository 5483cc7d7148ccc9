# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the steps of "make test".

    python tests/run.py [STEP or GROUP ...]      those steps; without arguments, all of them
    python tests/run.py --list [...]             lists them instead

Two steps run at a time, the longest first. A step that takes six times what it should is ended, for a busy machine takes twice as long and only one that
hangs longer still. A step's output goes to .cache/logs/STEP.log; its end is shown at once if the step fails, and what needs it is not begun. All others
run; then a table of seconds, the lines that say what failed, and the verdict. A step that runs alone shows its output as it comes. Ctrl-C and SIGTERM end
what runs, begin nothing more, and come to the same table. Several steps bring what they need; one alone builds the images that it needs itself.

Where the time went is kept in .cache/seconds, see seconds.py; the longest tasks of each playbook stand at its end in the step's log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import seconds

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
LOGS = CHECKOUT / ".cache" / "logs"
LANES = 2
DEADLINE = 82 * 60  # seconds for the whole run
PATIENCE = 6  # a step hangs if it takes so many times what it should
# Seconds that a scenario takes on a quiet machine of two cores while the other lane is busy too.
SCENARIO_SECONDS = {"default": 350, "interrupted": 380, "php_fpm": 210, "pip": 230, "rhel": 290, "selinux": 160, "site": 180, "supervisord": 170}
IMAGES = ("debian12", "debian13", "el9", "debian12-installed", "debian13-installed")
HEARTBEAT = 60
TAIL = 60
# Lines that name a failure, of ansible-playbook, molecule, apt, pytest, ansible-lint and our scripts. What follows explains it.
TELLING = re.compile(r"^(fatal: |failed: |ERROR|CRITICAL|E: |E  +|FAILED |\[ERROR\]|.*\bError: )")
EXPLAINED = 3  # lines after one that tells
SHOWN = 12  # lines of a failed step under the table
WIDTH = 400  # characters of such a line: its beginning, and twice as much of its end, where a traceback has its error


@dataclasses.dataclass
class Step:
    name: str
    group: str
    expected: int  # seconds on a quiet machine
    command: str
    needs: tuple[str, ...] = ()  # steps that have to pass before
    status: str = "waiting"
    seconds: float = 0.0
    process: subprocess.Popen | None = None

    @property
    def budget(self) -> int:
        """Seconds after which it is ended."""
        return PATIENCE * self.expected


def steps() -> list[Step]:
    """All steps, the long ones first, each with the longest that needs it: that fills two lanes best."""
    scenarios = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))
    hosts = ("images",)
    every = [
        Step("images", "images", 280, f"molecule/images/build {' '.join(IMAGES)} && tests/test_hosts.sh"),
        *(
            Step(
                f"molecule-{name}",
                "molecule",
                SCENARIO_SECONDS.get(name, 300),
                f"molecule --base-config .config/molecule/config.yml test --scenario-name {name}",
                hosts,
            )
            for name in scenarios
        ),
        Step("prod-example", "fresh", 180, "tests/prod_example.sh", hosts),
        Step("fresh-plain", "fresh", 70, "tests/fresh_machine.sh plain", hosts),
        Step("fresh-systemd", "fresh", 130, "tests/fresh_machine.sh systemd", hosts),
        Step("oldest-core", "fresh", 30, "tests/oldest_core.sh"),
        Step("sanity", "lint", 110, "tests/lint/sanity.sh"),
        Step("functional", "functional", 260, "pytest --numprocesses 3 --durations 15 tests/functional"),
        Step("fcgivisord", "fcgivisord", 240, "pytest --numprocesses 4 --durations 15 tests/fcgivisor"),
        Step("pythons", "fcgivisord", 70, "tests/pythons.sh"),
        Step("ansible-lint", "lint", 80, "ansible-lint --offline"),
        Step("collection", "lint", 30, "tests/lint/collection.sh"),
        Step("unit", "unit", 40, "pytest tests/unit"),
        Step("types", "lint", 25, "tests/lint/types.sh"),
        Step("docs", "lint", 30, "python tests/lint/docs.py"),
        Step("nginx", "lint", 15, "tests/lint/nginx.sh"),
        Step("argument-specs", "lint", 15, "python tests/lint/argument_specs.py"),
        Step("yamllint", "lint", 15, "yamllint --strict ."),
        Step("ruff", "lint", 15, "ruff check . && ruff format --check ."),
        # ansible-test compiles and imports with the Python of this machine alone; hosts may have 3.9.
        Step("host-python", "lint", 15, "vermin --target=3.9- --violations --no-tips plugins/modules plugins/module_utils roles/fcgi_supervisor/files"),
    ]
    return sorted(every, key=lambda step: -(step.expected + max((other.expected for other in every if step.name in other.needs), default=0)))


def environment(step: Step) -> dict[str, str]:
    """The tools of .venv-test first, logs without colours or boxes, and the file for the callback task_seconds; the rest as in any other shell."""
    tools = f"{CHECKOUT / '.venv-test' / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}  # what a developer has set for other purposes
    return {
        **given, "PATH": tools, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "MOLECULE_COMMAND_BORDERS": "false", "FCGI_TASK_SECONDS": str(task_seconds(step)),
    }  # fmt: skip


def task_seconds(step: Step) -> pathlib.Path:
    return LOGS / f"{step.name}.tasks.jsonl"


def log_of(step: Step) -> pathlib.Path:
    return LOGS / f"{step.name}.log"


def forget(chosen: list[Step]) -> None:
    """Remove what an earlier run has left of these steps: nothing of it is to be told as this one's."""
    LOGS.mkdir(parents=True, exist_ok=True)
    for step in chosen:
        task_seconds(step).unlink(missing_ok=True)
        log_of(step).unlink(missing_ok=True)


def end(step: Step) -> None:
    """End a step and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(step.process.pid, number)
            step.process.wait(10)


def run(step: Step, output, deadline: float) -> None:
    """Run a step until it ends, its budget is spent, or the deadline (of time.monotonic) has come."""
    started = time.monotonic()
    left = deadline - started
    if left <= 0:
        step.status = "failed: no time was left for it"
        return
    step.status = "running"
    step.process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", step.command],
        cwd=CHECKOUT, env=environment(step), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        step.status = "passed" if step.process.wait(min(step.budget, left)) == 0 else "failed"
    except subprocess.TimeoutExpired:
        end(step)
        step.status = f"failed: longer than its {step.budget} s" if step.budget <= left else f"failed: ended after {left:.0f} s, when the time for all was up"
    step.seconds = time.monotonic() - started


def run_logged(step: Step, deadline: float) -> None:
    print(f"{step.name}: {step.command}", flush=True)
    log = log_of(step)
    with log.open("wb") as output:
        run(step, output, deadline)
    if step.status == "passed":
        print(f"{step.name}: passed in {step.seconds:.0f} s", flush=True)
    else:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
        print(f"---- {step.name}: the end of {log.relative_to(CHECKOUT)}\n{tail}\n---- {step.name}: {step.status} after {step.seconds:.0f} s", flush=True)


class Queue:
    """The steps that wait, for several lanes. A step is ready when all that it needs have passed, and never begun when one of them has not."""

    def __init__(self, chosen: list[Step]) -> None:
        self.steps = {step.name: step for step in chosen}
        self.changed = threading.Condition()

    def close(self, reason: str) -> None:
        """Begin nothing more."""
        with self.changed:
            for step in self.waiting():
                step.status = f"failed: {reason}"
            self.changed.notify_all()

    def take(self) -> Step | None:
        """The next ready step, once there is one; None if no more can come."""
        with self.changed:
            while True:
                for step in self.waiting():
                    if lost := [name for name in step.needs if self.steps[name].status not in ("passed", "running", "waiting")]:
                        step.status = f"failed: not begun, since it needs {lost[0]}"
                        print(f"---- {step.name}: {step.status}", flush=True)
                waiting = self.waiting()
                ready = next((step for step in waiting if all(self.steps[name].status == "passed" for name in step.needs)), None)
                if ready:
                    ready.status = "running"
                if ready or not waiting:
                    return ready
                self.changed.wait()

    def waiting(self) -> list[Step]:
        return [step for step in self.steps.values() if step.status == "waiting"]

    def ended(self) -> None:
        with self.changed:
            self.changed.notify_all()


def run_all(chosen: list[Step], deadline: float) -> list[float]:
    """Run all steps in two lanes; return after how many seconds each lane had nothing more to do."""
    queue = Queue(chosen)
    started = time.monotonic()
    ends: list[float] = []

    def lane() -> None:
        while step := queue.take():
            try:
                run_logged(step, deadline)
            except Exception as error:  # a full disk, say: the other lane must not wait for this step
                step.status = f"failed: {error!r}"
            queue.ended()
        ends.append(time.monotonic() - started)

    lanes = [threading.Thread(target=lane, daemon=True) for _number in range(LANES)]
    for thread in lanes:
        thread.start()
    try:
        watch(lanes, chosen, queue)
    except KeyboardInterrupt:
        queue.close("not begun, since the run was interrupted")
        while any(thread.is_alive() for thread in lanes):
            for step in chosen:
                if step.process and step.process.poll() is None:
                    end(step)
            for thread in lanes:
                thread.join(0.1)
    return sorted(ends)


def watch(lanes: list[threading.Thread], chosen: list[Step], queue: Queue) -> None:
    """Until all lanes are done, say now and then what they do."""
    started = beat = time.monotonic()
    while any(thread.is_alive() for thread in lanes):
        for thread in lanes:
            thread.join(1)
        if time.monotonic() - beat > HEARTBEAT:
            beat = time.monotonic()
            running = ", ".join(step.name for step in chosen if step.status == "running")
            print(f"... {beat - started:.0f} s: {running} running, {len(queue.waiting())} waiting", flush=True)


def telling_lines(text: str) -> list[str]:
    """The last lines of a log that say what failed, each with what explains it; the last lines of all where none does."""
    lines = text.splitlines()
    found = {number + more for number, line in enumerate(lines) if TELLING.match(line) for more in range(EXPLAINED + 1)}
    chosen = [lines[number] for number in sorted(found) if number < len(lines)] or lines
    return [shortened(line) for line in chosen if line.strip()][-SHOWN:]


def shortened(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH // 3]} ... {line[-2 * WIDTH // 3 :]}"


def report(chosen: list[Step], ends: list[float]) -> int:
    """Print the table, what failed and the verdict; ends: when each lane was done, in seconds."""
    print(f"\n{'step':<24}{'seconds':>8}{'quiet':>8}  result")
    for step in chosen:
        print(f"{step.name:<24}{step.seconds:>8.0f}{step.expected:>8}  {step.status}")
    print(f"{'sum':<24}{sum(step.seconds for step in chosen):>8.0f}{sum(step.expected for step in chosen):>8}")
    print(f"lanes ended after {', '.join(f'{end:.0f}' for end in ends)} s; limit {DEADLINE} s")
    failed = [step for step in chosen if step.status != "passed"]
    for step in failed:
        log = log_of(step)
        print(f"---- {step.name}: {step.status}", *(telling_lines(log.read_text(errors="replace")) if log.exists() else []), sep="\n")
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed{''.join(f' {step.name}' for step in failed)}")
    return 1 if failed else 0


def with_needs(asked: list[Step], available: list[Step]) -> list[Step]:
    """The steps that are asked for and, if they are several, those that they need."""
    if len(asked) < 2:
        return asked
    names = {step.name for step in asked}
    while missing := {name for step in available if step.name in names for name in step.needs} - names:
        names |= missing
    return [step for step in available if step.name in names]


def main(wanted: list[str]) -> int:
    available = steps()
    listed = "--list" in wanted
    wanted = [word for word in wanted if word != "--list"]
    unknown = set(wanted) - {word for step in available for word in (step.name, step.group)}
    if unknown:
        print(f"No such step or group: {', '.join(sorted(unknown))}. Steps: {', '.join(step.name for step in available)}.", file=sys.stderr)
        return 2
    asked = [step for step in available if not wanted or {step.name, step.group} & set(wanted)]
    if listed:
        for step in asked:
            print(f"{step.group:<12}{step.name:<24}{step.expected:>5} s  {step.command}")
        return 0
    chosen = with_needs(asked, available)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell without a terminal has what it starts in the background ignore the first
        signal.signal(number, signal.default_int_handler)
    forget(chosen)
    started = time.monotonic()
    ends = run_all(chosen, started + DEADLINE) if len(chosen) > 1 else run_alone(chosen[0], started + DEADLINE)
    try:
        kept = seconds.keep({step.name: step.seconds for step in chosen}, {step.name: task_seconds(step) for step in chosen}, CHECKOUT / ".cache" / "seconds")
        print(f"\nWhere the time went: {kept.relative_to(CHECKOUT)}; tests/seconds.py compares two of them")
    except OSError as error:
        print(f"\nWhere the time went could not be kept: {error}")
    return report(chosen, ends)


def run_alone(step: Step, deadline: float) -> list[float]:
    """Run one step, with its output on the terminal and in its log."""
    print(f"{step.name}: {step.command}", flush=True)
    step.command = f"{{ {step.command}\n}} 2>&1 | tee {shlex.quote(str(log_of(step)))}"
    try:
        run(step, None, deadline)
    except KeyboardInterrupt:
        end(step)
        step.status = "failed: interrupted"
    return [step.seconds]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
