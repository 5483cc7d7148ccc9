# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker says that it is ready, and that it is alive; who falls silent is replaced, and nobody else."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest
from harness import wait_for

# Obeys the lines of its stdin: what it is to say to its supervisor, "child TEXT" to have a child say it, "byte N", or "exit N".
OBEDIENT = """
import os, socket, sys
address = os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1)
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.sendto(text.encode().replace(b";", b"\\n"), address)
print("listening", flush=True)
for line in sys.stdin:
    verb, _, rest = line.strip().partition(" ")
    if verb == "exit":
        sys.exit(int(rest))
    elif verb == "byte":
        os.write(int(os.environ["UWSGI_EMPEROR_FD"]), bytes([int(rest)]))
    elif verb == "child":
        pid = os.fork()
        if pid == 0:
            say(rest)
            os._exit(0)
    else:
        say(line.strip())
    print("said", line.strip(), flush=True)
"""
# Beats ten times in each interval, but for the process whose number is its first argument, which does so once.
BEATS = """
import os, socket, sys, time
address = os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1)
mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
period = int(os.environ["WATCHDOG_USEC"]) / 20_000_000
while True:
    mouth.sendto(b"WATCHDOG=1", address)
    if os.environ["SUPERVISOR_PROCESS_NAME"] == sys.argv[1]:
        time.sleep(600)
    time.sleep(period)
"""
# Seconds. As small as a loaded machine allows: a healthy worker that is late by more than the difference would be killed.
HEARTBEAT, TOLERANCE = 0.5, 3


@pytest.fixture
def obedient(supervisor, script):
    """A program that waits to be told what to say. It is not restarted by itself."""
    return supervisor.program("shop", command=script("obedient", OBEDIENT), autorestart="false", startretries=0)


def say(supervisor, text, name="shop"):
    supervisor.rpc.sendProcessStdin(name, f"{text}\n")


def heartbeat_age(supervisor, index=0):
    return supervisor.ours.getStatus()[index]["heartbeat_age"]


class TestReadiness:
    def test_it_runs_when_it_says_so_and_not_before(self, obedient):
        obedient.program("shop", **{**obedient.sections["program:shop"], "ready": "notify", "startsecs": 0}).start()
        obedient.wait_for_output("shop", "listening")
        assert obedient.state("shop") == "STARTING"
        say(obedient, "STATUS=loading;READY=0")
        obedient.wait_for_output("shop", "said STATUS")
        assert obedient.state("shop") == "STARTING"
        say(obedient, "STATUS=loaded;READY=1")
        obedient.wait_for_state("shop", "RUNNING")
        obedient.wait_for_log("it said that it is ready (READY=1)")

    def test_a_child_may_say_it(self, obedient):
        """A shell script has no other way: systemd-notify(1), which lives until it has been heard."""
        obedient.program("shop", **{**obedient.sections["program:shop"], "ready": "notify"}).start()
        obedient.wait_for_output("shop", "listening")
        say(obedient, "child READY=1")
        obedient.wait_for_state("shop", "RUNNING")

    def test_a_stranger_may_not(self, obedient):
        obedient.program("shop", **{**obedient.sections["program:shop"], "ready": "notify", "heartbeat": 600}).start()
        obedient.wait_for_output("shop", "listening")
        pairs = pathlib.Path(f"/proc/{obedient.pid('shop')}/environ").read_bytes().split(b"\0")
        address = next(pair for pair in pairs if pair.startswith(b"NOTIFY_SOCKET=")).partition(b"=")[2].replace(b"@", b"\0", 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"READY=1\nWATCHDOG=1", address)
            stranger.sendto(b"\xff" * 10000, address)
            stranger.sendto(b"", address)
        # What the worker says next is heard after that.
        say(obedient, "WATCHDOG=1")
        wait_for(lambda: heartbeat_age(obedient) is not None, "the worker to be heard")
        assert obedient.state("shop") == "STARTING"

    def test_who_is_not_ready_in_time_is_killed_and_the_start_has_failed(self, obedient):
        obedient.program("shop", **{**obedient.sections["program:shop"], "ready": "notify", "ready_timeout": "0.5"}).start()
        obedient.wait_for_state("shop", "FATAL")
        assert obedient.info("shop")["spawnerr"] == "not ready within 0.5 s (ready_timeout)"

    def test_who_ends_before_it_was_ready_has_failed_whatever_its_exit_code(self, obedient):
        obedient.program("shop", **{**obedient.sections["program:shop"], "ready": "notify", "startsecs": 0}).start()
        obedient.wait_for_output("shop", "listening")
        say(obedient, "exit 0")
        obedient.wait_for_state("shop", "FATAL")

    def test_a_client_that_waits_for_the_start_waits_for_readiness(self, supervisor, script):
        code = OBEDIENT.replace("for line in sys.stdin:", 'say("READY=1")\nfor line in sys.stdin:')
        supervisor.program("shop", command=script("ready", code), ready="notify", autostart="false").start()
        supervisor.rpc.startProcess("shop")
        assert supervisor.state("shop") == "RUNNING"


