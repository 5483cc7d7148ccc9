# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisorctl: all that supervisorctl does with the same texts and exit codes, and what is new."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile

import command_line
import pytest
from command_line import Terminal, ctl
from fcgivisor.diagnosis import start_command, who_may
from harness import OURS, PATIENCE, PYTHON, PYTHON_FOR_ALL, THEIRS, Supervisor, wait_for
from ports import free_port

BEATING = """
import os, socket, time
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
address = os.environ["NOTIFY_SOCKET"]
notify.connect("\\0" + address[1:] if address[0] == "@" else address)
while True:
    notify.send(b"WATCHDOG=1")
    time.sleep(0.5)
"""


@pytest.fixture
def in_a_place_of_its_own(tmp_path, monkeypatch):
    """Where a configuration is found that says nothing, before this machine's, by a command that is not told of any."""
    (tmp_path / "supervisord.conf").write_text("[supervisorctl]\n")
    monkeypatch.chdir(tmp_path)


without_configuration = pytest.mark.usefixtures("in_a_place_of_its_own")


@pytest.fixture(params=[OURS, THEIRS])
def either(request, directory):
    """fcgivisord and supervisord, not started yet."""
    made = Supervisor(directory, request.param)
    yield made
    made.end()


# As supervisorctl

# What is run before, and the command whose text and exit code are compared.
SAME = [
    ("", "status"),
    ("", "status all"),
    ("", "status shop:*"),
    ("", "status shop:"),
    ("", "status mail shop:shop_01"),
    ("", "status nothing"),
    ("", "status nothing:*"),
    ("", "status shop"),
    ("", "status mail nothing"),
    ("stop mail", "status mail"),
    ("stop mail", "start mail"),
    ("start mail", "start mail"),
    ("stop all", "start all"),
    ("", "start all"),
    ("stop shop:*", "start shop:*"),
    ("start shop:*", "start shop:*"),
    ("", "start"),
    ("", "start nothing"),
    ("", "start nothing:*"),
    ("", "start broken"),
    ("", "start missing"),
    ("start mail", "stop mail"),
    ("stop mail", "stop mail"),
    ("start all", "stop shop:* mail"),
    ("start all", "stop all"),
    ("", "stop"),
    ("", "stop nothing"),
    ("", "stop nothing:*"),
    ("start all", "restart mail"),
    ("stop mail", "restart mail"),
    ("start all", "restart shop:*"),
    ("", "restart"),
    ("", "restart nothing"),
    ("start all", "signal HUP none"),
    ("start all", "signal CONT mail"),
    ("start all", "signal CONT shop:*"),
    ("start all", "signal CONT nothing:*"),
    ("start all", "signal CONT all"),
    ("start all", "signal NONSENSE mail"),
    ("stop mail", "signal CONT mail"),
    ("", "signal HUP"),
    ("", "clear mail"),
    ("", "clear mail shop:shop_00"),
    ("", "clear all"),
    ("", "clear nothing"),
    ("", "clear"),
    ("", "pid"),
    ("stop mail", "pid mail"),
    ("", "pid nothing"),
    ("", "tail loud"),
    ("", "tail -5 loud"),
    ("", "tail loud stderr"),
    ("", "tail loud nonsense"),
    ("", "tail -x loud"),
    ("", "tail nothing"),
    ("", "tail"),
    ("", "maintail -x"),
    ("", "maintail x"),
    ("", "avail"),
    ("", "avail x"),
    ("", "reread"),
    ("", "add nothing"),
    ("", "add mail"),
    ("", "remove nothing"),
    ("start mail", "remove mail"),
    ("", "version"),
    ("", "nonsense"),
    ("", "fg"),
    ("", "fg nothing"),
    ("stop mail", "fg mail"),
    ("", "open ftp://nowhere"),
]


@pytest.fixture(scope="module", params=[OURS, THEIRS])
def busy(request):
    """A supervisor with programs of all kinds, shared by the comparisons."""
    directory = tempfile.mkdtemp(prefix="fcgivisor-")
    made = Supervisor(directory, request.param).pool("shop", 2).program("mail")
    # supervisord looks once a second: what ends at once may have lived for one, to it. It may also notice the death at once, or later: the last one
    # in its order has the last fault either way, which is supervisorctl's exit code.
    made.program("broken", command="/bin/false", startsecs=5, startretries=0, autostart="false", priority=1000)
    made.program("missing", command="/nowhere/to/be/found", autostart="false")
    made.program("loud", command="/bin/sh -c 'echo loud words; exec sleep 600'", redirect_stderr="false", stderr_logfile="NONE")
    made.start()
    made.wait_for_output("loud", "loud words")
    yield made
    made.end()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize(("before", "words"), SAME, ids=[f"{words} after {before}" if before else words for before, words in SAME])
