# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_host_info against real listeners, a real supervisord and a real nginx."""

from __future__ import annotations

import fnmatch
import grp
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import host_info
import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import host, nginx_conf
from ansible_collections.webops.fastcgi.plugins.modules import fcgi_host_info
from forked import run_forked
from ports import free_port

pytestmark = pytest.mark.machine

USER = "nobody"


@pytest.fixture
def directory():
    """A directory that every user can reach (pytest's own is the tester's alone), with a short path for sockets."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="fcgi-info-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def look(run_module, directory):
    """Run the module; nothing of this machine's own supervisord and nginx gets in."""

    def call(**args):
        result = run_module("fcgi_host_info", {**host_info.places(directory), **args})
        assert result.get("changed") is False, result
        assert result["nginx"]["pid_file"] == f"{directory}/nginx.pid", "the test looks at this machine's nginx"
        return result

    return call


@pytest.fixture
def refused(run_module, directory):
    """Run the module, which fails; returns what it says."""

    def call(**args):
        result = run_module("fcgi_host_info", {**host_info.places(directory), **args})
        assert result["failed"], result
        return result["msg"]

    return call


LISTENER = """
import socket, sys
family, address = sys.argv[1:]
listener = socket.socket(getattr(socket, family))
listener.bind(address if family == "AF_UNIX" else (address, 0))
listener.listen()
print("listening" if family == "AF_UNIX" else listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def listener(family, address):
    """A process that listens, until the block ends; gives (process, the port or 'listening')."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER, family, str(address)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process, process.stdout.readline().strip()
        process.stdin.close()


