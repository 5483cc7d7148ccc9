# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead worker comes back: at once, and as often as the policy says; and it is born with what the configuration says."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import time
from decimal import Decimal

import pytest
from harness import PYTHON_FOR_ALL, wait_for

# Says that it was started, and when, in seconds since boot. On a loaded machine it says so late, but never before its start, nor after its death.
SAYS_WHEN = "cut -d ' ' -f 1 /proc/uptime"
FAILS = f'/bin/sh -c "{SAYS_WHEN}; exit 1"'
STUBBORN = """
import os, signal, sys
for name in sys.argv[1:]:
    signal.signal(getattr(signal, f"SIG{name}"), lambda number, _frame: os.write(1, f"{signal.Signals(number).name[3:]}\\n".encode()))
print("ready", flush=True)
while True:
    signal.pause()
"""


def starts(supervisor, name):
    log = supervisor.directory / f"{name}.log"
    return [Decimal(line) for line in log.read_text().split()] if log.exists() else []


def wait_for_starts(supervisor, name, number):
    wait_for(lambda: len(starts(supervisor, name)) >= number, f"{number} starts of {name}")
    return starts(supervisor, name)


def logged(supervisor, words):
    """When the supervisor's log tells this, in seconds: once for each line."""
    lines = re.findall(rf"^(\S+ \S+),(\d+) \w+ {words}", supervisor.log.read_text(), re.MULTILINE)
    return [time.mktime(time.strptime(second, "%Y-%m-%d %H:%M:%S")) + int(milliseconds) / 1000 for second, milliseconds in lines]


def since_the_beginning(supervisor, number):
    """When its first processes were started, in seconds since it began: before it started any."""
    (beginning,) = logged(supervisor, "supervisord started with pid")
    wait_for(lambda: len(logged(supervisor, "spawned: ")) >= number, f"{number} processes to be started")
    return [moment - beginning for moment in logged(supervisor, "spawned: ")]


