# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of one app: what its keys must be to each other. Each rule reports at the place what breaks it.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import escaping
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model_php_rules as php_rules
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_endpoint import Endpoint, address_key, endpoints
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import APP, LOCATION, MANAGED, App, Location
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_locations import Head, as_directory, claims
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_nginx_values import URI_PATH
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import Place
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_values import is_log_path

# Variables of nginx that are rarely what an app wants to be told.
_DOUBTFUL = {
    **dict.fromkeys(
        ("uri", "document_uri"), "is decoded, and no longer what the client sent: $request_uri is; the script's part of it is $fastcgi_script_name"
    ),
    "request_filename": "is made of the decoded path: $realpath_root$fastcgi_script_name leaves out what follows the script",
    "document_root": "names a link, such as current, and not the release that it leads to: $realpath_root does",
}


def check(app: App, given: dict[str, Any], place: Place) -> None:
    """Every rule that concerns one app alone. app: with all defaults. given: as the operator wrote it."""
    _check_kind(app, given, place)
    for rule in (_check_command, _check_address, _check_processes, _check_logs, _check_names, _check_environment):
        rule(app, place)
    if app["kind"] == "php_fpm":
        php_rules.check(app, place)
    for index, location in enumerate(app["locations"]):
        _check_location(app, location, place.key("locations").item(index))
        if app["runtime"] == "fcgiwrap":
            _check_cgi(app, location, place.key("locations").item(index))


def _check_kind(app: App, given: dict[str, Any], place: Place) -> None:
    locations = given.get("locations") or []
    given_locations = locations if isinstance(locations, list) else [locations]
    given_tables = [(APP, given, place), *((LOCATION, one, place.key("locations").item(index)) for index, one in enumerate(given_locations))]
    for table, values, where in given_tables:
        for key in table.keys:
            if key.kinds and app["kind"] not in key.kinds and values.get(key.name) is not None:
                where.key(key.name).error(f"belongs to kind {' and '.join(key.kinds)}; this app is of kind {app['kind']}")
    if app["kind"] == "listener" and app["listen"] is None and app["state"] == "present":
        place.key("listen").error("missing; kind listener binds its own address, such as 127.0.0.1:9001")


def _check_command(app: App, place: Place) -> None:
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


def _check_address(app: App, place: Place) -> None:
    key = address_key(app)
    if app[key] is None:
        return
    place = place.key(key)
    address = place.show(app[key])
    first = Endpoint.parse(app[key])
    if app["kind"] == "listener":
        if first.path and app["processes"] > 1:
            place.error(f"{address} is one path, which {app['processes']} processes cannot all bind: give a port, or use kind fcgi")
        if first.port + app["processes"] - 1 > 65535:
            place.error(f"{address} and the next {app['processes'] - 1} ports go beyond 65535")
    if first.is_remote() and not app["allow_remote"]:
        place.error(
            f"{address} can be reached from other hosts, and FastCGI knows no authentication: use 127.0.0.1, or say allow_remote: true if a firewall guards it"
        )
    for option in ("socket_owner", "socket_mode"):
        if not first.path and app[option] is not None:
            place.error(f"{address} is not a unix socket: {option} has no meaning")


def _check_processes(app: App, place: Place) -> None:
    if app["stopasgroup"] and not app["killasgroup"]:
        place.key("killasgroup").error("false is impossible with stopasgroup: true; leave it out")
    if app["kind"] == "fcgi" and app["processes"] > 1 and not RUNTIMES[app["runtime"]].shares_socket:
        place.key("processes").error(
            f"{app['processes']} processes of runtime {app['runtime']} cannot share a socket: use one process with threads, or kind listener"
        )


def _check_logs(app: App, place: Place) -> None:
    for key in ("stderr_logfile", "stderr_logfile_maxbytes", "stderr_logfile_backups"):
        if app["redirect_stderr"] and app[key] is not None:
            place.key(key).error("has no effect: stderr goes to the log of stdout unless redirect_stderr is false")
    for key in ("stdout_logfile", "stderr_logfile"):
        path = app[key]
        # A device, such as /dev/stdout in a container, may be shared.
        if app["processes"] > 1 and is_log_path(path) and not path.startswith("/dev/") and "%(process_num)" not in path:
            place.key(key).error(f"{place.show(path)} would be one file for {app['processes']} processes: put %(process_num)02d into it")


def _check_names(app: App, place: Place) -> None:
    for key in app["extra"]:
        if key in MANAGED:
            place.key("extra").key(key).error(f"is decided by {MANAGED[key]}; use that")
    if "FCGI_DIGEST" in app["environment"]:
        place.key("environment").key("FCGI_DIGEST").error("is ours: it tells the supervisor of changes that it does not see")


def _check_environment(app: App, place: Place) -> None:
    """What the file that has the variables can hold: the supervisor's, or php-fpm's."""
    escape = escaping.php_fpm_environment_value if app["kind"] == "php_fpm" else escaping.environment_value
    tables = [(app["environment"], place), *((pool["environment"], place.key("pools").item(index)) for index, pool in enumerate(app["pools"]))]
    for variables, where in tables:
        for name, value in variables.items():
            try:
                escape(value)
            except escaping.EscapingError as error:
                where.key("environment").key(name).error(f"the value (not shown) {error.reason}")


