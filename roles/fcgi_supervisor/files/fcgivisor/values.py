# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values of the configuration: from text to what it means. Each function raises ValueError with what is wrong and what would be right.

The rules are those of supervisor/datatypes.py; values of keys that supervisord does not know have their own.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import resource
import shlex
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# *_logfile=AUTO: a file that the supervisor names and removes.
AUTO = "AUTO"
SYSLOG = "syslog"

RESTART_ALWAYS, RESTART_UNEXPECTED, RESTART_NEVER = "always", "unexpected", "never"

_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0")
_UNITS = {"kb": 1024, "mb": 1024**2, "gb": 1024**3}
# supervisor/loggers.py
LOG_LEVELS = {"critical": 50, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 5, "blather": 3}
_SIGNALS = {number.value for number in signal.Signals}
_LONGEST_UNIX_PATH = 107  # bytes; sun_path of unix(7), less its final NUL


def name(text: str) -> str:
    """A program's, group's or process's name."""
    for character in " :/":
        if character in text.strip():
            raise ValueError(f"{text!r} contains {character!r}; names have no space, colon or slash")
    return text.strip()


def integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def count(text: str) -> int:
    number = integer(text)
    if number < 0:
        raise ValueError(f"{text!r} is negative")
    return number


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise ValueError(f"{text!r} is not a number of seconds, such as 5 or 0.5")
    return number


def boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def byte_size(text: str) -> int:
    unit = _UNITS.get(text[-2:].lower())
    digits = text[:-2] if unit else text
    try:
        number = int(digits)
    except ValueError:
        number = -1
    if number < 0:
        raise ValueError(f"{text!r} is not a size in bytes, such as 512, 64KB, 50MB or 1GB")
    return number * (unit or 1)


def octal(text: str) -> int:
    try:
        number = int(text, 8)
    except ValueError:
        number = -1
    if not 0 <= number <= 0o7777:
        raise ValueError(f"{text!r} is not an octal mode, such as 022 or 0660")
    return number


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")] if text else []


def exit_codes(text: str) -> list[int]:
    try:
        codes = [int(code) for code in text.split(",")] if text else []
    except ValueError:
        codes = [-1]
    if any(not 0 <= code <= 255 for code in codes):
        raise ValueError(f"{text!r} is not a list of exit codes from 0 to 255, such as 0,2")
    return codes


def autorestart(text: str) -> str:
    if text.lower() == RESTART_UNEXPECTED:
        return RESTART_UNEXPECTED
    try:
        return RESTART_ALWAYS if boolean(text) else RESTART_NEVER
    except ValueError:
        raise ValueError(f"{text!r} is none of true, false, unexpected") from None


def signal_number(text: str) -> int:
    """Of TERM, SIGTERM or 15."""
    word = text.strip().upper()
    # Not SIG_UNBLOCK and its like, which are numbers too.
    number = int(word) if word.isascii() and word.isdigit() else getattr(signal.Signals, word if word.startswith("SIG") else f"SIG{word}", 0)
    if number not in _SIGNALS:
        raise ValueError(f"{text!r} is not a signal, such as TERM or 15")
    return int(number)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def stop_sequence(text: str) -> tuple[tuple[int, float], ...]:
    """Of "TERM:10 QUIT:5 KILL": signals, each with the seconds until the next. Seconds may be left out behind the last one only."""
    steps = []
    for word in text.split():
        named, colon, wait = word.partition(":")
        steps.append((signal_number(named), seconds(wait) if colon else -1.0))
    if not steps or any(wait < 0 for _number, wait in steps[:-1]):
        raise ValueError(f"{text!r} is not a list of SIGNAL:SECONDS, such as TERM:10 QUIT:5 KILL")
    return tuple((number, wait if wait >= 0 else 10.0) for number, wait in steps)


def environment(text: str) -> dict[str, str]:
    """Of KEY="value",KEY2='value' (supervisor/datatypes.py, dict_of_key_value_pairs)."""
    lexer = shlex.shlex(text)
    lexer.wordchars += "/.+-():"
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise ValueError(f"has a quote that is not closed ({error})") from None
    pairs = {}
    for index in range(0, len(tokens), 4):
        part = tokens[index : index + 4]
        if len(part) < 3 or part[1] != "=" or (len(part) == 4 and part[3] != ","):
            raise ValueError('is not a list of KEY="value", separated by commas')
        pairs[part[0]] = part[2].strip("'\"")
    return pairs


