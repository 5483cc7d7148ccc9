# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_orphans, and what fcgi_host_info says of them, after a real supervisord has been killed."""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess

import host_info
import pytest
from ports import free_port
from supervisord import FCGIVISORD, OWN, Supervisord, wait_for

pytestmark = pytest.mark.machine

# What ignores a signal goes on to ignore it when it executes another program. It has no children, which would be orphans, too.
STUBBORN = "/bin/sh -c 'trap \"\" TERM; echo ready; exec sleep 600'"


@pytest.fixture(params=[OWN, FCGIVISORD], ids=["4.3.0", "fcgivisord"])
def host(request, tmp_path):
    supervisord = Supervisord(tmp_path, executable=request.param)
    yield supervisord
    supervisord.stop()


@pytest.fixture
def look(host, run_module):
    """fcgi_host_info for programs of this host."""

    def call(*programs, **options):
        return run_module("fcgi_host_info", {**host_info.places(host.directory), "url": host.url, "programs": programs, **options})

    return call


@pytest.fixture
def end(host, run_module):
    def call(*programs, check=False, **options):
        return run_module("fcgi_orphans", {"url": host.url, "programs": programs, **options}, check=check)

    return call


def alive(pid):
    return pathlib.Path(f"/proc/{pid}/stat").exists() and " Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()


def test_what_a_dead_supervisor_left_is_told_and_is_in_nobodys_way(host, look):
    url = f"tcp://127.0.0.1:{free_port()}"
    host.fcgi_section("shop", socket=url)
    host.fcgi_section("blog")
    host.start()
    pids = host.pids()
    assert look("shop", "blog")["orphans"] == []
    host.die()
    found = look("shop", listens=[{"app": "shop", "address": url}, {"app": "blog", "address": host.socket("blog")}])
    assert found["orphans"] == [{"pid": pids["shop"], "program": "shop", "process": "shop"}]
    assert [problem.partition(":")[0] for problem in found["problems"]] == ["fcgi_apps[blog]"], "what is not ours is in the way still"


def test_orphans_end_and_the_next_supervisor_can_have_their_port(host, end):
    host.fcgi_section("shop", socket=f"tcp://127.0.0.1:{free_port()}")
    host.section("foreign")
    host.start()
    pids = host.pids()
    host.die()
    checked = end("shop", check=True)
    assert checked["changed"] and alive(pids["shop"])
    ended = end("shop")
    assert ended["changed"] and ended["orphans"] == checked["orphans"] and f"shop (pid {pids['shop']})" in ended["msg"]
    assert not alive(pids["shop"]) and alive(pids["foreign"])
    host.start()
    host.wait_for_states("shop", "RUNNING")


def test_beside_a_new_supervisor_only_what_is_older_ends(host, look, end):
    host.pool("shop", 2, command=STUBBORN)
    host.start()
    host.wait_for_log("shop", "ready")
    old = host.pids()
    host.die()
    host.start()
    host.wait_for_states("shop", "RUNNING", "RUNNING")
    new = host.pids()
    found = look("shop", listens=[{"app": "shop", "address": host.socket("shop")}])
    assert {orphan["pid"] for orphan in found["orphans"]} == set(old.values()) and found["problems"] == []
    assert end("shop", timeout=1)["changed"]
    assert host.pids() == new and not any(map(alive, old.values()))
    assert not end("shop")["changed"]


def test_an_old_socket_of_a_path_that_the_supervisor_has_taken_over_is_in_nobodys_way(host, look):
    """An orphan that has overwritten its environment, as many a daemon does to change its title, cannot be known as one."""
    host.fcgi_section("shop", command="/usr/bin/env -i /bin/sleep 600")
    host.start()
    old = host.pids()["shop"]
    wait_for(lambda: not pathlib.Path(f"/proc/{old}/environ").read_bytes(), "the environment to be empty")
    host.die()
    (stranger,) = look("shop", listens=[{"app": "shop", "address": host.socket("shop")}])["problems"]
    assert f"(pid {old})" in stranger
    host.start()
    found = look("shop", listens=[{"app": "shop", "address": host.socket("shop")}])
    assert (found["orphans"], found["problems"]) == ([], [])


def test_what_runs_in_a_container_is_none_of_ours(host, look):
    environment = {**os.environ, "SUPERVISOR_GROUP_NAME": "shop", "SUPERVISOR_PROCESS_NAME": "shop", "SUPERVISOR_SERVER_URL": host.url}
    command = shlex.split("unshare --fork --pid --kill-child sh -c 'echo up; exec sleep 600'")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            assert [orphan["pid"] for orphan in look("shop")["orphans"]] == [process.pid], "unshare itself stays outside"
        finally:
            process.kill()