def _check_location(app: App, location: Location, place: Place) -> None:
    if location["match"] != "regex":
        URI_PATH.parse(location["path"], place.key("path"))
    claimed = claims(location)
    for index, static in enumerate(location["static"]):
        static_place = place.key("static").item(index)
        if claimed.count(Head("", as_directory(static["path"]))) > 1:
            static_place.key("path").error(f"{place.show(static['path'])} is taken twice in this location")
        _check_one_of(static, ("root", "alias"), static_place)
    if location["auth"] is not None:
        _check_one_of(location["auth"], ("users", "user_file"), place.key("auth"))
    if "HTTP_PROXY" in location["params"]:
        place.key("params").key("HTTP_PROXY").error("is always empty: a client could set it with its Proxy header (httpoxy, CVE-2016-5385)")
    if "SCRIPT_FILENAME" in location["params"] and app["kind"] != "php_fpm":
        place.key("params").key("SCRIPT_FILENAME").error("has a key of its own: script_filename")

    for key, value in _passed_on(location).items():
        if "http_host" in _variables(value):
            place.key(key).error(f"{place.show(value)}: $http_host is whatever a client writes; $host is what nginx checked, and HTTP_HOST has the port too")


def _check_cgi(app: App, location: Location, place: Place) -> None:
    """fcgiwrap runs whatever SCRIPT_FILENAME, or DOCUMENT_ROOT with SCRIPT_NAME, says."""
    open_key = "script_filename" if "$" in (location["script_filename"] or "") else "params.DOCUMENT_ROOT"
    is_open = open_key == "script_filename" or (not location["script_filename"] and "DOCUMENT_ROOT" in location["params"])
    if is_open and not any(word.startswith("-p") for word in app["command"] or ()):
        place.key(open_key).error("lets a request choose the program: give one path as script_filename, or list with -p in command what fcgiwrap may run")


def _passed_on(location: Location) -> dict[str, str]:
    """The values that the app is told as the operator wrote them, by key."""
    script = {"script_filename": location["script_filename"]} if location["script_filename"] else {}
    return {**script, **{f"params.{name}": value for name, value in location["params"].items()}}


def _variables(value: str) -> set[str]:
    """The variables of nginx in a value, without $ and braces."""
    return set(re.findall(r"\$\{?(\w+)", value))


def _check_one_of(table: dict[str, Any], keys: tuple[str, str], place: Place) -> None:
    if sum(bool(table[key]) for key in keys) != 1:
        place.error(f"needs exactly one of {' and '.join(keys)}")


def warnings(app: App) -> Iterator[tuple[str, str]]:
    """What works, but rarely as meant: (key, text). Few."""
    yield from _warnings_of_program(app)
    yield from php_rules.warnings(app)
    for index, location in enumerate(app["locations"]):
        for key, text in _warnings_of_location(app, location):
            yield f"locations[{index}].{key}", text


def _warnings_of_program(app: App) -> Iterator[tuple[str, str]]:
    runtime = RUNTIMES[app["runtime"]]
    shell_words = [word for word in app["command"][1:] if app["kind"] != "php_fpm" and re.fullmatch(r"&&?|\|\|?|;|[0-9]?(>>?|<)(&[0-9])?", word)]
    if shell_words:
        yield "command", f"no shell runs it: {shell_words[0]} is passed on as a word"
    yield from _warnings_of_shell(app)
    if app["socket_mode"] and int(app["socket_mode"], 8) & 0o002:
        yield "socket_mode", f"{app['socket_mode']} lets every user of the host send requests"
    if app["runtime"] == "mapserver" and "MAPSERVER_CONFIG_FILE" not in app["environment"]:
        yield "environment", "without MAPSERVER_CONFIG_FILE, MapServer 8 answers one error and exits"
    if runtime.libfcgi and any(endpoint.is_remote() for endpoint in endpoints(app)) and "FCGI_WEB_SERVER_ADDRS" not in app["environment"]:
        yield "environment", "without FCGI_WEB_SERVER_ADDRS, the addresses of its web servers, the app takes requests of every host that reaches it"
    if runtime.graceful and app["stopsignal"] not in runtime.graceful:
        yield "stopsignal", f"{app['stopsignal']} ends runtime {app['runtime']} in the midst of a request; {', '.join(runtime.graceful)} let it finish"
    if app["autorestart"] is not True:
        yield "autorestart", f"{str(app['autorestart']).lower()} leaves healthy workers, which exit 0, stopped; with the last one the socket closes"
    if app["socket_backlog"] and app["socket_backlog"] < 4 * (app["processes"] or 1):
        yield "socket_backlog", f"{app['socket_backlog']} is little for {app['processes']} processes: where it is full, nginx answers 502 at once"


def _warnings_of_shell(app: App) -> Iterator[tuple[str, str]]:
    """A shell stays between the supervisor and the program unless it is told to make way."""
    shell, words = posixpath.basename(app["command"][0]), app["command"][1:]
    script = next((script for option, script in zip(words, words[1:]) if re.fullmatch(r"-[a-z]*c", option)), None)
    if shell not in ("sh", "bash", "dash", "ash", "ksh", "zsh") or script is None:
        return
    if not re.search(r"(^|[\s;&|(])exec\s", script):
        yield "command", f"{shell} stays, and the signals of the supervisor reach it alone: write exec before the program"
    elif shell == "bash" and app["stopsignal"] == "QUIT" and not re.match(r"\s*exec\s", script):
        yield "command", "bash ignores QUIT until exec replaces it: use sh"


def _warnings_of_location(app: App, location: Location) -> Iterator[tuple[str, str]]:
    if location["keepalive"] and RUNTIMES[app["runtime"]].libfcgi:
        yield "keepalive", f"a process of runtime {app['runtime']} serves one connection at a time: kept ones starve the others"
    if app["runtime"] == "fcgiwrap" and not location["script_filename"]:
        yield "script_filename", "missing: fcgiwrap does not know which program to run"
    for key, value in _passed_on(location).items():
        for variable in sorted(_variables(value) & _DOUBTFUL.keys()):
            yield key, f"${variable} {_DOUBTFUL[variable]}"
