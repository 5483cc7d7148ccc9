# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_apps: what is refused and in which words, what the defaults are, and what the roles get."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap
import time

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.webops.fastcgi.plugins.filter.fcgi_model import FilterModule
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model
from conftest import CHECKOUT


def app(name="shop", **keys):
    """A small right app, with these keys."""
    return {"name": name, "command": f"/opt/{name}/run", **keys}


def listener(name="api", listen=9001, **keys):
    return app(name, kind="listener", listen=listen, **keys)


def located(name="shop", **keys):
    """An app with one location with these keys."""
    return app(name, locations=[{"path": "/shop", **keys}])


def errors(*apps, **options):
    """The errors (list) of these apps; there must be some."""
    with pytest.raises(model.ModelError) as caught:
        model.fcgi_model(list(apps), **options)
    return caught.value.errors


def made(*apps, **options):
    return model.fcgi_model(list(apps), **options)


def program(*apps, **options):
    return made(*apps, **options)["programs"][0]


def location(*apps, **options):
    """The first location of the first server."""
    return made(*apps, **options)["servers"][0]["locations"][0]


# --- What is refused, and in which words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (app(processes="six"), 'fcgi_apps[shop].processes: "six" is not a whole number from 1 to 4096'),
        (app(processes=0), "fcgi_apps[shop].processes: 0 is not a whole number from 1 to 4096"),
        (app(processes=True), "fcgi_apps[shop].processes: true is not a whole number from 1 to 4096"),
        (app(processes=None), "fcgi_apps[shop].processes: an empty value is not a whole number from 1 to 4096"),
        (app(numprocs=6), "fcgi_apps[shop].numprocs: unknown key; did you mean processes?"),
        (app(proceses=6), "fcgi_apps[shop].proceses: unknown key; did you mean processes?"),
        (app(release={"source": "x", "src": "x", "version": "1"}), "fcgi_apps[shop].release.source: unknown key; did you mean src?"),
        (app(autostart="perhaps"), 'fcgi_apps[shop].autostart: "perhaps" is not true or false'),
        (app(autorestart="always"), 'fcgi_apps[shop].autorestart: "always" is not one of true, false, unexpected'),
        (app(stopsignal="SIGTERM"), 'fcgi_apps[shop].stopsignal: "SIGTERM" is not one of TERM, HUP, INT, QUIT, KILL, USR1, USR2'),
        (app(locations="/shop"), 'fcgi_apps[shop].locations: "/shop" is not a dictionary'),
        (app(locations=[{"path": "shop"}]), 'fcgi_apps[shop].locations[0].path: "shop" does not begin with "/"'),
        (app(locations=[{}]), "fcgi_apps[shop].locations[0].path: missing; it is text of one line"),
        (app(release=["x"]), "fcgi_apps[shop].release: a list is not a dictionary"),
        (app(kind="php_fpm"), 'fcgi_apps[shop].kind: "php_fpm" is not available in this version; available are fcgi, listener'),
        (app(kind="cgi"), 'fcgi_apps[shop].kind: "cgi" is not one of fcgi, listener'),
        (app(state="gone"), 'fcgi_apps[shop].state: "gone" is not one of present, absent, purged'),
        (app(runtime="ruby"), 'fcgi_apps[shop].runtime: "ruby" is not one of generic,'),
        (app(exitcodes=[0, 256]), "fcgi_apps[shop].exitcodes[1]: 256 is not a whole number from 0 to 255"),
        (app(stdout_logfile_maxbytes="much"), 'fcgi_apps[shop].stdout_logfile_maxbytes: "much" is not a size'),
        (app(groups=["a b"]), 'fcgi_apps[shop].groups[0]: "a b" is not a name'),
    ],
)
def test_a_wrong_value_is_named_with_its_app_its_key_and_what_would_be_right(wrong, error):
    (found,) = errors(wrong)
    assert found.startswith(error)


def test_all_errors_are_found_in_one_go():
    found = errors(app("a", processes="six", umask=22), app("b", nonsense=1), app("c", socket="/run/x.sock"), app("d", socket="/run/x.sock"))
    assert [error.split(":")[0] for error in found] == ["fcgi_apps[a].processes", "fcgi_apps[a].umask", "fcgi_apps[b].nonsense", "fcgi_apps[d].socket"]