def test_texts_and_exit_codes_are_those_of_supervisorctl(busy, before, words):
    if before:
        busy.ctl(*before.split())
    theirs = busy.ctl(*words.split())
    if before:
        busy.ctl(*before.split())
    ours = ctl(busy, *words.split())
    assert ours.returncode == theirs.returncode, (ours, theirs)
    if theirs.stdout.startswith(("Error:", "ERROR: no process", "ERROR: bad", "ERROR: url", "ERROR: process not", "***")):
        # What concerns the command as a whole is on stderr, and may say more.
        assert ours.stderr.startswith(theirs.stdout.splitlines()[0]), (ours, theirs)
        return
    # Errors have a hint behind them; columns of the status have other widths, and more behind them; processes have just been restarted.
    order = sorted if words.startswith(("start", "stop", "restart")) else list
    told, expected = order(map(_plain, ours.stdout.splitlines())), order(map(_plain, theirs.stdout.splitlines()))
    assert len(told) == len(expected), (ours, theirs)
    for mine, other in zip(told, expected):
        assert mine.startswith(other), (ours, theirs)


def _plain(line):
    words = line.split()
    return " ".join("TIME" if ":" in word and word.replace(":", "").isdigit() else word for word in words)


def test_status_tells_restarts_and_memory_and_heartbeats(supervisor):
    supervisor.program("worker", autorestart="true")
    script = supervisor.directory / "beating.py"
    script.write_text(BEATING)
    supervisor.program("beating", command=f"{PYTHON_FOR_ALL} {script}", heartbeat=1, heartbeat_tolerance=30).start()
    os.kill(supervisor.pid("worker"), signal.SIGKILL)
    wait_for(lambda: "restarts 1" in ctl(supervisor, "status", "worker").stdout, "the restart to be counted")
    worker = ctl(supervisor, "status", "worker").stdout
    assert worker.startswith("worker  RUNNING  pid ")
    assert worker.split()[-1][-1] in "KM"
    wait_for(lambda: "heartbeat 0s ago" in ctl(supervisor, "status", "beating").stdout, "a heartbeat")


def test_status_of_supervisord_has_the_words_of_supervisorctl(directory):
    theirs = Supervisor(directory, THEIRS).pool("shop", 2).program("idle", autostart="false").start()
    try:
        lines = ctl(theirs, "status").stdout.splitlines()
        assert lines[0].split() == ["idle", "STOPPED", "Not", "started"]
        assert [line.split()[:3] for line in lines[1:]] == [["shop:shop_00", "RUNNING", "pid"], ["shop:shop_01", "RUNNING", "pid"]]
    finally:
        theirs.end()


# Names


def test_patterns_choose_processes_and_groups(either):
    either.pool("shop", 2).pool("shelf", 2).program("mail").start()
    assert ctl(either, "stop", "sh*").stdout.count(": stopped") == 4
    assert either.state("mail") == "RUNNING"
    assert ctl(either, "start", "*_01").stdout.splitlines() == ["shelf:shelf_01: started", "shop:shop_01: started"]
    assert [line.split()[:2] for line in ctl(either, "status", "shop:*_0?").stdout.splitlines()] == [["shop:shop_00", "STOPPED"], ["shop:shop_01", "RUNNING"]]
    nothing = ctl(either, "stop", "x*")
    assert (nothing.returncode, nothing.stdout) == (1, "x*: ERROR (no process has such a name)\n")


def test_a_wrong_name_is_answered_with_the_right_one(either):
    either.pool("shop", 2).program("mail").start()
    assert ctl(either, "stop", "mial").stdout == "mial: ERROR (no such process); did you mean mail?\n"
    assert ctl(either, "stop", "shop").stdout == "shop: ERROR (no such process); it is a group: did you mean shop:*?\n"
    assert ctl(either, "stop", "shop_01").stdout == "shop_01: ERROR (no such process); did you mean shop:shop_01?\n"
    assert "did you mean status?" in ctl(either, "statsu").stderr


def test_a_failed_start_says_why(supervisor):
    supervisor.program("broken", command="/bin/false", startsecs=1, startretries=0, autostart="false").start()
    started = ctl(supervisor, "start", "broken")
    assert (started.returncode, started.stdout.strip()) == (7, "broken: ERROR (spawn error): Exited too quickly (process log may have details)")


