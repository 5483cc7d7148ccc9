# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of C(fcgi_apps): the only place that knows its keys, their defaults and their rules.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.

One direction: the tables of keys (also the source of docs/fcgi_apps.md) check each value and fill what does not depend on other values; then the rules of one
app; then the rules between apps; then everything that the roles need is derived. Errors are collected, so that one run shows them all.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import ipaddress
import json
import posixpath
import re
import shlex
import unicodedata

from collections.abc import Callable
from typing import Any, NamedTuple

KINDS = ("fcgi", "listener")
KINDS_OF_LATER_VERSIONS = ("php_fpm", "uwsgi_cgi")
SIGNALS = ("TERM", "HUP", "INT", "QUIT", "KILL", "USR1", "USR2")
LOG_WORDS = ("AUTO", "NONE", "syslog")
LONGEST_SOCKET_PATH = 107  # bytes: sun_path of unix(7) without its final zero
WITHOUT_HOME = "/nonexistent"


class ModelError(ValueError):
    """Everything that is wrong in fcgi_apps. errors: list of str, each naming app, key, value and what would be right."""

    def __init__(self, errors):
        super().__init__("\n".join(errors))
        self.errors = errors


# ---------------------------------------------------------------------------------------------------------------------------------------------------
# Where an error is, and how a value is shown
# ---------------------------------------------------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A place in fcgi_apps, such as C(fcgi_apps[shop].locations[0]), and the list that collects errors."""

    name: str
    errors: list
    secret: bool = False

    def key(self, name, secret=False):
        return self._replace(name=f"{self.name}.{name}", secret=self.secret or secret)

    def item(self, index):
        return self._replace(name=f"{self.name}[{index}]")

    def error(self, text):
        self.errors.append(f"{self.name}: {text}")

    def show(self, value):
        """The value for an error message, unless it is secret."""
        if self.secret:
            return "the value (not shown)"
        if value is None:
            return "an empty value"
        if isinstance(value, (dict, list)):
            return "a dictionary" if isinstance(value, dict) else "a list"
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 80 else f'{text[:76]}…"'


# ---------------------------------------------------------------------------------------------------------------------------------------------------
# Types of values. Each has `words` (what a right value is: for errors and for the documentation) and parse(value, place), which returns the value in
# its one normal form, or reports errors at the place and returns None.
# ---------------------------------------------------------------------------------------------------------------------------------------------------


class Scalar(NamedTuple):
    """A single value. convert(value) returns the normal form or raises ValueError, with a text if it knows better than `words`."""

    words: str
    convert: Callable[[Any], Any]

    def parse(self, value, place):
        try:
            return self.convert(value)
        except ValueError as error:
            place.error(f"{place.show(value)} {error if str(error) else f'is not {self.words}'}")
            return None


class ListOf(NamedTuple):
    """A list; one item alone may stand without a list."""

    item: Any

    @property
    def words(self):
        return f"a list of: {self.item.words}"

    def parse(self, value, place):
        if isinstance(value, list):
            return [self.item.parse(item, place.item(index)) for index, item in enumerate(value)]
        return [self.item.parse(value, place)]


class Dictionary(NamedTuple):
    """Names to values, where the user chooses the names."""

    name: Scalar
    value: Scalar
    secret: bool = False

    @property
    def words(self):
        return f"a dictionary: {self.name.words} to {self.value.words}"

    def parse(self, value, place):
        if not isinstance(value, dict):
            place.error(f"{place._replace(secret=self.secret).show(value)} is not {self.words}")
            return {}
        names = {name: self.name.parse(name, place) for name in value}
        return {names[name]: self.value.parse(item, place.key(name, self.secret)) for name, item in value.items() if names[name] is not None}


class Key(NamedTuple):
    """One key of a table.

    default: for a missing key; None where the default depends on other keys, and then `otherwise` says how. kind: the only kind that has this key.
    """

    name: str
    type: Any
    doc: str
    default: Any = None
    otherwise: str = ""
    required: bool = False
    kind: str = ""


