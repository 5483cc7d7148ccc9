# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of a real php-fpm: what fcgi_probe reads of them, and what status_fcgi shows."""

from __future__ import annotations

import concurrent.futures
import contextlib
import getpass
import json
import os
import re
import select
import socket
import subprocess
import sys

import pytest
import yaml
from ansible_collections.webops.fastcgi.plugins.filter.fcgi_status_table import fcgi_status_table
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi
from supervisord import CHECKOUT, FCGIVISORD, Supervisord, wait_for

# Tells that it has begun, and ends with the last writer of "end".
SLOW = "<?php $end = fopen(__DIR__ . '/end', 'r'); file_put_contents(__DIR__ . '/begun', 'x'); fread($end, 1); echo 'done';"


def command(directory, **pools):
    """php-fpm with these pools of one worker each (name: what differs from a static pool on a unix socket)."""
    lines = ["[global]", f"error_log = {directory}/error.log"]
    for name, settings in pools.items():
        usual = {"user": getpass.getuser(), "listen": f"{directory}/{name}.sock", "pm": "static", "pm.max_children": 1}
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in {**usual, **settings}.items())]
    (directory / "php-fpm.conf").write_text("\n".join(lines) + "\n")
    return ["/usr/sbin/php-fpm8.2", "--nodaemonize", "--force-stderr", "--allow-to-run-as-root", "-n", "-y", str(directory / "php-fpm.conf")]


def page(directory, name):
    """Settings that let the pool tell its status, also at a socket of its own."""
    return {"pm.status_path": "/fpm-status", "pm.status_listen": f"{directory}/{name}-status.sock"}


def target(directory, name, path="/fpm-status", timeout=30):
    return {"name": name, "address": f"unix:{directory}/{name}.sock", "mode": "php_fpm_status", "script_name": path, "timeout": timeout}


@pytest.fixture
def start(tmp_path, run_module):
    """start(listener, **pools): run php-fpm until the test's end. It takes over the listener, if there is one, for the pool that names its address."""
    with contextlib.ExitStack() as cleanup:

        def start_php_fpm(listener=None, **pools):
            held = {"FPM_SOCKETS": f"{address_of(listener)}={listener.fileno()}"} if listener else {}
            fds = [listener.fileno()] if listener else []
            stderr = cleanup.enter_context((tmp_path / "stderr").open("wb"))
            php_fpm = command(tmp_path, **pools)
            master = subprocess.Popen(php_fpm, stdin=subprocess.DEVNULL, stderr=stderr, pass_fds=fds, env={**os.environ, **held}, start_new_session=True)
            cleanup.callback(master.wait, timeout=30)
            cleanup.callback(master.terminate)  # SIGKILL would leave its children behind
            listens = [settings.get("listen", f"unix:{tmp_path}/{name}.sock") for name, settings in pools.items()]
            # Asked for what it does not have: mode ping would be counted.
            nothing = {"mode": "request", "params": {"SCRIPT_FILENAME": "/nothing"}, "status": [404]}
            ready = run_module("fcgi_probe", {"targets": [{"address": address, **nothing} for address in listens], "deadline": 30})
            assert not ready.get("failed"), (ready["msg"], (tmp_path / "stderr").read_text())

        yield start_php_fpm


def address_of(listener):
    host, port = listener.getsockname()
    return f"{host}:{port}"


@contextlib.contextmanager
def busy(directory, address):
    """While this lasts, the only worker of the pool has a request."""
    (directory / "slow.php").write_text(SLOW)
    for fifo in ("begun", "end"):
        os.mkfifo(directory / fifo)
    begun = os.open(directory / "begun", os.O_RDONLY | os.O_NONBLOCK)
    end = os.open(directory / "end", os.O_RDWR)
    params = {**fastcgi.cgi_params("GET", "/slow.php", "", "", 0), "SCRIPT_FILENAME": f"{directory}/slow.php"}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        response = pool.submit(fastcgi.request, address, params, b"", 60)
        try:
            assert select.select([begun], [], [], 30)[0], "the slow request did not begin"
            yield
        finally:
            os.close(end)
        assert response.result().body == b"done"
    os.close(begun)


