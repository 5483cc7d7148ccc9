# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules between apps: what cannot belong to two of them. Each rule reports at the later one's place, and names the earlier.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import Endpoint, all_endpoints
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import App, Location
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_locations import Head, Site, claims, sites
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Place
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_values import is_log_path

PlacedApps = Sequence[tuple[App, Place]]


def check(apps: PlacedApps) -> None:
    """Every rule between these apps, all of C(state: present)."""
    for rule in (_check_addresses, _check_users, _check_logs, _check_paths, _check_servers, _check_certificates):
        rule(apps)


def _check_addresses(apps: PlacedApps) -> None:
    taken: dict[tuple[str, int], list[tuple[Endpoint, str]]] = {}
    for app, place in apps:
        for key, endpoint in all_endpoints(app):
            near = taken.setdefault((endpoint.path, endpoint.port), [])
            rival = next((name for earlier, name in near if endpoint.overlaps(earlier)), None)
            if rival:
                place.key(key).error(f'"{endpoint.listen}" is also the address of fcgi_apps[{rival}]: each app needs its own')
                break
            near.append((endpoint, app["name"]))


def _check_users(apps: PlacedApps) -> None:
    first_of_user: dict[str, App] = {}
    for app, place in apps:
        first = first_of_user.setdefault(app["user"], app)
        for key in ("group", "home", "create_home"):
            if app[key] != first[key]:
                place.key(key).error(
                    f"{place.show(app[key])} differs from {place.show(first[key])} of fcgi_apps[{first['name']}], which has the same user "
                    f'"{app["user"]}": make them the same'
                )


def _check_logs(apps: PlacedApps) -> None:
    """supervisord rotates a file as if it were one process's alone."""
    taken: dict[str, Place] = {}
    for app, place in apps:
        for key in ("stdout_logfile", "stderr_logfile"):
            # A device, such as /dev/stdout in a container, may be shared.
            if not is_log_path(app[key]) or app[key].startswith("/dev/"):
                continue
            path = re.sub(r"%\((program|group)_name\)s", app["name"], app[key])
            first = taken.setdefault(path, place.key(key))
            if first != place.key(key):
                place.key(key).error(f"{place.show(app[key])} is also {first.name}: each needs its own")


def _check_paths(apps: PlacedApps) -> None:
    """nginx refuses a server with two locations of the same head."""
    taken: dict[tuple[Site, Head], Place] = {}
    for location, place in _locations(apps):
        holders = [taken.setdefault((site, head), place) for site in sites(location) for head in claims(location)]
        rival = next((holder.name for holder in holders if holder != place), None)
        if rival:
            place.key("path").error(f"{place.show(location['path'])} is claimed by {rival} too, on the same server: change path, server_name or listen")


def _check_servers(apps: PlacedApps) -> None:
    """What belongs to a server, one of its locations may give, or several the same."""
    for key, why in (("tls", "a server has one certificate"), ("server_extra", "give it to one of them")):
        given: dict[Site, tuple[Any, Place]] = {}
        for location, place in _locations(apps):
            firsts = [(site, *given.setdefault(site, (location[key], place))) for site in sites(location) if location[key]]
            rival = next(((site, first) for site, value, first in firsts if value != location[key]), None)
            if rival:
                place.key(key).error(f"differs from that of {rival[1].name}, on the same server {rival[0].server_name}: {why}")


def _check_certificates(apps: PlacedApps) -> None:
    """On one address, nginx speaks TLS for all servers or for none."""
    with_tls = [(site, place) for location, place in _locations(apps) if location["tls"] for site in sites(location)]
    tls_of_listen = {site.listen: place for site, place in reversed(with_tls)}
    tls_of_site = dict(with_tls)
    for location, place in _locations(apps):
        bare = next((site for site in sites(location) if site.listen in tls_of_listen and site not in tls_of_site), None)
        if bare:
            rival = tls_of_listen[bare.listen].name
            place.key("tls").error(f"missing: {rival} makes {bare.listen} an address of TLS, for the server {bare.server_name} too")


def _locations(apps: PlacedApps) -> Iterator[tuple[Location, Place]]:
    for app, place in apps:
        for index, location in enumerate(app["locations"]):
            yield location, place.key("locations").item(index)
