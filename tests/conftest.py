# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test shares: the collection on the import path, and a way to run a module for real."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def _collections_root() -> pathlib.Path:
    """The directory in which this checkout is ansible_collections/webops/fastcgi, whatever the checkout is called. The Makefile makes the same."""
    root = CHECKOUT / ".cache" / "collections"
    link = root / "ansible_collections" / "webops" / "fastcgi"
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../../..")
    return root


COLLECTIONS = _collections_root()
sys.path.insert(0, str(COLLECTIONS))


def execute_module(module, args, check=False, diff=False, python=sys.executable, env=None, timeout=120):
    """Run a module of the collection in a process of its own, as Ansible does on a host, and return its result (dict).

    env: environment variables in addition to those of the tests. A PYTHONPATH among them is searched before the collection.
    """
    args = {**args, "_ansible_check_mode": check, "_ansible_diff": diff}
    path = [*filter(None, [(env or {}).get("PYTHONPATH")]), str(COLLECTIONS)]
    done = subprocess.run(
        [str(python), "-m", f"ansible_collections.webops.fastcgi.plugins.modules.{module}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": args}), env={**os.environ, **(env or {}), "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, f"{module} printed no result.\nstdout: {done.stdout}\nstderr: {done.stderr}"
    result = json.loads(lines[-1])
    result["_stderr"] = done.stderr
    return result


@pytest.fixture
def run_module():
    return execute_module


@pytest.fixture
def collections_path():
    """The directory for ANSIBLE_COLLECTIONS_PATH."""
    return COLLECTIONS
