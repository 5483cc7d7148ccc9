# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time and memory of process groups, from proc(5): a worker that is a master of others counts with them."""

from __future__ import annotations

import os
from collections import namedtuple

# cpu: seconds that it and its buried children used since they began. memory: resident bytes (what processes share counts for each). processes: how many.
Usage = namedtuple("Usage", "cpu memory processes")

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def by_group(proc: str = "/proc") -> dict[int, Usage]:
    """The usage of every process group that can be seen, by its number, which is the process ID of its leader."""
    groups: dict[int, Usage] = {}
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        fields = _stat(f"{proc}/{name}/stat")
        if fields is None:
            continue
        number, cpu, memory = int(fields[2]), sum(map(int, fields[11:15])) / _TICKS, int(fields[21]) * _PAGE
        known = groups.get(number, Usage(0.0, 0, 0))
        groups[number] = Usage(known.cpu + cpu, known.memory + memory, known.processes + 1)
    return groups


def parent(pid: int, proc: str = "/proc") -> int:
    """The parent of a process; 0 if that cannot be seen."""
    fields = _stat(f"{proc}/{pid}/stat")
    return int(fields[1]) if fields else 0


def one(pid: int, proc: str = "/proc") -> Usage | None:
    """The usage of a single process."""
    fields = _stat(f"{proc}/{pid}/stat")
    return Usage(sum(map(int, fields[11:13])) / _TICKS, int(fields[21]) * _PAGE, 1) if fields else None


def _stat(path: str) -> list[bytes] | None:
    """The fields behind the command's name, which may hold blanks and parentheses: field 0 is the state."""
    try:
        with open(path, "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:  # it has ended
        return None
