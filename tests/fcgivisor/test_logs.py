# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs write arrives, in files, in syslog and in the journal; and no disk, directory or byte stops a program or the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import xmlrpc.client

import pytest
from harness import PATIENCE, wait_for

# Writes to stdout what it gets on stdin, and "err TEXT" to stderr; "hex TEXT" is bytes. Ends by "exit".
ECHO = """
import os, sys
for line in sys.stdin:
    verb, _, rest = line.rstrip("\\n").partition(" ")
    if verb == "exit":
        break
    elif verb == "err":
        os.write(2, rest.encode() + b"\\n")
    elif verb == "hex":
        os.write(1, bytes.fromhex(rest))
    else:
        os.write(1, line.encode())
"""
# Writes the number of lines of its argument, each when the one before it stands in the log: the supervisor is woken once for each.
LOCKSTEP = """
import os, sys, time
number, log = int(sys.argv[1]), sys.argv[2]
while not os.path.exists(log): time.sleep(0.001)
sys.stdin.readline()
size = os.stat(log).st_size
for index in range(number):
    os.write(1, b"x" * 99 + b"\\n")
    size += 100
    while os.stat(log).st_size < size: time.sleep(0)
print("done", flush=True)
time.sleep(600)
"""
LISTENER = """
import sys
while True:
    print("READY", flush=True)
    head = dict(pair.split(":") for pair in sys.stdin.readline().split())
    print(head["eventname"], repr(sys.stdin.read(int(head["len"]))), file=sys.stderr, flush=True)
    print("RESULT 2\\nOK", end="", flush=True)
"""
BEGIN, END = "<!--XSUPERVISOR:BEGIN-->", "<!--XSUPERVISOR:END-->"


@pytest.fixture
def echo(supervisor, script):
    return supervisor.program("shop", command=script("echo", ECHO), autorestart="false")


@pytest.fixture
def small_disk(directory):
    """A file system of 64 KB."""
    path = pathlib.Path(directory) / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def say(supervisor, text, name="shop"):
    supervisor.rpc.sendProcessStdin(name, f"{text}\n")


def say_and_wait(supervisor, text):
    """Until the supervisor has dealt with it, and with all that was said before."""
    say(supervisor, text)
    supervisor.wait_for_log(f"{text}\n")
    assert supervisor.state("shop") == "RUNNING"  # it answers when it has done what it was at


def keys(echo, **changed):
    echo.sections["program:shop"].update(changed)
    return echo


def read(path):
    return pathlib.Path(path).read_bytes().decode(errors="backslashreplace")


def listen(supervisor, script, events):
    """What happens, one event a line, in heard.log."""
    apart = {"redirect_stderr": "false", "stdout_logfile": "NONE", "stderr_logfile": supervisor.directory / "heard.log"}
    supervisor.program("ear", head="eventlistener", command=script("listener", LISTENER), events=events, **apart)


