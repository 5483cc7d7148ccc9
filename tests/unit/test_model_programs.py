# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles get for the host and its supervisor."""

from __future__ import annotations

import re
import shlex

import pytest
from ansible_collections.webops.fastcgi.plugins.plugin_utils import escaping
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES
from fcgi_apps import app, listener, made, program


def test_an_app_of_two_keys_has_a_default_for_everything_else():
    found = program(app())
    assert found["section"] == "fcgi-program:shop"
    assert found["options"] == [
        ["command", "/opt/shop/run"],
        ["process_name", "%(program_name)s_%(process_num)02d"],
        ["numprocs", "1"],
        ["socket", "unix:///run/fastcgi/shop.sock"],
        ["socket_owner", "fcgi-shop:www-data"],
        ["socket_mode", "0660"],
        ["user", "fcgi-shop"],
        ["directory", "/"],
        ["priority", "999"],
        ["autostart", "true"],
        ["autorestart", "true"],
        ["startsecs", "1"],
        ["startretries", "3"],
        ["exitcodes", "0"],
        ["stopsignal", "TERM"],
        ["stopwaitsecs", "10"],
        ["stopasgroup", "false"],
        ["killasgroup", "false"],
        ["redirect_stderr", "true"],
        ["stdout_logfile", "/var/log/fcgi/shop_%(process_num)02d.log"],
        ["stdout_logfile_maxbytes", "50MB"],
        ["stdout_logfile_backups", "10"],
    ]
    assert found["metadata"] == {
        "name": "shop",
        "app": "shop",
        "kind": "fcgi",
        "groups": [],
        "socket": "unix:///run/fastcgi/shop.sock",
        "listen": [],
        "user": "fcgi-shop",
        "autostart": True,
        "startsecs": 1,
        "stopwaitsecs": 10,
        "reload_signal": None,
        "reload_digest": None,
    }


def test_a_listener_has_a_port_for_each_process():
    found = program(listener(listen="127.0.0.1:9001", processes=3, command="/srv/api --port %(process_num)d"))
    options = dict(map(tuple, found["options"]))
    assert found["section"] == "program:api"
    assert (options["numprocs"], options["numprocs_start"], options["process_name"]) == ("3", "9001", "%(program_name)s_%(process_num)d")
    assert "socket" not in options
    assert found["environment_expanded"] == {"PORT": "%(process_num)d"}
    assert found["metadata"]["socket"] is None
    assert found["metadata"]["listen"] == ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"]


def test_a_command_may_be_a_list_in_which_the_process_number_is_known():
    command = ["/srv/api", "--port=%(process_num)d", "100%", " two words "]
    options = dict(map(tuple, program(listener(command=command))["options"]))
    # As supervisord does: it expands, then splits into words.
    assert shlex.split(escaping.ini_value(options["command"]) % {"process_num": 9001}) == ["/srv/api", "--port=9001", "100%", " two words "]


def test_a_listener_of_a_unix_socket_has_no_port():
    found = program(listener(listen="/run/api/api.sock"))
    assert found["environment_expanded"] == {}
    assert found["metadata"]["listen"] == ["unix:/run/api/api.sock"]
    assert "numprocs_start" not in dict(map(tuple, found["options"]))


def test_a_port_that_the_operator_names_wins():
    found = program(listener(environment={"PORT": "x"}))
    assert (found["environment"]["PORT"], found["environment_expanded"]) == ("x", {})


def test_a_tcp_socket_has_no_owner_and_no_mode_which_supervisord_refuses():
    assert {"socket_owner", "socket_mode"}.isdisjoint(dict(map(tuple, program(app(socket="127.0.0.1:9000"))["options"])))


@pytest.mark.parametrize("socket", ["/run/x.sock", "unix:///run/x.sock", "unix:/run/x.sock", "/run//./x.sock"])
def test_a_unix_socket_may_be_written_in_every_usual_way(socket):
    assert program(app(socket=socket))["metadata"]["socket"] == "unix:///run/x.sock"


