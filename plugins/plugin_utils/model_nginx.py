# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is derived for nginx: upstreams, servers, locations, password files.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_php as php
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_defaults import current_release
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import Endpoint, all_endpoints, endpoints
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import App, Location, Options
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_locations import Head, as_directory, claims, heads, host_name, script_name, sites

# Of a program's processes, beyond which one more is no further try: a request that kills whoever takes it shall not go on for ever.
MOST_TRIES = 8
# Few: on one host a new connection costs microseconds, and each kept one is a try more when a process dies (see _upstream_addresses).
KEPT_CONNECTIONS = 4


def _upstream_name(app: App, options: Options, pool: str | None = None) -> str:
    """A set's name has no dot: set a with app b_c and set a_b with app c must not be one."""
    return f"fcgi_{options['fcgi_set']}.{app['name']}{f'.{pool}' if pool else ''}"


def _keepalive(app: App) -> int:
    """Connections that each worker of nginx keeps open."""
    return KEPT_CONNECTIONS if any(location["keepalive"] for location in app["locations"]) else 0


def _upstream_addresses(app: App, pool: str | None = None) -> list[str]:
    """Each of them is one try. A group of one server never retries and ignores max_fails: the same address again makes nginx ask again when a process dies
    at work. One try more for each process: those of a program end one after the other, or at once, when it is restarted, and a request may meet each of them.
    Where connections are kept, all of them may lead to the process that has just died: one try more for each."""
    addresses = [endpoint.connect for endpoint in endpoints(app)] if pool is None else [Endpoint.parse(php.pool_of(app, pool)["socket"]).connect]
    return addresses if len(addresses) > 1 else addresses * (1 + (min(app["processes"], MOST_TRIES) if pool is None else 1) + _keepalive(app))


def upstreams(app: App, options: Options) -> list[dict[str, Any]]:
    """The upstream group of the app, and of each of its further pools that a location names."""
    pools = list(dict.fromkeys(location["pool"] for location in app["locations"]))
    return [
        {
            "name": _upstream_name(app, options, pool),
            "servers": [{"address": address, "max_fails": 0} for address in _upstream_addresses(app, pool)],
            "keepalive": _keepalive(app),
            "extra": app["upstream_extra"],
        }
        for pool in pools
    ]


def servers(apps: list[App], options: Options) -> list[dict[str, Any]]:
    """Server blocks: one for all names and addresses that serve the same locations, so that no name stands in two blocks of one address."""
    locations = [(app, index) for app in apps for index in range(len(app["locations"]))]
    by_site = _gathered((site, number) for number, (app, index) in enumerate(locations) for site in sites(app["locations"][index]))
    by_name = _gathered(((site.server_name, tuple(numbers)), site.listen) for site, numbers in by_site.items())
    by_addresses = _gathered(((tuple(addresses), numbers), name) for (name, numbers), addresses in by_name.items())
    return [_server(names, list(addresses), [locations[number] for number in numbers], options) for (addresses, numbers), names in by_addresses.items()]


def _gathered(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list]:
    """All values of each key, in their order."""
    found: dict[Any, list] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _server(names: list[str], addresses: list[str], locations: list[tuple[App, int]], options: Options) -> dict[str, Any]:
    """locations: apps, and the index of the location in each. key: the same in every set whose server is the same but for its locations."""
    shared = {key: next((app["locations"][index][key] for app, index in locations if app["locations"][index][key]), None) for key in ("tls", "server_extra")}
    head = {"server_name": names, "listen": addresses, "tls": shared["tls"], "extra": shared["server_extra"] or ""}
    return {**head, "key": _hash(head), "locations": [_location(app, index, options) for app, index in locations]}


def _hash(value: Any) -> str:
    """A short name for a value: the same for the same one."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def ports(servers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The TCP ports that nginx listens on, and whether other hosts can reach each."""
    endpoints = [Endpoint.parse(f"*:{listen}" if listen.isdigit() else listen) for server in servers for listen in server["listen"]]
    remote = {endpoint.port for endpoint in endpoints if endpoint.is_remote()}
    return [{"port": number, "remote": number in remote} for number in sorted({endpoint.port for endpoint in endpoints})]


def connects_to(served: list[App]) -> dict[str, list[str]]:
    """The addresses that nginx passes requests to."""
    asked = [endpoint for app in served for key, endpoint in all_endpoints(app) if not key.endswith("pm.status_listen")]
    return {"unix": [endpoint.listen for endpoint in asked if endpoint.path], "tcp": [endpoint.listen for endpoint in asked if not endpoint.path]}


def server_file(server: dict[str, Any], options: Options) -> dict[str, Any]:
    """The server block, in which nginx finds the locations of every set: see links."""
    sites_of_all_sets = posixpath.join(options["nginx_include_dir"], f".fcgi-*.d/{server['key']}.conf")
    return {"path": f"servers/{server['key']}.conf", "vars": {"server": server, "sites": sites_of_all_sets}}


