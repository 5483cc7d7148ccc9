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
import urllib.parse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

KINDS = ("fcgi", "listener")
KINDS_OF_LATER_VERSIONS = ("php_fpm", "uwsgi_cgi")
SIGNALS = ("TERM", "HUP", "INT", "QUIT", "KILL", "USR1", "USR2")
LOG_WORDS = ("AUTO", "NONE", "syslog")
LONGEST_SOCKET_PATH = 107  # bytes: sun_path of unix(7) without its final zero
WITHOUT_HOME = "/nonexistent"
NONE: Mapping = MappingProxyType({})


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

    def key(self, name):
        return self._replace(name=f"{self.name}.{name}")

    def hidden(self, secret):
        return self._replace(secret=self.secret or secret)

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
    """Names to values, where the user chooses the names. secret: no error shows a value."""

    name: Scalar
    value: Scalar
    secret: bool = False

    @property
    def words(self):
        return f"a dictionary: {self.name.words} to {self.value.words}"

    def parse(self, value, place):
        hidden = place.hidden(self.secret)
        if not isinstance(value, dict):
            place.error(f"{hidden.show(value)} is not {self.words}")
            return {}
        names = {name: self.name.parse(name, place) for name in value}
        return {names[name]: self.value.parse(item, hidden.key(name)) for name, item in value.items() if names[name] is not None}


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
    """A dictionary with known keys. synonyms: names that people try, and ours. secret: no error shows a value."""

    keys: tuple
    synonyms: Mapping = NONE
    secret: bool = False
    words: str = "a dictionary"

    def parse(self, value, place):
        place = place.hidden(self.secret)
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
    """Any text of one line; a whole number counts as text. Raises ValueError."""
    if isinstance(value, (dict, list)) or value is None:
        raise ValueError
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        # YAML reads version 1.10 as the number 1.1.
        raise ValueError("is not text: write it in quotes")
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

    return Scalar(f"one of {', '.join(words)}", convert)


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


def _scalar_text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, float) else _text(value)


def _environment_value(value):
    try:
        return _scalar_text(value)
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
    if "//" in path:
        raise ValueError("contains //, which nginx makes one / before it looks for a location")
    return path


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
    return str(port) if host in ("*", "0.0.0.0") else f"{host}:{port}"


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
        raise ValueError("has no port from 1 to 65535")
    return int(digits)


def _host_and_port(line):
    """(host, port) of C(addr:port) and C([addr]:port). Raises ValueError."""
    host, colon, port = line.rpartition(":")
    if not colon:
        raise ValueError("is neither an absolute path nor addr:port")
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
        host, port = _host_and_port(f"127.0.0.1:{line}" if re.fullmatch(r"[0-9]+", line) else line)
        return cls("", "0.0.0.0" if host == "*" else host, port)

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
        return not self.path and self.host in ("0.0.0.0", "[::]")

    def is_remote(self):
        """Whether other hosts may be able to connect."""
        if self.path or self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return True

    def overlaps(self, other):
        """Whether this and another endpoint with the same path and port cannot both be bound."""
        if self.path:
            return True
        same_host = self.host.replace("localhost", "127.0.0.1") == other.host.replace("localhost", "127.0.0.1")
        return same_host or self.is_wildcard() or other.is_wildcard()


def _socket(value):
    endpoint = Endpoint.parse(value)
    if endpoint.host.startswith("["):
        raise ValueError("is an IPv6 address; supervisord holds unix and IPv4 sockets only")
    return endpoint.url


