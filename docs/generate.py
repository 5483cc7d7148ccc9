# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/fcgi_apps.md from the tables of the model, and docs/fcgivisord-keys.md from those of the bundled supervisor.

With --check: say whether they are up to date (exit status 1 if they are not).
"""

from __future__ import annotations

import json
import pathlib
import sys
import types

DOCS = pathlib.Path(__file__).resolve().parent

# This checkout under the name by which its parts import each other, without Ansible.
for name, path in {"ansible_collections": [], "ansible_collections.webops": [], "ansible_collections.webops.fastcgi": [str(DOCS.parent)]}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import APP  # noqa: E402
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES  # noqa: E402
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import ListOf, OrFalse, Table  # noqa: E402

sys.path.insert(0, str(DOCS.parent / "roles" / "fcgi_supervisor" / "files"))
from fcgivisor import keys as fcgivisor_keys  # noqa: E402 (its directory has to be named first)

HEAD = """# `fcgi_apps`, key by key

<!-- Made by docs/generate.py from plugins/plugin_utils/model_keys.py: change it there. -->

`fcgi_apps` is a list; each item is one application. Only `name` and `command` are required, with kind php_fpm `name`, `kind` and `root`. An unknown key, a
value that is not of its type, and applications that get in each other's way are errors before anything is touched; one run shows all of them. Where a list is
asked for, one item alone may stand without a list.

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
        only = f" Only for `kind: {'` and `'.join(key.kinds)}`." if key.kinds else ""
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


HEAD_OF_KEYS = """# Keys of `fcgivisord`'s configuration

<!-- Made by docs/generate.py from roles/fcgi_supervisor/files/fcgivisor/keys.py: change it there. -->

The file is supervisord's. Keys in **bold** are ours; supervisord ignores them, so one file serves both.
The last column says what a change asks of a process that runs, when `fcgivisorctl update` applies it: nothing, nothing until its next start, or a restart.
"""
SECTIONS_OF_KEYS = {
    "[program:x]": fcgivisor_keys.PROGRAM,
    "[fcgi-program:x], in addition": fcgivisor_keys.FCGI,
    "[eventlistener:x], in addition": fcgivisor_keys.LISTENER,
    "[group:x]": fcgivisor_keys.GROUP,
    "[supervisord]": fcgivisor_keys.SUPERVISORD,
    "[unix_http_server]": fcgivisor_keys.UNIX_SERVER,
    "[inet_http_server]": fcgivisor_keys.INET_SERVER,
}
CHANGES = {fcgivisor_keys.LIVE: "", fcgivisor_keys.NEXT_SPAWN: "next start", fcgivisor_keys.RESTART: "restart"}


def supervisor_default(key):
    if key.default is None or key.default == "":
        return ""
    if key.convert in (fcgivisor_keys.values.octal,):
        return f"`{key.default:04o}`"
    words = {True: "true", False: "false"}.get(key.default) if isinstance(key.default, bool) else None
    if isinstance(key.default, (list, tuple)):
        words = ",".join(str(item) for item in key.default if item != -1)
    return f"`{words if words is not None else key.default}`" if words != "" else ""


def supervisor_keys():
    parts = [HEAD_OF_KEYS]
    for title, table in SECTIONS_OF_KEYS.items():
        parts.append(f"\n## {title}\n\n| key | default | meaning | change |\n|---|---|---|---|\n")
        for key in table:
            name = f"**`{key.name}`**" if key.ours else f"`{key.name}`"
            parts.append(f"| {name} | {cell(supervisor_default(key))} | {cell(key.about)} | {CHANGES[key.change]} |\n")
    return "".join(parts)


def main(arguments):
    targets = {
        DOCS / "fcgi_apps.md": HEAD + section("fcgi_apps[]", APP) + runtimes(),
        DOCS / "fcgivisord-keys.md": supervisor_keys(),
    }
    for target, text in targets.items():
        if "--check" not in arguments:
            target.write_text(text, encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{target.name} is not what its tables say: run docs/generate.py")


if __name__ == "__main__":
    main(sys.argv[1:])
