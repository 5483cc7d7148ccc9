# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a plan on a supervisor that does what no real one does on demand."""

from __future__ import annotations

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils.backend import Backend, SupervisorFault, SupervisorStillRunning, Survey
from ansible_collections.webops.fastcgi.plugins.module_utils.converge import Converger, Journal
from ansible_collections.webops.fastcgi.plugins.module_utils.plan import Plan, Step

STILL_RUNNING = SupervisorStillRunning(91, "STILL_RUNNING: shop")


class Restless(Backend):
    """A program "shop" whose one process ends by itself all the time; between every look and the orders after it, the supervisor starts it again."""

    def __init__(self):
        self.state = "exited"
        self.held = True
        self.given = []

    def survey(self):
        return Survey([], ["shop"], [], self.processes())

    def processes(self):
        if not self.held:
            return []
        process = {"full_name": "shop", "program": "shop", "state": self.state, "pid": None, "ever_started": self.state != "new"}
        self.state = {"exited": "running", "new": "running"}.get(self.state, self.state)
        return [{**process, "state": "stopped" if process["state"] == "new" else process["state"], "pid": 1 if process["state"] == "running" else None}]

    def execute(self, orders):
        return [self._carry_out(order) for order in orders]

    def _carry_out(self, order):
        self.given.append(order.verb)
        if order.verb == "stop":
            self.state = "stopped"
        elif order.verb == "remove":
            if self.state == "running":
                return STILL_RUNNING
            self.held = False
        elif order.verb == "add" and not self.held:
            self.held, self.state = True, "new"
        return None

    def updates_in_place(self):
        return False

    def measures(self):
        raise NotImplementedError

    def configurations(self):
        raise NotImplementedError

    def log_lines(self, full_name, count):
        raise NotImplementedError

    def last_exit(self, name):
        raise NotImplementedError


class Signalled(Restless):
    """A program "shop", of which each look finds the next state and pid; None: it is not held. The last one stays."""

    def __init__(self, *looks):
        super().__init__()
        self.looks = list(looks)

    def processes(self):
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return [{"full_name": "shop", "program": "shop", "state": look[0], "pid": look[1], "ever_started": True}] if look else []

    def _carry_out(self, order):
        self.given.append(order.verb)
        ended = self.looks[0] is None or self.looks[0][0] != "running"
        return SupervisorFault(70, "NOT_RUNNING: shop") if ended and order.verb == "signal" else None


RUNNING, STARTING, ANEW = ("running", 1), ("starting", 1), ("running", 2)


@pytest.mark.parametrize(
    ("looks", "reloaded", "ended", "failures"),
    [
        ([RUNNING], True, False, {}),
        ([STARTING, RUNNING], True, False, {}),
        ([STARTING, ("backoff", None), ("starting", 2), ANEW], False, False, {}),
        ([STARTING, None], False, False, {"shop": "still absent after 0.5 s"}),
        ([RUNNING, ("exited", None), ANEW], False, False, {}),
        ([RUNNING, RUNNING, ("exited", None), ANEW], True, True, {}),
        ([RUNNING, RUNNING, ("fatal", None)], True, True, {"shop": "is fatal"}),
    ],
    ids=["runs", "starts", "is started anew", "is taken out", "ends before the signal", "ends by the signal", "ends by it for good"],
)
def test_a_signal_reaches_what_has_run_since_before_the_call_once_it_has_started(looks, reloaded, ended, failures):
    supervisor = Signalled(*looks)
    converger = Converger(supervisor, supervisor.survey(), {"shop": 0}, {"shop": 0}, 0.5, Journal(None))
    converger.run(Plan((Step("reload", "shop", ("shop",), signal="USR2"),), frozenset({"shop"})))
    assert [step.processes for step in converger.done] == ([("shop",)] if reloaded else [])
    assert (["ended on signal USR2" in words for words in converger.warnings], converger.failures) == ([True] if ended else [], failures)


def test_what_is_replaced_in_the_same_call_gets_no_signal():
    supervisor = Signalled(RUNNING, ANEW)
    converger = Converger(supervisor, supervisor.survey(), {"shop": 0}, {"shop": 0}, 5, Journal(None))
    reload = Step("reload", "shop", ("shop",), signal="USR2")
    converger.run(Plan((reload, Step("start", "shop", ("shop",))), frozenset({"shop"})))
    assert (supervisor.given, [step.action for step in converger.done], converger.failures) == (["start"], ["start"], {})


@pytest.mark.parametrize(("action", "running", "held"), [("update", frozenset({"shop"}), True), ("remove", frozenset(), False)], ids=["updated", "removed"])
def test_a_program_that_starts_again_before_it_is_removed_is_brought_to_rest_again(action, running, held):
    supervisor = Restless()
    converger = Converger(supervisor, supervisor.survey(), {"shop": 0}, {}, 5, Journal(None))
    step = Step(action, "shop")
    converger.run(Plan((step,), running))
    assert (converger.failures, converger.done, supervisor.held) == ({}, [step], held)
    assert supervisor.given[0] == "remove" and supervisor.given.count("stop") == 1, "at rest first, refused, stopped, and removed in the end"
