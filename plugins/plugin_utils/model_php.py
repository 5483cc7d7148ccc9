# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kind php_fpm: a php-fpm master in the foreground, its pools, and how the supervisor starts it.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.

The master runs as the app's user, like any other program. Sources: php-fpm.conf(5) as in sapi/fpm/php-fpm.conf.in and www.conf.in,
sapi/fpm/fpm/fpm_conf.c (booleans, empty values), fpm_sockets.c (FPM_SOCKETS), fpm_env.c (a value that begins with a $).
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shlex
from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import Endpoint, holds_socket
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import App, Options

PING_PATH = "/fpm-ping"
STATUS_PATH = "/fpm-status"
POST_MAX_SIZE = "8M"  # of php.ini, where it says nothing
_STATUS_LISTEN_SINCE = (8, 0)  # PHP
_MOST_SPARE = 3  # processes, of Debian's and upstream's www.conf


def run_dir(app: App, options: Options) -> str:
    """Where the master may write: its pid file, and the sockets that it binds itself. Its group is nginx's, which new sockets inherit."""
    return posixpath.join(options["run_dir"], app["name"])


def slow_log_dir(app: App, options: Options) -> str:
    return posixpath.join(options["log_dir"], app["name"])


def command(app: App, options: Options) -> list[str]:
    """The program's command: a shell that makes way for php-fpm.

    The socket that the supervisor holds is passed on under another number: php-fpm opens /dev/null as 0. Where php-fpm binds it, what a master that was
    killed left behind, which would keep the address, is ended first.
    """
    configuration = posixpath.join(generation(options), f"{app['name']}.conf")
    php_fpm = shlex.join([binary(app, options), "--nodaemonize", "--force-stderr", "--fpm-config", configuration])
    # Waiting, bash, which is sh in the RHEL family, would ignore a QUIT.
    wait = ["trap exit QUIT", f"sleep {app['start_delay']}"] if app["start_delay"] else []
    if holds_socket(app, options):
        steps = [*wait, "exec 3<&0", f"FPM_SOCKETS={shlex.quote(listen(app['socket']))}=3 exec {php_fpm}"]
    else:
        pools = [app["name"], *(pool_name(app, pool["name"]) for pool in app["pools"])]
        leftovers = shlex.join(["/bin/sh", posixpath.join(generation(options), "leftovers.sh"), pid_file(app, options), configuration, *pools])
        steps = [leftovers, *wait, f"exec {php_fpm}"]
    return ["/bin/sh", "-c", " && ".join(steps)]


def binary(app: App, options: Options) -> str:
    return named(options["php"]["command"], app["php_version"])


def named(pattern: str, version: str, extension: str = "") -> str:
    """A name of the operating system's for a version of PHP, such as php{version}-{extension}."""
    return pattern.replace("{version}", version).replace("{extension}", extension)


def generation(options: Options) -> str:
    return posixpath.join(options["config_dir"], options["fcgi_set"], "fcgi_php_fpm", "current")


def pid_file(app: App, options: Options) -> str:
    return posixpath.join(run_dir(app, options), "php-fpm.pid")


def listen(address: Any) -> str:
    """As php-fpm writes an address: a path, or addr:port. A port alone would mean all addresses."""
    endpoint = Endpoint.parse(address)
    return endpoint.path or endpoint.listen


def files(app: App, options: Options) -> dict[str, Any]:
    """The master's configuration: what the template prints."""
    return {"path": f"{app['name']}.conf", "group": app["group"], "vars": {"fpm": {"app": app["name"], "sections": list(_sections(app, options))}}}


def _sections(app: App, options: Options) -> Iterator[dict[str, Any]]:
    yield {"name": "global", "settings": [*_managed_globals(app, options).items(), *app["global"].items()]}
    yield _pool(app, app, "", app["environment"], options)
    for pool in app["pools"]:
        yield _pool(app, pool, pool["name"], {**app["environment"], **pool["environment"]}, options)


def _managed_globals(app: App, options: Options) -> dict[str, Any]:
    # To syslog, and with --force-stderr to stderr: /dev/stderr fails for a user other than root on a pipe, and for all on the journal's socket.
    return {"pid": pid_file(app, options), "error_log": "syslog", "daemonize": False}


def _pool(app: App, keys: dict[str, Any], name: str, environment: dict[str, str], options: Options) -> dict[str, Any]:
    """A pool's section. keys: the app's, or those of one of its C(pools). Without listen.owner and listen.group, which another user than root cannot set."""
    settings = {"listen": listen(keys["socket"])}
    if not (name == "" and holds_socket(app, options)):
        settings.update({"listen.mode": "0660"} if settings["listen"].startswith("/") else {})
        settings.update({"listen.backlog": app["socket_backlog"]} if app["socket_backlog"] else {})
    settings.update(keys["pool"])
    settings.update({key: listen(value) for key, value in settings.items() if key == "pm.status_listen"})
    # As systemd and supervisord name it; clear_env leaves nothing else of the master's environment.
    variables = {"HOME": app["home"], "USER": app["user"], "LOGNAME": app["user"], **environment}
    settings.update({f"env[{variable}]": value for variable, value in variables.items()})
    for key in ("php_value", "php_admin_value"):
        for directive, value in keys[key].items():
            flag = isinstance(value, bool)
            settings[f"{key.replace('value', 'flag') if flag else key}[{directive}]"] = value
    return {"name": pool_name(app, name), "settings": list(settings.items())}


def pool_name(app: App, name: str) -> str:
    """Of the app's own pool, where the name is empty, or of one of its C(pools)."""
    return f"{app['name']}_{name}" if name else app["name"]


