# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_program against real supervisords: what it promises, and that the nine defects of its predecessor are not in it."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest
from ansible_collections.webops.fastcgi.plugins.modules import fcgi_program
from forked import run_forked
from ports import free_port
from supervisord import DEBIANS, FCGIVISORD, OWN, Supervisord, wait_for

WORDY = "/bin/sh -c 'echo started; exec sleep 600'"
STUBBORN = "/bin/sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.1; done'"


@pytest.fixture(params=[OWN, FCGIVISORD], ids=["4.3.0", "fcgivisord"])
def host(request, tmp_path):
    supervisord = Supervisord(tmp_path, executable=request.param)
    yield supervisord
    supervisord.stop()


both_versions = pytest.mark.parametrize("host", [OWN, DEBIANS, FCGIVISORD], ids=["4.3.0", "debian", "fcgivisord"], indirect=True)
supervisord_alone = pytest.mark.parametrize("host", [OWN], ids=["4.3.0"], indirect=True)


@pytest.fixture
def converge(host, run_module):
    """fcgi_program on this test's supervisord; with a list of names, or with the declared list."""

    def call(*names, check=False, diff=False, **options):
        options = {"url": host.url, "timeout": 20, **options}
        if names:
            options["name"] = list(names)
        else:
            options.setdefault("declared", str(host.declared))
        return run_module("fcgi_program", options, check=check, diff=diff)

    return call


def warnings(result):
    return str(result.get("warnings", ""))


# the nine defects of community.general.supervisorctl


def test_check_mode_of_restarted_touches_nothing(host, converge):
    host.section("shop")
    host.section("foreign")
    host.start()
    before = host.pids()
    host.section("shop", command="/bin/sleep 601")
    host.section("foreign", command="/bin/sleep 601")
    result = converge("shop", state="restarted", check=True)
    assert result["changed"] and result["updated"] == ["shop"]
    assert host.pids() == before


def test_restarting_one_program_leaves_another_changed_one_alone(host, converge):
    host.section("shop")
    host.section("foreign")
    host.start()
    before = host.pids()
    host.section("foreign", command="/bin/sleep 601")
    assert converge("shop", state="restarted")["restarted"] == ["shop"]
    after = host.pids()
    assert after["foreign"] == before["foreign"] and after["shop"] != before["shop"]


def test_a_changed_program_is_restarted_once_and_not_twice(host, converge):
    host.section("shop", command=WORDY)
    host.start()
    host.wait_for_log("shop", "started")
    host.section("shop", command=WORDY, environment="A=1")
    result = converge("shop", state="restarted")
    assert result["updated"] == ["shop"] and result["restarted"] == []
    assert (host.directory / "shop.log").read_text() == "started\n" * 2


@both_versions
def test_present_applies_a_changed_section_and_restarts_nothing_else(host, converge):
    for name in ("shop", "blog"):
        host.fcgi_section(name)
    host.section("foreign")
    host.declare("shop", "blog")
    host.start()
    before = host.pids()
    host.fcgi_section("shop", command="/bin/sleep 601")
    host.section("foreign", command="/bin/sleep 601")
    host.section("foreign_too")
    result = converge(diff=True)
    assert result["updated"] == ["shop"] and not result.get("failed")
    after = host.pids()
    assert after.pop("shop") != before.pop("shop")
    assert after == before, "neither the unchanged program nor what others changed and added may be touched"
    assert result["diff"]["before"]["shop"]["configuration"] == "outdated"
    assert result["diff"]["after"]["shop"] == {"configuration": "current", "processes": {"shop": "running"}}


def test_present_of_a_group_that_exists_changes_nothing(host, converge):
    host.section("one")
    host.section("two")
    host.section("pair", header="group", programs="one,two")
    host.start()
    for name in ("pair", "pair:", "pair:*", "pair:one"):
        result = converge(name)
        assert not result.get("failed") and not result["changed"], name