@pytest.mark.parametrize("name", ["a:b", "a/b", "a b", "a\nb", "shop\n", "Shop", "1a", "", "a" * 28, "ä", None, 7])
def test_a_name_that_cannot_be_a_program_user_and_file_is_refused_by_its_position(name):
    (error,) = errors(app("ok"), {"name": name, "command": "/bin/x"})
    assert error.startswith("fcgi_apps[1].name: ")


def test_an_app_without_a_name_is_called_by_its_position():
    assert errors(app("a"), app("b"), {"command": "/x"})[0].startswith("fcgi_apps[2].name: missing")


@pytest.mark.parametrize("wrong", ["shop", None, ["shop"], 3])
def test_an_app_that_is_no_dictionary_is_an_error(wrong):
    (error,) = errors(wrong)
    assert error.startswith("fcgi_apps[0]: ")
    assert error.endswith("is not a dictionary")


@pytest.mark.parametrize("wrong", [None, "shop", {"name": "shop"}])
def test_fcgi_apps_must_be_a_list(wrong):
    with pytest.raises(model.ModelError, match=r"^fcgi_apps: is not a list of apps$"):
        model.fcgi_model(wrong)


def test_duplicate_names_are_refused():
    assert "fcgi_apps[shop]: the name is used twice, by items 0 and 2" in errors(app(), app("blog"), app(socket="/run/other.sock"))


def test_two_apps_on_one_socket_are_refused_and_both_named():
    (error,) = errors(app("a", socket="/run/fastcgi/x.sock"), app("b", socket="unix:///run/fastcgi/./x.sock"))
    assert error == 'fcgi_apps[b].socket: "unix:/run/fastcgi/x.sock" is also the address of fcgi_apps[a]: each app needs its own'


@pytest.mark.parametrize(
    "other",
    [
        listener("b", "127.0.0.1:9003"),
        listener("b", 9002, processes=2),
        listener("b", "0.0.0.0:9003", allow_remote=True),
        listener("b", "localhost:9001"),
        app("b", socket="tcp://127.0.0.1:9002"),
    ],
)
def test_overlapping_ports_are_refused(other):
    (error,) = errors(listener("a", 9001, processes=3), other)
    assert "is also the address of fcgi_apps[a]" in error


def test_the_same_port_on_different_addresses_is_right():
    assert len(made(listener("a", "127.0.0.1:9001"), listener("b", "127.0.0.2:9001"))["programs"]) == 2


def test_apps_that_are_absent_occupy_nothing():
    assert len(made(app("a", socket="/run/x.sock"), app("b", socket="/run/x.sock", state="absent"))["programs"]) == 1


def test_a_location_claimed_twice_is_refused_and_both_apps_named():
    (error,) = errors(located("a"), located("b"))
    assert error.startswith('fcgi_apps[b].locations[0].path: "/shop" is claimed by fcgi_apps[a].locations[0] too, on the same server')


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ({"path": "/shop/"}, {"path": "/shop"}, True),
        ({"path": "/shop"}, {"path": "/shop", "match": "exact"}, True),
        ({"path": "/shop"}, {"path": "/shopping"}, False),
        ({"path": "/shop"}, {"path": "/shop/admin"}, False),
        ({"server_name": ["a.example", "B.example"]}, {"server_name": "b.example"}, True),
        ({"server_name": "a.example"}, {"server_name": "b.example"}, False),
        ({"listen": 80}, {"listen": ["*:80"]}, True),
        ({"listen": 80}, {"listen": 8080}, False),
        ({"static": [{"path": "/files", "alias": "/srv/a"}]}, {"path": "/x", "static": [{"path": "/files/", "alias": "/srv/b"}]}, True),
        ({"include_only": True}, {"include_only": True}, False),
    ],
)
def test_two_locations_clash_when_nginx_could_not_tell_them_apart(first, second, clash):
    apps = [located("a", **first), located("b", **second)]
    if clash:
        assert "is claimed by fcgi_apps[a].locations[0] too" in errors(*apps)[0]
    else:
        made(*apps)


