# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of fcgi_program_info, and the pools of fcgi_probe, as tables for people."""

from __future__ import annotations

import itertools
import typing as t

from ansible.errors import AnsibleFilterError

# From what needs somebody's attention to what does not.
_STATES = ("fatal", "unknown", "backoff", "exited", "stopping", "starting", "stopped", "running")
_TITLES = ("", "PROGRAM", "PROCESS", "STATE", "PID", "UPTIME", "RESTARTS", "SOCKET")
_NEEDED = ("program", "name", "state", "pid", "uptime", "restarts", "socket")

_POOL_TITLES = ("", "POOL", "PM", "ACTIVE", "IDLE", "QUEUE", "MAX ACTIVE", "MAX CHILDREN REACHED", "SLOW", "SINCE")
_POOL_NEEDED = ("name", "ok", "message", "pool")


def fcgi_status_table(processes: t.Any, pools: t.Any = None) -> list[str]:
    """Lines of a table. Programs with a process that does not run come first, such processes are marked with "!"; a program's name stands once.

    Under it a table of the pools, if there are any, those first and marked that need somebody's attention.
    Raises AnsibleFilterError for anything but the processes of fcgi_program_info or fcgi_program, and probes of fcgi_probe's mode php_fpm_status.
    """
    if not isinstance(processes, (list, tuple)) or not all(isinstance(one, dict) and one.keys() >= set(_NEEDED) for one in processes):
        raise AnsibleFilterError("fcgi_status_table: give it the list 'programs' that fcgi_program_info or fcgi_program returned")
    rows = [row for program in _programs(processes) for row in _rows(program)]
    lines = _aligned([_TITLES, *rows]) if rows else ["no programs"]
    return [*lines, "", *_pool_lines(pools)] if pools else lines


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines. What stands last in a row makes its column no wider: it may be a sentence."""
    widths = [max((len(row[column]) for row in rows if column < len(row) - 1), default=0) for column in range(max(map(len, rows)))]
    return [" ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _programs(processes: t.Iterable[dict[str, t.Any]]) -> list[list[dict[str, t.Any]]]:
    """The processes of each program, worst first."""
    by_name = sorted(processes, key=lambda process: (process["program"], _urgency(process), process["name"]))
    programs = [list(group) for _name, group in itertools.groupby(by_name, key=lambda process: process["program"])]
    return sorted(programs, key=lambda program: _urgency(program[0]))


def _urgency(process: dict[str, t.Any]) -> int:
    return _STATES.index(process["state"])


def _rows(program: list[dict[str, t.Any]]) -> list[tuple[str, ...]]:
    first = (program[0]["program"], (program[0]["socket"] or "-").replace("unix://", "", 1))
    return [_row(process, *(first if number == 0 else ("", ""))) for number, process in enumerate(program)]


def _row(process: dict[str, t.Any], program: str, address: str) -> tuple[str, ...]:
    mark = "" if process["state"] == "running" else "!"
    return (mark, program, process["name"], process["state"], _cell(process["pid"]), _duration(process["uptime"]), _cell(process["restarts"]), address)


def _pool_lines(pools: t.Any) -> list[str]:
    if not isinstance(pools, (list, tuple)) or not all(_is_pool(probe) for probe in pools):
        raise AnsibleFilterError("fcgi_status_table: give it, as pools, the list 'probes' that fcgi_probe returned in mode php_fpm_status")
    return _aligned([_POOL_TITLES, *sorted(map(_pool_row, pools), key=lambda row: row[0] == "")])


def _is_pool(probe: t.Any) -> bool:
    return isinstance(probe, dict) and probe.keys() >= set(_POOL_NEEDED) and (isinstance(probe["pool"], dict) or not probe["ok"])


def _pool_row(probe: dict[str, t.Any]) -> tuple[str, ...]:
    pool = probe["pool"]
    if not probe["ok"]:
        return ("!", probe["name"], probe["message"])
    # What php-fpm does not measure it calls 0: the queue of a unix socket, and how often a static pool has too few workers.
    static = pool["process_manager"] == "static"
    queue = pool["listen_queue"] if pool["listen_queue_len"] else None
    reached = None if static else pool["max_children_reached"]
    mark = "!" if queue or reached or (static and not pool["idle_processes"]) else ""
    counts = (pool["active_processes"], pool["idle_processes"], queue, pool["max_active_processes"], reached, pool["slow_requests"])
    return (mark, probe["name"], pool["process_manager"], *map(_cell, counts), _duration(pool["start_since"]))


def _cell(value: t.Any) -> str:
    return "-" if value is None else str(value)


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}:{minutes:02}:{seconds:02}" if days else f"{hours}:{minutes:02}:{seconds:02}"


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"fcgi_status_table": fcgi_status_table}
