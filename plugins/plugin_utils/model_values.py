# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values of fcgi_apps: text, numbers, words, paths, users, commands, environment.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.

Functions take a value as the operator wrote it and return its normal form, or raise ValueError: see Scalar.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import escaping
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Scalar

KINDS = ("fcgi", "listener", "php_fpm")
KINDS_OF_LATER_VERSIONS = ("uwsgi_cgi",)
SIGNALS = ("TERM", "HUP", "INT", "QUIT", "KILL", "USR1", "USR2")
LOG_WORDS = ("AUTO", "NONE", "syslog")
LONGEST_SOCKET_PATH = 107  # bytes: sun_path of unix(7) without its final zero

_BOOLEANS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_UNSAFE_IN_PATH = re.compile(r"""[\s;{}"'\\$%*?\[\]]""")
_EXPANSION = re.compile(r"%\((?:(?:program_name|group_name|host_node_name|here)\)s|(?:process_num|numprocs)\)[0-9]*[sd])")


def _held_by(escape: Callable[[Any], str], value: Any) -> str:
    """What escape() makes of the value. Raises ValueError if its format cannot hold the value."""
    if value is None or isinstance(value, (dict, list)):
        raise ValueError
    try:
        return escape(value)
    except escaping.EscapingError as error:
        raise ValueError(error.reason) from None


def one_line(value: Any) -> str:
    """Any text without control characters; a whole number counts as text."""
    if isinstance(value, (bool, float)):
        # YAML reads version 1.10 as the number 1.1.
        raise ValueError("is not text: write it in quotes")
    return _held_by(escaping.plain_text, value)


def text(words: str, pattern: str = r".*\S.*") -> Scalar:
    """A type: one line that matches the whole of the pattern."""

    def convert(value: Any) -> str:
        line = one_line(value)
        if not re.fullmatch(pattern, line):
            raise ValueError
        return line

    return Scalar(words, convert)


def whole_number(lowest: int, highest: int) -> Scalar:
    """A type: a whole number within these limits, or its digits."""

    def convert(value: Any) -> int:
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}", str(value)) or not lowest <= int(value) <= highest:
            raise ValueError
        return int(value)

    return Scalar(f"a whole number from {lowest} to {highest}", convert)


def one_of(*choices: str | bool) -> Scalar:
    """A type: one of these words. True and False stand for the booleans, in words as well."""
    words = {str(choice).lower() if isinstance(choice, bool) else choice: choice for choice in choices}

    def convert(value: Any) -> str | bool:
        word = str(value).lower() if isinstance(value, bool) or str(value).lower() in ("true", "false") else value
        if not isinstance(word, str) or word not in words:
            raise ValueError
        return words[word]

    return Scalar(f"one of {', '.join(words)}", convert)


def _kind(value: Any) -> str:
    if value in KINDS_OF_LATER_VERSIONS:
        raise ValueError(f"is not available in this version; available are {', '.join(KINDS)}")
    if value not in KINDS:
        raise ValueError
    return value


def _absolute_path(value: Any) -> str:
    path = one_line(value)
    if not path.startswith("/"):
        raise ValueError("is not an absolute path")
    if ".." in path.split("/"):
        raise ValueError("contains .., which a path here may not")
    unsafe = _UNSAFE_IN_PATH.search(path)
    if unsafe:
        raise ValueError(f"contains {unsafe.group()!r}, which a path here may not")
    return posixpath.normpath(path).replace("//", "/")


def _relative_path(value: Any) -> str:
    path = one_line(value)
    if path.startswith("/"):
        raise ValueError("is not a path relative to the release")
    return _absolute_path(f"/{path}")[1:]


def socket_path(value: Any) -> str:
    """The path of a unix socket."""
    path = _absolute_path(value)
    if ":" in path:
        raise ValueError("contains ':', which nginx takes for the end of a socket path")
    length = len(path.encode())
    if length > LONGEST_SOCKET_PATH:
        raise ValueError(f"is a path of {length} bytes; the kernel's limit for a unix socket is {LONGEST_SOCKET_PATH}")
    return path


def _log_file(value: Any) -> str:
    if value in LOG_WORDS:
        return value
    # supervisord expands log files twice, so that a % of any other kind cannot be written.
    _absolute_path(_EXPANSION.sub("", one_line(value)))
    return value


def is_log_path(log_file: str | None) -> bool:
    return bool(log_file) and log_file not in LOG_WORDS


def _account(value: Any) -> str:
    name = one_line(value)
    if name == "root" or re.fullmatch(r"0+", name):
        raise ValueError("is refused: FastCGI programs never run as root; leave the key out for a user of the app's own")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", name):
        raise ValueError
    return name


