# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisor.update makes what runs what the files say, and touches nothing else: process by process and key by key."""

from __future__ import annotations

import os
import signal
import socket
import xmlrpc.client

import pytest
from harness import wait_for
from ports import free_port

IGNORES_TERM = "/bin/sh -c 'trap \"\" TERM; echo ready; while :; do sleep 600; done'"


@pytest.fixture
def pool(supervisor):
    """Two processes of one program, and a program beside them that no test here touches."""
    return supervisor.pool("shop", 2).program("blog")


def change(supervisor, head="program:shop", **keys):
    supervisor.sections[head].update(keys)
    supervisor.write()


def steps(answer):
    return [(step["action"], step["group"], step["process"]) for step in answer]


def test_nothing_to_do(pool):
    pool.start()
    before = pool.pids()
    assert pool.ours.update() == []
    assert pool.pids() == before


def test_one_more_process_starts_one(pool):
    pool.start()
    before = pool.pids()
    change(pool, numprocs=3)
    assert steps(pool.ours.update()) == [("add", "shop", "shop_02")]
    after = pool.pids()
    assert after.pop("shop_02")
    assert after == before


def test_one_process_less_stops_one(pool):
    pool.start()
    before = pool.pids()
    change(pool, numprocs=1)
    assert steps(pool.ours.update()) == [("remove", "shop", "shop_01")]
    gone = before.pop("shop_01")
    assert pool.pids() == before
    assert not os.path.exists(f"/proc/{gone}")