def expand(text: str, expansions: Mapping[str, object]) -> str:
    """Python's % formatting of supervisord: %(program_name)s, %(process_num)02d, %(ENV_HOME)s, %%."""
    if "%" not in text:
        return text
    try:
        return text % expansions
    except KeyError as error:
        known = ", ".join(sorted(word for word in expansions if not word.startswith("ENV_")))
        raise ValueError(f"%({error.args[0]})s cannot be expanded; there are {known} and ENV_ with each environment variable") from None
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"is badly formatted ({error}); write %% for a percent sign") from None


def uid(text: str) -> int:
    """Of a user's name or number; the user must exist, so that its groups can be looked up."""
    try:
        if text.isascii() and text.isdigit():
            return pwd.getpwuid(int(text)).pw_uid
        return pwd.getpwnam(text).pw_uid
    except (KeyError, OverflowError, ValueError):
        raise ValueError(f"there is no user {text!r} on this host") from None


def gid(text: str) -> int:
    try:
        if text.isascii() and text.isdigit():
            return grp.getgrgid(int(text)).gr_gid
        return grp.getgrnam(text).gr_gid
    except (KeyError, OverflowError, ValueError):
        raise ValueError(f"there is no group {text!r} on this host") from None


def owner(text: str) -> tuple[int, int]:
    """Of user:group or user; the group is -1 where there is none."""
    user, colon, group = text.partition(":")
    return uid(user), gid(group) if colon else -1


def existing_directory(text: str) -> str:
    path = os.path.expanduser(text)
    if not os.path.isdir(path):
        raise ValueError(f"{text} is not a directory")
    return path


def path_in_directory(text: str) -> str:
    """A file's path, whose directory exists."""
    path = os.path.expanduser(text)
    directory = os.path.dirname(path)
    if directory and not os.path.isdir(directory):
        raise ValueError(f"the directory of {text} does not exist")
    return path


def log_file(text: str) -> str | None:
    """A path, AUTO, syslog, or None for none and off."""
    word = text.lower()
    if word in ("none", "off"):
        return None
    if word == "auto":
        return AUTO
    return SYSLOG if word == SYSLOG else path_in_directory(text)


def log_level(text: str) -> int:
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"{text!r} is none of {', '.join(LOG_LEVELS)}")
    return LOG_LEVELS[text.lower()]


def host_and_port(text: str) -> tuple[str, int]:
    """Of host:port, *:port or port; the host is empty for all addresses. An IPv6 address stands in brackets."""
    host, _colon, digits = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    number = int(digits) if digits.isascii() and digits.isdigit() else 0
    if not 1 <= number <= 65535:
        raise ValueError(f"{text!r} is not host:port, with a port from 1 to 65535")
    return "" if host == "*" else host.lower(), number


def socket_url(text: str) -> str:
    """unix:///path or tcp://host:port, in one normal form."""
    if text.startswith("unix://"):
        path = text[len("unix://") :]
        if not os.path.isabs(path):
            raise ValueError(f"{text}: the path of a unix socket is absolute, as in unix:///run/fastcgi/app.sock")
        path = os.path.normpath(path)
        if len(os.fsencode(path)) > _LONGEST_UNIX_PATH:
            raise ValueError(f"{path} has {len(os.fsencode(path))} bytes; the kernel takes {_LONGEST_UNIX_PATH} at most")
        return f"unix://{path}"
    match = re.fullmatch(r"tcp://(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]]+):([0-9]+)", text)
    if not match or not 1 <= int(match.group(2)) <= 65535:
        raise ValueError(f"{text!r} is neither unix:///path nor tcp://host:port")
    return f"tcp://{match.group(1).lower()}:{int(match.group(2))}"


def backlog(text: str) -> int:
    number = integer(text)
    if not 1 <= number <= 65535:
        raise ValueError(f"{text!r} is not from 1 to 65535")
    return number


def limit(text: str) -> tuple[int, int]:
    """A resource limit: N, soft:hard, or unlimited for either (getrlimit(2))."""
    parts = text.split(":")
    numbers = []
    for part in parts:
        if part.strip().lower() in ("unlimited", "infinity"):
            numbers.append(resource.RLIM_INFINITY)
        else:
            numbers.append(byte_size(part.strip()))
    soft, hard = (numbers * 2)[:2]
    if len(parts) > 2 or (hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard)):
        raise ValueError(f"{text!r} is not N or soft:hard, with soft not above hard")
    return soft, hard


def one_of(*choices: str):
    """A converter that takes one of these words."""

    def convert(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text.lower()

    return convert
