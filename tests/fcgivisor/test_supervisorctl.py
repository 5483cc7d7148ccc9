# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unmodified supervisorctl of supervisor 4.3.0 says the same, and exits with the same code, in front of supervisord and of fcgivisord."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import signal
import subprocess

import pytest
from harness import PATIENCE, PYTHON_FOR_ALL, SLEEP, TOOLS, wait_for

# Waited results come in the order in which processes came to their end.
_RESULT = re.compile(r"[\w:-]+: (?:(?P<stop>stopped)|started|ERROR \(spawn error\))$")
TEXT = "".join(f"line {number:04d}\n" for number in range(300))


class Terminal:
    """supervisorctl in front of one supervisor, and all that it said, masked."""

    def __init__(self, witness):
        self.witness = witness
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "TERM": "dumb", "HOME": str(witness.directory)}

    def command(self, *words):
        return [str(TOOLS / "supervisorctl"), "-c", str(self.witness.supervisor.configuration), *words]

    def run(self, *words, input=None):
        done = subprocess.run(self.command(*words), env=self.environment, input=input, capture_output=True, text=True, timeout=PATIENCE, check=False)
        self.witness.note(" ".join(words), (done.returncode, tidy(self.witness, done.stdout), done.stderr))
        return done

    def open(self, *words):
        """One that goes on, such as tail -f."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(*words), env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)

    def until(self, process, words):
        """Its output, up to and including these words."""
        said, pipe = b"", process.stdout
        os.set_blocking(pipe.fileno(), False)

        def look():
            nonlocal said
            said += pipe.read() or b""
            return words.encode() in said

        wait_for(look, f"{words!r} from {process.args}, which said {said!r}")
        return said.decode()

    def interrupt(self, process):
        """Ctrl-C; what it said behind, and its exit code."""
        os.set_blocking(process.stdout.fileno(), True)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, rest.decode(), errors.decode()

    @staticmethod
    def end(process):
        """End one that has said that it exits: supervisorctl's fg does so when its thread wakes up next, within 30 s."""
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def _kind(line):
    """Of a line of supervisorctl: what a start, or a stop, that was waited for has come to; else empty."""
    match = _RESULT.match(line)
    return "" if match is None else match.group("stop") or "start"


def tidy(witness, text):
    """Without process IDs that stand alone, with prompts on lines of their own, and with each run of waited results in alphabetical order."""
    lines = re.sub(r"(supervisor> )+", "supervisor>\n", witness.masked(text)).split("\n")
    tidied = []
    for kind, run in itertools.groupby(lines, _kind):
        own = [re.sub(r"^[1-9]\d*$", "PID", line) for line in run]
        tidied += sorted(own) if kind else own
    return tidied


def configure(one):
    section = one.sections
    command = f"{PYTHON_FOR_ALL} -S {one.directory}/talk.py"
    text = f"import sys, time; sys.stdout.write({TEXT!r}); sys.stdout.flush(); sys.stderr.write('an error\\n'); sys.stderr.flush(); time.sleep(600)"
    (one.directory / "talk.py").write_text(text)
    section["program:web"] = {"command": command, "stdout_logfile": one.directory / "web.log", "stderr_logfile": one.directory / "web.err"}
    section["program:pool"] = {"command": SLEEP, "numprocs": 2, "process_name": "%(program_name)s_%(process_num)02d"}
    section["program:one"] = {"command": SLEEP}
    section["program:cat"] = {"command": "/bin/cat", "stdout_logfile": one.directory / "cat.log", "redirect_stderr": "true", "priority": 5}
    section["group:both"] = {"programs": "one,cat", "priority": 3}
    section["program:manual"] = {"command": SLEEP, "autostart": "false", "stdout_logfile": "NONE", "stderr_logfile": "NONE"}
    section["program:missing"] = {"command": "/nowhere/program", "autostart": "false"}
    (one.directory / "plain").write_text("no program")
    section["program:plain"] = {"command": one.directory / "plain", "autostart": "false"}
    # Its fault is the last one, and so the exit code, whenever its death is noticed.
    failing = {"command": "/bin/sh -c 'sleep 0.5; false'", "priority": 1000}
    section["program:failing"] = {**failing, "autostart": "false", "startsecs": 5, "startretries": 0}
    section["fcgi-program:shop"] = {"command": SLEEP, "socket": f"unix://{one.directory}/shop.sock"}


def run(pair, script, *differences):
    def with_terminal(witness):
        for name in ("web", "pool:pool_00", "pool:pool_01", "both:one", "both:cat", "shop"):
            witness.until(name, "RUNNING")
        witness.supervisor.wait_for_output("web", "line 0299")
        script(Terminal(witness))

    pair.configure(configure)
    pair.agree(with_terminal, *differences)


