# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong around the supervisor stays there: it says what it is, and everything else runs on.

Faults of disks are in test_logs.py, those of sockets in test_sockets.py.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import time
from decimal import Decimal

import pytest
from harness import PATIENCE, wait_for

MEGABYTE = 1024 * 1024
DAEMON = """
import os, sys, time
reading, writing = os.pipe()
if os.fork():
    os.read(reading, 1)  # else it would still be in our process group, and stopped as what we left behind
    os._exit(0)
os.setsid()
os.write(writing, b"x")
if os.fork(): os._exit(0)
with open(sys.argv[1] + ".new", "w") as file: file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""
# The wall clock, and nothing else, is off by what stands in a file. Python code has no other way to it but these.
SHIFTED_CLOCK = """
import os, time
real = time.time
def shifted():
    try:
        with open(os.environ["CLOCK_OFFSET"]) as file:
            return real() + float(file.read() or 0)
    except FileNotFoundError:
        return real()
time.time = shifted
"""
# The first children that are forked are killed when they are about to become the program.
KILLS_BEFORE_EXEC = """
import os, signal
execve, victims = os.execve, int(os.environ["VICTIMS"])
def deadly(*arguments):
    path = os.environ["COUNTER"]
    with open(path, "a+") as file:
        file.seek(0)
        if len(file.read()) < victims:
            file.write("x")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    execve(*arguments)