BAD_TEXT = ["a\nb", "a\rb", "a\0b", "a\tb", "a\x1b[0m", "a\x85"]


@pytest.mark.parametrize("text", BAD_TEXT)
@pytest.mark.parametrize(
    "place",
    [
        lambda text: app(command=f"/bin/{text}"),
        lambda text: app(command=["/bin/x", text]),
        lambda text: app(directory=f"/{text}"),
        lambda text: app(socket=f"/run/{text}.sock"),
        lambda text: app(stdout_logfile=f"/var/log/{text}"),
        lambda text: app(user=text),
        lambda text: app(groups=[text]),
        lambda text: app(release={"src": text, "version": "1"}),
        lambda text: app(release={"src": "x", "version": text}),
        lambda text: app(extra={"serverurl": text}),
        lambda text: app(extra={text: "x"}),
        lambda text: app(environment={"A": text}),
        lambda text: app(environment={text: "x"}),
        lambda text: app(health={"path": f"/{text}"}),
        lambda text: located(path=f"/{text}"),
        lambda text: located(path=f"/{text}", match="regex"),
        lambda text: located(server_name=text),
        lambda text: located(listen=text),
        lambda text: located(params={"A": text}),
        lambda text: located(params={text: "x"}),
        lambda text: located(script_filename=f"/{text}"),
        lambda text: located(auth={"realm": text, "user_file": "/x"}),
        lambda text: located(auth={"users": {text: "$6$x"}}),
        lambda text: located(auth={"users": {"ada": f"$6${text}"}}),
        lambda text: located(tls={"certificate": f"/{text}", "certificate_key": "/x"}),
        lambda text: located(static=[{"path": f"/{text}", "alias": "/x"}]),
    ],
)
def test_a_control_character_is_refused_everywhere(place, text):
    assert errors(place(text))


@pytest.mark.parametrize("path", ["run", "/a/../b", "/a;b", "/a{b", "/a}b", "/a b", "/a'b", '/a"b', "/a\\b", "/a$b", "/a%b"])
@pytest.mark.parametrize("key", ["directory", "home", "socket", "stdout_logfile"])
def test_a_path_that_could_become_syntax_is_refused(key, path):
    assert errors(app(**{key: path}))[0].startswith(f"fcgi_apps[shop].{key}: ")


@pytest.mark.parametrize("path", ["/a b", "/a;b", "/a{", "/a}", '/a"', "/a'", "/a\\", "/$a", "/a%20b", "/a?b", "/a#b", "/a/../b", "/a//b", "shop"])
def test_a_location_that_could_become_syntax_or_never_match_is_refused(path):
    assert errors(located(path=path))[0].startswith("fcgi_apps[shop].locations[0].path: ")


@pytest.mark.parametrize("text", ["100%", "%(ENV_HOME)s", "a ; b", "a # b", "it's", 'say "no"', "back\\slash", "ünï ☃"])
def test_percents_semicolons_and_quotes_in_environment_and_command_are_values(text):
    found = program(app(command=["/bin/x", text], environment={"A": text}))
    assert found["environment"]["A"] == text
    assert shlex.split(dict(map(tuple, found["options"]))["command"]) == ["/bin/x", text]


def test_a_socket_path_of_300_bytes_is_refused_with_the_kernels_limit():
    (error,) = errors(app(socket="/" + "x" * 299))
    assert error.startswith('fcgi_apps[shop].socket: "/xxx')
    assert error.endswith("is a path of 300 bytes; the kernel's limit for a unix socket is 107")
    assert len(error) < 200


