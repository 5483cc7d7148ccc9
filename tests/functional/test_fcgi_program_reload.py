# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_program and programs that read configuration files of their own: who gets a signal when those change, and what becomes of it."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import tempfile
import threading

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi
from ansible_collections.webops.fastcgi.plugins.modules import fcgi_program
from forked import run_forked
from supervisord import DEBIANS, FCGIVISORD, OWN, Supervisord, wait_for

PHP_FPM = "/usr/sbin/php-fpm8.2"

# Tells each signal to a file before it does what it is told to do on one.
READER = """
import os, signal, sys, time
heard, told = sys.argv[1:]
def reread(number, frame):
    with open(heard, "a") as stream:
        print(os.getpid(), signal.Signals(number).name, file=stream)
    exec(told)
signal.signal(signal.SIGUSR2, reread)
signal.signal(signal.SIGHUP, reread)
print("ready", flush=True)
while True:
    time.sleep(600)
"""
ENDS = "print('no such directive', flush=True); os._exit(3)"

PHP_FPM_CONFIG = """
[global]
error_log = {directory}/{name}.errors
[{name}]
listen = {directory}/{name}.sock
pm = static
pm.max_children = {workers}
ping.path = /ping
ping.response = {answer}
"""


@pytest.fixture(params=[OWN, FCGIVISORD], ids=["4.3.0", "fcgivisord"])
def host(request, tmp_path):
    supervisord = Supervisord(tmp_path, executable=request.param)
    (tmp_path / "reader.py").write_text(READER)
    yield supervisord
    supervisord.stop()


all_supervisors = pytest.mark.parametrize("host", [OWN, DEBIANS, FCGIVISORD], ids=["4.3.0", "debian", "fcgivisord"], indirect=True)
supervisord_alone = pytest.mark.parametrize("host", [OWN], ids=["4.3.0"], indirect=True)
fcgivisord_alone = pytest.mark.parametrize("host", [FCGIVISORD], ids=["fcgivisord"], indirect=True)
whatever_the_supervisor = fcgivisord_alone  # for what is decided without it


@pytest.fixture
def converge(host, run_module):
    """fcgi_program for the declared list, or those of its programs that are named."""

    def call(*names, check=False, diff=False, **options):
        options = {"url": host.url, "declared": str(host.declared), "timeout": 20, **options}
        return run_module("fcgi_program", {**options, **({"name": list(names)} if names else {})}, check=check, diff=diff)

    return call


@pytest.fixture
def readers(host, converge):
    """The pool "shop" of two readers, "blog" of one and "plain", which reads nothing, as they run with the digest "one" of the generation applied."""

    def write(told="", **keys):
        host.pool("shop", 2, **{"command": reader(host, "shop", told), **keys})

    write()
    host.fcgi_section("blog", command=reader(host, "blog"))
    host.fcgi_section("plain")
    declare(host, "one")
    host.start()
    assert not converge().get("failed") and host.applied()
    wait_until_ready(host, 2)
    return write


def reader(host, name, told=""):
    return f'/usr/bin/python3 {host.directory}/reader.py {host.directory}/{name}.heard "{told}"'


def declare(host, digest, startsecs=0, **keys):
    """A new live generation, in which "shop" has this digest of its own configuration."""
    shop = {"name": "shop", "reload_digest": digest, "reload_signal": "USR2", "startsecs": startsecs, **keys}
    return host.declare(shop, {"name": "blog", "reload_digest": "constant"}, "plain")


def wait_until_ready(host, times):
    wait_for(lambda: (host.directory / "shop.log").read_text().count("ready") == times, "the readers to be ready")
    host.wait_for_log("blog", "ready")


def heard(host, name="shop", count=2):
    """The signals that a program's processes have told, by pid: that many are waited for."""
    path = host.directory / f"{name}.heard"
    if count:
        wait_for(lambda: path.exists() and len(path.read_text().splitlines()) >= count, f"{count} signals to be told")
    return sorted(tuple(line.split()) for line in path.read_text().splitlines()) if path.exists() else []


def signals(pids, *names):
    return sorted((str(pid), name) for pid in pids for name in names)


# what gets a signal


