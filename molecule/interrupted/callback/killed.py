# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill ansible-playbook with SIGKILL when a task starts, or while it works on the host. See promises/killed.yml."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: killed
type: aggregate
short_description: kill ansible-playbook in the middle of its work
description:
  - Kills ansible-playbook and its workers when the task in the environment variable C(KILLED_TASK) starts, or, if C(KILLED_WATCH) names a command, once
    that has printed C(stopped). The command is started before the task and sees by the end of its standard input that the controller is dead.
  - Ends the run with the exit status 97 if the command did not come to see what it was to watch.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "killed"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.task = os.environ["KILLED_TASK"]
        self.command = os.environ.get("KILLED_WATCH")
        self.watcher = None

    def v2_playbook_on_task_start(self, task, is_conditional):
        if self.watcher:
            self._display.error(f"{self.task} ended before it was to be killed.")
            os._exit(97)
        if not task.get_name().rpartition(" : ")[2].startswith(self.task):
            return
        if not self.command:
            kill()
        self.watcher = subprocess.Popen(self.command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        if self.watcher.stdout.readline() != "watching\n":
            os._exit(97)
        threading.Thread(target=self.kill_when_stopped, daemon=True).start()

    def kill_when_stopped(self):
        if self.watcher.stdout.readline() == "stopped\n":
            kill()


def kill():
    """This process, and those of its workers after it, or it would say that they died. A module that runs on a host is no matter of its own."""
    sys.stdout.flush()  # or the task's name is lost where nobody has set PYTHONUNBUFFERED
    workers = []
    with open("/proc/self/cmdline", "rb") as stream:
        own = stream.read()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8") as stat, open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            if int(stat.read().rpartition(")")[2].split()[1]) == os.getpid() and cmdline.read() == own:
                workers.append(int(pid))
    subprocess.Popen(["kill", "-KILL", str(os.getpid()), *map(str, workers)], start_new_session=True)
    signal.pause()
