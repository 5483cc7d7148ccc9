# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan, by table: from what runs and what is asked to the steps."""

from __future__ import annotations

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils.backend import Configuration, Survey
from ansible_collections.webops.fastcgi.plugins.module_utils.plan import (
    ADDED,
    CHANGED,
    REMOVED,
    SAME,
    Plan,
    Program,
    Selected,
    SelectionError,
    Step,
    assume,
    granted_seconds,
    make_plan,
    nearest,
    pictures,
    programs_of,
    remove,
    select,
)


def process(name, state):
    """state "new" is stopped, and never started."""
    return {"full_name": name, "program": name.partition(":")[0], "state": "stopped" if state == "new" else state, "ever_started": state != "new"}


def program(section, *states, autostart=True):
    """A program "shop" with a process shop:0, shop:1, ... in each of the states; of a section not in the supervisor, one process."""
    names = [f"shop:{number}" for number in range(max(1, len(states)))]
    declared = {} if section == REMOVED else dict.fromkeys(names, autostart)
    return Program("shop", section, {name: process(name, state) for name, state in zip(names, states)}, declared)


def plan(state, observed, **options):
    by_name = options.pop("by_name", False)
    chosen = options.pop("chosen", None)
    return make_plan(state, [Selected("shop", chosen, by_name)], {"shop": observed}, **options)


ADD = Step("add", "shop")
START = Step("start", "shop", ("shop:0",))
STOP = Step("stop", "shop", ("shop:0",))
RESTART = Step("restart", "shop", ("shop:0",))
UPDATE = Step("update", "shop", stops=("shop:0",))
UPDATE_AT_REST = Step("update", "shop")

ONE_PROCESS = [
    # state, section, what its one process does, by name, the step, whether it has to run at the end
    ("present", ADDED, None, False, ADD, True),
    ("present", SAME, "running", False, None, True),
    ("present", SAME, "starting", False, None, True),
    ("present", SAME, "backoff", False, None, True),
    ("present", SAME, "new", False, None, True),
    ("present", SAME, "stopped", False, None, False),
    ("present", SAME, "stopped", True, None, False),
    ("present", SAME, "stopping", False, None, False),
    ("present", SAME, "exited", False, START, True),
    ("present", SAME, "fatal", False, START, True),
    ("present", SAME, "unknown", False, None, True),
    ("present", CHANGED, "running", False, UPDATE, True),
    ("present", CHANGED, "backoff", False, UPDATE, True),
    ("present", CHANGED, "fatal", False, UPDATE_AT_REST, True),
    ("present", CHANGED, "exited", False, UPDATE, True),
    ("present", CHANGED, "stopped", False, None, False),
    ("started", ADDED, None, False, ADD, True),
    ("started", SAME, "running", False, None, True),
    ("started", SAME, "stopped", False, START, True),
    ("started", SAME, "stopping", False, START, True),
    ("started", SAME, "new", False, START, True),
    ("started", SAME, "fatal", False, START, True),
    ("started", CHANGED, "stopped", False, UPDATE_AT_REST, True),
    ("restarted", ADDED, None, False, ADD, True),
    ("restarted", SAME, "running", False, RESTART, True),
    ("restarted", SAME, "backoff", False, RESTART, True),
    ("restarted", SAME, "fatal", False, START, True),
    ("restarted", SAME, "stopped", False, None, False),
    ("restarted", SAME, "stopped", True, START, True),
    ("restarted", CHANGED, "running", True, UPDATE, True),
    ("restarted", CHANGED, "stopped", False, None, False),
    ("restarted", CHANGED, "stopped", True, UPDATE_AT_REST, True),
    ("stopped", ADDED, None, False, None, False),
    ("stopped", SAME, "running", False, STOP, False),
    ("stopped", SAME, "starting", False, STOP, False),
    ("stopped", SAME, "backoff", False, STOP, False),
    ("stopped", SAME, "stopping", False, None, False),
    ("stopped", SAME, "fatal", False, None, False),
    ("stopped", CHANGED, "running", False, STOP, False),
    ("reloaded", SAME, "running", False, Step("reload", "shop", ("shop:0",), signal="HUP"), True),
    ("reloaded", SAME, "stopped", False, None, False),
    ("absent", ADDED, None, False, None, False),
    ("absent", SAME, "running", False, Step("remove", "shop"), False),
    ("absent", REMOVED, "fatal", False, Step("remove", "shop"), False),
]


@pytest.mark.parametrize(("state", "section", "does", "by_name", "step", "runs"), ONE_PROCESS, ids=lambda value: str(value) if isinstance(value, str) else "")
def test_one_process(state, section, does, by_name, step, runs):
    made = plan(state, program(section, *([does] if does else [])), by_name=by_name)
    assert list(made.steps) == ([step] if step else [])
    assert made.running == ({"shop:0"} if runs else set())