def test_a_pool_tells_what_it_does(start, tmp_path, run_module):
    start(blog=page(tmp_path, "blog"))
    result = run_module("fcgi_probe", target(tmp_path, "blog"))
    (probe,) = result["probes"]
    assert probe["ok"] and not result["changed"], result["msg"]
    pool = probe["pool"]
    assert 0 <= pool.pop("start_since") < 60
    assert pool.pop("accepted_connections") >= 1
    assert pool == {
        "pool": "blog", "process_manager": "static", "active_processes": 1, "idle_processes": 0, "total_processes": 1, "listen_queue": 0,
        "max_listen_queue": 0, "listen_queue_len": 0, "max_active_processes": 1, "max_children_reached": 0, "slow_requests": 0,
    }  # fmt: skip


def test_other_modes_tell_no_pool(start, tmp_path, run_module):
    start(blog=page(tmp_path, "blog"))
    place = {"address": f"unix:{tmp_path}/blog.sock"}
    request = {"mode": "request", "script_name": "/fpm-status", "params": {"SCRIPT_FILENAME": "/fpm-status"}, "query": "json", "body": "active processes"}
    result = run_module("fcgi_probe", {"targets": [place, {**place, **request}]})
    assert [(probe["ok"], probe["pool"]) for probe in result["probes"]] == [(True, None), (True, None)], result["msg"]


def test_at_status_listen_a_pool_answers_even_while_all_its_workers_are_busy(start, tmp_path, run_module):
    start(blog=page(tmp_path, "blog"))
    with busy(tmp_path, f"unix:{tmp_path}/blog.sock"):
        result = run_module("fcgi_probe", {"targets": [target(tmp_path, "blog", timeout=0.5), target(tmp_path, "blog-status")]})
    itself, beside = result["probes"]
    assert (itself["error"], itself["pool"]) == ("silent", None), result["msg"]
    assert (beside["ok"], beside["pool"]["pool"], beside["pool"]["active_processes"], beside["pool"]["idle_processes"]) == (True, "blog", 1, 0), result["msg"]
    mark, name, *_counts = fcgi_status_table([], [beside])[-1].split()
    assert (mark, name) == ("!", "blog-status")


def test_who_waits_for_a_worker_is_counted_and_marked(start, tmp_path, run_module):
    listener = socket.create_server(("127.0.0.1", 0))
    spare = {"pm": "dynamic", "pm.start_servers": 1, "pm.min_spare_servers": 1, "pm.max_spare_servers": 1}
    start(listener, shop={"listen": address_of(listener), **spare, **page(tmp_path, "shop")})

    def counted():
        (probe,) = run_module("fcgi_probe", target(tmp_path, "shop-status"))["probes"]
        return probe if probe["pool"]["listen_queue"] and probe["pool"]["max_children_reached"] else None

    with busy(tmp_path, address_of(listener)), socket.create_connection(listener.getsockname()):
        probe = wait_for(counted, "php-fpm to count who waits, which it does once a second")
    listener.close()
    assert fcgi_status_table([], [probe])[-1].split()[:8] == ["!", "shop-status", "dynamic", "1", "0", "1", "1", "1"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/status", 404, "the pool has no such page (status 404): script_name must be the pool's pm.status_path"),
        ("/etc/passwd", 403, "access denied (status 403): script_name must be the pool's pm.status_path"),
        ("/ping", 200, "is not the JSON of a status page of php-fpm"),
    ],
)
def test_a_path_that_is_not_the_pools_is_said_to_be_it(path, status, words, start, tmp_path, run_module):
    start(blog={**page(tmp_path, "blog"), "ping.path": "/ping"})
    result = run_module("fcgi_probe", target(tmp_path, "blog", path))
    (probe,) = result["probes"]
    assert (result["failed"], probe["error"], probe["status"], probe["pool"]) == (True, "no_pool", status, None)
    assert words in result["msg"]


def test_a_pool_without_a_status_path_is_said_to_have_none(start, tmp_path, run_module):
    start(bare={})
    result = run_module("fcgi_probe", target(tmp_path, "bare"))
    assert (result["failed"], result["probes"][0]["error"]) == (True, "no_pool")
    assert "the pool has no such page" in result["msg"] and "which a pool does not have unless it is set" in result["msg"]