FLAG = one_of(True, False)._replace(words="true or false")
ANY_TEXT = text("text of one line")
ABSOLUTE_PATH = Scalar("an absolute path", _absolute_path)
LOG_FILE = Scalar(f"an absolute path, or one of {', '.join(LOG_WORDS)}", _log_file)
LOG_SIZE = text("a size, such as 50MB or 0", r"[0-9]+([kKmMgG][bB])?")
LOG_BACKUPS = whole_number(0, 10000)
MODE = Scalar('octal digits in quotes, such as "0660"', _octal_mode)
NGINX_TIME = Scalar("a time, such as 5s, 500ms or a number of seconds", _seconds_of_nginx)
NGINX_SIZE = text("a size, such as 16k or 10m", r"[0-9]+[kKmMgG]?")
EXPIRES = text("a time as nginx's expires takes it, such as 1h, max or off", r"-?[0-9]+[smhdwMy]?|max|off|epoch")
NGINX_VALUE = Scalar("text of one line, in which $name is a variable of nginx", _nginx_value)
SCRIPT_FILE = Scalar('text that begins with "/" or a variable of nginx', _script_file)
URI_PATH = Scalar('a path that begins with "/"', _uri_path)
ACCOUNT = Scalar("the name of a user other than root", _user)
GROUP = text("the name of a group", r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
VARIABLE_NAME = text("a name of letters, digits and _", r"[A-Za-z_][A-Za-z0-9_]*")
SET_NAME = text("a name of lower-case letters, digits and _, beginning with a letter", r"[a-z][a-z0-9_]{0,30}")
LABEL = text("a name of letters, digits, _ and -", r"[A-Za-z0-9][A-Za-z0-9_-]*")
REGULAR_EXPRESSION = Scalar("a regular expression", _regular_expression)
SOCKET = Scalar("an absolute path, unix:///path or tcp://addr:port", _socket)
NGINX_LISTEN = Scalar("a port, or addr:port", _listen_of_nginx)
SERVER_NAME = text("a host name, as nginx's server_name takes it, but not a regular expression", r"(\*\.|\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?(\.\*)?")
SCALAR = Scalar("text of one line, a number or a boolean", _scalar_text)


# ---------------------------------------------------------------------------------------------------------------------------------------------------
# What is known about the applications people run: measured, see docs/fcgi_apps.md
# ---------------------------------------------------------------------------------------------------------------------------------------------------


class Runtime(NamedTuple):
    """Presets. stopsignal: the one that lets a request in flight finish. stopwaitsecs: seconds. keepalive: whether nginx may keep connections open.

    one_request: a process serves one connection at a time, and a kept one starves all others. shares_socket: whether processes may share a socket.
    """

    about: str
    stopsignal: str = "TERM"
    stopwaitsecs: int = 10
    keepalive: bool = False
    one_request: bool = False
    shares_socket: bool = True
    environment: Mapping = NONE


RUNTIMES = {
    "generic": Runtime("Anything else: the safe choices."),
    "go": Runtime("net/http/fcgi. Only a program that handles TERM itself finishes its requests.", keepalive=True),
    "libfcgi": Runtime("C and C++ programs with libfcgi.", one_request=True),
    "perl": Runtime("FCGI.pm, CGI::Fast, Plack.", one_request=True),
    "flup": Runtime("Python with flup."),
    "fastcgipp": Runtime(
        "fastcgi++. Processes cannot share a socket: under load all but one exit.", stopsignal="USR1", keepalive=True, shares_socket=False
    ),
    "mapserver": Runtime("MapServer. An idle process takes no notice of TERM, so the wait is short.", stopwaitsecs=2, one_request=True),
    "qgis": Runtime("QGIS Server.", one_request=True, environment={"QT_QPA_PLATFORM": "offscreen"}),
    "fcgiwrap": Runtime("CGI programs through fcgiwrap.", one_request=True),
}

# ---------------------------------------------------------------------------------------------------------------------------------------------------
# The tables of keys
# ---------------------------------------------------------------------------------------------------------------------------------------------------

RELEASE = Table(
    (
        Key("src", Scalar("a directory or a tarball on the controller", _release_source), "The code.", required=True),
        Key(
            "version",
            text("a version in quotes, such as \"1.4.2\"", r"[A-Za-z0-9][A-Za-z0-9._+-]*"),
            "Its version, which names its directory `releases/<version>`. Another version restarts the app.",
            required=True,
        ),
        Key(
            "python_requirements",
            Scalar("a path inside the release", _relative_path),
            "Requirements file inside the release; its packages go into the venv `.venv` of the release.",
            default="",
        ),
        Key("keep", whole_number(1, 1000), "How many releases stay on the host.", default=5),
    )
)

HEALTH = Table(
    (
        Key("path", Scalar('a path that begins with "/", and a query if there is one', _health_path), "What is asked for.", required=True),
        Key("status", ListOf(whole_number(100, 599)), "The statuses that are right.", default=[200]),
        Key("body", REGULAR_EXPRESSION, "What the beginning of the body must contain (Python's `re.search`).", default=""),
        Key("method", one_of("GET", "HEAD", "POST"), "The request's method.", default="GET"),
        Key("timeout", whole_number(1, 3600), "Seconds for one attempt.", default=5),
        Key("deadline", whole_number(1, 86400), "Seconds in which an attempt must succeed after a deployment.", default=30),
    )
)

STATIC = Table(
    (
        Key("path", URI_PATH, "The files' path as the browser sees it.", required=True),
        Key("root", ABSOLUTE_PATH, "Directory below which the whole of `path` is looked for. Either this or `alias`."),
        Key("alias", ABSOLUTE_PATH, "Directory that stands for `path`. Either this or `root`."),
        Key("expires", EXPIRES, "How long browsers may keep them."),
    )
)

AUTH = Table(
    (
        Key("realm", text("text of one line without $", r"[^$]*[^\s$][^$]*"), "The name that the browser shows.", default="Restricted"),
        Key(
            "users",
            Dictionary(text("a name without a colon or white space", r"[^:\s]+"), Scalar("a password hash", _password_hash)),
            "Names and password hashes (`openssl passwd -6`). Either this or `user_file`.",
        ),
        Key("user_file", ABSOLUTE_PATH, "A password file that is already on the host. Either this or `users`."),
    ),
    secret=True,
)

TLS = Table(
    (
        Key("certificate", ABSOLUTE_PATH, "Certificate with its chain, on the host.", required=True),
        Key("certificate_key", ABSOLUTE_PATH, "Its key, on the host.", required=True),
    )
)

LOCATION = Table(
    (
        Key(
            "path",
            text("text of one line"),
            "The path that the app serves; it becomes `SCRIPT_NAME`, what follows it `PATH_INFO`. `/shop` serves `/shop` and all below `/shop/`, "
            "not `/shopping`. With `match: regex` a regular expression.",
            required=True,
        ),
        Key("match", one_of("prefix", "exact", "regex"), "How `path` is compared.", default="prefix"),
        Key("server_name", ListOf(SERVER_NAME), "Host names.", otherwise="`fcgi_nginx_server_name`"),
        Key("listen", ListOf(NGINX_LISTEN), "Ports and addresses of nginx.", otherwise='`["443"]` with `tls`, else `fcgi_nginx_listen`'),
        Key(
            "include_only",
            FLAG,
            "Make no server for it: a server block of your own includes `<fcgi_config_dir>/<fcgi_set>/fcgi_nginx/current/locations/<name>.conf`.",
            default=False,
        ),
        Key(
            "params",
            Dictionary(VARIABLE_NAME, NGINX_VALUE),
            "Further `fastcgi_param`s, or other values for ours. Values may use nginx's variables.",
            default={},
        ),
        Key("script_filename", SCRIPT_FILE, "The parameter `SCRIPT_FILENAME`, which fcgiwrap needs."),
        Key("index", text("a file name", r"[A-Za-z0-9._-]+"), "Appended to paths that end in `/`."),
        Key("connect_timeout", NGINX_TIME, "Until a connection stands.", default="5s"),
        Key("send_timeout", NGINX_TIME, "Between two writes of a request.", default="60s"),
        Key("read_timeout", NGINX_TIME, "Between two reads of an answer; longer than the app's own limit, so that the app ends first.", default="60s"),
        Key("client_max_body_size", NGINX_SIZE, "Largest request body.", otherwise="nginx's"),
        Key("buffer_size", NGINX_SIZE, "For the header of an answer.", otherwise="nginx's"),
        Key("buffers", text("a number and a size, such as 8 16k", r"[1-9][0-9]* [0-9]+[kKmM]?"), "For the body of an answer.", otherwise="nginx's"),
        Key("buffering", FLAG, "Whether nginx takes the answer off the app as fast as it can. Off for event streams.", default=True),
        Key("request_buffering", FLAG, "Whether the app gets a request only when it is complete. Off: no retry, slow clients hold processes.", default=True),
        Key("keepalive", FLAG, "Whether nginx keeps connections to the app open.", otherwise="by `runtime`"),
        Key("retry_non_idempotent", FLAG, "Whether a POST, too, is sent again when the process serving it dies.", default=False),
        Key("static", ListOf(STATIC), "Files that nginx serves itself; `auth` holds for them too.", default=[]),
        Key("auth", AUTH, "HTTP basic authentication."),
        Key("tls", TLS, "Makes the server one of TLS. Locations of one server share it."),
        Key("extra", Scalar("lines of nginx directives", _raw_directives), "Directives of nginx for this location, as they are: the escape hatch.", default=""),
    )
)

APP = Table(
    (
        Key(
            "name",
            text("a name of at most 27 lower-case letters, digits, _ and -, beginning with a letter", r"[a-z][a-z0-9_-]{0,26}"),
            "Names the program, and by default its user, socket, logs and directories.",
            required=True,
        ),
        Key(
            "kind",
            Scalar(f"one of {', '.join(KINDS)}", _kind),
            "`fcgi`: processes share one listening socket, which the supervisor holds and passes on fd 0. `listener`: the program binds its own address.",
            default="fcgi",
        ),
        Key(
            "state",
            one_of("present", "absent", "purged"),
            "`absent` stops the app and removes its configuration, as leaving it out of the list does; `purged` also removes its releases, logs, home, "
            "and the user if that was made for it.",
            default="present",
        ),
        Key("groups", ListOf(LABEL), "Labels by which `fcgi_program` and the playbooks select apps.", default=[]),
        Key("runtime", one_of(*RUNTIMES), "Presets for what the app is made with; see [Runtimes](#runtimes).", default="generic"),
        Key(
            "command",
            Scalar("a command: words as for a shell, or a list of words", _command),
            "What is run; no shell is involved. A first word without a leading `/` is looked for in the current release. `%(process_num)d` and "
            "supervisord's other expansions work, any other `%` means itself.",
            otherwise="required for `state: present`",
        ),
        Key("user", ACCOUNT, "Made as a system user without a login unless it exists. Never root.", otherwise="`fcgi-<name>`"),
        Key("group", GROUP, "The user's group, when it is made.", otherwise="same as `user`"),
        Key("home", ABSOLUTE_PATH, "The user's home.", otherwise=f"`<fcgi_srv_dir>/<name>/home` with `create_home`, else `{WITHOUT_HOME}`"),
        Key("create_home", FLAG, "Whether the home is made with the user.", default=False),
        Key("release", RELEASE, "Places the code in `<fcgi_srv_dir>/<name>/releases/<version>`, and a link `current` to it."),
        Key("processes", whole_number(1, 4096), "How many. supervisord calls it numprocs.", default=1),
        Key("directory", ABSOLUTE_PATH, "Working directory.", otherwise="the current release, else `/`"),
        Key(
            "environment",
            Dictionary(VARIABLE_NAME, Scalar(SCALAR.words, _environment_value), secret=True),
            "Environment variables; vault secrets are welcome. `%` means itself. `HOME`, `USER` and `LOGNAME` are set unless given.",
            default={},
        ),
        Key("umask", MODE, "The processes' umask.", otherwise="the supervisor's"),
        Key("autostart", FLAG, "Whether it starts with the supervisor.", default=True),
        Key(
            "autorestart",
            one_of(True, False, "unexpected"),
            "Whether a process that exited starts again. Healthy workers exit 0, hence not supervisord's `unexpected`.",
            default=True,
        ),
        Key("startsecs", whole_number(0, 86400), "Seconds after which a process counts as running.", default=1),
        Key("startretries", whole_number(0, 1000000), "Attempts before a process is FATAL.", default=3),
        Key("exitcodes", ListOf(whole_number(0, 255)), "Exit codes that `autorestart: unexpected` expects.", default=[0]),
        Key("stopsignal", one_of(*SIGNALS), "Asks a process to stop.", otherwise="by `runtime`"),
        Key("stopwaitsecs", whole_number(1, 86400), "Seconds until a process that was asked to stop is killed.", otherwise="by `runtime`"),
        Key("stopasgroup", FLAG, "Whether the process group is asked to stop.", default=False),
        Key("killasgroup", FLAG, "Whether the process group is killed.", otherwise="same as `stopasgroup`"),
        Key("reload_signal", one_of(*SIGNALS), "What `fcgi_program` with `state: reloaded` sends.", otherwise="none: the app cannot reload"),
        Key("priority", whole_number(0, 1000000), "Low ones start first and stop last.", default=999),
        Key("redirect_stderr", FLAG, "Whether stderr goes to the log of stdout.", default=True),
        Key("stdout_logfile", LOG_FILE, "Log of stdout.", otherwise="`<fcgi_log_dir>/<name>_%(process_num)02d.log`"),
        Key("stdout_logfile_maxbytes", LOG_SIZE, "Size at which it is rotated; 0 is never.", default="50MB"),
        Key("stdout_logfile_backups", whole_number(0, 10000), "How many rotated ones stay.", default=10),
        Key("stderr_logfile", LOG_FILE, "Log of stderr, with `redirect_stderr: false`.", otherwise="`<fcgi_log_dir>/<name>_%(process_num)02d.err.log`"),
        Key("stderr_logfile_maxbytes", LOG_SIZE, "Size at which it is rotated.", otherwise="50MB"),
        Key("stderr_logfile_backups", whole_number(0, 10000), "How many rotated ones stay.", otherwise="10"),
        Key(
            "socket",
            SOCKET,
            "The socket that the supervisor holds.",
            otherwise="`unix://<fcgi_run_dir>/<name>.sock`",
            kind="fcgi",
        ),
        Key(
            "socket_owner",
            text("user:group", r"[A-Za-z_][A-Za-z0-9_.-]*:[A-Za-z_][A-Za-z0-9_.-]*"),
            "Owner of a unix socket.",
            otherwise="the user and nginx's group",
            kind="fcgi",
        ),
        Key("socket_mode", MODE, "Mode of a unix socket.", otherwise='`"0660"`', kind="fcgi"),
        Key(
            "socket_backlog",
            whole_number(1, 65535),
            "Connections that may wait; the kernel caps it at `net.core.somaxconn`.",
            otherwise="supervisord's",
            kind="fcgi",
        ),
        Key(
            "listen",
            Scalar("a port, addr:port or unix:///path", lambda value: Endpoint.parse(value).listen),
            "What the program binds. With `processes: N` the ports are this one and the N-1 after it; each process finds its own in the environment "
            "variable `PORT`, and in the command as `%(process_num)d`.",
            otherwise="required for `kind: listener`",
            kind="listener",
        ),
        Key("allow_remote", FLAG, "Allow an address that other hosts can reach. FastCGI knows no authentication.", default=False),
        Key(
            "health",
            OrFalse(HEALTH),
            "The request whose answer a deployment waits for. `false`: it waits for none.",
            otherwise="a ping, which the app itself does not see",
        ),
        Key("locations", ListOf(LOCATION), "Where nginx serves the app.", default=[]),
        Key(
            "extra",
            Dictionary(text("a key of supervisord", r"[a-z][a-z0-9_]*"), SCALAR),
            "Further keys of supervisord's section, as they are: the escape hatch.",
            default={},
        ),
    ),
    synonyms={"numprocs": "processes", "workers": "processes", "env": "environment", "cwd": "directory", "chdir": "directory", "port": "listen"},
)

OPTIONS = Table(
    (
        Key("fcgi_set", SET_NAME, "Who owns what.", default="default"),
        Key("nginx_group", GROUP, "Group that may connect to the sockets.", default="www-data"),
        Key("run_dir", ABSOLUTE_PATH, "Directory of the sockets.", default="/run/fastcgi"),
        Key("log_dir", ABSOLUTE_PATH, "Directory of the logs.", default="/var/log/fcgi"),
        Key("srv_dir", ABSOLUTE_PATH, "Directory of the releases.", default="/srv/fcgi"),
        Key("config_dir", ABSOLUTE_PATH, "Directory of the generations.", default="/etc/fcgi"),
        Key("nologin", ABSOLUTE_PATH, "Shell of users who may not log in.", default="/usr/sbin/nologin"),
        Key("listen", ListOf(NGINX_LISTEN), "Ports and addresses of nginx.", default=["80"]),
        Key("server_name", ListOf(SERVER_NAME), "Host names.", default=["localhost"]),
    )
)

# Keys of supervisord's section that the model writes itself, and the key of fcgi_apps that decides them.
MANAGED = {key.name: key.name for key in APP.keys if key.name not in ("kind", "state", "groups", "listen", "locations", "health", "extra", "name")}
MANAGED.update(numprocs="processes", numprocs_start="listen", process_name="name")


# ---------------------------------------------------------------------------------------------------------------------------------------------------
# One app: what depends on its other keys, and its rules
# ---------------------------------------------------------------------------------------------------------------------------------------------------


def _parse_app(value, place, options):
    """The app in its normal form, or None if anything in it is wrong."""
    if isinstance(value, dict) and value.get("kind") in KINDS_OF_LATER_VERSIONS:
        # Its other keys are not known here: they are no errors of their own.
        value = {"kind": value["kind"], "name": value.get("name"), "state": "absent"}
    app = _checked(place, lambda: APP.parse(value, place))
    app = app and _checked(place, lambda: _filled(app, options, place))
    return app and _checked(place, lambda: _ruled(app, value, place))


def _checked(place, work):
    """What work() returns, or None if it reported an error."""
    before = len(place.errors)
    result = work()
    return result if len(place.errors) == before else None


def _fill(table, **defaults):
    for key, default in defaults.items():
        if table[key] is None:
            table[key] = default


def _filled(app, options, place):
    """The app with every default that depends on its other keys or on the options."""
    _fill_app(app, options)
    if app["kind"] == "fcgi":
        _fill_socket(app, options, place)
    for location in app["locations"]:
        _fill_location(location, app, options)
    return app


def _fill_socket(app, options, place):
    if app["socket"] is None:
        app["socket"] = SOCKET.parse(f"{options['run_dir']}/{app['name']}.sock", place.key("socket"))
    if app["socket"] and app["socket"].startswith("unix:"):
        _fill(app, socket_owner=f"{app['user']}:{options['nginx_group']}", socket_mode="0660")


def _ruled(app, given, place):
    """The app, after every rule that concerns it alone. given: the app as the operator wrote it."""
    for rule in RULES:
        rule(app, given, place)
    for index, location in enumerate(app["locations"]):
        _check_location(location, place.key("locations").item(index))
    return app


def _fill_app(app, options):
    name, runtime = app["name"], RUNTIMES[app["runtime"]]
    directory = posixpath.join(options["srv_dir"], name)
    logs = posixpath.join(options["log_dir"], name)
    _fill(app, user=f"fcgi-{name}")
    _fill(
        app,
        group=app["user"],
        home=f"{directory}/home" if app["create_home"] else WITHOUT_HOME,
        directory=f"{directory}/current" if app["release"] else "/",
        stopsignal=runtime.stopsignal,
        stopwaitsecs=runtime.stopwaitsecs,
        killasgroup=app["stopasgroup"],
        stdout_logfile=f"{logs}_%(process_num)02d.log",
    )
    if not app["redirect_stderr"]:
        _fill(app, stderr_logfile=f"{logs}_%(process_num)02d.err.log", stderr_logfile_maxbytes="50MB", stderr_logfile_backups=10)
    if app["release"] and app["command"] and not app["command"][0].startswith("/"):
        app["command"][0] = f"{directory}/current/{app['command'][0]}"


def _fill_location(location, app, options):
    if location["match"] == "prefix":
        location["path"] = location["path"].rstrip("/") or "/"
    _fill(
        location,
        server_name=options["server_name"],
        listen=["443"] if location["tls"] else options["listen"],
        keepalive=RUNTIMES[app["runtime"]].keepalive,
    )


def _endpoints(app):
    """Every Endpoint that the app listens on."""
    if app["kind"] == "fcgi":
        return [Endpoint.parse(app["socket"])]
    first = Endpoint.parse(app["listen"])
    return [first] if first.path else [first._replace(port=first.port + number) for number in range(app["processes"])]


def _check_kind(app, given, place):
    for key in APP.keys:
        if key.kind and key.kind != app["kind"] and given.get(key.name) is not None:
            place.key(key.name).error(f"belongs to kind {key.kind}; this app is of kind {app['kind']}")
    if app["kind"] == "listener" and app["listen"] is None and app["state"] == "present":
        place.key("listen").error("missing; kind listener binds its own address, such as 127.0.0.1:9001")


def _check_command(app, given, place):
    place = place.key("command")
    if app["command"] is None:
        if app["state"] == "present":
            place.error("missing; it is what is run")
        return
    program = app["command"][0]
    if not program.startswith("/"):
        place.error(f"{place.show(program)} is not an absolute path, and there is no release to look for it in: write the whole path, or add release")
    elif ".." in program.split("/"):
        place.error(f"{place.show(program)} contains .., which the path of a program may not")


def _check_addresses(app, given, place):
    key = "socket" if app["kind"] == "fcgi" else "listen"
    if app[key] is None:
        return
    place = place.key(key)
    first = Endpoint.parse(app[key])
    if first.path and app["kind"] == "listener" and app["processes"] > 1:
        place.error(f"{place.show(app[key])} is one path, which {app['processes']} processes cannot all bind: give a port, or use kind fcgi")
    if first.port + app["processes"] - 1 > 65535 and app["kind"] == "listener":
        place.error(f"{place.show(app[key])} and the next {app['processes'] - 1} ports go beyond 65535")
    if first.is_remote() and not app["allow_remote"]:
        place.error(
            f"{place.show(app[key])} can be reached from other hosts, and FastCGI knows no authentication: use 127.0.0.1, "
            "or say allow_remote: true if a firewall guards it"
        )
    if not first.path:
        for option in ("socket_owner", "socket_mode"):
            if app[option] is not None:
                place.error(f"{place.show(app[key])} is not a unix socket: {option} has no meaning")


def _check_processes(app, given, place):
    if app["stopasgroup"] and not app["killasgroup"]:
        place.key("killasgroup").error("false is impossible with stopasgroup: true; leave it out")
    if app["kind"] == "fcgi" and app["processes"] > 1 and not RUNTIMES[app["runtime"]].shares_socket:
        place.key("processes").error(
            f"{app['processes']} processes of runtime {app['runtime']} cannot share a socket: use one process with threads, or kind listener"
        )


def _check_logs(app, given, place):
    for key in ("stderr_logfile", "stderr_logfile_maxbytes", "stderr_logfile_backups"):
        if app["redirect_stderr"] and app[key] is not None:
            place.key(key).error("has no effect: stderr goes to the log of stdout unless redirect_stderr is false")
    for key in ("stdout_logfile", "stderr_logfile"):
        path = app[key] or ""
        # A device, such as /dev/stdout in a container, may be shared.
        if app["processes"] > 1 and _is_log_path(path) and not path.startswith("/dev/") and "%(process_num)" not in path:
            place.key(key).error(f"{place.show(path)} would be one file for {app['processes']} processes: put %(process_num)02d into it")


def _is_log_path(value):
    return bool(value) and value not in LOG_WORDS


def _check_names(app, given, place):
    for key in app["extra"]:
        if key in MANAGED:
            place.key("extra").key(key).error(f"is decided by {MANAGED[key]}; use that")
    if "FCGI_DIGEST" in app["environment"]:
        place.key("environment").key("FCGI_DIGEST").error("is ours: it tells the supervisor of changes that it does not see")


RULES = (_check_kind, _check_command, _check_addresses, _check_processes, _check_logs, _check_names)


def _check_location(location, place):
    if location["match"] != "regex":
        URI_PATH.parse(location["path"], place.key("path"))
    claimed = _claimed(location)
    for index, static in enumerate(location["static"]):
        if claimed.count(("", _directory(static["path"]))) > 1:
            place.key("static").item(index).key("path").error(f"{place.show(static['path'])} is taken twice in this location")
        _check_one_of(static, ("root", "alias"), place.key("static").item(index))
    if location["auth"] is not None:
        _check_one_of(location["auth"], ("users", "user_file"), place.key("auth"))
    if "HTTP_PROXY" in location["params"]:
        place.key("params").key("HTTP_PROXY").error("is always empty: a client could set it with its Proxy header (httpoxy, CVE-2016-5385)")
    if "SCRIPT_FILENAME" in location["params"]:
        place.key("params").key("SCRIPT_FILENAME").error("has a key of its own: script_filename")


def _check_one_of(table, keys, place):
    if sum(bool(table[key]) for key in keys) != 1:
        place.error(f"needs exactly one of {' and '.join(keys)}")


# ---------------------------------------------------------------------------------------------------------------------------------------------------
# Rules between apps. Each takes pairs of (app, place).
# ---------------------------------------------------------------------------------------------------------------------------------------------------


def _check_sockets(apps):
    claims: dict = {}
    for app, place in apps:
        key = "socket" if app["kind"] == "fcgi" else "listen"
        for endpoint in _endpoints(app):
            near = claims.setdefault((endpoint.path, endpoint.port), [])
            rival = next((name for earlier, name in near if endpoint.overlaps(earlier)), None)
            if rival:
                place.key(key).error(f'"{endpoint.listen}" is also the address of fcgi_apps[{rival}]: each app needs its own')
                break
            near.append((endpoint, app["name"]))


def _check_users(apps):
    seen: dict = {}
    for app, place in apps:
        first = seen.setdefault(app["user"], app)
        for key in ("group", "home", "create_home"):
            if app[key] != first[key]:
                place.key(key).error(
                    f'{place.show(app[key])} differs from {place.show(first[key])} of fcgi_apps[{first["name"]}], which has the same user '
                    f'"{app["user"]}": make them the same'
                )


def _check_locations(apps):
    claims: dict = {}
    tls_of_site: dict = {}
    tls_of_listen: dict = {}
    for location, place in _locations_with_places(apps):
        rivals = [claims.setdefault((site, head), place).name for site in _sites(location) for head in _claimed(location)]
        rival = next((name for name in rivals if name != place.name), None)
        if rival:
            place.key("path").error(f'{place.show(location["path"])} is claimed by {rival} too, on the same server: change path, server_name or listen')
        if location["tls"] and not location["include_only"]:
            for site in _sites(location):
                tls, first = tls_of_site.setdefault(site, (location["tls"], place))
                tls_of_listen.setdefault(site[1], place)
                if tls != location["tls"]:
                    place.key("tls").error(f"differs from that of {first.name}, on the same server {site[0]}: a server has one certificate")
                    break
    _check_ports_of_tls(apps, tls_of_site, tls_of_listen)


def _check_ports_of_tls(apps, tls_of_site, tls_of_listen):
    """On one address, nginx speaks TLS for all servers or for none."""
    for location, place in _locations_with_places(apps):
        for name, listen in _sites(location):
            if listen in tls_of_listen and (name, listen) not in tls_of_site:
                place.key("tls").error(f"missing: {tls_of_listen[listen].name} makes {listen} an address of TLS, for the server {name} too")
                break


def _locations_with_places(apps):
    return [(location, place.key("locations").item(index)) for app, place in apps for index, location in enumerate(app["locations"])]


def _sites(location):
    """Every (server name, listen) that the location belongs to. One that is only included belongs to a server that we do not know."""
    if location["include_only"]:
        return []
    return [(name.lower(), listen) for name in location["server_name"] for listen in location["listen"]]


def _heads(location):
    """What nginx writes after `location`, as (modifier, path). ^~ keeps the site's regular expressions, such as \\.php$, away from the app."""
    path = location["path"]
    if location["match"] == "prefix":
        return [("", "/")] if path == "/" else [("=", path), ("^~", f"{path}/")]
    return [("=" if location["match"] == "exact" else "~", path)]


def _claimed(location):
    """The heads of the location and of its static files, as nginx compares them: ^~ and no modifier are the same."""
    heads = _heads(location) + [("^~", _directory(static["path"])) for static in location["static"]]
    return [(modifier.replace("^~", ""), path) for modifier, path in heads]


def _directory(path):
    return f"{path.rstrip('/')}/"


# ---------------------------------------------------------------------------------------------------------------------------------------------------
# What the roles get
# ---------------------------------------------------------------------------------------------------------------------------------------------------


def _program(app):
    section = "fcgi-program" if app["kind"] == "fcgi" else "program"
    expanded = {} if _has_socket_of_ours(app) or Endpoint.parse(app["listen"]).path else {"PORT": "%(process_num)d"}
    return {
        "name": app["name"],
        "app": app["name"],
        "kind": app["kind"],
        "section": f"{section}:{app['name']}",
        "options": _options(app),
        "environment": _environment(app),
        "environment_expanded": {name: value for name, value in expanded.items() if name not in app["environment"]},
        "metadata": {
            "name": app["name"],
            "app": app["name"],
            "kind": app["kind"],
            "groups": app["groups"],
            "socket": app["socket"],
            "listen": [] if _has_socket_of_ours(app) else [endpoint.listen for endpoint in _endpoints(app)],
            "user": app["user"],
            "autostart": app["autostart"],
            "startsecs": app["startsecs"],
            "reload_signal": app["reload_signal"],
        },
    }


def _has_socket_of_ours(app):
    """Whether the supervisor holds the app's socket."""
    return app["kind"] == "fcgi"


def _options(app):
    """The keys of supervisord's section in order, as [key, text]; what is left out keeps supervisord's default."""
    first = _endpoints(app)[0]
    # supervisord cannot add: for a listener the process number is the port, from its first one on.
    by_port = not _has_socket_of_ours(app) and bool(first.port)
    options = {
        "command": shlex.join(app["command"]),
        "process_name": f"%(program_name)s_%(process_num){'d' if by_port else '02d'}",
        "numprocs": app["processes"],
        "numprocs_start": first.port if by_port else None,
    }
    same_name = (
        "socket socket_owner socket_mode socket_backlog user directory umask priority autostart autorestart startsecs startretries exitcodes stopsignal "
        "stopwaitsecs stopasgroup killasgroup redirect_stderr stdout_logfile stdout_logfile_maxbytes stdout_logfile_backups stderr_logfile "
        "stderr_logfile_maxbytes stderr_logfile_backups"
    )
    options.update({key: app[key] for key in same_name.split()}, **app["extra"])
    return [[key, _option_text(value)] for key, value in options.items() if value is not None]


def _option_text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _environment(app):
    return {
        **RUNTIMES[app["runtime"]].environment,
        "HOME": app["home"],
        "USER": app["user"],
        "LOGNAME": app["user"],
        "FCGI_DIGEST": _digest(app),
        **app["environment"],
    }


def _digest(app):
    """Changes with what supervisord does not compare when it reads a section again, so that it sees a change in the environment."""
    unseen = [app["socket_owner"], app["socket_mode"], app["socket_backlog"], app["release"] and app["release"]["version"]]
    return hashlib.sha256(json.dumps(unseen).encode()).hexdigest()[:16]


def _users(apps, options):
    users = {
        app["user"]: {
            "app": app["name"],
            "name": app["user"],
            "group": app["group"],
            "home": app["home"],
            "create_home": app["create_home"],
            "shell": options["nologin"],
        }
        for app in reversed(apps)
    }
    return list(reversed(users.values()))


def _release(app, options):
    path = posixpath.join(options["srv_dir"], app["name"])
    program, current = app["command"][0], f"{path}/current/"
    return {
        **app["release"],
        "app": app["name"],
        "path": path,
        "user": app["user"],
        "group": app["group"],
        "executable": posixpath.normpath(program[len(current):]) if program.startswith(current) else "",
    }


def _probes(app):
    """What a deployment asks the app's processes: one target for a shared socket, one for each port of a listener."""
    health = app["health"]
    if health is False or not app["autostart"]:
        return []
    request = _request(app, health) if health else {"mode": "ping", "timeout": 5, "deadline": 30}
    endpoints = _endpoints(app)
    return [
        {"name": app["name"] if len(endpoints) == 1 else f"{app['name']}_{endpoint.port}", "address": endpoint.connect, **request} for endpoint in endpoints
    ]


def _request(app, health):
    path, _mark, query = health["path"].partition("?")
    path = urllib.parse.unquote(path)
    location = _location_of(app, path)
    script_name = ""
    params = {}
    if location:
        script_name = location["path"].rstrip("/") if location["match"] != "regex" else ""
        host = _host_name(location)
        given = {"SERVER_NAME": host, "HTTP_HOST": host, "SCRIPT_FILENAME": location["script_filename"], **location["params"]}
        # What needs a variable of nginx only nginx can say.
        params = {name: value for name, value in given.items() if value and "$" not in value}
    return {
        "mode": "request",
        "method": health["method"],
        "script_name": script_name,
        "path_info": path[len(script_name):],
        "query": query,
        "params": params,
        "status": health["status"],
        "body": health["body"],
        "timeout": health["timeout"],
        "deadline": health["deadline"],
    }


def _location_of(app, path):
    """The location that nginx would choose for the path among those of the app, or None."""
    fitting = [
        location
        for location in app["locations"]
        if location["match"] != "regex" and any(path == head if modifier == "=" else path.startswith(head) for modifier, head in _heads(location))
    ]
    return max(fitting, key=lambda location: len(location["path"]), default=None)


def _upstream_name(app, options):
    return f"fcgi_{options['fcgi_set']}_{app['name']}"


def _upstream_addresses(app):
    """A group of one server never retries and ignores max_fails: the same address twice makes nginx ask again when a process dies at work."""
    addresses = [endpoint.connect for endpoint in _endpoints(app)]
    return addresses if len(addresses) > 1 else addresses * 2


def _upstream(app, options):
    return {
        "name": _upstream_name(app, options),
        "servers": [{"address": address, "max_fails": 0} for address in _upstream_addresses(app)],
        "keepalive": 16 if any(location["keepalive"] for location in app["locations"]) else 0,
    }


def _location(app, index, options):
    """Everything that the template of a location prints, with nothing left to decide."""
    location = app["locations"][index]
    auth = location["auth"]
    if auth:
        current = posixpath.join(options["config_dir"], options["fcgi_set"], "fcgi_nginx", "current")
        auth = {"realm": auth["realm"], "user_file": auth["user_file"] or f"{current}/{_htpasswd_path(app, index)}"}
    return {
        "app": app["name"],
        "path": location["path"],
        "match": location["match"],
        "matches": [_nginx_head(*head) for head in _heads(location)],
        "upstream": _upstream_name(app, options),
        "keep_conn": location["keepalive"],
        "next_upstream": ["error", "timeout", "invalid_header"] + ["non_idempotent"] * location["retry_non_idempotent"],
        "next_upstream_tries": len(_upstream_addresses(app)),
        "split": _split(location),
        "directives": _directives(location),
        "params": _params(location, options),
        # As in nginx's stock files: applications take HTTPS for set when it is there, though empty.
        "if_not_empty": ["HTTPS"],
        "static": [_static(static) for static in location["static"]],
        "auth": auth,
        "extra": location["extra"],
    }


def _nginx_head(modifier, path):
    """The head of a location block. Only a regular expression may contain what nginx would take for syntax."""
    if modifier == "~":
        path = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{modifier} {path}".strip()


def _split(location):
    """The regular expression of fastcgi_split_path_info.

    (?s) and \\z: with a bare dot, a newline (%0a) in the path leaves PATH_INFO empty (CVE-2019-11043).
    """
    if location["match"] == "regex":
        return r"(?s)^()(.*)\z"
    script_name = re.escape(location["path"].rstrip("/"))
    path_info = "/?" if location["match"] == "exact" else "|/.*"
    return rf"(?s)^({script_name})({path_info})\z"


def _directives(location):
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
        "fastcgi_index": location["index"],
        "client_max_body_size": location["client_max_body_size"],
    }
    return [[name, value] for name, value in directives.items() if value is not None]