def test_stopped_ends_a_retry_cycle(host, converge):
    host.section("shop", command="/bin/false", startsecs=5, startretries=1000)
    host.start()
    host.wait_for_states("shop", "BACKOFF")
    result = converge("shop", state="stopped")
    assert result["changed"] and result["stopped"] == ["shop"]
    assert host.states("shop") == ["STOPPED"]


def test_started_waits_through_backoff_and_says_that_it_was_in_vain(host, converge):
    host.section("shop", command="/bin/sh -c 'echo no database; exit 3'", startsecs=1, startretries=1)
    host.start()
    host.wait_for_states("shop", "BACKOFF")
    result = converge("shop", state="started")
    assert result["failed"]
    (failure,) = result["failed_programs"]
    assert (failure["state"], failure["exitstatus"]) == ("fatal", "exit status 3")
    assert "no database" in result["msg"]


@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
@pytest.mark.parametrize("state", ["present", "started", "stopped", "restarted", "reloaded", "absent"])
def test_a_supervisord_that_is_down_is_a_failure_in_every_state(host, converge, state, check):
    result = converge("shop", state=state, check=check, timeout=0)
    assert result["failed"]
    assert host.url in result["msg"] and "service supervisor status" in result["msg"]


@pytest.mark.parametrize("name", ["pool", "pool:", "pool:*", "po*"])
def test_a_pool_is_named_by_its_plain_name(host, converge, name):
    host.pool("pool", 2)
    host.start()
    result = converge(name, state="stopped")
    assert result["stopped"] == ["pool:pool_00", "pool:pool_01"]
    assert host.states("pool") == ["STOPPED", "STOPPED"]


def test_stopped_waits_until_a_stopping_program_has_stopped(host, converge):
    host.section("shop", command=STUBBORN, stopwaitsecs=1)
    host.start()
    host.wait_for_log("shop", "ready")
    host.rpc.stopProcess("shop", False)
    assert host.states("shop") == ["STOPPING"]
    assert not converge("shop", state="stopped").get("failed")
    assert host.states("shop") == ["STOPPED"]


def test_a_fatal_program_fails_the_call_with_the_reason_and_the_last_lines_of_its_log(host, converge):
    host.section("shop", command="/bin/sh -c 'seq 30; echo cannot open /etc/shop.ini: No such file or directory; exit 1'", startsecs=1, startretries=0)
    host.start()
    host.wait_for_states("shop", "FATAL")
    result = converge("shop")
    (failure,) = result["failed_programs"]
    assert failure["state"] == "fatal"
    assert failure["spawnerr"] == "Exited too quickly (process log may have details)"
    assert failure["log"][-2:] == ["30", "cannot open /etc/shop.ini: No such file or directory"] and len(failure["log"]) == 20
    assert "missing" in failure["hint"]
    assert result["failed"] and result["started"] == ["shop"]
    assert not converge("shop", state="stopped").get("failed"), "fatal is stopped, too"


# what is declared comes to run


@both_versions
def test_the_declared_list_is_added_and_the_second_call_changes_nothing(host, converge):
    host.start()
    host.pool("shop", 2, startsecs=1)
    host.fcgi_section("blog")
    generation = host.declare({"name": "shop", "groups": ["web"]}, "blog")
    first = converge()
    assert (first["added"], first["changed"]) == (["shop", "blog"], True)
    assert host.states("shop") == ["RUNNING"] * 2 and host.states("blog") == ["RUNNING"]
    assert host.applied() == generation
    second = converge()
    assert not second["changed"] and second["msg"] == "nothing to do"
    assert [process["state"] for process in second["programs"]] == ["running"] * 3
    assert [process["groups"] for process in second["programs"]] == [[], ["web"], ["web"]]


def test_check_mode_plans_the_addition_and_adds_nothing(host, converge):
    host.start()
    host.fcgi_section("shop")
    host.declare("shop")
    result = converge(check=True, diff=True)
    assert (result["changed"], result["added"]) == (True, ["shop"])
    assert result["diff"]["before"]["shop"] == {"configuration": "none", "processes": {}}
    assert host.processes() == {} and host.applied() is None


