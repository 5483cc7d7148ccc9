# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults that depend on an app's other keys, or on where things lie on the host.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import posixpath
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import SOCKET
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import WITHOUT_HOME, App, Location, Options
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Place


def fill(app: App, options: Options, place: Place) -> None:
    """Give the app, as its table left it, every default that is still missing. A default can be wrong too: that is reported at the place."""
    _fill_app(app, options)
    if app["kind"] == "fcgi":
        _fill_socket(app, options, place)
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
        stopwaitsecs=runtime.stopwaitsecs,
        killasgroup=app["stopasgroup"],
        stdout_logfile=f"{logs}_%(process_num)02d.log",
    )
    if not app["redirect_stderr"]:
        _set_missing(app, stderr_logfile=f"{logs}_%(process_num)02d.err.log", stderr_logfile_maxbytes="50MB", stderr_logfile_backups=10)
    if app["release"] and app["command"]:
        # An absolute path stays as it is.
        app["command"][0] = posixpath.join(current_release(app, options), app["command"][0])


def _fill_socket(app: App, options: Options, place: Place) -> None:
    if app["socket"] is None:
        app["socket"] = SOCKET.parse(f"{options['run_dir']}/{app['name']}.sock", place.key("socket"))
    if app["socket"] and app["socket"].startswith("unix:"):
        _set_missing(app, socket_owner=f"{app['user']}:{options['nginx_group']}", socket_mode="0660")


def _fill_location(location: Location, app: App, options: Options) -> None:
    if location["match"] == "prefix":
        location["path"] = location["path"].rstrip("/") or "/"
    _set_missing(
        location,
        server_name=options["server_name"],
        listen=["443"] if location["tls"] else options["listen"],
        keepalive=RUNTIMES[app["runtime"]].keepalive,
    )