def links(servers: list[dict[str, Any]], options: Options) -> list[dict[str, Any]]:
    """By what nginx finds the set: its upstreams, its locations of each server, and the servers, each of which stands there once for all sets."""
    directory, own = options["nginx_include_dir"], f"fcgi-{options['fcgi_set']}"
    return [
        {"path": posixpath.join(directory, f"{own}.conf"), "target": "nginx.conf"},
        # Hidden, so that "include sites-enabled/*" takes the directory for no file.
        *({"path": posixpath.join(directory, f".{own}.d"), "target": "sites"} for _any in servers[:1]),
        *(
            {"path": posixpath.join(directory, f"fcgi-server-{server['key']}.conf"), "target": f"servers/{server['key']}.conf", "shared": True}
            for server in servers
        ),
    ]


def site_file(server: dict[str, Any]) -> dict[str, Any]:
    """The set's own locations in that server."""
    title = f"its locations in the server {' '.join(server['server_name'])}, port {' '.join(server['listen'])}"
    return {"path": f"sites/{server['key']}.conf", "vars": {"include": {"title": title, "locations": server["locations"]}}}


def include(app: App, options: Options) -> dict[str, Any]:
    """The app's locations for a foreign server block. One path of several servers of ours stands in it once."""
    locations: dict[Any, dict[str, Any]] = {}
    for index, location in enumerate(app["locations"]):
        locations.setdefault(tuple(claims(location)), _location(app, index, options))
    title = f"the locations of {app['name']}, for a server block of your own: include this file in it"
    return {"path": f"locations/{app['name']}.conf", "vars": {"include": {"title": title, "locations": list(locations.values())}}}


def _location(app: App, index: int, options: Options) -> dict[str, Any]:
    """Everything that the template of a location prints, with nothing left to decide."""
    location = app["locations"][index]
    auth = location["auth"]
    if auth:
        current = posixpath.join(options["config_dir"], options["fcgi_set"], "fcgi_nginx", "current")
        auth = {"realm": auth["realm"], "user_file": auth["user_file"] or f"{current}/{_htpasswd_path(app, location)}"}
    release = current_release(app, options)
    in_release = bool(location["script_filename"] and location["script_filename"].startswith(f"{release}/"))
    return {
        "app": app["name"],
        "path": location["path"],
        "match": location["match"],
        "matches": [] if app["kind"] == "php_fpm" else [_written(head) for head in heads(location)],
        "upstream": _upstream_name(app, options, location["pool"]),
        "keep_conn": location["keepalive"],
        "next_upstream": ["error", "timeout", "invalid_header"] + ["non_idempotent"] * location["retry_non_idempotent"],
        "next_upstream_tries": len(_upstream_addresses(app, location["pool"])),
        "split": None if app["kind"] == "php_fpm" else _split(location),
        "directives": _directives(location, is_php=app["kind"] == "php_fpm"),
        "root": release if in_release else None,
        "php": _php(app, location, options) if app["kind"] == "php_fpm" else None,
        "params": _php_params(location, options) if app["kind"] == "php_fpm" else _params(location, release if in_release else None, options),
        # As in nginx's stock files: applications take HTTPS for set when it is there, though empty.
        "if_not_empty": ["HTTPS"],
        "static": [_static(static) for static in location["static"]],
        "auth": auth,
        "extra": location["extra"],
    }


def _script(options: Options) -> str:
    """The variable that holds the script, without its $; with _info, what follows it. nginx knows one of a name for all sets."""
    return f"fcgi_{options['fcgi_set']}_script"


def _php(app: App, location: Location, options: Options) -> dict[str, Any]:
    """What the block of a php location has: files below the document root, and its scripts by a regular expression in it.

    (?s) and \\z: with a bare dot and $, a newline (%0a) in the path leaves PATH_INFO empty (CVE-2019-11043). The script is what comes first, so that
    /upload.jpg/x.php asks for a file of that whole name, which is not there.
    """
    prefix = script_name(location)
    return {
        "prefix": prefix,
        "directory": _written(Head("^~" if prefix else "", f"{prefix}/")),
        "root": app["root"],
        "index": location["index"],
        # Here, since nginx compares as soon as it has chosen a location, before an index or a front controller leads on to the script.
        "client_max_body_size": location["client_max_body_size"],
        "front_controller": f"{prefix}/index.php" if location["front_controller"] else None,
        "denied": list(dict.fromkeys(f"{prefix}{path.rstrip('/')}" for path in location["deny"])),
        "script": rf"(?s)^{re.escape(prefix)}(?<{_script(options)}>/.+?\.php)(?<{_script(options)}_info>/.*)?\z",
        "file": f"${_script(options)}",
        "hidden": r"/\.(?!well-known/)",
    }


