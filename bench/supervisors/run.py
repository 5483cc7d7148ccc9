# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure fcgivisord beside its peers, all in one run: supervisord 4.3.0, circus, php-fpm's master, multiwatch (C: the floor), and systemd in a container.

    make bench-supervisors                                   everything, about 10 minutes
    python bench/supervisors/run.py respawn start            some measurements only

What is supervised is worker.c, which notes the time as the first act of main(). Machines differ and are noisy: what counts are the ratios, which the
last lines print beside the goals; exit status 1 says that one was missed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import os
import pathlib
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import xmlrpc.client

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
TOOLS = pathlib.Path(sys.executable).parent
IMAGES = CHECKOUT / "molecule" / "images"
PACKAGE = CHECKOUT / "roles" / "fcgi_supervisor" / "files"
KILLS = 40
POOL, MANY, MOST = 50, 500, 1000
IDLE_SECONDS = 10
LOG_SECONDS, LOG_LINES = 8, 500

_SUPERVISORD = """
[supervisord]
logfile={directory}/log
pidfile={directory}/pid
childlogdir={directory}
nodaemon=true
minfds={fds}
[unix_http_server]
file={directory}/rpc
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:w]
command={worker} {notes}
process_name=%(program_name)s_%(process_num)04d
numprocs={processes}
autorestart=true
redirect_stderr=true
stdout_logfile={directory}/w.log
{more}
"""


