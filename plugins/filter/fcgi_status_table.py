# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of fcgi_program_info as a table for people."""

from __future__ import annotations

import itertools
import typing as t

from ansible.errors import AnsibleFilterError

# From what needs somebody's attention to what does not.
_STATES = ("fatal", "unknown", "backoff", "exited", "stopping", "starting", "stopped", "running")
_TITLES = ("", "PROGRAM", "PROCESS", "STATE", "PID", "UPTIME", "RESTARTS", "SOCKET")
_NEEDED = ("program", "name", "state", "pid", "uptime", "restarts", "socket")


def fcgi_status_table(processes: t.Any) -> list[str]:
    """Lines of a table. Programs with a process that does not run come first, such processes are marked with "!"; a program's name stands once.

    Raises AnsibleFilterError for anything but the processes of fcgi_program_info or fcgi_program.
    """
    if not isinstance(processes, (list, tuple)) or not all(isinstance(one, dict) and one.keys() >= set(_NEEDED) for one in processes):
        raise AnsibleFilterError("fcgi_status_table: give it the list 'programs' that fcgi_program_info or fcgi_program returned")
    rows = [_TITLES, *(row for program in _programs(processes) for row in _rows(program))]
    if len(rows) == 1:
        return ["no programs"]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
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