def test_what_is_no_longer_declared_is_removed_with_its_socket_file(host, converge):
    host.fcgi_section("shop")
    host.fcgi_section("blog")
    host.section("foreign")
    host.declare("shop", "blog")
    host.start()
    converge()
    host.no_section("blog")
    host.no_section("foreign")
    host.declare("shop")
    before = host.pids("shop", "foreign")
    result = converge()
    left = [] if host.updates_in_place else [f"{host.directory}/blog.sock"]  # fcgivisord removes it itself
    assert result["removed"] == ["blog"] and result["sockets_removed"] == left
    assert host.pids() == before, "what others take out of the files is theirs to take out of supervisord"
    assert not (host.directory / "blog.sock").exists() and (host.directory / "shop.sock").exists()
    assert not converge()["changed"]


def test_a_program_and_its_successor_can_have_the_same_port(host, converge):
    url = f"tcp://127.0.0.1:{free_port()}"
    host.fcgi_section("old", socket=url)
    host.declare({"name": "old", "socket": url})
    host.start()
    converge()
    host.no_section("old")
    host.fcgi_section("new", socket=url)
    host.declare({"name": "new", "socket": url})
    result = converge()
    assert not result.get("failed"), result["msg"]
    assert (result["removed"], result["added"]) == (["old"], ["new"])


def test_two_programs_can_swap_their_ports(host, converge):
    one, other = (f"tcp://127.0.0.1:{free_port()}" for _port in range(2))
    host.fcgi_section("quick", socket=one)
    host.fcgi_section("slow", socket=other, command=STUBBORN, stopwaitsecs=1)
    host.start()
    host.wait_for_log("slow", "ready")
    host.fcgi_section("quick", socket=other)
    host.fcgi_section("slow", socket=one)
    result = converge("quick", "slow")
    assert not result.get("failed"), result["msg"]
    assert host.states("quick") == host.states("slow") == ["RUNNING"]


def test_a_socket_that_cannot_be_made_is_told_in_supervisords_words(host, converge):
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        host.start()
        host.fcgi_section("shop", socket=f"tcp://127.0.0.1:{occupant.getsockname()[1]}")
        result = converge("shop")
    words = f"is in use: process {os.getpid()}" if host.updates_in_place else "Address already in use"
    assert result["failed"] and words in result["msg"]


def test_a_declared_program_without_a_section_is_an_error_that_names_the_include(host, converge):
    host.start()
    host.declare("shop")
    result = converge()
    assert result["failed"] and "no section for shop" in result["msg"] and "[include]" in result["msg"]


def test_an_unknown_name_is_answered_with_the_nearest_one(host, converge):
    host.fcgi_section("shop")
    host.declare({"name": "shop", "groups": ["web"]})
    host.start()
    declared = str(host.declared)
    assert "did you mean shop?" in converge("shpo", declared=declared)["msg"]
    assert "did you mean web?" in converge(declared=declared, groups=["wbe"])["msg"]
    assert not converge("shpo", state="absent").get("failed")


# stopped by hand


def test_what_was_stopped_by_hand_stays_stopped_unless_asked(host, converge):
    host.fcgi_section("shop")
    host.declare("shop")
    host.start()
    host.rpc.stopProcess("shop")
    assert not converge()["changed"]
    assert not converge(state="restarted")["changed"]
    assert host.states("shop") == ["STOPPED"]
    assert converge(state="started")["started"] == ["shop"]
    host.rpc.stopProcess("shop")
    assert converge("shop", state="restarted")["started"] == ["shop"]
    assert host.states("shop") == ["RUNNING"]