def test_the_limit_of_a_socket_path_counts_bytes():
    assert made(app(socket="/" + "x" * 106))
    assert errors(app(socket="/" + "x" * 107))
    assert errors(app(socket="/" + "é" * 60))


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
        ("/bin/x 'oops", "No closing quotation"),
        ("/opt/../bin/sh", "contains .."),
        ({"path": "/x"}, "a dictionary is not a command"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused(command, error):
    (found,) = errors(app(command=command))
    assert found.startswith("fcgi_apps[shop].command: ")
    assert error in found


@pytest.mark.parametrize("user", ["root", "0", 0, "00"])
def test_root_is_refused(user):
    (error,) = errors(app(user=user))
    assert "is refused: FastCGI programs never run as root" in error


@pytest.mark.parametrize("key", ["umask", "socket_mode"])
def test_an_octal_mode_that_yaml_read_as_a_number_is_refused(key):
    (error,) = errors(app(**{key: 0o660}))
    assert error == f'fcgi_apps[shop].{key}: 432 was read as a number by YAML: write the mode in quotes, such as "0660"'


def test_a_version_that_yaml_read_as_a_number_is_refused():
    (error,) = errors(app(release={"src": "x", "version": 1.10}))
    assert error == "fcgi_apps[shop].release.version: 1.1 is not text: write it in quotes"


@pytest.mark.parametrize("version", ["../1", "", ".hidden", "a/b", "-x"])
def test_a_version_that_cannot_be_a_directory_is_refused(version):
    assert errors(app(release={"src": "x", "version": version}))[0].startswith("fcgi_apps[shop].release.version: ")


@pytest.mark.parametrize("source", ["https://example.org/x.tar.gz", "git@example.org:x.git", "ssh://x"])
def test_sources_of_later_versions_are_refused_as_such(source):
    assert "not available in this version" in errors(app(release={"src": source, "version": "1"}))[0]


@pytest.mark.parametrize(
    ("wrong", "key", "error"),
    [
        (listener(listen=None), "listen", "missing; kind listener binds its own address, such as 127.0.0.1:9001"),
        (listener(socket="/run/x.sock"), "socket", "belongs to kind fcgi; this app is of kind listener"),
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


@pytest.mark.parametrize("kind", ["php_fpm", "uwsgi_cgi"])
def test_a_kind_of_a_later_version_is_one_error_whatever_its_keys(kind):
    assert len(errors({"name": "blog", "kind": kind, "root": "/srv/www/blog"})) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        app(environment={"SHOP_DB": ["hush"]}),
        app(environment={"SHOP_DB": "hush\nhush"}),
        app(environment={"SHOP-DB": "hush"}),
        app(environment="SHOP_DB=hush"),
        app(environment=["SHOP_DB=hush"]),
        located(auth="hush"),
        located(auth={"users": "ada:hush"}),
        located(auth={"users": {"ada": "hush"}}),
        located(auth={"users": {"ada": "$6$hush hush"}}),
        located(auth={"user_file": "hush"}),
        located(auth={"realm": "$hush", "user_file": "/x"}),
    ],
)
def test_no_value_below_environment_or_auth_is_ever_shown(wrong):
    found = errors(wrong)
    assert "hush" not in "".join(found)
    assert "environment" in found[0] or "auth" in found[0]


def test_a_wrong_name_of_a_variable_is_shown():
    (error,) = errors(app(environment={"SHOP-DB": "hush"}))
    assert error == 'fcgi_apps[shop].environment: "SHOP-DB" is not a name of letters, digits and _'


def test_a_password_that_is_no_hash_is_refused_with_the_way_to_make_one():
    (error,) = errors(located(auth={"users": {"ada": "secret"}}))
    assert error == "fcgi_apps[shop].locations[0].auth.users.ada: the value (not shown) is not a password hash; make one with: openssl passwd -6"


def test_one_server_has_one_certificate():
    tls = {"certificate": "/etc/tls/a.pem", "certificate_key": "/etc/tls/a.key"}
    other = {**tls, "certificate": "/etc/tls/b.pem"}
    (error,) = errors(located("a", tls=tls), located("b", path="/b", tls=other))
    assert error.startswith("fcgi_apps[b].locations[0].tls: differs from that of fcgi_apps[a].locations[0]")


def test_on_one_address_all_servers_speak_tls_or_none():
    tls = {"certificate": "/etc/tls/a.pem", "certificate_key": "/etc/tls/a.key"}
    (error,) = errors(located("a", tls=tls), located("b", listen=443, server_name="b.example"))
    assert error.startswith("fcgi_apps[b].locations[0].tls: missing: fcgi_apps[a].locations[0] makes 443 an address of TLS")


def test_apps_that_share_a_user_must_agree_on_it():
    assert len(made(app("a", user="web"), app("b", user="web"))["users"]) == 1
    (error,) = errors(app("a", user="web", group="x"), app("b", user="web"))
    assert error == 'fcgi_apps[b].group: "web" differs from "x" of fcgi_apps[a], which has the same user "web": make them the same'


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"fcgi_set": "a-b"}, 'fcgi_model.fcgi_set: "a-b" is not a name'),
        ({"run_dir": "run"}, 'fcgi_model.run_dir: "run" is not an absolute path'),
        ({"listen": ["x"]}, "fcgi_model.listen[0]: "),
        ({"serv_dir": "/srv"}, "fcgi_model.serv_dir: unknown key; did you mean srv_dir?"),
    ],
)
def test_the_options_of_the_filter_are_checked_as_well(options, error):
    assert errors(app(), **options)[0].startswith(error)