def status(pid):
    """/proc/PID/status, by field."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def environment(pid):
    """Its environment, which is not there yet in the middle of its execve(2)."""
    text = wait_for(pathlib.Path(f"/proc/{pid}/environ").read_bytes, f"the environment of {pid}")
    pairs = text.decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def is_alive(pid):
    with contextlib.suppress(FileNotFoundError):
        return status(pid)["State"][0] != "Z"
    return False


def turns(supervisor):
    """What the log tells about processes that stop and come to run, as (what, name), in its order."""
    return re.findall(r"(stopped|success): (\w+)", supervisor.log.read_text())


def test_a_killed_worker_is_replaced_and_its_siblings_are_not_touched(supervisor):
    supervisor.pool("shop", 3, autorestart="true").start()
    before = supervisor.pids()
    os.kill(before["shop_01"], signal.SIGKILL)
    supervisor.wait_for_new_pid("shop:shop_01", before["shop_01"])
    after = supervisor.pids()
    assert (after["shop_00"], after["shop_02"]) == (before["shop_00"], before["shop_02"])


def test_nothing_wakes_it_up_while_nothing_happens(supervisor):
    supervisor.pool("shop", 20, startsecs=1).fcgi("blog", heartbeat=600, max_lifetime=3600).start()
    wait_for(lambda: {info["statename"] for info in supervisor.rpc.getAllProcessInfo()} == {"RUNNING"}, "all to run")
    pid = supervisor.process.pid

    def wakeups():
        return status(pid)["voluntary_ctxt_switches"]

    wait_for(lambda: pathlib.Path(f"/proc/{pid}/wchan").read_text() in ("ep_poll", "do_epoll_wait"), "it to wait")
    before = wakeups()
    time.sleep(3)  # that nothing happens is what is measured
    assert wakeups() == before


def test_running_means_that_it_has_lived_startsecs_even_if_the_supervisor_looks_late(supervisor):
    """The supervisor is held up while the worker dies, and looks again when startsecs are over."""
    supervisor.program("shop", command="/bin/sh -c 'sleep 0.2; exit 3'", startsecs=1, autostart="false", startretries=0).start()
    supervisor.rpc.startProcess("shop", False)
    worker = supervisor.pid("shop")
    supervisor.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: not is_alive(worker), "the worker to end")
    time.sleep(1)  # startsecs pass
    supervisor.process.send_signal(signal.SIGCONT)
    supervisor.wait_for_state("shop", "FATAL")
    assert "entered RUNNING" not in supervisor.log.read_text()


class TestSupervisordsPolicy:
    def test_backoff_grows_by_a_second_until_fatal(self, supervisor):
        supervisor.program("shop", command=FAILS, startsecs=1, startretries=2).start()
        supervisor.wait_for_state("shop", "FATAL")
        found = starts(supervisor, "shop")
        assert len(found) == 3
        assert found[2] - found[0] >= 1 + 2
        assert supervisor.info("shop")["spawnerr"] == "Exited too quickly (process log may have details)"

    @pytest.mark.parametrize(("autorestart", "code", "state"), [("unexpected", 0, "EXITED"), ("false", 1, "EXITED"), ("unexpected", 7, "EXITED")])
    def test_what_is_expected_or_not_wanted_stays_down(self, supervisor, autorestart, code, state):
        supervisor.program("shop", command=f"/bin/sh -c 'exit {code}'", autorestart=autorestart, exitcodes="0,7").start()
        supervisor.wait_for_state("shop", state)
        assert supervisor.info("shop")["exitstatus"] == code
        assert starts(supervisor, "shop") == []
        assert supervisor.ours.getStatus()[0]["restarts"] == 0

    def test_exponential_delays_have_a_limit(self, supervisor):
        """Eleven linear ones would take 55 s, and doubled ones half an hour."""
        supervisor.program("shop", command=FAILS, startsecs=1, startretries=10, backoff="exponential", backoff_max="0.1").start()
        supervisor.wait_for_state("shop", "FATAL")
        assert len(starts(supervisor, "shop")) == 11

    def test_exponential_delays_double_and_jitter_spreads_what_failed_together(self):
        from fcgivisor import policy  # noqa: PLC0415

        assert [policy.backoff_delay(tries, True, 60, lambda: 0.5) for tries in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
        assert [policy.backoff_delay(tries, False, 60) for tries in (1, 2, 3)] == [1, 2, 3]
        delays = [policy.backoff_delay(5, True, 60, lambda part=part: part) for part in (0, 0.5, 1)]
        assert delays == pytest.approx([14.4, 16, 17.6])
        assert len({policy.backoff_delay(5, True, 60) for _number in range(10)}) > 1


class TestModFastcgisPolicy:
    """restart_delay, start_delay, min_server_life, max_failed_starts, failed_start_delay, with small numbers."""

    def test_first_starts_are_apart_by_start_delay(self, supervisor):
        supervisor.program("shop", numprocs=3, process_name="shop_%(process_num)d", start_delay=1).start()
        _first, second, third = since_the_beginning(supervisor, 3)
        assert second >= 1
        assert third >= 2

    def test_restarts_are_apart_by_restart_delay_since_the_last_start_and_are_never_given_up(self, supervisor):
        supervisor.program("shop", command=FAILS, restart_delay="0.4", max_failed_starts=1000).start()
        found = wait_for_starts(supervisor, "shop", 5)
        # The first one said so before the second start, so between these there are three delays.
        assert found[4] - found[0] >= 3 * Decimal("0.4")
        assert "FATAL" not in supervisor.log.read_text()

    def test_a_process_that_has_lived_longer_than_restart_delay_comes_back_at_once(self, supervisor):
        command = f'/bin/sh -c "{SAYS_WHEN}; exec sleep 600"'
        supervisor.program("shop", command=command, restart_delay=1, startsecs=1).start()
        supervisor.wait_for_state("shop", "RUNNING")
        before = supervisor.pid("shop")
        os.kill(before, signal.SIGKILL)
        supervisor.wait_for_new_pid("shop", before)
        # No line of the log between its death and its new life tells of a wait.
        assert "BACKOFF" not in supervisor.log.read_text()

    def test_slots_restart_in_parallel(self, supervisor):
        """mod_fastcgi brings six that died together back one every restart_delay: here in 10 s."""
        supervisor.program("shop", numprocs=6, process_name="shop_%(process_num)d", restart_delay=2, start_delay=0, max_failed_starts=10).start()
        for pid in supervisor.pids().values():
            os.kill(pid, signal.SIGKILL)
        again = since_the_beginning(supervisor, 12)[6:]
        assert again[0] >= 2
        assert again[5] - again[0] < 8

    def test_too_many_failures_bring_a_penalty_and_then_one_try_at_a_time(self, supervisor):
        keys = {"restart_delay": "0.1", "max_failed_starts": 2, "failed_start_delay": "1.5", "min_server_life": 30}
        supervisor.program("shop", command=FAILS, startsecs=1, **keys).start()
        found = wait_for_starts(supervisor, "shop", 5)
        # The second one said so before the third start, the first that is followed by a penalty.
        assert found[4] - found[1] >= 2 * 1.5
        supervisor.wait_for_state("shop", "BACKOFF")

    def test_a_healthy_sibling_forgives(self, supervisor):
        command = '/bin/sh -c "test %(process_num)d = 0 || exec sleep 600; exit 1"'
        keys = {"restart_delay": "0.1", "start_delay": 0, "max_failed_starts": 1, "failed_start_delay": 600, "min_server_life": "0.5"}
        supervisor.program("shop", command=command, numprocs=2, process_name="shop_%(process_num)d", **keys).start()
        wait_for(lambda: supervisor.ours.getStatus()[0]["restarts"] >= 5, "five restarts, in spite of the penalty of 600 s")

    def test_a_life_longer_than_min_server_life_forgives(self, supervisor):
        keys = {"restart_delay": "0.1", "max_failed_starts": 0, "failed_start_delay": 600, "min_server_life": "0.2"}
        supervisor.program("shop", command="/bin/sh -c 'sleep 0.4; exit 1'", **keys).start()
        wait_for(lambda: supervisor.ours.getStatus()[0]["restarts"] >= 3, "three restarts")

    def test_a_clean_exit_is_no_failure(self, supervisor):
        supervisor.program("shop", command="/bin/true", restart_delay="0.05", max_failed_starts=0, failed_start_delay=600).start()
        wait_for(lambda: supervisor.ours.getStatus()[0]["restarts"] >= 5, "five restarts")

    def test_a_command_that_is_missing_is_tried_for_ever_and_nothing_else_suffers(self, supervisor):
        keys = {"restart_delay": 0, "max_failed_starts": 100000}
        supervisor.program("shop", command="/no/such/program", **keys).program("blog").start()
        wait_for(lambda: supervisor.ours.getStatus()[1]["tries"] >= 5000, "five thousand tries")
        assert supervisor.state("blog") == "RUNNING"
        assert "exception" not in supervisor.log.read_text()


class TestRecycling:
    def test_max_lifetime_replaces_one_process_at_a_time(self, supervisor):
        supervisor.program("shop", numprocs=3, process_name="shop_%(process_num)d", startsecs=1, max_lifetime=1).start()
        wait_for(lambda: len({name for what, name in turns(supervisor) if what == "stopped"}) == 3, "all to be replaced")
        self.assert_one_at_a_time(supervisor)

    def test_max_memory_replaces_only_what_is_too_large_and_one_process_at_a_time(self, supervisor):
        large = f"{PYTHON_FOR_ALL} -S -c \"import time; block = b'x' * 48000000; time.sleep(600)\""
        supervisor.program("shop", command=large, numprocs=2, process_name="shop_%(process_num)d", startsecs=1, max_memory="32MB")
        supervisor.program("blog", max_memory="32MB").start()
        before = supervisor.pids()
        wait_for(lambda: len({name for what, name in turns(supervisor) if what == "stopped"}) == 2, "both to be replaced")
        self.assert_one_at_a_time(supervisor)
        assert "max_memory 32768 KB" in supervisor.log.read_text()
        assert supervisor.pid("blog") == before["blog"]

    @staticmethod
    def assert_one_at_a_time(supervisor):
        down = set()
        for what, name in turns(supervisor):
            if what == "stopped":
                assert down == set(), f"{name} was stopped before these had come to run again"
                down.add(name)
            else:
                down.discard(name)


class TestBirth:
    def test_limits_and_umask(self, supervisor):
        limits = {"rlimit_nofile": "100:200", "rlimit_core": 0, "rlimit_fsize": "1MB", "rlimit_stack": "8MB:unlimited", "rlimit_cpu": "unlimited"}
        supervisor.program("shop", umask="027", **limits).start()
        pid = supervisor.pid("shop")
        rows = re.findall(r"^Max ([a-z ]+?)  +(\S+) +(\S+)", pathlib.Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
        found = {name: (soft, hard) for name, soft, hard in rows}
        assert found["open files"] == ("100", "200")
        assert found["core file size"] == ("0", "0")
        assert found["file size"] == ("1048576", "1048576")
        assert found["stack size"] == ("8388608", "unlimited")
        assert found["cpu time"] == ("unlimited", "unlimited")
        assert status(pid)["Umask"] == "0027"

    def test_supplementary_groups_are_looked_up_once_and_again_when_the_configuration_is_read(self, supervisor):
        # Groups of a host of its own: /etc/group is another file for this supervisor.
        groups = supervisor.directory / "group"
        groups.write_text("root:x:0:\nnogroup:x:65534:\nalpha:x:4001:nobody\nbeta:x:4002:nobody,root\ngamma:x:4003:root\n")
        supervisor.program("shop", user="nobody").start(wrapper=["unshare", "-m", "sh", "-c", f'mount --bind {groups} /etc/group && exec "$0" "$@"'])
        pid = supervisor.pid("shop")

        def found():
            return status(supervisor.pid("shop"))["Groups"].split()

        assert found() == ["4001", "4002", "65534"]
        with groups.open("a") as file:
            file.write("delta:x:4004:nobody\n")
        os.kill(pid, signal.SIGKILL)
        pid = supervisor.wait_for_new_pid("shop", pid)
        assert found() == ["4001", "4002", "65534"]
        supervisor.rpc.reloadConfig()
        os.kill(pid, signal.SIGKILL)
        supervisor.wait_for_new_pid("shop", pid)
        wait_for(lambda: found() == ["4001", "4002", "4004", "65534"], "the new group")

    def test_home_and_user_are_those_of_the_user(self, supervisor):
        supervisor.program("shop", user="daemon").program("blog").start(HOME="/root", USER="root", LOGNAME="root")
        theirs, ours = environment(supervisor.pid("shop")), environment(supervisor.pid("blog"))
        assert [theirs[name] for name in ("HOME", "USER", "LOGNAME")] == ["/usr/sbin", "daemon", "daemon"]
        assert [ours[name] for name in ("HOME", "USER", "LOGNAME")] == ["/root", "root", "root"]

    def test_an_environment_file_is_read_at_each_start_and_environment_counts_more(self, supervisor):
        path = supervisor.directory / "environment"
        path.write_text("# a comment\n\nONE=1\nTWO=\"with spaces\"\nTHREE='3'\nFOUR=a=b\n")
        supervisor.program("shop", environment_file=path, environment='THREE="three"').start()
        pid = supervisor.pid("shop")
        found = environment(pid)
        assert {name: found[name] for name in ("ONE", "TWO", "THREE", "FOUR")} == {"ONE": "1", "TWO": "with spaces", "THREE": "three", "FOUR": "a=b"}
        path.write_text("ONE=one\n")
        os.kill(pid, signal.SIGKILL)
        pid = supervisor.wait_for_new_pid("shop", pid)
        found = environment(pid)
        assert (found["ONE"], "TWO" in found) == ("one", False)

    @pytest.mark.parametrize(("text", "reason"), [(None, "does not exist"), ("ONE=1\nno equals sign\n", "line 2 is not KEY=value"), (b"\xff=1", "not UTF-8")])
    def test_an_environment_file_that_is_wrong_is_named(self, supervisor, text, reason):
        path = supervisor.directory / "environment"
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        supervisor.program("shop", environment_file=path, startretries=0).start()
        supervisor.wait_for_state("shop", "FATAL")
        assert f"environment_file {path}" in supervisor.info("shop")["spawnerr"]
        assert reason in supervisor.info("shop")["spawnerr"]

    def test_an_environment_file_with_a_dash_may_be_missing(self, supervisor):
        supervisor.program("shop", environment_file=f"-{supervisor.directory}/missing").start()
        assert supervisor.state("shop") == "RUNNING"


class TestStop:
    @pytest.fixture
    def stubborn(self, script):
        """The command line of a program that says which signals it gets, and ends by none of these."""
        return lambda *ignored: f"{script('stubborn', STUBBORN)} {' '.join(ignored)}"

    def test_a_stop_sequence_goes_on_until_it_is_dead(self, supervisor, stubborn):
        supervisor.program("shop", command=stubborn("TERM", "INT"), stop_sequence="TERM:1 INT:1 QUIT:30 KILL").start()
        supervisor.wait_for_output("shop", "ready\n")
        supervisor.rpc.stopProcess("shop")
        assert (supervisor.directory / "shop.log").read_text().split() == ["ready", "TERM", "INT"]
        assert "terminated by SIGQUIT" in supervisor.log.read_text()

    def test_the_last_step_kills(self, supervisor, stubborn):
        supervisor.program("shop", command=stubborn("TERM", "QUIT"), stop_sequence="TERM:0.1 QUIT:0.1 KILL").start()
        supervisor.wait_for_output("shop", "ready\n")
        supervisor.rpc.stopProcess("shop")
        assert "terminated by SIGKILL" in supervisor.log.read_text()

    def test_stopsignal_keeps_its_form(self, supervisor, stubborn):
        supervisor.program("shop", command=stubborn("INT"), stopsignal="INT", stopwaitsecs=1).start()
        supervisor.wait_for_output("shop", "ready\n")
        supervisor.rpc.stopProcess("shop")
        assert (supervisor.directory / "shop.log").read_text().split() == ["ready", "INT"]
        assert "terminated by SIGKILL" in supervisor.log.read_text()


class TestLeftovers:
    """A leader that dies by itself leaves its process group behind, which may hold its port."""

    def leader(self, trap):
        """A shell with a child in its group, whose process ID it writes down."""
        return f'/bin/sh -c \'{trap} sh -c "trap \\"\\" INT; while :; do sleep 600; done" & echo $!; wait\''

    @pytest.mark.parametrize("trap", ["", 'trap "" TERM;'], ids=["polite", "stubborn"])
    def test_they_are_stopped_before_the_replacement_starts(self, supervisor, trap):
        supervisor.program("shop", command=self.leader(trap), stopwaitsecs=1).start()
        log = supervisor.directory / "shop.log"
        child = int(wait_for(lambda: log.exists() and log.read_text().strip(), "the child's process ID"))
        before = supervisor.pid("shop")
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: supervisor.pid("shop") != before, "the death to be noticed")
        supervisor.wait_for_log(f"left processes behind, which are stopped first: [{child}")
        supervisor.wait_for_new_pid("shop", before)
        assert not is_alive(child)

    def test_they_are_stopped_also_where_nothing_is_started_again(self, supervisor):
        supervisor.program("shop", command=self.leader(""), autorestart="false").start()
        log = supervisor.directory / "shop.log"
        child = int(wait_for(lambda: log.exists() and log.read_text().strip(), "the child's process ID"))
        os.kill(supervisor.pid("shop"), signal.SIGKILL)
        wait_for(lambda: not is_alive(child), "the child to be stopped")
        supervisor.wait_for_state("shop", "EXITED")

    def test_an_order_to_start_does_not_wait_for_them(self, supervisor):
        supervisor.program("shop", command=self.leader('trap "" TERM;'), autorestart="false", stopwaitsecs=600, stopsignal="KILL").start()
        log = supervisor.directory / "shop.log"
        child = int(wait_for(lambda: log.exists() and log.read_text().strip(), "the child's process ID"))
        os.kill(supervisor.pid("shop"), signal.SIGKILL)
        supervisor.wait_for_state("shop", "EXITED")
        assert is_alive(child)
        supervisor.rpc.startProcess("shop")
        wait_for(lambda: not is_alive(child), "the child to be killed")
