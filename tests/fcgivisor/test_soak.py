# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten thousand restarts leave nothing behind."""

from __future__ import annotations

import os
import pathlib
import resource

from harness import wait_for

RESTARTS = 10000
# Of all kinds of birth, with all that a process can have: pipes, a socket, a heartbeat, a JSON log. They end at once, without a failure.
KEYS = {"command": "/bin/true", "restart_delay": 0, "start_delay": 0, "autorestart": "true"}


def restarts(supervisor):
    return sum(status["restarts"] for status in supervisor.ours.getStatus())


def memory(pid):
    """Bytes that are its own: resident, and not shared with a file."""
    _size, resident, shared = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[:3]
    return (int(resident) - int(shared)) * resource.getpagesize()


def descriptors(pid):
    """What its descriptors are, but for those of clients, whose end may still be to be noticed."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}").partition(":")[0])
        except FileNotFoundError:
            continue
    return len(links)


def zombies(supervisor):
    found = []
    for pid in supervisor.children():
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [pid] if state == "Z" else []
    return found


def test_ten_thousand_restarts(supervisor):
    supervisor.sections["supervisord"]["loglevel"] = "warn"
    supervisor.program("spawned", **KEYS)
    supervisor.program("forked", **KEYS, user="nobody")
    supervisor.program("watched", **KEYS, heartbeat=60, heartbeat_required="true", max_lifetime=3600, redirect_stderr="false", log_format="json")
    supervisor.fcgi("served", **KEYS)
    supervisor.start()
    pid = supervisor.process.pid
    # The first thousand fill what is kept: caches, and the allocator's pools.
    wait_for(lambda: restarts(supervisor) >= RESTARTS // 10, "the first thousand", 120)
    before = memory(pid)
    wait_for(lambda: restarts(supervisor) >= RESTARTS, "all restarts", 240)
    grown = memory(pid) - before
    supervisor.rpc.stopAllProcesses()
    # Standard ones, the loop's three, the log, the RPC and its client, the shared socket, its directory, notify, and six logs.
    assert descriptors(pid) < 24
    assert zombies(supervisor) == []
    assert supervisor.children() == []
    assert grown < 1024 * 1024
    assert "exception" not in supervisor.log.read_text()
