# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_nginx_reload against a real nginx that has its own configuration, pid file, log and ports."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
import urllib.request

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationStore
from ports import free_port

pytestmark = pytest.mark.machine

_MAIN = """
daemon off;
user root;
worker_processes 2;
pid {root}/nginx.pid;
error_log {root}/error.log;
events {{ worker_connections 16; }}
http {{
    access_log off;
    client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
    include {root}/set/current/*.conf;
}}
"""


class Nginx:
    """A running nginx, and the generations from which it takes its configuration."""

    def __init__(self, root, run_module):
        self.root = root
        self.port = free_port()
        self.store = GenerationStore(str(root / "set"))
        self._run_module = run_module
        self._process = None

    def deploy(self, generation, answer, extra=""):
        """Make a generation live, as config_set does."""
        directory = self.root / "set" / "generations" / generation
        directory.mkdir(parents=True)
        server = f'server {{ listen 127.0.0.1:{self.port}; {extra} location / {{ return 200 "{answer}"; }} }}\n'
        (directory / "site.conf").write_text(server)
        current = self.root / "set" / "current"
        current.unlink(missing_ok=True)
        current.symlink_to(f"generations/{generation}")

    def start(self):
        (self.root / "nginx.conf").write_text(_MAIN.format(root=self.root))
        self._process = subprocess.Popen(["nginx", "-p", self.root, "-c", self.root / "nginx.conf"], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None and time.monotonic() < deadline, (self.root / "error.log").read_text()
                time.sleep(0.02)

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    @property
    def pid(self):
        return self._process.pid

    def get(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as response:
            return response.read().decode()

    def reload(self, check=False, **options):
        options = {"declared": self.store.path, "pid_file": f"{self.root}/nginx.pid", "error_log": f"{self.root}/error.log", **options}
        return self._run_module("fcgi_nginx_reload", options, check=check)


@pytest.fixture
def nginx(tmp_path, run_module):
    """nginx, serving generation 000001, which is the proved one."""
    nginx = Nginx(tmp_path, run_module)
    nginx.deploy("000001", "one")
    nginx.store.mark_applied("000001")
    try:
        nginx.start()
        yield nginx
    finally:
        nginx.stop()


def test_a_new_generation_is_served_by_new_workers_and_marked_as_applied(nginx):
    nginx.deploy("000002", "two")
    result = nginx.reload()
    assert result["changed"]
    assert nginx.get() == "two"
    assert len(result["workers_before"]) == len(result["workers_after"]) == 2
    assert not set(result["workers_before"]) & set(result["workers_after"])
    assert nginx.store.applied() == result["generation"] == "000002"


def test_nothing_happens_when_the_live_generation_is_proved(nginx):
    pids = nginx.reload(force=True)["workers_after"]
    result = nginx.reload()
    assert not result["changed"]
    assert nginx.reload(force=True)["workers_before"] == pids


def test_check_mode_announces_the_reload_and_leaves_nginx_alone(nginx):
    nginx.deploy("000002", "two")
    result = nginx.reload(check=True)
    assert result["changed"]
    assert nginx.get() == "one"
    assert nginx.store.applied() == "000001"


def test_a_port_in_use_fails_with_the_words_of_nginx_while_the_old_workers_serve(nginx):
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        nginx.deploy("000002", "two", extra=f"listen 127.0.0.1:{port};")
        result = nginx.reload()
    assert result["failed"]
    assert f"bind() to 127.0.0.1:{port} failed (98: Address already in use)" in result["msg"]
    assert result["workers_after"] == result["workers_before"]
    assert nginx.get() == "one"
    assert nginx.store.applied() == "000001"


def test_a_refused_configuration_fails_at_once_with_the_file_and_the_line(nginx):
    nginx.deploy("000002", "two", extra="no_such_directive on;")
    result = nginx.reload()
    assert result["failed"]
    assert 'unknown directive "no_such_directive" in' in result["msg"]
    assert "site.conf:1" in result["msg"]
    assert result["seconds"] < 2
    assert nginx.get() == "one"


def test_a_master_that_does_not_react_is_given_up_after_the_timeout_and_caught_up_by_the_next_run(nginx):
    nginx.deploy("000002", "two")
    os.kill(nginx.pid, signal.SIGSTOP)
    try:
        result = nginx.reload(timeout=0.3)
    finally:
        os.kill(nginx.pid, signal.SIGCONT)
    assert result["failed"]
    assert "has not replaced its workers within 0.3 s" in result["msg"]
    assert nginx.store.applied() == "000001"
    assert nginx.reload()["changed"]
    assert nginx.get() == "two"


def test_a_run_waits_for_another_one_of_its_set(nginx):
    nginx.deploy("000002", "two")
    with open(nginx.store.lock_path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = nginx.reload(timeout=0.2)
    assert f"another process has held {nginx.store.lock_path}" in result["msg"]
    assert result["failed"] and not result["changed"] and nginx.get() == "one"
    assert nginx.reload()["changed"] and nginx.get() == "two"


def test_a_pid_file_that_names_another_process_is_refused_and_that_process_spared(nginx):
    nginx.deploy("000002", "two")
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (nginx.root / "other.pid").write_text(f"{other.pid}\n")
            result = nginx.reload(pid_file=f"{nginx.root}/other.pid")
            assert other.poll() is None
        finally:
            other.kill()
    assert result["failed"]
    assert f"process {other.pid}, which {nginx.root}/other.pid names, is no nginx master" in result["msg"]


def test_a_dead_master_is_an_error_that_says_so_and_a_due_reload_in_check_mode(nginx):
    nginx.deploy("000002", "two")
    nginx.stop()
    result = nginx.reload()
    assert result["failed"]
    assert "nginx does not run" in result["msg"]
    assert f"{nginx.root}/nginx.pid" in result["msg"]
    assert nginx.reload(check=True)["changed"]