def test_stopping_is_waited_for_though_there_is_nothing_to_do():
    assert plan("stopped", program(SAME, "stopping")).resting == {"shop:0"}


def test_a_change_to_what_was_stopped_by_hand_is_pending_and_says_why():
    made = plan("present", program(CHANGED, "stopped", "stopped"))
    assert made.pending == ("shop",) and "stopped by hand" in made.warnings[0]


def test_of_a_pool_what_was_stopped_by_hand_rests_after_an_update():
    made = plan("present", program(CHANGED, "running", "stopped", "fatal"))
    assert made.steps == (Step("update", "shop", stops=("shop:0",), rests=("shop:1",)),)
    assert made.running == {"shop:0", "shop:2"}


def test_a_changed_pool_that_grows_and_shrinks_is_judged_by_its_new_processes():
    observed = Program("shop", CHANGED, {"old": process("old", "running")}, {"new": True})
    made = plan("started", observed)
    assert made.steps == (Step("update", "shop", stops=("old",)),) and made.running == {"new"}


IN_PLACE = [
    # state, what its one process does, by name, the processes that are to be started, whether it has to run at the end
    ("present", "running", False, (), True),
    ("present", "backoff", False, (), True),
    ("present", "new", False, (), True),
    ("present", "stopped", False, (), False),
    ("present", "stopping", False, (), False),
    ("present", "fatal", False, ("shop:0",), True),
    ("present", "exited", False, ("shop:0",), True),
    ("started", "stopped", False, ("shop:0",), True),
    ("restarted", "stopped", False, (), False),
    ("restarted", "stopped", True, ("shop:0",), True),
]


@pytest.mark.parametrize(("state", "does", "by_name", "starts", "runs"), IN_PLACE, ids=lambda value: value if isinstance(value, str) else "")
def test_a_changed_section_of_a_supervisor_that_updates_in_place(state, does, by_name, starts, runs):
    made = plan(state, program(CHANGED, does), by_name=by_name, in_place=True)
    assert (made.steps, made.running) == ((Step("update", "shop", starts),), {"shop:0"} if runs else set())
    assert made.pending == ()


def test_in_place_a_pool_grows_and_shrinks_and_what_runs_is_restarted_if_that_is_asked():
    observed = Program("shop", CHANGED, {"old": process("old", "running"), "kept": process("kept", "running")}, {"kept": True, "new": False})
    made = plan("started", observed, in_place=True)
    assert (made.steps, made.running) == ((Step("update", "shop", ("new",)),), {"kept", "new"})
    made = plan("restarted", observed, in_place=True)
    assert (made.steps, made.running) == ((Step("update", "shop", stops=("kept",)),), {"kept"})


def test_what_an_interrupted_call_stopped_is_started_again():
    assert plan("present", program(SAME, "stopped"), interrupted={"shop:0"}).steps == (START,)
    assert plan("present", program(CHANGED, "stopped"), interrupted={"shop:0"}).steps == (UPDATE_AT_REST,)


def test_one_process_of_a_pool_can_be_meant():
    made = plan("restarted", program(SAME, "running", "running"), chosen=frozenset({"shop:1"}))
    assert made.steps == (Step("restart", "shop", ("shop:1",)),) and made.running == {"shop:1"}


def test_what_is_not_started_by_itself_is_started_only_when_asked_or_when_it_ran_before():
    assert plan("present", program(SAME, "new", autostart=False)).steps == ()
    assert plan("started", program(ADDED, autostart=False)).steps == (Step("add", "shop", ("shop:0",)),)
    assert plan("present", program(CHANGED, "running", autostart=False)).steps == (Step("update", "shop", ("shop:0",), ("shop:0",)),)
    assert plan("present", program(CHANGED, "stopped", autostart=False)).pending == ()


def test_a_signal_does_not_apply_a_changed_section():
    made = plan("reloaded", program(CHANGED, "running"), signals={"shop": "USR2"})
    assert made.steps[0].signal == "USR2" and made.pending == ("shop",)


REREAD = [
    # state, section, in place, what its one process does, whether a signal is sent
    ("present", SAME, False, "running", True),
    ("present", SAME, False, "starting", True),
    ("started", SAME, False, "running", True),
    ("present", SAME, False, "backoff", False),
    ("present", SAME, False, "exited", False),
    ("present", SAME, False, "stopped", False),
    ("present", SAME, False, "stopping", False),
    ("started", SAME, False, "stopped", False),
    ("restarted", SAME, False, "running", False),
    ("present", CHANGED, False, "running", False),
    ("present", CHANGED, False, "stopped", False),
    ("present", CHANGED, True, "running", True),
    ("present", CHANGED, True, "stopped", False),
    ("restarted", CHANGED, True, "running", False),
    ("present", ADDED, False, None, False),
    ("present", ADDED, True, None, False),
    ("stopped", SAME, False, "running", False),
    ("absent", SAME, False, "running", False),
]