class TestHeartbeat:
    @pytest.mark.parametrize("sign", ["WATCHDOG=1", "byte 26"])
    def test_a_worker_is_watched_from_its_first_sign_of_life(self, obedient, sign):
        obedient.program("shop", **{**obedient.sections["program:shop"], "heartbeat": 0.2, "heartbeat_tolerance": 0.5}).start()
        obedient.wait_for_output("shop", "listening")
        assert heartbeat_age(obedient) is None
        say(obedient, "byte 17")
        say(obedient, "STATUS=fine")
        obedient.wait_for_output("shop", "said STATUS")
        assert heartbeat_age(obedient) is None, "this was none"
        say(obedient, sign)
        obedient.wait_for_state("shop", "EXITED")
        log = obedient.log.read_text()
        assert "has sent no heartbeat for" in log
        assert "terminated by SIGABRT" in log

    def test_the_first_sign_may_be_required(self, obedient):
        keys = {"heartbeat": 0.2, "heartbeat_tolerance": 0.5, "heartbeat_required": "true"}
        obedient.program("shop", **{**obedient.sections["program:shop"], **keys}).start()
        obedient.wait_for_state("shop", "EXITED")
        assert "terminated by SIGABRT" in obedient.log.read_text()

    def test_only_the_silent_worker_is_replaced(self, supervisor, script):
        keys = {"numprocs": 3, "process_name": "shop_%(process_num)d", "heartbeat": HEARTBEAT, "heartbeat_tolerance": TOLERANCE}
        supervisor.program("shop", command=f"{script('beats', BEATS)} shop_1", **keys).start()
        before = supervisor.pids()
        supervisor.wait_for_new_pid("shop:shop_1", before["shop_1"])
        after = supervisor.pids()
        assert (after["shop_0"], after["shop_2"]) == (before["shop_0"], before["shop_2"])
        assert supervisor.log.read_text().count("has sent no heartbeat") == 1
        # Its new life is watched as the first one was.
        supervisor.wait_for_new_pid("shop:shop_1", after["shop_1"])

    def test_who_does_not_end_by_sigabrt_is_killed(self, supervisor, script):
        """Stopped by a signal, as a hung one: it gets neither its own heartbeat nor SIGABRT done."""
        keys = {"heartbeat": HEARTBEAT, "heartbeat_tolerance": TOLERANCE}
        supervisor.program("shop", command=f"{script('beats', BEATS)} nobody", **keys).start()
        wait_for(lambda: heartbeat_age(supervisor) is not None, "a first heartbeat")
        before = supervisor.pid("shop")
        os.kill(before, signal.SIGSTOP)
        supervisor.wait_for_new_pid("shop", before)
        assert "terminated by SIGKILL" in supervisor.log.read_text()

    def test_a_worker_may_ask_for_its_own_end(self, obedient):
        obedient.program("shop", **{**obedient.sections["program:shop"], "heartbeat": 600}).start()
        obedient.wait_for_output("shop", "listening")
        say(obedient, "WATCHDOG=trigger")
        obedient.wait_for_state("shop", "EXITED")

    def test_the_tolerance_changes_live(self, obedient):
        obedient.program("shop", **{**obedient.sections["program:shop"], "heartbeat": 0.2, "heartbeat_tolerance": 0.4}).start()
        obedient.wait_for_output("shop", "listening")
        before = obedient.pid("shop")
        obedient.sections["program:shop"]["heartbeat_tolerance"] = 600
        obedient.write()
        obedient.ours.update()
        say(obedient, "WATCHDOG=1")
        wait_for(lambda: (heartbeat_age(obedient) or 0) > 0.6, "more than the old tolerance to pass")
        assert obedient.pid("shop") == before


