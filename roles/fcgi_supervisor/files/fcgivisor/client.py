# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor as its clients see it: calls, its status, logs that are followed. It serves fcgivisord and supervisord alike.

This and the other rooms of fcgivisorctl (ctl*.py, diagnosis.py, top.py, proc.py) are no part of the daemon, so they may import what is large.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import urllib.parse
import xmlrpc.client
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from fcgivisor.wire import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds in which a connection must come about. Calls have no limit: a start may take its startsecs, a stop its stopwaitsecs.
CONNECT_PATIENCE = 10.0


class Exit:
    """Exit codes of supervisorctl: those of the LSB for init scripts, and for status those of their action status."""

    SUCCESS, GENERIC, INVALID_ARGUMENTS, UNIMPLEMENTED, NO_PRIVILEGES, NOT_INSTALLED, NOT_RUNNING = 0, 1, 2, 3, 4, 5, 7
    STATUS_NOT_RUNNING, STATUS_UNKNOWN = 3, 4


class ClientError(Exception):
    """What went wrong, with the way out; status: the exit code."""

    def __init__(self, text: str, status: int = Exit.GENERIC) -> None:
        super().__init__(text)
        self.status = status


class AuthenticationNeeded(ClientError):
    """The server wants a user name and a password, or other ones."""


class NotReached(ClientError):
    """Nobody answers. error: the system's own."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"{error.strerror or error}")
        self.error = error


class Address:
    """Where a supervisor listens: unix:///path or http://host:port. path is empty for the latter."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.path, self.host, self.port = "", "", 80
        if url.startswith("unix://"):
            self.path = os.path.abspath(os.path.expanduser(url[len("unix://") :]))
            return
        try:
            parts = urllib.parse.urlsplit(url)
            self.host, self.port = parts.hostname or "", parts.port or 80
        except ValueError:
            parts = urllib.parse.urlsplit("")
        if parts.scheme != "http" or not self.host:
            raise ClientError(f"{url!r} is neither unix:///path nor http://host:port", Exit.INVALID_ARGUMENTS)

    @property
    def local(self) -> bool:
        """Whether the supervisor is on this host, so that /proc tells about its processes."""
        return bool(self.path) or self.host in ("localhost", "::1") or self.host.startswith("127.")

    def connect(self) -> http.client.HTTPConnection:
        """Raises OSError."""
        connection = http.client.HTTPConnection("localhost" if self.path else self.host, self.port)
        if self.path:
            made = socket.socket(socket.AF_UNIX)
            try:
                made.connect(self.path)
            except OSError:
                made.close()
                raise
            connection.sock = made
        else:
            connection.sock = socket.create_connection((self.host, self.port), CONNECT_PATIENCE)
            connection.sock.settimeout(None)
        return connection


class _Transport(xmlrpc.client.Transport):
    def __init__(self, address: Address, headers: dict[str, str]) -> None:
        super().__init__(headers=list(headers.items()))
        self._address = address

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = self._connection[1]
        if connection is None:
            connection = self._address.connect()
            self._connection = host, connection
        return connection  # type: ignore[return-value]


