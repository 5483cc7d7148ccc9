# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time a first and an unchanged deployment: the usual way (looped templates and community.general.supervisorctl) and ours, in one run.

Ours is measured with the same supervisor as the usual way, Debian's supervisord; for some sizes also with fcgivisord.

    make bench                                     everything, about 6 minutes
    python bench/deploy/run.py --ours 1 50         ours only, at 1 and 50 applications

Each measurement is a whole `ansible-playbook` on a fresh Debian 12 host with nginx and supervisord installed, in seconds of wall time. Machines
differ: what counts are the ratios, which the last lines print. The exit status is 1 if one of the goals among them is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
TOOLS = pathlib.Path(sys.executable).parent
IMAGES = CHECKOUT / "molecule" / "images"
HOST = "fcgi-bench"
# What an unchanged deployment is to reach: at so many applications at most so many times its seconds at 1, ...
MOST_OF_ONE = {50: 1.5, 200: 2.5}
# ... and at so many applications at least so many times faster than the peer's.
LEAST_OF_PEER = {50: 15.0}
PEER_SIZES = [1, 10, 50]
OUR_SIZES = [1, 10, 50, 200]
FCGIVISORD_SIZES = [1, 50]
# Of each name that is measured: the playbook, and the provider of the supervisor.
PLAYBOOKS = {"ours": ("ours.yml", "supervisord"), "fcgivisord": ("ours.yml", "fcgivisord"), "peer": ("peer.yml", "supervisord")}


def run(*command: object, **options) -> None:
    """Run a command; its output is shown only if it fails."""
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}")


def print_versions() -> None:
    """Of what is measured with. What is missing is missed here, and not after the minutes that an image takes."""
    for command in ([str(TOOLS / "ansible-playbook"), "--version"], ["go", "version"], ["podman", "--version"]):
        print(subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True).stdout.partition("\n")[0], flush=True)


def fresh_host(binary: pathlib.Path) -> None:
    run(IMAGES / "host", "start", HOST, "localhost/webops-fastcgi:debian12")
    run(IMAGES / "podman", "exec", HOST, "sh", "-c", "apt-get -qq update && apt-get -qq install --no-install-recommends nginx supervisor")
    run(IMAGES / "podman", "cp", binary, f"{HOST}:/usr/local/bin/sleeper")


def host_pid() -> int:
    """The process ID of the host's PID 1, seen from here."""
    inspect = [str(IMAGES / "podman"), "inspect", "--format", "{{.State.Pid}}", HOST]
    return int(subprocess.run(inspect, text=True, stdout=subprocess.PIPE, check=True).stdout)


def playbook(name: str, size: int, directory: pathlib.Path) -> float:
    """Run a playbook over `size` applications and return its seconds."""
    apps = [
        {"name": f"app{number:03}", "runtime": "go", "command": "/usr/local/bin/sleeper", "user": "www-data", "locations": [{"path": f"/app{number:03}"}]}
        for number in range(size)
    ]
    inventory = directory / f"{name}-{size}.json"
    variables = {
        # Into the container's namespaces: what a command costs is then nearer to SSH with ControlPersist than podman exec is.
        "ansible_connection": "community.docker.nsenter",
        "ansible_nsenter_pid": host_pid(),
        "ansible_python_interpreter": "/usr/bin/python3",
        "bench_provider": PLAYBOOKS[name][1],
        "fcgi_apps": apps,
    }
    inventory.write_text(json.dumps({"all": {"hosts": {HOST: variables}}}))
    started = time.monotonic()
    run(TOOLS / "ansible-playbook", "-i", inventory, HERE / PLAYBOOKS[name][0], env=dict(os.environ, ANSIBLE_HOST_PATTERN_MISMATCH="error"))
    return time.monotonic() - started


def measure(name: str, sizes: list[int], binary: pathlib.Path, directory: pathlib.Path) -> dict[int, tuple[float, float]]:
    seconds = {}
    for size in sizes:
        fresh_host(binary)
        first = playbook(name, size, directory)
        unchanged = playbook(name, size, directory)
        seconds[size] = (first, unchanged)
        print(f"{name:10} {size:4} apps   first {first:7.1f} s   unchanged {unchanged:7.1f} s", flush=True)
    return seconds


def ratios(ours: dict, peer: dict) -> None:
    for size in sorted(ours):
        print(f"ours, unchanged: {size} apps / {min(ours)} app = {ours[size][1] / ours[min(ours)][1]:.2f}")
    for size in sorted(set(ours) & set(peer)):
        print(f"{size} apps, peer / ours: first {peer[size][0] / ours[size][0]:.1f}, unchanged {peer[size][1] / ours[size][1]:.1f}")


def missed_goals(ours: dict, peer: dict) -> int:
    """Print every goal for which there are figures, and return how many are missed."""
    goals = [(f"ours, unchanged: {size} apps / 1 app", ours[size][1] / ours[1][1], "<=", most) for size, most in MOST_OF_ONE.items() if {1, size} <= set(ours)]
    goals += [
        (f"{size} apps, unchanged: peer / ours", peer[size][1] / ours[size][1], ">=", least)
        for size, least in LEAST_OF_PEER.items()
        if size in set(ours) & set(peer)
    ]
    missed = 0
    for name, reached, relation, goal in goals:
        met = reached <= goal if relation == "<=" else reached >= goal
        missed += not met
        print(f"goal: {name} {relation} {goal}: {reached:.2f} {'met' if met else 'MISSED'}")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=int, nargs="*", default=OUR_SIZES, metavar="N", help="numbers of applications")
    parser.add_argument("--fcgivisord", type=int, nargs="*", default=FCGIVISORD_SIZES, metavar="N", help="numbers of applications")
    parser.add_argument("--peer", type=int, nargs="*", default=PEER_SIZES, metavar="N", help="numbers of applications")
    parser.add_argument("--versions", action="store_true", help="print those of the tools, and measure nothing")
    options = parser.parse_args()
    print_versions()
    if options.versions:
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        directory = pathlib.Path(scratch)
        binary = directory / "sleeper"
        source = CHECKOUT / "examples" / "sleeper" / "main.go"
        run("go", "build", "-o", binary, source, env=dict(os.environ, CGO_ENABLED="0", GOCACHE=str(directory / "go"), GO111MODULE="off"))
        run(IMAGES / "build", "debian12")
        try:
            ours = measure("ours", options.ours, binary, directory)
            measure("fcgivisord", options.fcgivisord, binary, directory)
            peer = measure("peer", options.peer, binary, directory)
        finally:
            run(IMAGES / "host", "remove", HOST)
    ratios(ours, peer)
    return 1 if missed_goals(ours, peer) else 0


if __name__ == "__main__":
    sys.exit(main())
