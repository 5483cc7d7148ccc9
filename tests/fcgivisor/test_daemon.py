# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisord as a process: in the foreground and as a daemon, as root and not, as PID 1, and its signals; as supervisord."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest
from harness import OURS, PATIENCE, PYTHON_FOR_ALL, SLEEP, Supervisor, wait_for

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def configure(one):
    one.sections["program:web"] = {"command": SLEEP, "stdout_logfile": one.directory / "web.log"}
    one.sections["program:pool"] = {"command": SLEEP, "numprocs": 2, "process_name": "p%(process_num)d", "priority": 3}


def status(pid, name):
    return re.search(rf"^{name}:\s*(.*)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE).group(1)


def gone(pid):
    return not os.path.exists(f"/proc/{pid}") or status(pid, "State").startswith("Z")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_end_stops_all_and_cleans_up(pair, number):
    pair.configure(configure)

    def script(witness):
        one = witness.supervisor
        for name in ("web", "pool:p0", "pool:p1"):
            witness.until(name, "RUNNING")
        children = one.children()
        one.process.send_signal(number)
        code = one.process.wait(PATIENCE)
        witness.note("end", (code, len(children), [pid for pid in children if not gone(pid)], one.socket.exists(), pathlib.Path(one.pidfile).exists()))
        log = one.log.read_text()
        witness.note("log", re.findall(r"WARN received .*", log))
        witness.note("order", re.findall(r"stopped: (\w+) \(terminated by SIGTERM\)", log)[0])

    pair.agree(script)


def test_hup_reads_the_configuration_and_begins_anew(pair):
    pair.configure(configure)

    def script(witness):
        one = witness.supervisor
        witness.until("web", "RUNNING")
        before = one.pid("web")
        one.sections["program:fresh"] = {"command": SLEEP}
        del one.sections["program:pool"]
        one.write()
        one.process.send_signal(signal.SIGHUP)
        one.wait_for_restart(before)
        witness.until("fresh", "RUNNING")
        witness.until("web", "RUNNING")
        witness.call("getAllProcessInfo")
        witness.note("same process", one.rpc.getPID() == one.process.pid and one.process.poll() is None)
        witness.note("log", re.findall(r"WARN received .*", one.log.read_text()))

    pair.agree(script)


def test_usr2_opens_the_logs_anew(pair):
    def with_cat(one):
        one.sections["program:web"] = {"command": "/bin/cat", "stdout_logfile": one.directory / "web.log"}

    pair.configure(with_cat)

    def script(witness):
        one = witness.supervisor
        witness.until("web", "RUNNING")
        own, log = one.log, one.directory / "web.log"
        one.rpc.sendProcessStdin("web", "first\n")
        one.wait_for_output("web", "first")
        for file in (own, log):
            file.rename(f"{file}.old")
        one.process.send_signal(signal.SIGUSR2)
        wait_for(lambda: own.exists() and log.exists(), "both logs")
        one.rpc.sendProcessStdin("web", "second\n")
        one.wait_for_output("web", "second")
        witness.note("program", (log.read_text(), pathlib.Path(f"{log}.old").read_text()))
        witness.note("old", re.findall(r"INFO (received SIGUSR2 .*|supervisord logreopen)", pathlib.Path(f"{own}.old").read_text()))

    pair.agree(script)


def test_a_daemon_detaches(pair):
    for one in pair.both:
        configure(one)
        del one.sections["supervisord"]["nodaemon"]
        one.sections["supervisord"]["directory"] = "/"
        one.write()
    facts = []
    for one in pair.both:
        started = subprocess.run(
            one.command("-c", one.configuration), env=one.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        pid = int(wait_for(lambda one=one: pathlib.Path(one.pidfile).exists() and pathlib.Path(one.pidfile).read_text().strip(), "a pid file"))
        try:
            wait_for(one.answers, "an answer")
            one.wait_for_state("web", "RUNNING")
            said = (started.returncode, started.stdout, "".join(line for line in started.stderr.splitlines(True) if "running as root" not in line))
            standard = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
            facts.append([said, one.rpc.getPID() == pid, os.getsid(pid) == pid, os.readlink(f"/proc/{pid}/cwd"), status(pid, "Umask"), standard])
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda pid=pid: gone(pid), f"{one.implementation} to end")
        facts[-1] += [one.socket.exists(), pathlib.Path(one.pidfile).exists()]
    assert facts[0] == facts[1]
    assert facts[1][1:5] == [True, True, "/", "0022"]


def test_in_the_foreground_a_umask_holds_where_it_is_given(supervisor):
    supervisor.sections["supervisord"]["umask"] = "0037"
    supervisor.program("web").start()
    assert status(supervisor.pid("web"), "Umask") == "0037"


def test_in_the_foreground_the_umask_stays_as_it_was(supervisor):
    before = os.umask(0o051)
    try:
        supervisor.program("web").start()
    finally:
        os.umask(before)
    assert status(supervisor.pid("web"), "Umask") == "0051"


@needs_root
def test_it_runs_as_somebody_else_than_root(directory):
    shutil.copytree(Supervisor(directory).environment()["PYTHONPATH"], f"{directory}/package", ignore=shutil.ignore_patterns("__pycache__"))
    one = Supervisor(directory, OURS, python=PYTHON_FOR_ALL)
    one.program("web").program("other", user="root")
    one.write()
    os.chown(directory, 65534, 65534)
    with open(f"{directory}/output", "wb") as output:
        one.process = subprocess.Popen(
            one.command("-n", "-c", one.configuration), env={**one.environment(), "PYTHONPATH": f"{directory}/package"}, user=65534, group=65534,
            extra_groups=[], stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for(one._answers, "an answer")
        one.wait_for_state("web", "RUNNING")
        assert status(one.pid("web"), "Uid").split() == ["65534"] * 4
        wait_for(lambda: "root" in one.info("other")["spawnerr"], "other to say why it cannot run")
    finally:
        one.end()


@needs_root
def test_it_becomes_the_user_that_the_configuration_names(supervisor):
    supervisor.python = PYTHON_FOR_ALL
    package = f"{supervisor.directory}/package"
    shutil.copytree(supervisor.environment()["PYTHONPATH"], package, ignore=shutil.ignore_patterns("__pycache__"))
    os.chown(supervisor.directory, 65534, 65534)
    supervisor.sections["supervisord"]["user"] = "nobody"
    supervisor.program("web").start(PYTHONPATH=package)
    for pid in (supervisor.process.pid, supervisor.pid("web")):
        assert status(pid, "Uid").split() == ["65534"] * 4
        assert status(pid, "Groups").split() == [str(group) for group in sorted(os.getgrouplist("nobody", 65534))]


@needs_root
def test_as_pid_1_it_reaps_orphans_and_obeys_signals(pair):
    """In a PID namespace of its own, as in a container."""
    orphan = "import os, time\nif os.fork() == 0:\n  if os.fork() == 0:\n    time.sleep(0.2); os._exit(7)\n  os._exit(0)\nos.wait(); time.sleep(600)"

    def with_orphan(one):
        (one.directory / "orphan.py").write_text(orphan)
        one.sections["program:parent"] = {"command": f"{PYTHON_FOR_ALL} {one.directory}/orphan.py"}
        plain = one.command
        one.command = lambda *arguments: ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *plain(*arguments)]

    pair.configure(with_orphan)

    def script(witness):
        one = witness.supervisor
        witness.until("parent", "RUNNING")
        one.wait_for_log("reaped unknown pid")
        (inside,) = one.children()
        zombies = [pid for pid in pathlib.Path(f"/proc/{inside}/task/{inside}/children").read_text().split() if status(pid, "State").startswith("Z")]
        witness.note("facts", (one.rpc.getPID(), zombies))
        witness.note("log", re.findall(r"reaped unknown pid \d+ (\(.*\))", one.log.read_text()))
        os.kill(inside, signal.SIGTERM)
        witness.note("end", one.process.wait(PATIENCE))

    pair.agree(script)
