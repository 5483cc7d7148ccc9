# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every task of the roles."""

from __future__ import annotations

import pathlib
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
