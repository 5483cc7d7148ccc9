# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is derived for the host and its supervisor: sections, users, releases, and what is removed.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shlex
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_php as php
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_defaults import current_release
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import all_endpoints, endpoints, holds_socket, is_local_tcp
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import SAME_IN_SUPERVISORD, App, Options
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES


def program(app: App, options: Options) -> dict[str, Any]:
    """The app's section for the supervisor, not yet escaped, and its entry in C(metadata.programs) (see docs/architecture.md)."""
    held, is_php = holds_socket(app, options), app["kind"] == "php_fpm"
    first_port = endpoints(app)[0].port if app["kind"] == "listener" else 0
    return {
        "name": app["name"],
        "app": app["name"],
        "kind": app["kind"],
        "section": f"{'fcgi-program' if held else 'program'}:{app['name']}",
        "options": _options(app, first_port, held),
        "environment": _environment(app, options),
        "environment_expanded": {"PORT": "%(process_num)d"} if first_port and "PORT" not in app["environment"] else {},
        "metadata": {
            "name": app["name"],
            "app": app["name"],
            "kind": app["kind"],
            "groups": app["groups"],
            "socket": app["socket"] if held else None,
            "listen": [endpoint.listen for _key, endpoint in all_endpoints(app)[1 if held else 0 :]],
            "user": app["user"],
            "autostart": app["autostart"],
            "startsecs": app["startsecs"],
            "stopwaitsecs": app["stopwaitsecs"],
            "reload_signal": app["reload_signal"],
            "reload_digest": php.reload_digest(app, options) if is_php else None,
        },
    }


def _options(app: App, first_port: int, held: bool) -> list[list[str]]:
    """The keys of supervisord's section in order, as [key, text]; what is left out keeps supervisord's default.

    supervisord cannot add: with a first port, the process number is the port, from that one on.
    """
    options = {
        "command": shlex.join(app["command"]),
        "process_name": f"%(program_name)s_%(process_num){'d' if first_port else '02d'}",
        "numprocs": app["processes"],
        "numprocs_start": first_port or None,
        **{key: app[key] for key in SAME_IN_SUPERVISORD if held or not key.startswith("socket")},
        **app["extra"],
    }
    return [[key, _option_text(value)] for key, value in options.items() if value is not None]


def _option_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _environment(app: App, options: Options) -> dict[str, str]:
    return {
        **RUNTIMES[app["runtime"]].environment,
        **({"FCGI_WEB_SERVER_ADDRS": "127.0.0.1"} if RUNTIMES[app["runtime"]].libfcgi and is_local_tcp(app) else {}),
        "HOME": app["home"],
        "USER": app["user"],
        "LOGNAME": app["user"],
        "FCGI_DIGEST": _digest(app, options),
        # php-fpm has them in its pools, where a change needs a reload alone.
        **({} if app["kind"] == "php_fpm" else app["environment"]),
    }


def _digest(app: App, options: Options) -> str:
    """Changes with what the supervisor does not compare when it reads a section again, so that it sees a change in the environment.

    fcgivisord compares the socket's options itself, and applies them without a restart.
    """
    socket = [] if options["supervisor"] == "fcgivisord" else [app["socket_owner"], app["socket_mode"], app["socket_backlog"]]
    unseen = [*socket, php.unseen(app, options) if app["kind"] == "php_fpm" else app["release"] and app["release"]["version"]]
    return hashlib.sha256(json.dumps(unseen).encode()).hexdigest()[:16]


def users(apps: list[App], options: Options) -> list[dict[str, Any]]:
    """The users, each once, with the first app that has it."""
    first: dict[str, App] = {}
    for app in apps:
        first.setdefault(app["user"], app)
    return [
        {
            "app": app["name"],
            "name": name,
            "group": app["group"],
            "home": app["home"],
            "create_home": app["create_home"],
            "shell": options["nologin"],
        }
        for name, app in first.items()
    ]


def release(app: App, options: Options) -> dict[str, Any]:
    """What the module fcgi_release is given. executable: the program's path inside the release, if it lies there."""
    path = posixpath.join(options["srv_dir"], app["name"])
    executable = app["command"][0]
    current = f"{current_release(app, options)}/"
    return {
        **app["release"],
        "app": app["name"],
        "path": path,
        "user": app["user"],
        "group": app["group"],
        "executable": posixpath.normpath(executable[len(current) :]) if executable.startswith(current) else "",
    }


def commands(apps: list[App], options: Options) -> list[dict[str, Any]]:
    """What is executed, by the supervisor or by fcgiwrap. pending: whether a release will bring it."""
    executed = [(app, path) for app in apps if app["kind"] != "php_fpm" for path in [app["command"][0], *_scripts(app)]]
    return [
        {"app": app["name"], "command": path, "user": app["user"], "pending": bool(app["release"]) and path.startswith(f"{current_release(app, options)}/")}
        for app, path in executed
    ]


def _scripts(app: App) -> list[str]:
    """The programs that fcgiwrap is told to run; what has a variable of nginx only a request can tell."""
    scripts = [location["script_filename"] for location in app["locations"]] if app["runtime"] == "fcgiwrap" else []
    return sorted({script for script in scripts if script and "$" not in script})


def groups(apps: list[App]) -> dict[str, list[str]]:
    """The labels, and the names of the apps that have them."""
    members: dict[str, list[str]] = {}
    for app in apps:
        for group in app["groups"]:
            members.setdefault(group, []).append(app["name"])
    return members


def purged(app: App, present: list[App], options: Options) -> dict[str, Any]:
    """What is removed for good: what the roles make, and nothing else that may lie beside it. A user or group stays unless it is the app's own."""
    own = f"fcgi-{app['name']}"
    user_is_its_own = app["user"] == own and all(app["user"] != other["user"] for other in present)
    directory = posixpath.join(options["srv_dir"], app["name"])
    return {
        "name": app["name"],
        "user": app["user"] if user_is_its_own else "",
        "group": own if user_is_its_own and app["group"] == own else "",
        "paths": [
            *(posixpath.join(directory, name) for name in ("releases", "current", ".lock", "home")),
            *(path for path in (php.run_dir(app, options), php.slow_log_dir(app, options)) if app["kind"] == "php_fpm"),
        ],
        "directory": directory,
        # In the directory of all logs, those of the processes of this app and no other: shop_00.log, its backups, and shop_00.err.log.
        "logs": rf"{re.escape(app['name'])}_[0-9]+(\.err)?\.log(\.[0-9]+)?",
    }
