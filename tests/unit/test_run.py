# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What "make test" and "make bench" promise of themselves: an end in time, and a verdict."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import signal
import sys
import threading
import time

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]


def script(path):
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), CHECKOUT / path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run = script("tests/run.py")
bench = script("bench/deploy/run.py")


@pytest.fixture
def run_all(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "LOGS", tmp_path)
    monkeypatch.setattr(run, "CHECKOUT", tmp_path)

    def call(*steps, seconds):
        call.ends = run.run_all(list(steps), time.monotonic() + seconds)
        return [step.status for step in steps]

    return call


def step(name, command, needs=()):
    return run.Step(name, "unit", 60, command, needs)


def test_a_machine_half_as_fast_still_ends_in_time():
    assert 2 * sum(step.expected for step in run.steps()) <= run.LANES * run.DEADLINE


def test_every_scenario_is_a_step_and_every_expectation_is_one_of_a_scenario():
    scenarios = {path.parent.name for path in (CHECKOUT / "molecule").glob("*/molecule.yml")}
    assert {step.name for step in run.steps() if step.group == "molecule"} == {f"molecule-{name}" for name in scenarios}
    assert set(run.SCENARIO_SECONDS) <= scenarios


def test_a_step_that_hangs_is_ended(run_all, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE", 1)
    hanging = run.Step("slow", "unit", 1, "sleep 60")
    assert run_all(hanging, seconds=60) == ["failed: longer than its 1 s"]
    assert hanging.seconds < 30


def test_all_steps_end_with_the_time_for_all(run_all):
    statuses = run_all(*(step(f"slow{number}", "sleep 60") for number in range(run.LANES)), step("next", "true"), seconds=1)
    assert statuses == ["failed: ended after 1 s, when the time for all was up"] * run.LANES + ["failed: no time was left for it"]


def test_what_needs_a_failed_step_is_not_begun_and_all_else_runs(run_all, capsys):
    bad, needy, neediest, good = step("bad", "false"), step("needy", "true", ("bad",)), step("neediest", "true", ("needy",)), step("good", "true")
    statuses = run_all(bad, needy, neediest, good, seconds=60)
    assert statuses == ["failed", "failed: not begun, since it needs bad", "failed: not begun, since it needs needy", "passed"]
    assert "---- needy: failed: not begun, since it needs bad" in capsys.readouterr().out


def test_a_step_begins_when_what_it_needs_has_passed(run_all, tmp_path):
    made = tmp_path / "made"
    needy = step("needy", f"test -e {made}", ("maker",))
    assert run_all(needy, step("maker", f"sleep 0.3; touch {made}"), seconds=60) == ["passed", "passed"]


def test_each_lane_tells_when_it_was_done(run_all):
    run_all(step("short", "true"), step("long", "sleep 1"), seconds=60)
    first, last = run_all.ends
    assert first < 1 <= last


def test_steps_that_are_asked_for_bring_what_they_need_and_one_alone_builds_its_own_images():
    available = run.steps()
    asked = [step for step in available if step.name in ("molecule-default", "molecule-site")]
    assert {step.name for step in run.with_needs(asked, available)} == {"molecule-default", "molecule-site", "images"}
    assert run.with_needs(asked[:1], available) == asked[:1]


def test_a_step_that_could_not_even_be_logged_holds_nobody_up(run_all, tmp_path):
    (tmp_path / "bad.log").mkdir()
    bad, needy = run_all(step("bad", "true"), step("needy", "true", ("bad",)), seconds=60)
    assert bad.startswith("failed: IsADirectoryError") and needy == "failed: not begun, since it needs bad"


@pytest.fixture
def main(tmp_path, monkeypatch):
    """main(STEP, ...): all of run.py, for these steps."""
    monkeypatch.setattr(run, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(run, "CHECKOUT", tmp_path)
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*steps):
        monkeypatch.setattr(run, "steps", lambda: list(steps))
        return run.main([])

    yield call
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_a_run_gets_its_verdict_and_nothing_more_is_begun(main, tmp_path, capsys, number):
    begun = [step(f"step{index}", f"echo > {tmp_path}/begun{index}; sleep 60") for index in range(5)]
    timer = threading.Timer(1, os.kill, (os.getpid(), number))
    timer.start()
    assert main(*begun) == 1
    assert sorted(path.name for path in tmp_path.glob("begun*")) == ["begun0", "begun1"]
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 5 failed step0 step1 step2 step3 step4"


@pytest.mark.parametrize("others", [0, 1])
def test_nothing_of_an_earlier_run_is_told_as_this_ones(main, tmp_path, capsys, others):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/needy.log").write_text("fatal: [old]: FAILED! => from last month")
    (tmp_path / "logs/needy.tasks.jsonl").write_text('{"playbook": "old", "promise": "", "task": "old", "seconds": 99}')
    failing = [step("needy", "echo fatal: this one; false", ()), *(step(f"other{index}", "true") for index in range(others))]
    assert main(*failing) == 1
    end = capsys.readouterr().out.splitlines()[-3:]
    assert end == ["---- needy: failed", "fatal: this one", f"{others} passed, 1 failed needy"]
    assert "old" not in next((tmp_path / ".cache/seconds").iterdir()).read_text()


def test_what_much_waits_for_begins_first():
    available = run.steps()
    assert available[0].name == "images" and available[1].expected >= available[-1].expected


def test_every_step_that_is_needed_is_one():
    available = run.steps()
    assert {name for step in available for name in step.needs} <= {step.name for step in available}


def test_a_step_says_whether_it_passed(run_all):
    assert run_all(step("good", "true"), step("bad", "false | true"), seconds=60) == ["passed", "failed"]


def test_the_end_of_a_run_tells_what_failed(run_all, capsys):
    told = "TASK [x]\nok: [a]\nfatal: [b]: FAILED! => \n  msg: no space left\nPLAY RECAP"
    steps = [step("good", "echo fatal: not this"), step("bad", f"echo '{told}'; false"), step("mute", "false")]
    run_all(*steps, seconds=60)
    capsys.readouterr()
    assert run.report(steps, [1.0]) == 1
    end = capsys.readouterr().out
    assert end.splitlines()[-6:] == [
        "---- bad: failed", "fatal: [b]: FAILED! => ", "  msg: no space left", "PLAY RECAP", "---- mute: failed", "1 passed, 2 failed bad mute",
    ]  # fmt: skip


def test_a_long_line_is_told_by_its_beginning_and_its_end():
    (told,) = run.telling_lines('fatal: [b]: FAILED! => {"stderr": "Traceback ' + "x" * 1000 + 'ValueError: this one"}')
    assert told.startswith("fatal: [b]: FAILED!") and told.endswith('ValueError: this one"}') and len(told) < run.WIDTH + 10


@pytest.mark.parametrize(
    ("ours", "peer", "missed"),
    [
        ({1: 4.0, 50: 6.0, 200: 10.0}, {50: 90.0}, 0),
        ({1: 4.0, 50: 6.1}, {}, 1),
        ({1: 4.0, 200: 10.1}, {}, 1),
        ({50: 6.0}, {50: 89.0}, 1),
        ({1: 4.0, 50: 7.0, 200: 11.0}, {50: 80.0}, 3),
        ({1: 4.0}, {1: 5.0}, 0),  # no goal says anything of these
    ],
)
def test_the_bench_tells_which_goals_were_missed(ours, peer, missed, capsys):
    measured = [{size: (0.0, seconds) for size, seconds in side.items()} for side in (ours, peer)]
    assert bench.missed_goals(*measured) == missed
    assert capsys.readouterr().out.count("MISSED") == missed
