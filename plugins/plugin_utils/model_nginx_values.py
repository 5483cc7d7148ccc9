# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values of fcgi_apps that nginx reads.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.

Functions take a value as the operator wrote it and return its normal form, or raise ValueError: see Scalar.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import host_and_port, port
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Scalar
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_values import one_line, text

_UNSAFE_IN_URI = re.compile(r"""[\s;{}"'\\$%?#]""")
_VARIABLE = re.compile(r"\$(?:[A-Za-z0-9_]+|\{[A-Za-z0-9_]+\})")


def _uri_path(value: Any) -> str:
    path = one_line(value)
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


def _nginx_value(value: Any) -> str:
    line = one_line(value)
    if "$" in _VARIABLE.sub("", line):
        raise ValueError("contains a $ that begins no variable of nginx; nginx cannot write a $ that means itself")
    return line


def _script_file(value: Any) -> str:
    line = _nginx_value(value)
    if not line.startswith(("/", "$")):
        raise ValueError
    return line


def _listen(value: Any) -> str:
    line = one_line(value)
    if re.fullmatch(r"[0-9]+", line):
        return str(port(line))
    host, number = host_and_port(line)
    return str(number) if host in ("*", "0.0.0.0") else f"{host}:{number}"


def _time(value: Any) -> str:
    time = re.fullmatch(r"[1-9][0-9]*(ms|s|m|h|d)?", str(value))
    if not time:
        raise ValueError
    return str(value) if time[1] else f"{value}s"


def _password_hash(value: Any) -> str:
    line = one_line(value)
    if not re.fullmatch(r"[${][!-9;-~]+", line):
        raise ValueError("is not a password hash; make one with: openssl passwd -6")
    return line


def _raw_directives(value: Any) -> str:
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, list):
        raise ValueError
    return "\n".join(one_line(line) for line in lines)


URI_PATH = Scalar('a path that begins with "/"', _uri_path)
SERVER_NAME = text("a host name, as nginx's server_name takes it, but not a regular expression", r"(\*\.|\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?(\.\*)?")
LISTEN = Scalar("a port, or addr:port", _listen)
VALUE = Scalar("text of one line, in which $name is a variable of nginx", _nginx_value)
TIME = Scalar("a time, such as 5s, 500ms or a number of seconds", _time)
SIZE = text("a size, such as 16k or 10m", r"[0-9]+[kKmMgG]?")
BUFFERS = text("a number and a size, such as 8 16k", r"[1-9][0-9]* [0-9]+[kKmM]?")
INDEX_FILE = text("the name of a file, such as index.php", r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
EXPIRES = text("a time as nginx's expires takes it, such as 1h, max or off", r"-?[0-9]+[smhdwMy]?|max|off|epoch")
SCRIPT_FILE = Scalar('text that begins with "/" or a variable of nginx', _script_file)
REALM = text("text of one line without $", r"[^$]*[^\s$][^$]*")
ACCOUNT = text("a name without a colon or white space", r"[^:\s]+")
PASSWORD_HASH = Scalar("a password hash", _password_hash)
RAW_DIRECTIVES = Scalar("lines of nginx directives", _raw_directives)
