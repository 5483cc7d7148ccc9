# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of C(fcgi_apps): its table of contents.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.

One direction: the tables of keys (model_keys) check each value and fill what does not depend on other values; then come the other defaults (model_defaults),
the rules of one app (model_rules) and those between apps (model_conflicts); then everything that the roles need is derived (model_programs, model_probes,
model_nginx). Errors are collected, so that one run shows them all.

Beneath the tables lie the single values (model_values, model_endpoint, model_nginx_values) and what tables are made of (model_types).
"""

from __future__ import annotations

from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_conflicts as conflicts
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_defaults as defaults
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_nginx as nginx
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_php as php
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_programs as programs
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_rules as rules
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import all_endpoints
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import APP, OPTIONS, App, Options
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_probes import probes
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Place
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_values import APP_NAME, KINDS_OF_LATER_VERSIONS


class ModelError(ValueError):
    """Everything that is wrong in fcgi_apps. errors: each names app, key, value and what would be right."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def fcgi_model(fcgi_apps: Any, **options: Any) -> dict[str, Any]:
    """The plain dict that the roles work with (see the RETURN of the filter fcgi_model).

    fcgi_apps: list of dicts with the keys of APP. options: the keys of OPTIONS. Raises ModelError with everything that is wrong.
    """
    place = Place("fcgi_model", [])
    parsed_options = OPTIONS.parse(options, place)
    if not isinstance(fcgi_apps, list):
        place._replace(name="fcgi_apps").error("is not a list of apps")
    if place.errors or parsed_options is None:
        raise ModelError(place.errors)
    return _derived(_apps(fcgi_apps, parsed_options), parsed_options)


def _apps(fcgi_apps: list, options: Options) -> list[App]:
    """All apps in their normal form. Raises ModelError."""
    places = [Place(f"fcgi_apps[{_label(value, index)}]", []) for index, value in enumerate(fcgi_apps)]
    apps = [_app(value, place, options) for value, place in zip(fcgi_apps, places)]
    _check_names(places)
    conflicts.check([(app, place) for app, place in zip(apps, places) if not place.errors and app["state"] == "present"])
    errors = [error for place in places for error in place.errors]
    if errors:
        raise ModelError(errors)
    return apps


def _label(value: Any, index: int) -> str | int:
    """How errors call an app: by its name, if that can be one, else by its position."""
    try:
        return APP_NAME.convert(value.get("name") if isinstance(value, dict) else None)
    except ValueError:
        return index


def _check_names(places: list[Place]) -> None:
    first: dict[str, int] = {}
    for index, place in enumerate(places):
        if first.setdefault(place.name, index) != index:
            place.error(f"the name is used twice, by items {first[place.name]} and {index}")


def _app(value: Any, place: Place, options: Options) -> App:
    """The app in its normal form, as far as no error at the place says otherwise."""
    if isinstance(value, dict) and value.get("kind") in KINDS_OF_LATER_VERSIONS:
        # Its other keys are not known here: they are no errors of their own.
        value = {"kind": value["kind"], "name": value.get("name"), "state": "absent"}
    app = APP.parse(value, place) or {}
    if not place.errors:
        defaults.fill(app, options, place)
    if not place.errors:
        rules.check(app, value, place)
    return app


def _derived(apps: list[App], options: Options) -> dict[str, Any]:
    present = [app for app in apps if app["state"] == "present"]
    served = [app for app in present if app["locations"]]
    php_apps = [app for app in present if app["kind"] == "php_fpm"]
    releases = [programs.release(app, options) for app in present if app["release"]]
    servers = nginx.servers(served, options)
    return {
        "fcgi_set": options["fcgi_set"],
        "apps": present,
        "programs": [programs.program(app, options) for app in present],
        "users": programs.users(present, options),
        "releases": releases,
        "needs_venv": any(release["python_requirements"] for release in releases),
        "commands": programs.commands(present, options),
        "listens": [
            {"app": app["name"], "address": endpoint.url, **({"pid_file": php.pid_file(app, options)} if app["kind"] == "php_fpm" else {})}
            for app in present
            for _key, endpoint in all_endpoints(app)
        ],
        "groups": programs.groups(present),
        "purged": [programs.purged(app, present, options) for app in apps if app["state"] == "purged"],
        "probes": [probe for app in present for probe in probes(app)],
        "php": php.installation(php_apps, options),
        "php_files": [php.files(app, options) for app in php_apps],
        "status_probes": [probe for app in php_apps for probe in php.status_probes(app)],
        "directories": [directory for app in php_apps for directory in php.directories(app, options)],
        "upstreams": [upstream for app in served for upstream in nginx.upstreams(app, options)],
        "servers": servers,
        "server_files": [nginx.server_file(server, options) for server in servers],
        "nginx_links": nginx.links(servers, options),
        "nginx_listens": sorted({listen for server in servers for listen in server["listen"]}),
        "nginx_ports": nginx.ports(servers),
        "connects_to": nginx.connects_to(served),
        "includes": [nginx.include(app, options) for app in served] + [nginx.site_file(server) for server in servers],
        "htpasswd": [file for app in served for file in nginx.htpasswd(app)],
        "urls": [url for app in served for url in nginx.urls(app)],
        "warnings": [f"fcgi_apps[{app['name']}].{key}: {text}" for app in present for key, text in rules.warnings(app)],
    }