@pytest.mark.parametrize(("state", "section", "in_place", "does", "signalled"), REREAD, ids=lambda value: str(value) if isinstance(value, str) else "")
def test_what_runs_rereads_its_own_configuration_unless_it_is_started_anew_anyway(state, section, in_place, does, signalled):
    observed = program(section, *([does] if does else []))
    usual = plan(state, observed, in_place=in_place)
    made = plan(state, observed, in_place=in_place, signals={"shop": "USR2"}, rereads={"shop"})
    assert made.steps == usual.steps + ((Step("reload", "shop", ("shop:0",), signal="USR2"),) if signalled else ())
    assert (made.running, made.resting, made.pending) == (usual.running, usual.resting, usual.pending)


def test_of_a_pool_only_what_runs_and_was_chosen_rereads():
    observed = program(SAME, "running", "stopped", "running", "exited")
    signal = Step("reload", "shop", ("shop:0", "shop:2"), signal="HUP")
    assert plan("present", observed, rereads={"shop"}).steps == (Step("start", "shop", ("shop:3",)), signal)
    assert plan("present", observed, rereads={"shop"}, chosen=frozenset({"shop:2"})).steps == (signal._replace(processes=("shop:2",)),)
    assert plan("present", observed, rereads={"blog"}).steps == (Step("start", "shop", ("shop:3",)),)


def test_what_runs_though_it_does_not_start_by_itself_rereads_and_has_to_go_on_running():
    made = plan("present", program(SAME, "running", autostart=False), rereads={"shop"})
    assert [step.action for step in made.steps] == ["reload"] and made.running == {"shop:0"}


def test_a_process_that_an_update_in_place_ends_rereads_nothing():
    observed = Program("shop", CHANGED, {"old": process("old", "running"), "kept": process("kept", "running")}, {"kept": True})
    made = plan("present", observed, in_place=True, rereads={"shop"})
    assert made.steps == (Step("update", "shop"), Step("reload", "shop", ("kept",), signal="HUP")) and made.running == {"kept"}


def test_absent_warns_only_while_the_section_stands():
    assert "still in the configuration" in remove(program(SAME, "running")).warnings[0]
    assert remove(program(REMOVED, "running")).warnings == ()


def test_a_survey_becomes_programs():
    survey = Survey(["new"], ["changed"], ["gone"], [process("changed", "running"), process("gone", "running"), process("same:0", "running")])
    configurations = [Configuration("new", "new", True, 1, 10), Configuration("changed", "changed", False, 1, 10), Configuration("same", "same:0", True, 1, 10)]
    programs = programs_of(survey, configurations)
    assert {name: one.section for name, one in programs.items()} == {"new": ADDED, "changed": CHANGED, "gone": REMOVED, "same": SAME}
    assert programs["changed"].automatic == set() and list(programs["same"].processes) == ["same:0"]


CANDIDATES = {"shop": ["web"], "shop-admin": ["web", "staff"], "blog": []}
KNOWN = {"shop": ["shop:shop_00", "shop:shop_01"], "shop-admin": ["shop-admin"], "blog": ["blog"]}


@pytest.mark.parametrize(
    ("names", "groups", "expected"),
    [
        ([], [], {"shop": None, "shop-admin": None, "blog": None}),
        (["shop"], [], {"shop": None}),
        (["shop:"], [], {"shop": None}),
        (["shop:*"], [], {"shop": None}),
        (["shop*"], [], {"shop": None, "shop-admin": None}),
        (["shop:shop_01"], [], {"shop": {"shop:shop_01"}}),
        (["shop:*_01", "shop:*_00"], [], {"shop": {"shop:shop_00", "shop:shop_01"}}),
        (["shop:shop_01", "shop"], [], {"shop": None}),
        (["blog:blog"], [], {"blog": {"blog"}}),
        ([], ["staff"], {"shop-admin": None}),
        (["blog"], ["web"], {"shop": None, "shop-admin": None, "blog": None}),
    ],
)
def test_names_and_groups_select(names, groups, expected):
    selection, missing = select(names, groups, CANDIDATES, KNOWN)
    assert {one.program: one.processes for one in selection} == expected and missing == []


def test_only_a_name_that_is_written_out_asks_for_what_was_stopped_by_hand():
    assert [one.by_name for one in select(["shop"], [], CANDIDATES, KNOWN)[0]] == [True]
    assert [one.by_name for one in select(["sho?"], [], CANDIDATES, KNOWN)[0]] == [False]
    assert [one.by_name for one in select(["b*", "blog:*"], [], CANDIDATES, KNOWN)[0]] == [True]