class Table(NamedTuple):
    """A dictionary with known keys. synonyms: names that people try, and ours."""

    keys: tuple
    synonyms: dict = {}
    words: str = "a dictionary"

    def parse(self, value, place):
        if not isinstance(value, dict):
            place.error(f"{place.show(value)} is not {self.words}")
            return None
        for name in value:
            if name not in self.names():
                place.key(name).error(f"unknown key{self._nearest(str(name))}")
        return {key.name: self._parse_key(key, value, place) for key in self.keys}

    def names(self):
        return [key.name for key in self.keys]

    def _parse_key(self, key, value, place):
        if key.name in value and not (value[key.name] is None and key.default is None and not key.required):
            return key.type.parse(value[key.name], place.key(key.name))
        if key.required:
            place.key(key.name).error(f"missing; it is {key.type.words}")
        return copy.deepcopy(key.default)

    def _nearest(self, name):
        near = [self.synonyms[name]] if name in self.synonyms else difflib.get_close_matches(name, self.names(), n=1)
        return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(self.names())}"


class OrFalse(NamedTuple):
    """A table that can be switched off."""

    table: Table

    @property
    def words(self):
        return f"{self.table.words}, or false"

    def parse(self, value, place):
        return False if value is False else self.table.parse(value, place)


# ---------------------------------------------------------------------------------------------------------------------------------------------------
# Single values
# ---------------------------------------------------------------------------------------------------------------------------------------------------

_UNSAFE_IN_PATH = re.compile(r"""[\s;{}"'\\$%*?\[\]]""")
_UNSAFE_IN_URI = re.compile(r"""[\s;{}"'\\$%?#]""")
_EXPANSION = re.compile(r"%\((?:(?:program_name|group_name|host_node_name|here)\)s|(?:process_num|numprocs)\)[0-9]*[sd])")
_VARIABLE = re.compile(r"\$(?:[A-Za-z0-9_]+|\{[A-Za-z0-9_]+\})")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")


def _text(value):
    """Any text of one line. Raises ValueError."""
    if isinstance(value, float):
        raise ValueError("is a number, and YAML may have changed it: write it in quotes")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("is not text")
    # Cc: control characters; Cs: lone surrogates, which no file in UTF-8 can hold.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("contains a control character, such as a newline or a tab")
    return value


def text(words, pattern=r".*\S.*"):
    """A type: one line that matches the whole of the pattern."""

    def convert(value):
        line = _text(value)
        if not re.fullmatch(pattern, line):
            raise ValueError
        return line

    return Scalar(words, convert)


def whole_number(lowest, highest):
    def convert(value):
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}", str(value)) or not lowest <= int(value) <= highest:
            raise ValueError
        return int(value)

    return Scalar(f"a whole number from {lowest} to {highest}", convert)


def one_of(*choices):
    """A type: one of these words. true and false stand for the booleans."""
    words = {str(choice).lower() if isinstance(choice, bool) else choice: choice for choice in choices}

    def convert(value):
        word = str(value).lower() if isinstance(value, bool) or str(value).lower() in ("true", "false") else value
        if not isinstance(word, str) or word not in words:
            raise ValueError
        return words[word]

    return Scalar(f"one of {', '.join(words)}" if len(words) > 1 else next(iter(words)), convert)


def _kind(value):
    if value in KINDS_OF_LATER_VERSIONS:
        raise ValueError(f"is not available in this version; available are {', '.join(KINDS)}")
    if value not in KINDS:
        raise ValueError
    return value


def _absolute_path(value):
    path = _text(value)
    if not path.startswith("/"):
        raise ValueError("is not an absolute path")
    if ".." in path.split("/"):
        raise ValueError("contains .., which a path here may not")
    unsafe = _UNSAFE_IN_PATH.search(path)
    if unsafe:
        raise ValueError(f"contains {unsafe.group()!r}, which a path here may not")
    return posixpath.normpath(path).replace("//", "/")