def _php_params(location: Location, options: Options) -> list[list[str]]:
    """The script by its real path: by the name of a link, such as current, PHP would serve the release of before from its caches."""
    params = dict(_params(location, None, options))
    script = _script(options)
    params.update(SCRIPT_NAME=f"{script_name(location)}${script}", PATH_INFO=f"${script}_info")
    params.update(DOCUMENT_ROOT="$realpath_root", SCRIPT_FILENAME=f"$realpath_root${script}")
    return [[name, value] for name, value in params.items()]


def _written(head: Head) -> str:
    """The head of a location block. Only a regular expression may contain what nginx would take for syntax."""
    path = head.path
    if head.modifier == "~":
        path = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{head.modifier} {path}".strip()


def _split(location: Location) -> str:
    """The regular expression of fastcgi_split_path_info.

    (?s) and \\z: with a bare dot, a newline (%0a) in the path leaves PATH_INFO empty (CVE-2019-11043).
    """
    path_info = {"exact": "/?", "prefix": "|/.*", "regex": ".*"}[location["match"]]
    return rf"(?s)^({re.escape(script_name(location))})({path_info})\z"


def _directives(location: Location, is_php: bool) -> list[list[str]]:
    directives = {
        "fastcgi_connect_timeout": location["connect_timeout"],
        "fastcgi_send_timeout": location["send_timeout"],
        "fastcgi_read_timeout": location["read_timeout"],
        # After this the request is not given to another process: one that is slow everywhere would hold them all.
        "fastcgi_next_upstream_timeout": location["read_timeout"],
        "fastcgi_buffer_size": location["buffer_size"],
        "fastcgi_buffers": location["buffers"],
        "fastcgi_buffering": "on" if location["buffering"] else "off",
        "fastcgi_request_buffering": "on" if location["request_buffering"] else "off",
        # For php it stands above: see _php.
        "client_max_body_size": None if is_php else location["client_max_body_size"],
    }
    return [[name, value] for name, value in directives.items() if value is not None]


def _params(location: Location, root: str | None, options: Options) -> list[list[str]]:
    """CGI/1.1 (RFC 3875) and what applications have come to expect, without nginx's stock files, which differ between versions of one distribution.

    root: a link to the current release, if that holds the script. By the link's own name, what remembers files by their path would serve the old one.
    """
    params = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "nginx",
        "SERVER_PROTOCOL": "$server_protocol",
        "SERVER_NAME": "$server_name",
        "SERVER_ADDR": "$server_addr",
        "SERVER_PORT": "$server_port",
        "REQUEST_METHOD": "$request_method",
        "REQUEST_URI": "$request_uri",
        "REQUEST_SCHEME": "$scheme",
        "HTTPS": "$https",
        "HTTP_HOST": f"$fcgi_{options['fcgi_set']}_host",
        "SCRIPT_NAME": "$fastcgi_script_name",
        "PATH_INFO": "$fastcgi_path_info",
        "QUERY_STRING": "$query_string",
        "CONTENT_TYPE": "$content_type",
        "CONTENT_LENGTH": "$content_length",
        "REMOTE_ADDR": "$remote_addr",
        "REMOTE_PORT": "$remote_port",
        "REMOTE_USER": "$remote_user",
    }
    if root:
        params.update(DOCUMENT_ROOT="$realpath_root", SCRIPT_FILENAME=f"$realpath_root{location['script_filename'][len(root) :]}")
    elif location["script_filename"]:
        params["SCRIPT_FILENAME"] = location["script_filename"]
    return [[name, value] for name, value in {**params, **location["params"]}.items()]


def _static(static: dict[str, Any]) -> dict[str, Any]:
    """Both slashes or none: `location /i/` with `alias /x` would serve /x/../ as well."""
    directive = "alias" if static["alias"] else "root"
    return {
        "path": as_directory(static["path"]),
        "directive": directive,
        "directory": as_directory(static["alias"]) if static["alias"] else static["root"],
        "expires": static["expires"],
        "extra": static["extra"],
    }


def _htpasswd_path(app: App, location: Location) -> str:
    """By what the location is, not by its place in the list: until it has read a new configuration, nginx looks into the new file of this name."""
    return f"auth/{app['name']}_{_hash([location['server_name'], location['listen'], location['include_only'], location['match'], location['path']])}"


def htpasswd(app: App) -> list[dict[str, Any]]:
    """The password files that the locations need."""
    users = {_htpasswd_path(app, location): location["auth"]["users"] for location in app["locations"] if location["auth"] and location["auth"]["users"]}
    return [{"path": path, "vars": {"htpasswd": accounts}} for path, accounts in users.items()]


def urls(app: App) -> list[str]:
    """Where a person can look, one URL for each location and address of nginx."""
    return [
        _url(location, listen)
        for location in app["locations"]
        if location["match"] != "regex" and not location["include_only"]
        for listen in location["listen"]
    ]


def _url(location: Location, listen: str) -> str:
    host, _colon, port = listen.rpartition(":")
    host = host or host_name(location)
    scheme, default_port = ("https", "443") if location["tls"] else ("http", "80")
    return f"{scheme}://{host}{'' if port == default_port else f':{port}'}{location['path']}"
