# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what a role's defaults/main.yml sets with what its meta/argument_specs.yml declares for "main".

Ansible checks neither: an undeclared default is a variable without a type, and a declared one with another default is a lie in the documentation.
"""

from __future__ import annotations

import pathlib
import sys

import yaml

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"


def load(path: pathlib.Path) -> dict:
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def faults(role: pathlib.Path):
    defaults = load(role / "defaults" / "main.yml")
    entry_points = load(role / "meta" / "argument_specs.yml").get("argument_specs", {})
    if "main" not in entry_points:
        yield "meta/argument_specs.yml declares no entry point main"
        return
    options = entry_points["main"].get("options", {})
    declared = {name for entry_point in entry_points.values() for name in entry_point.get("options", {})}
    for name in sorted(set(defaults) - declared):
        yield f"{name} has a default, but no type in meta/argument_specs.yml"
    for name in sorted(set(options) - set(defaults)):
        if "default" in options[name]:
            yield f"{name} has a default in meta/argument_specs.yml, but none in defaults/main.yml"
    for name in sorted(name for name in set(options) & set(defaults) if "default" in options[name]):
        if options[name]["default"] != defaults[name]:
            yield f"{name} is {defaults[name]!r} in defaults/main.yml, but {options[name]['default']!r} in meta/argument_specs.yml"
    for name in sorted(set(defaults) | declared):
        if not name.startswith("fcgi_"):
            yield f"{name} does not begin with fcgi_"


def main() -> int:
    roles = sorted(path for path in ROLES.iterdir() if path.is_dir())
    found = [f"roles/{role.name}: {fault}" for role in roles for fault in faults(role)]
    print("\n".join(found) or f"{len(roles)} roles agree with their argument_specs")
    return 1 if found or not roles else 0


if __name__ == "__main__":
    sys.exit(main())
