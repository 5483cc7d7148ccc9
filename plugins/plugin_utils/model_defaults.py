# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults that depend on an app's other keys, or on where things lie on the host.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import posixpath
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_php as php
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import SOCKET, holds_socket
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import WITHOUT_HOME, App, Location, Options
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Place


def fill(app: App, options: Options, place: Place) -> None:
    """Give the app, as its table left it, every default that is still missing. A default can be wrong too: that is reported at the place."""
    _set_missing(app, runtime="php_fpm" if app["kind"] == "php_fpm" else "generic", processes=1)
    _fill_app(app, options)
    if app["kind"] != "listener":
        _fill_socket(app, options, place)
    if app["kind"] == "php_fpm" and not place.errors:
        _fill_php(app, options, place)
    _set_missing(app, startsecs=RUNTIMES[app["runtime"]].startsecs, stopwaitsecs=RUNTIMES[app["runtime"]].stopwaitsecs)
    for location in app["locations"]:
        _fill_location(location, app, options)


def current_release(app: App, options: Options) -> str:
    """The link to the app's current release."""
    return posixpath.join(options["srv_dir"], app["name"], "current")


def _set_missing(table: dict[str, Any], **defaults: Any) -> None:
    table.update({key: default for key, default in defaults.items() if table[key] is None})


def _fill_app(app: App, options: Options) -> None:
    name, runtime = app["name"], RUNTIMES[app["runtime"]]
    directory = posixpath.join(options["srv_dir"], name)
    logs = posixpath.join(options["log_dir"], name)
    _set_missing(app, user=f"fcgi-{name}")
    _set_missing(
        app,
        group=app["user"],
        home=f"{directory}/home" if app["create_home"] else WITHOUT_HOME,
        directory=current_release(app, options) if app["release"] else "/",
        stopsignal=runtime.stopsignal,
        killasgroup=app["stopasgroup"] or runtime.killasgroup,
        reload_signal=runtime.reload_signal,
        startretries=runtime.startretries,
        exitcodes=list(runtime.exitcodes),
        stdout_logfile=f"{logs}_%(process_num)02d.log",
    )
    if not app["redirect_stderr"]:
        _set_missing(app, stderr_logfile=f"{logs}_%(process_num)02d.err.log", stderr_logfile_maxbytes="50MB", stderr_logfile_backups=10)
    if app["release"] and app["command"]:
        # An absolute path stays as it is.
        app["command"][0] = posixpath.join(current_release(app, options), app["command"][0])


def _fill_socket(app: App, options: Options, place: Place) -> None:
    held = holds_socket(app, options)
    if app["socket"] is None:
        path = f"{app['name']}.sock" if held else f"{app['name']}/{app['name']}.sock"
        app["socket"] = SOCKET.parse(posixpath.join(options["run_dir"], path), place.key("socket"))
    if held and app["socket"] and app["socket"].startswith("unix:"):
        _set_missing(app, socket_owner=f"{app['user']}:{options['nginx_group']}", socket_mode="0660")
    for key in ("socket_owner", "socket_mode"):
        if not held and app[key] is not None:
            place.key(key).error("has no effect: under supervisord php-fpm binds the socket itself, for its user and nginx's group, mode 0660")


def _fill_php(app: App, options: Options, place: Place) -> None:
    release = current_release(app, options) if app["release"] else None
    if app["root"] is not None:
        # Without a release, one inside of it stays as it is, and a rule refuses it.
        app["root"] = posixpath.join(release or "", app["root"]).rstrip("/") or "/"
    _check_php_version(app, options, place.key("php_version"))
    # What php-fpm itself has to confirm: a version that nobody asked for is whatever the operating system has.
    app["php_version_asked"] = app["php_version"] or options["php"].get("version_asked", "")
    delay = 0 if options["supervisor"] == "fcgivisord" else 1
    _set_missing(
        app,
        root=release,
        php_version=options["php"]["version"],
        start_delay=delay if options["php_fpm_start_delay"] is None else options["php_fpm_start_delay"],
        pool={},
    )
    app["global"] = {"process_control_timeout": "10s", **(app["global"] or {})}
    for index, pool in enumerate(app["pools"]):
        if pool["socket"] is None:
            socket = posixpath.join(php.run_dir(app, options), f"{pool['name']}.sock")
            pool["socket"] = SOCKET.parse(socket, place.key("pools").item(index).key("socket"))
        _set_missing(pool, pool={})
        php.fill_pool(pool, pool["name"], options, app)
    php.fill_pool(app, "", options, app)
    runtime, timeout = RUNTIMES["php_fpm"], php.seconds(app["global"]["process_control_timeout"])
    # Longer than php-fpm gives its workers; and a master that cannot start must not count as running while the shell sleeps.
    _set_missing(app, stopwaitsecs=(timeout or 0) + 5, startsecs=app["start_delay"] + runtime.startsecs)
    app["command"] = php.command(app, options)


def _check_php_version(app: App, options: Options, place: Place) -> None:
    """Where the names have no version in them, a host has one PHP."""
    version = options["php"]["version"]
    if app["php_version"] not in (None, version) and version and "{version}" not in options["php"]["command"]:
        place.error(
            f"{place.show(app['php_version'])} is not the version of this host, {version}, and it has one alone: leave it out; if you install another one "
            "there, as from a module stream, say so in fcgi_php_fpm_version (docs/rhel.md)"
        )


def _fill_location(location: Location, app: App, options: Options) -> None:
    if location["match"] == "prefix":
        location["path"] = location["path"].rstrip("/") or "/"
    _set_missing(
        location,
        server_name=options["server_name"],
        listen=["443"] if location["tls"] else options["listen"],
        keepalive=RUNTIMES[app["runtime"]].keepalive,
    )
    if app["kind"] == "php_fpm":
        pool = php.pool_of(app, location["pool"])
        _set_missing(location, index=["index.php", "index.html"], deny=[], client_max_body_size=php.largest_body(pool))