@pytest.mark.parametrize(
    "keys",
    [
        {"stdout_logfile_maxbytes": "1MB", "stdout_logfile_backups": 3},
        {"rlimit_nofile": 512},
        {"autorestart": "true", "startsecs": 2, "startretries": 9, "exitcodes": "0,3"},
        {"stopsignal": "INT", "stopwaitsecs": 3, "stopasgroup": "true"},
        {"stop_sequence": "TERM:1 KILL"},
        {"restart_delay": 1, "max_failed_starts": 9},
        {"max_lifetime": 3600, "max_memory": "1GB"},
        {"priority": 5},
        {"autostart": "false"},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_what_a_running_process_need_not_know_touches_nobody(pool, keys):
    pool.start()
    before = pool.pids()
    change(pool, **keys)
    answer = pool.ours.update()
    assert {step["action"] for step in answer} == {"change"}
    assert pool.pids() == before
    assert pool.ours.update() == [], "it is done"


def test_a_limit_holds_from_the_next_start(supervisor):
    supervisor.program("shop").start()
    before = supervisor.pid("shop")
    change(supervisor, rlimit_nofile=99)
    supervisor.ours.update()
    os.kill(before, 9)
    after = supervisor.wait_for_new_pid("shop", before)
    with open(f"/proc/{after}/limits", encoding="ascii") as file:
        assert next(line.split()[3:5] for line in file if line.startswith("Max open files")) == ["99", "99"]


def test_a_log_moves_without_its_process(supervisor):
    supervisor.program("shop", command="/bin/sh -c 'while read line; do echo $line; done'").start()
    before = supervisor.pid("shop")
    change(supervisor, stdout_logfile=supervisor.directory / "other.log")
    assert [step["keys"] for step in supervisor.ours.update()] == [["stdout_logfile"]]
    supervisor.rpc.sendProcessStdin("shop", "hello\n")
    supervisor.wait_for_output("other", "hello")
    assert supervisor.pid("shop") == before
    assert supervisor.info("shop")["stdout_logfile"] == str(supervisor.directory / "other.log")


@pytest.mark.parametrize(("before", "after"), [("AUTO", "{}/shop.log"), ("{}/shop.log", "AUTO"), ("NONE", "{}/shop.log")])
def test_a_log_that_the_supervisor_names_itself_moves_too(supervisor, before, after):
    command = "/bin/sh -c 'while read line; do echo $line; done'"
    supervisor.program("shop", command=command, stdout_logfile=before.format(supervisor.directory)).start()
    change(supervisor, stdout_logfile=after.format(supervisor.directory))
    assert steps(supervisor.ours.update()) == [("change", "shop", "shop")]
    supervisor.rpc.sendProcessStdin("shop", "hello\n")
    wait_for(lambda: supervisor.rpc.readProcessStdoutLog("shop", 0, 0) == "hello\n", "the line in the new log")


@pytest.mark.parametrize(
    "keys",
    [{"command": "/bin/sleep 601"}, {"environment": 'A="b"'}, {"directory": "/"}, {"umask": "077"}, {"user": "nobody"}, {"heartbeat": 600}],
    ids=lambda keys: next(iter(keys)),
)
def test_what_a_process_is_born_with_restarts_that_program_alone(pool, keys):
    pool.start()
    before = pool.pids()
    change(pool, **keys)
    answer = pool.ours.update()
    assert steps(answer) == [("restart", "shop", "shop_00"), ("restart", "shop", "shop_01")]
    assert set(answer[0]["keys"]) >= set(keys)
    after = pool.pids()
    assert after["blog"] == before["blog"]
    assert not {after["shop_00"], after["shop_01"], 0} & {before["shop_00"], before["shop_01"]}


def test_processes_are_known_by_their_names(supervisor):
    """From 0 and 1 to 1 and 2: the one in the middle stays."""
    supervisor.program("shop", numprocs=2, process_name="shop_%(process_num)d").start()
    before = supervisor.pids()
    change(supervisor, numprocs_start=1)
    assert steps(supervisor.ours.update()) == [("remove", "shop", "shop_0"), ("add", "shop", "shop_2")]
    assert supervisor.pids()["shop_1"] == before["shop_1"]


def test_what_was_stopped_by_hand_stays_stopped_and_takes_the_change_at_its_next_start(pool):
    pool.start()
    pool.rpc.stopProcess("shop:shop_00")
    change(pool, command="/bin/sleep 601", numprocs=3)
    answer = pool.ours.update()
    assert steps(answer) == [("add", "shop", "shop_02"), ("change", "shop", "shop_00"), ("restart", "shop", "shop_01")]
    assert pool.state("shop:shop_00") == "STOPPED"
    pool.rpc.startProcess("shop:shop_00")
    with open(f"/proc/{pool.pid('shop:shop_00')}/cmdline", "rb") as file:
        assert file.read() == b"/bin/sleep\x00601\x00"


def test_what_had_failed_is_tried_with_its_new_command(supervisor):
    supervisor.program("shop", command="/no/such/program", startretries=0).start()
    supervisor.wait_for_state("shop", "FATAL")
    change(supervisor, command="/bin/sleep 600")
    supervisor.ours.update()
    assert supervisor.state("shop") == "RUNNING"


def test_a_dry_run_tells_the_same_and_does_nothing(pool):
    pool.start()
    before = pool.pids()
    change(pool, numprocs=3, command="/bin/sleep 601")
    told = pool.ours.update([], True)
    assert pool.pids() == before
    assert pool.rpc.reloadConfig() == [[[], ["shop"], []]], "nor has it taken the files on"
    assert pool.ours.update([], True) == told
    assert pool.ours.update() == told
    assert pool.pids() != before


def test_only_the_groups_that_are_named(pool):
    pool.start()
    before = pool.pids()
    change(pool, command="/bin/sleep 601")
    change(pool, head="program:blog", command="/bin/sleep 601")
    assert steps(pool.ours.update(["blog"])) == [("restart", "blog", "blog")]
    after = pool.pids()
    assert (after["shop_00"], after["shop_01"]) == (before["shop_00"], before["shop_01"])
    assert after["blog"] != before["blog"]
    with pytest.raises(xmlrpc.client.Fault, match="BAD_NAME: nobody"):
        pool.ours.update(["nobody"])


def test_groups_come_and_go(pool):
    pool.start()
    before = pool.pids()
    del pool.sections["program:shop"]
    pool.fcgi("wiki")
    pool.write()
    assert steps(pool.ours.update()) == [("remove", "shop", "shop_00"), ("remove", "shop", "shop_01"), ("add", "wiki", "wiki")]
    after = pool.pids()
    assert sorted(after) == ["blog", "wiki"]
    assert after["blog"] == before["blog"]


def test_groups_that_stop_together_do_not_mix(supervisor):
    """A process that leaves one group is none of the other's, however long it takes to stop."""
    for name in ("a", "b"):
        supervisor.pool(name, 2, command=IGNORES_TERM, stopwaitsecs=600)
    supervisor.start()
    for name in ("a", "b"):
        supervisor.wait_for_output(name, "ready\nready\n")
    change(supervisor, head="program:a", numprocs=1)
    change(supervisor, head="program:b", numprocs=1)
    supervisor.ours.update([], False, False)
    assert sorted((info["group"], info["name"]) for info in supervisor.rpc.getAllProcessInfo()) == [("a", "a_00"), ("a", "a_01"), ("b", "b_00"), ("b", "b_01")]
    for name in ("a_01", "b_01"):
        os.kill(supervisor.pids()[name], signal.SIGKILL)
    wait_for(lambda: sorted(supervisor.pids()) == ["a_00", "b_00"], "the others to leave")


def test_what_stands_still_is_removed_without_waiting(supervisor):
    supervisor.program("shop", autostart="false").program("blog").start()
    del supervisor.sections["program:shop"]
    supervisor.write()
    supervisor.ours.update([], False, False)
    wait_for(lambda: list(supervisor.pids()) == ["blog"], "it to leave")


def test_a_process_that_is_wanted_again_while_it_stops_comes_back(supervisor):
    supervisor.pool("shop", 2, command=IGNORES_TERM, stopwaitsecs=600).start()
    supervisor.wait_for_output("shop", "ready\nready\n")
    before = supervisor.pids()
    change(supervisor, numprocs=1)
    supervisor.ours.update([], False, False)
    assert supervisor.state("shop:shop_01") == "STOPPING"
    change(supervisor, numprocs=2)
    assert steps(supervisor.ours.update([], False, False)) == [("add", "shop", "shop_01")]
    assert supervisor.state("shop:shop_01") == "STOPPING"
    os.kill(before["shop_01"], signal.SIGKILL)
    supervisor.wait_for_new_pid("shop:shop_01", before["shop_01"])
    assert supervisor.pids()["shop_00"] == before["shop_00"]


@pytest.mark.parametrize("waits", [True, False])
def test_another_kind_of_program_under_the_same_name(supervisor, waits):
    supervisor.program("shop").program("blog").start()
    before = supervisor.pids()
    del supervisor.sections["program:shop"]
    supervisor.fcgi("shop")
    supervisor.write()
    assert steps(supervisor.ours.update([], False, waits)) == [("remove", "shop", "shop"), ("add", "shop", "shop")]
    if not waits:
        wait_for(lambda: supervisor.pids().get("shop") not in (None, 0, before["shop"]), "the new one")
    after = supervisor.pids()
    assert after["blog"] == before["blog"]
    assert after["shop"] not in (0, before["shop"])
    assert os.readlink(f"/proc/{after['shop']}/fd/0").startswith("socket:")


def test_another_kind_of_program_within_a_group(supervisor):
    supervisor.program("shop").program("blog")
    supervisor.sections["group:site"] = {"programs": "shop,blog"}
    supervisor.start()
    before = supervisor.pids()
    del supervisor.sections["program:shop"]
    supervisor.fcgi("shop")
    supervisor.write()
    answer = supervisor.ours.update()
    assert steps(answer) == [("restart", "site", "shop")]
    assert "socket" in answer[0]["keys"]
    after = supervisor.pids()
    assert after["blog"] == before["blog"]
    assert os.readlink(f"/proc/{after['shop']}/fd/0").startswith("socket:")


def test_another_socket_is_bound_and_the_old_one_removed(supervisor):
    supervisor.fcgi("shop").start()
    before = supervisor.pid("shop")
    change(supervisor, head="fcgi-program:shop", socket=f"unix://{supervisor.directory}/other.sock")
    assert [(step["action"], step["keys"]) for step in supervisor.ours.update()] == [("restart", ["socket"])]
    assert supervisor.pid("shop") != before
    assert (supervisor.directory / "other.sock").is_socket()
    assert not (supervisor.directory / "shop.sock").exists()


def test_a_socket_that_cannot_be_made_is_told(supervisor):
    supervisor.program("blog").start()
    (supervisor.directory / "shop.sock").write_text("precious")
    supervisor.fcgi("shop")
    supervisor.write()
    with pytest.raises(xmlrpc.client.Fault, match=r"shop\.sock is there, and is no socket"):
        supervisor.ours.update()
    assert supervisor.state("blog") == "RUNNING"


def test_files_that_are_wrong_change_nothing_and_the_fault_says_where(pool):
    pool.start()
    before = pool.pids()
    change(pool, numprocs="three")
    with pytest.raises(xmlrpc.client.Fault, match=r"CANT_REREAD: .*supervisord.conf:\d+: \[program:shop\] numprocs: 'three' is not a whole number"):
        pool.ours.update()
    assert pool.pids() == before


def test_event_listeners_hear_what_they_subscribe_to_now(supervisor, script):
    code = """
import sys
while True:
    print("READY", flush=True)
    head = dict(pair.split(":") for pair in sys.stdin.readline().split())
    sys.stdin.read(int(head["len"]))
    print(head["eventname"], file=sys.stderr, flush=True)
    print("RESULT 2\\nOK", end="", flush=True)
"""
    heard = {"redirect_stderr": "false", "stdout_logfile": "NONE", "stderr_logfile": supervisor.directory / "heard.log"}
    supervisor.program("ear", head="eventlistener", command=script("ear", code), events="TICK_3600", **heard).program("blog").start()
    before = supervisor.pid("ear")
    change(supervisor, head="eventlistener:ear", events="TICK_3600,PROCESS_STATE_STOPPED")
    supervisor.ours.update()
    supervisor.rpc.stopProcess("blog")
    supervisor.wait_for_output("heard", "PROCESS_STATE_STOPPED")
    assert supervisor.pid("ear") == before


def test_two_programs_swap_their_ports_though_those_that_end_still_hold_them(supervisor):
    one, other = (f"tcp://127.0.0.1:{free_port()}" for _port in range(2))
    supervisor.fcgi("quick", socket=one).fcgi("stubborn", socket=other, command=IGNORES_TERM, stopwaitsecs=1).start()
    supervisor.wait_for_output("stubborn", "ready")
    supervisor.sections["fcgi-program:quick"]["socket"] = other
    change(supervisor, head="fcgi-program:stubborn", socket=one)
    assert steps(supervisor.ours.update()) == [("restart", "quick", "quick"), ("restart", "stubborn", "stubborn")]
    assert [supervisor.state(name) for name in ("quick", "stubborn")] == ["RUNNING", "RUNNING"]


def test_a_port_that_somebody_else_has_fails_though_something_is_about_to_end(supervisor):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        supervisor.fcgi("shop").fcgi("stubborn", command=IGNORES_TERM, stopwaitsecs=1).start()
        supervisor.wait_for_output("stubborn", "ready")
        supervisor.sections["fcgi-program:stubborn"]["environment"] = "SHOP=new"
        change(supervisor, head="fcgi-program:shop", socket=f"tcp://127.0.0.1:{stranger.getsockname()[1]}")
        with pytest.raises(xmlrpc.client.Fault, match=f"is in use: process {os.getpid()} "):
            supervisor.ours.update()


@pytest.mark.parametrize(("autostart", "runs"), [("false", 1), ("true", 2)])
def test_what_ended_by_itself_runs_again_only_if_it_starts_by_itself(supervisor, autostart, runs):
    once = {"autorestart": "false", "startsecs": 0, "autostart": autostart}
    supervisor.program("job", command="/bin/sh -c 'echo done'", **once).start()
    if autostart == "false":
        supervisor.rpc.startProcess("job")
    supervisor.wait_for_state("job", "EXITED")
    change(supervisor, head="program:job", command="/bin/sh -c 'echo done again'")
    supervisor.ours.update()
    supervisor.wait_for_state("job", "EXITED")
    assert (supervisor.directory / "job.log").read_text().count("done") == runs