os.execve = deadly
"""


@pytest.fixture
def watched(supervisor):
    """Beside what fails there is a program that nothing may happen to."""
    yield supervisor.program("bystander")
    if supervisor.process is not None and supervisor.process.poll() is None:
        (bystander,) = (status for status in supervisor.ours.getStatus() if status["name"] == "bystander")
        assert (bystander["state"], bystander["restarts"]) == ("RUNNING", 0)
        assert "exception" not in supervisor.log.read_text()


def connect(supervisor):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(supervisor.socket))
    return client


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def pipes(pid):
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return sum(link.startswith("pipe:") for link in found)


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class TestDeaths:
    def test_killed_while_starting(self, watched):
        watched.program("shop", startsecs=600, startretries=5).start()
        first = watched.pid("shop")
        assert watched.state("shop") == "STARTING"
        os.kill(first, signal.SIGKILL)
        watched.wait_for_new_pid("shop", first)
        assert watched.ours.getStatus()[1]["tries"] == 1, "it counts as a failed start"

    def test_killed_while_running(self, watched):
        watched.program("shop").start()
        first = watched.pid("shop")
        os.kill(first, signal.SIGSEGV)
        watched.wait_for_new_pid("shop", first)

    def test_killed_while_stopping(self, watched, script):
        watched.program(
            "shop", command=script("deaf", "import signal\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\nsignal.pause()"), stopwaitsecs=600
        ).start()
        watched.wait_for_output("shop", "deaf")
        first = watched.pid("shop")
        watched.rpc.stopProcess("shop", False)
        assert watched.state("shop") == "STOPPING"
        os.kill(first, signal.SIGKILL)
        watched.wait_for_state("shop", "STOPPED")
        watched.rpc.startProcess("shop")

    def test_stopped_while_it_waits_for_its_next_try(self, watched):
        watched.program("shop", command="/bin/false", startsecs=1, restart_delay=600, max_failed_starts=9).start()
        watched.wait_for_state("shop", "BACKOFF")
        watched.rpc.stopProcess("shop")
        assert watched.state("shop") == "STOPPED"

    @pytest.mark.parametrize("startsecs", [0, 1])
    def test_killed_between_fork_and_exec(self, watched, startsecs):
        # What has a directory of its own is forked, the bystander is not.
        watched.prelude = KILLS_BEFORE_EXEC
        watched.program("shop", directory="/", startsecs=startsecs).start(VICTIMS="2", COUNTER=str(watched.directory / "counter"))
        watched.wait_for_state("shop", "RUNNING")
        wait_for(lambda: watched.ours.getStatus()[1]["restarts"] == 2 and watched.state("shop") == "RUNNING", "the third one to live")
        assert pathlib.Path(f"/proc/{watched.pid('shop')}/cmdline").read_bytes().startswith(b"/bin/sleep")

    def test_killed_as_soon_as_they_are_seen(self, watched):
        """Some before and some after exec, whenever the kernel lets us."""
        watched.pool("shop", 4, directory="/", restart_delay=0, min_server_life=0, max_failed_starts=100000, start_delay=0).start()
        bystander, killed = watched.pid("bystander"), 0
        while killed < 400:
            for pid in set(watched.children()) - {bystander}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        wait_for(lambda: sorted(watched.children()) == sorted(watched.pids().values()), "all to run")

    def test_a_thousand_die_at_once(self, watched):
        watched.pool("shop", 1000).start()
        before = wait_for(lambda: all(pids := watched.pids().values()) and set(pids), "all to run")
        bystander = watched.pid("bystander")
        for pid in before - {bystander}:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: all(pids := watched.pids().values()) and set(pids) & before == {bystander}, "all to be replaced")
        assert sorted(watched.children()) == sorted(watched.pids().values()), "and none is a zombie"

    def test_a_stopped_worker_can_be_stopped(self, watched):
        watched.program("shop", stopwaitsecs=1).start()
        pid = watched.pid("shop")
        os.kill(pid, signal.SIGSTOP)
        # Of two signals at once the lower number comes first, and SIGTERM is lower.
        wait_for(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it to be stopped")
        watched.rpc.stopProcess("shop")
        assert "terminated by SIGKILL" in watched.log.read_text()

    def test_a_worker_that_puts_itself_into_the_background(self, watched, script):
        """It leaves its process group, so nobody knows that it is one of ours: the slot says that its process has ended, and nothing waits for the other."""
        note = watched.directory / "pid"
        watched.program("shop", command=f"{script('daemon', DAEMON)} {note}").start()
        watched.wait_for_state("shop", "EXITED")
        daemon = int(wait_for(lambda: note.exists() and note.read_text(), "the daemon"))
        assert os.path.exists(f"/proc/{daemon}")
        os.kill(daemon, signal.SIGKILL)

    def test_stdout_closed_by_a_live_child(self, watched):
        watched.program("shop", command="/bin/sh -c 'echo bye; exec sleep 600 >&- 2>&-'").start()
        watched.wait_for_output("shop", "bye")
        wait_for(lambda: len(os.listdir(f"/proc/{watched.pid('shop')}/fd")) == 1, "it to close them")
        before = cpu_ticks(watched.process.pid)
        time.sleep(1)  # a supervisor that is told of the closed pipe again and again would use all of it
        assert cpu_ticks(watched.process.pid) - before < 50
        first = watched.pid("shop")
        os.kill(first, signal.SIGKILL)
        watched.wait_for_new_pid("shop", first)

    def test_stdout_held_open_by_a_grandchild_holds_up_nobody(self, watched):
        watched.program("shop", command="/bin/sh -c 'setsid sleep 600 & echo $!; wait'").start()
        log = watched.directory / "shop.log"
        wait_for(lambda: log.exists() and log.read_text().strip(), "the grandchild")
        before = pipes(watched.process.pid)
        first = watched.pid("shop")
        os.kill(first, signal.SIGKILL)
        watched.wait_for_new_pid("shop", first)
        assert pipes(watched.process.pid) == before
        for line in wait_for(lambda: len(lines := log.read_text().split()) == 2 and lines, "the second one"):
            os.kill(int(line), signal.SIGKILL)


class TestSpawning:
    # Born by posix_spawn, and by fork.
    WAYS = pytest.mark.parametrize("way", [{}, {"directory": "/"}], ids=["spawn", "fork"])

    @WAYS
    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("missing", "can't find command"),
            ("not executable", "is not executable"),
            ("directory", "is a directory"),
            ("no interpreter", "No such file or directory"),
            ("no program", "Exec format error"),
            ("being written", "Text file busy"),
        ],
    )
    def test_exec_that_fails(self, watched, way, kind, words):
        program = watched.directory / "program"
        with contextlib.ExitStack() as open_files:
            if kind == "directory":
                program.mkdir()
            elif kind == "being written":
                shutil.copy("/bin/sleep", program)
                open_files.enter_context(program.open("r+b"))
            elif kind != "missing":
                program.write_text("#!/no/such/interpreter\n" if kind == "no interpreter" else "\x01\x02")
                program.chmod(0o644 if kind == "not executable" else 0o755)
            watched.program("shop", command=f"{program} 600", startsecs=5, startretries=0, **way).start()
            watched.wait_for_state("shop", "FATAL")
            # A child that was forked says it itself, where its output goes.
            log = watched.directory / "shop.log"
            told = watched.info("shop")["spawnerr"] + (log.read_text() if log.exists() else "")
            assert words in told
        # When the cause is gone it starts.
        shutil.rmtree(program) if program.is_dir() else program.unlink(missing_ok=True)
        shutil.copy("/bin/sleep", program)
        watched.rpc.startProcess("shop", False)
        wait_for(lambda: os.readlink(f"/proc/{watched.info('shop')['pid']}/exe") == str(program), "the program")

    @WAYS
    def test_no_process_left_in_the_system(self, supervisor, any_user, way):
        """A user of its own, who may have so many processes: root has no such limit."""
        uid = 61234
        variables = any_user(supervisor, uid)
        supervisor.sections["supervisord"]["minprocs"] = 1
        wrapper = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "prlimit", "--nproc=1:1000"]
        supervisor.program("shop", startsecs=1, startretries=99, **way).start(wrapper=wrapper, **variables)
        wait_for(lambda: supervisor.info("shop")["spawnerr"] == "Too many processes in process table", "the reason")
        assert supervisor.state("shop") == "BACKOFF"
        more = ["prlimit", "--pid", str(supervisor.process.pid), "--nproc=1000:1000"]
        subprocess.run(more, user=uid, group=uid, extra_groups=[], check=True)
        supervisor.wait_for_state("shop", "RUNNING")

    def test_no_descriptor_left(self, watched):
        watched.program("shop", startsecs=1, startretries=99)
        watched.program("notify", ready="notify", startsecs=1, startretries=99, autostart="false")
        watched.program("heart", heartbeat=600, startsecs=1, startretries=99, autostart="false").start()
        watched.wait_for_state("shop", "RUNNING")
        first = watched.pid("shop")
        with connect(watched) as client:  # for as long as no other connection can be accepted
            client.sendall(b"GET /status HTTP/1.1\r\n\r\n")
            client.recv(65536)
            soft, hard = resource.prlimit(watched.process.pid, resource.RLIMIT_NOFILE)
            # The lowest number that is free is where the kernel stops.
            numbers = {int(name) for name in os.listdir(f"/proc/{watched.process.pid}/fd")}
            lowest = next(number for number in range(1000) if number not in numbers)
            resource.prlimit(watched.process.pid, resource.RLIMIT_NOFILE, (lowest, hard))
            os.kill(first, signal.SIGKILL)
            # Its own descriptors are free again: one process more than before does not fit.
            for name in ("notify", "heart"):
                body = f"<methodCall><methodName>supervisor.startProcess</methodName><params><param><value>{name}</value></param></params></methodCall>"
                client.sendall(f"POST /RPC2 HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                assert b"fault" in client.recv(65536)
            watched.wait_for_log("too many open files to spawn")
            resource.prlimit(watched.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        watched.wait_for_new_pid("shop", first)
        for name in ("notify", "heart"):
            wait_for(lambda name=name: watched.pid(name), f"{name} to be started")


class TestClock:
    """The wall clock is stepped by an hour. Only what is shown to people comes from it."""

    @pytest.fixture
    def step(self, watched):
        watched.prelude = SHIFTED_CLOCK
        path = watched.directory / "offset"

        def set_offset(seconds):
            path.with_suffix(".new").write_text(str(seconds))
            os.rename(path.with_suffix(".new"), path)

        return path, set_offset

    @pytest.mark.parametrize("seconds", [3600, -3600], ids=["forwards", "back"])
    def test_nothing_comes_early_or_late(self, watched, step, seconds):
        path, set_offset = step
        failing = "/bin/sh -c \"cut -d ' ' -f 1 /proc/uptime; exit 1\""
        policy = {"restart_delay": "0.5", "max_failed_starts": 3, "failed_start_delay": "2", "min_server_life": 30}
        watched.program("policy", command=failing, startsecs=1, **policy)
        watched.program("backoff", command=failing, startsecs=1, startretries=3)
        watched.program("young", startsecs=600).program("grown", startsecs=3)
        watched.program("old", heartbeat=1000, heartbeat_required="true", max_lifetime=1000).start(CLOCK_OFFSET=str(path))
        before = watched.pids()
        set_offset(seconds)
        assert abs(watched.info("old")["now"] - time.time() - seconds) < 60, "it does see the step"

        def starts(name):
            return [Decimal(line) for line in (watched.directory / f"{name}.log").read_text().split()]

        wait_for(lambda: watched.state("backoff") == "FATAL", "the fourth failure")
        # Each one says so before the next one is started.
        found = starts("backoff")
        assert found[3] - found[0] >= 1 + 2 + 3
        found = wait_for(lambda: len(starts("policy")) >= 5 and starts("policy"), "the penalty to pass")
        assert found[4] - found[2] >= 2
        watched.wait_for_state("grown", "RUNNING")
        assert watched.state("young") == "STARTING"
        assert {name: watched.pids()[name] for name in ("old", "young", "grown")} == {name: before[name] for name in ("old", "young", "grown")}
        # A stop takes its time, and no more.
        watched.rpc.stopProcess("old")


class TestClients:
    """Nobody who talks to the supervisor can hold it up, fill its memory, or end it."""

    def test_one_that_never_reads(self, watched):
        watched.pool("shop", 50, autostart="false").start()
        body = b"<methodCall><methodName>supervisor.getAllProcessInfo</methodName></methodCall>"
        request = b"POST /RPC2 HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        with connect(watched) as client:
            client.setblocking(False)
            # Questions as long as it takes any; all answers together would fill hundreds of megabytes.
            with contextlib.suppress(BlockingIOError):
                for _number in range(20000):
                    client.send(request)
            assert watched.state("bystander") == "RUNNING"
            wait_for(lambda: self.memory(watched) < 60 * MEGABYTE, "no great use of memory")
            # It is served when it begins to read.
            client.setblocking(True)
            client.settimeout(PATIENCE)
            assert client.recv(15) == b"HTTP/1.1 200 OK"

    @staticmethod
    def memory(supervisor):
        return int(pathlib.Path(f"/proc/{supervisor.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    @pytest.mark.parametrize(
        "data",
        [
            b"\0\xff" * 1000 + b"\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\r\n\r\n",
            b"POST /RPC2 HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /RPC2 HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"POST /RPC2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"POST /RPC2 HTTP/1.1\r\nno colon\r\n\r\n",
            b"POST /RPC2 HTTP/1.1\r\nContent-Length: 5\r\n\r\n<a><b",
            b"POST /RPC2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            b"GET /logtail/../../etc/passwd HTTP/1.1\r\n\r\n",
            b"GET /logtail/%ff%00 HTTP/1.1\r\n\r\n",
            b"DELETE /RPC2 HTTP/1.1\r\n\r\n",
            b"x" * 100000,
        ],
    )
    def test_garbage_is_refused(self, watched, data):
        watched.start()
        with connect(watched) as client:
            client.sendall(data)
            assert client.recv(12) in {b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 413"}

    @pytest.mark.parametrize(
        "body",
        [
            "<!DOCTYPE a [<!ENTITY b 'c'>]><methodCall><methodName>&b;</methodName></methodCall>",
            "<methodCall><params><param><value><int>" + "9" * 500000 + "</int></value></param></params></methodCall>",
            "<methodCall><methodName>system.listMethods</methodName><params><param>" + "<value><array><data>" * 5000,
            "<methodCall><methodName>supervisor.getProcessInfo</methodName>"
            "<params><param><value><struct><member><name>a</name></member></struct></value></param></params></methodCall>",
            "<methodCall></methodCall>",
        ],
        ids=["entity", "long integer", "deep", "half a member", "no method"],
    )
    def test_xml_that_is_an_attack_is_refused(self, watched, body):
        watched.start()
        with connect(watched) as client:
            client.sendall(f"POST /RPC2 HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            assert client.recv(12) == b"HTTP/1.1 400"

    @pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 10**23])
    def test_numbers_that_fit_nowhere(self, watched, number):
        watched.start()
        for method in ("readLog", "readProcessStdoutLog", "tailProcessStdoutLog"):
            for pair in ((0, number), (number, 0), (number, number), (number, 1)):
                values = ([] if method == "readLog" else ["<string>bystander</string>"]) + [f"<i8>{value}</i8>" for value in pair]
                params = "".join(f"<param><value>{value}</value></param>" for value in values)
                body = f"<methodCall><methodName>supervisor.{method}</methodName><params>{params}</params></methodCall>"
                with connect(watched) as client:
                    client.sendall(f"POST /RPC2 HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                    assert client.recv(15) == b"HTTP/1.1 200 OK"

    def test_half_a_request_holds_up_nobody(self, watched):
        watched.start()
        with connect(watched) as client:
            client.sendall(b"POST /RPC2 HTTP/1.1\r\nContent-Length: 500\r\n\r\n<methodCall>")
            assert watched.state("bystander") == "RUNNING"

    @pytest.mark.parametrize("head", [b"POST /RPC2 HTTP/1.1\r\nContent-Length: 104857600\r\n\r\n", b"POST /RPC2 HTTP/1.1\r\nX: "])
    def test_a_hundred_megabytes_are_not_kept(self, watched, head):
        watched.start()
        before = self.memory(watched)
        with connect(watched) as client, contextlib.suppress(ConnectionError):
            client.sendall(head)
            for _number in range(100):
                client.sendall(b"x" * MEGABYTE)
            raise AssertionError("it took all of it")
        assert self.memory(watched) - before < 16 * MEGABYTE
        assert watched.state("bystander") == "RUNNING"

    @pytest.mark.parametrize("sent", [b"", b"POST /RPC2 HTTP/1.1\r\n"], ids=["silent", "half"])
    def test_a_thousand_connections(self, watched, sent):
        watched.start()
        before = descriptors(watched.process.pid)
        with contextlib.ExitStack() as clients:
            for _number in range(1000):
                client = clients.enter_context(connect(watched))
                client.sendall(sent)
            assert watched.state("bystander") == "RUNNING"
            assert descriptors(watched.process.pid) < before + 250
        wait_for(lambda: descriptors(watched.process.pid) <= before, "all of them to be closed")

    def test_who_has_no_password_leaves_nothing_in_memory(self, watched):
        watched.sections["unix_http_server"].update(username="a", password="b")
        watched.write()
        watched.credentials = "a:b"
        watched.start()
        with connect(watched) as client:
            body = b"x" * 7 * MEGABYTE
            client.sendall(b"POST /RPC2 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert client.recv(12) == b"HTTP/1.1 401"
        assert self.memory(watched) < 40 * MEGABYTE


class TestConfigurations:
    """What a file may hold is a configuration, or an error that names the file; never a traceback."""

    WORDS = (
        "command", "process_name", "numprocs", "environment", "stopsignal", "socket", "user", "priority", "stdout_logfile", "exitcodes", "umask",
        "heartbeat", "heartbeat_tolerance", "rlimit_nofile", "stop_sequence", "restart_delay", "files", "events", "programs", "port", "file", "chmod",
    )  # fmt: skip

    def test_any_text(self, directory):
        from fcgivisor import config, ini  # noqa: PLC0415
        from hypothesis import HealthCheck, given, settings, strategies  # noqa: PLC0415

        path = pathlib.Path(directory) / "supervisord.conf"
        heads = strategies.sampled_from(
            ["supervisord", "program:a", "fcgi-program:b", "eventlistener:c", "group:d", "include", "inet_http_server", "x", "program:"]
        )
        texts = strategies.text(max_size=30) | strategies.sampled_from(
            [
                "%(program_name)s",
                "%(process_num)02d",
                "%(ENV_X)s",
                "%",
                "%(a",
                "1",
                "-1",
                "99999999999",
                "true",
                "TERM:1 KILL",
                "unix:///tmp/x",
                "a,b",
                'A="b',
                "5MB",
                "nobody",
            ]
        )
        lines = strategies.tuples(strategies.sampled_from(self.WORDS) | strategies.text(max_size=10), texts).map(lambda pair: f"{pair[0]}={pair[1]}")
        sections = strategies.tuples(heads, strategies.lists(lines, max_size=6)).map(lambda pair: "\n".join([f"[{pair[0]}]", *pair[1]]))
        files = strategies.lists(sections, max_size=5).map(lambda found: "\n".join(["[supervisord]", *found]).encode("utf-8", "surrogatepass"))

        @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(files | strategies.binary(max_size=200))
        def load(data):
            path.write_bytes(data)
            with contextlib.suppress(ini.ConfigError):
                found = config.load(str(path), {"X": "1"})
                assert found.files[0] == str(path)

        load()