def _params(location, options):
    """CGI/1.1 (RFC 3875) and what applications have come to expect, without nginx's stock files, which differ between versions of one distribution."""
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
    if location["script_filename"]:
        params["SCRIPT_FILENAME"] = location["script_filename"]
    return [[name, value] for name, value in {**params, **location["params"]}.items()]


def _static(static):
    """Both slashes or none: `location /i/` with `alias /x` would serve /x/../ as well."""
    directive = "alias" if static["alias"] else "root"
    return {
        "path": _directory(static["path"]),
        "directive": directive,
        "directory": _directory(static["alias"]) if static["alias"] else static["root"],
        "expires": static["expires"],
    }


def _htpasswd_path(app, index):
    return f"auth/{app['name']}_{index}"


def _htpasswd(app):
    return [
        {"path": _htpasswd_path(app, index), "vars": {"htpasswd": location["auth"]["users"]}}
        for index, location in enumerate(app["locations"])
        if location["auth"] and location["auth"]["users"]
    ]


def _servers(apps, options):
    """Server blocks: one for all names and addresses that serve the same locations, so that no name stands in two blocks of one address."""
    locations = [(app, index) for app in apps for index in range(len(app["locations"]))]
    sites: dict = {}
    for number, (app, index) in enumerate(locations):
        for site in _sites(app["locations"][index]):
            sites.setdefault(site, []).append(number)
    listens: dict = {}
    for (name, listen), numbers in sites.items():
        listens.setdefault((name, tuple(numbers)), []).append(listen)
    names: dict = {}
    for (name, numbers), addresses in listens.items():
        names.setdefault((tuple(addresses), numbers), []).append(name)
    return [
        {
            "server_name": server_name,
            "listen": list(addresses),
            "tls": next((app["locations"][index]["tls"] for app, index in (locations[number] for number in numbers) if app["locations"][index]["tls"]), None),
            "locations": [_location(app, index, options) for app, index in (locations[number] for number in numbers)],
        }
        for (addresses, numbers), server_name in names.items()
    ]


