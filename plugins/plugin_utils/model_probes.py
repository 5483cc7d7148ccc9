# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment asks an app's processes.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_php as php
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import Endpoint, endpoints
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import App
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_locations import host_name, location_of, script_name

_PING = {"mode": "ping", "timeout": 5, "deadline": 30}


def probes(app: App) -> list[dict[str, Any]]:
    """Targets of fcgi_probe: one for a shared socket, one for each port of a listener, none for what is not to answer."""
    if app["health"] is False or not app["autostart"]:
        return []
    if app["kind"] == "php_fpm":
        return _php_probes(app)
    request = _request(app) if app["health"] else _PING
    addresses = endpoints(app)
    return [
        {"name": app["name"] if len(addresses) == 1 else f"{app['name']}_{endpoint.port}", "address": endpoint.connect, **request} for endpoint in addresses
    ]


def _php_probes(app: App) -> list[dict[str, Any]]:
    """By ping.path, which counts as a request: after a bare ping, php-fpm takes its worker for busy. Or the request of C(health)."""
    request = _php_request(app) if app["health"] else _php_ping(app)
    return [{"name": app["name"], "address": endpoints(app)[0].connect, **request}]


def _php_ping(app: App) -> dict[str, Any]:
    path = app["pool"]["ping.path"]
    pong = re.escape(str(app["pool"].get("ping.response", "pong")))
    return {"mode": "request", "script_name": path, "params": {"SCRIPT_FILENAME": path}, "body": f"^{pong}", "timeout": 5, "deadline": 30}


def _php_request(app: App) -> dict[str, Any]:
    """The request of C(health), with the script that nginx would find; where that needs a look at the files, the one that a directory, or all, leads to."""
    request = _request(app)
    location = location_of(app, urllib.parse.unquote(app["health"]["path"].partition("?")[0]))
    prefix = script_name(location) if location else ""
    found = re.fullmatch(r"(.+?\.php)(/.*)?", request["path_info"], re.DOTALL)
    index = next((name for name in location["index"] if name.endswith(".php")), "index.php") if location else "index.php"
    script, path_info = (found[1], found[2] or "") if found else (f"{request['path_info'].rstrip('/')}/{index}", "")
    if location and location["front_controller"] and not found and request["path_info"] not in ("", "/"):
        script = "/index.php"
    address = Endpoint.parse(php.pool_of(app, location["pool"] if location else None)["socket"]).connect
    params = {**request["params"], "SCRIPT_FILENAME": f"{app['root']}{script}", "DOCUMENT_ROOT": app["root"]}
    return {**request, "address": address, "script_name": f"{prefix}{script}", "path_info": path_info, "params": params}


def _request(app: App) -> dict[str, Any]:
    """The request of C(health), as nginx would pass it on."""
    health = app["health"]
    encoded_path, _mark, query = health["path"].partition("?")
    path = urllib.parse.unquote(encoded_path)
    location = location_of(app, path)
    name = script_name(location) if location else ""
    params = {}
    if location:
        host = host_name(location)
        given = {"SERVER_NAME": host, "HTTP_HOST": host, "SCRIPT_FILENAME": location["script_filename"], **location["params"]}
        # What needs a variable of nginx only nginx can say.
        params = {param: value for param, value in given.items() if value and "$" not in value}
    return {
        "mode": "request",
        "script_name": name,
        "path_info": path[len(name) :],
        "query": query,
        "params": params,
        **{key: health[key] for key in ("method", "status", "body", "timeout", "deadline")},
    }
