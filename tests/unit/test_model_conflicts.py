# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules between apps: what two of them cannot both have."""

from __future__ import annotations

import pytest
from fcgi_apps import app, errors, listener, located, made


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
    ("first", "second", "key"),
    [
        ({"stdout_logfile": "/var/log/x"}, {"stdout_logfile": "/var/log/x"}, "stdout_logfile"),
        ({"stdout_logfile": "/var/log/x"}, {"redirect_stderr": False, "stderr_logfile": "/var/log/x"}, "stderr_logfile"),
        ({}, {"stdout_logfile": "/var/log/fcgi/a_%(process_num)02d.log"}, "stdout_logfile"),
        ({"stdout_logfile": "/l/%(program_name)s"}, {"stdout_logfile": "/l/a"}, "stdout_logfile"),
    ],
)
def test_two_programs_cannot_rotate_one_log(first, second, key):
    (error,) = errors(app("a", **first), app("b", **second))
    assert error.startswith(f"fcgi_apps[b].{key}: ")
    assert "is also fcgi_apps[a].stdout_logfile: each needs its own" in error


def test_one_program_cannot_rotate_one_log_twice():
    (error,) = errors(app(redirect_stderr=False, stdout_logfile="/var/log/x", stderr_logfile="/var/log/x"))
    assert error.startswith("fcgi_apps[shop].stderr_logfile: ")


def test_what_is_no_file_of_ones_own_may_be_the_log_of_many():
    device = {"stdout_logfile": "/dev/stdout", "stdout_logfile_maxbytes": 0}
    assert made(app("a", **device), app("b", **device), app("c", stdout_logfile="NONE"), app("d", stdout_logfile="NONE"))
    assert made(app("a", stdout_logfile="/l/%(program_name)s"), app("b", stdout_logfile="/l/%(program_name)s"))


def test_the_directives_of_a_server_are_given_once_or_alike():
    same = [located("a", server_extra="root /a;"), located("b", path="/b"), located("c", path="/c", server_extra="root /a;")]
    assert made(*same)
    (error,) = errors(*same, located("d", path="/d", server_extra="root /d;"))
    assert error.startswith("fcgi_apps[d].locations[0].server_extra: differs from that of fcgi_apps[a].locations[0], on the same server localhost")