@contextmanager
def supervisord(directory, configuration, running):
    """A supervisord whose programs in ``running`` run, until the block ends."""
    (directory / "supervisord.conf").write_text(f"""
[unix_http_server]
file={directory}/supervisor.sock
username=somebody
password=something
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
pidfile={directory}/supervisord.pid
logfile={directory}/supervisord.log
nodaemon=true
{configuration}""")
    binary = pathlib.Path(sys.executable).with_name("supervisord")
    with subprocess.Popen([binary, "-c", directory / "supervisord.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        waiting = set(running)
        try:
            while waiting:
                line = process.stdout.readline()
                assert line, f"supervisord ended with {process.wait()}"
                assert "entered FATAL" not in line, line
                waiting -= {name for name in waiting if f"success: {name} entered RUNNING" in line}
            yield process
        finally:
            process.terminate()
            process.communicate()


# Addresses.


def test_a_port_that_a_foreign_process_listens_on_is_a_problem_that_names_it(look):
    with listener("AF_INET", "127.0.0.1") as (process, port):
        result = look(listens=[{"app": "shop", "address": f"tcp://127.0.0.1:{port}"}, {"app": "blog", "address": f"127.0.0.2:{port}"}])
        name = pathlib.Path(f"/proc/{process.pid}/comm").read_text().strip()
    assert result["problems"] == [f"fcgi_apps[shop]: tcp://127.0.0.1:{port} is in use by {name} (pid {process.pid}): stop it, or choose another address"]


@pytest.mark.parametrize(
    ("family", "bound", "wanted", "in_the_way"),
    [
        ("AF_INET", "0.0.0.0", "127.0.0.1", True),
        ("AF_INET", "127.0.0.1", "0.0.0.0", True),
        ("AF_INET", "127.0.0.1", "", True),
        ("AF_INET", "127.0.0.1", "localhost", True),
        ("AF_INET6", "::", "127.0.0.1", True),
        ("AF_INET6", "::ffff:127.0.0.1", "127.0.0.1", True),
        ("AF_INET6", "::1", "[::1]", True),
        ("AF_INET6", "::1", "[::]", True),
        ("AF_INET", "127.0.0.1", "[::]", True),
        ("AF_INET", "0.0.0.0", "[::1]", False),
        ("AF_INET", "127.0.0.1", "127.0.0.2", False),
        ("AF_INET6", "::1", "127.0.0.1", False),
    ],
)
def test_wildcards_and_both_families_are_understood(family, bound, wanted, in_the_way):
    with listener(family, bound) as (process, port):
        host.tcp_listeners.cache_clear()
        host.socket_holders.cache_clear()
        problem = host.listen_problem(f"{wanted}:{port}", own=set())
    assert (f"(pid {process.pid})" in problem) == in_the_way == bool(problem)


def test_a_unix_socket_is_a_problem_while_a_foreign_process_listens_on_it(look, directory):
    path = directory / "shop.sock"
    listens = [{"app": "shop", "address": f"unix://{path}"}]
    with listener("AF_UNIX", path) as (process, _port):
        (problem,) = look(listens=listens)["problems"]
        (directory / "link").symlink_to(directory)
        (same,) = look(listens=[{"app": "shop", "address": f"unix://{directory}/link/shop.sock"}])["problems"]
    assert problem.startswith(f"fcgi_apps[shop]: unix://{path} is in use by ") and f"(pid {process.pid})" in problem
    assert f"(pid {process.pid})" in same
    assert path.exists() and look(listens=listens)["problems"] == []


def test_what_the_process_group_of_an_apps_master_holds_is_free_for_the_app(look, directory):
    pid_file, path = directory / "php-fpm.pid", directory / "blog.sock"
    with listener("AF_UNIX", path) as (process, _port):
        problems = {}
        for leader in (process.pid, os.getpid(), "1 or so", ""):
            pid_file.write_text(str(leader))
            problems[leader] = look(listens=[{"app": "blog", "address": f"unix://{path}", "pid_file": str(pid_file)}])["problems"]
    assert problems.pop(process.pid) == []
    assert all(f"(pid {process.pid})" in found[0] for found in problems.values())


def test_a_pid_file_that_an_app_made_a_pipe_or_a_link_holds_nobody_up(look, directory):
    os.mkfifo(directory / "pipe")
    (directory / "link").symlink_to("/dev/zero")
    with listener("AF_UNIX", directory / "blog.sock") as (process, _port):
        for name in ("pipe", "link", "missing"):
            listens = [{"app": "blog", "address": f"unix://{directory}/blog.sock", "pid_file": str(directory / name)}]
            assert f"(pid {process.pid})" in look(listens=listens)["problems"][0]


def test_a_path_that_cannot_become_a_socket_is_a_problem(look, directory):
    (directory / "file").write_text("")
    long = "/run/" + "x" * 103
    addresses = {
        "shop": f"unix:{directory}/file",
        "blog": f"unix://{long}",
        "news": f"unix://{long[:-1]}",
        "wiki": "no-such-host.invalid:80",
    }
    result = look(listens=[{"app": app, "address": address} for app, address in addresses.items()])
    shop, blog, wiki = result["problems"]
    assert shop == f"fcgi_apps[shop]: unix:{directory}/file exists and is no socket: move it out of the way, or choose another path"
    assert blog == f"fcgi_apps[blog]: unix://{long} is a path of 108 bytes, where a unix socket's can have 107: choose a shorter one"
    assert wiki.startswith("fcgi_apps[wiki]: no-such-host.invalid:80 cannot be resolved to an address (")


def test_what_the_supervisor_and_its_programs_listen_on_is_a_problem_only_for_those_of_others(look, directory):
    port, free = free_port(), free_port()
    os.mkfifo(directory / "listens")
    (directory / "listen.py").write_text(
        f"import socket, time\ns = socket.create_server(('127.0.0.1', {free}))\nopen('{directory}/listens', 'w').close()\ntime.sleep(60)\n"
    )
    programs = f"""
[fcgi-program:shared]
command=/bin/sleep 60
socket=unix://{directory}/shared.sock
[fcgi-program:tcp]
command=/bin/sleep 60
socket=tcp://127.0.0.1:{port}
[program:own]
command=/bin/sh -c "'{sys.executable}' {directory}/listen.py & wait"
stopasgroup=true
"""
    addresses = [f"unix://{directory}/shared.sock", f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{free}"]
    listens = [{"app": "shop", "address": address} for address in addresses]
    with supervisord(directory, programs, ["shared", "tcp", "own"]) as process:
        (directory / "listens").read_text()
        result = look(listens=listens)
        configuration = str(directory / "supervisord.conf")
        ours = look(listens=listens, supervisord_conf=configuration, own=configuration)
        theirs = look(listens=listens, supervisord_conf=configuration)
        elsewhere = look(listens=listens, url="unix:///nowhere.sock")
    assert result["problems"] == ours["problems"] == []
    assert [problem.split(" is in use by ")[0] for problem in theirs["problems"]] == [f"fcgi_apps[shop]: {address}" for address in addresses]
    assert " is in use by sleep (pid " in theirs["problems"][0]
    assert result["supervisord"]["running"] and result["supervisord"]["pid"] == process.pid
    assert len(elsewhere["problems"]) == 3 and not elsewhere["supervisord"]["running"]


def test_another_user_than_root_is_told_that_it_takes_root():
    result = run_forked(fcgi_host_info, {}, lambda: os.setuid(pwd.getpwnam(USER).pw_uid))
    assert result["failed"] and f"this ran as uid {pwd.getpwnam(USER).pw_uid}: give the play become: true" in result["msg"]


def test_an_address_that_is_none_is_an_error_that_shows_it(refused):
    assert refused(listens=[{"app": "shop", "address": "somewhere"}]) == "'somewhere' is neither unix:///PATH nor tcp://HOST:PORT"


# Names.


@pytest.fixture
def configuration(directory, look):
    """A configuration of supervisord with files beside it; the module that is told which of them is ours gives its problems."""

    def problems(files, programs=("shop",), include="conf.d/*.conf"):
        (directory / "conf.d").mkdir(exist_ok=True)
        (directory / "supervisord.conf").write_text(f"[supervisord]\n[include]\nfiles = {include}\n")
        for name, content in files.items():
            (directory / name).write_bytes(content.encode("latin-1"))
        return look(supervisord_conf=str(directory / "supervisord.conf"), own=str(directory / "conf.d/fcgi-default.conf"), programs=programs)["problems"]

    return problems


@pytest.mark.parametrize("title", ["program:shop", "fcgi-program:shop", "eventlistener:shop", "group:shop", "program: shop"])
def test_a_name_that_a_foreign_section_has_is_a_problem_that_shows_it(configuration, directory, title):
    (problem,) = configuration({"conf.d/site.conf": f"[{title}]\ncommand=/bin/true\n"}, programs=["blog", "shop"])
    assert problem == f"fcgi_apps[shop]: {directory}/conf.d/site.conf has a section [{title}] already: choose another name, or remove that one"


def test_a_name_that_the_main_file_or_another_set_has_is_a_problem(configuration, directory):
    main = "[supervisord]\n[program:shop]\ncommand=/bin/true\n[include]\nfiles = conf.d/*.conf\n"
    problems = configuration({"supervisord.conf": main, "conf.d/fcgi-team.conf": "[fcgi-program:shop]\n"})
    assert [problem.split(" has ")[0] for problem in problems] == [
        f"fcgi_apps[shop]: {directory}/supervisord.conf",
        f"fcgi_apps[shop]: {directory}/conf.d/fcgi-team.conf",
    ]


def test_our_own_sections_and_those_of_other_names_are_no_problem(configuration, directory):
    (directory / "conf.d").mkdir()
    (directory / "conf.d/fcgi-default.conf").symlink_to("../generation")
    others = "[program:shop2]\n[program:Shop]\n[rpcinterface:shop]\n[shop]\n; [program:shop]\n"
    assert configuration({"generation": "[fcgi-program:shop]\n", "conf.d/site.conf": others}) == []


@pytest.mark.parametrize(
    ("include", "read"),
    [
        ("%(here)s/conf.d/*.conf", True),
        ("none/*.conf\n  conf.d/s*.conf ; all of ours", True),
        ("%(ENV_NOWHERE)s/*.conf conf.d/site.conf conf.d/*.conf", True),
        ("conf.d/*.ini ; conf.d/*.conf", False),
    ],
)
def test_files_are_included_as_supervisord_does(configuration, include, read):
    nesting = "[program:shop]\n[include]\nfiles=*.nested conf.d/*.nested\n"
    problems = configuration({"conf.d/site.conf": nesting, "conf.d/site.nested": "[program:shop]\n"}, include=include)
    assert len(problems) == read


def test_foreign_files_that_cannot_be_read_are_passed_over(configuration, directory):
    (directory / "conf.d/directory.conf").mkdir(parents=True)
    (directory / "conf.d/dangling.conf").symlink_to("/nowhere")
    odd = {"headless": "command=x\n[program:shop]\n", "broken": "[program:shop]\nno value\n", "latin": "[program:caf\xe9]\nuser=\xe9\n", "empty": ""}
    files = {f"conf.d/{name}.conf": content for name, content in odd.items()}
    (problem,) = configuration({**files, "conf.d/twice.conf": "[program:shop]\na=1\na=2\n[program:shop]\n"})
    assert "conf.d/twice.conf" in problem
    assert configuration({"supervisord.conf": "not an INI file"}) == []


# Commands.


@pytest.fixture
def command(directory):
    """Write an executable; return its path."""

    def make(content="#!/bin/sh\n", mode=0o755):
        path = directory / "bin" / "shop"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    return make


def problem_of(look, path, user=USER, **options):
    problems = look(commands=[{"app": "shop", "command": str(path), "user": user, **options}])["problems"]
    return "\n".join(problems)


def test_commands_that_the_user_can_execute_are_no_problem(look, command):
    assert problem_of(look, command()) == ""
    assert problem_of(look, "sh") == ""
    assert problem_of(look, command(), user="a-user-to-be-created") == ""


def test_a_missing_command_is_a_problem_unless_this_play_will_place_it(look, directory):
    assert problem_of(look, "/srv/no/shop") == "fcgi_apps[shop]: command /srv/no/shop does not exist: install it, or correct the path"
    assert "command no-such-command is not in the PATH of services (/usr/local/sbin:" in problem_of(look, "no-such-command")
    assert problem_of(look, "/srv/no/shop", pending=True) == ""
    assert problem_of(look, directory) == f"fcgi_apps[shop]: command {directory} is not a file"


def test_a_command_that_the_user_cannot_execute_is_a_problem_that_shows_why(look, command):
    path = command(mode=0o750)
    assert problem_of(look, path) == f"fcgi_apps[shop]: command {path} is not executable for {USER} (mode 0750, uid 0, gid 0)"
    shutil.chown(path, group=grp.getgrgid(pwd.getpwnam(USER).pw_gid).gr_name)
    assert problem_of(look, path) == ""
    path.parent.chmod(0o700)
    assert f"is not executable for {USER}, who cannot enter {path.parent} (mode 0700, uid 0, gid 0)" in problem_of(look, path)


def test_a_script_whose_interpreter_is_missing_is_a_problem(look, command):
    assert problem_of(look, command("#!/opt/no/python -u\n")).endswith("needs the interpreter /opt/no/python, which does not exist")
    assert "has the line ends of Windows" in problem_of(look, command("#!/bin/sh\r\n"))


# The host.


def test_users_and_groups_are_looked_up(look):
    result = look(users=["root", USER, "no-such-user"], groups=["root", "no-such-group"])
    assert result["users"]["root"]["uid"] == 0
    assert result["users"][USER]["shell"] == pwd.getpwnam(USER).pw_shell
    assert (result["users_missing"], result["groups_missing"]) == (["no-such-user"], ["no-such-group"])


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="packages are those of this machine")
def test_packages_that_are_not_installed_are_told(look):
    assert look(packages=["base-files", "no-such-package", "dpkg"])["packages_missing"] == ["no-such-package"]
    assert look()["packages_missing"] == []


@pytest.mark.parametrize(
    ("pools", "passed", "reason"),
    [
        ({"www.conf": "[www]\nlisten = {0}/www.sock\n"}, "", None),
        ({"www.conf": "[www]\nlisten = {0}/www.sock\n"}, "fastcgi_pass unix:{0}/other.sock;", None),
        ({"www.conf": "[www]\n;listen = {0}/other.sock\n"}, "fastcgi_pass unix:{0}/other.sock;", None),
        ({"www.conf": "[www]\nlisten = {0}/www.sock\n"}, "# fastcgi_pass unix:{0}/www.sock;", None),
        ({"www.conf": "[www]\nlisten = {0}/www.sock\n"}, "fastcgi_pass unix:{0}/www.sock;", "nginx asks it at {0}/www.sock"),
        ({"www.conf": "[www]\nlisten = {0}/www.sock\n"}, "fastcgi_pass unix:{0}/link.sock;", "nginx asks it at {0}/www.sock"),
        ({"www.conf": "[www]\nlisten=127.0.0.1:9000\n"}, "fastcgi_pass 127.0.0.1:9000;", "nginx asks it at 127.0.0.1:9000"),
        ({"www.conf": "", "blog.conf": "", "notes.txt": ""}, "", "it has pools of the site's own: blog.conf"),
    ],
)
def test_a_php_fpm_of_the_distribution_that_others_need_is_told(look, directory, pools, passed, reason):
    (directory / "pool.d").mkdir()
    (directory / "link.sock").symlink_to(directory / "www.sock")
    for name, text in pools.items():
        (directory / "pool.d" / name).write_text(text.format(directory))
    host_info.write_nginx_conf(directory, f"http {{ server {{ location / {{ {passed.format(directory)}\n }} }} }}")
    dirs = {"php8.2-fpm": str(directory / "pool.d"), "php8.4-fpm": "/no/such/dir"}
    found = look(php_pool_dirs=dirs)["php_services_in_use"]
    assert found == ({"php8.2-fpm": reason.format(directory)} if reason else {})


def test_the_servers_of_an_upstream_are_asked_too(look, directory):
    (directory / "pool.d").mkdir()
    (directory / "pool.d" / "www.conf").write_text("listen = /run/php/x.sock")
    host_info.write_nginx_conf(directory, "http { upstream php { server unix:/run/php/x.sock; } }")
    found = look(php_pool_dirs={"php-fpm": str(directory / "pool.d")})["php_services_in_use"]
    assert found == {"php-fpm": "nginx asks it at /run/php/x.sock"}


@pytest.mark.parametrize(
    ("listen", "text", "named"),
    [
        ("{0}/www.sock", 'SetHandler "proxy:unix:{0}/www.sock|fcgi://localhost"', True),
        ("{0}/www.sock", 'SetHandler "proxy:unix:{0}/link.sock|fcgi://localhost"', True),
        ("{0}/www.sock", "php_fastcgi unix/{0}/www.sock", True),
        ("{0}/www.sock", '"socket" => "{0}/www.sock"', True),
        ("{0}/www.sock", 'SetHandler "proxy:unix:{0}/other.sock|fcgi://localhost"', False),
        ("127.0.0.1:9000", "ProxyPassMatch ^/x fcgi://127.0.0.1:9000/srv", True),
        ("127.0.0.1:9000", "Listen 127.0.0.1:90001", False),
    ],
)
def test_a_php_fpm_that_another_web_server_asks_is_told(directory, monkeypatch, listen, text, named):
    (directory / "link.sock").symlink_to(directory / "www.sock")
    for folder in ("pool.d", "web/conf-available", "web/conf-enabled"):
        (directory / folder).mkdir(parents=True)
    listen, file = listen.format(directory), directory / "web/conf-enabled/php.conf"
    (directory / "pool.d/www.conf").write_text(f"listen = {listen}")
    (directory / "web/conf-available/php.conf").write_text(text.format(directory))
    monkeypatch.setattr(host, "WEB_SERVERS", {pathlib.Path("/proc/self/comm").read_text().strip(): str(directory / "web")})

    def told():
        return host.php_services_in_use({"php-fpm": str(directory / "pool.d")}, "/no")

    assert told() == {}, "what is only available is not asked"
    file.symlink_to("../conf-available/php.conf")
    assert told() == ({"php-fpm": f"{host.process_name(os.getpid())} asks it at {listen}, as {file} has it"} if named else {})
    monkeypatch.setattr(host, "WEB_SERVERS", {"no-such-server": str(directory / "web")})
    assert told() == {}, "a server that does not run asks nobody"


def test_services_that_the_role_masked_are_told(look, directory):
    (directory / "sets").mkdir()
    assert look(set_path=str(directory / "sets/mine"))["services_masked"] == {"own": [], "found": []}
    (directory / "sets/masked_services.json").write_text('["php8.2-fpm"]')
    assert look(set_path=str(directory / "sets/mine"), services=["no-such-service"])["services_masked"] == {"own": ["php8.2-fpm"], "found": []}


def test_executable_paths_are_told(look, command, directory):
    path = str(command())
    result = look(paths_executable=[path, str(directory), "/no/such/file"])
    assert result["paths_executable"] == {path: True, str(directory): False, "/no/such/file": False}


def test_the_service_manager_is_systemd_where_it_is_pid_1(look):
    assert look()["service_manager"] == ("systemd" if pathlib.Path("/proc/1/comm").read_text() == "systemd\n" else "sysvinit")


def test_a_running_nginx_is_found_by_its_own_configuration(look, directory):
    host_info.write_nginx_conf(
        directory,
        f'# user nobody;\nuser www-data "daemon"; # theirs\nerror_log stderr notice;\ndaemon off;\n'
        f"events {{}}\nhttp {{ access_log off; server {{ listen unix:{directory}/nginx.sock; }} }}\n",
    )
    before = look()["nginx"]
    assert (before["user"], before["group"], before["running"]) == ("www-data", "daemon", False)
    command = [before["binary"], "-c", directory / "nginx.conf", "-p", directory]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            log = iter(process.stderr.readline, "")
            assert any("start worker process" in line for line in log), "nginx did not start"
            running = look()["nginx"]
        finally:
            process.terminate()
    assert (running["running"], running["pid"]) == (True, process.pid)
    assert f"nginx/{running['version']}" in subprocess.check_output([running["binary"], "-v"], stderr=subprocess.STDOUT, text=True)
    assert look()["nginx"]["pid"] == 0


def test_a_host_without_nginx_and_supervisord_is_described(monkeypatch, directory):
    monkeypatch.setattr(host, "SYSTEM_PATH", str(directory))
    params = {
        "nginx_conf": "/no", "supervisord_conf": "/no", "own": "/no", "url": "unix:///no.sock", "nginx_link": "/no", "nginx_listens": (), "set_path": "/no/set",
    }  # fmt: skip
    result = host.host_info(
        {
            **params,
            **dict.fromkeys(("users", "groups", "programs", "commands", "listens", "packages"), ()),
            **dict.fromkeys(("paths_executable", "directories", "digests", "services"), ()),
            "include_dirs": {},
            "php_pool_dirs": {},
            "nginx_user": "nginx",
            "selinux": None,
        }
    )
    assert result["supervisord"] == {"installed": False, "binary": "", "interpreter": "", "pid": 0, "running": False, "command": "", "conf_exists": False}
    packaged = {"pid_file": "/run/nginx.pid", "error_log": "/var/log/nginx/error.log"}
    absent = {"installed": False, "binary": "", "version": "", "pid": 0, "running": False, "problems": []}
    assert result["nginx"] == {"user": "nginx", "group": "nginx", **absent, **packaged}


@pytest.mark.parametrize(
    ("configuration", "build", "account"),
    [
        ("user www;", "", ("www", "www")),
        ("worker_processes 1; user 'www' web;", "", ("www", "web")),
        ("http { log_format main '$remote_user x'; }", "configure arguments: --user=nginx --group=web", ("nginx", "web")),
        ("#user www;", "configure arguments: --user=nginx", ("nginx", "nginx")),
        ("", "configure arguments: --with-debug", ("nobody", "nogroup" if host.group_exists("nogroup") else "nobody")),
    ],
)
def test_the_account_of_nginx_is_by_its_configuration_else_as_compiled_in(directory, configuration, build, account):
    (directory / "nginx.conf").write_text(configuration)
    assert host.nginx_account(nginx_conf.read(str(directory / "nginx.conf")), build, "www-data") == account


def test_nginx_is_read_with_its_includes_and_what_is_a_servers_is_not_the_masters(look, directory):
    host_info.write_nginx_conf(directory, "http { server { error_log /var/log/one-server.log; } }\ninclude main/*.conf;\nuser late; # the first one counts\n")
    (directory / "main").mkdir()
    (directory / "main" / "a.conf").write_text(f"user www-data 'daemon';\nerror_log {directory}/error.log;\n")
    found = look()["nginx"]
    assert (found["user"], found["group"], found["error_log"]) == ("www-data", "daemon", f"{directory}/error.log")


@pytest.mark.parametrize(
    "text",
    [
        'http { # no "quote\n include conf.d/*.conf; }',
        "events {}\nhttp { map $a ${b} { '}' x; \"a;{\" y; } include 'conf.d/*.conf'; }",
        "include http.conf;",
        "http { content_by_lua_block { if x then y = {} end } include {here}/conf.d/f*.conf; }",
    ],
)
def test_a_directory_that_nginx_includes_is_no_problem(look, directory, text):
    host_info.write_nginx_conf(directory, text.replace("{here}", str(directory)))
    (directory / "http.conf").write_text("http { include conf.d/*.conf; }")
    assert look(nginx_link=f"{directory}/conf.d/fcgi-default.conf")["nginx"]["problems"] == []


@pytest.mark.parametrize(
    ("text", "included"),
    [
        ("http { include sites/*; }", "{here}/sites/*"),
        ("http { include conf.d/fcgi-other.conf; }", "{here}/conf.d/fcgi-other.conf"),
        ("http { # include conf.d/*.conf;\n }", "nothing"),
        ("http { server { include conf.d/*.conf; } }", "nothing"),
        ("stream { include conf.d/*.conf; }", "nothing"),
    ],
)
def test_a_directory_that_nginx_does_not_include_is_a_problem(look, directory, text, included):
    host_info.write_nginx_conf(directory, text)
    (problem,) = look(nginx_link=f"{directory}/conf.d/fcgi-default.conf")["nginx"]["problems"]
    assert f"includes {included.replace('{here}', str(directory))}, and so not {directory}/conf.d/fcgi-default.conf" in problem
    assert "set fcgi_nginx_include_dir" in problem


@pytest.mark.parametrize("ours", [True, False])
def test_a_port_that_another_process_has_keeps_nginx_from_starting(look, directory, ours):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = "" if ours else f"server {{ listen *:{port} default_server; }}"
        host_info.write_nginx_conf(directory, f"http {{ include conf.d/*.conf; {server} }}")
        look_for_nginx = {"nginx_link": f"{directory}/conf.d/x.conf", "nginx_listens": [str(port)] if ours else []}
        (problem,) = look(**look_for_nginx)["nginx"]["problems"]
    address = f"fcgi_apps: listen {port}" if ours else f"{directory}/nginx.conf: listen *:{port}"
    assert problem == f"{address} of nginx is in use by {host.process_name(os.getpid())} (pid {os.getpid()}): stop it, or choose another address"
    assert look(**look_for_nginx)["nginx"]["problems"] == []
    assert look(nginx_listens=[str(port)])["nginx"]["problems"] == []


def test_a_running_nginx_may_have_what_it_has(look, directory):
    port = free_port()
    host_info.write_nginx_conf(
        directory,
        "user root; error_log stderr notice; daemon off; events {}\n"
        f"http {{ access_log off; include conf.d/*.conf; server {{ listen 127.0.0.1:{port}; }} }}\n",
    )
    command = ["nginx", "-c", directory / "nginx.conf", "-p", directory]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any("start worker process" in line for line in iter(process.stderr.readline, "")), "nginx did not start"
            found = look(nginx_link=f"{directory}/conf.d/x.conf", nginx_listens=[f"127.0.0.1:{port}"])["nginx"]
        finally:
            process.terminate()
    assert (found["running"], found["problems"]) == (True, [])


@pytest.mark.parametrize(
    ("script", "interpreter"),
    [
        ("#!/usr/bin/python3\n", "/usr/bin/python3"),
        ("#!/opt/venv/bin/python -s\n", "/opt/venv/bin/python"),
        ("#!/usr/bin/env sh\n", shutil.which("sh", path=host.SYSTEM_PATH)),
        ('#!/bin/sh\n\'\'\'exec\' "/opt/a long/python" "$0" "$@"\n', "/opt/a long/python"),
        ("\x7fELF", ""),
    ],
)
def test_the_interpreter_of_supervisord_is_read_from_its_script(script, interpreter, tmp_path):
    (tmp_path / "supervisord").write_text(script)
    assert host.interpreter(str(tmp_path / "supervisord")) == interpreter


def manifest(path, programs=(), **metadata):
    """A live generation of this role of a set."""
    generation = path / "generations/000001"
    generation.mkdir(parents=True)
    (generation / ".manifest.json").write_text(json.dumps({"metadata": {"programs": programs, **metadata}}))
    (path / "current").symlink_to("generations/000001")


def test_the_apps_of_other_sets_are_told_and_one_s_own_are_not(look, directory):
    manifest(directory / "sets/mine/fcgi_app", [{"app": "shop", "user": "fcgi-shop"}])
    manifest(directory / "sets/theirs/fcgi_app", [{"app": "maps", "user": "gis", "kind": "fcgi"}])
    manifest(directory / "sets/static/fcgi_nginx", [])
    (directory / "sets/no-set").mkdir()
    assert look(set_path=str(directory / "sets/mine"))["other_sets"] == {"static": [], "theirs": [{"app": "maps", "user": "gis"}]}


def test_a_host_without_sets_has_no_other_sets(look, directory):
    assert look(set_path=str(directory / "nowhere/mine"))["other_sets"] == {}


def test_a_set_whose_apps_cannot_be_told_is_an_error(refused, directory):
    manifest(directory / "sets/theirs/fcgi_app", [])
    (directory / "sets/theirs/fcgi_app/generations/000001/.manifest.json").unlink()
    assert "000001 has no readable manifest" in refused(set_path=str(directory / "sets/mine"))


def test_a_service_starts_at_boot_if_the_host_says_so(tmp_path, monkeypatch):
    levels = {"/etc/rc2.d/S01shop"}
    monkeypatch.setattr(host.os.path, "isdir", lambda path: False)
    monkeypatch.setattr(host.glob, "glob", lambda pattern: [path for path in levels if fnmatch.fnmatchcase(path, pattern)])
    assert [host.starts_at_boot(name) for name in ("shop", "sho", "mail")] == [True, False, False]


def test_ports_are_told_by_who_opened_them_and_whether_others_need_them(look, directory):
    http, https = ({"port": port, "remote": True, "zone": "public"} for port in (80, 443))
    manifest(directory / "sets/mine/fcgi_nginx", ports={"firewalld": [http], "selinux": [8081]})
    (directory / "sets/mine/opened_ports.json").write_text(json.dumps({"firewalld": [http], "selinux": [8082]}))
    manifest(directory / "sets/theirs/fcgi_nginx", ports={"firewalld": [http, https], "selinux": []})
    (directory / "sets/theirs/opened_ports.json").write_text(json.dumps({"firewalld": [https], "selinux": []}))
    assert look(set_path=str(directory / "sets/mine"))["ports_opened"] == {
        "firewalld": {"own": [http], "others": [https], "needed": [http, https]},
        "selinux": {"own": [8082], "others": [], "needed": []},
    }


def test_a_note_of_ports_that_nobody_can_read_is_an_error_that_says_what_to_do(refused, directory):
    note = directory / "sets/mine/opened_ports.json"
    note.parent.mkdir(parents=True)
    note.write_text('{"firewalld": [')
    said = refused(set_path=str(note.parent))
    assert f"{note} is not JSON" in said and "remove it" in said