class Peer:
    """A supervisor with a number of workers. notes: the file in which each worker writes its ID and the time of its main()."""

    name = ""

    def __init__(self, processes: int, user: str = "", more: str = "") -> None:
        self.processes, self.user, self.more = processes, user, more
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
        self.directory.chmod(0o755)
        self.notes = self.directory / "notes"
        self.notes.touch()
        self.notes.chmod(0o666)
        self.started = 0.0
        self.process: subprocess.Popen | None = None

    def __enter__(self):
        command, environment = self.command()
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_error) -> None:
        children = self.children()
        self.process.kill()
        self.process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self) -> tuple[list, dict]:
        """Every peer has its own: words, and variables of the environment."""
        raise NotImplementedError  # this class is never made itself: each peer below has its own command

    def children(self) -> list[int]:
        return [int(pid) for pid in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def births(self) -> list[tuple[int, float]]:
        """(process ID, seconds of the monotonic clock) of every worker that ever came to main()."""
        return [(int(pid), int(nanoseconds) / 1e9) for pid, nanoseconds in (line.split() for line in self.notes.read_text().splitlines())]

    def wait_for_births(self, number: int, seconds: float = 120) -> list[tuple[int, float]]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.notes.read_bytes().count(b"\n") >= number:
                return self.births()
            time.sleep(0.002)
        raise SystemExit(f"{self.name}: {len(self.births())} of {number} workers after {seconds} s")

    def worker(self, *words) -> list[str]:
        return [str(WORKER), str(self.notes), *map(str, words)]


class Supervisord(Peer):
    name = "supervisord"

    def command(self):
        more = self.more + (f"\nuser={self.user}" if self.user else "")
        text = _SUPERVISORD.format(
            directory=self.directory, worker=WORKER, notes=self.notes, processes=self.processes, fds=4 * self.processes + 1024, more=more
        )
        (self.directory / "conf").write_text(text)
        return [TOOLS / "supervisord", "-c", self.directory / "conf"], {}

    def rpc(self):
        return xmlrpc.client.ServerProxy("http://localhost", _Transport(self.directory / "rpc"))

    def wait_until_running(self) -> None:
        deadline = time.monotonic() + 120
        while any(info["statename"] != "RUNNING" for info in self.rpc().supervisor.getAllProcessInfo()):
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: not all workers are RUNNING after 120 s")
            time.sleep(0.2)


class Fcgivisord(Supervisord):
    name = "fcgivisord"

    def command(self):
        command, _environment = super().command()
        return [sys.executable, "-IS", PACKAGE / "fcgivisor", *command[1:]], {}  # as its service does


class Multiwatch(Peer):
    name = "multiwatch"

    def command(self):
        return ["multiwatch", "-f", str(self.processes), "--", *self.worker()], {}


class Circus(Peer):
    name = "circus"

    def command(self):
        words = " ".join(self.worker())
        endpoints = "\n".join(f"{name} = ipc://{self.directory}/{name}" for name in ("endpoint", "pubsub_endpoint", "stats_endpoint"))
        (self.directory / "ini").write_text(f"[circus]\n{endpoints}\n[watcher:w]\ncmd = {words}\nnumprocesses = {self.processes}\n")
        return [TOOLS / "circusd", self.directory / "ini"], {}


class PhpFpm(Peer):
    """Its workers are forks of its master and have no main(): their birth is when the kernel shows them."""

    name = "php-fpm"

    def command(self):
        user = pwd.getpwnam("www-data").pw_name
        pool = f"[w]\nuser={user}\ngroup={user}\nlisten={self.directory}/sock\npm=static\npm.max_children={self.processes}\n"
        (self.directory / "conf").write_text(f"[global]\nerror_log={self.directory}/log\npid={self.directory}/pid\n{pool}")
        return [PHP_FPM, "-F", "-y", self.directory / "conf"], {}

    def wait_for_births(self, number: int, seconds: float = 120):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            children = self.children()
            if len(children) >= self.processes:
                return [(pid, time.monotonic()) for pid in children]
        raise SystemExit(f"{self.name}: not enough workers after {seconds} s")


class Systemd(Peer):
    """In a container of its own. One unit for each worker, as systemd has it: Restart=always, RestartSec=0."""

    name = "systemd"
    host = "fcgi-bench-systemd"

    def _inside(self, *words) -> str:
        done = subprocess.run([IMAGES / "podman", "exec", self.host, *words], text=True, capture_output=True, check=True)
        return done.stdout

    def __enter__(self):
        subprocess.run([IMAGES / "build", "debian12"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([IMAGES / "host", "start", self.host, "localhost/webops-fastcgi:debian12"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([IMAGES / "podman", "cp", WORKER, f"{self.host}:/usr/local/bin/worker"], check=True)
        self.notes = pathlib.Path("/run/notes")
        unit = "[Service]\nExecStart=/usr/local/bin/worker /run/notes\nRestart=always\nRestartSec=0\nStartLimitIntervalSec=0\n"
        self._inside("sh", "-c", f"touch /run/notes; printf '{unit}' | sed 's/StartLimit.*//' >/etc/systemd/system/w@.service; "
                     "printf '[Unit]\\nStartLimitIntervalSec=0\\n' >>/etc/systemd/system/w@.service; systemctl daemon-reload")  # fmt: skip
        self._inside("sh", "-c", f"systemctl start $(seq -f 'w@%g' {self.processes})")
        self.started = time.monotonic()
        return self

    def __exit__(self, *_error) -> None:
        subprocess.run([IMAGES / "host", "remove", self.host], check=False)

    def births(self):
        # The process IDs inside are others than outside; the clock is the same.
        return [(int(pid), int(nanoseconds) / 1e9) for pid, nanoseconds in (line.split() for line in self._inside("cat", "/run/notes").splitlines())]

    def wait_for_births(self, number: int, seconds: float = 120):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            births = self.births()
            if len(births) >= number:
                return births
            time.sleep(0.05)
        raise SystemExit(f"systemd: not enough workers after {seconds} s")

    def kill(self, pid: int) -> None:
        self._inside("kill", "-9", str(pid))

    def kill_and_note(self, pid: int) -> float:
        """The time just before the kill, by the clock inside: podman itself takes longer than all that is measured."""
        program = f"import os,time; t=time.monotonic(); os.kill({pid}, 9); print(t)"
        return float(self._inside("python3", "-c", program))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path) -> None:
        super().__init__()
        self._path = str(path)

    def make_connection(self, host):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._path)
        return connection


@dataclasses.dataclass
class Goal:
    words: str
    value: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


GOALS: list[Goal] = []


def show(what: str, **values: float) -> None:
    print(f"{what:<46}" + "  ".join(f"{name} {value:g}" for name, value in values.items()), flush=True)


def respawn_times(peer: Peer) -> list[float]:
    """Seconds from SIGKILL to the replacement's main(), for KILLS workers, one at a time."""
    with peer:
        births = peer.wait_for_births(peer.processes)
        if isinstance(peer, Supervisord):
            peer.wait_until_running()
        else:
            time.sleep(2)  # the others have no state to ask for
        seconds = []
        for pid, _when in births[:KILLS]:
            known = {pid for pid, _when in peer.births()} if not isinstance(peer, PhpFpm) else set(peer.children())
            if isinstance(peer, Systemd):
                killed = peer.kill_and_note(pid)
            else:
                killed = time.monotonic()
                peer.kill(pid)
            if isinstance(peer, PhpFpm):
                while not set(peer.children()) - known:
                    pass
                seconds.append(time.monotonic() - killed)
                continue
            births = peer.wait_for_births(len(known) + 1)
            seconds.append(next(when for pid, when in births if pid not in known) - killed)
        return seconds


def measure_respawn() -> None:
    print(f"\nSIGKILL to the replacement's main(), {POOL} workers, milliseconds of {KILLS} kills")
    medians = {}
    peers = [Fcgivisord(POOL), Fcgivisord(POOL, user="nobody"), Multiwatch(POOL), PhpFpm(POOL), Circus(POOL), Systemd(POOL), Supervisord(POOL)]
    for peer in peers:
        name = peer.name + (" user=nobody" if peer.user else "")
        times = sorted(1000 * seconds for seconds in respawn_times(peer))
        medians[name] = statistics.median(times)
        show(name, median=round(medians[name], 2), p90=round(times[int(len(times) * 0.9)], 2), max=round(times[-1], 2))
    for name in ("fcgivisord", "fcgivisord user=nobody"):
        GOALS.append(Goal(f"respawn: supervisord / {name}", medians["supervisord"] / medians[name], 150, True))
        GOALS.append(Goal(f"respawn: {name} / multiwatch", medians[name] / medians["multiwatch"], 2, False))


def measure_start() -> None:
    print(f"\n{MANY} workers: from exec to the last one's main(); all killed at once (each RUNNING), to the last replacement's main(); seconds")
    spawned, back = {}, {}
    for peer in (kind(MANY, user=user) for kind in (Fcgivisord, Supervisord) for user in ("", "nobody")):
        name = peer.name + (" user=nobody" if peer.user else "")
        with peer:
            births = peer.wait_for_births(MANY)
            spawned[name] = max(when for _pid, when in births) - peer.started
            peer.wait_until_running()
            pss = int(
                next(line.split()[1] for line in pathlib.Path(f"/proc/{peer.process.pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
            )
            killed = time.monotonic()
            for pid, _when in births:
                peer.kill(pid)
            back[name] = max(when for _pid, when in peer.wait_for_births(2 * MANY)) - killed
        show(name, spawned=round(spawned[name], 2), back=round(back[name], 2), PSS_MiB=round(pss / 1024, 1))
        if peer.name == "fcgivisord":
            GOALS.append(Goal(f"memory (PSS) of {name} at {MANY} workers, MiB", pss / 1024, 16, False))
    for user in ("", " user=nobody"):  # both with the same configuration
        GOALS.append(Goal(f"{MANY} spawned: supervisord / fcgivisord{user}", spawned[f"supervisord{user}"] / spawned[f"fcgivisord{user}"], 5, True))
        GOALS.append(Goal(f"{MANY} back: supervisord / fcgivisord{user}", back[f"supervisord{user}"] / back[f"fcgivisord{user}"], 8, True))


def timed(call, times: int = 30) -> float:
    """Median seconds of a call."""
    seconds = []
    for _number in range(times):
        begin = time.monotonic()
        call()
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds)


def status_json(path) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", "/status")
    connection.getresponse().read()


def measure_status() -> None:
    print(f"\ngetAllProcessInfo with {MOST} processes, milliseconds as the client sees them (raw: until the answer is there, not yet parsed)")
    found = {}
    for peer in (Fcgivisord(MOST, more="autostart=false"), Supervisord(MOST, more="autostart=false")):
        with peer:
            wait_for_rpc(peer)
            body = xmlrpc.client.dumps((), "supervisor.getAllProcessInfo").encode()
            raw = timed(lambda peer=peer, body=body: post(peer.directory / "rpc", body))
            whole = timed(lambda peer=peer: peer.rpc().supervisor.getAllProcessInfo(), 10)
            found[peer.name] = raw
            values = {"raw": round(1000 * raw, 1), "parsed": round(1000 * whole, 1)}
            if peer.name == "fcgivisord":
                found["json"] = timed(lambda peer=peer: status_json(peer.directory / "rpc"))
                values["json"] = round(1000 * found["json"], 1)
        show(peer.name, **values)
    GOALS.append(Goal(f"getAllProcessInfo at {MOST}: supervisord / fcgivisord", found["supervisord"] / found["fcgivisord"], 25, True))
    GOALS.append(Goal("getAllProcessInfo / JSON status", found["fcgivisord"] / found["json"], 1, True))


def post(path, body: bytes) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
    connection.getresponse().read()


def wait_for_rpc(peer: Supervisord) -> float:
    """Seconds from exec until it answers."""
    while True:
        with contextlib.suppress(OSError):
            peer.rpc().supervisor.getState()
            return time.monotonic() - peer.started
        if time.monotonic() - peer.started > 60:
            raise SystemExit(f"{peer.name} does not answer")
        time.sleep(0.002)


def measure_idle() -> None:
    print(f"\nWake-ups in {IDLE_SECONDS} s of idleness with {POOL} workers; first RPC answer after exec, milliseconds")
    for peer in (Fcgivisord(POOL), Supervisord(POOL)):
        with peer:
            serving = wait_for_rpc(peer)
            peer.wait_until_running()
            time.sleep(1)
            before = switches(peer.process.pid)
            time.sleep(IDLE_SECONDS)
            wakeups = switches(peer.process.pid) - before
        show(peer.name, wakeups=wakeups, serving=round(1000 * serving))
        if peer.name == "fcgivisord":
            GOALS.append(Goal(f"wake-ups in {IDLE_SECONDS} s", wakeups, 0, False))
            GOALS.append(Goal("serving RPC after exec, ms", 1000 * serving, 200, False))


def switches(pid: int) -> int:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("voluntary_ctxt_switches")))


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_logs() -> None:
    print(f"\nCPU of the supervisor for each log line, microseconds: one chatty worker of {LOG_LINES} lines/s, among 1 and {MANY} programs")
    per_line = {}
    for kind in (Fcgivisord, Supervisord):
        for programs in (1, MANY):
            chatty = f"[program:chatty]\ncommand={WORKER} {{notes}} {LOG_LINES}\nredirect_stderr=true\nstdout_logfile={{directory}}/chatty.log"
            peer = kind(programs)
            peer.more = "\n" + chatty.format(notes=peer.notes, directory=peer.directory)
            with peer:
                peer.wait_for_births(programs + 1)
                peer.wait_until_running()
                log = peer.directory / "chatty.log"
                size, before = log.stat().st_size, cpu_seconds(peer.process.pid)
                time.sleep(LOG_SECONDS)
                lines = (log.stat().st_size - size) / 73
                per_line[peer.name, programs] = 1e6 * (cpu_seconds(peer.process.pid) - before) / max(lines, 1)
            show(f"{peer.name}, {programs} programs", microseconds=round(per_line[peer.name, programs]), lines=round(lines))
    GOALS.append(Goal(f"CPU per log line, {MANY} programs / 1", per_line["fcgivisord", MANY] / per_line["fcgivisord", 1], 1.3, False))


MEASUREMENTS = {"respawn": measure_respawn, "start": measure_start, "status": measure_status, "idle": measure_idle, "logs": measure_logs}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", nargs="*", choices=[[], *MEASUREMENTS], default=[], metavar="|".join(MEASUREMENTS))
    chosen = parser.parse_args().measurements
    subprocess.run(["cc", "-O2", "-o", WORKER, HERE / "worker.c"], check=True)
    for name, measure in MEASUREMENTS.items():
        if not chosen or name in chosen:
            measure()
    print(f"\n{'goal':<60}{'reached':>9}{'limit':>8}")
    for goal in GOALS:
        print(f"{goal.words:<60}{goal.value:>9.2f}{'>=' if goal.at_least else '<=':>4}{goal.limit:>4g}  {'met' if goal.met else 'MISSED'}")
    return 0 if all(goal.met for goal in GOALS) else 1


with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
    WORKER = pathlib.Path(scratch) / "worker"
    PHP_FPM = next(pathlib.Path("/usr/sbin").glob("php-fpm*"), "php-fpm")
    if __name__ == "__main__":
        os.chmod(scratch, 0o755)
        sys.exit(main())
