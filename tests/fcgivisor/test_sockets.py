# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listening socket of a FastCGI program lives as long as its configuration, whatever happens to workers and paths."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys

import pytest
from harness import PATIENCE, wait_for
from ports import free_port

# Answers each connection with its process ID and the number of its program, and serves the next one.
SERVER = """
import os, socket
listening = socket.socket(fileno=0)
while True:
    connection, _address = listening.accept()
    connection.sendall(f"{os.environ['SUPERVISOR_PROCESS_NAME']} {os.getpid()}".encode())
    connection.close()
"""
# As workers in Go and fastcgi++ do: the flag belongs to the socket, not to the descriptor, and so to all who share it.
MAKES_IT_NONBLOCKING = """
import os, time
os.set_blocking(0, False)
print("not blocking", flush=True)
time.sleep(600)
"""
# As libfcgi does: whoever cannot wait in accept has nothing to do and ends with success.
LIKE_LIBFCGI = """
import os, socket, time
print("blocking" if os.get_blocking(0) else "not blocking", flush=True)
time.sleep(600)
"""


def connect(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    client = socket.socket(family)
    client.settimeout(PATIENCE)
    client.connect(address)
    return client


def ask(address):
    """Who answers at an address."""
    with connect(address) as client:
        return client.recv(100).decode()


def permissions(path):
    status = os.stat(path)
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def queue(path):
    """How many connections wait at a unix socket whose worker accepts none, until the kernel refuses the next one."""
    with contextlib.ExitStack() as connections:
        for number in range(1000):
            client = connections.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(path)
            except BlockingIOError:
                return number - 1  # listen(2) leaves room for one more than its backlog
    raise AssertionError("the queue has no end")


def is_served(supervisor, path, name="shop"):
    """Whether a new connection reaches the process that runs now."""
    with contextlib.suppress(OSError):
        return ask(path) == f"{name} {supervisor.pid(name)}"
    return False


def test_all_workers_of_a_program_have_one_socket_as_their_stdin(supervisor, script):
    supervisor.fcgi("shop", command=script("server", SERVER), numprocs=3, process_name="shop_%(process_num)d").start()
    pids = supervisor.pids()
    sockets = {os.readlink(f"/proc/{pid}/fd/0") for pid in pids.values()}
    assert len(pids) == 3
    assert len(sockets) == 1
    assert ask(f"{supervisor.directory}/shop.sock") in {f"{name} {pid}" for name, pid in pids.items()}


def test_connections_wait_while_no_worker_is_alive(supervisor, script):
    supervisor.fcgi("shop", command=script("server", SERVER), autostart="false").start()
    path = f"{supervisor.directory}/shop.sock"
    with connect(path) as client:
        supervisor.rpc.startProcess("shop")
        assert client.recv(100).decode() == f"shop {supervisor.pid('shop')}"
    supervisor.rpc.stopProcess("shop")
    with connect(path) as client:
        supervisor.rpc.startProcess("shop")
        assert client.recv(100).decode() == f"shop {supervisor.pid('shop')}"


def test_connections_wait_after_a_program_has_failed_for_good(supervisor):
    supervisor.fcgi("shop", command="/bin/false", startsecs=1, startretries=0, autorestart="false").start()
    supervisor.wait_for_state("shop", "FATAL")
    connect(f"{supervisor.directory}/shop.sock").close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_tcp(supervisor, script, host):
    address = socket.getaddrinfo(host, None)[0][4][0]
    port = free_port(address)
    url = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    supervisor.fcgi("shop", command=script("server", SERVER), socket=url).start()
    assert ask((address, port)) == f"shop {supervisor.pid('shop')}"


def test_a_path_that_vanishes_is_bound_anew_and_workers_move_to_it(supervisor, script):
    supervisor.fcgi("shop", command=script("server", SERVER)).start()
    path = f"{supervisor.directory}/shop.sock"
    before = supervisor.pid("shop")
    os.unlink(path)
    supervisor.wait_for_new_pid("shop", before)
    wait_for(lambda: is_served(supervisor, path), "the new path to be served")


def test_workers_move_to_a_new_socket_one_after_the_other(supervisor, script):
    supervisor.fcgi("shop", command=script("server", SERVER), numprocs=3, process_name="shop_%(process_num)d", startsecs=1).start()
    for number in range(3):
        supervisor.wait_for_state(f"shop:shop_{number}", "RUNNING")
    before = supervisor.pids()
    os.unlink(f"{supervisor.directory}/shop.sock")
    wait_for(lambda: not set(before.values()) & set(supervisor.pids().values()), "all to be replaced")
    supervisor.wait_for_log("success: shop_2 entered RUNNING")
    log = supervisor.log.read_text()
    log = log[log.index("bound anew") :]
    steps = [line.split()[3:5] for line in log.splitlines() if "INFO stopped: shop" in line or "WARN stopped: shop" in line or "INFO success: shop" in line]
    # Each one runs before the next is stopped.
    assert [kind for kind, _name in steps][:5] == ["stopped:", "success:"] * 2 + ["stopped:"]
    assert [name for _kind, name in steps][:5] == ["shop_0", "shop_0", "shop_1", "shop_1", "shop_2"]


def test_a_path_that_is_replaced_is_bound_anew(supervisor, script):
    supervisor.fcgi("shop", command=script("server", SERVER)).start()
    path = f"{supervisor.directory}/shop.sock"
    before = supervisor.pid("shop")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{path}.other")
    os.rename(f"{path}.other", path)
    supervisor.wait_for_new_pid("shop", before)
    wait_for(lambda: is_served(supervisor, path), "the new path to be served")


def test_a_directory_that_was_removed_and_comes_back(supervisor, script):
    run = supervisor.directory / "run"
    run.mkdir()
    path = f"{run}/shop.sock"
    supervisor.fcgi("shop", command=script("server", SERVER), socket=f"unix://{path}").start()
    before = supervisor.pid("shop")
    supervisor.process.send_signal(signal.SIGSTOP)  # else it may bind anew between the two steps of a removal, which then fails
    shutil.rmtree(run)
    supervisor.process.send_signal(signal.SIGCONT)
    supervisor.wait_for_log(f"unix://{path} is not in its place any more, and cannot be put back")
    assert supervisor.pid("shop") == before, "the worker goes on while there is no better socket"
    run.mkdir()
    supervisor.wait_for_new_pid("shop", before)
    wait_for(lambda: is_served(supervisor, path), "the new path to be served")
    assert supervisor.log.read_text().count("cannot be put back") == 1, "it complains once"
    # The new directory is watched as the old one was.
    before = supervisor.pid("shop")
    os.unlink(path)
    supervisor.wait_for_new_pid("shop", before)
    wait_for(lambda: is_served(supervisor, path), "the new path to be served")


def test_a_directory_that_was_renamed_is_noticed_when_the_next_worker_starts(supervisor, script):
    """The kernel tells the directory above, which we do not watch: in /run or /tmp others would wake us all day."""
    run = supervisor.directory / "run"
    run.mkdir()
    path = f"{run}/shop.sock"
    supervisor.fcgi("shop", command=script("server", SERVER), socket=f"unix://{path}").start()
    os.rename(run, f"{run}.old")
    run.mkdir()
    os.kill(supervisor.pid("shop"), signal.SIGKILL)
    wait_for(lambda: is_served(supervisor, path), "the new path to be served")


def test_a_worker_that_is_still_starting_moves_to_the_new_socket_too(supervisor, script):
    supervisor.fcgi("shop", command=script("server", SERVER), startsecs=600).start()
    path = f"{supervisor.directory}/shop.sock"
    supervisor.wait_for_state("shop", "STARTING")
    os.unlink(path)
    wait_for(lambda: is_served(supervisor, path), "the new path to be served")


def test_mode_owner_and_backlog_change_live(supervisor):
    supervisor.fcgi("shop", socket_mode="0700", socket_backlog=7).start()
    path = f"{supervisor.directory}/shop.sock"
    before, inode = supervisor.pid("shop"), os.stat(path).st_ino
    assert (permissions(path), queue(path)) == ((0o700, 0, 0), 7)
    supervisor.sections["fcgi-program:shop"].update(socket_mode="0660", socket_owner="nobody:daemon", socket_backlog=77)
    supervisor.write()
    steps = supervisor.ours.update()
    assert [(step["action"], step["keys"]) for step in steps] == [("change", ["socket_backlog", "socket_mode", "socket_owner"])]
    assert permissions(path) == (0o660, 65534, 1)
    # Connections that were given up stay in the queue until they are accepted.
    assert queue(path) + 8 == 77
    assert (supervisor.pid("shop"), os.stat(path).st_ino) == (before, inode), "neither the worker nor the socket is a new one"
    assert supervisor.ours.update() == []


def test_the_defaults_of_the_socket_are_those_of_supervisord(supervisor):
    supervisor.fcgi("shop").fcgi("blog", user="nobody").start()
    assert permissions(f"{supervisor.directory}/shop.sock") == (0o700, 0, 0)
    assert permissions(f"{supervisor.directory}/blog.sock") == (0o700, 65534, 65534)


def test_the_path_appears_with_its_final_permissions(directory, monkeypatch):
    """Looked at in between: the mode is right when the name appears, and nobody can connect before the owner is."""
    from fcgivisor import model, sockets  # noqa: PLC0415

    path = f"{directory}/shop.sock"
    seen = []

    def chown(name, uid, gid):
        seen.append((stat.S_IMODE(os.stat(name).st_mode), os.stat(name).st_gid))
        with pytest.raises(ConnectionRefusedError):
            connect(name)
        real_chown(name, uid, gid)

    real_chown, mask = os.chown, os.umask(0)
    try:
        monkeypatch.setattr(os, "chown", chown)
        held = sockets.Held(model.SocketConfig(f"unix://{path}", (65534, 1), 0o660, None))
        held.open()
        assert seen == [(0o660, 1)]
        assert permissions(path) == (0o660, 65534, 1)
        assert os.getegid() == 0
    finally:
        os.umask(mask)
    held.close()


def test_a_path_where_somebody_else_listens_is_refused_with_that_process_named(supervisor):
    path = f"{supervisor.directory}/shop.sock"
    code = f"import socket, time; s = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        inode = os.stat(path).st_ino
        supervisor.fcgi("shop", startretries=0).start()
        supervisor.wait_for_state("shop", "FATAL", "BACKOFF")
        reason = supervisor.info("shop")["spawnerr"]
        assert f"{path} is in use: process {other.pid} ({sys.executable}" in reason
        assert os.stat(path).st_ino == inode, "and nothing of it is touched"
        other.kill()
    # What is left is a dead path, which is nobody's.
    supervisor.rpc.startProcess("shop")
    connect(path).close()


def test_a_port_where_somebody_else_listens_is_refused_with_that_process_named(supervisor):
    code = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        port = int(other.stdout.readline())
        supervisor.fcgi("shop", socket=f"tcp://127.0.0.1:{port}").start()
        wait_for(lambda: supervisor.info("shop")["spawnerr"], "a reason")
        assert f"tcp://127.0.0.1:{port} is in use: process {other.pid} ({sys.executable}" in supervisor.info("shop")["spawnerr"]
        other.kill()
    supervisor.wait_for_state("shop", "RUNNING")
    connect(("127.0.0.1", port)).close()


def test_a_file_that_is_no_socket_is_never_removed(supervisor):
    path = supervisor.directory / "shop.sock"
    path.write_text("precious")
    supervisor.fcgi("shop").start()
    wait_for(lambda: "is no socket" in supervisor.info("shop")["spawnerr"], "a reason")
    assert path.read_text() == "precious"


def test_sockets_work_inside_groups(supervisor, script):
    """supervisord drops them there."""
    supervisor.fcgi("shop", command=script("server", SERVER)).program("cron")
    supervisor.sections["group:site"] = {"programs": "shop,cron"}
    supervisor.start()
    path = f"{supervisor.directory}/shop.sock"
    assert ask(path) == f"shop {supervisor.pid('site:shop')}"
    supervisor.rpc.stopProcessGroup("site")
    connect(path).close()


def test_programs_that_name_one_url_share_one_socket(supervisor, script):
    url = f"unix://{supervisor.directory}/site.sock"
    supervisor.fcgi("old", command=script("server", SERVER), socket=url).fcgi("new", command=script("server", SERVER), socket=url, autostart="false").start()
    path = f"{supervisor.directory}/site.sock"
    inode = os.stat(path).st_ino
    assert ask(path).startswith("old ")
    supervisor.rpc.startProcess("new")
    supervisor.rpc.stopProcess("old")
    assert ask(path).startswith("new ")
    # It stays until the last program has left.
    del supervisor.sections["fcgi-program:old"]
    supervisor.write()
    supervisor.ours.update()
    assert (os.stat(path).st_ino, ask(path).split()[0]) == (inode, "new")
    del supervisor.sections["fcgi-program:new"]
    supervisor.write()
    supervisor.ours.update()
    assert not os.path.exists(path)


def test_programs_that_share_a_socket_and_disagree_get_what_the_first_one_says(supervisor):
    url = f"unix://{supervisor.directory}/site.sock"
    supervisor.fcgi("a", socket=url, socket_mode="0600").fcgi("b", socket=url, socket_mode="0666").start()
    assert permissions(f"{supervisor.directory}/site.sock")[0] == 0o600
    supervisor.wait_for_log("[fcgi-program:b] socket: unix:")
    os.kill(supervisor.pid("b"), signal.SIGKILL)
    supervisor.wait_for_new_pid("b", 0)
    assert permissions(f"{supervisor.directory}/site.sock")[0] == 0o600


def test_a_socket_is_blocking_for_each_new_worker(supervisor, script):
    url = f"unix://{supervisor.directory}/site.sock"
    supervisor.fcgi("go", command=script("go", MAKES_IT_NONBLOCKING), socket=url)
    supervisor.fcgi("libfcgi", command=script("libfcgi", LIKE_LIBFCGI), socket=url, autostart="false").start()
    supervisor.wait_for_output("go", "not blocking")
    supervisor.rpc.startProcess("libfcgi")
    supervisor.wait_for_output("libfcgi", "blocking\n")
    assert "not" not in (supervisor.directory / "libfcgi.log").read_text()


def test_a_socket_outlives_a_restart_of_everything_within_the_supervisor(supervisor, script):
    supervisor.fcgi("shop", command=script("server", SERVER)).start()
    path = f"{supervisor.directory}/shop.sock"
    inode, before = os.stat(path).st_ino, supervisor.pid("shop")
    supervisor.process.send_signal(signal.SIGHUP)
    wait_for(lambda: before not in supervisor.children(), "the old worker to end")
    with connect(path) as client:  # it is served by the next life's worker
        assert client.recv(100).decode().startswith("shop ")
    assert os.stat(path).st_ino == inode


def test_the_path_is_removed_at_the_end(supervisor):
    supervisor.fcgi("shop").start()
    supervisor.process.terminate()
    supervisor.process.wait(PATIENCE)
    assert not os.path.exists(f"{supervisor.directory}/shop.sock")
