# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the generated sections promise, as supervisord itself reads the template's output: 4.3.0, and Debian's."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys

import pytest
import rendering

# An account that every host has: supervisord looks up the user of a section when it reads it.
USER = "www-data"

NASTY = [
    "100%", "%(ENV_HOME)s", "%(process_num)", "a ;b", ";c", "a #d", 'say "no" twice', "back\\slash", "a,b='c", "[program:evil]", "key=value", "naïve ☃",
    "$HOME", "two  blanks",
]  # fmt: skip

READ = """
import json, sys
from supervisor.options import ServerOptions
options = ServerOptions()
options.realize(["-n", "-c", sys.argv[1]])
print(json.dumps({group.name: {
    "processes": [{key: getattr(process, key) for key in ("name", "command", "environment", "stopsignal", "uid", "exitcodes", "serverurl")}
                  | {"autorestart": process.autorestart.__name__ if isinstance(process.autorestart, type) else process.autorestart}
                  for process in group.process_configs],
    "mode": getattr(getattr(group, "socket_config", None), "mode", None),
} for group in options.process_group_configs}))
"""


APPS = [
    {"name": "never", "command": "/bin/never", "autorestart": False},
    {"name": "sometimes", "command": "/bin/sometimes", "autorestart": "unexpected", "exitcodes": [0, 7]},
    {
        "name": "nasty",
        "command": ["/bin/nasty", "", "it's", *NASTY],
        "environment": {f"NASTY_{number}": text for number, text in enumerate(NASTY)},
        "extra": {"serverurl": "unix:///x ;y %(ENV_HOME)s"},
    },
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A directory with the sections of all samples and of APPS, for users and directories that this host has."""
    directory = tmp_path_factory.mktemp("supervisord")
    sets = [*rendering.samples(), {"fcgi_set": "more", "fcgi_apps": APPS}]
    files, _links = rendering.render(*(
        {**variables, "fcgi_apps": [{**app, "user": USER} for app in variables["fcgi_apps"]], "fcgi_log_dir": str(directory)} for variables in sets
    ))  # fmt: skip
    (directory / "supervisord.conf").write_text("".join(file.text for file in files if file.path == "supervisord.conf"))
    (directory / "check.conf").write_text(next(file.text for file in files if file.path == "check.conf"))
    return directory


@pytest.fixture(params=[sys.executable, "/usr/bin/python3"], ids=["supervisor-4.3.0", "debian"], scope="module")
def programs(request, directory):
    """What supervisord reads, by program: its processes, and the mode of its socket."""
    done = subprocess.run([request.param, "-c", READ, directory / "check.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_programs_are_those_declared_and_no_other(programs):
    declared = {app["name"] for variables in rendering.samples() for app in variables["fcgi_apps"]} | {app["name"] for app in APPS}
    assert set(programs) == declared


def test_a_worker_that_exits_is_started_again_whatever_its_exit_code_unless_the_operator_says_so(programs):
    restarts = {name: program["processes"][0]["autorestart"] for name, program in programs.items()}
    assert restarts.pop("never") is False
    assert restarts.pop("sometimes") == "RestartWhenExitUnexpected"
    assert programs["sometimes"]["processes"][0]["exitcodes"] == [0, 7]
    assert set(restarts.values()) == {"RestartUnconditionally"}


def test_each_runtime_is_stopped_by_the_signal_that_its_programs_heed(programs):
    signals = {name: {signal.Signals(process["stopsignal"]).name for process in program["processes"]} for name, program in programs.items()}
    assert signals.pop("chat") == {"SIGUSR1"}
    assert signals.pop("forum") == signals.pop("pool-of-mine") == {"SIGQUIT"}
    assert set(map(tuple, signals.values())) == {("SIGTERM",)}


def test_a_unix_socket_is_for_the_app_and_nginx_only(programs):
    modes = {name: program["mode"] for name, program in programs.items() if program["mode"] is not None}
    assert {"shop", "reports", "wiki"} < set(modes)
    assert set(modes.values()) == {0o660}


def test_no_process_runs_as_root(programs):
    assert all(process["uid"] for program in programs.values() for process in program["processes"])


def test_fastcgipp_whose_processes_cannot_share_a_socket_has_one(programs):
    assert len(programs["chat"]["processes"]) == 1
    assert len(programs["shop"]["processes"]) == 6


def test_processes_of_a_listener_are_told_a_port_each(programs):
    assert [process["environment"]["PORT"] for process in programs["api"]["processes"]] == ["9001", "9002", "9003"]


def test_no_value_of_the_environment_becomes_syntax(programs):
    (process,) = programs["nasty"]["processes"]
    assert [process["environment"][f"NASTY_{number}"] for number in range(len(NASTY))] == NASTY


def test_no_word_of_a_command_becomes_syntax_or_is_lost(programs):
    (process,) = programs["nasty"]["processes"]
    assert shlex.split(process["command"]) == APPS[2]["command"]


def test_no_further_key_becomes_syntax(programs):
    (process,) = programs["nasty"]["processes"]
    assert process["serverurl"] == APPS[2]["extra"]["serverurl"]