def _octal_mode(value: Any) -> str:
    if isinstance(value, int):
        raise ValueError('was read as a number by YAML: write the mode in quotes, such as "0660"')
    if not re.fullmatch(r"0?[0-7]{3}", one_line(value)):
        raise ValueError
    return value.zfill(4)


def _document_root(value: Any) -> str:
    path = one_line(value)
    return _absolute_path(path) if path.startswith("/") else _relative_path(path)


def _php_fpm_value(value: Any) -> str | bool:
    """Booleans stay so, in words too: php-fpm writes them without quotes."""
    word = _BOOLEANS.get(str(value).lower()) if isinstance(value, (bool, str)) else None
    if word is None:
        _held_by(escaping.php_fpm_value, value)
    return escaping.plain_text(value) if word is None else word


def _release_source(value: Any) -> str:
    source = one_line(value)
    if re.match(r"[a-z+]+://|git@", source):
        raise ValueError("is a URL, which is not available in this version; give a directory or a tarball on the controller")
    if not source.strip():
        raise ValueError
    return source


def _command(value: Any) -> list[str]:
    words = [one_line(word) for word in value] if isinstance(value, list) else _words(one_line(value))
    if not words or not words[0]:
        raise ValueError
    return words


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"is not a command: {error}") from None


def _scalar(words: str, escape: Callable[[Any], str]) -> Scalar:
    """A type: text, a number or a boolean, as text that escape() can write."""

    def convert(value: Any) -> str:
        _held_by(escape, value)
        return escaping.plain_text(value)

    return Scalar(words, convert)


def _environment_text(value: Any) -> str:
    """What the file can hold that has the variable depends on the app's kind: a rule looks at it (model_rules)."""
    if value is None or isinstance(value, (dict, list)):
        raise ValueError
    return str(value).lower() if isinstance(value, bool) else str(value)


def _regular_expression(value: Any) -> str:
    line = one_line(value)
    try:
        re.compile(line)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return line


FLAG = one_of(True, False)._replace(words="true or false")
ANY_TEXT = text("text of one line")
KIND = Scalar(f"one of {', '.join(KINDS)}", _kind)
SIGNAL = one_of(*SIGNALS)
ABSOLUTE_PATH = Scalar("an absolute path", _absolute_path)
RELATIVE_PATH = Scalar("a path inside the release", _relative_path)
RELEASE_SOURCE = Scalar("a directory or a tarball on the controller", _release_source)
COMMAND = Scalar("a command: words as for a shell, or a list of words", _command)
ENVIRONMENT_VALUE = Scalar("text of one line, a number or a boolean", _environment_text)
EXTRA_VALUE = _scalar("text of one line, a number or a boolean", escaping.ini_value)
LOG_FILE = Scalar(f"an absolute path, or one of {', '.join(LOG_WORDS)}", _log_file)
LOG_SIZE = text("a size, such as 50MB or 0", r"[0-9]+([kKmMgG][bB])?")
LOG_BACKUPS = whole_number(0, 10000)
MODE = Scalar('octal digits in quotes, such as "0660"', _octal_mode)
ACCOUNT = Scalar("the name of a user other than root", _account)
GROUP = text("the name of a group", r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
VARIABLE_NAME = text("a name of letters, digits and _", r"[A-Za-z_][A-Za-z0-9_]*")
SET_NAME = text("a name of lower-case letters, digits and _, beginning with a letter", r"[a-z][a-z0-9_]{0,30}")
APP_NAME = text("a name of at most 27 lower-case letters, digits, _ and -, beginning with a letter", r"[a-z][a-z0-9_-]{0,26}")
DOCUMENT_ROOT = Scalar("an absolute path, or one inside the release", _document_root)
PHP_VERSION = text('a version of PHP in quotes, such as "8.2"', r"[0-9]+\.[0-9]+")
PHP_EXTENSION = text("the name of an extension, as its package has it, such as gd", r"[a-z0-9][a-z0-9_+-]*")
PHP_FPM_DIRECTIVE = text("a directive of php-fpm, such as pm.max_children", r"[a-z_]+(\.[a-z_]+)*")
PHP_DIRECTIVE = text("a directive of php.ini, such as memory_limit", r"[A-Za-z_][A-Za-z0-9_.-]*")
PHP_FPM_VALUE = Scalar("text of one line, a number or a boolean", _php_fpm_value)
POOL_NAME = text("a name of lower-case letters, digits and _", r"[a-z][a-z0-9_]{0,26}")
LABEL = text("a name of letters, digits, _ and -", r"[A-Za-z0-9][A-Za-z0-9_-]*")
REGULAR_EXPRESSION = Scalar("a regular expression", _regular_expression)
