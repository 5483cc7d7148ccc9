# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real supervisord (or fcgivisord) of a test's own, and a generation that declares programs to fcgi_program."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import xmlrpc.client

from supervisor.xmlrpc import SupervisorTransport

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent.parent
OWN = (str(pathlib.Path(sys.executable).with_name("supervisord")),)
DEBIANS = ("/usr/bin/supervisord",)
FCGIVISORD = (sys.executable, "-IS", str(CHECKOUT / "roles/fcgi_supervisor/files/fcgivisor"))
SLEEP = "/bin/sleep 600"

_CONFIGURATION = """
[supervisord]
logfile=%(here)s/supervisord.log
pidfile=%(here)s/supervisord.pid
childlogdir=%(here)s
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files=%(here)s/conf.d/*.conf
"""


# Seconds after which what is waited for will not come any more. Only a test that fails waits so long, however loaded the machine is.
PATIENCE = 60


def wait_for(condition, what, seconds=PATIENCE):
    """Wait until condition() is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


class Supervisord:
    """supervisord below a directory: sections, life and death, and what it says itself, asked by supervisor's own client."""

    def __init__(self, directory, executable=OWN, port=None, username=None, password=None):
        self.directory = directory
        self.executable = executable
        self.url = f"http://localhost:{port}" if port else f"unix://{directory}/rpc"
        self.declared = directory / "set"
        self._login = username, password
        server = f"[inet_http_server]\nport=127.0.0.1:{port}" if port else f"[unix_http_server]\nfile={directory}/rpc"
        login = f"username={username}\npassword={password}" if username else ""
        (directory / "conf.d").mkdir()
        (directory / "supervisord.conf").write_text(f"{_CONFIGURATION}\n{server}\n{login}\n")
        self._process = None
        self._orphans = []

    @property
    def updates_in_place(self):
        return self.executable == FCGIVISORD

    @property
    def rpc(self):
        """Supervisor's own client, on a connection of its own: its transport does not survive a refused one."""
        return xmlrpc.client.ServerProxy("http://localhost", SupervisorTransport(*self._login, self.url)).supervisor

    def section(self, name, header="program", **keys):
        """Write (or replace) a section; by default a program that sleeps and counts as running at once."""
        log = {"stdout_logfile": self.directory / f"{name}.log", "redirect_stderr": "true"}
        keys = {"command": SLEEP, "startsecs": 0, "stopwaitsecs": 2, "autorestart": "true", **log, **keys}
        if header == "group":
            keys = {"programs": keys["programs"]}
        lines = [f"[{header}:{name}]", *(f"{key}={value}" for key, value in keys.items())]
        (self.directory / "conf.d" / f"{name}.conf").write_text("\n".join(lines) + "\n")

    def fcgi_section(self, name, **keys):
        keys = {"socket": self.socket(name), **keys}
        self.section(name, header="fcgi-program", **keys)

    def pool(self, name, size, **keys):
        self.fcgi_section(name, numprocs=size, process_name="%(program_name)s_%(process_num)02d", **keys)

    def socket(self, name):
        return f"unix://{self.directory}/{name}.sock"

    def no_section(self, name):
        (self.directory / "conf.d" / f"{name}.conf").unlink()

    def declare(self, *programs):
        """Make a new live generation that declares these programs (names, or dicts of what differs from the usual) for this supervisor."""
        generations = self.declared / "generations"
        generation = f"{len(list(generations.glob('*'))) + 1:06}"
        (generations / generation).mkdir(parents=True)
        metadata = {"supervisor": {"url": self.url}, "programs": [self.declaration(program) for program in programs]}
        manifest = {"version": 1, "digest": generation, "files": [], "directories": [], "links": [], "metadata": metadata}
        (generations / generation / ".manifest.json").write_text(json.dumps(manifest))
        (self.declared / "new").symlink_to(f"generations/{generation}")
        (self.declared / "new").rename(self.declared / "current")
        return generation

    def declaration(self, program):
        """An item of metadata.programs."""
        given = {"name": program} if isinstance(program, str) else program
        usual = {
            "app": given["name"], "kind": "fcgi", "groups": [], "socket": self.socket(given["name"]), "listen": [], "user": "root",
            "autostart": True, "startsecs": 0, "stopwaitsecs": 2, "reload_signal": None,
        }  # fmt: skip
        return {**usual, **given}

    def applied(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.declared / "applied").read_text().strip()

    def start(self):
        command = [*self.executable, "-n", "-c", str(self.directory / "supervisord.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._answers, "supervisord to answer")
        wait_for(self._has_begun, "supervisord to start what starts by itself")
        return self

    def _answers(self):
        with contextlib.suppress(OSError):
            return self.rpc.getState()
        assert self._process.poll() is None, "supervisord ended instead of answering"
        return False

    def _has_begun(self):
        """Calls are answered before the first programs are started; until they are executed these are copies of supervisord, and take signals as it does."""
        by_itself = {(config["group"], config["name"]) for config in self.rpc.getAllConfigInfo() if config["autostart"]}
        started = [info for info in self.rpc.getAllProcessInfo() if (info["group"], info["name"]) in by_itself]
        return all(info["start"] and self._is_executed(info["pid"]) for info in started)

    def _is_executed(self, pid):
        own = pathlib.Path(f"/proc/{self._process.pid}/cmdline").read_bytes()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            return not pid or pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() != own
        return True

    def stop(self):
        """End supervisord and its programs, orphans too; not politely, since programs of tests take their time."""
        if self._process is not None:
            self.die()
        for child in self._orphans:  # each leads a process group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)

    def die(self):
        """End supervisord alone, as a crash does: its programs go on."""
        children = pathlib.Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._orphans += map(int, children)
        self._process.kill()
        self._process.wait()
        self._process = None

    def processes(self, program=None):
        """Supervisord's own words about the processes of a program (or all), by process name."""
        return {info["name"]: info for info in self.rpc.getAllProcessInfo() if program in (None, info["group"])}

    def pids(self, *programs):
        return {name: info["pid"] for name, info in self.processes().items() if not programs or info["group"] in programs}

    def wait_for_log(self, name, words):
        log = self.directory / f"{name}.log"
        wait_for(lambda: log.exists() and words in log.read_text(), f"{words!r} in {log}")

    def states(self, program):
        return [info["statename"] for name, info in sorted(self.processes(program).items())]

    def wait_for_states(self, program, *states):
        wait_for(lambda: self.states(program) == list(states), f"{program} to be {states}")