def test_a_release_is_where_the_command_and_the_directory_are():
    found = made(app(command="bin/shop -v", release={"src": "dist/shop.tar.gz", "version": "1.4.2"}))
    options = dict(map(tuple, found["programs"][0]["options"]))
    assert (options["command"], options["directory"]) == ("/srv/fcgi/shop/current/bin/shop -v", "/srv/fcgi/shop/current")
    assert found["releases"] == [
        {
            "app": "shop",
            "src": "dist/shop.tar.gz",
            "version": "1.4.2",
            "python_requirements": "",
            "keep": 5,
            "path": "/srv/fcgi/shop",
            "user": "fcgi-shop",
            "group": "fcgi-shop",
            "executable": "bin/shop",
        }
    ]
    assert found["commands"] == [{"app": "shop", "command": "/srv/fcgi/shop/current/bin/shop", "user": "fcgi-shop", "pending": True}]


def test_a_program_outside_the_release_is_no_executable_of_it():
    found = made(app(command="/usr/bin/python3 hello.py", release={"src": "x", "version": "1", "python_requirements": "requirements.txt"}))
    assert found["releases"][0]["executable"] == ""
    assert found["commands"][0]["pending"] is False
    assert found["needs_venv"] is True


def digest(supervisor="supervisord", **keys):
    return made(app(**keys), supervisor=supervisor)["programs"][0]["environment"]["FCGI_DIGEST"]


def test_the_digest_changes_with_what_supervisord_does_not_compare_and_with_nothing_else():
    releases = [{"release": {"src": "x", "version": version}} for version in ("1", "2")]
    unseen = [{"socket_mode": "0600"}, {"socket_owner": "a:b"}, {"socket_backlog": 5}, *releases]
    assert len({digest(), *(digest(**keys) for keys in unseen)}) == len(unseen) + 1
    assert digest() == digest(processes=2, environment={"A": "b"})


def test_for_fcgivisord_which_compares_the_sockets_options_the_digest_changes_with_the_release_alone():
    versions = [digest("fcgivisord", release={"src": "x", "version": version}) for version in ("1", "2")]
    assert len({digest("fcgivisord"), *versions}) == 3
    assert digest("fcgivisord") == digest("fcgivisord", socket_mode="0600", socket_owner="a:b", socket_backlog=5)


def test_the_environment_is_the_operators_over_the_presets():
    found = program(app(runtime="qgis", environment={"HOME": "/tmp", "N": 1, "F": 1.5, "B": True}))["environment"]
    assert found.pop("FCGI_DIGEST")
    assert found == {"QT_QPA_PLATFORM": "offscreen", "HOME": "/tmp", "USER": "fcgi-shop", "LOGNAME": "fcgi-shop", "N": "1", "F": "1.5", "B": "true"}


def test_users_are_made_once_and_have_no_login():
    found = made(app("a", user="web"), app("b", user="web"), app("c", create_home=True))["users"]
    assert found == [
        {"app": "a", "name": "web", "group": "web", "home": "/nonexistent", "create_home": False, "shell": "/usr/sbin/nologin"},
        {"app": "c", "name": "fcgi-c", "group": "fcgi-c", "home": "/srv/fcgi/c/home", "create_home": True, "shell": "/usr/sbin/nologin"},
    ]


def test_stderr_gets_its_own_log_when_it_is_not_redirected():
    options = dict(map(tuple, program(app(redirect_stderr=False))["options"]))
    assert options["stderr_logfile"] == "/var/log/fcgi/shop_%(process_num)02d.err.log"


def test_further_keys_of_supervisord_are_passed_on():
    assert program(app(extra={"stdout_events_enabled": True}))["options"][-1] == ["stdout_events_enabled", "true"]


