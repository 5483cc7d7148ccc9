# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every task of the roles."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import yaml

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"


def tasks(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in found:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks(task.get(part, []))


def test_no_loop_hides_the_item_of_a_playbook_that_includes_a_role_in_a_loop():
    """fcgi_apps: "{{ item.apps }}" is evaluated where it is used: in our loops too."""
    loops = [
        (path.relative_to(ROLES), task["name"], task.get("loop_control", {}).get("loop_var", "item"))
        for path in sorted(ROLES.glob("*/tasks/*.yml"))
        for task in tasks(yaml.safe_load(path.read_text()))
        if "loop" in task or any(key.startswith("with_") for key in task)
    ]
    assert len(loops) > 10
    assert [loop for loop in loops if not loop[2].startswith("__fcgi_")] == []


def included_on_a_condition(path: pathlib.Path) -> Iterator[pathlib.Path]:
    for task in tasks(yaml.safe_load(path.read_text())):
        include = task.get("ansible.builtin.include_tasks")
        if include and "when" in task:
            yield path.parent / (include if isinstance(include, str) else include["file"])


def test_nobody_asks_whether_something_changed_in_a_file_that_may_not_be_included():
    """A role may be included twice in a play: what the first inclusion has registered is still there when the second one leaves the file out."""
    everywhere = [*ROLES.glob("*/tasks/*.yml"), *ROLES.glob("*/vars/*.yml")]
    conditional = {file for path in ROLES.glob("*/tasks/*.yml") for file in included_on_a_condition(path) if file.exists()}
    registered = [(file, task["register"]) for file in sorted(conditional) for task in tasks(yaml.safe_load(file.read_text())) if "register" in task]
    assert len(registered) > 10
    asked = [
        (name, str(path.relative_to(ROLES)))
        for file, name in registered
        for path in everywhere
        if path != file and re.search(rf"\b{name}\b[^\n]*\bis (not )?changed", path.read_text())
    ]
    assert asked == []
