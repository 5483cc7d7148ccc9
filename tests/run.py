# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the steps of "make test": python tests/run.py [STEP or GROUP ...]; without arguments, all of them.

Two steps run at a time. Together they take 40 to 65 minutes and have 82; a step that takes six times what it should is ended, for a
busy machine takes twice as long and only one that hangs longer still. A step's output goes to
.cache/logs/STEP.log; its end is shown if the step fails. A step that runs alone shows its output as it comes. All steps run, whatever fails; then
a table of seconds, the lines that say what failed, and the verdict.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
LOGS = CHECKOUT / ".cache" / "logs"
LANES = 2
DEADLINE = 82 * 60  # seconds for the whole run
PATIENCE = 6  # a step hangs if it takes so many times what it should
# Seconds that a scenario takes on a quiet machine of two cores while the other lane is busy too.
SCENARIO_SECONDS = {"default": 500, "interrupted": 600, "php_fpm": 550, "pip": 200, "rhel": 550, "selinux": 190, "site": 370, "supervisord": 250}
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
    status: str = "not run"
    seconds: float = 0.0
    process: subprocess.Popen | None = None

    @property
    def budget(self) -> int:
        """Seconds after which it is ended."""
        return PATIENCE * self.expected


def steps() -> list[Step]:
    """All steps, the long ones first: that fills two lanes best."""
    scenarios = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))
    every = [
        *(
            Step(
                f"molecule-{name}",
                "molecule",
                SCENARIO_SECONDS.get(name, 300),
                f"molecule --base-config .config/molecule/config.yml test --scenario-name {name}",
            )
            for name in scenarios
        ),
        Step("prod-example", "fresh", 240, "tests/prod_example.sh"),
        Step("fresh-plain", "fresh", 90, "tests/fresh_machine.sh plain"),
        Step("fresh-systemd", "fresh", 90, "tests/fresh_machine.sh systemd"),
        Step("oldest-core", "fresh", 80, "tests/oldest_core.sh"),
        Step("sanity", "lint", 80, "tests/lint/sanity.sh"),
        Step("functional", "functional", 340, "pytest tests/functional"),
        Step("fcgivisord", "fcgivisord", 280, "pytest --numprocesses 2 tests/fcgivisor"),
        Step("pythons", "fcgivisord", 90, "tests/pythons.sh"),
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
    return sorted(every, key=lambda step: -step.expected)


def environment() -> dict[str, str]:
    """The tools of .venv-test first, and logs without colours or boxes."""
    tools = f"{CHECKOUT / '.venv-test' / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": tools, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "MOLECULE_COMMAND_BORDERS": "false"}


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
        cwd=CHECKOUT, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        step.status = "passed" if step.process.wait(min(step.budget, left)) == 0 else "failed"
    except subprocess.TimeoutExpired:
        end(step)
        step.status = f"failed: longer than its {step.budget} s" if step.budget <= left else f"failed: ended after {left:.0f} s, when the time for all was up"
    step.seconds = time.monotonic() - started


def run_logged(step: Step, deadline: float) -> None:
    print(f"{step.name}: {step.command}", flush=True)
    log = LOGS / f"{step.name}.log"
    with log.open("wb") as output:
        run(step, output, deadline)
    if step.status == "passed":
        print(f"{step.name}: passed in {step.seconds:.0f} s", flush=True)
    else:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
        print(f"---- {step.name}: the end of {log.relative_to(CHECKOUT)}\n{tail}\n---- {step.name}: {step.status} after {step.seconds:.0f} s", flush=True)


def run_all(chosen: list[Step], deadline: float) -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    queue = collections.deque(chosen)

    def lane() -> None:
        with contextlib.suppress(IndexError):
            while True:
                run_logged(queue.popleft(), deadline)

    lanes = [threading.Thread(target=lane, daemon=True) for _number in range(LANES)]
    for thread in lanes:
        thread.start()
    started = beat = time.monotonic()
    while any(thread.is_alive() for thread in lanes):
        for thread in lanes:
            thread.join(1)
        if time.monotonic() - beat > HEARTBEAT:
            beat = time.monotonic()
            running = ", ".join(step.name for step in chosen if step.status == "running")
            print(f"... {beat - started:.0f} s: {running} running, {len(queue)} waiting", flush=True)


def telling_lines(text: str) -> list[str]:
    """The last lines of a log that say what failed, each with what explains it; the last lines of all where none does."""
    lines = text.splitlines()
    found = {number + more for number, line in enumerate(lines) if TELLING.match(line) for more in range(EXPLAINED + 1)}
    chosen = [lines[number] for number in sorted(found) if number < len(lines)] or lines
    return [shortened(line) for line in chosen if line.strip()][-SHOWN:]


def shortened(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH // 3]} ... {line[-2 * WIDTH // 3 :]}"


def report(chosen: list[Step], seconds: float) -> int:
    print(f"\n{'step':<24}{'seconds':>8}{'quiet':>8}  result")
    for step in chosen:
        print(f"{step.name:<24}{step.seconds:>8.0f}{step.expected:>8}  {step.status}")
    print(f"{'all':<24}{seconds:>8.0f}{DEADLINE:>8}")
    failed = [step for step in chosen if step.status != "passed"]
    for step in failed:
        log = LOGS / f"{step.name}.log"
        if len(chosen) > 1 and log.exists():
            print(f"---- {step.name}: {step.status}", *telling_lines(log.read_text(errors="replace")), sep="\n")
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed{''.join(f' {step.name}' for step in failed)}")
    return 1 if failed else 0


def main(wanted: list[str]) -> int:
    available = steps()
    unknown = set(wanted) - {word for step in available for word in (step.name, step.group)}
    if unknown:
        print(f"No such step or group: {', '.join(sorted(unknown))}. Steps: {', '.join(step.name for step in available)}.", file=sys.stderr)
        return 2
    chosen = [step for step in available if not wanted or {step.name, step.group} & set(wanted)]
    started = time.monotonic()
    try:
        if len(chosen) == 1:
            print(f"{chosen[0].name}: {chosen[0].command}", flush=True)
            run(chosen[0], None, started + DEADLINE)
        else:
            run_all(chosen, started + DEADLINE)
    finally:
        for step in chosen:
            if step.process and step.process.poll() is None:
                end(step)
    return report(chosen, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