def test_a_purged_app_loses_what_was_made_for_it_alone():
    found = made(app("a", user="www-data"), {"name": "old", "state": "purged"}, {"name": "web", "state": "purged", "user": "www-data"})
    assert [item["name"] for item in found["programs"]] == ["a"]
    old, web = found["purged"]
    made_by_us = [f"/srv/fcgi/old/{part}" for part in ("releases", "current", ".lock", "home")]
    assert (old["name"], old["user"], old["group"], old["paths"], old["directory"]) == ("old", "fcgi-old", "fcgi-old", made_by_us, "/srv/fcgi/old")
    assert (web["name"], web["user"], web["group"]) == ("web", "", "")


def test_a_group_that_others_may_have_too_is_never_purged():
    (purged,) = made({"name": "web", "state": "purged", "group": "deploy"})["purged"]
    assert (purged["user"], purged["group"]) == ("fcgi-web", "")


def test_a_home_elsewhere_is_never_purged():
    (purged,) = made({"name": "web", "state": "purged", "create_home": True, "home": "/srv/www"})["purged"]
    assert "/srv/www" not in purged["paths"] + [purged["directory"]]


def test_the_logs_of_a_purged_app_are_not_those_of_one_whose_name_begins_alike():
    (purged,) = made({"name": "web", "state": "purged"})["purged"]
    for name in ("web_00.log", "web_00.log.1", "web_9001.err.log"):
        assert re.fullmatch(purged["logs"], name)
    for name in ("web_api_00.log", "web.log", "web_00.log.gz"):
        assert not re.fullmatch(purged["logs"], name)


def test_groups_are_the_apps_labels():
    assert made(app("a", groups=["web", "eu"]), app("b", groups="web"))["groups"] == {"web": ["a", "b"], "eu": ["a"]}


@pytest.mark.parametrize(
    ("keys", "preset"),
    [
        ({"runtime": "fastcgipp"}, ("USR1", "10")),
        ({"runtime": "mapserver"}, ("TERM", "2")),
        ({"runtime": "fastcgipp", "stopsignal": "TERM", "stopwaitsecs": 30}, ("TERM", "30")),
    ],
)
def test_a_runtime_presets_how_its_programs_stop(keys, preset):
    options = dict(map(tuple, program(app(**keys))["options"]))
    assert (options["stopsignal"], options["stopwaitsecs"]) == preset


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_program_with_libfcgi_takes_only_nginx_of_this_host_where_it_listens_on_tcp(runtime):
    """libfcgi lets only these addresses in: CVE-2025-23016."""
    local = program(app(runtime=runtime, socket="tcp://localhost:9000"))["environment"]
    assert local.get("FCGI_WEB_SERVER_ADDRS") == ("127.0.0.1" if runtime in ("libfcgi", "perl", "mapserver", "qgis", "fcgiwrap") else None)
    remote = app(runtime=runtime, socket="tcp://192.0.2.1:9000", allow_remote=True)
    for elsewhere in (app(runtime=runtime), remote, listener(runtime=runtime, listen="[::1]:9000")):
        assert "FCGI_WEB_SERVER_ADDRS" not in program(elsewhere)["environment"]


def test_the_operators_own_web_servers_come_first():
    found = program(app(runtime="perl", socket="tcp://127.0.0.1:9000", environment={"FCGI_WEB_SERVER_ADDRS": "127.0.0.1,192.0.2.7"}))
    assert found["environment"]["FCGI_WEB_SERVER_ADDRS"] == "127.0.0.1,192.0.2.7"


def test_the_scripts_of_fcgiwrap_are_executed_too():
    scripts = [{"path": "/a", "script_filename": "/cgi/a"}, {"path": "/b", "script_filename": "/srv/fcgi/shop/current/b"}]
    found = made(app(runtime="fcgiwrap", release={"src": "/x", "version": "1"}, locations=scripts))["commands"]
    assert [(item["command"], item["pending"]) for item in found] == [("/opt/shop/run", False), ("/cgi/a", False), ("/srv/fcgi/shop/current/b", True)]
    assert len(made(app(locations=scripts))["commands"]) == 1
