# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of processes and groups as people write them: group:process, group:*, patterns, and what was meant instead."""

from __future__ import annotations

import difflib
import fnmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def split(name: str) -> tuple[str, str | None]:
    """Group and process; None for all of a group (supervisor/options.py, split_namespec)."""
    group, colon, process = name.partition(":")
    if not colon:
        return name, name
    return group, None if process in ("", "*") else process


def join(group: str, process: str | None) -> str:
    """group:process, or the name where both are the same (supervisor/options.py, make_namespec)."""
    return group if process in (None, group) else f"{group}:{process}"


def is_pattern(name: str) -> bool:
    """Whether a name is a pattern: more than a name, or than group:*."""
    group, process = split(name)
    return any(character in group + (process or "") for character in "*?[")


def matching(pattern: str, known: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of (group, process), those that a name or a pattern means. A pattern without a colon also fits the names of groups."""
    group, process = split(pattern)
    exact = [entry for entry in known if entry[0] == group and process in (None, entry[1])]
    if exact or not is_pattern(pattern):
        return exact
    if process is None:
        return [entry for entry in known if fnmatch.fnmatchcase(entry[0], group)]
    return [
        entry
        for entry in known
        if fnmatch.fnmatchcase(join(*entry), pattern) or fnmatch.fnmatchcase(":".join(entry), pattern) or fnmatch.fnmatchcase(entry[0], pattern)
    ]


def expand(pattern: str, known: Sequence[tuple[str, str]]) -> list[str]:
    """The names that a pattern stands for; where all of a group fit, group:*, so that the supervisor takes them at once."""
    found = matching(pattern, known)
    names: list[str] = []
    for group in dict.fromkeys(entry[0] for entry in found):
        members = [entry for entry in known if entry[0] == group]
        chosen = [entry for entry in found if entry[0] == group]
        names += [f"{group}:*"] if len(members) > 1 and len(chosen) == len(members) else [join(*entry) for entry in chosen]
    return names


def did_you_mean(name: str, known: Sequence[tuple[str, str]]) -> str:
    """A hint to append to an error: the name that was probably meant; empty where there is none."""
    group, process = split(name)
    groups = {entry[0] for entry in known}
    if process == group and group in groups:
        return f"; it is a group: did you mean {group}:*?"
    same = [join(*entry) for entry in known if entry[1] == process]
    return f"; did you mean {same[0]}?" if same else nearest(name, [*(join(*entry) for entry in known), *groups])


def nearest(word: str, known: Collection[str]) -> str:
    """A hint to append to an error about a word that is none of the known ones."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
