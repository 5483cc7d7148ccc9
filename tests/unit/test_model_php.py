# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kind php_fpm: the program that runs a master, the master's configuration, and what is asked of its pools."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from fcgi_apps import app, errors, located, location, made, php, program

SUPERVISORS = ("fcgivisord", "supervisord")
MASTER = "/usr/sbin/php-fpm8.2 --nodaemonize --force-stderr --fpm-config /etc/fcgi/default/fcgi_php_fpm/current/forum.conf"
RELEASE = {"src": "dist/forum.tar.gz", "version": "1"}
SLOW = {"request_slowlog_timeout": "5s"}


def options(*apps, **given):
    """The section's keys (dict) of the first app."""
    return dict(map(tuple, program(*apps, **given)["options"]))


def script(supervisor="fcgivisord", **keys):
    """What the shell runs."""
    shell, option, text = shlex.split(options(php(**keys), supervisor=supervisor)["command"])
    assert (shell, option) == ("/bin/sh", "-c")
    return text


def sections(*apps, **given):
    """The sections of the first master's configuration, by name; each a dict of its settings, none of which stands there twice."""
    found = {}
    for section in made(*apps, **given)["php_files"][0]["vars"]["fpm"]["sections"]:
        names = [name for name, _value in section["settings"]]
        assert section["name"] not in found and len(names) == len(set(names)), section
        found[section["name"]] = dict(map(tuple, section["settings"]))
    return found


def pool(**keys):
    """The settings (dict) of the only pool, under fcgivisord."""
    found = sections(php(**keys), supervisor="fcgivisord")
    assert list(found) == ["global", "forum"]
    return found["forum"]


# The program


def test_fcgivisord_holds_the_socket_of_a_master_and_hands_it_over():
    found = program(php(), supervisor="fcgivisord")
    assert found["section"] == "fcgi-program:forum"
    assert found["options"] == [
        ["command", f"/bin/sh -c 'exec 3<&0 && FPM_SOCKETS=/run/fastcgi/forum.sock=3 exec {MASTER}'"],
        ["process_name", "%(program_name)s_%(process_num)02d"],
        ["numprocs", "1"],
        ["socket", "unix:///run/fastcgi/forum.sock"],
        ["socket_owner", "fcgi-forum:www-data"],
        ["socket_mode", "0660"],
        ["user", "fcgi-forum"],
        ["directory", "/"],
        ["priority", "999"],
        ["autostart", "true"],
        ["autorestart", "true"],
        ["startsecs", "2"],
        ["startretries", "5"],
        ["exitcodes", "0,2,70"],
        ["stopsignal", "QUIT"],
        ["stopwaitsecs", "15"],
        ["stopasgroup", "false"],
        ["killasgroup", "true"],
        ["redirect_stderr", "true"],
        ["stdout_logfile", "/var/log/fcgi/forum_%(process_num)02d.log"],
        ["stdout_logfile_maxbytes", "50MB"],
        ["stdout_logfile_backups", "10"],
    ]
    assert found["metadata"].pop("reload_digest")
    assert found["metadata"] == {
        "name": "forum", "app": "forum", "kind": "php_fpm", "groups": [], "socket": "unix:///run/fastcgi/forum.sock",
        "listen": ["unix:/run/fastcgi/forum/status.sock"], "user": "fcgi-forum",
        "autostart": True, "startsecs": 2, "stopwaitsecs": 15, "reload_signal": "USR2",
    }  # fmt: skip


def test_under_supervisord_a_master_ends_what_the_one_before_left_waits_and_binds_its_own_socket():
    found = program(php(pools=[{"name": "api"}]), supervisor="supervisord")
    keys = dict(map(tuple, found["options"]))
    assert found["section"] == "program:forum"
    generation = "/etc/fcgi/default/fcgi_php_fpm/current"
    leftovers = f"/bin/sh {generation}/leftovers.sh /run/fastcgi/forum/php-fpm.pid {generation}/forum.conf forum forum_api"
    assert keys["command"] == f"/bin/sh -c '{leftovers} && trap exit QUIT && sleep 1 && exec {MASTER}'"
    assert not [key for key in keys if key.startswith("socket")]
    assert keys["startsecs"] == "3"
    assert found["metadata"]["socket"] is None
    own = ("forum", "api", "status", "api.status")
    assert found["metadata"]["listen"] == [f"unix:/run/fastcgi/forum/{name}.sock" for name in own]