def test_values_as_templating_leaves_them_are_understood():
    options = dict(map(tuple, program(app(processes="6", autostart="False", umask="022", priority="5"))["options"]))
    assert (options["numprocs"], options["autostart"], options["umask"], options["priority"]) == ("6", "false", "0022", "5")


# --- What the roles get -----------------------------------------------------------------------------------------------------------------------------


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
        "reload_signal": None,
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


def digest(**keys):
    return program(app(**keys))["environment"]["FCGI_DIGEST"]


def test_the_digest_changes_with_what_supervisord_does_not_compare_and_with_nothing_else():
    releases = [{"release": {"src": "x", "version": version}} for version in ("1", "2")]
    unseen = [{"socket_mode": "0600"}, {"socket_owner": "a:b"}, {"socket_backlog": 5}, *releases]
    assert len({digest(), *(digest(**keys) for keys in unseen)}) == len(unseen) + 1
    assert digest() == digest(processes=2, environment={"A": "b"})


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


def test_devices_may_be_the_log_of_many_processes():
    assert made(app(processes=2, stdout_logfile="/dev/stdout", stdout_logfile_maxbytes=0))


def test_stderr_gets_its_own_log_when_it_is_not_redirected():
    options = dict(map(tuple, program(app(redirect_stderr=False))["options"]))
    assert options["stderr_logfile"] == "/var/log/fcgi/shop_%(process_num)02d.err.log"


def test_further_keys_of_supervisord_are_passed_on():
    assert program(app(extra={"stdout_events_enabled": True}))["options"][-1] == ["stdout_events_enabled", "true"]


def test_without_health_every_process_address_gets_a_ping():
    probes = made(app(), listener(processes=2))["probes"]
    assert [(probe["name"], probe["address"], probe["mode"]) for probe in probes] == [
        ("shop", "unix:/run/fastcgi/shop.sock", "ping"),
        ("api_9001", "127.0.0.1:9001", "ping"),
        ("api_9002", "127.0.0.1:9002", "ping"),
    ]


def test_health_is_asked_for_as_nginx_would_pass_it_on():
    keys = {"locations": [{"path": "/", "server_name": "other"}, {"path": "/shop", "server_name": "a.example", "params": {"A": "b", "C": "$host"}}]}
    (probe,) = made(app(health={"path": "/shop/health%20z?deep=1", "status": 204, "body": "^ok"}, **keys))["probes"]
    assert probe == {
        "name": "shop",
        "address": "unix:/run/fastcgi/shop.sock",
        "mode": "request",
        "method": "GET",
        "script_name": "/shop",
        "path_info": "/health z",
        "query": "deep=1",
        "params": {"SERVER_NAME": "a.example", "HTTP_HOST": "a.example", "A": "b"},
        "status": [204],
        "body": "^ok",
        "timeout": 5,
        "deadline": 30,
    }


def test_health_outside_every_location_is_asked_for_as_it_is():
    (probe,) = made(app(health={"path": "/shopping"}, locations=[{"path": "/shop"}]))["probes"]
    assert (probe["script_name"], probe["path_info"]) == ("", "/shopping")