def fill_pool(keys: dict[str, Any], name: str, options: Options, app: App) -> None:
    """The directives of a pool that are not given, in place."""
    given = keys["pool"]
    manager = given.get("pm", "dynamic")
    children = given.get("pm.max_children", 5)
    spare = _spare(given, _number(children, 5)) if manager == "dynamic" else {}
    directory = run_dir(app, options)
    defaults = {"pm": manager, "pm.max_children": children, **spare, "ping.path": PING_PATH, "pm.status_path": STATUS_PATH}
    if version_tuple(app["php_version"]) >= _STATUS_LISTEN_SINCE:
        defaults["pm.status_listen"] = posixpath.join(directory, f"{name}.status.sock" if name else "status.sock")
    defaults.update({"catch_workers_output": True, "decorate_workers_output": False})
    if "request_slowlog_timeout" in given:
        defaults["slowlog"] = posixpath.join(slow_log_dir(app, options), f"{name}.slow.log" if name else "slow.log")
    keys["pool"] = {**defaults, **given}


def _spare(given: dict[str, Any], children: int) -> dict[str, int]:
    """Of a dynamic pool: what php-fpm accepts beside what is given."""
    least = _number(given.get("pm.min_spare_servers"), 1)
    most = _number(given.get("pm.max_spare_servers"), max(least, min(_MOST_SPARE, children)))
    return {"pm.start_servers": least + (most - least) // 2, "pm.min_spare_servers": least, "pm.max_spare_servers": most}


def _number(value: Any, otherwise: int) -> int:
    return int(value) if re.fullmatch("[0-9]{1,9}", str(value)) else otherwise


def version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")) if version else _STATUS_LISTEN_SINCE


def seconds(time: Any) -> int | None:
    """Of php-fpm's times: a number with s, m, h or d, or without. None for any other."""
    found = re.fullmatch(r"([0-9]+)([smhd]?)", str(time))
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else None


def size(value: Any) -> int | None:
    """Bytes, of PHP's sizes such as 64M; -1 for no limit. None for any other."""
    found = re.fullmatch(r"(-1|[0-9]+)([KMGkmg]?)", str(value).strip())
    return int(found[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[found[2].upper()] if found else None


def setting(keys: dict[str, Any], directive: str) -> Any:
    """A setting of PHP of a pool; None where it is PHP's own."""
    return keys["php_admin_value"].get(directive, keys["php_value"].get(directive))


def largest_body(keys: dict[str, Any]) -> str:
    """What nginx need not refuse, since PHP does not: its own limit of 1m is smaller than PHP's. keys: of a pool."""
    value = str(setting(keys, "post_max_size") or POST_MAX_SIZE).strip()
    # A wrong one is for a rule to refuse.
    return value if (size(value) or 0) > 0 else "0"


def pool_of(app: App, name: str | None) -> dict[str, Any]:
    """The keys of the pool that a location names: the app's own, or one of its C(pools)."""
    return next((pool for pool in app["pools"] if pool["name"] == name), app)


def reload_digest(app: App, options: Options) -> str:
    """Changes with what a reload (USR2) applies: the pools' configuration, extensions, and the release, whose code the opcode cache holds."""
    return _hash([files(app, options)["vars"], sorted(app["php_extensions"]), app["release"] and app["release"]["version"]])


def unseen(app: App, options: Options) -> list[Any]:
    """What only a restart applies and the supervisor does not see: of the sockets that php-fpm binds itself."""
    own = [] if holds_socket(app, options) else [app["socket"], app["socket_backlog"]]
    return [*own, options["nginx_group"], [pool["socket"] for pool in app["pools"]]]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def directories(app: App, options: Options) -> list[dict[str, str]]:
    """Directories that must be there before the master starts, and after each boot."""
    found = [{"path": run_dir(app, options), "owner": app["user"], "group": options["nginx_group"], "mode": "2750"}]
    logs = slow_log_dir(app, options)
    if any(str(pool["pool"].get("slowlog", "")).startswith(f"{logs}/") for pool in [app, *app["pools"]]):
        found.append({"path": logs, "owner": app["user"], "group": app["group"], "mode": "0750"})
    return found


def status_probes(app: App) -> list[dict[str, Any]]:
    """Targets of fcgi_probe that tell a pool's status: by a socket of their own, since a busy pool would answer last."""
    if not app["autostart"]:
        return []
    return [
        {
            "name": " ".join(filter(None, [app["name"], pool["name"] if pool is not app else ""])),
            "address": Endpoint.parse(pool["pool"].get("pm.status_listen") or pool["socket"]).connect,
            "mode": "php_fpm_status",
            "script_name": pool["pool"]["pm.status_path"],
            "timeout": 2,
        }
        for pool in [app, *app["pools"]]
    ]


def installation(apps: list[App], options: Options) -> dict[str, Any]:
    """What php-fpm has to be on the host: packages, the executables of all versions, and the distribution's services that ours take the place of."""
    php = options["php"]
    versions = sorted({app["php_version"] for app in apps})
    extensions = sorted({(app["php_version"], extension) for app in apps for extension in app["php_extensions"]})
    checks = [
        {"app": app["name"], "user": app["user"], "command": binary(app, options), "file": f"{app['name']}.conf", "version": app["php_version_asked"]}
        for app in apps
    ]
    return {
        "packages": [named(php["package"], version) for version in versions] + [named(_extension(php, name), version, name) for version, name in extensions],
        "commands": [named(php["command"], version) for version in versions],
        "services": [{"name": named(php["service"], version), **{key: named(php[key], version) for key in ("pool_dir", "command")}} for version in versions],
        "checks": checks,
    }


def _extension(php: dict[str, str], name: str) -> str:
    """The package of an extension; an operating system may call one otherwise than it calls the others."""
    return php.get(f"extension_{name}", php["extension"])
