# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules between apps: what cannot belong to two of them. Each rule reports at the later one's place, and names the earlier.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import Endpoint, endpoints
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import App, Location
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_locations import Head, Site, claims, sites
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Place

PlacedApps = Sequence[tuple[App, Place]]


def check(apps: PlacedApps) -> None:
    """Every rule between these apps, all of C(state: present)."""
    for rule in (_check_addresses, _check_users, _check_paths, _check_certificates):
        rule(apps)


def _check_addresses(apps: PlacedApps) -> None:
    taken: dict[tuple[str, int], list[tuple[Endpoint, str]]] = {}
    for app, place in apps:
        key = "socket" if app["kind"] == "fcgi" else "listen"
        for endpoint in endpoints(app):
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


def _check_paths(apps: PlacedApps) -> None:
    """nginx refuses a server with two locations of the same head."""
    taken: dict[tuple[Site, Head], Place] = {}
    for location, place in _locations(apps):
        holders = [taken.setdefault((site, head), place) for site in sites(location) for head in claims(location)]
        rival = next((holder.name for holder in holders if holder != place), None)
        if rival:
            place.key("path").error(f"{place.show(location['path'])} is claimed by {rival} too, on the same server: change path, server_name or listen")


def _check_certificates(apps: PlacedApps) -> None:
    """A server has one certificate; and on one address, nginx speaks TLS for all servers or for none."""
    tls_of_site: dict[Site, tuple[Any, Place]] = {}
    tls_of_listen: dict[str, Place] = {}
    for location, place in _locations(apps):
        for site in sites(location) if location["tls"] else ():
            tls, first = tls_of_site.setdefault(site, (location["tls"], place))
            tls_of_listen.setdefault(site.listen, place)
            if tls != location["tls"]:
                place.key("tls").error(f"differs from that of {first.name}, on the same server {site.server_name}: a server has one certificate")
                break
    for location, place in _locations(apps):
        bare = next((site for site in sites(location) if site.listen in tls_of_listen and site not in tls_of_site), None)
        if bare:
            rival = tls_of_listen[bare.listen].name
            place.key("tls").error(f"missing: {rival} makes {bare.listen} an address of TLS, for the server {bare.server_name} too")


def _locations(apps: PlacedApps) -> Iterator[tuple[Location, Place]]:
    for app, place in apps:
        for index, location in enumerate(app["locations"]):
            yield location, place.key("locations").item(index)