@supervisord_alone
def test_a_change_to_what_was_stopped_by_hand_stays_pending_and_is_reported(host, converge):
    host.fcgi_section("shop")
    host.declare("shop")
    host.start()
    host.rpc.stopProcess("shop")
    host.fcgi_section("shop", command="/bin/sleep 601")
    result = converge()
    assert result["pending"] == ["shop"] and not result["changed"] and not result.get("failed")
    assert "stopped by hand" in warnings(result)
    assert host.states("shop") == ["STOPPED"] and host.applied() is None
    result = converge(state="started")
    assert result["updated"] == ["shop"] and host.states("shop") == ["RUNNING"] and host.applied()


def test_of_a_changed_pool_exactly_those_stopped_by_hand_are_stopped_again(host, converge):
    host.pool("pool", 3)
    host.start()
    host.rpc.stopProcess("pool:pool_01")
    host.pool("pool", 3, command="/bin/sleep 601")
    result = converge("pool")
    assert result["updated"] == ["pool"] and not result.get("failed")
    assert host.states("pool") == ["RUNNING", "STOPPED", "RUNNING"]


def test_what_an_unfinished_call_stopped_does_not_count_as_stopped_by_hand(host, converge):
    host.fcgi_section("shop", command=STUBBORN, stopwaitsecs=2)
    host.declare("shop")
    host.start()
    host.wait_for_log("shop", "ready")
    arguments = {"url": host.url, "declared": str(host.declared), "state": "restarted"}
    killed = threading.Thread(target=run_forked, args=(fcgi_program, arguments, lambda: (host.directory / "child").write_text(str(os.getpid()))))
    killed.start()
    host.wait_for_states("shop", "STOPPING")
    os.kill(int((host.directory / "child").read_text()), signal.SIGKILL)
    killed.join()
    host.wait_for_states("shop", "STOPPED")
    assert converge()["started"] == ["shop"]
    assert host.states("shop") == ["RUNNING"]
    assert not (host.declared / "restarting").exists()


def test_a_program_that_supervisord_does_not_start_by_itself_is_added_and_left_until_asked(host, converge):
    host.start()
    host.section("job", autostart="false")
    assert converge("job")["added"] == ["job"] and host.states("job") == ["STOPPED"]
    assert not converge("job")["changed"]
    assert converge("job", state="started")["started"] == ["job"]
    before = host.pids()
    host.section("job", autostart="false", command="/bin/sleep 601")
    assert converge("job")["updated"] == ["job"]
    assert host.states("job") == ["RUNNING"] and host.pids() != before


# restarted, reloaded, absent


@both_versions
def test_a_pool_is_restarted_one_by_one_so_that_its_socket_never_refuses(host, converge):
    host.pool("pool", 2)
    host.start()
    before = host.pids()
    done = threading.Event()
    refused = []

    def knock():
        while not done.is_set():
            with socket.socket(socket.AF_UNIX) as client:
                if client.connect_ex(f"{host.directory}/pool.sock") in (2, 111):
                    refused.append(1)
            done.wait(0.005)

    client = threading.Thread(target=knock)
    client.start()
    try:
        result = converge("pool", state="restarted")
    finally:
        done.set()
        client.join()
    assert result["restarted"] == ["pool:pool_00", "pool:pool_01"] and refused == []
    assert not set(before.values()) & set(host.pids().values())


def test_a_pool_whose_first_process_does_not_come_back_keeps_the_others(host, converge):
    flag = host.directory / "broken"
    host.pool("pool", 3, command=f"/bin/sh -c 'test ! -e {flag} && exec sleep 600'", startsecs=1, startretries=0)
    host.start()
    host.wait_for_states("pool", *["RUNNING"] * 3)
    flag.touch()
    result = converge("pool", state="restarted")
    assert result["failed"] and result["restarted"] == ["pool:pool_00"]
    assert host.states("pool") == ["FATAL", "RUNNING", "RUNNING"]