class TestFiles:
    def test_a_log_is_rotated_by_size_and_the_oldest_go(self, echo):
        log = echo.directory / "shop.log"
        keys(echo, stdout_logfile_maxbytes=1000, stdout_logfile_backups=2).start()
        lines = [f"{number:099d}" for number in range(45)]
        for line in lines:
            say(echo, line)
            # One piece for each line, so that it is known where a file ends. Its own log tells: the files are moved meanwhile.
            echo.wait_for_log(f"output:\n{line}")
        wait_for(lambda: lines[-1] in read(log), "the last line")
        names = sorted(path.name for path in echo.directory.glob("shop.log*"))
        assert names == ["shop.log", "shop.log.1", "shop.log.2"]
        assert read(f"{log}.2").split() + read(f"{log}.1").split() + read(log).split() == lines[20:]

    def test_without_backups_it_begins_anew(self, echo):
        keys(echo, stdout_logfile_maxbytes=100, stdout_logfile_backups=0).start()
        say(echo, "x" * 100)
        echo.wait_for_log("output:\n" + "x" * 100)  # two lines in one piece would be rotated together
        say(echo, "new")
        wait_for(lambda: read(echo.directory / "shop.log") == "new\n", "the new line alone")
        assert [path.name for path in echo.directory.glob("shop.log*")] == ["shop.log"]

    def test_none_is_no_file(self, echo):
        keys(echo, stdout_logfile="NONE").start()
        say(echo, "hello")
        with pytest.raises(xmlrpc.client.Fault, match="NO_FILE"):
            echo.rpc.readProcessStdoutLog("shop", 0, 0)
        assert not (echo.directory / "shop.log").exists()

    def test_stderr_goes_where_stdout_goes_or_its_own_way(self, echo):
        echo.program("blog", **{**echo.sections["program:shop"], "redirect_stderr": "false"})
        echo.sections["program:blog"].update(stdout_logfile=echo.directory / "out.log", stderr_logfile=echo.directory / "err.log")
        echo.start()
        for name in ("shop", "blog"):
            say(echo, "one", name)
            say(echo, "err two", name)
        wait_for(lambda: read(echo.directory / "shop.log") == "one\ntwo\n", "both in one log")
        wait_for(lambda: (read(echo.directory / "out.log"), read(echo.directory / "err.log")) == ("one\n", "two\n"), "each in its own log")

    def test_a_renamed_file_is_written_until_the_signal_to_reopen(self, echo):
        """As logrotate(8) does it."""
        echo.start()
        log = echo.directory / "shop.log"
        say(echo, "one")
        echo.wait_for_output("shop", "one")
        os.rename(log, f"{log}.old")
        say(echo, "two")
        wait_for(lambda: read(f"{log}.old") == "one\ntwo\n", "the second line in the old file")
        echo.process.send_signal(signal.SIGUSR2)
        wait_for(log.exists, "the new file")
        say(echo, "three")
        echo.wait_for_output("shop", "three")
        assert read(f"{log}.old") == "one\ntwo\n"

    def test_all_bytes_arrive_as_they_are_and_the_rpc_stays_xml(self, echo):
        echo.start()
        data = bytes(range(256))
        say(echo, f"hex {data.hex()}")
        log = echo.directory / "shop.log"
        wait_for(lambda: log.exists() and log.stat().st_size == 256, "all bytes")
        assert log.read_bytes() == data
        text = echo.rpc.readProcessStdoutLog("shop", 0, 0)
        assert (text[0], text[ord("A")], text[-1]) == ("�", "A", "�")
        assert echo.rpc.tailProcessStdoutLog("shop", 0, 1000)[1:] == [256, False]

    def test_a_line_of_a_megabyte_without_an_end(self, supervisor, script):
        supervisor.program("shop", command=script("long", "import os, time\nos.write(1, b'x' * 1048576)\ntime.sleep(600)"))
        supervisor.program("json", command=script("long", "import os, time\nos.write(1, b'x' * 1048576)\ntime.sleep(600)"), log_format="json").start()
        log = supervisor.directory / "shop.log"
        wait_for(lambda: log.exists() and log.stat().st_size == 1048576, "all of it")
        lines = wait_for(lambda: len(found := read(supervisor.directory / "json.log").splitlines()) >= 21 and found, "whole pieces of it")
        assert {len(json.loads(line)["message"]) for line in lines} == {48 * 1024}

    def test_escape_sequences_are_taken_out_on_request(self, echo):
        echo.sections["supervisord"]["strip_ansi"] = "true"
        echo.start()
        say(echo, "hex " + b"\x1b[1;31mred\x1b[0m and \x1b[2Jplain\n".hex())
        wait_for(lambda: read(echo.directory / "shop.log") == "red and plain\n", "the text alone")


class TestEvents:
    def test_what_is_captured_is_an_event_and_no_output(self, echo, script):
        listen(echo, script, "PROCESS_COMMUNICATION")
        keys(echo, stdout_capture_maxbytes="1KB").start()
        echo.wait_for_state("ear", "RUNNING")
        # In pieces that cut the tokens.
        for piece in ("before <!--XSUPER", "VISOR:BEGIN-->ca", "ught<!--XSUPERVISOR:", "END--> after <!--XSUPERVISOR:BEGI", "N\n"):
            say(echo, f"hex {piece.encode().hex()}")
        echo.wait_for_output("heard", "PROCESS_COMMUNICATION_STDOUT")
        assert "\\ncaught'" in read(echo.directory / "heard.log")
        wait_for(lambda: read(echo.directory / "shop.log") == "before  after <!--XSUPERVISOR:BEGIN\n", "the rest in the log")

    def test_a_capture_ends_with_its_process(self, echo):
        keys(echo, stdout_capture_maxbytes="1KB").start()
        say(echo, f"{BEGIN}lost")
        say(echo, "exit")
        echo.wait_for_state("shop", "EXITED")
        echo.rpc.startProcess("shop")
        say(echo, "hello")
        wait_for(lambda: read(echo.directory / "shop.log") == "hello\n", "the next life's output")

    def test_output_as_events(self, echo, script):
        listen(echo, script, "PROCESS_LOG_STDOUT")
        keys(echo, stdout_events_enabled="true").start()
        echo.wait_for_state("ear", "RUNNING")
        say(echo, "hello")
        echo.wait_for_output("heard", f"pid:{echo.pid('shop')} channel:stdout\\nhello\\n'")


