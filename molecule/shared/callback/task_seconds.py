# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how many seconds each task took: the longest at the end of the playbook, all in a file, of which tests/seconds.py makes a table."""

from __future__ import annotations

import json
import os
import re
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_seconds
type: aggregate
short_description: say how many seconds each task took
description:
  - Prints the longest tasks at the end of a playbook.
  - Appends one line of JSON for each task to the file that the environment variable C(FCGI_TASK_SECONDS) names, as the task ends; where it is not set, nothing.
  - '{"playbook": "side_effect.yml", "promise": "a_restart_loses_no_request", "task": "fcgi_app : Restart", "seconds": 1.27, "hosts": 2, "skipped": 0};
    seconds from the start of the task to that of the next one, hosts those that ran or skipped it. promise is the file below promises/ that the
    playbook includes and that led to the task, or "".'
"""


LONGEST = 10  # tasks that are printed


def promise(task):
    """The name of the file that the playbook itself includes, be the task there or in what that file includes."""
    found = ""
    while task is not None:
        match = re.search(r"/promises/(\w+)\.yml:", task.get_path() or "") if hasattr(task, "get_path") else None
        found = match[1] if match else found
        task = task._parent
    return found


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_seconds"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.path = os.environ.get("FCGI_TASK_SECONDS")
        self.playbook = ""
        self.task = None
        self.told = []

    def note(self, task=None):
        now = time.monotonic()
        if self.task:
            self.told.append({**self.task, "seconds": round(now - self.task["seconds"], 3)})
            if self.path:
                # One write of one line: playbooks that a task starts append to the same file.
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(self.told[-1]) + "\n")
        self.task = task and {"playbook": self.playbook, "promise": promise(task), "task": task.get_name(), "seconds": now, "hosts": 0, "skipped": 0}

    def v2_playbook_on_start(self, playbook):
        self.playbook = os.path.basename(playbook._file_name)

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.note(task)

    def v2_playbook_on_handler_task_start(self, task):
        self.note(task)

    def count(self, skipped=0):
        if self.task:
            self.task["hosts"] += 1
            self.task["skipped"] += skipped

    def v2_runner_on_ok(self, result):
        self.count()

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.count()

    def v2_runner_on_unreachable(self, result):
        self.count()

    def v2_runner_on_skipped(self, result):
        self.count(skipped=1)

    def v2_playbook_on_play_start(self, play):
        self.note()

    def v2_playbook_on_stats(self, stats):
        self.note()
        total = sum(task["seconds"] for task in self.told)
        self._display.display(f"{total:8.1f} s  {self.playbook}: {len(self.told)} tasks, the longest:")
        for task in sorted(self.told, key=lambda task: -task["seconds"])[:LONGEST]:
            self._display.display(f"{task['seconds']:8.1f} s  {task['task']}")