def test_reloaded_sends_the_declared_signal_and_keeps_the_process(host, converge):
    heard = host.directory / "heard"
    host.fcgi_section("shop", command=f"/bin/sh -c 'trap \"echo usr1 >> {heard}\" USR1; echo ready; while :; do sleep 0.1; done'")
    host.declare({"name": "shop", "reload_signal": "USR1"})
    host.start()
    host.wait_for_log("shop", "ready")
    before = host.pids()
    result = converge(state="reloaded")
    assert result["reloaded"] == ["shop"] and "warnings" not in result
    assert wait_for(heard.exists, "the signal to arrive") and host.pids() == before


def test_a_program_that_a_reload_ends_is_reported(host, converge):
    host.section("shop")
    host.start()
    result = converge("shop", state="reloaded")
    assert "ended on signal HUP" in warnings(result) and not result.get("failed")
    assert host.states("shop") == ["RUNNING"]


def test_an_unknown_signal_is_refused_in_words(host, converge):
    host.section("shop")
    host.start()
    result = converge("shop", state="reloaded", signal="HOP")
    assert result["failed"] and "BAD_SIGNAL" in result["msg"]


def test_absent_stops_and_removes_and_warns_while_the_section_stands(host, converge):
    host.pool("shop", 2)
    host.declare("shop")
    host.start()
    result = converge(state="absent")
    left = [] if host.updates_in_place else [f"{host.directory}/shop.sock"]
    assert result["removed"] == ["shop"] and result["sockets_removed"] == left and not (host.directory / "shop.sock").exists()
    assert "still in the configuration" in warnings(result)
    assert host.processes() == {}
    assert not converge(state="absent")["changed"]


# the verdict


def test_a_timeout_gives_the_same_structured_result_as_success(host, converge):
    host.start()
    host.section("slow", command="/bin/false", startsecs=1, startretries=1000)
    timed_out = converge("slow", timeout=1)
    host.section("quick")
    success = converge("quick")
    assert timed_out["failed"] and "after 4 s" in timed_out["msg"], "one second, and those of stopwaitsecs and startsecs"
    assert set(timed_out) - {"failed"} == set(success)
    assert timed_out["programs"][0]["state"] in ("starting", "backoff") and timed_out["changed"]


def test_what_the_sections_grant_is_not_taken_from_the_timeout(host, converge):
    host.pool("pool", 2, startsecs=2)
    host.section("stubborn", command=STUBBORN, stopwaitsecs=3)
    host.declare({"name": "pool", "startsecs": 2})
    host.start()
    host.wait_for_states("pool", "RUNNING", "RUNNING")
    host.wait_for_log("stubborn", "ready")
    assert converge(state="restarted", timeout=1)["restarted"] == ["pool:pool_00", "pool:pool_01"]
    host.section("stubborn", command=STUBBORN, stopwaitsecs=1)
    result = converge("stubborn", timeout=3)
    assert result["updated"] == ["stubborn"] and not result.get("failed"), result["msg"]


def test_a_failure_ends_the_wait_and_no_further_process_is_restarted(host, converge):
    flag = host.directory / "broken"
    host.pool("pool", 6, startsecs=1)
    host.fcgi_section("shop", command=f"/bin/sh -c 'test ! -e {flag} && exec sleep 600'", startsecs=1, startretries=0)
    host.declare({"name": "pool", "startsecs": 1}, {"name": "shop", "startsecs": 1})
    host.start()
    host.wait_for_states("pool", *["RUNNING"] * 6)
    host.wait_for_states("shop", "RUNNING")
    before = host.pids("pool")
    flag.touch()
    result = converge(state="restarted")
    assert [failure["name"] for failure in result["failed_programs"]] == ["shop"]
    assert host.states("pool") == ["RUNNING"] * 6
    assert len(set(before.values()) & set(host.pids("pool").values())) >= 3


