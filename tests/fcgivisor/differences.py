# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deliberate differences between fcgivisord and supervisord: the rows of docs/fcgivisord-differences.md, by the word in their first column.

An excuse is a function of (method, parameters, supervisord's answer, ours); it says whether these answers differ by this difference and by nothing else.
Rows without one are not seen in answers to the same calls; each is held by a test of its own.
"""

from __future__ import annotations


def _is(method):
    return lambda called, _params, _theirs, _ours: called == method


def _both_fail(code):
    """The same fault on both sides; only its text is another."""
    return lambda _method, _params, theirs, ours: theirs[:2] == ours[:2] == ("fault", code)


def _any_of(*excuses):
    return lambda *answers: any(excuse(*answers) for excuse in excuses)


def _more_methods(method, _params, theirs, ours):
    return method == "system.listMethods" and [name for name in ours[1] if not name.startswith("fcgivisor.")] == theirs[1]


def _one_more_field(method, _params, theirs, ours):
    return method == "supervisor.getAllConfigInfo" and _without(ours, "autorestart") == theirs


def _own_version(method, _params, theirs, ours):
    return method == "supervisor.getSupervisorVersion" and ours[1].startswith(f"{theirs[1]}+fcgivisord.")


def _error_text(command, _params, theirs, ours):
    """supervisorctl prints the text of the fault."""
    return command in ("reread", "update") and theirs[1][0] == ours[1][0] and "CANT_REREAD: " in str(theirs) and "CANT_REREAD: " in str(ours)


def _fault_instead_of_500(_method, _params, theirs, ours):
    return theirs == ("http", 500) and ours[0] == "fault"


def _spawn_error_text(_method, _params, theirs, ours):
    """Of a process that was not spawned, its description and spawnerr; and no time at which it would have stopped."""
    reasons = ("spawnerr", "description", "stop")
    return isinstance(theirs[1], dict) and bool(ours[1]["spawnerr"]) and _without(theirs, *reasons) == _without(ours, *reasons)


def _replacement_characters(_method, _params, theirs, ours):
    """XML cannot hold control characters: supervisord's answer cannot be read, or is an error where the log is not UTF-8."""
    return theirs[0] in ("unreadable", "http") and ours[0] == "answer" and "\ufffd" in str(ours)


def _failed_multicall(_method, _params, theirs, ours):
    """Of the calls in a multicall, some that end with "FAILED: <class ...>" in supervisord, and with a fault that has a name in ours."""
    pairs = list(zip(theirs[1], ours[1]))
    return len(theirs[1]) == len(ours[1]) and all(
        one == other
        or (isinstance(one, dict) and str(one.get("faultString")).startswith("FAILED: <class") and isinstance(other, dict) and "faultCode" in other)
        for one, other in pairs
    )


def _refused(_what, _params, theirs, ours):
    """Credentials that are none: an internal error in supervisord."""
    return (theirs[1], ours[1]) == (500, 401) or (theirs[1][0], ours[1][0]) == (500, 401)


def _removed_socket(what, _params, theirs, ours):
    return what == "socket file after removal" and (theirs[1], ours[1]) == (True, False)


def _whole_capture(what, _params, theirs, ours):
    """Text behind the last token, when it is shorter than a token: supervisord loses it."""
    return what == "short.log" and ours[1] == theirs[1] + "after"


def _without(value, *names):
    if isinstance(value, dict):
        return {key: _without(item, *names) for key, item in value.items() if key not in names}
    return type(value)(_without(item, *names) for item in value) if isinstance(value, (list, tuple)) else value


EXCUSES = {
    "version": _own_version,
    "methods": _more_methods,
    "method-help": _is("system.methodHelp"),
    "config-info": _one_more_field,
    "config-errors": _any_of(_both_fail(92), _error_text),
    "spawn-errors": _spawn_error_text,
    "wrong-types": _fault_instead_of_500,
    "multicall-errors": _failed_multicall,
    "malformed-credentials": _refused,
    "control-characters": _replacement_characters,
    "capture-rest": _whole_capture,
    "fcgi-socket-file": _removed_socket,
}
# Not seen in answers to the same calls.
UNSEEN = (
    "fcgi-socket-life", "startsecs", "restart-time", "leftovers", "home-and-user", "environment-expansion", "umask", "open-inet-server", "reload-errors",
    "web-interface", "python-plugins", "log-texts",
)  # fmt: skip
