# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A molecule run that proves nothing must fail. Molecule alone calls each of these, except the first, a success."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
BASE_CONFIG = pathlib.Path(".config/molecule/config.yml")
TASK = {"name": "Do something", "ansible.builtin.debug": {"msg": "done"}}


@pytest.fixture
def molecule_test(tmp_path):
    """Run "molecule test" for a scenario made of these steps and plays, with this project's inventory and base configuration."""

    def run(sequence, **playbooks):
        scenario = tmp_path / "molecule" / "probe"
        scenario.mkdir(parents=True)
        for name in ("inventory", "shared", "images"):
            (tmp_path / "molecule" / name).symlink_to(CHECKOUT / "molecule" / name)
        (tmp_path / BASE_CONFIG).parent.mkdir(parents=True)
        shutil.copy(CHECKOUT / BASE_CONFIG, tmp_path / BASE_CONFIG)
        (scenario / "molecule.yml").write_text(yaml.safe_dump({"scenario": {"name": "probe", "test_sequence": sequence}}))
        for name, play in playbooks.items():
            (scenario / f"{name}.yml").write_text(yaml.safe_dump([{"name": name, "gather_facts": False, **play}]))
        tools = pathlib.Path(sys.executable).parent
        return subprocess.run(
            [tools / "molecule", "--base-config", BASE_CONFIG, "test", "--destroy", "never", "--scenario-name", "probe"],
            cwd=tmp_path, env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "MOLECULE_COMMAND_BORDERS": "false", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


def test_a_scenario_that_runs_a_task_on_every_host_passes(molecule_test):
    done = molecule_test(["converge"], converge={"hosts": "all", "tasks": [TASK]})
    assert done.returncode == 0, done.stdout


def test_an_unmatched_host_pattern_fails(molecule_test):
    done = molecule_test(["converge"], converge={"hosts": "webservers", "tasks": [TASK]})
    assert done.returncode != 0
    assert "Could not match supplied host pattern" in done.stdout


@pytest.mark.parametrize(("hosts", "idle"), [("all", "debian12, debian13"), ("debian12", "debian13")])
def test_a_host_on_which_no_task_ran_fails_and_is_named(molecule_test, hosts, idle):
    tasks = [TASK] if hosts != "all" else []
    done = molecule_test(["converge"], converge={"hosts": hosts, "tasks": tasks})
    assert done.returncode != 0
    assert f"No task ran on {idle}" in done.stdout


def test_a_playbook_that_the_sequence_names_and_nobody_wrote_fails(molecule_test):
    done = molecule_test(["create", "verify"], converge={"hosts": "all", "tasks": [TASK]})
    assert done.returncode != 0
    assert "verify.yml is missing" in done.stdout


def test_a_host_that_fails_ends_the_playbook_for_all_and_a_rescued_one_does_not(molecule_test):
    fails = {"name": "Fail on one", "ansible.builtin.fail": {"msg": "broken"}, "when": "inventory_hostname == 'debian12'"}
    rescued = {"name": "Try", "block": [{**fails, "ansible.builtin.fail": {"msg": "mended"}}], "rescue": [{**TASK, "name": "Mend"}]}
    done = molecule_test(["converge"], converge={"hosts": "all", "tasks": [rescued, {**TASK, "name": "Go on"}, fails, {**TASK, "name": "Too late"}]})
    assert done.returncode != 0
    assert "ok: [debian13]" in done.stdout.partition("TASK [Go on]")[2].partition("TASK")[0]
    assert "Too late" not in done.stdout
