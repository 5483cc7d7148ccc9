# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the time of a run of the tests went, kept as a file, and where two runs differ.

    python tests/seconds.py BEFORE AFTER

BEFORE and AFTER: files that run.py wrote, {"steps": {STEP: seconds}, "promises": {STEP: {PROMISE: seconds}}, "tasks": {STEP: {"PLAYBOOK: TASK": seconds}}}.
Promises and tasks are those of ansible-playbook, as the callback task_seconds noted them; a playbook that a task starts counts in both.
"""

from __future__ import annotations

import collections
import json
import pathlib
import sys
import time

ROWS = 30  # tasks that are shown, those that differ most


def keep(steps: dict[str, float], tasks: dict[str, pathlib.Path], directory: pathlib.Path) -> pathlib.Path:
    """Write the seconds of steps, and of the tasks in these files of the callback, into a new file of the directory; return its path."""
    told: dict[str, dict[str, dict[str, float]]] = {"promises": {}, "tasks": {}}
    for step, path in tasks.items():
        if path.exists():
            promises, names = (told[kind].setdefault(step, collections.defaultdict(float)) for kind in ("promises", "tasks"))
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    task = json.loads(line)
                except ValueError:  # the last line of a playbook that was killed while it wrote it
                    continue
                names[f"{task['playbook']}: {task['task']}"] += task["seconds"]
                if task["promise"]:
                    promises[task["promise"]] += task["seconds"]
    directory.mkdir(parents=True, exist_ok=True)
    kept = directory / f"{time.strftime('%Y-%m-%dT%H%M%S')}.json"
    rounded = {
        kind: {step: {name: round(seconds, 1) for name, seconds in of_step.items()} for step, of_step in all_of.items()} for kind, all_of in told.items()
    }
    kept.write_text(json.dumps({"steps": {step: round(seconds, 1) for step, seconds in steps.items()}, **rounded}, indent=1), encoding="utf-8")
    return kept


def row(before: float | None, after: float | None, name: str) -> str:
    shown = ["-" if seconds is None else f"{seconds:.1f}" for seconds in (before, after)]
    ratio = f"{after / before:.2f}" if before and after is not None else "-"
    return f"{shown[0]:>9}{shown[1]:>9}{ratio:>7}  {name}"


def table(title: str, before: dict[str, float], after: dict[str, float], rows: int | None = None) -> list[str]:
    """All rows by name, or as many as are asked for, those first that differ most."""
    names = sorted({*before, *after})
    if rows is not None:
        names = sorted(names, key=lambda name: -abs(after.get(name, 0) - before.get(name, 0)))[:rows]
    return [f"{'before':>9}{'after':>9}{'ratio':>7}  {title}", *(row(before.get(name), after.get(name), name) for name in names)]


def compared(before: dict, after: dict) -> list[str]:
    """The lines that say where two runs differ."""
    tasks = [{f"{step}: {name}": seconds for step, of_step in run["tasks"].items() for name, seconds in of_step.items()} for run in (before, after)]
    total = row(sum(before["steps"].values()), sum(after["steps"].values()), "sum")
    promises = [{f"{step}: {name}": seconds for step, of_step in run["promises"].items() for name, seconds in of_step.items()} for run in (before, after)]
    return [*table("step", before["steps"], after["steps"]), total, "", *table("promise", *promises, ROWS), "", *table("task", *tasks, ROWS)]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(*compared(*(json.loads(pathlib.Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:])), sep="\n")