def _relative_path(value):
    path = _text(value)
    if path.startswith("/"):
        raise ValueError("is not a path relative to the release")
    return _absolute_path(f"/{path}")[1:]


def _socket_path(value):
    path = _absolute_path(value)
    if ":" in path:
        raise ValueError("contains ':', which nginx takes for the end of a socket path")
    length = len(path.encode())
    if length > LONGEST_SOCKET_PATH:
        raise ValueError(f"is a path of {length} bytes; the kernel's limit for a unix socket is {LONGEST_SOCKET_PATH}")
    return path


def _log_file(value):
    if value in LOG_WORDS:
        return value
    # supervisord expands log files twice, so that a % of any other kind cannot be written.
    _absolute_path(_EXPANSION.sub("", _text(value)))
    return value


def _user(value):
    name = _text(value)
    if name == "root" or re.fullmatch(r"0+", name):
        raise ValueError("is refused: FastCGI programs never run as root; leave the key out for a user of the app's own")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", name):
        raise ValueError
    return name


def _octal_mode(value):
    if isinstance(value, int):
        raise ValueError('was read as a number by YAML: write the mode in quotes, such as "0660"')
    if not re.fullmatch(r"0?[0-7]{3}", _text(value)):
        raise ValueError
    return value.zfill(4)


def _seconds_of_nginx(value):
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return f"{value}s"
    if not re.fullmatch(r"[1-9][0-9]*(ms|s|m|h|d)", str(value)):
        raise ValueError
    return value


def _release_source(value):
    source = _text(value)
    if re.match(r"[a-z+]+://|git@", source):
        raise ValueError("is a URL, which is not available in this version; give a directory or a tarball on the controller")
    if not source.strip():
        raise ValueError
    return source


def _command(value):
    """A list of words."""
    words = value if isinstance(value, list) else shlex.split(_text(value))
    if not words:
        raise ValueError
    return [_text(word) for word in words]


def _environment_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(value)
    try:
        return _text(value)
    except ValueError as error:
        raise ValueError(f"{error}; a file with mode 0600, whose path the variable names, can hold anything") from None


def _uri_path(value):
    path = _text(value)
    if not path.startswith("/"):
        raise ValueError('does not begin with "/"')
    if ".." in path.split("/"):
        raise ValueError("contains .., which nginx resolves before it looks for a location")
    unsafe = _UNSAFE_IN_URI.search(path)
    if unsafe:
        raise ValueError(f"contains {unsafe.group()!r}; nginx compares locations with the decoded path, without its query")
    return re.sub(r"/+", "/", path)


def _health_path(value):
    path = _text(value)
    if not re.fullmatch(r"/[!-~]*", path):
        raise ValueError
    return path


def _regular_expression(value):
    try:
        re.compile(_text(value))
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return value


def _nginx_value(value):
    line = _text(value)
    if "$" in _VARIABLE.sub("", line):
        raise ValueError("contains a $ that begins no variable of nginx; nginx cannot write a $ that means itself")
    return line


def _script_file(value):
    line = _nginx_value(value)
    if not line.startswith(("/", "$")):
        raise ValueError
    return line


def _listen_of_nginx(value):
    line = _text(value)
    if re.fullmatch(r"[0-9]+", line):
        return str(_port(line))
    host, port = _host_and_port(line)
    return f"{host}:{port}"


def _password_hash(value):
    line = _text(value)
    if not re.fullmatch(r"[${][!-9;-~]+", line):
        raise ValueError("is not a password hash; make one with: openssl passwd -6")
    return line


def _raw_directives(value):
    lines = value if isinstance(value, list) else str(value).splitlines()
    return "\n".join(_text(line) for line in lines)