def _include(app, options):
    """The app's locations for a foreign server block. One path of several servers of ours stands in it once."""
    locations: dict = {}
    for index, location in enumerate(app["locations"]):
        locations.setdefault(tuple(_claimed(location)), _location(app, index, options))
    return {"path": f"locations/{app['name']}.conf", "vars": {"include": {"app": app["name"], "locations": list(locations.values())}}}


def _urls(app):
    """Where a person can look, one URL for each location and address of nginx."""
    return [
        _url(location, listen)
        for location in app["locations"]
        if location["match"] != "regex" and not location["include_only"]
        for listen in location["listen"]
    ]


def _url(location, listen):
    host, _colon, port = listen.rpartition(":")
    host = host or _host_name(location)
    scheme, default_port = ("https", "443") if location["tls"] else ("http", "80")
    return f"{scheme}://{host}{'' if port == default_port else f':{port}'}{location['path']}"


def _host_name(location):
    """The first of the location's server names that is one host's."""
    return next((name for name in location["server_name"] if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name)), "localhost")


def _purged(app, present, options):
    """What is removed for good. A user stays unless it was made for this app alone."""
    user_is_its_own = app["user"] == f"fcgi-{app['name']}" and all(app["user"] != other["user"] for other in present)
    paths = [posixpath.join(options["srv_dir"], app["name"])]
    if app["create_home"] and user_is_its_own and app["home"].count("/") > 1:
        paths.append(app["home"])
    return {
        "name": app["name"],
        "user": app["user"] if user_is_its_own else "",
        "group": app["group"] if user_is_its_own else "",
        "paths": paths,
        # In the directory of all logs, those of the processes of this app and no other: shop_00.log, its backups, and shop_00.err.log.
        "logs": rf"{re.escape(app['name'])}_[0-9]+(\.err)?\.log(\.[0-9]+)?",
    }