@pytest.mark.parametrize("keys", [{"health": False}, {"autostart": False}])
def test_what_is_not_to_answer_is_not_asked(keys):
    assert made(app(**keys))["probes"] == []


def test_a_socket_stands_twice_in_its_upstream_so_that_nginx_retries():
    upstream = made(located())["upstreams"][0]
    server = {"address": "unix:/run/fastcgi/shop.sock", "max_fails": 0}
    assert upstream == {"name": "fcgi_default_shop", "servers": [server, server], "keepalive": 0}


def test_a_listener_is_an_upstream_of_all_its_ports():
    found = made(listener(listen="0.0.0.0:9001", allow_remote=True, processes=2, runtime="go", locations=[{"path": "/"}]))
    assert [server["address"] for server in found["upstreams"][0]["servers"]] == ["127.0.0.1:9001", "127.0.0.1:9002"]
    assert found["upstreams"][0]["keepalive"] == 16
    assert found["servers"][0]["locations"][0]["keep_conn"] is True


@pytest.mark.parametrize(
    ("keys", "matches"),
    [
        ({"path": "/shop"}, ["= /shop", "^~ /shop/"]),
        ({"path": "/shop/"}, ["= /shop", "^~ /shop/"]),
        ({"path": "/"}, ["/"]),
        ({"path": "/shop", "match": "exact"}, ["= /shop"]),
        ({"path": r'^/a{2}/"\d$', "match": "regex"}, [r'~ "^/a{2}/\"\\d$"']),
    ],
)
def test_a_prefix_never_catches_a_longer_word(keys, matches):
    assert location(located(**keys))["matches"] == matches


@pytest.mark.parametrize(
    ("keys", "uri", "split"),
    [
        ({"path": "/shop"}, "/shop", ("/shop", "")),
        ({"path": "/shop"}, "/shop/a/b", ("/shop", "/a/b")),
        ({"path": "/shop"}, "/shop/a\nb", ("/shop", "/a\nb")),
        ({"path": "/shop"}, "/shop/\n", ("/shop", "/\n")),
        ({"path": "/a.b"}, "/a.b/c", ("/a.b", "/c")),
        ({"path": "/"}, "/a/b", ("", "/a/b")),
        ({"path": "/shop", "match": "exact"}, "/shop", ("/shop", "")),
        ({"path": "/shop/", "match": "exact"}, "/shop/", ("/shop", "/")),
        ({"path": "^/(api|v2)/", "match": "regex"}, "/api/x\ny", ("", "/api/x\ny")),
    ],
)
def test_a_path_is_split_where_the_app_begins_and_a_newline_does_not_empty_path_info(keys, uri, split):
    assert re.search(location(located(**keys))["split"].replace(r"\z", r"\Z"), uri).groups() == split


def test_a_location_has_every_parameter_once_and_the_operators_wins():
    params = location(located(params={"HTTPS": "on", "SHOP": "$host x"}, script_filename="/srv/x$fastcgi_script_name"))["params"]
    names = [name for name, _value in params]
    assert len(names) == len(set(names))
    assert {("HTTPS", "on"), ("SHOP", "$host x"), ("SCRIPT_FILENAME", "/srv/x$fastcgi_script_name")} <= set(map(tuple, params))
    assert "HTTP_PROXY" not in names
    assert not any(value in ("$http_host", "$uri", "$document_root") for _name, value in params)


def test_a_worker_that_dies_is_replaced_by_a_retry_and_a_post_only_on_request():
    assert location(located())["next_upstream"] == ["error", "timeout", "invalid_header"]
    assert location(located(retry_non_idempotent=True))["next_upstream"][-1] == "non_idempotent"


def test_directives_of_a_location_are_those_asked_for():
    directives = dict(map(tuple, location(located(read_timeout=90, buffers="8 16k", client_max_body_size="10m", buffering=False))["directives"]))
    assert directives["fastcgi_read_timeout"] == "90s"
    assert directives["fastcgi_buffers"] == "8 16k"
    assert directives["client_max_body_size"] == "10m"
    assert directives["fastcgi_buffering"] == "off"
    assert "fastcgi_buffer_size" not in directives


