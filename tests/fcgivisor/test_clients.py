# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that others wrote for supervisord work with fcgivisord, unmodified: community.general.supervisorctl and superlance's memmon."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from harness import SLEEP, TOOLS, wait_for


class Ansible:
    """ad-hoc runs of community.general.supervisorctl on this host, against one supervisor."""

    def __init__(self, one):
        self._one = one
        self._environment = {
            **os.environ, "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOCAL_TEMP": f"{one.directory}/ansible", "ANSIBLE_REMOTE_TEMP": f"{one.directory}/ansible", "ANSIBLE_HOME": f"{one.directory}/ansible",
        }  # fmt: skip

    def __call__(self, check=False, **arguments):
        arguments = {"config": str(self._one.configuration), "supervisorctl_path": str(TOOLS / "supervisorctl"), **arguments}
        words = ["localhost", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", "-m", "community.general.supervisorctl"]
        done = subprocess.run(
            [str(TOOLS / "ansible"), *words, "-a", json.dumps(arguments), *(["--check"] if check else [])],
            env=self._environment, cwd=self._one.directory, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert "{" in done.stdout, done.stderr
        return json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"][0]["hosts"]["localhost"]


def outcome(result):
    return {key: result.get(key) for key in ("changed", "failed", "state", "name")}


def test_community_general_supervisorctl(pair):
    def configure(one):
        one.sections["program:web"] = {"command": SLEEP}
        one.sections["program:manual"] = {"command": SLEEP, "autostart": "false"}
        one.sections["program:pool"] = {"command": SLEEP, "numprocs": 2, "process_name": "p%(process_num)d", "autostart": "false"}

    pair.configure(configure)

    def script(witness):
        one, run = witness.supervisor, Ansible(witness.supervisor)
        witness.until("web", "RUNNING")

        def note(**arguments):
            witness.note(str(sorted(arguments.items())), outcome(run(**arguments)))

        note(name="web", state="started")
        note(name="manual", state="started", check=True)
        note(name="manual", state="started")
        note(name="manual", state="started")
        note(name="manual", state="restarted")
        note(name="manual", state="signalled", signal="CONT")
        note(name="manual", state="stopped")
        note(name="manual", state="stopped")
        note(name="pool:", state="started")
        note(name="nobody", state="started")
        one.sections["program:fresh"] = {"command": SLEEP}
        one.write()
        note(name="fresh", state="present")
        note(name="fresh", state="present")
        witness.until("fresh", "RUNNING")
        note(name="fresh", state="absent")
        note(name="fresh", state="absent", stop_before_removing="true")
        witness.call("getAllProcessInfo")

    pair.agree(script)


@pytest.mark.parametrize("implementation", ["theirs", "ours"])
def test_memmon_restarts_what_uses_too_much_memory(pair, implementation):
    one = getattr(pair, implementation)
    site = pathlib.Path(importlib.util.find_spec("superlance").origin).parents[1]
    python = f"{sys.executable} -c"
    one.sections["program:large"] = {"command": f'{python} "import time; large = bytearray(100_000_000); time.sleep(600)"'}
    one.sections["program:small"] = {"command": SLEEP}
    one.sections["eventlistener:memmon"] = {
        "command": f'{python} "from superlance.memmon import main; main()" -p large=50MB -p small=50MB',
        "events": "TICK_5", "environment": f'PYTHONPATH="{site}"', "stderr_logfile": one.directory / "memmon.err",
    }  # fmt: skip
    one.start()
    for name in ("large", "small", "memmon"):
        one.wait_for_state(name, "RUNNING")
    small, large, memmon = one.pid("small"), one.pid("large"), one.pid("memmon")
    one.wait_for_new_pid("large", large)
    wait_for(
        lambda: "Restarted large" in (one.directory / "memmon.err").read_text() or "Restarting large" in (one.directory / "memmon.err").read_text(),
        "memmon's word",
    )
    assert (one.pid("small"), one.pid("memmon")) == (small, memmon)
