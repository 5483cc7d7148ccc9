# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import shutil
import signal
import sys
import tempfile

import pytest
from harness import OURS, PACKAGE, PYTHON_FOR_ALL, Supervisor
from pair import Pair

sys.path.insert(0, str(PACKAGE))

# What nohup(1), or a shell that starts a job in the background, has us ignore, everything that a test starts would ignore too: Ctrl-C, for one.
# A handler that does nothing is as good for us, and does not outlive an execve(2).
for _signal in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, lambda _number, _frame: None)


@pytest.fixture
def directory():
    """Short, since a unix socket's path has 107 bytes; and open to all users, since programs run as some."""
    path = tempfile.mkdtemp(prefix="fcgivisor-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def supervisor(directory):
    """fcgivisord, not started yet."""
    made = Supervisor(directory, OURS)
    yield made
    made.end()


@pytest.fixture
def any_user(directory):
    """What a supervisor needs that does not run as root: its directory, an interpreter and a package that it can reach. Returns variables for start()."""

    def prepare(supervisor, uid):
        supervisor.python = PYTHON_FOR_ALL
        shutil.copytree(PACKAGE, f"{directory}/package")
        os.chown(directory, uid, uid)
        return {"PYTHONPATH": f"{directory}/package", "HOME": directory}

    return prepare


@pytest.fixture
def script(directory):
    """Write a Python program, and return its command line. It runs without site, under the system's own Python, which any user can read."""

    def write(name, text):
        path = pathlib.Path(directory) / f"{name}.py"
        path.write_text(text)
        return f"{PYTHON_FOR_ALL} -S {path}"

    return write


@pytest.fixture
def pair(directory):
    """supervisord and fcgivisord, not started yet."""
    made = Pair(directory)
    yield made
    made.end()
