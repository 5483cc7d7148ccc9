# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kind php_fpm: what cannot work is refused with the way out, before php-fpm sees it; what it finds itself is left to it."""

from __future__ import annotations

import pytest
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import PHP_OF_DEBIAN
from fcgi_apps import app, errors, listener, located, made, php

UNKNOWN_SYSTEM = {**PHP_OF_DEBIAN, "version": ""}


def at(path="/forum", **keys):
    """An app with one location with these keys."""
    return php(locations=[{"path": path, **keys}])


@pytest.mark.parametrize(
    ("wrong", "key", "error"),
    [
        (php(root=None), "root", "missing; it is the directory of the scripts: a path, or one inside the release"),
        (php(root="htdocs"), "root", '"htdocs" is not an absolute path, and there is no release to look for it in'),
        (php(root="../htdocs", release={"src": "x", "version": "1"}), "root", "contains .."),
        (php(root="/srv/for um"), "root", "contains ' '"),
        (php(php_version="8"), "php_version", '"8" is not a version of PHP in quotes, such as "8.2"'),
        (php(php_version=8.2), "php_version", "is not text: write it in quotes"),
        (php(php_extensions=["GD"]), "php_extensions[0]", '"GD" is not the name of an extension, as its package has it, such as gd'),
        (php(php_extensions=["gd; rm"]), "php_extensions[0]", "is not the name of an extension"),
        (php(start_delay=61), "start_delay", "61 is not a whole number from 0 to 60"),
        (php(user="root"), "user", "FastCGI programs never run as root"),
        (php(environment={"FCGI_DIGEST": "x"}), "environment.FCGI_DIGEST", "is ours"),
        (php(extra={"stopsignal": "TERM"}), "extra.stopsignal", "is decided by stopsignal; use that"),
        # Memory and uploads
        (php(php_value={"memory_limit": "lots"}), "php_value.memory_limit", '"lots" is not a size, such as 256M'),
        (php(php_admin_value={"memory_limit": "256MB"}), "php_admin_value.memory_limit", '"256MB" is not a size, such as 256M'),
        (php(php_admin_value={"memory_limit": True}), "php_admin_value.memory_limit", "true is not a size"),
        (php(php_admin_value={"memory_limit": "1.5G"}), "php_admin_value.memory_limit", "is not a size"),
        (php(php_value={"upload_max_filesize": "64 M"}), "php_value.upload_max_filesize", "is not a size"),
        (
            php(php_admin_value={"upload_max_filesize": "64M"}),
            "php_admin_value",
            "post_max_size is 8M, PHP's own, smaller than upload_max_filesize: a file of 64M could never come; give post_max_size a little more than that",
        ),
        (
            php(php_value={"post_max_size": "10M"}, php_admin_value={"upload_max_filesize": "64M"}),
            "php_admin_value",
            "post_max_size is 10M, smaller than upload_max_filesize: a file of 64M could never come",
        ),
        (php(pools=[{"name": "api", "php_value": {"memory_limit": "x"}}]), "pools[0].php_value.memory_limit", '"x" is not a size'),
        (php(pools=[{"name": "api", "php_value": {"upload_max_filesize": "9M"}}]), "pools[0].php_admin_value", "smaller than upload_max_filesize"),
        # Times
        (php(**{"global": {"process_control_timeout": "long"}}), "global.process_control_timeout", '"long" is not a time, such as 10s'),
        (php(**{"global": {"process_control_timeout": True}}), "global.process_control_timeout", "true is not a time, such as 10s"),
        (
            php(**{"global": {"process_control_timeout": "30s"}, "stopwaitsecs": 30}),
            "global.process_control_timeout",
            '"30s" is not shorter than stopwaitsecs: 30: the supervisor would kill a master that waits for its workers',
        ),
        # Names
        (php(pools=[{"name": "a"}, {"name": "a"}]), "pools[1].name", '"a" is the name of another pool of this app too: a master has each name once'),
        (php(pools=[{"name": "a-b"}]), "pools[0].name", '"a-b" is not a name of lower-case letters, digits and _'),
        (php(pools=[{}]), "pools[0].name", "missing; it is a name"),
        (php(pools=["api"]), "pools[0]", '"api" is not a dictionary'),
        (php(pools=[{"name": "api", "users": "web"}]), "pools[0].users", "unknown key"),
        (php(pools=[{"name": "api", "kind": "php_fpm"}]), "pools[0].kind", "unknown key"),
        (at(pool="api"), "locations[0].pool", '"api" is not one of the app\'s pools: it has none but its own'),
        (
            php(pools=[{"name": "a"}, {"name": "b"}], locations=[{"path": "/", "pool": "c"}]),
            "locations[0].pool",
            '"c" is not one of the app\'s pools: a, b',
        ),
        # Sockets
        (php(socket="0.0.0.0:9000"), "socket", "can be reached from other hosts, and FastCGI knows no authentication"),
        (php(socket="run/x.sock"), "socket", "is neither an absolute path nor addr:port"),
        (php(socket="127.0.0.1:9000", socket_mode="0660"), "socket", "is not a unix socket: socket_mode has no meaning"),
        (php(pools=[{"name": "api", "socket": "0.0.0.0:9000"}]), "pools[0].socket", "can be reached from other hosts"),
        (php(pools=[{"name": "api", "socket": "9000x"}]), "pools[0].socket", "is neither an absolute path nor addr:port"),
        (php(socket="/run/a=b.sock"), "socket", "contains = or a comma, which php-fpm cannot hand over to itself when it reloads"),
        (php(pools=[{"name": "api", "socket": "/run/a,b.sock"}]), "pools[0].socket", "contains = or a comma"),
        (php(pool={"pm.status_listen": "here"}), "pool.pm.status_listen", '"here" is neither an absolute path nor addr:port'),
        (php(pool={"pm.status_listen": True}), "pool.pm.status_listen", "true is not text"),
        (php(pool={"pm.status_listen": "*:9101"}), "pool.pm.status_listen", '"*:9101" can be reached from other hosts'),
        (php(pools=[{"name": "status"}]), "pool.pm.status_listen", "/status.sock\" is the address of two things of this app: give one of them another, or its"),
        (
            php(pools=[{"name": "api", "socket": "127.0.0.1:9101", "pool": {"pm.status_listen": "9101"}}]),
            "pools[0].pool.pm.status_listen",
            '"9101" is the address of two things of this app',
        ),
        # Requests
        (at(params={"SCRIPT_FILENAME": "/x"}), "locations[0].params.SCRIPT_FILENAME", "is decided by root and path"),
        (at(params={"SCRIPT_NAME": "/x"}), "locations[0].params.SCRIPT_NAME", "is decided by root and path"),
        (at(params={"PATH_INFO": "/x"}), "locations[0].params.PATH_INFO", "is decided by root and path"),
        (at(params={"DOCUMENT_ROOT": "/x"}), "locations[0].params.DOCUMENT_ROOT", "is decided by root and path"),
        (at(params={"HTTP_PROXY": "x"}), "locations[0].params.HTTP_PROXY", "httpoxy"),
        (at(params={"A": "$http_host"}), "locations[0].params.A", "$host is what nginx checked"),
        (at(index="../index.php"), "locations[0].index", "is not the name of a file, such as index.php"),
        (at(index=["index.php; }"]), "locations[0].index[0]", "is not the name of a file"),
        (at(deny=["data"]), "locations[0].deny[0]", 'does not begin with "/"'),
        (at(deny=["/a b"]), "locations[0].deny[0]", "contains ' '"),
        (at(deny=["/data", "/"]), "locations[0].deny[1]", '"/" is all of the location: name what is in it'),
        (at(front_controller="index.php"), "locations[0].front_controller", '"index.php" is not true or false'),
        # What php-fpm cannot hold
        (php(environment={"A": "$HOME"}), "environment.A", "the value (not shown) begins with a $, as the name of another variable does"),
        (php(environment={"A": "hush$pool"}), "environment.A", "the value (not shown) contains $pool, which is the name of the pool everywhere"),
        (php(environment={"A": "hush\nhush"}), "environment.A", "the value (not shown) contains a control character"),
        (php(pools=[{"name": "api", "environment": {"A": "$HOME"}}]), "pools[0].environment.A", "the value (not shown) begins with a $"),
        (php(pool={"chdir": ""}), "pool.chdir", "is empty, which php-fpm refuses; php.ini writes none"),
        (php(php_value={"error_log": None}), "php_value.error_log", "an empty value is not text of one line, a number or a boolean"),
        (php(php_value={"error log": "x"}), "php_value", "is not a directive of php.ini, such as memory_limit"),
        (php(pool={"pm max": 1}), "pool", "is not a directive of php-fpm, such as pm.max_children"),
        (php(pool={"env[A]": 1}), "pool", "is not a directive of php-fpm, such as pm.max_children"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_the_way_out(wrong, key, error):
    (found,) = errors(wrong, supervisor="fcgivisord")
    assert found.startswith(f"fcgi_apps[forum].{key}: ")
    assert error in found
    assert "hush" not in found


@pytest.mark.parametrize("directive", ["user", "group"])
def test_whom_a_pool_runs_as_is_the_apps_to_say(directive):
    assert errors(php(pool={directive: "web"})) == [f"fcgi_apps[forum].pool.{directive}: is decided by user of the app, as whom the master runs"]


@pytest.mark.parametrize("directive", ["listen", "listen.owner", "listen.group", "listen.mode", "listen.acl_users", "listen.acl_groups", "prefix"])
def test_where_a_pool_listens_has_a_key_of_its_own(directive):
    own, further = errors(php(pool={directive: "x"}, pools=[{"name": "api", "pool": {directive: "x"}}]))
    assert own == f"fcgi_apps[forum].pool.{directive}: is decided by socket"
    assert further == f"fcgi_apps[forum].pools[0].pool.{directive}: is decided by socket"


def test_the_backlog_has_a_key_of_its_own():
    assert errors(php(pool={"listen.backlog": 5})) == ["fcgi_apps[forum].pool.listen.backlog: is decided by socket_backlog"]


@pytest.mark.parametrize("directive", ["daemonize", "pid", "error_log"])
def test_what_the_supervisor_needs_of_a_master_is_not_the_operators(directive):
    (error,) = errors(php(**{"global": {directive: "x"}}))
    assert error.startswith(f"fcgi_apps[forum].global.{directive}: is decided by the role: the supervisor needs php-fpm in front")


def test_no_file_beside_the_list_defines_pools():
    (error,) = errors(php(**{"global": {"include": "/etc/php/8.2/fpm/pool.d/*.conf"}}))
    assert error == "fcgi_apps[forum].global.include: is decided by the list: every pool stands in fcgi_apps"
    assert errors(php(pool={"include": "/x"})) == ["fcgi_apps[forum].pool.include: is decided by the list: every pool stands in fcgi_apps"]


@pytest.mark.parametrize("directive", ["chroot", "process.priority"])
def test_what_only_a_master_of_root_could_do_is_refused(directive):
    words = "has no effect: the master runs as the app's user, and only root could do that"
    assert errors(php(pool={directive: "/srv"})) == [f"fcgi_apps[forum].pool.{directive}: {words}"]
    assert errors(php(**{"global": {directive: "-5"}})) == [f"fcgi_apps[forum].global.{directive}: {words}"]


@pytest.mark.parametrize("key", ["socket_owner", "socket_mode"])
def test_a_socket_that_php_fpm_binds_has_no_other_owner_or_mode(key):
    wrong = php(**{key: {"socket_owner": "web:web", "socket_mode": "0600"}[key]})
    (error,) = errors(wrong, supervisor="supervisord")
    assert error.startswith(f"fcgi_apps[forum].{key}: has no effect: under supervisord php-fpm binds the socket itself")
    assert made(wrong, supervisor="fcgivisord")


@pytest.mark.parametrize(
    ("wrong", "key", "kinds"),
    [
        (php(command="/bin/x"), "command", "fcgi and listener"),
        (php(runtime="php_fpm"), "runtime", "fcgi and listener"),
        (php(processes=3), "processes", "fcgi and listener"),
        (php(listen=9000), "listen", "listener"),
        (at(match="exact"), "locations[0].match", "fcgi and listener"),
        (at(script_filename="/x"), "locations[0].script_filename", "fcgi and listener"),
    ],
)
def test_keys_of_other_kinds_are_refused(wrong, key, kinds):
    assert errors(wrong) == [f"fcgi_apps[forum].{key}: belongs to kind {kinds}; this app is of kind php_fpm"]


@pytest.mark.parametrize(
    "keys",
    [
        {"root": "/srv"}, {"php_version": "8.2"}, {"php_extensions": ["gd"]}, {"start_delay": 1}, {"global": {"x": 1}}, {"pool": {"pm": "static"}},
        {"php_value": {"a": 1}}, {"php_admin_value": {"a": 1}}, {"pools": [{"name": "a"}]},
    ],
    ids=lambda keys: next(iter(keys)),
)  # fmt: skip
@pytest.mark.parametrize("make", [app, listener])
def test_keys_of_php_are_refused_elsewhere(make, keys):
    (key,) = keys
    wrong = make(**keys)
    assert errors(wrong) == [f"fcgi_apps[{wrong['name']}].{key}: belongs to kind php_fpm; this app is of kind {wrong.get('kind', 'fcgi')}"]


@pytest.mark.parametrize("keys", [{"pool": "a"}, {"index": ["index.php"]}, {"front_controller": True}, {"deny": ["/data"]}], ids=lambda keys: next(iter(keys)))
def test_keys_of_a_location_of_php_are_refused_elsewhere(keys):
    (key,) = keys
    assert errors(located(**keys)) == [f"fcgi_apps[shop].locations[0].{key}: belongs to kind php_fpm; this app is of kind fcgi"]


def test_every_error_of_a_master_and_its_pools_is_found_in_one_go():
    pools = [{"name": "a", "pool": {"user": "x"}}, {"name": "a", "php_value": {"memory_limit": "x"}}]
    found = errors(php(root=None, pools=pools, **{"global": {"pid": "/x"}}), php("blog", php_value={"memory_limit": "x"}))
    assert [error.split(": ")[0] for error in found] == [
        "fcgi_apps[forum].root",
        "fcgi_apps[forum].global.pid",
        "fcgi_apps[forum].pools[0].pool.user",
        "fcgi_apps[forum].pools[1].name",
        "fcgi_apps[forum].pools[1].php_value.memory_limit",
        "fcgi_apps[blog].php_value.memory_limit",
    ]


def test_a_system_whose_php_is_not_known_asks_for_the_version():
    (error,) = errors(php(), php=UNKNOWN_SYSTEM)
    assert error.startswith("fcgi_apps[forum].php_version: missing; the version of this distribution is not known here: write it, such as")
    assert made(php(php_version="8.9"), app(), php=UNKNOWN_SYSTEM)


@pytest.mark.parametrize("state", ["absent", "purged"])
def test_an_app_that_goes_needs_no_root_and_no_version(state):
    assert made({"name": "forum", "kind": "php_fpm", "state": state}, php=UNKNOWN_SYSTEM)["programs"] == []


# Between apps


@pytest.mark.parametrize("supervisor", ["fcgivisord", "supervisord"])
@pytest.mark.parametrize(
    "other",
    [
        php("blog", socket="/run/x.sock"),
        php("blog", pools=[{"name": "api", "socket": "unix:/run/x.sock"}]),
        app("blog", socket="/run/x.sock"),
        listener("blog", "unix:/run/x.sock"),
    ],
    ids=["master", "pool", "fcgi", "listener"],
)
def test_a_socket_that_another_app_has_is_refused(other, supervisor):
    (error,) = errors(php(socket="/run/x.sock"), other, supervisor=supervisor)
    assert "is also the address of fcgi_apps[forum]: each app needs its own" in error
    assert error.startswith("fcgi_apps[blog].")


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        ({"pool": {"pm.status_listen": "9101"}}, php("blog", pool={"pm.status_listen": "127.0.0.1:9101"}), "pool.pm.status_listen"),
        ({"pool": {"pm.status_listen": "/run/x.sock"}}, php("blog", socket="/run/x.sock"), "socket"),
        ({"socket": "/run/x.sock"}, php("blog", pools=[{"name": "api", "pool": {"pm.status_listen": "/run/x.sock"}}]), "pools[0].pool.pm.status_listen"),
        ({"pool": {"pm.status_listen": "9101"}}, listener("blog", 9100, processes=2), "listen"),
        ({"pool": {"pm.status_listen": "/run/x.sock"}}, php("blog", pools=[{"name": "api", "socket": "/run/x.sock"}]), "pools[0].socket"),
    ],
)
def test_an_address_at_which_another_app_tells_its_status_is_refused(first, second, place):
    (error,) = errors(php(**first), second)
    assert error.startswith(f"fcgi_apps[blog].{place}: ") and "is also the address of fcgi_apps[forum]: each app needs its own" in error


def test_the_host_is_asked_for_the_addresses_of_a_status_too():
    asked = made(php(pool={"pm.status_listen": "9101"}))["listens"]
    assert {"app": "forum", "address": "tcp://127.0.0.1:9101", "pid_file": "/run/fastcgi/forum/php-fpm.pid"} in asked


def test_two_pools_of_one_app_on_one_socket_are_refused():
    (error,) = errors(php(pools=[{"name": "a", "socket": "127.0.0.1:9000"}, {"name": "b", "socket": "localhost:9000"}]))
    assert error.startswith('fcgi_apps[forum].pools[1].socket: "tcp://localhost:9000" is the address of two things of this app')


@pytest.mark.parametrize("supervisor", ["fcgivisord", "supervisord"])
def test_the_socket_path_of_an_app_that_is_too_long_is_one_error(supervisor):
    (error,) = errors(php(), run_dir="/" + "x" * 105, supervisor=supervisor)
    assert error.startswith("fcgi_apps[forum].socket: ")


def test_a_socket_path_that_is_too_long_is_named_with_its_pool():
    found = errors(php(pools=[{"name": "a", "socket": "/run/a.sock"}, {"name": "b" * 26}]), run_dir="/" + "x" * 80)
    assert [error.split(":")[0] for error in found] == ["fcgi_apps[forum].pools[1].socket"]
    assert "is a path of 119 bytes" in found[0]


def test_apps_may_share_a_user_and_each_has_a_master_of_its_own():
    found = made(php(user="web"), php("blog", user="web"))
    assert len(found["users"]) == 1 and len(found["programs"]) == 2
    assert len({file["path"] for file in found["php_files"]}) == 2


# What works, but rarely as meant


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        ({"reload_signal": "HUP"}, "reload_signal: HUP does not make php-fpm read its configuration: USR2 does"),
        ({"php_admin_value": {"opcache.memory_consumption": 64}}, "php_admin_value.opcache.memory_consumption: has no effect: PHP reads it before"),
        ({"pools": [{"name": "api", "php_value": {"opcache.preload": "/x"}}]}, "pools[0].php_value.opcache.preload: has no effect"),
        ({"stopsignal": "TERM"}, "stopsignal: TERM ends runtime php_fpm in the midst of a request; QUIT let it finish"),
        ({"autorestart": False}, "autorestart: false leaves healthy workers"),
        (
            {"pool": {"request_terminate_timeout": "2m"}, "locations": [{"path": "/"}]},
            "locations[0].read_timeout: 60s is not longer than request_terminate_timeout: nginx gives up first, and the script goes on for nobody",
        ),
        ({"pool": {"request_terminate_timeout": 60}, "locations": [{"path": "/"}]}, "locations[0].read_timeout: 60s is not longer"),
        (
            {"pools": [{"name": "api", "pool": {"request_terminate_timeout": "1h"}}], "locations": [{"path": "/a"}, {"path": "/b", "pool": "api"}]},
            "locations[1].read_timeout: 60s is not longer",
        ),
        (
            {"pool": {"request_terminate_timeout": 1}, "locations": [{"path": "/", "read_timeout": "500ms"}]},
            "locations[0].read_timeout: 500ms is not longer",
        ),
        (
            {"global": {"process_control_timeout": 0}},
            "global.process_control_timeout: 0 has a stop or a reload end requests in flight",
        ),
        ({"locations": [{"path": "/", "params": {"A": "$document_root"}}]}, "locations[0].params.A: $document_root names a link"),
    ],
)
def test_what_rarely_is_meant_is_a_warning(keys, warning):
    (found,) = made(php(**keys))["warnings"]
    assert found.startswith(f"fcgi_apps[forum].{warning}")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"pool": {"request_terminate_timeout": "30s"}},
        {"pool": {"request_terminate_timeout": 0}},
        {"pool": {"request_terminate_timeout": "whenever"}},  # php-fpm says what is wrong with it
        {"pool": {"request_terminate_timeout": "2m"}, "locations": [{"path": "/", "read_timeout": "125s"}]},
        {"php_admin_value": {"memory_limit": "-1", "post_max_size": "0", "upload_max_filesize": "64M"}},
        {"php_admin_value": {"upload_max_filesize": "64M", "post_max_size": "65m"}},
        {"php_admin_value": {"upload_max_filesize": "64M", "post_max_size": "-1"}},
        {"php_admin_value": {"upload_max_filesize": "-1"}},
        {"php_admin_value": {"upload_max_filesize": "1M"}},
        {"start_delay": 5, "php_admin_value": {"opcache.enable": False}},
        {"pools": [{"name": "forum"}]},
        {"allow_remote": True, "pool": {"pm.status_listen": "*:9101"}, "pools": [{"name": "api", "socket": "0.0.0.0:9102"}]},
    ],
)
def test_what_is_meant_is_no_warning(keys):
    assert made(php(**{"locations": [{"path": "/"}], **keys}), supervisor="fcgivisord")["warnings"] == []