@pytest.mark.parametrize(
    ("delay", "keys", "sleep", "startsecs"),
    [
        (None, {}, "", "2"),
        (5, {}, "trap exit QUIT && sleep 5 && ", "7"),
        (0, {}, "", "2"),
        ("", {}, "", "2"),  # the variable as it is by default: no template of ansible-core 2.18 makes None
        (5, {"start_delay": 0}, "", "2"),
        (None, {"start_delay": 3, "startsecs": 4}, "trap exit QUIT && sleep 3 && ", "4"),
    ],
)
def test_a_start_delay_comes_before_php_fpm_and_counts_for_startsecs(delay, keys, sleep, startsecs):
    found = options(php(**keys), supervisor="fcgivisord", php_fpm_start_delay=delay)
    assert shlex.split(found["command"])[2] == f"{sleep}exec 3<&0 && FPM_SOCKETS=/run/fastcgi/forum.sock=3 exec {MASTER}"
    assert found["startsecs"] == startsecs


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_whatever_stands_between_the_supervisor_and_php_fpm_makes_way(supervisor):
    assert "exec" in script(supervisor).rpartition(" && ")[2].split()[:2]
    assert made(php(), supervisor=supervisor)["warnings"] == []


@pytest.mark.parametrize(
    ("socket", "listens_on"),
    [("/run/x.sock", "/run/x.sock"), ("tcp://127.0.0.1:9000", "127.0.0.1:9000"), (9000, "127.0.0.1:9000"), ("/run/a(b)&.sock", "/run/a(b)&.sock")],
)
def test_php_fpm_finds_the_socket_that_is_handed_over_by_the_name_that_its_pool_gives_it(socket, listens_on):
    words = shlex.split(script(socket=socket))
    assert f"FPM_SOCKETS={listens_on}=3" in words
    assert pool(socket=socket)["listen"] == listens_on


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_all_of_the_section_is_overridable_by_supervisords_names(supervisor):
    keys = {"startsecs": 9, "startretries": 1, "exitcodes": [0], "stopsignal": "TERM", "stopwaitsecs": 99, "killasgroup": False, "autorestart": "unexpected"}
    found = options(php(**keys), supervisor=supervisor)
    overridden = ("9", "1", "0", "TERM", "99", "false", "unexpected")
    assert tuple(found[key] for key in keys) == overridden


@pytest.mark.parametrize(("timeout", "seconds"), [("10s", "15"), ("1m", "65"), (0, "5"), ("90", "95"), ("1h", "3605")])
def test_a_master_that_waits_for_its_workers_is_not_killed_for_it(timeout, seconds):
    assert options(php(**{"global": {"process_control_timeout": timeout}}))["stopwaitsecs"] == seconds


def test_each_version_has_its_own_executable():
    assert "exec /usr/sbin/php-fpm8.3 " in script(php_version="8.3")
    assert [item["command"] for item in made(php(php_version="8.3"))["php"]["checks"]] == ["/usr/sbin/php-fpm8.3"]


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_secrets_of_the_environment_stand_in_the_masters_configuration_and_nowhere_else(supervisor):
    found = made(php(environment={"FORUM_DB": "hush"}, pools=[{"name": "api", "environment": {"KEY": "hush"}}]), supervisor=supervisor)
    del found["apps"]
    assert json.dumps(found.pop("php_files")).count("hush") == 3
    assert "hush" not in json.dumps(found)


# What a change causes


def marks(supervisor, others=(), **keys):
    """What the supervisor sees (the section with its environment), and what asks for a reload."""
    found = program(php(**keys), *others, supervisor=supervisor)
    return json.dumps([found["options"], found["environment"]]), found["metadata"]["reload_digest"]


