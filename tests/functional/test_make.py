# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What "make help" promises starts from an empty environment: neither a PATH nor a home is there, as from env -i or a bare container."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]

# Of each target: variables that let it go through all of its recipe, but for the hours of work, and words that only what it starts prints.
STARTS = {
    "help": ([], "make demo-clean"),
    "demo": (["ARGS=--list-tasks"], "Deploy the FastCGI applications"),
    "demo-clean": (["ARGS=--list-tasks"], "Remove the FastCGI applications"),
    "test": (["ARGS=--list"], "molecule-default"),
    "lint": (["ARGS=--list"], "yamllint --strict"),
    "unit": (["ARGS=--list"], "pytest tests/unit"),
    "functional": (["ARGS=--list"], "tests/functional"),
    "fcgivisord": (["ARGS=--collect-only"], "tests/fcgivisor/test_sockets.py"),
    "molecule": (["ARGS=--list", "SCENARIO=php_fpm"], "molecule-php_fpm"),
    "fresh": (["ARGS=--list"], "tests/fresh_machine.sh plain"),
    "bench": (["ARGS=--versions"], "ansible-playbook [core"),
    # What it measures beside ours is no package that the tests need.
    "bench-supervisors": (["ARGS=--help", "BENCH_PACKAGES="], "some measurements only"),
}


@pytest.fixture
def make(tmp_path):
    """make(WORDS, VARIABLES of the environment): its output, in a checkout like this one with everything installed. What it removes is not this one's."""
    for path in CHECKOUT.iterdir():
        if not path.name.startswith((".venv", ".cache", ".git")):
            (tmp_path / path.name).symlink_to(path)
    for name in (".venv", ".venv-test", ".venv-bench"):
        venv = tmp_path / name
        venv.mkdir()
        for path in pathlib.Path(sys.prefix).iterdir():
            if path.name != "installed":
                (venv / path.name).symlink_to(path)
        (venv / "installed").touch()

    def run(*words, **environment):
        variables = [f"{name}={value}" for name, value in environment.items()]
        command = ["/usr/bin/env", "-i", *variables, "/usr/bin/make", "--directory", tmp_path, *words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout
        assert "Installing" not in done.stdout
        return done.stdout

    return run


@pytest.mark.parametrize("target", STARTS)
def test_a_target_starts_from_an_empty_environment(target, make):
    variables, words = STARTS[target]
    assert words in make(target, *variables)


@pytest.mark.parametrize("variable", ["LANG", "LC_ALL"])
def test_the_demo_starts_with_a_locale_that_this_machine_does_not_have(variable, make):
    variables, words = STARTS["demo"]
    assert words in make("demo", *variables, **{variable: "xx_XX.UTF-8"})


def test_every_target_that_help_lists_is_started_here(make):
    assert re.findall(r"^make ([a-z-]+) ", make("help"), re.MULTILINE) == list(STARTS)


def test_a_virtual_environment_is_made_of_debians_python_though_another_one_comes_first(tmp_path):
    other = tmp_path / "python3"
    other.write_text(f'#!/bin/sh\ntouch {tmp_path}/asked\nexec /usr/bin/python3 "$@"\n')
    other.chmod(0o755)
    (tmp_path / "requirements.txt").touch()
    command = ["/usr/bin/env", "-i", f"PATH={tmp_path}:/usr/bin:/bin", CHECKOUT / ".ci/venv", tmp_path / "venv", tmp_path / "requirements.txt"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    assert (tmp_path / "venv/bin/python").resolve() == pathlib.Path("/usr/bin/python3").resolve()
    assert not (tmp_path / "asked").exists()
