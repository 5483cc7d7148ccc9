# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a process is started again: pure functions of its history and the time. Times are seconds of the monotonic clock."""

from __future__ import annotations

import os
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# What mod_fastcgi does (fcgi_pm.c, mod_fastcgi.h; the defaults are its own), with two weaknesses mended: each process has its own clock, so that ten
# killed ones come back together and not one every restart_delay; and the clock is monotonic. All in seconds, but max_failed_starts.
FastCgi = namedtuple("FastCgi", "restart_delay start_delay min_server_life max_failed_starts failed_start_delay")
FASTCGI_DEFAULTS = FastCgi(restart_delay=5, start_delay=1, min_server_life=30, max_failed_starts=3, failed_start_delay=600)

# wait: seconds until a new look; final: whether the process is started then, or only looked at again; failures: what the program has on its record now.
Decision = namedtuple("Decision", "wait final failures")

# The largest part by which jitter shortens or lengthens an exponential delay: so that what failed together does not come back together.
JITTER = 0.1


def random_fraction() -> float:
    """From 0 to 1. The module random would be larger than this supervisor's whole state."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def backoff_delay(tries: int, exponential: bool, longest: float, random_part: Callable[[], float] = random_fraction) -> float:
    """Seconds to wait after the tries-th failed start in a row.

    supervisord's are linear: 1, 2, 3, … (process.py, change_state). Exponential ones double: 1, 2, 4, … up to longest, each with JITTER.
    """
    if not exponential:
        return float(tries)
    delay = min(float(longest), 2.0 ** min(tries - 1, 30))
    return delay * (1 + JITTER * (2 * random_part() - 1))


def fastcgi_restart(policy: FastCgi, failures: int, last_start: float, lived: float, sibling_starts: Iterable[float], moment: float) -> Decision:
    """When mod_fastcgi starts a dead process again.

    failures: of the program, this death included (a clean exit is none). last_start: of this process; lived: how long it lived then.
    sibling_starts: of the program's living processes.
    More failures than max_failed_starts are a penalty, failed_start_delay after the last start; they are forgiven as soon as this process had lived, or
    any other lives, for longer than min_server_life. After a penalty there is one try: the next failure brings the next penalty.
    """
    if failures <= policy.max_failed_starts:
        return Decision(max(0.0, last_start + policy.restart_delay - moment), True, failures)
    starts = list(sibling_starts)
    if lived > policy.min_server_life or any(moment - start > policy.min_server_life for start in starts):
        return Decision(max(0.0, last_start + policy.restart_delay - moment), True, 0)
    due = last_start + policy.failed_start_delay
    grown = min((start + policy.min_server_life for start in starts), default=due)
    if grown < due:
        return Decision(max(0.0, grown - moment) + 0.001, False, failures)
    return Decision(max(0.0, due - moment), True, policy.max_failed_starts)