def _port(digits):
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 1 <= int(digits) <= 65535:
        raise ValueError(f"has no port from 1 to 65535: {digits!r}" if digits else "has no port")
    return int(digits)


def _host_and_port(line):
    """(host, port) of C(addr:port) and C([addr]:port). Raises ValueError."""
    host, colon, port = line.rpartition(":")
    if not colon:
        raise ValueError("has no port: write addr:port")
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1] if host.endswith("]") else "")
        elif host != "*" and not _HOST_NAME.fullmatch(host):
            raise ValueError
    except ValueError:
        raise ValueError("has no address before the port, such as 127.0.0.1; an IPv6 address stands in [ ]") from None
    return host.lower(), _port(port)


class Endpoint(NamedTuple):
    """Where a program listens: a unix socket (path) or TCP (host and port)."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, value):
        """Of C(unix:///path), C(/path), C(tcp://addr:port), C(addr:port) and C(port), which means 127.0.0.1. Raises ValueError."""
        line = _text(value)
        path = re.sub(r"^unix:(//)?", "", line)
        if path.startswith("/") or path != line:
            return cls(path=_socket_path(path))
        line = re.sub(r"^tcp://", "", line)
        return cls("", *_host_and_port(f"127.0.0.1:{line}" if re.fullmatch(r"[0-9]+", line) else line))

    @property
    def url(self):
        """As supervisord writes it."""
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"

    @property
    def listen(self):
        """As a program is told to listen."""
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    @property
    def connect(self):
        """As nginx and a probe on the same host connect to it."""
        return f"127.0.0.1:{self.port}" if self.is_wildcard() else self.listen

    def is_wildcard(self):
        return not self.path and self.host in ("*", "0.0.0.0", "[::]")

    def is_remote(self):
        """Whether other hosts may be able to connect."""
        if self.path or self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return True

    def overlaps(self, other):
        if self.path or other.path:
            return self.path == other.path
        same_host = self.host.replace("localhost", "127.0.0.1") == other.host.replace("localhost", "127.0.0.1")
        return self.port == other.port and (same_host or self.is_wildcard() or other.is_wildcard())


def _socket(value):
    endpoint = Endpoint.parse(value)
    if endpoint.host.startswith("["):
        raise ValueError("is an IPv6 address; supervisord holds unix and IPv4 sockets only")
    return endpoint.url


FLAG = one_of(True, False)
ANY_TEXT = text("text of one line")
ABSOLUTE_PATH = Scalar("an absolute path", _absolute_path)
LOG_FILE = Scalar(f"an absolute path, or one of {', '.join(LOG_WORDS)}", _log_file)
LOG_SIZE = text("a size, such as 50MB or 0", r"[0-9]+([kKmMgG][bB])?")
LOG_BACKUPS = whole_number(0, 10000)
MODE = Scalar('octal digits in quotes, such as "0660"', _octal_mode)
NGINX_TIME = Scalar("a time, such as 5s, 500ms or a number of seconds", _seconds_of_nginx)
NGINX_SIZE = text("a size, such as 16k or 10m", r"[0-9]+[kKmMgG]?")
NGINX_VALUE = Scalar("text of one line, in which $name is a variable of nginx", _nginx_value)
URI_PATH = Scalar('a path that begins with "/"', _uri_path)
ACCOUNT = Scalar("the name of a user other than root", _user)
GROUP = text("the name of a group", r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
LABEL = text("a name of letters, digits, _ and -", r"[A-Za-z0-9][A-Za-z0-9_-]*")
REGULAR_EXPRESSION = Scalar("a regular expression", _regular_expression)
NGINX_LISTEN = Scalar("a port, or addr:port", _listen_of_nginx)
SERVER_NAME = text("a host name, as nginx's server_name takes it, but not a regular expression", r"(\*\.|\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?(\.\*)?")
EXTRA_VALUE = Scalar("text of one line, a number or a boolean", _environment_value)
