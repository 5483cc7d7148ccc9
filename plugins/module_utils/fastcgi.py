# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's side of FastCGI 1.0: records, a ping without side effects, and one request per connection.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

Rules without another source are those of the FastCGI Specification 1.0; the CGI header is that of RFC 3875, section 6.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import time
import urllib.parse
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

VERSION = 1

BEGIN_REQUEST = 1
END_REQUEST = 3
PARAMS = 4
STDIN = 5
STDOUT = 6
STDERR = 7
GET_VALUES = 9
GET_VALUES_RESULT = 10
UNKNOWN_TYPE = 11

MANAGEMENT = 0  # the request id of records that belong to the connection
REQUEST = 1  # the request id of the only request that a connection of ours carries
RESPONDER = 1
MAX_CONTENT = 0xFFFF

# What is kept of an answer; a longer one is read to its end and cut, so that a probe's memory is bounded.
HEADER_LIMIT = 64 * 1024
STDOUT_LIMIT = 1024 * 1024
STDERR_LIMIT = 64 * 1024

_SUN_PATH_MAX = 107  # bytes of sockaddr_un.sun_path on Linux without its final NUL

_HEADER = struct.Struct(">BBHHBx")  # version, type, request id, content length, padding length
_BEGIN_BODY = struct.Struct(">HB5x")  # role, flags: 0, so that the application closes the connection
_END_BODY = struct.Struct(">LB3x")  # status of the application, status of the protocol

_TCP_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"[1-5][0-9]{2}(?![0-9])")

_CONNECT_ERRORS: dict[int | None, tuple[str, str]] = {
    errno.ENOENT: ("missing", "there is no such socket: start the program, or the supervisor that makes the socket for it"),
    errno.ECONNREFUSED: ("refused", "nobody listens there: start the program, and read its log if it does not stay up"),
    errno.EACCES: ("permission", "this user may not connect: run the task as root, or as a member of the group that owns the socket"),
    errno.EAGAIN: ("backlog", "its listening queue is full: the workers hang, or are too few"),
}
_CONNECT_ERRORS[errno.ENOTDIR] = _CONNECT_ERRORS[errno.ENOENT]
_CONNECT_ERRORS[errno.EPERM] = _CONNECT_ERRORS[errno.EACCES]

# FCGI_END_REQUEST's protocolStatus; 0 is FCGI_REQUEST_COMPLETE.
_REJECTIONS = {
    1: ("cant_multiplex", "the application refused the request: it takes one request per connection and believes that it has one already"),
    2: ("overloaded", "the application refused the request because it is overloaded: give it more processes, or try again later"),
    3: ("unknown_role", "the application is no FastCGI responder (it may be an authorizer or a filter): a request cannot probe it, mode ping can"),
}


class FastCGIError(Exception):
    """Why there is no answer, or none that counts.

    The message says it in words, with the way out. `stderr` is what the application had written to its error stream until then (str). `kind` is one of

    * before the connection: `address` (not an address), `missing` (no such socket), `refused` (nobody listens), `permission`,
      `backlog` (listening queue full), `unreachable` (any other failure to connect);
    * after it: `closed` (before the answer was complete), `silent` (no byte came in time), `unfinished` (the answer began and did not end in time),
      `malformed` (what came is not FastCGI, or its header not CGI);
    * refusals in the protocol's own words: `overloaded`, `cant_multiplex`, `unknown_role`;
    * or what a caller that judges the response chooses: fcgi_probe has `status`, `body` and `no_pool`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.stderr = ""


class Record(NamedTuple):
    type: int
    request_id: int
    content: bytes


class Response(NamedTuple):
    """`headers` has lower-case names, a repeated one's values joined by ", "; `body` is cut at STDOUT_LIMIT."""

    status: int
    headers: dict[str, str]
    body: bytes
    stderr: str


# Records


def pack_record(record_type: int, request_id: int, content: bytes = b"") -> bytes:
    """One record, unpadded: php-fpm refuses one whose content and padding exceed 65535 bytes together."""
    return _HEADER.pack(VERSION, record_type, request_id, len(content), 0) + content


def pack_stream(record_type: int, content: bytes) -> bytes:
    """A stream of our request: `content` in records of at most 65535 bytes, and the empty record that ends it."""
    chunks = [content[start : start + MAX_CONTENT] for start in range(0, len(content), MAX_CONTENT)]
    return b"".join(pack_record(record_type, REQUEST, chunk) for chunk in [*chunks, b""])


def pack_pairs(pairs: dict[str, str]) -> bytes:
    """Name-value pairs as FCGI_PARAMS and FCGI_GET_VALUES carry them."""
    return b"".join(_pack_pair(os.fsencode(name), os.fsencode(value)) for name, value in pairs.items())


