# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of kind php_fpm: what php-fpm itself would not find, or only when it starts. Each rule reports at the place what breaks it.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_php as php
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import Endpoint
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import App, Location
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Place

# Directives that the model writes, and the key that decides them.
_MANAGED = {
    **dict.fromkeys(("user", "group"), "user of the app, as whom the master runs"),
    **dict.fromkeys(("listen", "listen.owner", "listen.group", "listen.mode", "listen.acl_users", "listen.acl_groups"), "socket"),
    "listen.backlog": "socket_backlog",
    "prefix": "socket",
    "include": "the list: every pool stands in fcgi_apps",
}
# php-fpm says so in its log, and goes on.
_FOR_ROOT_ALONE = ("chroot", "process.priority")
_MANAGED_GLOBALS = {
    **dict.fromkeys(("daemonize", "pid", "error_log"), "the role: the supervisor needs php-fpm in front, and its log is stdout_logfile"),
    "include": "the list: every pool stands in fcgi_apps",
}
# Of the memory that all pools share, which is there before them.
_OF_PHP_INI = {"opcache.interned_strings_buffer", "opcache.max_accelerated_files", "opcache.memory_consumption", "opcache.preload"}
# PHP takes a word for 0, or warns at each start, without saying where it stands.
_SIZES = ("memory_limit", "post_max_size", "upload_max_filesize")
_PHP_SIZES = {"post_max_size": php.POST_MAX_SIZE, "upload_max_filesize": "2M"}


def check(app: App, place: Place) -> None:
    """Every rule of an app of kind php_fpm. app: with all defaults."""
    present = app["state"] == "present"
    if not app["root"] and present:
        place.key("root").error("missing; it is the directory of the scripts: a path, or one inside the release")
    elif app["root"] and not app["root"].startswith("/"):
        place.key("root").error(f"{place.show(app['root'])} is not an absolute path, and there is no release to look for it in")
    if not app["php_version"] and present:
        place.key("php_version").error('missing; the version of this distribution is not known here: write it, such as "8.2", or set fcgi_php_fpm_version')
    _check_globals(app, place.key("global"))
    _check_pool(app, place)
    pools: dict[str, tuple[dict[str, Any], Place]] = {"": (app, place)}
    for index, pool in enumerate(app["pools"]):
        pool_place = place.key("pools").item(index)
        if pool["name"] in pools:
            pool_place.key("name").error(f"{place.show(pool['name'])} is the name of another pool of this app too: a master has each name once")
        pools.setdefault(pool["name"], (pool, pool_place))
        _check_pool(pool, pool_place)
    # Of two with one name, the sockets are alike too.
    _check_addresses(app, list(pools.values()))
    for index, location in enumerate(app["locations"]):
        _check_location(app, location, place.key("locations").item(index))


def _check_globals(app: App, place: Place) -> None:
    for directive in app["global"].keys() & _MANAGED_GLOBALS.keys():
        place.key(directive).error(f"is decided by {_MANAGED_GLOBALS[directive]}")
    _check_for_root_alone(app["global"], place)
    timeout = app["global"]["process_control_timeout"]
    seconds = php.seconds(timeout)
    if seconds is None:
        place.key("process_control_timeout").error(f"{place.show(timeout)} is not a time, such as 10s")
    elif app["stopwaitsecs"] <= seconds:
        place.key("process_control_timeout").error(
            f"{place.show(timeout)} is not shorter than stopwaitsecs: {app['stopwaitsecs']}: the supervisor would kill a master that waits for its workers"
        )


def _check_for_root_alone(directives: dict[str, Any], place: Place) -> None:
    for directive in _FOR_ROOT_ALONE:
        if directive in directives:
            place.key(directive).error("has no effect: the master runs as the app's user, and only root could do that")