def test_static_files_have_both_slashes_or_none():
    found = location(located(static=[{"path": "/shop/img", "alias": "/srv/img"}, {"path": "/shop/js/", "root": "/srv/www/", "expires": "1h"}]))["static"]
    assert found == [
        {"path": "/shop/img/", "directive": "alias", "directory": "/srv/img/", "expires": None},
        {"path": "/shop/js/", "directive": "root", "directory": "/srv/www", "expires": "1h"},
    ]


def test_password_hashes_go_into_a_file_of_their_own():
    found = made(located(auth={"realm": "Shop", "users": {"ada": "$6$salt$hash"}}), fcgi_set="other")
    assert found["htpasswd"] == [{"path": "auth/shop_0", "vars": {"htpasswd": {"ada": "$6$salt$hash"}}}]
    assert found["servers"][0]["locations"][0]["auth"] == {"realm": "Shop", "user_file": "/etc/fcgi/other/fcgi_nginx/current/auth/shop_0"}
    assert "hash" not in json.dumps(found["servers"])


def test_a_password_file_of_the_host_is_used_where_it_lies():
    found = made(located(auth={"user_file": "/etc/nginx/users"}))
    assert found["htpasswd"] == []
    assert found["servers"][0]["locations"][0]["auth"]["user_file"] == "/etc/nginx/users"


def test_no_name_stands_in_two_servers_of_one_address():
    found = made(located("a", server_name=["x.example", "y.example"]), located("b", path="/b", server_name=["y.example", "z.example"]))["servers"]
    assert [(server["server_name"], [item["app"] for item in server["locations"]]) for server in found] == [
        (["x.example"], ["a"]),
        (["y.example"], ["a", "b"]),
        (["z.example"], ["b"]),
    ]


def test_apps_of_one_site_share_a_server():
    (server,) = made(located("a"), located("b", path="/b"), server_name=["x", "y"], listen=["80", "[::]:80"])["servers"]
    assert (server["server_name"], server["listen"], server["tls"]) == (["x", "y"], ["80", "[::]:80"], None)
    assert [item["path"] for item in server["locations"]] == ["/shop", "/b"]


def test_locations_of_a_server_of_tls_share_its_certificate():
    tls = {"certificate": "/a.pem", "certificate_key": "/a.key"}
    (server,) = made(located("a", path="/a", listen=443), located("b", tls=tls))["servers"]
    assert (server["listen"], server["tls"]) == (["443"], tls)


def test_a_location_to_be_included_elsewhere_makes_no_server():
    found = made(located(include_only=True))
    assert (found["servers"], found["urls"]) == ([], [])
    assert found["includes"][0]["path"] == "locations/shop.conf"
    assert [item["path"] for item in found["includes"][0]["vars"]["include"]["locations"]] == ["/shop"]


def test_an_include_file_has_one_path_once():
    found = made(app(locations=[{"path": "/", "server_name": "a"}, {"path": "/", "server_name": "b"}]))
    assert len(found["includes"][0]["vars"]["include"]["locations"]) == 1


def test_urls_lead_a_person_there():
    tls = {"certificate": "/a.pem", "certificate_key": "/a.key"}
    apps = [located("a", listen="127.0.0.1:8080"), located("b", server_name=["*.example", "b.example"], tls=tls), located("c", path="/c", listen=81)]
    assert made(*apps, server_name=["web1"])["urls"] == ["http://127.0.0.1:8080/shop", "https://b.example/shop", "http://web1:81/c"]


def test_apps_without_locations_are_no_concern_of_nginx():
    found = made(app())
    assert found["upstreams"] == found["servers"] == found["includes"] == []


