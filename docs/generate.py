# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/fcgi_apps.md from the tables of the model. With --check: say whether it is up to date (exit status 1 if it is not)."""

from __future__ import annotations

import json
import pathlib
import sys
import types

DOCS = pathlib.Path(__file__).resolve().parent
TARGET = DOCS / "fcgi_apps.md"

# This checkout under the name by which its parts import each other, without Ansible.
for name, path in {"ansible_collections": [], "ansible_collections.webops": [], "ansible_collections.webops.fastcgi": [str(DOCS.parent)]}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import APP  # noqa: E402
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES  # noqa: E402
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import ListOf, OrFalse, Table  # noqa: E402

HEAD = """# `fcgi_apps`, key by key

<!-- Made by docs/generate.py from plugins/plugin_utils/model_keys.py: change it there. -->

`fcgi_apps` is a list; each item is one application. Only `name` and `command` are required. An unknown key, a value that is not of its type, and
applications that get in each other's way are errors before anything is touched; one run shows all of them. Where a list is asked for, one item alone may stand
without a list.

```yaml
fcgi_apps:
  - name: shop
    command: bin/shop
    processes: 6
    release: {src: dist/shop.tar.gz, version: "1.4.2"}
    locations: [{path: /shop}]
    environment: {SHOP_DB: "host=db1"}
    health: {path: /shop/healthz}
```
"""

HEAD_OF_RUNTIMES = """
## Runtimes

`runtime` presets what is known of an application's making. Every preset can be overruled by the key of its name.

| runtime | for | stopsignal | stopwaitsecs | keepalive | environment |
|---|---|---|---|---|---|
"""


def cell(text):
    """Text for one cell of a Markdown table."""
    return text.replace("|", "\\|")


def table_of(kind):
    """The table of known keys inside a type, and the marks of a list round it; (None, "") if there is none."""
    if isinstance(kind, ListOf):
        table, marks = table_of(kind.item)
        return table, f"[]{marks}"
    if isinstance(kind, OrFalse):
        return kind.table, ""
    return (kind, "") if isinstance(kind, Table) else (None, "")


def default_of(key):
    if key.required:
        return "**required**"
    if key.otherwise:
        return key.otherwise
    return "none" if key.default is None else f"`{json.dumps(key.default)}`"


def section(path, table):
    """The keys of one table (path: where it stands, such as fcgi_apps[].release), and sections for the tables in it."""
    rows = []
    below = []
    for key in table.keys:
        inner, marks = table_of(key.type)
        value = f"see [below](#{key.name})" if inner else key.type.words
        only = f" Only for `kind: {key.kind}`." if key.kind else ""
        rows.append(f"| `{key.name}` | {cell(value)} | {cell(default_of(key))} | {cell(key.doc)}{only} |\n")
        if inner:
            inner_path = f"{path}.{key.name}{marks}"
            below.append(f"\n## {key.name}\n\nKeys of `{inner_path}`.\n{section(inner_path, inner)}")
    return "".join(["\n| key | value | default | meaning |\n|---|---|---|---|\n", *rows, *below])


def runtimes():
    rows = []
    for name, preset in RUNTIMES.items():
        environment = ", ".join(f"`{key}={value}`" for key, value in preset.environment.items())
        keepalive = "on" if preset.keepalive else "off"
        rows.append(f"| `{name}` | {cell(preset.about)} | {preset.stopsignal} | {preset.stopwaitsecs} | {keepalive} | {environment} |\n")
    return HEAD_OF_RUNTIMES + "".join(rows)


def main(arguments):
    text = HEAD + section("fcgi_apps[]", APP) + runtimes()
    if "--check" in arguments:
        if TARGET.read_text(encoding="utf-8") != text:
            sys.exit("docs/fcgi_apps.md is not what the model says: run docs/generate.py")
        return
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