def test_what_selects_nothing_is_told_apart_and_helped():
    assert select(["shop", "shpo", "shop:shop_07"], [], CANDIDATES, KNOWN)[1] == ["shpo", "shop:shop_07"]
    assert nearest("shpo", CANDIDATES) == "did you mean shop?"
    assert nearest("xyz", CANDIDATES) == "there are: blog, shop, shop-admin"
    assert nearest("xyz", []) == "there are none"
    with pytest.raises(SelectionError, match=r"'stuff'.*did you mean staff"):
        select([], ["stuff"], CANDIDATES, KNOWN)


@pytest.mark.parametrize(
    ("state", "observed", "before", "after"),
    [
        ("present", program(ADDED), ("none", {}), ("current", {"shop:0": "running"})),
        ("present", program(CHANGED, "fatal", "stopped"),
         ("outdated", {"shop:0": "fatal", "shop:1": "stopped"}), ("current", {"shop:0": "running", "shop:1": "stopped"})),
        ("restarted", program(SAME, "running"), ("current", {"shop:0": "running"}), ("current", {"shop:0": "running (restarted)"})),
        ("reloaded", program(SAME, "running"), ("current", {"shop:0": "running"}), ("current", {"shop:0": "running (signal HUP)"})),
        ("stopped", program(SAME, "running"), ("current", {"shop:0": "running"}), ("current", {"shop:0": "stopped"})),
        ("absent", program(REMOVED, "running"), ("gone from the files", {"shop:0": "running"}), ("gone from the files", {})),
    ],
)  # fmt: skip
def test_pictures_show_what_the_plan_touches(state, observed, before, after):
    shown = pictures(plan(state, observed), {"shop": observed})
    assert [(picture["shop"]["configuration"], picture["shop"]["processes"]) for picture in shown] == [before, after]


def test_pictures_show_all_that_is_done_with_one_program():
    observed = program(CHANGED, "running", "fatal")
    before, after = pictures(plan("present", observed, in_place=True, signals={"shop": "USR2"}, rereads={"shop"}), {"shop": observed})
    assert before["shop"] == {"configuration": "outdated", "processes": {"shop:0": "running", "shop:1": "fatal"}}
    assert after["shop"] == {"configuration": "current", "processes": {"shop:0": "running (signal USR2)", "shop:1": "running"}}
    observed = program(SAME, "running", "fatal")
    after = pictures(plan("restarted", observed), {"shop": observed})[1]
    assert after["shop"]["processes"] == {"shop:0": "running (restarted)", "shop:1": "running"}


def test_pictures_are_empty_where_nothing_is_to_be_done():
    observed = program(SAME, "running")
    assert pictures(plan("present", observed), {"shop": observed}) == ({}, {})


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([], 0),
        ([Step("update", "shop"), Step("update", "blog")], 30),
        ([Step("restart", "shop", ("shop:0", "shop:1", "shop:2")), Step("start", "blog")], 36),
        ([Step("remove", "blog"), Step("remove", "shop"), Step("add", "shop")], 42),
        ([Step("update", "unknown")], 11),
        ([Step("update", "blog"), Step("reload", "blog", ("blog",)), Step("reload", "shop", ("shop:0", "shop:1"))], 60),
    ],
)
def test_the_sections_grant_time_side_by_side_and_in_turn_where_processes_are_restarted(steps, seconds):
    assert granted_seconds(Plan(tuple(steps)), {"shop": 12, "blog": 30}) == seconds


def test_what_is_waited_for_without_a_step_has_its_time_too():
    assert granted_seconds(Plan(running=frozenset({"shop:0"}), resting=frozenset({"blog"})), {"shop": 12, "blog": 30}) == 30


@pytest.mark.parametrize(
    ("observed", "declared", "changed", "gone", "section"),
    [
        (None, {"shop": True}, ["shop"], [], ADDED),
        (program(SAME, "running"), {"shop": True}, [], [], SAME),
        (program(SAME, "running"), {"shop": True}, ["shop"], [], CHANGED),
        (program(CHANGED, "running"), {"shop": True}, [], [], CHANGED),
        (program(REMOVED, "running"), {"shop": True}, [], [], CHANGED),
        (program(SAME, "running"), {}, [], ["shop"], REMOVED),
        (program(SAME, "running"), {}, ["shop"], [], SAME),
    ],
)
def test_what_a_play_would_write_is_assumed(observed, declared, changed, gone, section):
    assumed = assume({"shop": observed} if observed else {}, declared, changed, gone)["shop"]
    assert assumed.section == section and bool(assumed.autostart) == (section != REMOVED)
