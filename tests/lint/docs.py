# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask ansible-doc for every plugin and role of the collection: each must have a description."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
COLLECTION = "webops.fastcgi"


def ansible_doc(kind: str, names: list[str]) -> dict:
    """What ansible-doc knows of these plugins (dict of name to its documentation)."""
    done = subprocess.run(["ansible-doc", "--json", "--type", kind, *names], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    print(done.stderr, end="", file=sys.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else {}


def filters() -> list[str]:
    """One file may define several filters; Ansible itself says which there are."""
    done = subprocess.run(["ansible-doc", "--list", "--json", "--type", "filter", COLLECTION], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return sorted(json.loads(done.stdout))


def plugins(directory: str) -> list[str]:
    return sorted(f"{COLLECTION}.{path.stem}" for path in (CHECKOUT / "plugins" / directory).glob("*.py") if not path.name.startswith("_"))


def roles() -> list[str]:
    return sorted(f"{COLLECTION}.{path.name}" for path in (CHECKOUT / "roles").iterdir() if path.is_dir())


def is_documented(kind: str, entry: dict) -> bool:
    if kind == "role":
        return all(entry_point.get("short_description") for entry_point in entry.get("entry_points", {}).values()) and bool(entry.get("entry_points"))
    doc = entry.get("doc") or {}
    return bool(doc.get("short_description") and doc.get("description") and entry.get("examples") and (kind == "filter" or entry.get("return")))


def main() -> int:
    wanted = {"module": plugins("modules"), "filter": filters(), "role": roles()}
    missing = []
    for kind, names in wanted.items():
        known = ansible_doc(kind, names) if names else {}
        missing += [f"{kind} {name}" for name in names if not is_documented(kind, known.get(name, {}))]
    count = sum(map(len, wanted.values()))
    print("\n".join(f"{name}: ansible-doc shows no description, examples or return values" for name in missing) or f"{count} plugins and roles are documented")
    return 1 if missing or not count else 0


if __name__ == "__main__":
    sys.exit(main())