def test_a_purged_app_loses_what_was_made_for_it_alone():
    found = made(app("a", user="www-data"), {"name": "old", "state": "purged"}, {"name": "web", "state": "purged", "user": "www-data"})
    assert [item["name"] for item in found["programs"]] == ["a"]
    assert found["purged"] == [
        {"name": "old", "user": "fcgi-old", "group": "fcgi-old", "paths": ["/srv/fcgi/old"], "logs": r"old_[0-9]+(\.err)?\.log(\.[0-9]+)?"},
        {"name": "web", "user": "", "group": "", "paths": ["/srv/fcgi/web"], "logs": r"web_[0-9]+(\.err)?\.log(\.[0-9]+)?"},
    ]


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


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        ({"runtime": "mapserver"}, "fcgi_apps[shop].environment: without MAPSERVER_CONFIG_FILE"),
        ({"runtime": "fcgiwrap", "locations": [{"path": "/"}]}, "fcgi_apps[shop].locations[0].script_filename: missing"),
        ({"runtime": "perl", "locations": [{"path": "/", "keepalive": True}]}, "fcgi_apps[shop].locations[0].keepalive: "),
        ({"socket_mode": "0666"}, "fcgi_apps[shop].socket_mode: 0666 lets every user of the host send requests"),
        ({"command": "/bin/a && /bin/b"}, "fcgi_apps[shop].command: no shell runs it"),
        ({"command": "/bin/a 2>&1"}, "fcgi_apps[shop].command: no shell runs it"),
    ],
)
def test_what_rarely_is_meant_is_a_warning(keys, warning):
    assert made(app(**keys))["warnings"][0].startswith(warning)


@pytest.mark.parametrize("runtime", sorted(set(model.RUNTIMES) - {"mapserver"}))
def test_an_ordinary_app_has_no_warning(runtime):
    assert made(app(runtime=runtime, command="/bin/a -x 'b && c'"))["warnings"] == []


def test_the_model_is_plain_data():
    found = made(located(), listener(locations=[{"path": "/api"}]), app("x", release={"src": "y", "version": "1"}))
    assert json.loads(json.dumps(found)) == found


def test_nothing_of_one_app_depends_on_another_by_accident():
    apps = [located("a", path="/a"), located("b", path="/b")]
    alone = made(apps[1])["programs"][0]
    assert made(*apps)["programs"][1] == alone


def test_two_hundred_apps_take_no_time_to_speak_of():
    apps = [app(f"app{number}", processes=4, locations=[{"path": f"/app{number}"}]) for number in range(200)]
    apps.append(listener(processes=4096, listen=10000))
    begin = time.monotonic()
    made(*apps)
    assert time.monotonic() - begin < 5


# --- The filter and the documentation ---------------------------------------------------------------------------------------------------------------


def test_the_filter_raises_the_error_of_ansible_with_all_errors():
    run = FilterModule().filters()["fcgi_model"]
    with pytest.raises(AnsibleFilterError, match=r"(?s)fcgi_apps\[a\]\.processes.*fcgi_apps\[b\]\.processes"):
        run([app("a", processes="x"), app("b", processes="x")])


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  vars:
    secret: !vault |
{vault}
    fcgi_apps:
      - name: shop
        command: /opt/shop/run
        environment: {{SHOP_DB: "password={{{{ secret }}}}", SECRET: "{{{{ secret }}}}", N: 1, DAY: 2026-01-02}}
    found: "{{{{ (fcgi_apps | webops.fastcgi.fcgi_model).programs[0].environment }}}}"
  tasks:
    - ansible.builtin.assert:
        that:
          - found.SHOP_DB == "password=hush ; 5%"
          - found.SECRET == "hush ; 5%"
          - found.N == "1"
          - found.DAY == "2026-01-02"
"""


def test_vault_secrets_reach_the_environment(tmp_path, collections_path):
    key = tmp_path / "key"
    key.write_text("unlock")
    encrypted = VaultLib([("default", VaultSecret(b"unlock"))]).encrypt("hush ; 5%").decode()
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK.format(vault=textwrap.indent(encrypted, "      ")))
    done = subprocess.run(
        [pathlib.Path(sys.executable).parent / "ansible-playbook", "--vault-password-file", key, playbook],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_reference_of_fcgi_apps_is_what_the_model_says():
    done = subprocess.run([sys.executable, CHECKOUT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