class TestUwsgi:
    """The real one, from PyPI: each of its workers beats from its accept loop into UWSGI_EMPEROR_FD."""

    @pytest.fixture
    def uwsgi(self, supervisor):
        module = pathlib.Path(importlib.util.find_spec("pyuwsgi").origin).parent
        application = supervisor.directory / "application.py"
        application.write_text("def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n")
        options = f"--master --processes 1 --heartbeat 1 --die-on-term --worker-reload-mercy 1 --socket {supervisor.directory}/u.sock"
        command = f'{sys.executable} -c "import pyuwsgi; pyuwsgi.run()" {options} --wsgi-file {application}'
        keys = {"heartbeat": 1, "heartbeat_tolerance": 4, "stopasgroup": "true", "environment": f'PYTHONPATH="{module}"'}
        return supervisor.program("shop", command=command, **keys).start()

    @staticmethod
    def worker(master):
        children = pathlib.Path(f"/proc/{master}/task/{master}/children")
        return int(wait_for(lambda: children.read_text().split(), "a worker")[0])

    def test_a_healthy_one_is_left_alone_and_a_hung_one_is_replaced(self, uwsgi):
        wait_for(lambda: heartbeat_age(uwsgi) is not None, "a first heartbeat")
        before = uwsgi.pid("shop")
        # Longer than the tolerance, as its own clock tells: beats have been heard meanwhile.
        wait_for(lambda: uwsgi.ours.getStatus()[0]["uptime"] > 6, "it to live for a while")
        assert uwsgi.pid("shop") == before
        assert heartbeat_age(uwsgi) < 4
        os.kill(self.worker(before), signal.SIGSTOP)
        uwsgi.wait_for_new_pid("shop", before)
        assert "has sent no heartbeat" in uwsgi.log.read_text()
        wait_for(lambda: heartbeat_age(uwsgi) is not None, "the new one to beat")


class TestTolerance:
    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"heartbeat": 25, "heartbeat_tolerance": 30}, "30 s is less than two heartbeats of 25 s"),
            ({"heartbeat_tolerance": 30}, "needs heartbeat="),
            ({"heartbeat": "soon"}, "is not a number of seconds"),
        ],
    )
    def test_what_would_kill_the_healthy_is_refused_with_the_way_out(self, supervisor, keys, words):
        supervisor.program("shop", **keys).write()
        done = subprocess.run(
            supervisor.command("--check", "-c", supervisor.configuration), env=supervisor.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert "[program:shop] heartbeat" in done.stderr

    @pytest.mark.parametrize("keys", [{"heartbeat": 25, "heartbeat_tolerance": 50}, {"heartbeat": 25}])
    def test_twice_is_enough_and_three_times_the_default(self, supervisor, keys):
        from fcgivisor import config  # noqa: PLC0415

        supervisor.program("shop", **keys).write()
        process = config.load(str(supervisor.configuration), {}).groups["shop"].processes["shop"]
        assert process.heartbeat_tolerance == keys.get("heartbeat_tolerance", 75)