def _groups(apps):
    groups: dict = {}
    for app in apps:
        for group in app["groups"]:
            groups.setdefault(group, []).append(app["name"])
    return groups


def _warnings(app):
    """Few: what works, but rarely as meant."""
    runtime = RUNTIMES[app["runtime"]]
    shell_words = [word for word in app["command"][1:] if re.fullmatch(r"&&?|\|\|?|;|[0-9]?(>>?|<)(&[0-9])?", word)]
    if shell_words:
        yield "command", f"no shell runs it: {shell_words[0]} is passed on as a word"
    if app["socket_mode"] and int(app["socket_mode"], 8) & 0o002:
        yield "socket_mode", f"{app['socket_mode']} lets every user of the host send requests"
    if app["runtime"] == "mapserver" and "MAPSERVER_CONFIG_FILE" not in app["environment"]:
        yield "environment", "without MAPSERVER_CONFIG_FILE, MapServer 8 answers one error and exits"
    for index, location in enumerate(app["locations"]):
        if location["keepalive"] and runtime.one_request:
            yield f"locations[{index}].keepalive", f"a process of runtime {app['runtime']} serves one connection at a time: kept ones starve the others"
        if app["runtime"] == "fcgiwrap" and not location["script_filename"]:
            yield f"locations[{index}].script_filename", "missing: fcgiwrap does not know which program to run"


