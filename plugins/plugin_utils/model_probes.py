# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment asks an app's processes.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import endpoints
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import App
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_locations import host_name, location_of, script_name

_PING = {"mode": "ping", "timeout": 5, "deadline": 30}


def probes(app: App) -> list[dict[str, Any]]:
    """Targets of fcgi_probe: one for a shared socket, one for each port of a listener, none for what is not to answer."""
    if app["health"] is False or not app["autostart"]:
        return []
    request = _request(app) if app["health"] else _PING
    addresses = endpoints(app)
    return [
        {"name": app["name"] if len(addresses) == 1 else f"{app['name']}_{endpoint.port}", "address": endpoint.connect, **request} for endpoint in addresses
    ]


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
