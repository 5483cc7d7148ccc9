# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of states is whole: nothing in it leads nowhere, nothing that the code says is missing in it."""

from __future__ import annotations

import re

import pytest
import supervisor.states
from fcgivisor import states
from fcgivisor.process import Process
from harness import PACKAGE

# Every event that the code hands to Process.handle.
SAID = {event for path in (PACKAGE / "fcgivisor").glob("*.py") for event in re.findall(r"\bhandle\(\"(\w+)\"", path.read_text())}
WITH_A_PROCESS = {states.STARTING, states.RUNNING, states.STOPPING, states.UNKNOWN}


def test_states_have_the_numbers_and_names_of_supervisord():
    theirs = {name: number for name, number in vars(supervisor.states.ProcessStates).items() if name.isupper()}
    assert {name: number for number, name in states.NAMES.items()} == theirs
    assert set(supervisor.states.STOPPED_STATES) == states.STOPPED_STATES
    assert set(supervisor.states.RUNNING_STATES) == states.RUNNING_STATES
    assert set(supervisor.states.SIGNALLABLE_STATES) == states.SIGNALLABLE_STATES


def test_moods_of_the_supervisor_have_the_numbers_of_supervisord():
    theirs = {number: name for name, number in vars(supervisor.states.SupervisorStates).items() if name.isupper()}
    assert theirs == states.SUPERVISOR_NAMES


@pytest.mark.parametrize(("state", "event"), states.TABLE, ids=[f"{states.NAMES[state]} {event}" for state, event in states.TABLE])
def test_every_entry_leads_to_a_state_by_an_action_of_process(state, event):
    after, action = states.TABLE[state, event]
    assert state in states.NAMES
    assert after in states.NAMES
    assert callable(getattr(Process, f"_{action}"))


def test_every_event_of_the_table_is_said_and_every_one_that_is_said_is_in_the_table():
    assert {event for _state, event in states.TABLE} == SAID


def test_every_state_can_be_reached():
    reached, waiting = set(), [states.STOPPED]
    while waiting:
        state = waiting.pop()
        if state not in reached:
            reached.add(state)
            waiting += [after for (before, _event), (after, _action) in states.TABLE.items() if before == state]
    assert reached == set(states.NAMES)


def test_every_state_has_a_way_to_rest():
    """From wherever a process is, some chain of events ends in a state in which nothing runs."""
    resting = {states.STOPPED, states.EXITED, states.FATAL}
    while True:
        more = {before for (before, _event), (after, _action) in states.TABLE.items() if after in resting} - resting
        if not more:
            break
        resting |= more
    assert resting == set(states.NAMES)


@pytest.mark.parametrize("state", sorted(WITH_A_PROCESS), ids=states.NAMES.get)
def test_death_is_an_event_wherever_there_is_a_process(state):
    """In STARTING it counts as died_early, or as a death after a life (alive, then died)."""
    assert (state, "died_early" if state == states.STARTING else "died") in states.TABLE


@pytest.mark.parametrize("state", sorted(set(states.NAMES) - WITH_A_PROCESS), ids=states.NAMES.get)
def test_whatever_has_no_process_can_be_started(state):
    assert states.TABLE[state, "start"] == (states.STARTING, "spawn")


@pytest.mark.parametrize("state", sorted(states.RUNNING_STATES), ids=states.NAMES.get)
def test_whatever_runs_or_is_about_to_can_be_stopped(state):
    after, _action = states.TABLE[state, "stop"]
    assert after == (states.STOPPED if state == states.BACKOFF else states.STOPPING)


def test_a_process_is_announced_running_by_one_event_only():
    assert [(before, event) for (before, event), (after, _action) in states.TABLE.items() if after == states.RUNNING] == [(states.STARTING, "alive")]