def _check_addresses(app: App, pools: list[tuple[dict[str, Any], Place]]) -> None:
    """Of all pools, and of the sockets at which they tell their status, which no other rule knows of."""
    places = [(pool["socket"], place.key("socket")) for pool, place in pools]
    places += [(pool["pool"]["pm.status_listen"], place.key("pool").key("pm.status_listen")) for pool, place in pools if "pm.status_listen" in pool["pool"]]
    taken: list[Endpoint] = []
    for value, place in places:
        try:
            address = Endpoint.parse(value)
        except ValueError as error:
            place.error(f"{place.show(value)} {error}")
            continue
        if re.search("[=,]", address.path):
            place.error(f"{place.show(value)} contains = or a comma, which php-fpm cannot hand over to itself when it reloads")
        # That of the app itself is looked at as those of all kinds are.
        if address.is_remote() and not app["allow_remote"] and taken:
            place.error(f"{place.show(value)} can be reached from other hosts, and FastCGI knows no authentication: use 127.0.0.1, or say allow_remote: true")
        if any((address.path, address.port) == (other.path, other.port) and address.overlaps(other) for other in taken):
            place.error(f"{place.show(value)} is the address of two things of this app: give one of them another, or its pool another name")
        taken.append(address)


def _check_pool(pool: dict[str, Any], place: Place) -> None:
    for directive in pool["pool"].keys() & _MANAGED.keys():
        place.key("pool").key(directive).error(f"is decided by {_MANAGED[directive]}")
    _check_for_root_alone(pool["pool"], place.key("pool"))
    for key in ("php_value", "php_admin_value"):
        for directive in _SIZES:
            value = pool[key].get(directive)
            if value is not None and php.size(value) is None:
                place.key(key).key(directive).error(f"{place.show(value)} is not a size, such as 256M")
    sizes = {directive: php.size(php.setting(pool, directive) or default) for directive, default in _PHP_SIZES.items()}
    post, upload = sizes["post_max_size"], sizes["upload_max_filesize"]
    if post and upload and 0 < post < upload:  # 0 and less are no limit
        default = "" if php.setting(pool, "post_max_size") else ", PHP's own"
        place.key("php_admin_value").error(
            f"post_max_size is {php.setting(pool, 'post_max_size') or _PHP_SIZES['post_max_size']}{default}, smaller than upload_max_filesize: "
            f"a file of {php.setting(pool, 'upload_max_filesize')} could never come; give post_max_size a little more than that"
        )


def _check_location(app: App, location: Location, place: Place) -> None:
    names = [pool["name"] for pool in app["pools"]]
    if location["pool"] is not None and location["pool"] not in names:
        place.key("pool").error(f"{place.show(location['pool'])} is not one of the app's pools: {', '.join(names) or 'it has none but its own'}")
    for name in ("SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "DOCUMENT_ROOT"):
        if name in location["params"]:
            place.key("params").key(name).error("is decided by root and path")
    for index, path in enumerate(location["deny"]):
        if path == "/":
            place.key("deny").item(index).error('"/" is all of the location: name what is in it')


def warnings(app: App) -> Iterator[tuple[str, str]]:
    """What works, but rarely as meant: (key, text)."""
    if app["kind"] != "php_fpm":
        return
    if app["reload_signal"] != "USR2":
        yield "reload_signal", f"{app['reload_signal']} does not make php-fpm read its configuration: USR2 does"
    if php.seconds(app["global"]["process_control_timeout"]) == 0:
        yield "global.process_control_timeout", "0 has a stop or a reload end requests in flight"
    for prefix, pool in (("", app), *((f"pools[{index}].", pool) for index, pool in enumerate(app["pools"]))):
        for key in ("php_value", "php_admin_value"):
            for directive in sorted(pool[key].keys() & _OF_PHP_INI):
                yield f"{prefix}{key}.{directive}", "has no effect: PHP reads it before there are pools; php.ini, which all masters share, has it"
    for index, location in enumerate(app["locations"]):
        pool = php.pool_of(app, location["pool"])
        limit, timeout = php.seconds(pool["pool"].get("request_terminate_timeout", 0)), _nginx_seconds(location["read_timeout"])
        if limit and timeout is not None and limit >= timeout:
            key = f"locations[{index}].read_timeout"
            yield key, f"{location['read_timeout']} is not longer than request_terminate_timeout: nginx gives up first, and the script goes on for nobody"


def _nginx_seconds(time: str) -> float | None:
    found = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", time)
    return int(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else None