def test_what_was_done_is_told_though_supervisord_dies_in_between(host, converge):
    host.section("stubborn", command=STUBBORN, stopwaitsecs=60)
    host.start()
    host.wait_for_log("stubborn", "ready")
    host.section("quick", startsecs=1)
    host.section("stubborn", command=STUBBORN, stopwaitsecs=60, environment="SHOP=new")
    killer = threading.Thread(target=lambda: (host.wait_for_states("quick", "RUNNING"), host.wait_for_states("stubborn", "STOPPING"), host.stop()))
    killer.start()
    result = converge("quick", "stubborn")
    killer.join()
    assert result["failed"] and "no supervisor answers" in result["msg"]
    assert (result["changed"], result["added"], result["updated"]) == (True, ["quick"], [])
    assert [process["name"] for process in result["programs"]] == ["quick", "stubborn"]


def test_a_program_that_dies_at_once_is_never_taken_for_running(host, converge):
    host.start()
    host.section("shop", command="/bin/true", startsecs=0, autorestart="false")
    host.section("blog", command="/bin/true", startsecs=1, startretries=0)
    for name, state in (("shop", "exited"), ("blog", "fatal")):
        result = converge(name)
        assert result["failed"] and result["failed_programs"][0]["state"] == state


def test_a_missing_command_is_told(host, converge):
    host.start()
    host.section("shop", command="/nonexistent/shop", startsecs=1, startretries=0)
    result = converge("shop")
    assert "can't find command '/nonexistent/shop'" in result["msg"] and "could not execute the command" in result["msg"]


def _python(directory, name, text):
    script = directory / f"{name}.py"
    script.write_text(f"import os, socket, sys, time\n{text}\ntime.sleep(600)\n")
    return f"/usr/bin/python3 {script}"


def test_an_app_that_takes_the_path_of_its_socket_away_is_diagnosed_in_words(host, converge):
    path = f"{host.directory}/shop.sock"
    binds = f"os.unlink('{path}'); s = socket.socket(socket.AF_UNIX); s.bind('{path}'); s.listen(); print('bound')"
    # Without a pause fcgivisord would sometimes see that the path is free for a moment, and bind it anew before the app does.
    pauses = f"os.kill(os.getppid(), {signal.SIGSTOP:d}); {binds}; os.kill(os.getppid(), {signal.SIGCONT:d})"
    host.fcgi_section("shop", command=_python(host.directory, "shop", pauses), startsecs=1)
    host.declare("shop")
    host.start()
    result = converge()
    assert result["failed"] and "has bound" in result["msg"] and "fd 0" in result["msg"] and "kind: listener" in result["msg"]
    assert host.applied() is None


def test_an_app_that_fails_to_bind_what_supervisord_holds_is_diagnosed_in_words(host, converge):
    port = free_port()
    binds = f"socket.create_server(('127.0.0.1', {port}))"
    host.fcgi_section("shop", command=_python(host.directory, "shop", binds), socket=f"tcp://127.0.0.1:{port}", startsecs=1, startretries=0)
    host.declare({"name": "shop", "socket": f"tcp://127.0.0.1:{port}"})
    host.start()
    result = converge()
    assert result["failed"] and f"the supervisor already holds tcp://127.0.0.1:{port}" in result["msg"] and "kind: listener" in result["msg"]


def test_an_app_that_lets_go_of_its_socket_is_diagnosed_and_one_with_a_port_of_its_own_is_mentioned(host, converge):
    host.fcgi_section("deaf", command=_python(host.directory, "deaf", "os.close(0)"), startsecs=1)
    host.fcgi_section("metrics", command=_python(host.directory, "metrics", "s = socket.create_server(('127.0.0.1', 0))"), startsecs=1)
    host.declare("deaf", "metrics")
    host.start()
    result = converge()
    assert [failure["name"] for failure in result["failed_programs"]] == ["deaf"] and "answers nobody" in result["msg"]
    assert any("metrics also listens at TCP port" in words for words in result["diagnosis"])


@supervisord_alone
def test_a_socket_file_that_somebody_deleted_is_diagnosed(host, converge):
    host.fcgi_section("shop")
    host.declare("shop")
    host.start()
    (host.directory / "shop.sock").unlink()
    assert "nothing can be reached" in converge()["msg"]