def _pack_pair(name: bytes, value: bytes) -> bytes:
    return _pack_length(len(name)) + _pack_length(len(value)) + name + value


def _pack_length(length: int) -> bytes:
    return struct.pack(">B", length) if length < 128 else struct.pack(">L", length | 1 << 31)


def take_record(buffer: bytearray) -> Record | None:
    """Take the first record off `buffer`; None (and `buffer` as it was) while it is incomplete.

    Raises FastCGIError `malformed` from the first byte that is not FastCGI.
    """
    if buffer and buffer[0] != VERSION:
        raise FastCGIError("malformed", f"the answer begins with {bytes(buffer[:16])!r}, which is not FastCGI: does another protocol listen there?")
    if len(buffer) < _HEADER.size:
        return None
    _version, record_type, request_id, length, padding = _HEADER.unpack_from(buffer)
    end = _HEADER.size + length + padding
    if len(buffer) < end:
        return None
    content = bytes(buffer[_HEADER.size : _HEADER.size + length])
    del buffer[:end]
    return Record(record_type, request_id, content)


# Requests and responses


def cgi_params(method: str, script_name: str, path_info: str, query: str, content_length: int) -> dict[str, str]:
    """The variables of a request, as a web server on this host would set them (RFC 3875, section 4.1, and nginx's fastcgi_params).

    `script_name` and `path_info` are given decoded. REQUEST_URI comes beside them because Go reads nothing else. An empty PATH_INFO is left out,
    which means the same, because php-fpm with cgi.fix_pathinfo=0 would look for its ping.path there.
    """
    path = script_name + path_info or "/"
    params = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "webops.fastcgi",
        "SERVER_NAME": "localhost",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "REQUEST_SCHEME": "http",
        "REQUEST_METHOD": method,
        "REQUEST_URI": urllib.parse.quote(path) + (f"?{query}" if query else ""),
        "DOCUMENT_URI": path,
        "SCRIPT_NAME": script_name,
        "QUERY_STRING": query,
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": str(content_length),
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "webops.fastcgi",
    }
    if path_info:
        params["PATH_INFO"] = path_info
    return params


def parse_response(stdout: bytes, stderr: str = "") -> Response:
    """Read an application's CGI response. Raises FastCGIError `malformed`."""
    end = _HEADER_END.search(stdout, 0, HEADER_LIMIT)
    if not end:
        raise FastCGIError("malformed", f"the answer has no CGI header and empty line in its first {HEADER_LIMIT} bytes: the program does not answer as CGI")
    headers: dict[str, str] = {}
    for number, line in enumerate(stdout[: end.start()].decode("utf-8", "replace").split("\n"), start=1):
        name, colon, value = line.partition(":")
        if not colon:
            raise FastCGIError("malformed", f"line {number} of the answer's CGI header is not of the form 'name: value'")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Response(_status(headers), headers, stdout[end.end() :], stderr)


def _status(headers: dict[str, str]) -> int:
    """The response's status. Without a Status line it is 200, or 302 beside a Location (RFC 3875, 6.2.3 and 6.3.3)."""
    status = headers.get("status", "302" if "location" in headers else "200")
    if not _STATUS.match(status):
        raise FastCGIError("malformed", "the status in the answer's CGI header does not begin with a number from 100 to 599")
    return int(status[:3])


# Addresses and connections


def parse_address(address: str) -> str | tuple[str, int]:
    """The path of `unix:/path`, or host and port of `127.0.0.1:9001`, `[::1]:9001` or `name:9001`. Raises FastCGIError `address`."""
    if address.startswith("unix:"):
        return _checked_path(address[len("unix:") :])
    tcp = _TCP_ADDRESS.fullmatch(address)
    if not tcp or not 1 <= int(tcp["port"]) <= 65535:
        raise FastCGIError("address", f"{address!r} is not an address: it must be like unix:/run/fastcgi/shop.sock, 127.0.0.1:9001 or [::1]:9001")
    return tcp["ipv6"] or tcp["host"], int(tcp["port"])


def _checked_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise FastCGIError("address", f"{path!r} is not the absolute path of a socket: write unix:/run/fastcgi/shop.sock")
    size = len(os.fsencode(path))
    if size > _SUN_PATH_MAX:
        raise FastCGIError("address", f"the path {path!r} has {size} bytes; the kernel takes at most {_SUN_PATH_MAX} for a socket: choose a shorter one")
    return path


