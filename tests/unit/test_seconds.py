# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the time of a run went, and where two runs differ."""

from __future__ import annotations

import json

import seconds


def test_a_run_is_kept_with_its_tasks_added_up(tmp_path):
    noted = tmp_path / "site.tasks.jsonl"
    lines = [("converge.yml", "Deploy", 1.5, ""), ("converge.yml", "Deploy", 2.0, "it_goes_on"), ("verify.yml", "Look", 0.25, "")]
    noted.write_text(
        '{"playbook": "conv'
        + "\n"
        + "".join(json.dumps({"playbook": playbook, "task": task, "seconds": took, "promise": promise}) + "\n" for playbook, task, took, promise in lines)
    )
    kept = seconds.keep({"site": 12.34, "unit": 3.0}, {"site": noted, "unit": tmp_path / "nothing"}, tmp_path / "kept")
    assert json.loads(kept.read_text()) == {
        "steps": {"site": 12.3, "unit": 3.0},
        "promises": {"site": {"it_goes_on": 2.0}},
        "tasks": {"site": {"converge.yml: Deploy": 3.5, "verify.yml: Look": 0.2}},
    }


def test_two_runs_are_compared_step_by_step_and_by_the_tasks_that_differ_most():
    before = {"steps": {"site": 100.0, "gone": 10.0}, "promises": {"site": {"it_goes_on": 9.0}}, "tasks": {"site": {"a: x": 50.0, "a: y": 10.0}}}
    after = {"steps": {"site": 50.0, "new": 5.0}, "promises": {"site": {"it_goes_on": 3.0}}, "tasks": {"site": {"a: x": 5.0, "a: z": 11.0}}}
    assert [line.split() for line in seconds.compared(before, after)] == [
        ["before", "after", "ratio", "step"],
        ["10.0", "-", "-", "gone"],
        ["-", "5.0", "-", "new"],
        ["100.0", "50.0", "0.50", "site"],
        ["110.0", "55.0", "0.50", "sum"],
        [],
        ["before", "after", "ratio", "promise"],
        ["9.0", "3.0", "0.33", "site:", "it_goes_on"],
        [],
        ["before", "after", "ratio", "task"],
        ["50.0", "5.0", "0.10", "site:", "a:", "x"],
        ["-", "11.0", "-", "site:", "a:", "z"],
        ["10.0", "-", "-", "site:", "a:", "y"],
    ]
