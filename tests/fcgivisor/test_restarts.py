# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead worker comes back: at once, and as often as the policy says."""

from __future__ import annotations

import os
import signal


def test_a_killed_worker_is_replaced_and_its_siblings_are_not_touched(supervisor):
    supervisor.pool("shop", 3, autorestart="true").start()
    before = supervisor.pids()
    os.kill(before["shop_01"], signal.SIGKILL)
    supervisor.wait_for_new_pid("shop:shop_01", before["shop_01"])
    after = supervisor.pids()
    assert (after["shop_00"], after["shop_02"]) == (before["shop_00"], before["shop_02"])