class Client:
    """Talks to one supervisor. Methods raise ClientError, and xmlrpc.client.Fault for what the supervisor refuses."""

    def __init__(self, url: str, username: str | None = None, password: str | None = None) -> None:
        self.address = Address(url)
        self.headers: dict[str, str] = {}
        self.authenticate(username, password)

    def authenticate(self, username: str | None, password: str | None) -> None:
        self.username, self.password = username, password
        if username is not None and password is not None:
            self.headers["Authorization"] = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        self._server = xmlrpc.client.ServerProxy("http://localhost", _Transport(self.address, self.headers))

    def call(self, method: str, *parameters: Any) -> Any:
        """Of supervisord's interface by the bare name, of others as namespace.name."""
        name = method if "." in method else f"supervisor.{method}"
        try:
            return getattr(self._server, name)(*parameters)
        except xmlrpc.client.Fault:
            raise
        except xmlrpc.client.ProtocolError as error:
            raise self._refusal(error.errcode, error.errmsg) from None
        except (expat.ExpatError, xmlrpc.client.Error, http.client.HTTPException) as error:
            raise self._no_supervisor(error) from None
        except OSError as error:
            raise NotReached(error) from None

    def close(self) -> None:
        self._server("close")()

    def require_interface(self) -> None:
        """Make sure that a supervisor with supervisord's interface answers."""
        try:
            version = self.call("getVersion")
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != FAULTS["UNKNOWN_METHOD"]:
                raise
            raise ClientError(
                "the supervisor answers, but has no supervisor namespace: its configuration needs the section [rpcinterface:supervisor] with "
                "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
                Exit.UNIMPLEMENTED,
            ) from None
        if version != "3.0":
            raise ClientError(f"this client speaks version 3.0 of the interface, the supervisor {version}", Exit.NOT_INSTALLED)

    def status(self) -> dict[str, Any]:
        """What is known of the supervisor and its processes, as rpc.status_json tells it; None for what supervisord does not know. ours: whose it is."""
        connection = self._connect()
        try:
            response = self._get("/status", connection)
            body = response.read()
        except OSError as error:
            raise NotReached(error) from None
        except http.client.HTTPException as error:
            raise self._no_supervisor(error) from None
        finally:
            connection.close()
        if response.status == 200:
            try:
                return {"ours": True, **json.loads(body)}
            except ValueError as error:
                raise self._no_supervisor(error) from None
        if response.status != 404:
            raise self._refusal(response.status, response.reason)
        self.require_interface()
        state = self.call("getState")["statename"]
        processes = [_as_ours(info) for info in self.call("getAllProcessInfo")]
        return {"ours": False, "version": self.call("getSupervisorVersion"), "pid": self.call("getPID"), "state": state, "processes": processes}

    def follow(self, path: str, connections: list[http.client.HTTPConnection] | None = None) -> Iterator[bytes]:
        """A log as it grows, until the server ends it. connections: gets the one in use, whose socket may be shut down to end it."""
        connection = self._connect()
        if connections is not None:
            connections.append(connection)
        try:
            response = self._get(path, connection)
            if response.status == 404:
                raise ClientError("there is no such log")
            if response.status != 200:
                raise self._refusal(response.status, response.reason)
            while True:
                data = response.read1(65536)
                if not data:
                    return
                yield data
        except (OSError, http.client.HTTPException):
            return  # the supervisor ended
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        try:
            return self.address.connect()
        except OSError as error:
            raise NotReached(error) from None

    def _get(self, path: str, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """Raises OSError and HTTPException."""
        connection.request("GET", urllib.parse.quote(path, safe="/:"), headers=self.headers)
        return connection.getresponse()

    def _refusal(self, code: int, reason: str) -> ClientError:
        if code == 401:
            return AuthenticationNeeded("Server requires authentication")
        return ClientError(f"{self.address.url} answers {code} {reason} instead of a supervisor's answer: is another server there?")

    def _no_supervisor(self, error: Exception) -> ClientError:
        return ClientError(f"{self.address.url}: what answers there is no supervisor ({error or type(error).__name__})")


def _as_ours(info: dict[str, Any]) -> dict[str, Any]:
    """supervisord's answer about a process, in the form of ours."""
    return {
        "name": info["name"] if info["name"] == info["group"] else f"{info['group']}:{info['name']}",
        "group": info["group"],
        "program": None,
        "state": info["statename"],
        "pid": info["pid"] or None,
        "uptime": max(0, info["now"] - info["start"]) if info["pid"] else None,
        "restarts": None,
        "tries": None,
        "exit_status": info["exitstatus"] if info["statename"] == "EXITED" else None,
        "spawn_error": info["spawnerr"] or None,
        "socket": None,
        "memory": None,
        "heartbeat_age": None,
        "stdout_logfile": info["stdout_logfile"] or None,
        "stderr_logfile": info["stderr_logfile"] or None,
        "description": info["description"],
    }
