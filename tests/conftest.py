# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test shares: the collection on the import path, and a way to run a module for real."""

from __future__ import annotations

import atexit
import functools
import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import tempfile
import time

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def _collections_root() -> pathlib.Path:
    """The directory in which this checkout is ansible_collections/webops/fastcgi, whatever the checkout is called. The Makefile makes the same."""
    root = CHECKOUT / ".cache" / "collections"
    link = root / "ansible_collections" / "webops" / "fastcgi"
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../../..")
    return root


COLLECTIONS = _collections_root()
sys.path.insert(0, str(COLLECTIONS))


def execute_module(module, args, check=False, diff=False, python=None, env=None, timeout=120):
    """Run a module of the collection in a process of its own, as Ansible does on a host, and return its result (dict).

    python, env: another interpreter, and environment variables in addition to those of the tests. A PYTHONPATH among them is searched before the collection.
    """
    args = json.dumps({"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check, "_ansible_diff": diff}})
    name = f"ansible_collections.webops.fastcgi.plugins.modules.{module}"
    path = os.pathsep.join([*filter(None, [(env or {}).get("PYTHONPATH")]), str(COLLECTIONS)])
    environment = {**os.environ, **(env or {}), "PYTHONPATH": path}
    if python or env:
        command = [str(python or sys.executable), "-m", name]
        done = subprocess.run(command, input=args, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        stdout, stderr = done.stdout, done.stderr
    else:
        stdout, stderr = _module_server().run(name, args, environment, timeout)
    lines = [line for line in stdout.splitlines() if line.startswith("{")]
    assert lines, f"{module} printed no result.\nstdout: {stdout}\nstderr: {stderr}"
    result = json.loads(lines[-1])
    result["_stderr"] = stderr
    return result


def _read(stream, timeout):
    """All of it; fails if somebody, such as a daemon, keeps it open for so many seconds."""
    deadline, written = time.monotonic() + timeout, b""
    while select.select([stream], [], [], max(0, deadline - time.monotonic()))[0]:
        part = os.read(stream.fileno(), 2**16)
        if not part:
            return written.decode()
        written += part
    raise AssertionError(f"the module's output is still open after {timeout} s; so far: {written.decode()}")


class ModuleServer:
    """Modules as children of a Python that has imported Ansible: most of a module's time would go by with that."""

    def __init__(self):
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, str(CHECKOUT / "tests" / "module_server.py")]
            self._process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(COLLECTIONS)})

    def run(self, module, stdin, environment, timeout):
        """Returns what it wrote to stdout and to stderr. After so many seconds it is killed."""
        request = {"module": module, "directory": os.getcwd(), "environment": environment, "timeout": timeout}
        reader, writer = os.pipe()
        with os.fdopen(reader) as stdout, tempfile.TemporaryFile("w+") as stderr, tempfile.TemporaryFile("w+") as arguments:
            arguments.write(stdin)
            arguments.seek(0)
            socket.send_fds(self._requests, [json.dumps(request).encode()], [arguments.fileno(), writer, stderr.fileno()])
            os.close(writer)
            written = _read(stdout, timeout + 5)
            stderr.seek(0)
            return written, stderr.read()

    def end(self):
        self._requests.close()
        self._process.wait()


@functools.cache
def _module_server():
    server = ModuleServer()
    atexit.register(server.end)
    return server


@pytest.fixture
def run_module():
    return execute_module


@pytest.fixture
def collections_path():
    """The directory for ANSIBLE_COLLECTIONS_PATH."""
    return COLLECTIONS
