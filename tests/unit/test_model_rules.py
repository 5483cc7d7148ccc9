# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of one app: what cannot work is refused with the way out."""

from __future__ import annotations

import pytest
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES
from fcgi_apps import app, errors, listener, located, made, program


def cgi(command="/usr/sbin/fcgiwrap", **keys):
    return {**located(**keys), "runtime": "fcgiwrap", "command": command}


def test_the_default_socket_has_the_same_limit():
    (error,) = errors(app(), run_dir="/" + "x" * 100)
    assert "is a path of 111 bytes" in error


def test_a_missing_command_is_refused_only_where_something_is_run():
    assert errors({"name": "shop"}) == ["fcgi_apps[shop].command: missing; it is what is run"]
    assert made({"name": "shop", "state": "absent"})["programs"] == []
    assert made({"name": "shop", "kind": "listener", "state": "purged"})["programs"] == []


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("bin/shop", "is not an absolute path, and there is no release to look for it in"),
        ("", "is not a command"),
        ([], "a list is not a command"),
        ([""], "a list is not a command"),
        ("/bin/x 'oops", "No closing quotation"),
        ("/opt/../bin/sh", "contains .."),
        ({"path": "/x"}, "a dictionary is not a command"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused(command, error):
    (found,) = errors(app(command=command))
    assert found.startswith("fcgi_apps[shop].command: ")
    assert error in found


@pytest.mark.parametrize(
    ("wrong", "key", "error"),
    [
        (listener(listen=None), "listen", "missing; kind listener binds its own address, such as 127.0.0.1:9001"),
        (listener(socket="/run/x.sock"), "socket", "belongs to kind fcgi and php_fpm; this app is of kind listener"),
        (app(listen=9001), "listen", "belongs to kind listener; this app is of kind fcgi"),
        (listener(listen=65535, processes=2), "listen", "go beyond 65535"),
        (listener(listen="unix:///run/api.sock", processes=2), "listen", "which 2 processes cannot all bind"),
        (listener(listen="9001x"), "listen", "is neither an absolute path nor addr:port"),
        (listener(listen="127.0.0.1:99999"), "listen", "has no port from 1 to 65535"),
        (listener(listen=":9001"), "listen", "has no address before the port"),
        (listener(listen="0.0.0.0:9001"), "listen", "can be reached from other hosts"),
        (listener(listen="[::]:9001"), "listen", "can be reached from other hosts"),
        (app(socket="tcp://192.0.2.1:9000"), "socket", "FastCGI knows no authentication"),
        (app(socket="tcp://[::1]:9000"), "socket", "supervisord holds unix and IPv4 sockets only"),
        (app(socket="tcp://127.0.0.1:9000", socket_mode="0660"), "socket", "is not a unix socket: socket_mode has no meaning"),
        (app(socket="unix:run/x.sock"), "socket", "is not an absolute path"),
        (app(runtime="fastcgipp", processes=2), "processes", "cannot share a socket: use one process with threads, or kind listener"),
        (app(stopasgroup=True, killasgroup=False), "killasgroup", "impossible with stopasgroup: true"),
        (app(processes=2, stdout_logfile="/var/log/shop.log"), "stdout_logfile", "one file for 2 processes: put %(process_num)02d into it"),
        (app(stdout_logfile="/var/log/100%.log"), "stdout_logfile", "contains '%'"),
        (app(stderr_logfile="/var/log/x"), "stderr_logfile", "unless redirect_stderr is false"),
        (app(extra={"numprocs": 3}), "extra.numprocs", "is decided by processes; use that"),
        (app(extra={"stopsignal": "TERM"}), "extra.stopsignal", "is decided by stopsignal; use that"),
        (app(environment={"FCGI_DIGEST": "x"}), "environment.FCGI_DIGEST", "is ours"),
        (app(health={}), "health.path", "missing"),
        (app(health={"path": "/", "body": "("}), "health.body", "is not a regular expression"),
        (located(static=[{"path": "/a"}]), "locations[0].static[0]", "needs exactly one of root and alias"),
        (located(static=[{"path": "/a", "root": "/x"}, {"path": "/a/", "root": "/y"}]), "locations[0].static[0].path", "is taken twice"),
        (located(auth={"realm": "x"}), "locations[0].auth", "needs exactly one of users and user_file"),
        (located(params={"HTTP_PROXY": "x"}), "locations[0].params.HTTP_PROXY", "httpoxy"),
        (located(params={"SCRIPT_FILENAME": "/x"}), "locations[0].params.SCRIPT_FILENAME", "script_filename"),
        (located(params={"A": "costs $ 5"}), "locations[0].params.A", "contains a $ that begins no variable of nginx"),
        (located(params={"A": "//${http_host}/"}), "locations[0].params.A", "$host is what nginx checked"),
        (located(script_filename="/srv/$http_host/x"), "locations[0].script_filename", "$http_host is whatever a client writes"),
        (cgi(script_filename="/cgi$fastcgi_script_name"), "locations[0].script_filename", "lets a request choose the program"),
        (cgi(params={"DOCUMENT_ROOT": "/cgi"}), "locations[0].params.DOCUMENT_ROOT", "list with -p in command what fcgiwrap may run"),
        (located(server_name="~^x$"), "locations[0].server_name", "not a regular expression"),
        (located(listen="80 default_server"), "locations[0].listen", "is neither"),
        (located(read_timeout="1 hour"), "locations[0].read_timeout", "is not a time"),
        (located(tls={"certificate": "/x"}), "locations[0].tls.certificate_key", "missing"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_out(wrong, key, error):
    found = errors(wrong)
    assert found[0].startswith(f"fcgi_apps[{wrong['name']}].{key}")
    assert error in found[0]


def test_an_address_of_other_hosts_is_allowed_on_request():
    assert program(app(socket="tcp://192.0.2.1:9000", allow_remote=True))["metadata"]["socket"] == "tcp://192.0.2.1:9000"


def test_devices_may_be_the_log_of_many_processes():
    assert made(app(processes=2, stdout_logfile="/dev/stdout", stdout_logfile_maxbytes=0))


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        ({"runtime": "mapserver"}, "fcgi_apps[shop].environment: without MAPSERVER_CONFIG_FILE"),
        ({"runtime": "fcgiwrap", "locations": [{"path": "/"}]}, "fcgi_apps[shop].locations[0].script_filename: missing"),
        ({"runtime": "perl", "locations": [{"path": "/", "keepalive": True}]}, "fcgi_apps[shop].locations[0].keepalive: "),
        ({"socket_mode": "0666"}, "fcgi_apps[shop].socket_mode: 0666 lets every user of the host send requests"),
        ({"command": "/bin/a && /bin/b"}, "fcgi_apps[shop].command: no shell runs it"),
        ({"command": "/bin/a 2>&1"}, "fcgi_apps[shop].command: no shell runs it"),
        ({"command": "/bin/sh -c 'sleep 1; /bin/app'"}, "fcgi_apps[shop].command: sh stays"),
        ({"command": "/bin/bash -ec 'sleep 1; /bin/app' -c 'exec x'"}, "fcgi_apps[shop].command: bash stays"),
        ({"command": "/bin/bash -c 'sleep 1; exec /bin/app'", "stopsignal": "QUIT"}, "fcgi_apps[shop].command: bash ignores QUIT"),
        ({"runtime": "libfcgi", "stopsignal": "QUIT"}, "fcgi_apps[shop].stopsignal: QUIT ends runtime libfcgi in the midst of a request; TERM, USR1 let it"),
        ({"autorestart": False}, "fcgi_apps[shop].autorestart: false leaves healthy workers"),
        ({"autorestart": "unexpected"}, "fcgi_apps[shop].autorestart: unexpected leaves"),
        ({"processes": 50, "socket_backlog": 199}, "fcgi_apps[shop].socket_backlog: 199 is little for 50 processes"),
        ({"runtime": "perl", "socket": "tcp://192.0.2.1:9000", "allow_remote": True}, "fcgi_apps[shop].environment: without FCGI_WEB_SERVER_ADDRS"),
        ({"locations": [{"path": "/", "script_filename": "$document_root/x"}]}, "fcgi_apps[shop].locations[0].script_filename: $document_root names a link"),
        ({"locations": [{"path": "/", "params": {"A": "${uri}x"}}]}, "fcgi_apps[shop].locations[0].params.A: $uri is decoded"),
    ],
)
def test_what_rarely_is_meant_is_a_warning(keys, warning):
    assert made(app(**keys))["warnings"][0].startswith(warning)


@pytest.mark.parametrize("runtime", sorted(set(RUNTIMES) - {"mapserver"}))
def test_an_ordinary_app_has_no_warning(runtime):
    assert made(app(runtime=runtime, command="/bin/a -x 'b && c'"))["warnings"] == []


@pytest.mark.parametrize(
    "keys",
    [
        {"command": "/bin/sh -c 'sleep 1 && exec /bin/app'", "stopsignal": "QUIT"},
        {"command": "/bin/bash -c 'exec /bin/app'", "stopsignal": "QUIT"},
        {"command": "/bin/bash /srv/start"},
        {"runtime": "libfcgi", "stopsignal": "USR1"},
        {"runtime": "go", "stopsignal": "INT"},
        {"processes": 50, "socket_backlog": 200},
        {"runtime": "perl", "socket": "tcp://192.0.2.1:9000", "allow_remote": True, "environment": {"FCGI_WEB_SERVER_ADDRS": "192.0.2.7"}},
        {"locations": [{"path": "/", "params": {"A": "$request_uri $host $http_host_of $uri_of"}, "script_filename": "$realpath_root$fastcgi_script_name"}]},
        cgi("/usr/sbin/fcgiwrap -p /cgi/a -p /cgi/b", script_filename="/cgi$fastcgi_script_name"),
        cgi(script_filename="/cgi/a"),
    ],
)
def test_what_is_meant_is_no_warning(keys):
    assert made(app(**{key: value for key, value in keys.items() if key != "name"}))["warnings"] == []
