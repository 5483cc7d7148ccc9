# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests a location takes: its servers, and its path as nginx compares it.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import App, Location


class Site(NamedTuple):
    """A server name on an address of nginx."""

    server_name: str
    listen: str


class Head(NamedTuple):
    """What nginx writes after the word C(location)."""

    modifier: str
    path: str

    def matches(self, path: str) -> bool:
        """Whether it takes the path. Not for regular expressions."""
        return path == self.path if self.modifier == "=" else path.startswith(self.path)


def sites(location: Location) -> list[Site]:
    """The servers of the location, each once. One that is only included belongs to a server that we do not know."""
    if location["include_only"]:
        return []
    return list(dict.fromkeys(Site(name.lower(), listen) for name in location["server_name"] for listen in location["listen"]))


def heads(location: Location) -> list[Head]:
    """The heads of the location's blocks. ^~ keeps the site's regular expressions, such as \\.php$, away from the app."""
    path = location["path"]
    if location["match"] == "prefix":
        return [Head("", "/")] if path == "/" else [Head("=", path), Head("^~", f"{path}/")]
    return [Head("=" if location["match"] == "exact" else "~", path)]


def claims(location: Location) -> list[Head]:
    """The heads of the location and of its static files, as nginx compares them: ^~ and no modifier are the same."""
    all_heads = heads(location) + [Head("^~", as_directory(static["path"])) for static in location["static"]]
    return [Head(head.modifier.replace("^~", ""), head.path) for head in all_heads]


def as_directory(path: str) -> str:
    """The path with a slash at its end."""
    return f"{path.rstrip('/')}/"


def script_name(location: Location) -> str:
    """The part of the path that is the app's own: what follows it is C(PATH_INFO). A regular expression does not say."""
    return "" if location["match"] == "regex" else location["path"].rstrip("/")


def location_of(app: App, path: str) -> Location | None:
    """The location that nginx would choose for the path among those of the app, regular expressions apart."""
    fitting = [location for location in app["locations"] if location["match"] != "regex" and any(head.matches(path) for head in heads(location))]
    return max(fitting, key=lambda location: len(location["path"]), default=None)


def host_name(location: Location) -> str:
    """The first of the location's server names that is one host's."""
    return next((name for name in location["server_name"] if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name)), "localhost")