# the supervisor


def test_a_supervisord_that_restarts_is_waited_for(host, converge):
    host.section("shop", command=STUBBORN, stopwaitsecs=1)
    host.start()
    host.wait_for_log("shop", "ready")
    host.rpc.restart()
    result = converge("shop")
    assert not result.get("failed"), result["msg"]


def test_a_supervisord_that_shuts_down_is_told_from_one_that_is_down(host, converge):
    host.section("shop", command=STUBBORN, stopwaitsecs=3)
    host.start()
    host.wait_for_log("shop", "ready")
    host.rpc.shutdown()
    result = converge("shop", timeout=1)
    assert result["failed"] and "shutting down or restarting" in result["msg"]


def test_a_configuration_that_supervisord_cannot_read_fails_in_its_words_and_touches_nothing(host, converge):
    host.section("shop")
    host.start()
    before = host.pids()
    host.section("broken", startsecs="soon")
    result = converge("shop", state="restarted")
    assert result["failed"] and "CANT_REREAD" in result["msg"] and "soon" in result["msg"]
    assert host.pids() == before


@pytest.mark.parametrize("kind", ["unix", "http"])
def test_credentials_are_used_and_never_shown(tmp_path, run_module, kind):
    supervisord = Supervisord(tmp_path, port=free_port() if kind == "http" else None, username="ops", password="geheim")
    supervisord.section("shop")
    supervisord.start()
    try:
        options = {"url": supervisord.url, "name": ["shop"], "username": "ops"}
        assert not run_module("fcgi_program", {**options, "password": "geheim"}).get("failed")
        refused = run_module("fcgi_program", {**options, "password": "falsch"})
    finally:
        supervisord.stop()
    assert "refuses these credentials" in refused["msg"] and "falsch" not in str(refused)


def test_on_a_virgin_host_check_mode_counts_everything_as_absent(host, converge):
    result = converge("shop", "blog", check=True, diff=True, assume_absent=True)
    assert result["changed"] and result["added"] == ["blog", "shop"]
    assert result["diff"]["before"]["shop"] == {"configuration": "none", "processes": {}}
    assert result["diff"]["after"]["shop"] == {"configuration": "current", "processes": {"shop": "running"}}
    assert converge("shop", assume_absent=True, timeout=0)["failed"], "only check mode may assume"


def test_check_mode_shows_what_the_configuration_that_a_play_would_write_would_do(host, converge):
    for name in ("shop", "blog", "gone", "resting"):
        host.fcgi_section(name)
    host.declare("shop", "blog", "gone", "resting")
    host.start()
    host.rpc.stopProcess("resting")
    before = host.pids()
    wanted = [host.declaration(name) for name in ("shop", "blog", "new", "resting")]
    result = converge(check=True, diff=True, assume_programs=wanted, assume_changed=["shop", "new", "gone", "resting"])
    updated, pending = (["shop", "resting"], []) if host.updates_in_place else (["shop"], ["resting"])
    assert (result["added"], result["updated"], result["removed"], result["pending"]) == (["new"], updated, ["gone"], pending)
    assert result["diff"]["before"]["new"] == {"configuration": "none", "processes": {}}
    assert result["diff"]["after"]["shop"] == {"configuration": "current", "processes": {"shop": "running"}}
    assert [process["name"] for process in result["programs"]] == ["blog", "resting", "shop"] and host.pids() == before
    assert not converge(check=True, assume_programs=[host.declaration(name) for name in ("shop", "blog", "gone", "resting")])["changed"]


def test_a_python_without_xmlrpc_is_told_which_package_to_install(tmp_path, run_module):
    (tmp_path / "xmlrpc").mkdir()
    (tmp_path / "xmlrpc" / "__init__.py").write_text("raise ImportError('no xmlrpc')")
    result = run_module("fcgi_program", {"name": ["shop"]}, env={"PYTHONPATH": str(tmp_path)})
    assert result["failed"] and "package python3" in result["msg"]