def change(one):
    """Another configuration: something is gone, something is new, something has changed."""
    sections = one.sections
    del sections["program:manual"]
    sections["program:web"]["stopsignal"] = "INT"
    sections["program:fresh"] = {"command": SLEEP}
    sections["program:later"] = {"command": SLEEP, "autostart": "false"}
    one.write()


STATUS = [
    "status", "status web", "status web:web pool:*", "status nobody", "status nobody:*", "status pool:nobody web", "status all", "status both:*",
    "status manual", "pid", "pid all", "pid web", "pid manual", "pid nobody", "pid web manual", "avail", "avail web", "help", "help status", "help nonsense",
    "nonsense", "nonsense web", "open nonsense", "version web",
]  # fmt: skip
ORDERS = [
    "start", "start web", "start manual", "start manual", "start nobody", "start nobody:*", "start missing", "start plain", "start failing", "stop",
    "stop manual", "stop manual", "stop nobody", "stop nobody:*", "stop pool:*", "stop pool:*", "start pool:*", "stop pool:pool_00 both:cat", "start all",
    "start all", "restart", "restart web", "restart pool:*", "restart nobody", "restart manual nobody", "signal", "signal HUP", "signal CONT web",
    "signal 18 web pool:*", "signal CONT all", "signal NONSENSE web", "signal CONT nobody", "signal CONT nobody:*", "signal CONT failing",
    "signal NONSENSE pool:*", "stop all", "stop all", "restart all",
]  # fmt: skip
LOGS = [
    "tail", "tail web", "tail -100 web", "tail -0 web", "tail web stdout", "tail web stderr", "tail -3 web stderr", "tail web nonsense", "tail -x web",
    "tail manual", "tail nobody", "tail a b c d", "tail -f", "maintail x", "maintail -x", "maintail a b", "clear", "clear nobody", "clear web", "tail web",
    "clear pool:pool_00 both:cat", "clear all", "clear manual", "fg", "fg nobody", "fg manual", "fg a b",
]  # fmt: skip


@pytest.mark.parametrize("commands", [STATUS, ORDERS, LOGS], ids=["status", "orders", "logs"])
def test_commands_have_the_same_texts_and_exit_codes(pair, commands):
    def script(terminal):
        for command in commands:
            terminal.run(*command.split())

    run(pair, script)


@pytest.mark.parametrize("commands", [STATUS, ORDERS, LOGS], ids=["status", "orders", "logs"])
def test_the_interactive_mode_says_the_same(pair, commands):
    def script(terminal):
        terminal.run("-i", input="\n".join([*commands, "", "exit"]) + "\n")
        terminal.run("-i", input="status\n")  # and the end of the input

    run(pair, script)


def test_a_new_configuration_is_reread_and_taken_on_step_by_step(pair):
    def script(terminal):
        terminal.run("reread")
        terminal.run("update")
        change(terminal.witness.supervisor)
        for command in (
            "reread",
            "avail",
            "reread x",
            "add",
            "add fresh",
            "add fresh",
            "add nobody",
            "remove web",
            "remove nobody",
            "stop manual",
            "remove manual",
        ):
            terminal.run(*command.split())
        terminal.witness.until("fresh", "RUNNING")
        for command in ("status", "update later", "update nobody", "update all", "update"):
            terminal.run(*command.split())
        terminal.witness.until("web", "RUNNING")
        terminal.run("status")

    run(pair, script)


def test_update_does_it_all_at_once(pair):
    def script(terminal):
        change(terminal.witness.supervisor)
        terminal.run("update")
        for name in ("web", "fresh"):
            terminal.witness.until(name, "RUNNING")
        terminal.run("status")
        terminal.run("reread")

    run(pair, script)


def test_a_broken_configuration_changes_nothing(pair):
    def script(terminal):
        one = terminal.witness.supervisor
        one.configuration.write_text(one.configuration.read_text().replace("numprocs=2", "numprocs=many"))
        done = terminal.run("reread")
        assert done.stdout.startswith("ERROR: CANT_REREAD: ")
        terminal.run("update")
        terminal.run("status")

    run(pair, script, "config-errors")


def test_reload_begins_anew(pair):
    def script(terminal):
        change(terminal.witness.supervisor)
        before = terminal.witness.supervisor.pids()
        terminal.run("reload", "x")
        terminal.run("reload")
        terminal.witness.supervisor.wait_for_restart(before["web"])
        for name in ("web", "pool:pool_00", "pool:pool_01", "both:one", "both:cat", "shop", "fresh"):
            terminal.witness.until(name, "RUNNING")
        terminal.run("status")

    run(pair, script)


