# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a process is started again: supervisord's delays, exponential ones, and mod_fastcgi's policy (fcgi_pm.c), as tables."""

from __future__ import annotations

import pytest
from fcgivisor.policy import FASTCGI_DEFAULTS, JITTER, FastCgi, backoff_delay, fastcgi_restart, random_fraction

# mod_fastcgi's defaults: 5 s from start to start, 30 s of life forgive, the 4th failure brings a penalty of 600 s.
POLICY = FastCgi(restart_delay=5, start_delay=1, min_server_life=30, max_failed_starts=3, failed_start_delay=600)


def test_the_defaults_are_those_of_mod_fastcgi():
    assert FASTCGI_DEFAULTS == POLICY


# supervisord's, and exponential ones


@pytest.mark.parametrize("tries", [1, 2, 3, 10, 1000])
def test_delays_of_supervisord_grow_by_a_second_each(tries):
    assert backoff_delay(tries, exponential=False, longest=60) == tries


@pytest.mark.parametrize(("tries", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (10_000, 60)])
def test_exponential_delays_double_up_to_the_longest(tries, seconds):
    assert backoff_delay(tries, exponential=True, longest=60, random_part=lambda: 0.5) == seconds


@pytest.mark.parametrize(("fraction", "seconds"), [(0.0, 32 * (1 - JITTER)), (0.5, 32), (1.0, 32 * (1 + JITTER))])
def test_jitter_spreads_exponential_delays_to_both_sides(fraction, seconds):
    assert backoff_delay(6, exponential=True, longest=60, random_part=lambda: fraction) == pytest.approx(seconds)


def test_chance_lies_between_0_and_1_and_differs():
    fractions = {random_fraction() for _try in range(100)}
    assert all(0 <= fraction < 1 for fraction in fractions)
    assert len(fractions) > 90


# mod_fastcgi's. The process was started at 1000 and died when it had lived so long; now is the moment of the death, unless it says otherwise.

#    what happens                                          failures  lived  ages of siblings  moment     wait  start  failures then
CASES = [
    ("it fails at once: restart_delay after its start", 1, 0.1, [], 1000.1, 4.9, True, 1),
    ("it fails a second time", 2, 0.1, [], 1000.1, 4.9, True, 2),
    ("it fails a third time, which is still allowed", 3, 0.1, [], 1000.1, 4.9, True, 3),
    ("it lived longer than restart_delay: at once", 1, 6.0, [], 1006.0, 0.0, True, 1),
    ("it ended by itself with status 0: no failure, as often as it likes", 0, 0.1, [], 1000.1, 4.9, True, 0),
    ("the fourth failure: the penalty, from its start", 4, 0.1, [], 1000.1, 599.9, True, 3),
    ("many failures at once, of all slots, cost one penalty", 40, 0.1, [], 1000.1, 599.9, True, 3),
    ("it had lived for min_server_life: not longer, no pardon", 4, 30.0, [], 1030.0, 570.0, True, 3),
    ("it had lived longer: all is forgiven", 4, 30.1, [], 1030.1, 0.0, True, 0),
    ("a sibling lives longer: all is forgiven", 4, 0.1, [31.0], 1000.1, 4.9, True, 0),
    ("one of several siblings lives longer", 4, 0.1, [1.0, 31.0, 2.0], 1000.1, 4.9, True, 0),
    ("a sibling will soon have lived long enough: look then", 4, 0.1, [20.0], 1000.1, 10.001, False, 4),
    ("of two siblings the older one", 4, 0.1, [20.0, 25.0], 1000.1, 5.001, False, 4),
    ("the look: it has lived long enough, restart_delay is over", 4, 0.1, [30.001], 1010.2, 0.0, True, 0),
    ("the penalty is over", 4, 0.1, [], 1600.0, 0.0, True, 3),
    ("the penalty is long over", 4, 0.1, [], 9999.0, 0.0, True, 3),
]  # fmt: skip


@pytest.mark.parametrize(("failures", "lived", "ages", "moment", "wait", "start", "then"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_mod_fastcgi(failures, lived, ages, moment, wait, start, then):
    decision = fastcgi_restart(POLICY, failures, last_start=1000.0, lived=lived, sibling_starts=[moment - age for age in ages], moment=moment)
    assert decision.wait == pytest.approx(wait, abs=1e-6)
    assert (decision.final, decision.failures) == (start, then)


def test_after_a_penalty_there_is_one_try_until_the_next_penalty():
    moment, failures, waits = 0.0, 0, []
    for _death in range(8):
        last_start = moment
        moment += 0.5
        decision = fastcgi_restart(POLICY, failures + 1, last_start, 0.5, [], moment)
        failures = decision.failures
        waits.append(round(decision.wait + 0.5))
        moment += decision.wait
    assert waits == [5, 5, 5, 600, 600, 600, 600, 600]


def test_four_crashes_in_a_year_cost_nothing_where_siblings_are_healthy():
    failures, year = 0, 365 * 86400.0
    for moment in (year / 4, year / 2, year * 3 / 4, year):
        decision = fastcgi_restart(POLICY, failures + 1, last_start=0.0, lived=moment, sibling_starts=[0.0], moment=moment)
        failures = decision.failures
        assert decision.wait == 0
    assert failures == 0


def test_ten_workers_that_are_killed_together_come_back_together():
    """mod_fastcgi has one clock for all of them, so the tenth would wait for 50 s."""
    waits = {fastcgi_restart(POLICY, failures, last_start=0.0, lived=3600.0, sibling_starts=[], moment=3600.0).wait for failures in range(1, 11)}
    assert waits == {0.0}


def test_no_delay_is_possible():
    assert fastcgi_restart(POLICY._replace(restart_delay=0), 1, 1000.0, 0.0, [], 1000.0).wait == 0
