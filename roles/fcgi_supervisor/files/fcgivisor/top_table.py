# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From two looks at a supervisor to a table of what runs: the pure half of fcgivisorctl top."""

from __future__ import annotations

import time
from collections import namedtuple
from typing import TYPE_CHECKING, Any

from fcgivisor import ctl_names, proc
from fcgivisor.ctl_text import cell, columns, short_duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from fcgivisor.client import Client

# Columns of a table that goes to no terminal.
WIDTH = 80

RED, GREEN, YELLOW, BOLD, REVERSE, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[7m", "\x1b[0m"

# A process in the table. cpu: percent of one CPU, None where it is not known; memory: bytes; uptime: seconds; words: its state for a person.
Row = namedtuple("Row", "name state cpu memory uptime restarts pid processes words")
# moment: on the monotonic clock. supervisor: as Client.status() tells it. usage: of proc, by process ID; None where the processes are on another host.
Look = namedtuple("Look", "moment supervisor usage")

ORDERS: dict[str, Callable[[Row], Any]] = {
    "cpu": lambda row: -(row.cpu or 0.0),
    "memory": lambda row: -(row.memory or 0),
    "restarts": lambda row: -(row.restarts or 0),
    "uptime": lambda row: row.uptime if row.uptime is not None else float("inf"),
    "name": lambda row: "",
}
# Heading and width of the columns between name and state.
_COLUMNS = (("CPU%", 6), ("MEMORY", 7), ("UPTIME", 7), ("RESTARTS", 8))
_COLOURS = {"RUNNING": GREEN, "STARTING": YELLOW, "STOPPING": YELLOW, "BACKOFF": RED, "FATAL": RED, "UNKNOWN": RED}


def look(client: Client) -> Look:
    supervisor = client.status()
    usage = None
    if client.address.local:
        groups = proc.by_group()
        pids = [process["pid"] for process in supervisor["processes"] if process["pid"]]
        # A supervisor in another PID namespace (a container) tells numbers that mean other processes here.
        if not pids or any(proc.parent(pid) == supervisor["pid"] for pid in pids):
            usage = {pid: groups[pid] for pid in pids if pid in groups}
    return Look(time.monotonic(), supervisor, usage)


def rows(before: Look | None, after: Look, names: Sequence[str] = ()) -> list[Row]:
    """The table's rows. before: an earlier look, without which there is no CPU%. names: of processes, or patterns; all where there are none."""
    processes = after.supervisor["processes"]
    known = [(process["group"], process["name"].partition(":")[2] or process["name"]) for process in processes]
    chosen: Collection[tuple[str, str]] = {entry for name in names for entry in ctl_names.matching(name, known)} if names else known
    return [_row(before, after, process) for process, entry in zip(processes, known) if entry in chosen]


def _row(before: Look | None, after: Look, process: dict[str, Any]) -> Row:
    pid = process["pid"]
    usage = after.usage.get(pid) if after.usage is not None and pid else None
    cpu = None
    if usage is not None and before is not None and before.usage is not None:
        # A process that is new since then has used all of its time since then.
        earlier = before.usage.get(pid)
        cpu = 100 * max(0.0, usage.cpu - (earlier.cpu if earlier else 0.0)) / max(after.moment - before.moment, 0.001)
    memory = usage.memory if usage else process["memory"]
    return Row(
        process["name"], process["state"], cpu, memory, process["uptime"], process["restarts"], pid, usage.processes if usage else None, words_for(process)
    )


def words_for(process: dict[str, Any]) -> str:
    """A process's state in words."""
    state, age, error = process["state"], process["heartbeat_age"], process["spawn_error"]
    if state == "RUNNING":
        return f"running, heartbeat {short_duration(age)} ago" if age is not None else "running"
    if state == "BACKOFF":
        tries = process["tries"]
        return "waiting" + (f", {tries} failed {'start' if tries == 1 else 'starts'}" if tries else "") + (f": {error}" if error else "")
    if state == "EXITED":
        code = process["exit_status"]
        return "ended" + (" by a signal" if code == -1 else f", exit status {code}" if code is not None else "")
    if state == "STOPPED":
        return "never started" if process["description"] == "Not started" else "stopped"
    if state == "FATAL":
        return f"failed: {error}" if error else "failed"
    return str(state).lower()


def ordered(found: list[Row], order: str) -> list[Row]:
    return sorted(found, key=lambda row: (ORDERS[order](row), row.name))


def heading(after: Look, found: list[Row], width: int) -> list[str]:
    """Two lines: the supervisor, and its processes in numbers."""
    supervisor = after.supervisor
    mood = "" if supervisor["state"] == "RUNNING" else f", {supervisor['state'].lower()}"
    counts = {"running": 0, "starting": 0, "stopping": 0, "waiting": 0, "failed": 0, "stopped": 0}
    for row in found:
        counts[{"BACKOFF": "waiting", "FATAL": "failed", "UNKNOWN": "failed", "EXITED": "stopped"}.get(row.state, row.state.lower())] += 1
    used = [row.cpu for row in found if row.cpu is not None]
    memory = [row.memory for row in found if row.memory is not None]
    numbers = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"
    total = (f"   CPU {sum(used):.1f}%" if used else "") + (f"   memory {size(sum(memory))}" if memory else "")
    name = "fcgivisord" if supervisor["ours"] else "supervisord"
    first = f"{name} {supervisor['version']}, pid {supervisor['pid']}{mood}"
    moment = time.strftime("%H:%M:%S")
    return [
        cell(first, width - len(moment) - 1) + " " + moment,
        cell(f"{len(found)} {'process' if len(found) == 1 else 'processes'}: {numbers}{total}", width).rstrip(),
    ]


def table(found: list[Row], width: int = WIDTH, colour: bool = False) -> list[str]:
    """A line of headings and one for each row, none wider than width."""
    fixed = sum(columns_wide + 2 for _heading, columns_wide in _COLUMNS)
    longest = max([len("NAME"), *(columns(row.name) for row in found)])
    name_width = max(8, min(longest, width - fixed - 2 - 16))  # at least 16 columns for the state
    state_width = max(0, width - name_width - fixed - 2)
    head = [cell("NAME", name_width), *(cell(text, wide, right=True) for text, wide in _COLUMNS), "STATE"]
    lines = ["  ".join(head)[:width]]
    if colour:
        lines[0] = f"{REVERSE}{cell(lines[0], width)}{PLAIN}"
    for row in found:
        values = (
            f"{row.cpu:.1f}" if row.cpu is not None else "-",
            size(row.memory),
            short_duration(row.uptime),
            "-" if row.restarts is None else str(row.restarts),
        )
        cells = [cell(row.name, name_width), *(cell(text, wide, right=True) for text, (_heading, wide) in zip(values, _COLUMNS))]
        words = cell(row.words, state_width).rstrip()
        if colour and row.state in _COLOURS:
            words = f"{_COLOURS[row.state]}{words}{PLAIN}"
        lines.append("  ".join([*cells, words]).rstrip())
    return lines