# ---------------------------------------------------------------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------------------------------------------------------------


def fcgi_model(fcgi_apps, **options):
    """The plain dict that the roles work with (see the RETURN of the filter fcgi_model).

    fcgi_apps: list of dicts with the keys of APP. options: the keys of OPTIONS. Raises ModelError with everything that is wrong.
    """
    errors: list = []
    options = OPTIONS.parse(options, Place("fcgi_model", errors))
    if not isinstance(fcgi_apps, list):
        Place("fcgi_apps", errors).error("is not a list of apps")
    if errors:
        raise ModelError(errors)
    apps = _apps(fcgi_apps, options, errors)
    if errors:
        raise ModelError(errors)
    return _derive(apps, options)


def _apps(fcgi_apps, options, errors):
    """All apps in their normal form, as far as they are right; what is wrong goes to errors."""
    places = [Place(f"fcgi_apps[{_label(value, index)}]", errors) for index, value in enumerate(fcgi_apps)]
    first: dict = {}
    for index, place in enumerate(places):
        if first.setdefault(place.name, index) != index:
            place.error(f"the name is used twice, by items {first[place.name]} and {index}")
    parsed = [(_parse_app(value, place, options), place) for value, place in zip(fcgi_apps, places)]
    right = [(app, place) for app, place in parsed if app]
    present = [(app, place) for app, place in right if app["state"] == "present"]
    for rule in (_check_sockets, _check_users, _check_locations):
        rule(present)
    return [app for app, _place in right]