@all_supervisors
def test_what_runs_of_a_program_whose_own_configuration_changed_gets_its_signal_and_nothing_else_is_touched(host, converge, readers):
    before = host.pids()
    generation = declare(host, "two")
    result = converge(diff=True)
    assert (result["reloaded"], result["changed"], result["updated"]) == (["shop:shop_00", "shop:shop_01"], True, [])
    assert host.pids() == before and "warnings" not in result and host.applied() == generation
    assert heard(host) == signals(host.pids("shop").values(), "SIGUSR2") and heard(host, "blog", 0) == []
    assert list(result["diff"]["after"]) == ["shop"]
    second = converge()
    assert (second["changed"], second["msg"]) == (False, "nothing to do") and len(heard(host)) == 2


def test_check_mode_and_diff_show_the_signal_and_send_none(host, converge, readers):
    running = dict.fromkeys(("shop:shop_00", "shop:shop_01"), "running")
    wanted = [host.declaration({"name": "shop", "reload_digest": "two", "reload_signal": "USR2"})]
    assumed = converge("shop", check=True, diff=True, assume_programs=wanted)
    declare(host, "two")
    for result in (assumed, converge(check=True, diff=True)):
        assert (result["reloaded"], result["changed"]) == (list(running), True)
        assert result["diff"]["before"]["shop"]["processes"] == running
        assert result["diff"]["after"]["shop"]["processes"] == dict.fromkeys(running, "running (signal USR2)")
    assert heard(host, count=0) == [] and host.applied() == "000001"
    unchanged = [host.declaration({"name": "blog", "reload_digest": "constant"})]
    assert not converge("blog", check=True, assume_programs=unchanged)["changed"]


@whatever_the_supervisor
def test_a_program_without_a_signal_of_its_own_gets_hup_and_never_the_one_of_state_reloaded(host, converge, readers):
    declare(host, "two", reload_signal=None)
    assert converge(signal="USR2")["reloaded"] == ["shop:shop_00", "shop:shop_01"]
    assert heard(host) == signals(host.pids("shop").values(), "SIGHUP")


def test_what_was_stopped_by_hand_gets_no_signal_and_is_not_started(host, converge, readers):
    host.rpc.stopProcess("shop:shop_00")
    declare(host, "two")
    assert converge()["reloaded"] == ["shop:shop_01"]
    assert host.states("shop") == ["STOPPED", "RUNNING"]
    host.rpc.stopProcess("shop:shop_01")
    generation = declare(host, "three")
    result = converge()
    assert not result["changed"] and host.states("shop") == ["STOPPED", "STOPPED"] and host.applied() == generation


@whatever_the_supervisor
def test_what_starts_is_left_alone_until_it_has_started(host, converge):
    wrapped = f"/bin/sh -c 'sleep 1; exec {reader(host, 'slow', 'pass')}'"  # the signal would end the shell
    host.fcgi_section("slow", command=wrapped, startsecs=3)
    slow = {"name": "slow", "reload_signal": "USR2", "startsecs": 3}
    host.declare({**slow, "reload_digest": "one"})
    host.start()
    host.wait_for_states("slow", "STARTING")
    before = host.pids()
    host.declare({**slow, "reload_digest": "two"})
    assert converge()["reloaded"] == ["slow"]
    assert host.pids() == before and heard(host, "slow", 1) == signals(before.values(), "SIGUSR2")


@whatever_the_supervisor
@pytest.mark.parametrize("state", ["present", "started"])
def test_a_selection_gets_the_signal_each_time_until_the_whole_list_did(host, converge, readers, state):
    declare(host, "two", groups=["web"])
    for options in ({"name": ["shop:shop_00"]}, {"groups": ["web"]}):
        result = converge(state=state, **options)
        assert result["reloaded"] == ["shop:shop_00", "shop:shop_01"][: 2 if "groups" in options else 1]
    assert converge("plain", state=state)["changed"] is False and host.applied() == "000001"
    assert converge(state=state)["reloaded"] == ["shop:shop_00", "shop:shop_01"] and host.applied() == "000002"
    assert not converge(state=state)["changed"] and not converge("shop", state=state)["changed"]


# what is started anew anyway


