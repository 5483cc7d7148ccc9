# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_program_info against a real supervisord: data, all of it, and never a change."""

from __future__ import annotations

import concurrent.futures

import pytest
from supervisord import DEBIANS, FCGIVISORD, OWN, Supervisord


@pytest.fixture(params=[OWN, DEBIANS, FCGIVISORD], ids=["4.3.0", "debian", "fcgivisord"])
def host(request, tmp_path):
    supervisord = Supervisord(tmp_path, executable=request.param)
    yield supervisord
    supervisord.stop()


def test_every_state_is_told_as_data_and_nothing_is_changed(host, run_module):
    host.pool("shop", 2)
    host.section("broken", command="/nonexistent", startretries=0, redirect_stderr="false", stderr_logfile=host.directory / "broken.err")
    host.section("job", command="/bin/sh -c 'exit 3'", startsecs=0, autorestart="false", stdout_logfile="NONE")
    host.section("idle", autostart="false")
    host.declare({"name": "shop", "groups": ["web"]}, "broken", "job", "idle", "unknown")
    host.start()
    host.wait_for_states("broken", "FATAL")
    host.wait_for_states("job", "EXITED")
    host.wait_for_states("shop", "RUNNING", "RUNNING")
    before = host.pids()
    host.section("job", command="/bin/false")
    result = run_module("fcgi_program_info", {"url": host.url, "declared": str(host.declared)})
    assert not result["changed"] and result["missing"] == ["unknown"]
    broken, idle, job, shop, _shop_01 = result["programs"]
    uptime, description = shop.pop("uptime"), shop.pop("description")
    assert 0 <= uptime < 60 and description.startswith(f"pid {shop['pid']}, uptime 0:00:")
    told = (shop.pop("restarts"), shop.pop("memory") or 0, shop.pop("heartbeat_age"))
    assert (told[0], told[1] > 100_000, told[2]) == ((0, True, None) if host.updates_in_place else (None, False, None))
    assert shop == {
        "name": "shop_00", "program": "shop", "group": "shop", "groups": ["web"], "state": "running", "pid": before["shop_00"], "exit_status": None,
        "spawn_error": None, "socket": host.socket("shop"), "logfile": f"{host.directory}/shop.log", "stderr_logfile": None,
    }  # fmt: skip
    assert (broken["state"], broken["pid"], broken["uptime"], broken["exit_status"]) == ("fatal", None, None, None)
    assert broken["spawn_error"] == "can't find command '/nonexistent'" and broken["stderr_logfile"] == f"{host.directory}/broken.err"
    assert (job["state"], job["exit_status"], job["logfile"]) == ("exited", 3, None)
    assert (idle["state"], idle["description"]) == ("stopped", "Not started")
    assert host.pids() == before and host.rpc.reloadConfig() == [[[], ["job"], []]]


def test_names_patterns_and_groups_select(host, run_module):
    host.pool("shop", 2)
    host.section("blog")
    host.declare({"name": "shop", "groups": ["web"]}, "blog")
    host.start()

    def names(**options):
        result = run_module("fcgi_program_info", {"url": host.url, **options})
        return [process["name"] for process in result["programs"]]

    assert names(name=["shop"]) == ["shop_00", "shop_01"]
    assert names(name=["shop:*_01", "b*"]) == ["blog", "shop_01"]
    assert names(declared=str(host.declared), groups=["web"]) == ["shop_00", "shop_01"]
    assert run_module("fcgi_program_info", {"url": host.url, "name": ["shpo"]})["missing"] == ["shpo"]


def test_a_supervisord_that_is_down_and_a_set_that_is_empty_are_failures(host, run_module):
    down = run_module("fcgi_program_info", {"url": host.url, "name": ["shop"]})
    assert down["failed"] and host.url in down["msg"]
    empty = run_module("fcgi_program_info", {"url": host.url, "declared": str(host.declared)})
    assert empty["failed"] and "no live generation" in empty["msg"]


@pytest.mark.parametrize(("options", "words"), [
    ({"url": "/run/supervisor.sock", "name": ["shop"]}, "unix:///PATH"),
    ({"groups": ["web"], "name": ["shop"]}, "declared"),
    ({}, "declared, name"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused_in_words(run_module, options, words):
    result = run_module("fcgi_program_info", options)
    assert result["failed"] and words in result["msg"]


def test_a_supervisor_that_was_only_just_started_is_waited_for_if_that_is_asked(host, run_module):
    options = {"url": host.url, "name": ["*"]}
    assert run_module("fcgi_program_info", options)["failed"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(run_module, "fcgi_program_info", {**options, "timeout": 60})
        host.start()
        assert not asked.result().get("failed")