def test_shutdown_ends_all(pair):
    def script(terminal):
        one = terminal.witness.supervisor
        children = one.children()
        terminal.run("shutdown", "x")
        terminal.run("shutdown")
        one.process.wait(PATIENCE)
        terminal.witness.note("left", (one.process.returncode, [pid for pid in children if pathlib.Path(f"/proc/{pid}").exists()], one.socket.exists()))
        for command in ("status", "shutdown", "start web", "pid"):
            terminal.run(*command.split())

    run(pair, script)


def test_shutdown_and_reload_ask_first_in_the_interactive_mode(pair):
    def script(terminal):
        terminal.run("-i", input="shutdown\nn\nreload\nn\nstatus\nexit\n")

    run(pair, script)


def test_tail_f_follows_a_program(pair):
    def script(terminal):
        following = terminal.open("tail", "-f", "both:cat")
        head = terminal.until(following, "<==\n")
        terminal.witness.supervisor.rpc.sendProcessStdin("both:cat", "first\n")
        head += terminal.until(following, "first\n")
        terminal.witness.supervisor.rpc.sendProcessStdin("both:cat", "second\n")
        head += terminal.until(following, "second\n")
        terminal.witness.note("tail -f", (head, terminal.interrupt(following)))

    run(pair, script)


@pytest.mark.parametrize("arguments", [("web",), ("web", "stderr"), ("web", "stdout")])
def test_tail_f_begins_with_the_last_kilobyte(pair, arguments):
    last = "an error\n" if "stderr" in arguments else "line 0299\n"

    def script(terminal):
        following = terminal.open("tail", "-f", *arguments)
        head = terminal.until(following, last)
        terminal.witness.note("tail -f", (head, terminal.interrupt(following)))

    run(pair, script)


def test_tail_f_of_nothing(pair):
    def script(terminal):
        for name in ("nobody", "manual"):
            following = terminal.open("tail", "-f", name)
            said, errors = following.communicate(timeout=PATIENCE)
            terminal.witness.note("tail -f", (said.decode(), errors.decode(), following.returncode))

    run(pair, script)


def test_maintail_shows_the_end_of_the_main_log(pair):
    def script(terminal):
        one = terminal.witness.supervisor
        done = subprocess.run(terminal.command("maintail", "-200"), env=terminal.environment, capture_output=True, timeout=PATIENCE, check=False)
        # Its own call may have been logged since.
        assert done.stdout[:-1] in one.log.read_bytes()
        terminal.witness.note("maintail -200", (done.returncode, len(done.stdout)))
        following = terminal.open("maintail", "-f")
        terminal.until(following, "entered RUNNING state")
        one.rpc.stopProcess("web")
        terminal.until(following, "stopped: web (terminated by SIGTERM)")
        terminal.witness.note("maintail -f", terminal.interrupt(following)[0])
        one.rpc.clearLog()
        one.log.unlink()
        terminal.run("maintail")

    run(pair, script)


def test_fg_shows_the_output_and_passes_the_input_on(pair):
    def script(terminal):
        foreground = terminal.open("fg", "both:cat")
        head = terminal.until(foreground, "<==\n")
        foreground.stdin.write("hällo\n".encode())
        head += terminal.until(foreground, "llo\n")
        foreground.stdin.close()
        head += terminal.until(foreground, "Exiting foreground")
        terminal.witness.note("fg", head)
        terminal.end(foreground)

    run(pair, script)


def test_fg_ends_when_its_program_does(pair):
    def script(terminal):
        foreground = terminal.open("fg", "both:cat")
        head = terminal.until(foreground, "<==\n")
        terminal.witness.supervisor.rpc.stopProcess("both:cat")
        foreground.stdin.write(b"too late\n")
        head += terminal.until(foreground, "Exiting foreground\n")
        terminal.witness.note("fg", head)
        terminal.end(foreground)

    run(pair, script)


def test_open_goes_to_another_supervisor(pair):
    def script(terminal):
        one = terminal.witness.supervisor
        terminal.run("-s", "unix:///nowhere/at.all", "status")
        terminal.run("-s", "unix:///nowhere/at.all", "-i", input=f"open unix://{one.socket}\nopen http://127.0.0.1:1\nopen ftp://x\nexit\n")

    run(pair, script)


def test_version_names_both(pair):
    pair.ours.start()
    assert re.fullmatch(r"4\.3\.0\+fcgivisord\.\d+\.\d+\.\d+\n", pair.ours.ctl("version").stdout)