def test_what_is_restarted_gets_no_signal(host, converge, readers):
    before = host.pids("shop")
    generation = declare(host, "two")
    result = converge(state="restarted")
    assert {"shop:shop_00", "shop:shop_01"} <= set(result["restarted"]) and result["reloaded"] == []
    assert not set(before.values()) & set(host.pids("shop").values())
    assert heard(host, count=0) == [] and host.applied() == generation


@whatever_the_supervisor
@pytest.mark.parametrize(("then", "now"), [(None, "two"), ("one", None)], ids=["comes", "goes"])
def test_a_digest_that_comes_or_goes_asks_for_nothing(host, converge, readers, then, now):
    declare(host, then)
    converge()
    generation = declare(host, now)
    assert not converge()["changed"] and heard(host, count=0) == [] and host.applied() == generation


def test_another_command_replaces_the_processes_and_none_gets_a_signal(host, converge, readers):
    before = host.pids("shop")
    readers("pass")
    declare(host, "two")
    result = converge()
    assert (result["updated"], result["reloaded"]) == (["shop"], []) and "warnings" not in result
    assert not set(before.values()) & set(host.pids("shop").values()) and heard(host, count=0) == []


@supervisord_alone
def test_an_update_by_supervisord_replaces_the_processes_and_none_gets_a_signal(host, converge, readers):
    readers(stdout_logfile_maxbytes="1MB")
    declare(host, "two")
    result = converge()
    assert (result["updated"], result["reloaded"]) == (["shop"], []) and heard(host, count=0) == []


@fcgivisord_alone
def test_after_an_update_in_place_what_it_left_alone_gets_the_signal(host, converge, readers):
    before = host.pids()
    readers(stdout_logfile_maxbytes="1MB")
    generation = declare(host, "two")
    result = converge(diff=True)
    assert (result["updated"], result["reloaded"]) == (["shop"], ["shop:shop_00", "shop:shop_01"])
    assert host.pids() == before and heard(host) == signals(host.pids("shop").values(), "SIGUSR2") and host.applied() == generation
    assert result["diff"]["after"]["shop"]["configuration"] == "current"
    assert not converge()["changed"]


@fcgivisord_alone
def test_of_a_pool_that_an_update_in_place_grows_only_the_old_processes_get_the_signal(host, converge, readers):
    before = host.pids("shop")
    host.pool("shop", 3, command=reader(host, "shop"))
    declare(host, "two")
    assert converge()["reloaded"] == ["shop:shop_00", "shop:shop_01"]
    assert heard(host) == signals(before.values(), "SIGUSR2") and host.states("shop") == ["RUNNING"] * 3


# interrupted


@whatever_the_supervisor
def test_a_configuration_that_a_run_without_an_end_may_have_started_counts_as_read(host, converge, readers):
    declare(host, "two")  # whatever started a process then has read this
    declare(host, "one")
    assert converge()["reloaded"] == ["shop:shop_00", "shop:shop_01"]
    assert not converge()["changed"]


@whatever_the_supervisor
def test_where_no_run_ever_came_to_its_end_a_changed_digest_counts_too(host, converge, readers):
    (host.declared / "applied").unlink()
    assert not converge()["changed"]
    (host.declared / "applied").unlink()
    declare(host, "two")
    assert converge()["reloaded"] == ["shop:shop_00", "shop:shop_01"] and host.applied() == "000002"


@whatever_the_supervisor
def test_a_run_that_is_killed_between_signal_and_proof_leaves_the_reload_to_the_next_one(host, converge, readers):
    declare(host, "two", startsecs=5)
    arguments = {"url": host.url, "declared": str(host.declared)}
    killed = threading.Thread(target=run_forked, args=(fcgi_program, arguments, lambda: (host.directory / "child").write_text(str(os.getpid()))))
    killed.start()
    heard(host)
    os.kill(int((host.directory / "child").read_text()), signal.SIGKILL)
    killed.join()
    assert host.applied() == "000001"
    assert converge("shop")["reloaded"] == ["shop:shop_00", "shop:shop_01"]
    assert heard(host, count=4) == signals(host.pids("shop").values(), "SIGUSR2", "SIGUSR2")