@pytest.mark.parametrize("supervisor", SUPERVISORS)
@pytest.mark.parametrize(
    "change",
    [
        {"pool": {"pm.max_children": 7}},
        {"php_value": {"date.timezone": "UTC"}},
        {"php_admin_value": {"memory_limit": "256M"}},
        {"environment": {"A": "b"}},
        {"php_extensions": ["gd"]},
        {"global": {"emergency_restart_threshold": 5}},
        {"release": {**RELEASE, "version": "2"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_only_the_master_reads_asks_for_a_reload_and_no_restart(change, supervisor):
    before, after = marks(supervisor, release=RELEASE), marks(supervisor, **{"release": RELEASE, **change})
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


@pytest.mark.parametrize("supervisor", SUPERVISORS)
@pytest.mark.parametrize(
    "change",
    [
        {"user": "web"},
        {"php_version": "8.3"},
        {"socket": "/run/other.sock"},
        {"directory": "/srv"},
        {"pools": [{"name": "api"}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_only_a_restart_applies_shows_in_the_section(change, supervisor):
    assert marks(supervisor)[0] != marks(supervisor, **change)[0]


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_the_socket_of_a_further_pool_shows_in_the_section(supervisor):
    api, moved = {"name": "api"}, {"name": "api", "socket": "/run/api.sock"}
    assert marks(supervisor, pools=[api])[0] != marks(supervisor, pools=[moved])[0]
    more = {**api, "pool": {"pm.max_children": 9}, "environment": {"A": "b"}, "php_value": {"date.timezone": "UTC"}}
    assert marks(supervisor, pools=[api])[0] == marks(supervisor, pools=[more])[0]
    assert marks(supervisor, pools=[api])[1] != marks(supervisor, pools=[more])[1]


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_the_group_of_nginx_for_which_php_fpm_binds_its_sockets_shows_in_the_section(supervisor):
    def environment(group):
        return program(php(), supervisor=supervisor, nginx_group=group)["environment"]

    assert environment("www-data") != environment("nginx")


def test_the_backlog_is_the_supervisors_where_that_holds_the_socket():
    for supervisor in SUPERVISORS:
        assert marks(supervisor)[0] != marks(supervisor, socket_backlog=99)[0]
    assert marks("fcgivisord")[1] == marks("fcgivisord", socket_backlog=99)[1]


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_what_concerns_nginx_or_other_apps_touches_no_master(supervisor):
    elsewhere = {"locations": [{"path": "/forum"}], "health": {"path": "/forum/"}, "root": "/srv/forum", "groups": ["web"]}
    assert marks(supervisor) == marks(supervisor, others=[php("blog", socket="/run/blog.sock"), app()], **elsewhere)


def test_a_purged_app_loses_its_directories_of_sockets_and_slow_logs_too():
    (purged,) = made({**php(), "state": "purged"})["purged"]
    assert {"/run/fastcgi/forum", "/var/log/fcgi/forum"} <= set(purged["paths"])
    (other,) = made({**app("forum"), "state": "purged"})["purged"]
    assert not {"/run/fastcgi/forum", "/var/log/fcgi/forum"} & set(other["paths"])


def test_kinds_without_a_configuration_of_their_own_have_no_digest_of_it():
    assert program(app())["metadata"]["reload_digest"] is None


# The master's configuration


def test_a_small_app_has_a_master_with_one_pool_and_a_default_for_everything_else():
    assert sections(php(), supervisor="fcgivisord") == {
        "global": {"pid": "/run/fastcgi/forum/php-fpm.pid", "error_log": "syslog", "daemonize": False, "process_control_timeout": "10s"},
        "forum": {
            "listen": "/run/fastcgi/forum.sock",
            "pm": "dynamic",
            "pm.max_children": 5,
            "pm.start_servers": 2,
            "pm.min_spare_servers": 1,
            "pm.max_spare_servers": 3,
            "ping.path": "/fpm-ping",
            "pm.status_path": "/fpm-status",
            "pm.status_listen": "/run/fastcgi/forum/status.sock",
            "catch_workers_output": True,
            "decorate_workers_output": False,
            "env[HOME]": "/nonexistent",
            "env[USER]": "fcgi-forum",
            "env[LOGNAME]": "fcgi-forum",
        },
    }


def test_a_socket_that_php_fpm_binds_is_for_nginxs_group_which_its_directory_hands_down():
    found = made(php(socket_backlog=99), supervisor="supervisord")
    settings = dict(map(tuple, found["php_files"][0]["vars"]["fpm"]["sections"][1]["settings"]))
    assert {key: settings[key] for key in settings if key.startswith("listen")} == {
        "listen": "/run/fastcgi/forum/forum.sock", "listen.mode": "0660", "listen.backlog": 99,
    }  # fmt: skip
    assert found["directories"] == [{"path": "/run/fastcgi/forum", "owner": "fcgi-forum", "group": "www-data", "mode": "2750"}]


def test_a_port_has_no_mode():
    settings = sections(php(socket="127.0.0.1:9000"), supervisor="supervisord")["forum"]
    assert {key: settings[key] for key in settings if key.startswith("listen")} == {"listen": "127.0.0.1:9000"}


def test_directives_under_php_fpms_own_names_win_over_the_defaults():
    given = {"pm": "ondemand", "pm.max_children": "50", "ping.path": "/alive", "catch_workers_output": False, "security.limit_extensions": ".php .phtml"}
    found = pool(pool=given)
    assert {key: found[key] for key in given} == given
    assert sections(php(**{"global": {"process_control_timeout": "1m", "rlimit_files": 4096}}))["global"].items() >= {
        ("process_control_timeout", "1m"), ("rlimit_files", "4096"),
    }  # fmt: skip


@pytest.mark.parametrize("manager", ["static", "ondemand"])
def test_spare_processes_are_a_matter_of_dynamic_pools_alone(manager):
    assert not [key for key in pool(pool={"pm": manager}) if "spare" in key or "start" in key]


@pytest.mark.parametrize(
    ("given", "spare"),
    [
        ({"pm.max_children": 1}, (1, 1, 1)),
        ({"pm.max_children": 2}, (1, 1, 2)),
        ({"pm.max_children": 50}, (1, 2, 3)),
        ({"pm.max_children": 50, "pm.min_spare_servers": "5"}, (5, 5, 5)),
        ({"pm.max_children": 50, "pm.max_spare_servers": 20}, (1, 10, 20)),
        ({"pm.max_children": 50, "pm.min_spare_servers": 5, "pm.max_spare_servers": 10}, (5, 7, 10)),
        ({"pm.max_children": 50, "pm.start_servers": 3}, (1, 3, 3)),
        ({"pm.max_children": "many", "pm.max_spare_servers": "some"}, (1, 2, "some")),  # for php-fpm to refuse
    ],
)
def test_spare_processes_that_are_not_given_fit_to_those_that_are(given, spare):
    found = pool(pool=given)
    assert [str(found[f"pm.{name}"]) for name in ("min_spare_servers", "start_servers", "max_spare_servers")] == list(map(str, spare))


def test_settings_of_php_are_values_and_flags_for_scripts_or_for_the_operator_alone():
    found = pool(
        php_value={"date.timezone": "UTC", "display_errors": True}, php_admin_value={"memory_limit": "256M", "log_errors": "on", "opcache.enable": "no"}
    )
    assert {key: found[key] for key in found if key.startswith("php_")} == {
        "php_value[date.timezone]": "UTC",
        "php_flag[display_errors]": True,
        "php_admin_value[memory_limit]": "256M",
        "php_admin_flag[log_errors]": True,
        "php_admin_flag[opcache.enable]": False,
    }


def test_the_environment_of_scripts_is_the_operators_over_the_users():
    found = pool(environment={"HOME": "/srv/forum", "N": 1, "ON": True}, home="/srv/elsewhere")
    assert {key: found[key] for key in found if key.startswith("env[")} == {
        "env[HOME]": "/srv/forum", "env[USER]": "fcgi-forum", "env[LOGNAME]": "fcgi-forum", "env[N]": "1", "env[ON]": "true",
    }  # fmt: skip


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_a_further_pool_has_its_own_socket_and_settings_and_the_apps_environment(supervisor):
    api = {"name": "api", "pool": {"pm": "static"}, "php_admin_value": {"memory_limit": "1G"}, "environment": {"B": "api"}}
    found = sections(php(environment={"A": "app", "B": "app"}, php_value={"date.timezone": "UTC"}, pools=[api]), supervisor=supervisor)
    assert list(found) == ["global", "forum", "forum_api"]
    assert found["forum_api"] == {
        "listen": "/run/fastcgi/forum/api.sock",
        "listen.mode": "0660",
        "pm": "static",
        "pm.max_children": 5,
        "ping.path": "/fpm-ping",
        "pm.status_path": "/fpm-status",
        "pm.status_listen": "/run/fastcgi/forum/api.status.sock",
        "catch_workers_output": True,
        "decorate_workers_output": False,
        "env[HOME]": "/nonexistent",
        "env[USER]": "fcgi-forum",
        "env[LOGNAME]": "fcgi-forum",
        "env[A]": "app",
        "env[B]": "api",
        "php_admin_value[memory_limit]": "1G",
    }
    assert found["forum"]["env[B]"] == "app"


def test_the_socket_of_a_further_pool_is_php_fpms_own_to_bind():
    found = made(php(pools=[{"name": "api"}]), supervisor="fcgivisord")
    own = ("api", "status", "api.status")
    assert found["programs"][0]["metadata"]["listen"] == [f"unix:/run/fastcgi/forum/{name}.sock" for name in own]
    # By its pid file the preflight knows whose processes hold them, which a killed master may have left.
    assert found["listens"] == [
        {"app": "forum", "address": f"unix:///run/fastcgi/{name}.sock", "pid_file": "/run/fastcgi/forum/php-fpm.pid"}
        for name in ("forum", *(f"forum/{name}" for name in own))
    ]


def test_a_slow_log_has_a_directory_that_the_master_may_write():
    found = made(php(pool=SLOW, pools=[{"name": "api", "pool": SLOW}, {"name": "batch"}]))
    _globals, own, api, batch = (dict(map(tuple, section["settings"])) for section in found["php_files"][0]["vars"]["fpm"]["sections"])
    assert (own["slowlog"], api["slowlog"]) == ("/var/log/fcgi/forum/slow.log", "/var/log/fcgi/forum/api.slow.log")
    assert "slowlog" not in batch
    assert found["directories"][1:] == [{"path": "/var/log/fcgi/forum", "owner": "fcgi-forum", "group": "fcgi-forum", "mode": "0750"}]


def test_a_slow_log_elsewhere_is_the_operators_business():
    found = made(php(pool={**SLOW, "slowlog": "/srv/log/slow"}))
    assert len(found["directories"]) == 1
    assert dict(map(tuple, found["php_files"][0]["vars"]["fpm"]["sections"][1]["settings"]))["slowlog"] == "/srv/log/slow"


@pytest.mark.parametrize(("version", "beside"), [("7.4", False), ("8.0", True), ("8.10", True), ("10.0", True)])
def test_a_php_that_is_too_old_for_it_has_no_socket_beside_its_pool(version, beside):
    assert ("pm.status_listen" in pool(php_version=version)) is beside


def test_every_file_is_readable_for_the_group_of_its_app():
    assert [(file["path"], file["group"]) for file in made(php(), php("blog", user="web", group="staff"))["php_files"]] == [
        ("forum.conf", "fcgi-forum"), ("blog.conf", "staff"),
    ]  # fmt: skip


# Where the scripts are


@pytest.mark.parametrize(
    ("keys", "root"),
    [
        ({"root": "/usr/share/forum/"}, "/usr/share/forum"),
        ({"release": RELEASE, "root": None}, "/srv/fcgi/forum/current"),
        ({"release": RELEASE, "root": "."}, "/srv/fcgi/forum/current"),
        ({"release": RELEASE, "root": "public"}, "/srv/fcgi/forum/current/public"),
        ({"release": RELEASE, "root": "/usr/share/forum"}, "/usr/share/forum"),
        ({"root": "/"}, "/"),
    ],
)
def test_the_document_root_is_a_path_or_one_inside_the_release(keys, root):
    assert location(php(locations=[{"path": "/forum"}], **keys))["php"]["root"] == root


# What php-fpm has to be on the host


def test_installation_names_each_package_executable_and_service_once_and_each_app_in_a_check():
    apps = [
        php("forum", php_extensions=["gd", "mbstring"]),
        php("blog", php_extensions=["gd"], user="web"),
        php("old", php_version="7.4", php_extensions="xml"),
        php("gone", php_version="5.6", state="absent"),
        app(),
    ]
    assert made(*apps)["php"] == {
        "packages": ["php7.4-fpm", "php8.2-fpm", "php7.4-xml", "php8.2-gd", "php8.2-mbstring"],
        "commands": ["/usr/sbin/php-fpm7.4", "/usr/sbin/php-fpm8.2"],
        "services": [
            {"name": "php7.4-fpm", "pool_dir": "/etc/php/7.4/fpm/pool.d", "command": "/usr/sbin/php-fpm7.4"},
            {"name": "php8.2-fpm", "pool_dir": "/etc/php/8.2/fpm/pool.d", "command": "/usr/sbin/php-fpm8.2"},
        ],
        "checks": [
            {"app": "forum", "user": "fcgi-forum", "command": "/usr/sbin/php-fpm8.2", "file": "forum.conf", "version": ""},
            {"app": "blog", "user": "web", "command": "/usr/sbin/php-fpm8.2", "file": "blog.conf", "version": ""},
            {"app": "old", "user": "fcgi-old", "command": "/usr/sbin/php-fpm7.4", "file": "old.conf", "version": "7.4"},
        ],
    }


def test_without_apps_of_the_kind_nothing_of_php_is_asked_for():
    found = made(app())
    assert found["php"] == {"packages": [], "commands": [], "services": [], "checks": []}
    assert found["php_files"] == found["status_probes"] == found["directories"] == []


def test_the_names_are_the_operating_systems():
    names = {"version": "8.9", "command": "/opt/php{version}/fpm", "package": "php{version}", "extension": "php{version}-php-{extension}"}
    found = made(php(php_extensions=["gd"]), php={**names, "service": "fpm-{version}", "pool_dir": "/etc/fpm.d"})
    assert found["php"]["packages"] == ["php8.9", "php8.9-php-gd"]
    assert found["php"]["services"] == [{"name": "fpm-8.9", "pool_dir": "/etc/fpm.d", "command": "/opt/php8.9/fpm"}]
    assert "exec /opt/php8.9/fpm " in dict(map(tuple, found["programs"][0]["options"]))["command"]


# roles/fcgi/vars/RedHat.yml
OF_RHEL = {
    "version": "8.0", "command": "/usr/sbin/php-fpm", "package": "php-fpm", "extension": "php-{extension}", "extension_mysql": "php-mysqlnd",
    "service": "php-fpm", "pool_dir": "/etc/php-fpm.d",
}  # fmt: skip


def test_where_a_host_has_one_php_its_names_have_no_version_and_one_extension_has_a_name_of_its_own():
    found = made(php(php_extensions=["gd", "mysql"]), php("blog", php_version="8.0", php_extensions=["gd"]), php=OF_RHEL)["php"]
    assert found["packages"] == ["php-fpm", "php-gd", "php-mysqlnd"]
    assert found["commands"] == ["/usr/sbin/php-fpm"]
    assert found["services"] == [{"name": "php-fpm", "pool_dir": "/etc/php-fpm.d", "command": "/usr/sbin/php-fpm"}]
    assert [check["version"] for check in found["checks"]] == ["", "8.0"]


def test_a_version_that_is_expected_of_the_host_is_one_to_check():
    found = made(php(), php("blog", php_version="8.2"), php={**OF_RHEL, "version": "8.2", "version_asked": "8.2"})["php"]
    assert [check["version"] for check in found["checks"]] == ["8.2", "8.2"]


def test_where_a_host_has_one_php_no_app_has_another():
    (error,) = errors(php(php_version="8.2"), php=OF_RHEL)
    assert error.startswith('fcgi_apps[forum].php_version: "8.2" is not the version of this host, 8.0, and it has one alone: leave it out;')
    assert "fcgi_php_fpm_version" in error


def test_php_fpm_itself_is_no_command_that_has_to_be_there_before_it_is_installed():
    assert made(php())["commands"] == []


# What is asked of the pools


def test_a_deployment_asks_for_the_ping_page_which_counts_as_a_request():
    (probe,) = made(php())["probes"]
    assert probe == {
        "name": "forum", "address": "unix:/run/fastcgi/forum/forum.sock", "mode": "request", "script_name": "/fpm-ping",
        "params": {"SCRIPT_FILENAME": "/fpm-ping"}, "body": "^pong", "timeout": 5, "deadline": 30,
    }  # fmt: skip


def test_a_ping_page_of_the_operators_is_asked_for_as_he_wrote_it():
    (probe,) = made(php(pool={"ping.path": "/alive", "ping.response": "I'm alive (really)."}))["probes"]
    assert probe["script_name"] == probe["params"]["SCRIPT_FILENAME"] == "/alive"
    assert re.search(probe["body"], "I'm alive (really).") and not re.search(probe["body"], "pong")


HEALTHY_LOCATIONS = [
    {"path": "/forum", "server_name": "forum.example.org", "params": {"A": "b", "C": "$host"}},
    {"path": "/board", "front_controller": True},
    {"path": "/api", "pool": "api"},
    {"path": "/start", "index": ["start.html", "start.php"], "front_controller": True},
]


@pytest.mark.parametrize(
    ("path", "script_name", "file", "path_info"),
    [
        ("/forum/", "/forum/index.php", "/index.php", ""),
        ("/forum/sub/", "/forum/sub/index.php", "/sub/index.php", ""),
        ("/forum/health.php", "/forum/health.php", "/health.php", ""),
        ("/forum/health.php/deep", "/forum/health.php", "/health.php", "/deep"),
        ("/forum/a%20b.php", "/forum/a b.php", "/a b.php", ""),
        ("/forum", "/forum/index.php", "/index.php", ""),
        ("/forum/x.php/%0a", "/forum/x.php", "/x.php", "/\n"),
        ("/start/", "/start/start.php", "/start.php", ""),
        ("/start/x", "/start/index.php", "/index.php", ""),
        ("/board/", "/board/index.php", "/index.php", ""),
        ("/board/health/deep", "/board/index.php", "/index.php", ""),
        ("/board/health.php", "/board/health.php", "/health.php", ""),
        ("/elsewhere/x.php", "/elsewhere/x.php", "/elsewhere/x.php", ""),
    ],
)
def test_health_is_asked_for_with_the_script_that_nginx_would_find(path, script_name, file, path_info):
    (probe,) = made(php(health={"path": f"{path}?deep=1"}, locations=HEALTHY_LOCATIONS, pools=[{"name": "api"}]))["probes"]
    assert (probe["mode"], probe["method"], probe["query"], probe["status"]) == ("request", "GET", "deep=1", [200])
    assert (probe["script_name"], probe["path_info"]) == (script_name, path_info)
    assert probe["params"]["SCRIPT_FILENAME"] == f"/usr/share/forum{file}"
    assert probe["params"]["DOCUMENT_ROOT"] == "/usr/share/forum"
    assert probe["address"] == "unix:/run/fastcgi/forum/forum.sock"


def test_health_is_asked_for_with_the_host_and_the_parameters_of_its_location():
    (probe,) = made(php(health={"path": "/forum/"}, locations=HEALTHY_LOCATIONS, pools=[{"name": "api"}]))["probes"]
    del probe["params"]["SCRIPT_FILENAME"], probe["params"]["DOCUMENT_ROOT"]
    assert probe["params"] == {"SERVER_NAME": "forum.example.org", "HTTP_HOST": "forum.example.org", "A": "b"}


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_health_of_a_location_of_a_further_pool_is_asked_of_that_pool(supervisor):
    (probe,) = made(php(health={"path": "/api/x.php"}, locations=HEALTHY_LOCATIONS, pools=[{"name": "api"}]), supervisor=supervisor)["probes"]
    assert probe["address"] == "unix:/run/fastcgi/forum/api.sock"


@pytest.mark.parametrize("keys", [{"health": False}, {"autostart": False}])
def test_what_is_not_to_answer_is_not_asked(keys):
    assert made(php(**keys))["probes"] == []


def test_each_pool_tells_its_status_at_a_socket_of_its_own():
    found = made(php(pools=[{"name": "api", "pool": {"pm.status_path": "/status"}}]), php("old", php_version="7.4"), app(), supervisor="fcgivisord")
    assert found["status_probes"] == [
        {"name": name, "address": f"unix:/run/fastcgi/{socket}", "mode": "php_fpm_status", "script_name": path, "timeout": 2}
        for name, socket, path in (
            ("forum", "forum/status.sock", "/fpm-status"),
            ("forum api", "forum/api.status.sock", "/status"),
            ("old", "old.sock", "/fpm-status"),
        )
    ]


def test_a_pool_that_does_not_start_by_itself_tells_no_status():
    assert made(php(autostart=False))["status_probes"] == []


@pytest.mark.parametrize("port", ["127.0.0.1:9101", 9101])
def test_a_status_may_be_told_at_a_port_of_this_host(port):
    (probe,) = made(php(pool={"pm.status_listen": port}))["status_probes"]
    assert probe["address"] == pool(pool={"pm.status_listen": port})["pm.status_listen"] == "127.0.0.1:9101"


# nginx


def test_a_pool_that_a_location_names_is_an_upstream_of_its_own():
    locations = [{"path": "/forum"}, {"path": "/api", "pool": "api"}, {"path": "/v2", "pool": "api"}]
    found = made(php(locations=locations, pools=[{"name": "api"}, {"name": "batch"}]), supervisor="fcgivisord")
    assert [(upstream["name"], {server["address"] for server in upstream["servers"]}) for upstream in found["upstreams"]] == [
        ("fcgi_default.forum", {"unix:/run/fastcgi/forum.sock"}),
        ("fcgi_default.forum.api", {"unix:/run/fastcgi/forum/api.sock"}),
    ]
    assert [item["upstream"] for item in found["servers"][0]["locations"]] == ["fcgi_default.forum", "fcgi_default.forum.api", "fcgi_default.forum.api"]
    assert all(len(upstream["servers"]) == 2 for upstream in found["upstreams"])


@pytest.mark.parametrize(
    ("keys", "limit"),
    [
        ({}, "8M"),
        ({"php_admin_value": {"post_max_size": "65M"}}, "65M"),
        ({"php_value": {"post_max_size": "1G"}}, "1G"),
        ({"php_value": {"post_max_size": "1G"}, "php_admin_value": {"post_max_size": "9M"}}, "9M"),
        ({"php_value": {"post_max_size": 0}}, "0"),
        ({"php_value": {"post_max_size": "-1"}}, "0"),
    ],
)
def test_nginx_takes_what_php_would_take_and_no_more(keys, limit):
    found = location(php(locations=[{"path": "/forum"}], **keys))
    assert found["php"]["client_max_body_size"] == limit
    assert "client_max_body_size" not in dict(found["directives"])


def test_nginx_takes_what_the_pool_of_its_location_would_take():
    api = {"name": "api", "php_admin_value": {"post_max_size": "99M"}}
    locations = [{"path": "/api", "pool": "api"}, {"path": "/forum", "client_max_body_size": "3m"}]
    found = made(php(pools=[api], locations=locations))["servers"][0]["locations"]
    assert [item["php"]["client_max_body_size"] for item in found] == ["99M", "3m"]


def test_kinds_that_know_no_such_limit_leave_it_to_nginx():
    assert "client_max_body_size" not in dict(location(located())["directives"])


@pytest.mark.parametrize(
    ("path", "uri", "script_and_info"),
    [
        ("/forum", "/forum/x.php", ("/x.php", None)),
        ("/forum", "/forum/a/b.php", ("/a/b.php", None)),
        ("/forum", "/forum/x.php/", ("/x.php", "/")),
        ("/forum", "/forum/x.php/more/y.php", ("/x.php", "/more/y.php")),
        ("/forum", "/forum/x.php/a\nb", ("/x.php", "/a\nb")),
        ("/forum", "/forum/x.php/\n", ("/x.php", "/\n")),
        ("/forum", "/forum/a\nb.php", ("/a\nb.php", None)),
        ("/forum", "/forum/upload.jpg/x.php", ("/upload.jpg/x.php", None)),
        ("/forum", "/forum/x.php.jpg", None),
        ("/forum", "/forum/x.php\n", None),
        ("/forum", "/forum/.php", None),
        ("/forum", "/forum/x.PHP", None),
        ("/a.b", "/a.b/x.php", ("/x.php", None)),
        ("/a.b", "/acb/x.php", None),
        ("/", "/x.php", ("/x.php", None)),
        ("/", "/sub/x.php/info", ("/sub/x.php", "/info")),
    ],
)
def test_a_script_is_the_first_part_of_a_path_that_ends_in_php_whatever_follows(path, uri, script_and_info):
    expression = location(php(locations=[{"path": path}]), fcgi_set="a")["php"]["script"]
    found = re.search(expression.replace("?<", "?P<").replace(r"\z", r"\Z"), uri)
    assert (found and (found["fcgi_a_script"], found["fcgi_a_script_info"])) == script_and_info


def test_scripts_are_passed_on_by_their_real_path_so_that_a_release_switch_is_seen_at_once():
    params = dict(map(tuple, location(php(locations=[{"path": "/forum"}]))["params"]))
    assert {name: params[name] for name in ("SCRIPT_NAME", "PATH_INFO", "DOCUMENT_ROOT", "SCRIPT_FILENAME")} == {
        "SCRIPT_NAME": "/forum$fcgi_default_script",
        "PATH_INFO": "$fcgi_default_script_info",
        "DOCUMENT_ROOT": "$realpath_root",
        "SCRIPT_FILENAME": "$realpath_root$fcgi_default_script",
    }
    assert dict(map(tuple, location(php(locations=[{"path": "/"}]))["params"]))["SCRIPT_NAME"] == "$fcgi_default_script"


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"path": "/forum"}, {"prefix": "/forum", "directory": "^~ /forum/", "index": ["index.php", "index.html"], "front_controller": None, "denied": []}),
        ({"path": "/", "index": "app.php", "front_controller": True}, {"prefix": "", "directory": "/", "index": ["app.php"], "front_controller": "/index.php"}),
        ({"path": "/forum/", "front_controller": True}, {"front_controller": "/forum/index.php"}),
        ({"path": "/forum", "deny": ["/data", "/conf/", "/data/"]}, {"denied": ["/forum/data", "/forum/conf"]}),
        ({"path": "/", "deny": "/data"}, {"denied": ["/data"]}),
    ],
)
def test_a_location_of_php_has_files_and_in_them_scripts(keys, found):
    assert location(php(locations=[keys]))["php"].items() >= found.items()


@pytest.mark.parametrize(
    ("uri", "hidden"),
    [
        ("/forum/.git/config", True),
        ("/forum/.htaccess", True),
        ("/forum/a/.env", True),
        ("/forum/.well-known/acme-challenge/x", False),
        ("/forum/.well-known/.git/config", True),
        ("/forum/.well-knownish/x", True),
        ("/forum/a.b/c", False),
        ("/forum/x\n/.git", True),
    ],
)
def test_hidden_files_are_hidden_but_for_well_known_ones(uri, hidden):
    assert bool(re.search(location(php(locations=[{"path": "/forum"}]))["php"]["hidden"], uri)) is hidden