# status_fcgi


@pytest.fixture
def host(tmp_path):
    """A supervisor with a php-fpm of two pools, of which one has no status page, and with another program that is stopped."""
    host = Supervisord(tmp_path, executable=FCGIVISORD)
    host.section("blog", command=" ".join(command(tmp_path, blog=page(tmp_path, "blog"), api={})), stopsignal="QUIT", stopwaitsecs=30)
    host.section("blog-2", autostart="false")
    host.declare({"name": "blog", "kind": "php_fpm", "socket": None}, {"name": "blog-2", "kind": "php_fpm", "socket": None})
    host.start()
    yield host
    host.rpc.stopProcess("blog")  # the supervisor's own end would leave php-fpm's children behind
    host.stop()


@pytest.fixture
def show(host, collections_path):
    """show(status_probes): play what status_fcgi plays, from the question to the supervisor on; returns the exit status, what was shown, and all output."""

    def play(status_probes, *options):
        tasks = yaml.safe_load((CHECKOUT / "roles/fcgi/tasks/show.yml").read_text())
        declared = {"urls": ["http://localhost/"], **({} if status_probes is None else {"status_probes": status_probes})}
        names = {"__fcgi_supervisor_url": host.url, "__fcgi_app_generations": str(host.declared), "__fcgi_declared": declared}
        usual = {"fcgi_supervisor_username": "", "fcgi_supervisor_password": "", "ansible_python_interpreter": sys.executable}
        playbook = host.directory / "play.json"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "vars": {**names, **usual}, "tasks": tasks}]))
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", *options, str(playbook)],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path), "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_NOCOLOR": "1"},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        shown = re.search(r'"msg": (\[.*?\n    \])', done.stdout, re.DOTALL)
        return done.returncode, json.loads(shown[1]) if shown else [], done.stdout

    return play


def test_status_shows_the_pools_of_what_runs_and_one_that_does_not_answer_fails_nothing(host, show, run_module):
    asked = [target(host.directory, "blog-status"), target(host.directory, "api"), target(host.directory, "nowhere"), target(host.directory, "nowhere")]
    for probe, name in zip(asked, ["blog", "blog api", "blog nowhere", "blog-2"]):
        probe["name"] = name
    wait_for(lambda: (run_module("fcgi_probe", asked[0])["probes"][0]["pool"] or {}).get("idle_processes"), "a worker of php-fpm")
    status, shown, output = show(asked)
    assert (status, re.search("changed=0 .*failed=0", output) is not None) == (0, True), output
    assert [line.split()[:3] for line in shown[:3]] == [["PROGRAM", "PROCESS", "STATE"], ["!", "blog-2", "blog-2"], ["blog", "blog", "running"]]
    assert [re.sub(" +", " ", line) for line in shown[3:7]] == [
        "",
        " POOL PM ACTIVE IDLE QUEUE MAX ACTIVE MAX CHILDREN REACHED SLOW SINCE",
        "! blog api the pool has no such page (status 404): script_name must be the pool's pm.status_path, which a pool does not have unless it is set",
        "! blog nowhere there is no such socket: start the program, or the supervisor that makes the socket for it",
    ]
    assert shown[7].split()[:8] == ["blog", "static", "0", "1", "-", "0", "-", "0"]
    assert shown[8:] == ["http://localhost/"]


@pytest.mark.parametrize("none", [None, []])
def test_status_without_pools_shows_one_table(none, host, show):
    status, shown, output = show(none)
    assert status == 0, output
    assert len(shown) == 4 and shown[-1] == "http://localhost/"


def test_status_fails_if_the_pools_could_not_be_asked_at_all(host, show):
    status, shown, output = show([{**target(host.directory, "blog"), "script_name": ""}])
    assert (status, shown) == (2, []), output
    assert "mode php_fpm_status needs the pool's pm.status_path" in output


def test_status_in_check_mode_asks_and_shows_nothing(host, show):
    status, shown, output = show([target(host.directory, "blog")], "--check")
    assert (status, shown) == (0, []), output
    assert "ok=0" in output and "skipped=3" in output
