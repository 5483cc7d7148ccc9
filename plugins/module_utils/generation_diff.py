# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator may see of a generation: differences and messages in which secrets are masked.

This module util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import difflib
import grp
import json
import os
import pwd
import re
import typing as t

from ansible_collections.webops.fastcgi.plugins.module_utils.generation_content import State, read_file

MASK = "********"
_CHANGED = " (changed)"
_SHORT = 4  # characters: a shorter secret is looked for as a whole word only, or it would be found in every number
_QUOTED = re.compile(r"\"([^\"]+)\"|'([^']+)'")

Entry = dict[str, t.Any]
Hide = t.Callable[[str], str]


def hider(entries: list[Entry]) -> Hide:
    """The function that masks a line of a file, by what any of its declarations (old, new) calls secret.

    A file that nobody declared may be a copy of anything, and is masked as a whole.
    """
    if not entries or any(entry.get("secret") for entry in entries):
        return lambda line: MASK
    patterns = [re.compile(pattern) for entry in entries for pattern in entry.get("mask", [])]

    def hide(line: str) -> str:
        for pattern in patterns:
            match = pattern.search(line)
            if match:
                line = line[: match.end(1)] + MASK
        return line

    return hide


def secrets_of(entry: Entry, content: bytes) -> set[str]:
    """The values in a file that may not appear in any message, in the forms in which a program may repeat them."""
    text = content.decode("utf-8", "replace")
    if entry.get("secret"):
        values = {text, *text.splitlines()}
    else:
        patterns = [re.compile(pattern) for pattern in entry.get("mask", [])]
        matches = [(line, pattern.search(line)) for line in text.splitlines() for pattern in patterns]
        values = {line[match.end(1) :] for line, match in matches if match}
    for value in list(values):
        values.update(quoted for pair in _QUOTED.findall(value) for quoted in pair)
    values = {value.strip() for value in values}
    values |= {value.strip("\"';,") for value in values}
    values |= {value.replace("%%", "%") for value in values}
    values |= {repr(value)[1:-1] for value in values}
    return {value for value in values if value}


def redact(text: str, secrets: t.Iterable[str]) -> str:
    """The text with all secrets masked, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        pattern = re.escape(secret)
        text = re.sub(rf"(?<!\w){pattern}(?!\w)" if len(secret) < _SHORT else pattern, MASK, text)
    return text


def difference(
    live_directory: str | None,
    final_path: str,
    observed: dict[str, State],
    wanted: dict[str, State],
    entries: dict[str, list[Entry]],
    contents: dict[str, bytes],
) -> list[dict[str, str]]:
    """One before/after for each entry that differs.

    observed and wanted: what lies on disk and what will, by path; entries: what the old and the new manifest declare of
    a path; contents: the new ones.
    """
    differences = []
    for path in sorted(observed.keys() | wanted.keys()):
        old, new = observed.get(path), wanted.get(path)
        if old != new:
            hide, brief = hider(entries.get(path, [])), any(entry.get("brief") for entry in entries.get(path, []))
            old_content = read_file(os.path.join(live_directory, path)) if live_directory else None
            before, after = _masked_pair(_text(old, old_content, brief), _text(new, contents.get(path), brief), hide)
            attributes = ("", "") if old and new and old[:4] == new[:4] else (_attributes(old), _attributes(new))
            differences.append(before_after(os.path.join(final_path, path), attributes[0] + before, attributes[1] + after))
    return differences


def before_after(header: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def links_text(targets: dict[str, str]) -> str:
    return "".join(f"{path} -> {target}\n" for path, target in sorted(targets.items()))


def metadata_text(metadata: dict[str, t.Any] | None) -> str:
    return json.dumps(metadata, indent=1, sort_keys=True) + "\n" if metadata else ""


def _text(state: State | None, content: bytes | None, brief: bool) -> list[str]:
    if state is None or content is None:
        return []
    if brief:
        return [f"(sha256 {state.sha256})"]
    try:
        return content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return [f"(binary, sha256 {state.sha256})"]


def _masked_pair(before: list[str], after: list[str], hide: Hide) -> tuple[str, str]:
    """Both texts, masked; a masked line that is new or changed says so, without a hint of its value."""
    shown = [hide(line) for line in after]
    operations = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes() if before else []
    for operation, _start, _end, first, last in operations:
        for number in range(first, last):
            if operation != "equal" and shown[number] != after[number]:
                shown[number] += _CHANGED
    return _join([hide(line) for line in before]), _join(shown)


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _attributes(state: State | None) -> str:
    if state is None:
        return ""
    owner = _name(state.uid, lambda uid: pwd.getpwuid(uid).pw_name)
    group = _name(state.gid, lambda gid: grp.getgrgid(gid).gr_name)
    return f"{state.kind}, mode {state.mode:04o}, owner {owner}, group {group}\n"


def _name(number: int, look_up: t.Callable[[int], str]) -> str:
    try:
        return look_up(number)
    except (KeyError, OverflowError, ValueError):
        return str(number) if number >= 0 else "(not there yet)"
