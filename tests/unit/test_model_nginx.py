# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role fcgi_nginx gets."""

from __future__ import annotations

import json
import re

import pytest
from fcgi_apps import app, listener, located, location, made


@pytest.mark.parametrize(("processes", "tries"), [(1, 2), (3, 4), (8, 9), (4096, 9)])
def test_nginx_asks_once_more_for_each_process_of_a_program_and_not_for_ever(processes, tries):
    found = made({**located(), "processes": processes})
    assert len(found["upstreams"][0]["servers"]) == tries
    assert found["servers"][0]["locations"][0]["next_upstream_tries"] == tries


def test_a_socket_stands_twice_in_its_upstream_so_that_nginx_retries():
    upstream = made(located())["upstreams"][0]
    server = {"address": "unix:/run/fastcgi/shop.sock", "max_fails": 0}
    assert upstream == {"name": "fcgi_default.shop", "servers": [server, server], "keepalive": 0, "extra": ""}


def test_upstreams_of_two_sets_never_have_one_name():
    names = [made(located(name), fcgi_set=fcgi_set)["upstreams"][0]["name"] for fcgi_set, name in (("a", "b_c"), ("a_b", "c"))]
    assert names == ["fcgi_a.b_c", "fcgi_a_b.c"]


def test_an_app_that_is_started_by_hand_is_served_and_not_probed():
    found = made({**located(), "autostart": False})
    assert ["autostart", "false"] in found["programs"][0]["options"]
    assert found["programs"][0]["metadata"]["autostart"] is False
    assert [item["upstream"] for item in found["servers"][0]["locations"]] == [found["upstreams"][0]["name"]]
    assert found["probes"] == []


def test_a_listener_is_an_upstream_of_all_its_ports():
    found = made(listener(listen="0.0.0.0:9001", allow_remote=True, processes=2, runtime="go", locations=[{"path": "/"}]))
    assert [server["address"] for server in found["upstreams"][0]["servers"]] == ["127.0.0.1:9001", "127.0.0.1:9002"]
    assert found["upstreams"][0]["keepalive"] == 4
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
        {"path": "/shop/img/", "directive": "alias", "directory": "/srv/img/", "expires": None, "extra": ""},
        {"path": "/shop/js/", "directive": "root", "directory": "/srv/www", "expires": "1h", "extra": ""},
    ]


def test_password_hashes_go_into_a_file_of_their_own():
    found = made(located(auth={"realm": "Shop", "users": {"ada": "$6$salt$hash"}}), fcgi_set="other")
    (file,) = found["htpasswd"]
    assert file["vars"] == {"htpasswd": {"ada": "$6$salt$hash"}}
    assert found["servers"][0]["locations"][0]["auth"] == {"realm": "Shop", "user_file": f"/etc/fcgi/other/fcgi_nginx/current/{file['path']}"}
    assert "$6$" not in json.dumps(found["servers"])


def test_a_password_file_keeps_its_name_wherever_its_location_stands_in_the_list():
    """nginx opens it at each request: until it is reloaded, a location must not find the users of another one under its name."""
    one, two = ({"path": path, "auth": {"users": {name: "$6$salt$hash"}}} for path, name in (("/one", "ada"), ("/two", "grace")))
    names = [
        {file["vars"]["htpasswd"].popitem()[0]: file["path"] for file in made(app(locations=locations))["htpasswd"]}
        for locations in ([one, two], [two, one], [two])
    ]
    assert names[0] == names[1]
    assert names[2] == {"grace": names[0]["grace"]}
    assert names[0]["ada"] != names[0]["grace"]


def test_sets_with_the_same_server_know_it_by_the_same_name():
    first, second = (made(located(name), fcgi_set=name) for name in ("a", "b"))
    assert [link for link in first["nginx_links"] if link in second["nginx_links"]] == [link for link in first["nginx_links"] if link.get("shared")]
    assert first["server_files"][0]["path"] == second["server_files"][0]["path"]
    others = [made(located("b", **keys)) for keys in ({"server_name": "x"}, {"listen": 81}, {"server_extra": "root /srv;"})]
    assert first["server_files"][0]["path"] not in [other["server_files"][0]["path"] for other in others]


def test_a_set_without_servers_needs_one_link():
    assert made(located(include_only=True))["nginx_links"] == [{"path": "/etc/nginx/conf.d/fcgi-default.conf", "target": "nginx.conf"}]


def test_the_directives_of_a_server_stand_in_it_whichever_of_its_locations_gave_them():
    (server,) = made(located("a"), located("b", path="/b", server_extra="root /srv;"))["servers"]
    assert server["extra"] == "root /srv;"


def test_a_script_of_the_current_release_is_passed_on_by_the_path_of_that_release():
    def of(script):
        found = location(located(script_filename=script))
        return found["root"], {name: value for name, value in found["params"] if name in ("SCRIPT_FILENAME", "DOCUMENT_ROOT")}

    in_release = {"DOCUMENT_ROOT": "$realpath_root", "SCRIPT_FILENAME": "$realpath_root/cgi/x.cgi"}
    assert of("/srv/fcgi/shop/current/cgi/x.cgi") == ("/srv/fcgi/shop/current", in_release)
    assert of("/srv/fcgi/shop/currently/x.cgi") == (None, {"SCRIPT_FILENAME": "/srv/fcgi/shop/currently/x.cgi"})


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


def test_a_name_or_an_address_given_twice_counts_once():
    (server,) = made(located(server_name=["x.example", "X.example"], listen=[80, "*:80"]))["servers"]
    assert (server["server_name"], server["listen"], len(server["locations"])) == (["x.example"], ["80"], 1)


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


def test_where_connections_are_kept_each_of_them_may_fail_and_one_try_is_left():
    upstream = made({**located(), "runtime": "go"})["upstreams"][0]
    assert len(upstream["servers"]) == upstream["keepalive"] + 2


# Ports


def test_ports_are_told_each_once_with_whether_others_can_reach_them():
    apps = [
        located("shop", listen=["80", "127.0.0.1:8081", "[::1]:8082"]),
        located("blog", listen=["127.0.0.1:80", "[::]:8083", "localhost:8081", "192.0.2.1:8082"], server_name=["blog.example.org"]),
    ]
    assert made(*apps)["nginx_ports"] == [
        {"port": 80, "remote": True},
        {"port": 8081, "remote": False},
        {"port": 8082, "remote": True},
        {"port": 8083, "remote": True},
    ]
    assert made(app())["nginx_ports"] == []


def test_what_nginx_connects_to_is_told_by_its_kind():
    found = made(located("shop"), listener("api", locations=[{"path": "/api"}]), app("idle"))["connects_to"]
    assert found == {"unix": ["unix:/run/fastcgi/shop.sock"], "tcp": ["127.0.0.1:9001"]}
