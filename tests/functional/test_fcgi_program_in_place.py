# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_program on fcgivisord, which takes a changed section process by process and key by key."""

from __future__ import annotations

import pytest
from supervisord import FCGIVISORD, Supervisord

OTHER = "/bin/sleep 601"


@pytest.fixture
def host(tmp_path):
    supervisor = Supervisord(tmp_path, executable=FCGIVISORD)
    yield supervisor
    supervisor.stop()


@pytest.fixture
def converge(host, run_module):
    """fcgi_program for the declared list."""

    def call(**options):
        return run_module("fcgi_program", {"url": host.url, "declared": str(host.declared), "timeout": 20, **options})

    return call


@pytest.fixture
def pool(host, converge):
    """A pool of two that runs; called with a size and keys, its section is written anew. Returns the pids before."""

    def write(size=2, **keys):
        host.pool("shop", size, **keys)

    write()
    host.declare("shop")
    host.start()
    converge()
    return write


def told(result):
    return {process["name"]: process for process in result["programs"]}


def test_one_process_more_starts_one_and_touches_no_other(host, converge, pool):
    before = host.pids()
    pool(3)
    result = converge()
    assert result["updated"] == ["shop"] and not result.get("failed")
    after = host.pids()
    assert after.pop("shop_02") and after == before


def test_one_process_less_ends_that_one_alone(host, converge, pool):
    before = host.pids()
    pool(1)
    assert converge()["updated"] == ["shop"]
    assert host.pids() == {"shop_00": before["shop_00"]}


@pytest.mark.parametrize("keys", [{"stdout_logfile_maxbytes": "1MB"}, {"stopwaitsecs": 7}, {"socket_mode": "0660"}], ids=["log", "stopwaitsecs", "socket"])
def test_a_key_that_concerns_no_running_process_touches_none(host, converge, pool, keys):
    before = host.pids()
    pool(**keys)
    result = converge()
    assert (result["changed"], result["updated"]) == (True, ["shop"])
    assert host.pids() == before
    assert not converge()["changed"]


def test_another_command_restarts_all_that_run_and_starts_none_that_was_stopped_by_hand(host, converge, pool):
    before = host.pids()
    host.rpc.stopProcess("shop:shop_01")
    pool(command=OTHER)
    result = converge()
    assert result["updated"] == ["shop"] and result["pending"] == [] and not result.get("failed")
    assert host.states("shop") == ["RUNNING", "STOPPED"]
    assert host.pids()["shop_00"] not in before.values()


def test_a_change_to_what_was_stopped_by_hand_is_applied_and_waits_for_its_start(host, converge, pool):
    host.rpc.stopProcessGroup("shop")
    pool(command=OTHER)
    result = converge()
    assert result["updated"] == ["shop"] and host.states("shop") == ["STOPPED", "STOPPED"] and host.applied()
    assert not converge()["changed"]
    assert converge(state="started")["started"] == ["shop:shop_00", "shop:shop_01"]
    assert host.rpc.getAllConfigInfo()[0]["command"] == OTHER and host.states("shop") == ["RUNNING", "RUNNING"]


def test_state_started_starts_what_was_stopped_by_hand_with_its_new_section(host, converge, pool):
    host.rpc.stopProcessGroup("shop")
    pool(3, command=OTHER, autostart="false")
    result = converge(state="started")
    assert result["updated"] == ["shop"] and host.states("shop") == ["RUNNING"] * 3


def test_state_restarted_restarts_each_once_whether_the_change_asks_for_it_or_not(host, converge, pool):
    before = host.pids()
    pool(stopwaitsecs=7)
    assert converge(state="restarted")["updated"] == ["shop"]
    after = host.pids()
    assert not set(before.values()) & set(after.values())
    pool(stopwaitsecs=7, command=OTHER)
    restarts = {name: process["restarts"] for name, process in told(converge(state="restarted")).items()}
    assert restarts == {"shop_00": 2, "shop_01": 2} and not set(after.values()) & set(host.pids().values())


def test_a_new_command_that_fails_is_a_failure_with_its_words(host, converge, pool):
    pool(command="/bin/sh -c 'echo no database; exit 3'", startsecs=1, startretries=0)
    result = converge()
    assert result["failed"] and "no database" in result["msg"] and host.applied() != "000002"


def test_a_socket_file_that_somebody_deleted_is_back_at_once(host, converge, pool):
    path = host.directory / "shop.sock"
    path.unlink()
    assert not converge().get("failed") and path.is_socket()
