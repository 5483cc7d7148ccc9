# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisord as a service: what systemd is told (sd_notify(3)), what ps shows, and the package run by its path, as the unit and the init script do."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess

import pytest
from harness import PACKAGE, PYTHON

CHATTY = "/bin/sh -c 'env; exec sleep 600'"


@pytest.fixture(params=["path", "abstract"])
def systemd(request, directory):
    """The socket on which systemd listens, by a path or in the abstract name space: (it, NOTIFY_SOCKET)."""
    name = f"{directory}/notify" if request.param == "path" else f"@fcgivisor-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(60)
        yield listener, name


def test_systemd_is_told_when_it_serves_and_when_it_ends_and_no_worker_inherits_that_socket(supervisor, systemd):
    listener, name = systemd
    supervisor.program("shop", command=CHATTY).start(NOTIFY_SOCKET=name)
    assert listener.recv(100) == b"READY=1"
    assert supervisor.rpc.getState()["statename"] == "RUNNING"
    supervisor.process.send_signal(signal.SIGTERM)
    assert listener.recv(100) == b"STOPPING=1"
    assert supervisor.process.wait(60) == 0
    assert "NOTIFY_SOCKET" not in (supervisor.directory / "shop.log").read_text()


def test_a_socket_of_systemd_that_is_gone_stops_nobody(supervisor, directory):
    supervisor.start(NOTIFY_SOCKET=f"{directory}/gone")
    assert supervisor.rpc.getState()["statename"] == "RUNNING"


def test_it_is_called_fcgivisord_and_its_workers_by_their_own_names(supervisor):
    supervisor.program("shop").start()
    assert pathlib.Path(f"/proc/{supervisor.process.pid}/comm").read_text() == "fcgivisord\n"
    assert pathlib.Path(f"/proc/{supervisor.pid('shop')}/comm").read_text() == "sleep\n"


def test_the_package_runs_by_its_path_without_pythonpath_and_its_first_word_ctl_is_the_command_line(supervisor):
    supervisor.program("shop").start()
    package = [PYTHON, "-IS", str(PACKAGE / "fcgivisor")]
    checked = subprocess.run([*package, "--check", "-c", supervisor.configuration], text=True, capture_output=True, check=True)
    assert "1 groups, 1 processes; it can be used" in checked.stdout
    told = subprocess.run([*package, "ctl", "-c", supervisor.configuration, "pid", "shop"], text=True, capture_output=True, check=True)
    assert told.stdout == f"{supervisor.pid('shop')}\n"