class TestLineSinks:
    def test_json_lines(self, echo):
        keys(echo, log_format="json", redirect_stderr="false", stderr_logfile=echo.directory / "err.log").start()
        say(echo, 'a "quoted" line')
        say(echo, "err two")
        say(echo, "hex ff000a")
        say(echo, "hex " + b"without an end".hex())
        say(echo, "exit")
        echo.wait_for_state("shop", "EXITED")
        lines = [json.loads(line) for line in read(echo.directory / "shop.log").splitlines()]
        assert [line["message"] for line in lines] == ['a "quoted" line', "\\xff\0", "without an end"]
        assert {(line["process"], line["group"], line["channel"]) for line in lines} == {("shop", "shop", "stdout")}
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
        assert json.loads(read(echo.directory / "err.log"))["channel"] == "stderr"

    def test_syslog(self, echo):
        """With a /dev of its own, in which log is a socket of ours."""
        dev = echo.directory / "dev"
        dev.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
            syslog.bind(str(echo.directory / "log"))
            syslog.settimeout(PATIENCE)
            nodes = "".join(f"touch {dev}/{name} && mount --bind /dev/{name} {dev}/{name} && " for name in ("null", "urandom"))
            prepare = f'mount -t tmpfs none {dev} && {nodes} ln -s {echo.directory}/log {dev}/log && mount --rbind {dev} /dev && exec "$0" "$@"'
            keys(echo, stdout_syslog="true").start(wrapper=["unshare", "-m", "sh", "-c", prepare])
            say(echo, "hello")
            assert syslog.recv(1000).rstrip(b"\0\n").endswith(b"shop hello")
        echo.wait_for_output("shop", "hello")

    def test_journald(self, echo):
        """With a /run of its own, in which the journal is a socket of ours."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.bind(str(echo.directory / "socket"))
            journal.settimeout(PATIENCE)
            place = "/run/systemd/journal"
            prepare = f'mount -t tmpfs none /run && mkdir -p {place} && mount --bind {echo.directory} {place} && exec "$0" "$@"'
            keys(echo, stdout_journald="true", stdout_logfile="NONE").start(wrapper=["unshare", "-m", "sh", "-c", prepare])
            say(echo, "hello")
            head, message = journal.recv(1000).split(b"MESSAGE\n")
        assert dict(line.split(b"=") for line in head.splitlines()) == {
            b"SYSLOG_IDENTIFIER": b"shop",
            b"PRIORITY": b"6",
            b"FCGIVISOR_GROUP": b"shop",
            b"FCGIVISOR_CHANNEL": b"stdout",
        }
        assert message == (5).to_bytes(8, "little") + b"hello\n"
        # Now nobody listens there.
        say(echo, "lost")
        say_and_wait(echo, "lost too")
        assert "shop: stdout: the journal cannot be written" in echo.log.read_text()
        assert echo.log.read_text().count("the journal cannot be written") == 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            os.unlink(echo.directory / "socket")
            journal.bind(str(echo.directory / "socket"))
            journal.settimeout(PATIENCE)
            say(echo, "again")
            assert journal.recv(1000).endswith(b"again\n")
        echo.wait_for_log("the journal can be written again")


class TestTrouble:
    def test_a_full_disk_is_reported_once_and_written_again_when_there_is_room(self, echo, small_disk):
        keys(echo, stdout_logfile=small_disk / "shop.log").start()
        before = echo.pid("shop")
        say(echo, "hello")
        wait_for(lambda: read(small_disk / "shop.log") == "hello\n", "the first line")
        with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        for _number in range(10):
            say(echo, "x" * 10000)
        say_and_wait(echo, "what would fill it again, were there room meanwhile")
        assert "shop.log cannot be written: No space left on device; output is lost until it can" in echo.log.read_text()
        (small_disk / "ballast").unlink()
        say(echo, "again")
        echo.wait_for_log("shop.log can be written again")
        wait_for(lambda: "again\n" in read(small_disk / "shop.log"), "the last line")
        assert echo.log.read_text().count("cannot be written") == 1
        assert (echo.pid("shop"), echo.state("shop")) == (before, "RUNNING")

    def test_a_full_disk_under_the_supervisors_own_log_and_pid_file_stops_nothing(self, echo, small_disk):
        with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        echo.sections["supervisord"].update(logfile=small_disk / "own.log", pidfile=small_disk / "own.pid")
        echo.start()
        say(echo, "hello")
        echo.wait_for_output("shop", "hello")
        output = read(echo.directory / "output")
        assert output.count(f"{small_disk}/own.log cannot be written: No space left on device") == 1
        assert "could not write pidfile" in output

    def test_a_read_only_disk_stops_nothing(self, echo, small_disk):
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        echo.sections["supervisord"].update(logfile=small_disk / "own.log", pidfile=small_disk / "own.pid")
        keys(echo, stdout_logfile=small_disk / "shop.log")
        echo.program("blog").start()
        say(echo, "hello")
        wait_for(lambda: "shop.log cannot be written: Read-only file system" in read(echo.directory / "output"), "the report")
        assert [info["statename"] for info in echo.rpc.getAllProcessInfo()] == ["RUNNING", "RUNNING"]
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        wait_for(lambda: say(echo, "again") or ((small_disk / "shop.log").exists() and "again" in read(small_disk / "shop.log")), "output in the log")

    def test_a_directory_that_vanishes_is_reported_once_and_written_again_when_it_is_back(self, echo):
        place = echo.directory / "logs"
        place.mkdir()
        keys(echo, stdout_logfile=place / "shop.log").start()
        before = echo.pid("shop")
        say(echo, "hello")
        wait_for(lambda: (place / "shop.log").exists() and read(place / "shop.log") == "hello\n", "the first line")
        shutil.rmtree(place)
        report = "shop.log cannot be written: No such file or directory"
        # While there is output it looks once a second.
        wait_for(lambda: say(echo, "lost") or report in echo.log.read_text(), "the report")
        place.mkdir()
        wait_for(lambda: say(echo, "again") or (place / "shop.log").exists(), "the new file")
        echo.wait_for_log("shop.log can be written again")
        assert echo.log.read_text().count(report) == 1
        assert (echo.pid("shop"), echo.state("shop")) == (before, "RUNNING")

    def test_a_file_that_was_removed_is_begun_anew(self, echo):
        echo.start()
        log = echo.directory / "shop.log"
        say(echo, "hello")
        echo.wait_for_output("shop", "hello")
        log.unlink()
        wait_for(lambda: say(echo, "again") or log.exists(), "the new file")
        echo.wait_for_log("shop.log was removed; it is begun anew")

    def test_a_named_pipe_that_nobody_reads_holds_up_nobody(self, echo):
        os.mkfifo(echo.directory / "pipe")
        keys(echo, stdout_logfile=echo.directory / "pipe").start()
        say(echo, "hello")
        echo.wait_for_log("pipe cannot be written")
        assert echo.state("shop") == "RUNNING"


def test_a_line_costs_the_same_however_many_programs_there_are(supervisor, script):
    """supervisord builds and polls lists of all its pipes for each line."""
    lines = 1000
    command = f"{script('lockstep', LOCKSTEP)} {lines} {supervisor.directory}/shop.log"
    supervisor.sections["supervisord"]["loglevel"] = "info"
    supervisor.program("shop", command=command, autorestart="false").start()

    def nanoseconds():
        return int(pathlib.Path(f"/proc/{supervisor.process.pid}/schedstat").read_text().split()[0])

    def cost():
        (supervisor.directory / "shop.log").write_bytes(b"")
        supervisor.rpc.clearProcessLogs("shop")
        supervisor.rpc.stopProcess("shop")
        supervisor.rpc.startProcess("shop")
        before = nanoseconds()
        say(supervisor, "go")
        supervisor.wait_for_output("shop", "done", 60)
        return nanoseconds() - before

    alone = min(cost() for _number in range(2))
    supervisor.pool("others", 300)
    supervisor.write()
    supervisor.ours.update()
    together = min(cost() for _number in range(2))
    assert together < 3 * alone
