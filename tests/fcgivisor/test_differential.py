# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same configuration and the same calls have the same answers from supervisord 4.3.0 and from fcgivisord, but for differences.py."""

from __future__ import annotations

import os
import pwd
import re

import pytest
from differences import EXCUSES, UNSEEN
from harness import CHECKOUT, PYTHON_FOR_ALL, SLEEP, wait_for

PYTHON = PYTHON_FOR_ALL
# startsecs of programs that end at once: supervisord, which looks once a second, may take them for programs that lived 1 s.
DEAD_AT_ONCE = 5


def test_the_documented_table_and_the_exceptions_of_the_tests_are_the_same():
    table = (CHECKOUT / "docs" / "fcgivisord-differences.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == [*EXCUSES, *UNSEEN]


def program(supervisor, name, head="program", **keys):
    """A section with these keys alone, so that both supervisors' defaults are compared too."""
    supervisor.sections[f"{head}:{name}"] = {"command": SLEEP, **keys}


def test_a_plain_program_is_told_of_stopped_and_started(pair):
    pair.configure(lambda one: program(one, "web"))

    def script(one):
        one.until("web", "RUNNING")
        one.calls("getAllProcessInfo", "getAllConfigInfo", "getState")
        for name in ("web", "web:web", "web:*", "web:", "nobody", "web:nobody", ":", "", "a:b:c", "*"):
            one.call("getProcessInfo", name)
        one.call("startProcess", "web")
        one.call("stopProcess", "web")
        one.call("getProcessInfo", "web")
        one.call("stopProcess", "web")
        one.call("startProcess", "web", False)
        one.call("getProcessInfo", "web")
        one.call("stopProcess", "web", False)
        one.until("web", "STOPPED")
        one.call("startProcess", "web", True)
        one.call("getProcessInfo", "web")
        for name in ("nobody", "web:nobody", "nobody:*"):
            for method in ("startProcess", "stopProcess", "startProcessGroup", "stopProcessGroup"):
                one.call(method, name)

    pair.agree(script, "config-info")


def test_every_method_refuses_wrong_arguments_alike(pair):
    pair.configure(lambda one: program(one, "web"))

    def script(one):
        one.until("web", "RUNNING")
        for method in one.supervisor.server.system.listMethods():
            if method.startswith("fcgivisor."):
                continue
            one.call(method, *["web"] * 5)
            if not method.startswith("system.") and one.supervisor.server.system.methodSignature(method)[1:]:
                one.call(method)
        for method in (
            "supervisor.nothing",
            "supervisor",
            "supervisor._update",
            "supervisor.supervisord.options",
            "system.__init__",
            "nothing.getState",
            "a.b.c",
        ):
            one.call(method)

    def same_calls(one):
        methods = [name for name in one.supervisor.server.system.listMethods() if not name.startswith("fcgivisor.")]
        one.note("methods", methods)
        script(one)

    pair.agree(same_calls)


def test_types_that_a_method_does_not_expect(pair):
    pair.configure(lambda one: program(one, "web"))

    def script(one):
        one.until("web", "RUNNING")
        one.call("signalProcess", "web", 18)
        one.call("signalProcess", "web", "18")
        one.call("readProcessStdoutLog", "web", "0", "0")
        one.call("tailProcessStdoutLog", "web", "0", "10")
        one.call("sendProcessStdin", "web", 5)
        one.call("stopProcess", "web", 1)
        one.call("startProcess", "web", 0)
        one.call("getProcessInfo", 5)
        one.call("getProcessInfo", ["web"])
        one.call("startProcess", True)

    pair.agree(script, "wrong-types")


def test_introspection(pair):
    pair.configure(lambda one: program(one, "web"))

    def script(one):
        one.call("system.listMethods")
        for method in (name for name in one.supervisor.server.system.listMethods() if not name.startswith("fcgivisor.")):
            one.call("system.methodSignature", method)
            one.call("system.methodHelp", method)
        for method in ("supervisor.nothing", "nothing", "", "supervisor._update"):
            one.call("system.methodSignature", method)
        one.calls("getAPIVersion", "getVersion", "getSupervisorVersion", "getIdentification")

    pair.agree(script, "methods", "method-help", "version")


def test_multicall(pair):
    pair.configure(lambda one: program(one, "web", startsecs=0))

    def script(one):
        one.until("web", "RUNNING")
        one.call("system.multicall", [])
        one.call(
            "system.multicall",
            [
                {"methodName": "supervisor.getAPIVersion", "params": []},
                {"methodName": "supervisor.getState"},
                {"methodName": "supervisor.stopProcess", "params": ["web"]},
                {"methodName": "supervisor.stopProcess", "params": ["web"]},
                {"methodName": "supervisor.startProcess", "params": ["web"]},
                {"methodName": "supervisor.getProcessInfo", "params": ["web"]},
                {"methodName": "supervisor.getProcessInfo", "params": []},
                {"methodName": "supervisor.nothing", "params": []},
                {"methodName": "nothing"},
                {"params": []},
                {},
                {"methodName": "system.multicall", "params": [[]]},
                {"methodName": "system.listMethods", "params": [1]},
            ],
        )
        one.call("system.multicall", [{"methodName": "supervisor.getProcessInfo", "params": [5]}, {"methodName": "supervisor.getState", "params": "x"}])

    pair.agree(script, "multicall-errors")


def test_pools_and_groups(pair):
    def configure(one):
        program(one, "pool", numprocs=3, process_name="%(program_name)s_%(process_num)02d", startsecs=0, priority=5)
        program(one, "late", numprocs=2, numprocs_start=8, process_name="%(group_name)s-%(process_num)d", autostart="false", startsecs=0)
        program(one, "one", startsecs=0, priority=20)
        program(one, "two", startsecs=0, priority=10, stopsignal="INT")
        one.sections["group:both"] = {"programs": "one, two", "priority": 1}

    pair.configure(configure)

    def script(one):
        for name in ("pool:pool_02", "both:one", "both:two"):
            one.until(name, "RUNNING")
        one.calls("getAllProcessInfo", "getAllConfigInfo", "startAllProcesses", "getAllProcessInfo")
        one.call("stopProcessGroup", "both")
        one.call("startProcessGroup", "both")
        one.call("startProcess", "pool:*")
        one.call("stopProcess", "pool:*")
        one.call("startProcess", "pool:pool_01")
        one.call("signalProcessGroup", "pool", "CONT")
        one.call("startProcessGroup", "pool", False)
        one.call("signalProcessGroup", "pool", "nonsense")
        one.call("signalProcess", "both:*", "CONT")
        one.call("signalProcess", "both:one", "SIGCONT")
        one.call("signalProcess", "both:one", "NOSIG")
        one.call("signalProcess", "both:nobody", "CONT")
        one.call("signalAllProcesses", "CONT")
        one.call("clearProcessLogs", "both:*")
        one.calls("clearAllProcessLogs", "stopAllProcesses", "stopAllProcesses")
        one.call("signalAllProcesses", "CONT")
        one.call("signalProcess", "both:one", "CONT")
        one.calls("getAllProcessInfo")
        one.call("startAllProcesses", False)
        one.call("stopAllProcesses", False)

    pair.agree(script, "config-info")


def test_commands_that_cannot_run(pair):
    def configure(one):
        (one.directory / "plain").write_text("no program")
        (one.directory / "folder").mkdir()
        script = one.directory / "nothing"
        script.write_text("#!/nowhere/interpreter\n")
        script.chmod(0o755)
        program(one, "missing", command="/nowhere/program --option", autostart="false")
        program(one, "unknown", command="no-such-program-anywhere", autostart="false")
        program(one, "plain", command=one.directory / "plain", autostart="false")
        program(one, "folder", command=one.directory / "folder", autostart="false")
        program(one, "unclosed", command="'/bin/sleep 600", autostart="false")
        program(one, "quick", command="/bin/true", startretries=0, startsecs=DEAD_AT_ONCE, autostart="false")
        program(one, "failing", command="/bin/false", startretries=0, startsecs=DEAD_AT_ONCE, autostart="false")
        program(one, "late", command="/nowhere/program", startretries=0, startsecs=DEAD_AT_ONCE)
        program(one, "script", command=script, startretries=0, startsecs=DEAD_AT_ONCE, autostart="false")
        program(one, "homeless", command="/bin/sleep 600", directory="/nowhere", startretries=0, startsecs=DEAD_AT_ONCE, autostart="false")

    pair.configure(configure)

    def script(one):
        for name in ("missing", "unknown", "plain", "folder", "unclosed"):
            one.call("startProcess", name)
            one.call("getProcessInfo", name)
        for name in ("quick", "failing", "script", "homeless"):
            one.call("startProcess", name)
            one.until(name, "FATAL")
            one.call("getProcessInfo", name)
        one.until("late", "FATAL")
        one.call("getProcessInfo", "late")
        one.call("startProcess", "late")
        one.call("startAllProcesses")

    pair.agree(script, "spawn-errors")


@pytest.mark.parametrize("autorestart", ["true", "false", "unexpected"])
@pytest.mark.parametrize("code", [0, 2, 7])
def test_what_becomes_of_a_program_that_ends(pair, autorestart, code):
    def configure(one):
        # The first life ends when it is told so, the second one never.
        mark, gate = one.directory / "mark", one.directory / "gate"
        os.mkfifo(gate)
        command = f"/bin/sh -c 'test ! -e {mark} || exec sleep 600; touch {mark}; read word < {gate}; exit {code}'"
        program(one, "web", command=command, autorestart=autorestart, exitcodes="0,2", startsecs=1)

    pair.configure(configure)
    restarted = autorestart == "true" or (autorestart == "unexpected" and code == 7)

    def script(one):
        one.until("web", "RUNNING")
        first = one.supervisor.pid("web")
        (one.directory / "gate").write_text("end\n")
        if restarted:
            one.supervisor.wait_for_new_pid("web", first)
            one.until("web", "RUNNING")
        else:
            one.until("web", "EXITED")
        one.call("getProcessInfo", "web")

    pair.agree(script)


def test_backoff_and_fatal(pair):
    def configure(one):
        program(one, "quick", command=f"{PYTHON} -c 'import sys; sys.exit(3)'", startretries=2, startsecs=DEAD_AT_ONCE)
        program(one, "manual", command="/bin/false", startretries=5, startsecs=DEAD_AT_ONCE, autostart="false")

    pair.configure(configure)

    def script(one):
        # The second wait is the longer one: there is time to look.
        wait_for(lambda: one.supervisor.log.read_text().count("exited: quick") == 2, "the second failure")
        one.until("quick", "BACKOFF")
        one.call("getProcessInfo", "quick")
        one.until("quick", "FATAL")
        one.call("getProcessInfo", "quick")
        one.call("startProcess", "quick")
        one.call("startProcess", "manual")
        one.until("manual", "BACKOFF")
        one.call("startProcess", "manual")
        one.call("stopProcess", "manual")
        one.call("getProcessInfo", "manual")
        one.call("signalProcess", "manual", "TERM")

    pair.agree(script)


def test_logs_are_read_tailed_and_cleared(pair):
    text = "".join(f"line {number:04d}\n" for number in range(300))

    def configure(one):
        body = f"import sys, time; sys.stdout.write({text!r}); sys.stdout.flush(); sys.stderr.write('error \u00e9\\n'); sys.stderr.flush(); time.sleep(600)"
        (one.directory / "body.py").write_text(body)
        command = f"{PYTHON} {one.directory}/body.py"
        program(
            one,
            "web",
            command=command,
            stdout_logfile=one.directory / "web.log",
            stderr_logfile=one.directory / "web.err",
            environment='PYTHONIOENCODING="utf-8"',
        )
        program(one, "mixed", command=command, redirect_stderr="true", stdout_logfile=one.directory / "mixed.log", environment='PYTHONIOENCODING="utf-8"')
        program(one, "silent", stdout_logfile="NONE", stderr_logfile="none")

    pair.configure(configure)

    def script(one):
        one.until("web", "RUNNING")
        one.supervisor.wait_for_output("web", "line 0299")
        one.supervisor.wait_for_output("mixed", "error")
        one.calls("getAllProcessInfo", "getAllConfigInfo")
        for name in ("web", "web:web", "mixed", "silent", "nobody", "web:*"):
            for offset, length in ((0, 0), (0, 25), (10, 10), (-20, 0), (-20, 5), (0, -1), (100000, 0), (100000, 10), (-100000, 0), (2999, 100), (-1, -1)):
                for method in (
                    "readProcessStdoutLog",
                    "readProcessLog",
                    "readProcessStderrLog",
                    "tailProcessStdoutLog",
                    "tailProcessLog",
                    "tailProcessStderrLog",
                ):
                    one.call(method, name, offset, length)
        one.call("clearProcessLogs", "web")
        one.call("readProcessStdoutLog", "web", 0, 0)
        one.call("clearProcessLog", "mixed")
        one.call("readProcessStderrLog", "mixed", 0, 0)
        one.call("clearProcessLogs", "silent")
        one.call("clearProcessLogs", "nobody")
        one.call("clearAllProcessLogs")
        one.call("readLog", -1, 5)
        one.call("readLog", 0, -5)
        one.call("readMainLog", 1 << 30, 0)
        one.call("clearLog")
        one.note("main log", one.supervisor.log.exists())

    pair.agree(script, "config-info")


def test_what_xml_cannot_hold_in_a_log(pair):
    def configure(one):
        for name, data in (("escape", [97, 27, 91, 98, 10]), ("binary", [97, 255, 10]), ("zero", [0, 97])):
            code = f"import os, time; os.write(1, bytes({data})); time.sleep(600)"
            program(one, name, command=f'{PYTHON} -c "{code}"', stdout_logfile=one.directory / f"{name}.log")

    pair.configure(configure)

    def script(one):
        for name in ("escape", "binary", "zero"):
            one.supervisor.wait_for_output(name, "a")
            one.call("readProcessStdoutLog", name, 0, 0)
            one.call("tailProcessStdoutLog", name, 0, 100)

    pair.agree(script, "control-characters")


def test_what_a_program_is_born_with(pair):
    def configure(one):
        body = """import json, os, sys
names = [name for name in os.environ if name.startswith(("SUPERVISOR", "TEST_", "OWN"))]
print(json.dumps({"environment": {name: os.environ[name] for name in sorted(names)}, "umask": os.umask(0), "directory": os.getcwd(),
    "argv": sys.argv[1:], "leader": os.getpgid(0) == os.getpid(), "session": os.getsid(0) == os.getsid(os.getppid()),
    "descriptors": sorted(os.listdir("/proc/self/fd"))[:3]}), flush=True)
import time; time.sleep(600)
"""
        (one.directory / "body.py").write_text(body)
        one.sections["supervisord"].update(environment="TEST_GLOBAL=\"of all\",TEST_BOTH='supervisor'", identifier="mine")
        one.sections["include"] = {"files": "more.d/*.conf"}
        (one.directory / "more.d").mkdir()
        command = f"{PYTHON} {one.directory}/body.py"
        (one.directory / "more.d" / "one.conf").write_text(f"[program:included]\ncommand={command} %(here)s\nstdout_logfile=%(here)s/included.log\n")
        program(
            one, "web", command=f'{command} %(program_name)s %(group_name)s %(process_num)02d %(host_node_name)s %(ENV_TEST_GLOBAL)s "a b" \'c "d"\' e\\ f %%',
            environment='TEST_BOTH="program",TEST_PATH="%(ENV_TEST_GLOBAL)s/%(program_name)s",TEST_COMMA="a,b",TEST_PLAIN=plain',
            stdout_logfile=one.directory / "web.log", directory="/tmp", umask="077",
        )  # fmt: skip
        program(
            one,
            "pool",
            command=f"{command} %(process_num)d %(numprocs)d",
            numprocs=2,
            process_name="p%(process_num)d",
            stdout_logfile=one.directory / "p%(process_num)d.log",
            environment='TEST_NUMBER="%(process_num)d"',
            serverurl="http://elsewhere:1",
        )
        one.sections["program:comments"] = {
            "command": f"{command} first ; a comment",
            "stdout_logfile": f"{one.directory}/comments.log",
            "PRIORITY": "7 # another",
        }

    pair.configure(configure)

    def script(one):
        one.calls("getIdentification", "getAllConfigInfo")
        for name, log in (("web", "web.log"), ("pool:p0", "p0.log"), ("pool:p1", "p1.log"), ("included", "more.d/included.log"), ("comments", "comments.log")):
            one.until(name, "RUNNING")
            one.note(name, (one.directory / log).read_text())

    pair.agree(script, "config-info")


def test_an_fcgi_program(pair):
    def configure(one):
        body = (
            "import os, socket, stat, time\nprint(stat.S_ISSOCK(os.fstat(0).st_mode), socket.socket(fileno=0).getsockopt(1, 30), flush=True); time.sleep(600)"
        )
        (one.directory / "body.py").write_text(body)
        keys = {"command": f"{PYTHON} {one.directory}/body.py", "startsecs": 1}
        pool = {"numprocs": 2, "process_name": "%(program_name)s%(process_num)d", "stdout_logfile": one.directory / "%(process_num)d.log", **keys}
        program(one, "shop", head="fcgi-program", socket=f"unix://{one.directory}/shop.sock", socket_mode="0660", **pool)
        program(one, "lone", head="fcgi-program", socket="unix://%(here)s/%(program_name)s.sock", **keys)

    pair.configure(configure)

    def script(one):
        one.until("shop:shop0", "RUNNING")
        one.until("shop:shop1", "RUNNING")
        one.calls("getAllProcessInfo", "getAllConfigInfo")
        one.note("output", (one.directory / "0.log").read_text())
        one.note("modes", [oct((one.directory / name).stat().st_mode) for name in ("shop.sock", "lone.sock")])
        one.call("sendProcessStdin", "shop:shop0", "x")
        one.call("stopProcess", "shop:shop0")
        one.call("stopProcessGroup", "shop")
        one.call("removeProcessGroup", "shop")
        one.note("socket file after removal", (one.directory / "shop.sock").exists())

    pair.agree(script, "config-info", "fcgi-socket-file")


def test_stdin(pair):
    def configure(one):
        program(one, "cat", command="/bin/cat", stdout_logfile=one.directory / "cat.log")
        program(one, "deaf", command=f"""{PYTHON} -c "import os, time; os.close(0); time.sleep(600)" """)

    pair.configure(configure)

    def script(one):
        one.until("cat", "RUNNING")
        one.until("deaf", "RUNNING")
        one.call("sendProcessStdin", "cat", "hällo\n")
        one.supervisor.wait_for_output("cat", "llo")
        one.call("readProcessStdoutLog", "cat", 0, 0)
        one.call("sendProcessStdin", "deaf", "x" * 100)
        one.call("sendProcessStdin", "nobody", "x")
        one.call("sendProcessStdin", "cat:*", "x")
        one.call("stopProcess", "cat")
        one.call("sendProcessStdin", "cat", "x")

    pair.agree(script)


def test_reread_add_and_remove(pair):
    def configure(one):
        for name in ("kept", "changed", "gone", "moved"):
            program(one, name, startsecs=0, stdout_logfile=one.directory / f"{name}.log")
        program(one, "shop", head="fcgi-program", socket=f"unix://{one.directory}/shop.sock", startsecs=0)

    pair.configure(configure)

    def script(one):
        one.calls("reloadConfig")
        sections = one.supervisor.sections
        del sections["program:gone"]
        sections["program:changed"]["stopsignal"] = "INT"
        sections["program:added"] = {"command": SLEEP, "autostart": "false"}
        sections["group:moving"] = {"programs": "moved"}
        sections["fcgi-program:shop"]["socket_mode"] = "0777"
        one.supervisor.write()
        one.calls("reloadConfig", "getAllConfigInfo", "getAllProcessInfo")
        one.call("addProcessGroup", "added")
        one.call("addProcessGroup", "added")
        one.call("addProcessGroup", "nobody")
        one.call("addProcessGroup", "gone")
        one.call("removeProcessGroup", "gone")
        one.call("stopProcess", "gone")
        one.call("removeProcessGroup", "gone")
        one.call("removeProcessGroup", "gone")
        one.call("stopProcessGroup", "moved")
        one.call("removeProcessGroup", "moved")
        one.call("addProcessGroup", "moving")
        one.until("moving:moved", "RUNNING")
        one.calls("reloadConfig", "getAllProcessInfo", "getAllConfigInfo")
        sections["program:broken"] = {"numprocs": "many"}
        one.supervisor.write()
        one.calls("reloadConfig")
        one.call("stopProcess", "changed")
        one.call("removeProcessGroup", "changed")
        one.call("addProcessGroup", "changed")

    pair.agree(script, "config-info", "config-errors")


LISTENER = """import os, sys
def say(text):
    sys.stdout.write(text); sys.stdout.flush()
with open(sys.argv[1], "a") as file:
    while True:
        say("READY\\n")
        head = sys.stdin.readline()
        if not head:
            break
        words = dict(word.split(":", 1) for word in head.split())
        body = sys.stdin.read(int(words["len"]))
        file.write(head + body + "\\n==\\n"); file.flush()
        say("RESULT 2\\nOK")
"""


def test_events_of_all_kinds(pair):
    """Every event that can be brought about, with header and payload."""

    def configure(one):
        (one.directory / "listener.py").write_text(LISTENER)
        kinds = "PROCESS_STATE,PROCESS_COMMUNICATION,PROCESS_LOG,REMOTE_COMMUNICATION,PROCESS_GROUP"
        program(one, "ears", head="eventlistener", command=f"{PYTHON} {one.directory}/listener.py {one.directory}/events", events=kinds, buffer_size=100)
        begin, end = "<!--XSUPERVISOR:BEGIN-->", "<!--XSUPERVISOR:END-->"
        say = f"os.write(1, b'before{begin}inside{end}afterwards there is more text than a token has'); os.write(2, b'{begin}err{end}')"
        (one.directory / "talk.py").write_text(f"import os, time; {say}; time.sleep(600)")
        (one.directory / "short.py").write_text(f"import os, time; os.write(1, b'before{begin}{end}after'); time.sleep(600)")
        (one.directory / "logs.py").write_text("import os, time; os.write(1, b'out'); os.write(2, bytes([255])); time.sleep(600)")
        capture = {"stdout_capture_maxbytes": "1KB", "stderr_capture_maxbytes": 100, "autostart": "false"}
        program(one, "talk", command=f"{PYTHON} {one.directory}/talk.py", stdout_logfile=one.directory / "talk.log", **capture)
        program(one, "short", command=f"{PYTHON} {one.directory}/short.py", stdout_logfile=one.directory / "short.log", **capture)
        program(one, "logs", command=f"{PYTHON} {one.directory}/logs.py", stdout_events_enabled="true", stderr_events_enabled="true", autostart="false")
        program(one, "quick", command="/bin/false", startretries=0, startsecs=DEAD_AT_ONCE, autostart="false")
        os.mkfifo(one.directory / "end")
        program(one, "bad", command=f"/bin/sh -c 'read word < {one.directory}/end; exit 5'", autorestart="false", autostart="false")

    pair.configure(configure)

    def heard(one):
        file = one.directory / "events"
        return [event for event in file.read_text().split("\n==\n") if event] if file.exists() else []

    def script(one):
        one.until("ears", "RUNNING")
        for name in ("talk", "short", "logs"):
            one.call("startProcess", name)
            one.call("stopProcess", name)
        one.call("startProcess", "quick")
        one.until("quick", "FATAL")
        one.call("startProcess", "bad")
        (one.directory / "end").write_text("now\n")
        one.until("bad", "EXITED")
        one.call("removeProcessGroup", "quick")
        one.call("addProcessGroup", "quick")
        one.call("sendRemoteCommEvent", "kind", "data \u00e9")
        wait_for(lambda: any("REMOTE_COMMUNICATION" in event for event in heard(one)), "the last event")
        for name in ("talk", "short", "logs", "quick", "bad"):
            one.note(name, [_without_serials(event) for event in heard(one) if f"processname:{name}" in event or f"groupname:{name}" in event])
        one.note("remote", [_without_serials(event) for event in heard(one) if "REMOTE" in event])
        one.note("talk.log", (one.directory / "talk.log").read_text())
        one.note("short.log", (one.directory / "short.log").read_text())
        one.calls("getAllConfigInfo", "getAllProcessInfo")

    pair.agree(script, "config-info", "capture-rest")


def _without_serials(event):
    return " ".join(word for word in event.split(" ") if not word.startswith(("serial:", "poolserial:")))


def test_the_environment_of_the_supervisor_is_expanded_once(supervisor):
    supervisor.sections["supervisord"]["environment"] = 'TEST_PERCENT="100%%"'
    program(supervisor, "web", command="/bin/sh -c 'echo $TEST_PERCENT; sleep 600'", stdout_logfile=supervisor.directory / "web.log")
    supervisor.start()
    supervisor.wait_for_output("web", "100%\n")


def test_a_reload_with_a_wrong_file_goes_on_with_what_it_had(supervisor):
    program(supervisor, "web")
    supervisor.start()
    supervisor.wait_for_state("web", "RUNNING")
    before = supervisor.pid("web")
    supervisor.configuration.write_text(supervisor.configuration.read_text() + "numprocs=many\n")
    supervisor.rpc.restart()
    supervisor.wait_for_restart(before)
    supervisor.wait_for_state("web", "RUNNING")
    supervisor.wait_for_log("CRIT the configuration was not read again: ")


def test_a_socket_that_cannot_be_made_does_not_end_the_supervisor(supervisor):
    program(supervisor, "shop", head="fcgi-program", socket=f"unix://{supervisor.directory}/missing/shop.sock")
    program(supervisor, "web")
    supervisor.start()
    supervisor.wait_for_state("web", "RUNNING")
    assert "missing/shop.sock" in supervisor.info("shop")["spawnerr"]


def test_python_plugins_are_named_and_not_loaded(supervisor):
    supervisor.sections["rpcinterface:other"] = {"supervisor.rpcinterface_factory": "other.module:factory", "key": "value"}
    supervisor.start()
    supervisor.wait_for_log("other.module:factory is Python code for supervisord, which fcgivisord does not load")
    assert not [name for name in supervisor.server.system.listMethods() if name.startswith("other.")]


def test_home_and_user_are_those_of_the_programs_user(supervisor):
    program(supervisor, "web", command="/bin/sh -c 'echo $HOME $USER $LOGNAME; sleep 600'", user="nobody", stdout_logfile=supervisor.directory / "web.log")
    supervisor.start()
    supervisor.wait_for_output("web", f"{pwd.getpwnam('nobody').pw_dir} nobody nobody\n")
