# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor of a test's own: fcgivisord from this checkout, or supervisord from PyPI, with the same configuration and the same clients."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "roles" / "fcgi_supervisor" / "files"
TOOLS = pathlib.Path(sys.executable).parent
# What runs fcgivisord and fcgivisorctl. Another one is asked for by the environment: FCGIVISOR_PYTHON=/usr/bin/python3.9 pytest tests/fcgivisor
PYTHON = os.environ.get("FCGIVISOR_PYTHON", sys.executable)
# The system's own, which any user can run: ours may lie in somebody's home.
PYTHON_FOR_ALL = "/usr/bin/python3"
SLEEP = "/bin/sleep 600"
# Seconds after which what is waited for will not come any more. Only a test that fails waits so long, however loaded the machine is.
PATIENCE = 60

OURS = "fcgivisord"
THEIRS = "supervisord"


def wait_for(condition, what, seconds=PATIENCE):
    """Wait until condition() is true, and return it."""
    deadline, pause = time.monotonic() + seconds, 0.005
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def unix_connection(path):
    """HTTP over a unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE)
    connection.sock.connect(str(path))
    return connection


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path, headers):
        super().__init__(headers=headers)
        self._path = path

    def make_connection(self, host):
        return unix_connection(self._path)


class Supervisor:
    """A supervisor below a directory. sections: of the configuration, by their whole head ("program:shop"), each a dict of keys."""

    def __init__(self, directory, implementation=OURS, python=PYTHON, **supervisord):
        self.directory = pathlib.Path(directory)
        self.implementation = implementation
        self.python = python
        self.socket = self.directory / "rpc.sock"
        self.configuration = self.directory / "supervisord.conf"
        self.log = self.directory / "supervisord.log"
        self.process = None
        self.prelude = ""  # Python code that runs before the supervisor, in its process: a fault that is built in
        self.credentials = None  # "user:password", for its unix socket
        own = {"logfile": self.log, "pidfile": self.directory / "supervisord.pid", "childlogdir": self.directory, "nodaemon": "true", "loglevel": "debug"}
        self.sections = {
            "supervisord": {**own, **supervisord},
            "unix_http_server": {"file": self.socket},
            "rpcinterface:supervisor": {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
            "supervisorctl": {"serverurl": f"unix://{self.socket}"},
        }

    def program(self, name, head="program", **keys):
        """Declare a program; by default one that sleeps and counts as running at once."""
        usual = {"command": SLEEP, "startsecs": 0, "stopwaitsecs": 2, "redirect_stderr": "true", "stdout_logfile": self.directory / f"{name}.log"}
        self.sections[f"{head}:{name}"] = {**usual, **keys}
        return self

    def pool(self, name, size, **keys):
        return self.program(name, numprocs=size, process_name="%(program_name)s_%(process_num)02d", **keys)

    def fcgi(self, name, **keys):
        return self.program(name, head="fcgi-program", **{"socket": f"unix://{self.directory}/{name}.sock", **keys})

    def write(self):
        """Write the configuration, which a running supervisor does not notice until it is told."""
        text = "\n".join(f"[{head}]\n" + "".join(f"{key}={value}\n" for key, value in keys.items()) for head, keys in self.sections.items())
        self.configuration.write_text(text)

    def command(self, *arguments):
        if self.implementation == OURS and self.prelude:
            return [
                str(self.python),
                "-c",
                f"{self.prelude}\nimport sys\nfrom fcgivisor.daemon import main\nsys.exit(main(sys.argv[1:]))",
                *map(str, arguments),
            ]
        if self.implementation == OURS:
            return [str(self.python), "-m", "fcgivisor", *map(str, arguments)]
        return [str(TOOLS / "supervisord"), *map(str, arguments)]

    def environment(self, **variables):
        return {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1", **variables}

    def start(self, *arguments, wrapper=(), **variables):
        """wrapper: a command line that executes the supervisor's, such as unshare(1)."""
        self.write()
        output = (self.directory / "output").open("wb")
        command = [*wrapper, *self.command("-n", "-c", self.configuration, *arguments)]
        self.process = subprocess.Popen(command, env=self.environment(**variables), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        wait_for(self._answers, f"{self.implementation} to answer")
        wait_for(self._has_begun, f"{self.implementation} to start what starts by itself")
        return self

    def _answers(self):
        if self.answers():
            return True
        assert self.process.poll() is None, f"{self.implementation} ended instead of answering: {(self.directory / 'output').read_text()}"
        return False

    def answers(self):
        with contextlib.suppress(OSError):
            return bool(self.rpc.getState())
        return False

    def _has_begun(self):
        """Calls are answered before the first processes are started."""
        by_itself = {(config["group"], config["name"]) for config in self.rpc.getAllConfigInfo() if config["autostart"]}
        return all(info["start"] for info in self.rpc.getAllProcessInfo() if (info["group"], info["name"]) in by_itself)

    def end(self):
        """Kill it and all its children, which may be such that do not end politely."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # no more children
        children = self.children()
        self.process.kill()
        self.process.wait()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)

    def children(self):
        with contextlib.suppress(FileNotFoundError):
            return [int(pid) for pid in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]
        return []

    @property
    def pidfile(self):
        return self.sections["supervisord"]["pidfile"]

    @property
    def server(self):
        headers = () if self.credentials is None else (("Authorization", "Basic " + base64.b64encode(self.credentials.encode()).decode()),)
        return xmlrpc.client.ServerProxy("http://localhost", _Transport(self.socket, headers))

    @property
    def rpc(self):
        return self.server.supervisor

    @property
    def ours(self):
        return self.server.fcgivisor

    def info(self, name):
        return self.rpc.getProcessInfo(name)

    def pid(self, name):
        """Its process ID, once it is the program: between fork and exec it is still a copy of the supervisor."""
        pid = self.info(name)["pid"]
        own = pathlib.Path(f"/proc/{self.process.pid}/cmdline").read_bytes()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is gone
            wait_for(lambda: not pid or pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() not in (own, b""), f"{name} to be executed")
        return pid

    def state(self, name):
        return self.info(name)["statename"]

    def pids(self):
        return {info["name"]: info["pid"] for info in self.rpc.getAllProcessInfo()}

    def wait_for_state(self, name, *states, seconds=PATIENCE):
        wait_for(lambda: self.state(name) in states, f"{name} to be {' or '.join(states)}", seconds)

    def wait_for_new_pid(self, name, old, seconds=PATIENCE):
        return wait_for(lambda: self.pid(name) not in (0, old) and self.pid(name), f"{name} to be started again", seconds)

    def wait_for_restart(self, old, seconds=PATIENCE):
        """The supervisor begins anew: the process old is dead, and calls are answered."""
        wait_for(lambda: not os.path.exists(f"/proc/{old}"), f"{old} to end", seconds)

        def answers():
            with contextlib.suppress(OSError, xmlrpc.client.Fault, http.client.HTTPException):
                return self.rpc.getState()["statename"] == "RUNNING" and self.rpc.getAllProcessInfo()

        wait_for(answers, f"{self.implementation} to answer again", seconds)

    def wait_for_log(self, words, seconds=PATIENCE):
        """Words in the supervisor's own log."""
        wait_for(lambda: words in self.log.read_text(errors="replace"), f"{words!r} in its log", seconds)

    def wait_for_output(self, name, words, seconds=PATIENCE):
        """Words in the log of a program."""
        log = self.directory / f"{name}.log"
        wait_for(lambda: log.exists() and words in log.read_text(errors="replace"), f"{words!r} in {log}", seconds)

    def ctl(self, *words, timeout=PATIENCE, input=None):
        """The unmodified supervisorctl of supervisor, from PyPI."""
        return subprocess.run(
            [str(TOOLS / "supervisorctl"), "-c", str(self.configuration), *words], text=True, capture_output=True, timeout=timeout, check=False, input=input
        )
