# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a program listens.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Scalar
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_values import one_line, socket_path

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")


def port(digits: str) -> int:
    """The port that the digits say. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 1 <= int(digits) <= 65535:
        raise ValueError("has no port from 1 to 65535")
    return int(digits)


def host_and_port(line: str) -> tuple[str, int]:
    """Of C(addr:port) and C([addr]:port). The host keeps its brackets. Raises ValueError."""
    host, colon, digits = line.rpartition(":")
    if not colon:
        raise ValueError("is neither an absolute path nor addr:port")
    if not _is_host(host):
        raise ValueError("has no address before the port, such as 127.0.0.1; an IPv6 address stands in [ ]")
    return host.lower(), port(digits)


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return host == "*" or bool(_HOST_NAME.fullmatch(host))
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return False
    return host.endswith("]")


class Endpoint(NamedTuple):
    """Where a program listens: a unix socket (path) or TCP (host and port)."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, value: Any) -> Endpoint:
        """Of C(unix:///path), C(/path), C(tcp://addr:port), C(addr:port) and C(port), which means 127.0.0.1. Raises ValueError."""
        line = one_line(value)
        path = re.sub(r"^unix:(//)?", "", line)
        if path.startswith("/") or path != line:
            return cls(path=socket_path(path))
        line = re.sub(r"^tcp://", "", line)
        host, number = host_and_port(f"127.0.0.1:{line}" if re.fullmatch(r"[0-9]+", line) else line)
        return cls(host="0.0.0.0" if host == "*" else host, port=number)

    @property
    def url(self) -> str:
        """As supervisord writes it."""
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"

    @property
    def listen(self) -> str:
        """As a program is told to listen."""
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    @property
    def connect(self) -> str:
        """As nginx and a probe on the same host connect to it."""
        return f"127.0.0.1:{self.port}" if self.is_wildcard() else self.listen

    def is_wildcard(self) -> bool:
        return not self.path and self.host in ("0.0.0.0", "[::]")

    def is_remote(self) -> bool:
        """Whether other hosts may be able to connect."""
        if self.path or self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return True

    def overlaps(self, other: Endpoint) -> bool:
        """Whether this and another endpoint with the same path and port cannot both be bound."""
        if self.path:
            return True
        same_host = self.host.replace("localhost", "127.0.0.1") == other.host.replace("localhost", "127.0.0.1")
        return same_host or self.is_wildcard() or other.is_wildcard()


def holds_socket(app: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether the supervisor makes the app's socket, and hands it over. supervisord would close that of a php-fpm whose master died, but not its workers'."""
    return app["kind"] == "fcgi" or (app["kind"] == "php_fpm" and options["supervisor"] == "fcgivisord")


def address_key(app: Mapping[str, Any]) -> str:
    """The key that says where an app listens."""
    return "listen" if app["kind"] == "listener" else "socket"


def endpoints(app: Mapping[str, Any]) -> list[Endpoint]:
    """Where an app's requests go; with kind php_fpm those for its own pool."""
    if app["kind"] != "listener":
        return [Endpoint.parse(app["socket"])]
    first = Endpoint.parse(app["listen"])
    return [first] if first.path else [first._replace(port=first.port + number) for number in range(app["processes"])]


def all_endpoints(app: Mapping[str, Any]) -> list[tuple[str, Endpoint]]:
    """Everything that an app listens on, with the key that says so."""
    found = [(address_key(app), endpoint) for endpoint in endpoints(app)]
    found += [(f"pools[{index}].socket", Endpoint.parse(pool["socket"])) for index, pool in enumerate(app["pools"])]
    pools = [("", app), *((f"pools[{index}].", pool) for index, pool in enumerate(app["pools"]))]
    for place, pool in pools if app["kind"] == "php_fpm" else []:
        if "pm.status_listen" in pool["pool"]:
            found.append((f"{place}pool.pm.status_listen", Endpoint.parse(pool["pool"]["pm.status_listen"])))
    return found


def is_local_tcp(app: Mapping[str, Any]) -> bool:
    """Whether an app listens on this host's own IPv4 addresses alone."""
    return all(endpoint.port and not endpoint.is_remote() and not endpoint.host.startswith("[") for endpoint in endpoints(app))


def _socket(value: Any) -> str:
    endpoint = Endpoint.parse(value)
    if endpoint.host.startswith("["):
        raise ValueError("is an IPv6 address; supervisord holds unix and IPv4 sockets only")
    return endpoint.url


SOCKET = Scalar("an absolute path, unix:///path or tcp://addr:port", _socket)
LISTEN = Scalar("a port, addr:port or unix:///path", lambda value: Endpoint.parse(value).listen)
