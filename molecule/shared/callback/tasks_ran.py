# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fail a playbook that ran no task on some host of its inventory: molecule would call it a success. End it when a host has failed: it cannot pass any more."""

from __future__ import annotations

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: tasks_ran
type: aggregate
short_description: fail a playbook that ran no task on some host
description:
  - Ends the run with an error when some host of the inventory ran no task. With C(--limit), one host that ran a task is enough.
  - Ends a play for all hosts, and with it the playbook, as soon as one has failed for good, unless the play itself says how many may.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "tasks_ran"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.expected = set()

    def v2_playbook_on_play_start(self, play):
        if play.max_fail_percentage is None:
            play.max_fail_percentage = 0
        self.expected = set(play.get_variable_manager().get_vars(play=play)["groups"]["all"])

    def v2_playbook_on_stats(self, stats):
        idle = self.expected - set(stats.ok)
        if not stats.ok or (idle and not context.CLIARGS.get("subset")):
            self._display.error(f"No task ran on {', '.join(sorted(idle)) or 'any host'}: this run proves nothing.")
            raise SystemExit(1)