# update


def test_a_dry_run_of_update_tells_the_steps_and_takes_none(supervisor):
    supervisor.pool("shop", 2).program("mail").program("old").start()
    before = supervisor.pids()
    supervisor.pool("shop", 3).program("mail", environment='A="1"').program("new")
    del supervisor.sections["program:old"]
    supervisor.write()
    told = ctl(supervisor, "update", "--dry-run")
    assert told.returncode == 0
    assert told.stdout.splitlines() == [
        "mail: would be updated",
        "  mail  restart  environment",
        "new: would be added",
        "  new  add",
        "old: would be removed",
        "  old  stop and remove",
        "shop: would be updated",
        "  shop:shop_02  add",
        "Nothing has been changed (--dry-run).",
    ]
    assert supervisor.pids() == before


def test_update_changes_processes_and_leaves_their_siblings_alone(supervisor):
    supervisor.pool("shop", 2).program("mail").program("old").start()
    before = supervisor.pids()
    supervisor.pool("shop", 3).program("mail", environment='A="1"', stopwaitsecs=3)
    del supervisor.sections["program:old"]
    supervisor.write()
    told = ctl(supervisor, "update")
    assert told.returncode == 0
    assert told.stdout.splitlines() == [
        "mail: updated process group",
        "  mail  restarted  environment, stopwaitsecs",
        "old: removed process group",
        "  old  stopped and removed",
        "shop: updated process group",
        "  shop:shop_02  added",
    ]
    after = supervisor.pids()
    assert sorted(after) == ["mail", "shop_00", "shop_01", "shop_02"]
    assert (after["shop_00"], after["shop_01"]) == (before["shop_00"], before["shop_01"])
    assert after["mail"] != before["mail"]
    assert ctl(supervisor, "update").stdout == "No config updates to processes\n"


def test_update_of_some_groups_leaves_the_others_as_they_are(supervisor):
    supervisor.program("shop").program("shelf").program("mail").start()
    for name in ("shop", "shelf", "mail"):
        supervisor.program(name, environment='A="1"')
    supervisor.write()
    before = supervisor.pids()
    told = ctl(supervisor, "update", "sh*", "mial")
    assert told.returncode == 1
    assert told.stdout.splitlines()[0] == "ERROR: no such group: mial; did you mean mail?"
    after = supervisor.pids()
    assert after["mail"] == before["mail"]
    assert after["shop"] != before["shop"]
    assert after["shelf"] != before["shelf"]


def test_update_comes_back_when_all_that_is_new_runs(supervisor):
    supervisor.program("mail").start()
    supervisor.pool("shop", 40, startsecs=1)
    supervisor.write()
    assert ctl(supervisor, "update").returncode == 0
    assert {info["statename"] for info in supervisor.rpc.getAllProcessInfo()} == {"RUNNING"}


def test_update_tells_of_a_new_process_that_does_not_run(supervisor):
    supervisor.program("mail").start()
    supervisor.program("broken", command="/bin/false", startsecs=1, startretries=0)
    supervisor.write()
    told = ctl(supervisor, "update")
    assert told.returncode == 7
    assert told.stdout.splitlines()[-1] == "broken: ERROR (abnormal termination): Exited too quickly (process log may have details)"


def test_update_of_a_program_into_another_kind_replaces_it(supervisor):
    supervisor.program("shop", autorestart="true").program("other").start()
    before = supervisor.pids()
    del supervisor.sections["program:shop"]
    supervisor.fcgi("shop").write()
    told = ctl(supervisor, "update")
    assert told.stdout.splitlines() == ["shop: updated process group", "  shop  stopped and removed", "  shop  added"]
    assert supervisor.state("shop") == "RUNNING"
    assert supervisor.pid("shop") != before["shop"]
    assert (supervisor.directory / "shop.sock").exists()


def test_update_forgets_what_had_stopped_long_ago(supervisor):
    supervisor.program("old", autostart="false").program("mail").start()
    del supervisor.sections["program:old"]
    supervisor.write()
    assert ctl(supervisor, "update").stdout.splitlines() == ["old: removed process group", "  old  stopped and removed"]
    assert sorted(supervisor.pids()) == ["mail"]


