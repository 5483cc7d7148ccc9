# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values of fcgi_apps: what is refused, and in which words."""

from __future__ import annotations

import json
import shlex

import pytest
from fcgi_apps import app, errors, located, location, made, program


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
        (app(kind="uwsgi_cgi"), 'fcgi_apps[shop].kind: "uwsgi_cgi" is not available in this version; available are fcgi, listener, php_fpm'),
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


@pytest.mark.parametrize("name", ["a:b", "a/b", "a b", "a\nb", "shop\n", "Shop", "1a", "", "a" * 28, "ä", None, 7])
def test_a_name_that_cannot_be_a_program_user_and_file_is_refused_by_its_position(name):
    (error,) = errors(app("ok"), {"name": name, "command": "/bin/x"})
    assert error.startswith("fcgi_apps[1].name: ")


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


@pytest.mark.parametrize("text", ["100%", "%(ENV_HOME)s", "a ; b", "a # b", "it's", 'say "no" twice', " blanks ", "back\\slash", "ünï ☃"])
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


@pytest.mark.parametrize("user", ["root", "0", 0, "00"])
def test_root_is_refused(user):
    (error,) = errors(app(user=user))
    assert error.startswith(f"fcgi_apps[shop].user: {json.dumps(user)} ")
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


def test_values_as_templating_leaves_them_are_understood():
    options = dict(map(tuple, program(app(processes="6", autostart="False", umask="022", priority="5"))["options"]))
    assert (options["numprocs"], options["autostart"], options["umask"], options["priority"]) == ("6", "false", "0022", "5")
    assert ["fastcgi_read_timeout", "90s"] in location(located(read_timeout="90"))["directives"]


@pytest.mark.parametrize("value", ["'hush", 'hush"', 'it\'s "hush"', "it's\\hush", "hush\nhush"])
def test_what_supervisords_environment_cannot_hold_is_refused_with_the_way_out(value):
    (error,) = errors(app(environment={"SHOP_DB": value}))
    assert error.startswith("fcgi_apps[shop].environment.SHOP_DB: the value (not shown) ")
    assert error.endswith("which supervisord's environment= cannot hold; put it into a file with mode 0600 and pass the path of that file")
    assert "hush" not in error


@pytest.mark.parametrize("value", [" tcp://x", "tcp://x "])
def test_white_space_that_supervisord_would_strip_from_a_further_key_is_refused(value):
    (error,) = errors(app(extra={"serverurl": value}))
    assert error == f'fcgi_apps[shop].extra.serverurl: "{value}" begins or ends with white space, which supervisord\'s parser would strip'


def test_directives_of_a_location_that_are_empty_are_no_directive():
    (error,) = errors(located(extra=None))
    assert error == "fcgi_apps[shop].locations[0].extra: an empty value is not lines of nginx directives"
    assert location(located(extra="expires 1h;\nif ($slow) {\n}"))["extra"] == "expires 1h;\nif ($slow) {\n}"