def _label(value, index):
    """How errors call an app: by its name, if that can be one, else by its position."""
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_-]{0,26}", name) else index


def _derive(apps, options):
    present = [app for app in apps if app["state"] == "present"]
    releases = [_release(app, options) for app in present if app["release"]]
    placed = {release["app"] for release in releases if release["executable"]}
    return {
        "fcgi_set": options["fcgi_set"],
        "apps": present,
        "programs": [_program(app) for app in present],
        "users": _users(present, options),
        "releases": releases,
        "commands": [{"app": app["name"], "command": app["command"][0], "user": app["user"], "pending": app["name"] in placed} for app in present],
        "listens": [{"app": app["name"], "address": endpoint.url} for app in present for endpoint in _endpoints(app)],
        "probes": [probe for app in present for probe in _probes(app)],
        "upstreams": [_upstream(app, options) for app in present if app["locations"]],
        "servers": _servers(present, options),
        "includes": [_include(app, options) for app in present if app["locations"]],
        "htpasswd": [file for app in present for file in _htpasswd(app)],
        "urls": [url for app in present for url in _urls(app)],
        "purged": [_purged(app, present, options) for app in apps if app["state"] == "purged"],
        "groups": _groups(present),
        "needs_venv": any(release["python_requirements"] for release in releases),
        "warnings": [f"fcgi_apps[{app['name']}].{key}: {text}" for app in present for key, text in _warnings(app)],
    }