def test_update_of_a_wrong_configuration_names_file_and_line(supervisor):
    supervisor.program("mail").start()
    supervisor.program("mail", numprocs="many")
    supervisor.write()
    told = ctl(supervisor, "update")
    assert told.returncode == 1
    assert f"{supervisor.configuration}:" in told.stderr
    assert "numprocs: 'many' is not a whole number" in told.stderr


def test_update_of_supervisord_goes_as_supervisorctl_does(directory):
    theirs = Supervisor(directory, THEIRS).program("shop").program("old").start()
    try:
        theirs.program("shop", environment='A="1"').program("new")
        del theirs.sections["program:old"]
        theirs.write()
        before = theirs.pids()
        dry = ctl(theirs, "update", "--dry-run")
        assert sorted(dry.stdout.splitlines()) == ["new: would be added as a whole", "old: would be removed as a whole", "shop: would be updated as a whole"]
        assert theirs.pids() == before
        told = ctl(theirs, "update")
        assert told.returncode == 0
        assert told.stdout.splitlines() == [
            "old: stopped",
            "old: removed process group",
            "shop: stopped",
            "shop: updated process group",
            "new: added process group",
        ]
    finally:
        theirs.end()


# JSON


ANSWERS = """
    status, status shop:*, status nothing, stop mail, start mail, restart mail, start nothing, signal CONT mail, clear all, pid, pid all, tail loud, maintail,
    avail, reread, update, update --dry-run, add nothing, remove mail, version, help, help status, top --once, nonsense, start
"""


def test_json_is_one_document_whatever_happens_with_the_usual_exit_code(busy):
    for words in ANSWERS.split(","):
        plain, told = ctl(busy, *words.split()), ctl(busy, "--json", *words.split())
        assert told.returncode == plain.returncode, words
        assert json.loads(told.stdout) is not None, words
        assert told.stderr == "", words
    endless = ctl(busy, "--json", "tail", "-f", "mail")
    assert endless.returncode == 2
    assert "has no end" in json.loads(endless.stdout)["error"]


def test_json_of_the_status_holds_what_the_table_holds(supervisor):
    supervisor.program("mail").program("idle", autostart="false").start()
    idle, mail = json.loads(ctl(supervisor, "status", "--json").stdout)
    assert (idle["name"], idle["state"], idle["pid"]) == ("idle", "STOPPED", None)
    assert (mail["pid"], mail["restarts"], mail["heartbeat_age"]) == (supervisor.pid("mail"), 0, None)
    assert mail["memory"] > 0


@without_configuration
def test_json_of_an_error_is_a_document_too(directory):
    told = command_line.run("--json", "-s", f"unix://{directory}/none.sock", "start", "mail")
    assert told.returncode == 7
    assert "no such file" in json.loads(told.stdout)["error"]


# A supervisor that cannot be reached


@without_configuration
def test_a_supervisor_that_does_not_run_is_named_with_the_way_out(directory):
    url = f"unix://{directory}/none.sock"
    for words, code in (("start mail", 7), ("status", 4), ("reread", 7)):
        told = command_line.run("-s", url, *words.split())
        assert told.returncode == code
        assert told.stderr.startswith(f"{url} no such file: the supervisor is not running")
        assert "To start it:" in told.stderr


@without_configuration
def test_a_socket_without_a_supervisor_refuses_as_supervisorctl_says(directory):
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(f"{directory}/dead.sock")
    told = command_line.run("-s", f"unix://{directory}/dead.sock", "pid")
    assert told.returncode == 4
    assert told.stderr.startswith(f"unix://{directory}/dead.sock refused connection")


def test_the_service_to_start_is_the_one_that_names_the_configuration(directory):
    assert start_command("/etc/a.conf", root=directory) == "fcgivisord -c /etc/a.conf"
    units = f"{directory}/etc/systemd/system"
    os.makedirs(units)
    os.makedirs(f"{directory}/etc/init.d")
    for name, configuration in (("fcgivisord", "/etc/b.conf"), ("supervisor", "/etc/a.conf")):
        with open(f"{units}/{name}.service", "w", encoding="utf-8") as file:
            file.write(f"[Service]\nExecStart=/usr/bin/x -c {configuration}\n")
    assert start_command("/etc/a.conf", root=directory) == "service supervisor start"
    os.makedirs(f"{directory}/run/systemd/system")
    assert start_command("/etc/a.conf", root=directory) == "systemctl start supervisor"
    assert start_command(None, root=directory) == "systemctl start fcgivisord"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody whom the socket refuses")