class _Connection:
    """A connection that must have done its work `timeout` seconds after it was begun."""

    def __init__(self, address: str, timeout: float) -> None:
        self._timeout = timeout
        self._end = time.monotonic() + timeout
        self._received = bytearray()
        self._anything_came = False
        self._socket = _connect(address, timeout)

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send `data`. A peer that closes early may have answered already: reading tells."""
        try:
            self._socket.settimeout(self._remaining())
            self._socket.sendall(data)
        except socket.timeout:
            self._out_of_time()
        except OSError:
            pass

    def records(self) -> Iterator[Record]:
        """Records as they come, without end: the caller knows which is the last."""
        while True:
            record = take_record(self._received)
            if record:
                yield record
            else:
                self._received += self._receive()

    def _receive(self) -> bytes:
        try:
            self._socket.settimeout(self._remaining())
            data = self._socket.recv(MAX_CONTENT)
        except socket.timeout:
            self._out_of_time()
        except OSError:
            data = b""
        if not data:
            self._closed()
        self._anything_came = True
        return data

    def _remaining(self) -> float:
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise socket.timeout
        return remaining

    def _out_of_time(self) -> NoReturn:
        if self._anything_came:
            raise FastCGIError("unfinished", f"the answer began but did not end within {self._timeout:g} s: raise the timeout if that is normal")
        raise FastCGIError("silent", f"the connection was taken, but no answer came within {self._timeout:g} s: no worker runs, all are busy, or they hang")

    def _closed(self) -> NoReturn:
        where = "in the middle of a record" if self._received else "before the answer was complete" if self._anything_came else "without an answer"
        raise FastCGIError("closed", f"the connection was closed {where}: the worker died, or refuses this client; read the program's log")


def _connect(address: str, timeout: float) -> socket.socket:
    place = parse_address(address)
    try:
        if isinstance(place, tuple):
            return socket.create_connection(place, timeout)
        return _connect_unix(place, timeout)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be a DNS name
        kind, message = _CONNECT_ERRORS.get(getattr(error, "errno", None), ("unreachable", f"cannot connect: {error}"))
        raise FastCGIError(kind, message) from error


def _connect_unix(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


# What callers use


def ping(address: str, timeout: float) -> None:
    """Return when the FastCGI server at `address` has shown that it lives; its application notices nothing.

    `timeout` is in seconds, for everything together. Raises FastCGIError.

    The empty FCGI_GET_VALUES must follow in the same write: programs on libfcgi read the next record before they answer this one.
    Any answer counts and its values are not read, since several servers garble them. uWSGI's fastcgi-socket never answers.
    """
    question = pack_record(GET_VALUES, MANAGEMENT, pack_pairs({"FCGI_MPXS_CONNS": ""})) + pack_record(GET_VALUES, MANAGEMENT)
    with _Connection(address, timeout) as connection:
        connection.send(question)
        answer = next(connection.records())
    if answer.type not in (GET_VALUES_RESULT, UNKNOWN_TYPE):
        raise FastCGIError("malformed", f"a question for the server's values was answered with a record of type {answer.type}")


def request(address: str, params: dict[str, str], body: bytes, timeout: float) -> Response:
    """Send one request to the responder at `address` and return its whole response.

    `params` are the FastCGI params, complete (see cgi_params); `timeout` is in seconds, for everything together. Raises FastCGIError.
    """
    begin = pack_record(BEGIN_REQUEST, REQUEST, _BEGIN_BODY.pack(RESPONDER, 0))
    stderr = bytearray()
    try:
        with _Connection(address, timeout) as connection:
            connection.send(begin + pack_stream(PARAMS, pack_pairs(params)) + pack_stream(STDIN, body))
            stdout = _read_streams(connection.records(), stderr)
        return parse_response(stdout, _text(stderr))
    except FastCGIError as error:
        error.stderr = _text(stderr)
        raise


def _read_streams(records: Iterator[Record], stderr: bytearray) -> bytes:
    """Read to the end of the request: return the standard output, and fill `stderr` as far as it comes."""
    stdout = bytearray()
    for record in records:
        if record.request_id == MANAGEMENT:
            continue
        if record.request_id == REQUEST and record.type == STDOUT:
            stdout += record.content[: STDOUT_LIMIT - len(stdout)]
        elif record.request_id == REQUEST and record.type == STDERR:
            stderr += record.content[: STDERR_LIMIT - len(stderr)]
        elif record.request_id == REQUEST and record.type == END_REQUEST:
            _check_end(record.content)
            break
        else:
            raise FastCGIError("malformed", f"request {REQUEST} was answered with a record of type {record.type} for request {record.request_id}")
    return bytes(stdout)


def _check_end(content: bytes) -> None:
    if len(content) != _END_BODY.size:
        raise FastCGIError("malformed", f"the record that ends the request has {len(content)} bytes, not {_END_BODY.size}")
    _app_status, protocol_status = _END_BODY.unpack(content)
    if protocol_status in _REJECTIONS:
        raise FastCGIError(*_REJECTIONS[protocol_status])
    if protocol_status:
        raise FastCGIError("malformed", f"the record that ends the request has the unknown status {protocol_status}")


def _text(output: bytearray) -> str:
    return output.decode("utf-8", "replace")
