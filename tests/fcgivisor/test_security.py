# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may command the supervisor, and what its workers may do."""

from __future__ import annotations

import os
import pathlib
import socket
import stat
import subprocess
import xmlrpc.client

import pytest
from harness import PATIENCE, wait_for

NOBODY, NOGROUP = 65534, 65534
# Bits of signals 1 to 31; those above are the C library's own.
ALL_SIGNALS = 2**31 - 1
REQUEST = b"GET /status HTTP/1.0\r\n\r\n"

TRIES_TO_GET_BACK = """
import os, time
for way in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.setresuid(0, 0, 0)):
    try:
        way()
        print("it could")
    except PermissionError:
        print("refused")
print("done", flush=True)
time.sleep(600)
"""


def as_user(uid, gid, groups, call):
    """What call() returns, a short text, in a child that is another user."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.write(writing, call().encode())
        except BaseException as error:
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        answer = file.read().decode()
    os.waitpid(pid, 0)
    return answer


def ask(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(REQUEST)
        return client.recv(15).decode()


def check(supervisor):
    """Of --check: the exit code and what it says."""
    supervisor.write()
    command = supervisor.command("--check", "-c", supervisor.configuration)
    done = subprocess.run(command, env=supervisor.environment(), capture_output=True, text=True, check=False)
    return done.returncode, done.stderr + done.stdout


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def wait_for_descriptors(pid, *expected):
    """Until it has these alone: the loader of a program that has just been executed opens files, and closes them."""
    wait_for(lambda: sorted(os.listdir(f"/proc/{pid}/fd")) == sorted(expected), f"{pid} to have no descriptors but {expected}")


class TestRpc:
    def test_only_its_own_user_can_reach_the_socket(self, supervisor):
        supervisor.start()
        assert stat.S_IMODE(os.stat(supervisor.socket).st_mode) == 0o700
        assert as_user(NOBODY, NOGROUP, [], lambda: ask(supervisor.socket)) == "PermissionError"

    def test_peers_are_checked_even_where_somebody_opened_the_path(self, supervisor):
        supervisor.start()
        os.chmod(supervisor.socket, 0o777)
        assert as_user(NOBODY, NOGROUP, [], lambda: ask(supervisor.socket)) in ("", "ConnectionResetError", "BrokenPipeError")
        supervisor.wait_for_log("a client of unix_http_server was turned away")
        assert ask(supervisor.socket) == "HTTP/1.1 200 OK"

    @pytest.mark.parametrize(
        ("gid", "groups", "answer"), [(1, [], True), (NOGROUP, [1], True), (NOGROUP, [2, 3], False)], ids=["group", "supplementary", "others"]
    )
    def test_the_group_of_the_socket_may_use_it_where_its_mode_says_so(self, supervisor, gid, groups, answer):
        supervisor.sections["unix_http_server"].update(chmod="0770", chown="root:daemon")
        supervisor.start()
        found = as_user(NOBODY, gid, groups, lambda: ask(supervisor.socket))
        assert found == ("HTTP/1.1 200 OK" if answer else "PermissionError")
        os.chmod(supervisor.socket, 0o777)
        assert (as_user(NOBODY, gid, groups, lambda: ask(supervisor.socket)) == "HTTP/1.1 200 OK") == answer

    @pytest.mark.parametrize("port", ["*:9001", "9001", "0.0.0.0:9001", "192.0.2.1:9001", "[::]:9001", "example.org:9001"])
    def test_an_inet_server_without_a_password_is_refused(self, supervisor, port):
        supervisor.sections["inet_http_server"] = {"port": port}
        code, told = check(supervisor)
        assert code == 2
        assert "[inet_http_server] port" in told
        assert "can be reached from other hosts without a password" in told
        supervisor.sections["inet_http_server"].update(username="a", password="b")
        assert check(supervisor)[0] == 0

    @pytest.mark.parametrize("port", ["127.0.0.1:9001", "localhost:9001", "[::1]:9001"])
    def test_unless_it_is_bound_to_loopback(self, supervisor, port):
        supervisor.sections["inet_http_server"] = {"port": port}
        assert check(supervisor)[0] == 0

    @pytest.mark.parametrize("host", ["localhost.example.org:9001", "127.example.org:9001", "127.0.0.1.example.org:9001"])
    def test_a_name_that_only_looks_like_loopback_is_none(self, supervisor, host):
        supervisor.sections["inet_http_server"] = {"port": host}
        assert check(supervisor)[0] == 2

    @pytest.mark.parametrize(
        "method",
        [
            "supervisor.supervisord.options.warnings.linecache.os.system",
            "supervisor.supervisor.loop.stop",
            "supervisor.__init__",
            "supervisor._settings",
            "supervisor.get_state",
            "supervisor._load",
            "fcgivisor.__class__",
            "system.methods",
            "system.call",
            "supervisor",
            "",
            ".",
            "getState",
        ],
    )
    def test_only_what_stands_in_the_table_can_be_called(self, supervisor, method):
        """CVE-2017-11610 was a walk from attribute to attribute."""
        supervisor.start()
        server = supervisor.server
        with pytest.raises((xmlrpc.client.Fault, xmlrpc.client.ProtocolError)) as caught:
            server._ServerProxy__request(method, ())
        assert "UNKNOWN_METHOD" in str(caught.value) or "400" in str(caught.value)
        assert method not in server.system.listMethods()


class TestWorkers:
    WAYS = pytest.mark.parametrize("way", [{}, {"directory": "/"}, {"user": "nobody"}], ids=["spawn", "fork", "user"])

    @WAYS
    def test_they_get_no_descriptor_but_0_1_and_2(self, supervisor, way):
        supervisor.fcgi("other").program("before").program("shop", **way)
        with open("/etc/passwd", encoding="ascii") as inherited, socket.socket() as listening:
            os.set_inheritable(inherited.fileno(), True)
            os.set_inheritable(listening.fileno(), True)
            # Popen would close them: the supervisor is started by a shell that has them.
            passes = f'exec "$0" "$@" {inherited.fileno()}</etc/passwd 77</etc/group'
            supervisor.start(wrapper=["bash", "-c", passes])
        assert "77" in os.listdir(f"/proc/{supervisor.process.pid}/fd")
        for name in ("shop", "other"):
            wait_for_descriptors(supervisor.pid(name), "0", "1", "2")

    def test_a_heartbeat_is_one_descriptor_more(self, supervisor):
        supervisor.program("shop", heartbeat=600).start()
        pid = supervisor.pid("shop")
        text = wait_for(pathlib.Path(f"/proc/{pid}/environ").read_text, "its environment")
        environ = dict(pair.split("=", 1) for pair in text.split("\0") if pair)
        wait_for_descriptors(pid, "0", "1", "2", environ["UWSGI_EMPEROR_FD"])

    def test_privileges_are_dropped_for_good(self, supervisor, script):
        supervisor.program("shop", command=script("back", TRIES_TO_GET_BACK), user="nobody").start()
        supervisor.wait_for_output("shop", "done")
        assert (supervisor.directory / "shop.log").read_text().split() == ["refused"] * 5 + ["done"]
        found = status(supervisor.pid("shop"))
        assert found["Uid"].split() == [str(NOBODY)] * 4
        assert found["Gid"].split() == [str(NOGROUP)] * 4
        assert found["Groups"].split() == [str(NOGROUP)]
        assert (found["CapEff"], found["CapPrm"]) == ("0" * 16, "0" * 16)

    def test_a_switch_that_the_kernel_did_not_make_is_an_error(self, monkeypatch):
        from fcgivisor import spawn  # noqa: PLC0415

        order = []
        for name in ("setgroups", "setresgid", "setresuid"):
            monkeypatch.setattr(os, name, lambda *_arguments, name=name: order.append(name))
        with pytest.raises(PermissionError, match="did not switch"):
            spawn.drop_privileges(spawn.Identity(NOBODY, NOGROUP, (NOGROUP,)))
        assert order == ["setgroups", "setresgid", "setresuid"]

    def test_no_shell_sees_a_command(self, supervisor):
        mark = supervisor.directory / "mark"
        supervisor.program(
            "shop", command=f"/bin/echo $(touch {mark}) `touch {mark}` ; touch {mark} | touch {mark} > {mark} && touch {mark}", startsecs=0
        ).start()
        supervisor.wait_for_output("shop", f"$(touch {mark}) `touch {mark}`")
        assert not mark.exists()

    def test_signals_are_as_in_any_other_process(self, supervisor):
        """Neither blocked nor ignored, as those that Python ignores would be."""
        supervisor.program("spawned").program("forked", directory="/").start()
        for name in ("spawned", "forked"):
            found = status(supervisor.pid(name))
            assert {int(found[field], 16) & ALL_SIGNALS for field in ("SigBlk", "SigIgn")} == {0}

    def test_what_systemd_told_the_supervisor_is_not_told_to_them(self, supervisor):
        variables = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "LISTEN_PID": "1", "UWSGI_EMPEROR_FD": "9"}
        supervisor.program("shop").start(**variables)
        environ = pathlib.Path(f"/proc/{supervisor.pid('shop')}/environ").read_text()
        assert [name for name in variables if f"{name}=" in environ] == []


def test_the_supervisor_can_be_another_user_itself(supervisor, any_user):
    variables = any_user(supervisor, NOBODY)
    supervisor.sections["supervisord"]["user"] = "nobody"
    supervisor.program("shop").program("root", user="root", startretries=0).start(**variables)
    assert status(supervisor.process.pid)["Uid"].split() == [str(NOBODY)] * 4
    assert status(supervisor.pid("shop"))["Uid"].split() == [str(NOBODY)] * 4
    wait_for(lambda: "needs a supervisor that runs as root" in supervisor.info("root")["spawnerr"], "the reason")