# what becomes of it


def test_a_program_that_ends_by_the_signal_for_good_is_a_failure_with_its_words(host, converge, readers):
    readers(ENDS, autorestart="false")
    converge()
    wait_until_ready(host, 4)
    declare(host, "two")
    result = converge()
    assert [failure["state"] for failure in result["failed_programs"]] == ["exited", "exited"] and "no such directive" in result["msg"]
    assert result["reloaded"] == ["shop:shop_00", "shop:shop_01"] and host.applied() == "000001"


@whatever_the_supervisor
def test_a_program_that_the_signal_ends_after_a_while_is_a_failure_too(host, converge, readers):
    readers(f"time.sleep(0.6); {ENDS}", autorestart="false", startsecs=1)
    converge()
    declare(host, "two", startsecs=1)
    result = converge()
    assert len(result["failed_programs"]) == 2 and "exit status 3" in result["msg"] and host.applied() == "000001"


def test_a_program_that_ends_by_the_signal_and_comes_back_is_told(host, converge, readers):
    readers(ENDS)
    converge()
    wait_until_ready(host, 4)
    before = host.pids("shop")
    generation = declare(host, "two")
    result = converge()
    assert not result.get("failed") and "shop:shop_00, shop:shop_01: ended on signal USR2" in str(result["warnings"])
    assert host.states("shop") == ["RUNNING"] * 2 and not set(before.values()) & set(host.pids("shop").values())
    assert host.applied() == generation


# php-fpm


@pytest.fixture
def pools():
    """A directory that nobody may write, for the sockets and logs of php-fpm."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="php-fpm-"))
    shutil.chown(directory, "nobody")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def master(host, pools):
    """Write the configuration of a php-fpm master whose workers answer a ping with these words, and its section."""

    def write(name, answer, workers=1):
        (pools / f"{name}.conf").write_text(PHP_FPM_CONFIG.format(directory=pools, name=name, answer=answer, workers=workers))
        (pools / f"{name}.conf").chmod(0o644)
        command = f"{PHP_FPM} -n -F -O -y {pools}/{name}.conf"
        host.section(name, command=command, user="nobody", stopsignal="QUIT", startsecs=1, startretries=0)

    return write


def declared_master(name, digest):
    given = {"kind": "listener", "socket": None, "user": "nobody", "startsecs": 1, "reload_signal": "USR2"}
    return {"name": name, "reload_digest": digest, **given}


def workers(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def ping(directory, name):
    params = fastcgi.cgi_params("GET", "/ping", "", "", 0)
    return fastcgi.request(f"unix:{directory}/{name}.sock", {**params, "SCRIPT_FILENAME": "/ping"}, b"", 5).body


@all_supervisors
def test_php_fpm_takes_a_changed_pool_under_the_same_master_and_a_broken_one_is_told_in_its_words(host, converge, master, pools):
    for name in ("shop", "blog"):
        master(name, "old")
    host.fcgi_section("plain")
    host.declare(declared_master("shop", "1"), declared_master("blog", "1"), "plain")
    host.start()
    assert not converge().get("failed")
    before, blogs = host.pids(), workers(host.pids()["blog"])
    master("shop", "new", workers=2)
    generation = host.declare(declared_master("shop", "2"), declared_master("blog", "1"), "plain")
    result = converge()
    assert (result["reloaded"], result["changed"]) == (["shop"], True) and not {"failed", "warnings"} & set(result)
    assert host.pids() == before and workers(before["blog"]) == blogs and host.applied() == generation
    assert len(workers(before["shop"])) == 2 and (ping(pools, "shop"), ping(pools, "blog")) == (b"new", b"old")
    assert not converge()["changed"]
    (pools / "shop.conf").write_text("[shop]\nlisten = nowhere.sock\nno_such_directive = 1\n")
    host.declare(declared_master("shop", "3"), declared_master("blog", "1"), "plain")
    result = converge()
    assert result["failed"] and "no_such_directive" in str(result["failed_programs"]) and host.applied() == generation
    assert {name: pid for name, pid in host.pids().items() if name != "shop"} == {name: pid for name, pid in before.items() if name != "shop"}