def test_who_may_is_said_to_whom_may_not(supervisor):
    supervisor.start()
    os.chown(supervisor.socket, 0, 4)
    for path, mode, expected in ((supervisor.socket, 0o700, "root may; you are"), (supervisor.socket, 0o770, "root and the members of the group ")):
        os.chmod(path, mode)
        assert expected in _as_nobody(lambda: who_may(str(supervisor.socket), stat.S_IWOTH))
    os.chmod(supervisor.directory, 0o700)
    assert f"{supervisor.directory} belongs to root:" in _as_nobody(lambda: who_may(str(supervisor.socket), stat.S_IWOTH))


def _as_nobody(function):
    """What a function returns in a process of nobody's."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(writing, function().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


@without_configuration
def test_something_else_behind_the_socket_is_said_to_be_no_supervisor(directory):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{directory}/other.sock")
        listening.listen()
        running = subprocess.Popen(
            [*command_line.COMMAND, "-s", f"unix://{directory}/other.sock", "pid"], stderr=subprocess.PIPE, text=True, env=command_line.environment()
        )
        client, _address = listening.accept()
        request = b""
        while b"</methodCall>" not in request:
            request += client.recv(65536)
        client.sendall(b"220 mail.example.org ESMTP\r\n")
        client.close()
        _out, told = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert "what answers there is no supervisor" in told


# Where it listens


def test_a_password_is_asked_for_in_words_and_taken_from_options_or_file(directory):
    made = Supervisor(directory, OURS).program("mail")
    made.sections["unix_http_server"].update(username="chef", password="{SHA}82ab876d1387bfafe46cc1c8a2ef074eae50cb1d")
    made.write()
    made.process = subprocess.Popen(made.command("-n", "-c", made.configuration), env=made.environment(), stdout=subprocess.DEVNULL)
    try:
        wait_for(made.socket.exists, "its socket")
        refused = ctl(made, "pid")
        assert refused.returncode == 1
        assert refused.stderr.startswith("Server requires authentication: give -u USER and -p PASSWORD")
        assert ctl(made, "-u", "chef", "-p", "thepassword", "pid").stdout == f"{made.process.pid}\n"
        made.sections["supervisorctl"].update(username="chef", password="thepassword")
        made.write()
        assert ctl(made, "pid").stdout == f"{made.process.pid}\n"
    finally:
        made.end()


def test_only_the_section_supervisorctl_is_read(supervisor):
    supervisor.program("mail").start()
    supervisor.program("foreign", user="nobody-has-this-name", command="%(ENV_NOT_SET)s", numprocs="many")
    supervisor.sections["supervisorctl"]["serverurl"] = "unix://%(here)s/%(ENV_SOCKET_NAME)s"
    supervisor.write()
    assert ctl(supervisor, "pid", "mail", SOCKET_NAME="rpc.sock").stdout == f"{supervisor.pid('mail')}\n"
    unset = ctl(supervisor, "pid", "mail")
    assert unset.returncode == 2
    assert "[supervisorctl] serverurl: %(ENV_SOCKET_NAME)s cannot be expanded" in unset.stderr


def test_without_a_section_supervisorctl_the_servers_own_section_tells_the_place(supervisor):
    del supervisor.sections["supervisorctl"]
    supervisor.start()
    assert ctl(supervisor, "pid").stdout == f"{supervisor.process.pid}\n"


def test_the_configuration_is_looked_for_where_supervisorctl_looks(supervisor):
    supervisor.start()
    assert command_line.run("pid", cwd=supervisor.directory).stdout == f"{supervisor.process.pid}\n"


@without_configuration
def test_it_talks_http_too(supervisor):
    port = free_port()
    supervisor.sections["inet_http_server"] = {"port": f"127.0.0.1:{port}"}
    supervisor.program("mail").start()
    assert command_line.run("-s", f"http://127.0.0.1:{port}", "pid", "mail").stdout == f"{supervisor.pid('mail')}\n"


@without_configuration
def test_a_wrong_command_line_is_told_in_one_sentence(directory):
    for words in (["--nonsense"], ["-s", "ftp://nowhere", "pid"], ["-c", f"{directory}/none.conf", "pid"], ["-s", "http://a:port", "pid"]):
        told = command_line.run(*words)
        assert (told.returncode, told.stdout) == (2, "")
        assert told.stderr.startswith("Error: ")
        assert "Traceback" not in told.stderr


# Logs and the foreground


def test_a_followed_log_goes_on_until_ctrl_c(either):
    either.program("echo", command="/bin/cat").start()
    running = subprocess.Popen(
        [*command_line.COMMAND, "-c", str(either.configuration), "tail", "-f", "echo"], stdout=subprocess.PIPE, text=True, env=command_line.environment()
    )
    either.rpc.sendProcessStdin("echo", "first words\n")
    assert running.stdout.readline() == "first words\n"
    either.rpc.sendProcessStdin("echo", "second words\n")
    assert running.stdout.readline() == "second words\n"
    running.send_signal(signal.SIGINT)
    assert running.wait(PATIENCE) == 0
    running.stdout.close()


def test_the_foreground_talks_to_a_process(either):
    either.program("echo", command="/bin/cat").start()
    running = subprocess.Popen(
        [*command_line.COMMAND, "-c", str(either.configuration), "fg", "echo"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=command_line.environment(),
    )  # fmt: skip
    running.stdin.write("hello\n")
    running.stdin.flush()
    assert running.stdout.readline() == "hello\n"
    running.stdin.close()
    assert running.stdout.readline() == "Exiting foreground\n"
    assert running.wait(PATIENCE) == 0
    running.stdout.close()


def test_the_foreground_ends_with_its_process(supervisor):
    supervisor.program("echo", command="/bin/cat").start()
    running = subprocess.Popen(
        [*command_line.COMMAND, "-c", str(supervisor.configuration), "fg", "echo"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command_line.environment(),
    )  # fmt: skip
    assert running.stderr.readline() == "==> Press Ctrl-C to exit <==\n"
    supervisor.rpc.stopProcess("echo")
    assert running.stdout.read() == "Process got killed\nExiting foreground\n"
    running.communicate(timeout=PATIENCE)


def test_a_reader_that_goes_away_is_no_error(supervisor):
    supervisor.pool("shop", 200, autostart="false").start()
    script = f"{PYTHON} -m fcgivisor.ctl -c {supervisor.configuration} avail | head -n 1"
    told = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False, env=command_line.environment())
    assert len(told.stdout.splitlines()) == 1
    assert told.stderr == ""


# The shell


def test_the_shell_does_one_command_after_the_other(either):
    either.program("mail").start()
    told = ctl(either, input="stop mail\nnonsense\n\nstart mail\npid mail\nquit\nstop mail\n")
    assert told.returncode == 0
    assert "mail: stopped\n" in told.stdout
    assert f"mail: started\nsupervisor> {either.pid('mail')}\n" in told.stdout
    assert either.state("mail") == "RUNNING"


def test_the_shell_completes_actions_and_names_and_keeps_its_history(supervisor):
    history = supervisor.directory / "history"
    supervisor.sections["supervisorctl"].update(history_file=history, prompt="kitchen")
    supervisor.pool("shop", 2).program("mail").start()
    terminal = Terminal("-c", supervisor.configuration, INPUTRC="/dev/null")
    terminal.wait_for("kitchen> ", "the prompt")
    assert "fcgivisord" in terminal.say("vers\t\n")
    assert f"\n{supervisor.pid('mail')}\r" in terminal.say("pid ma\t\n")
    assert "shop:shop_01: stopped" in terminal.say("stop shop:shop_01\t\n")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert history.read_text().splitlines() == ["version ", "pid mail ", "stop shop:shop_01 "]


def test_the_shell_asks_before_it_shuts_the_supervisor_down(supervisor):
    supervisor.start()
    terminal = Terminal("-c", supervisor.configuration)
    terminal.wait_for("supervisor> ", "the prompt")
    terminal.type("shutdown\n")
    terminal.wait_for("y/N? ", "the question")
    terminal.say("n\n")
    assert f"\n{supervisor.process.pid}\r" in terminal.say("pid\n")
    terminal.forget()
    terminal.type("shutdown\n")
    terminal.wait_for("y/N? ", "the question")
    assert "Shut down" in terminal.say("y\n")
    terminal.type("quit\n")
    assert terminal.end() == 0
    assert supervisor.process.wait(PATIENCE) == 0


@without_configuration
def test_the_shell_outlives_its_supervisor_and_goes_on_with_another(supervisor, directory):
    supervisor.start()
    terminal = Terminal("-s", f"unix://{directory}/none.sock")
    terminal.wait_for("supervisor> ", "the prompt")
    assert "no such file: the supervisor is not running" in terminal.text
    terminal.say(f"open unix://{supervisor.socket}\n")
    assert f"\n{supervisor.process.pid}\r" in terminal.say("pid\n")
    terminal.type("exit\n")
    assert terminal.end() == 0
