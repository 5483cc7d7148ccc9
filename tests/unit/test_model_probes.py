# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment asks an app's processes."""

from __future__ import annotations

import pytest
from fcgi_apps import app, listener, located, made


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


def test_health_of_an_exact_location_is_what_nginx_would_pass_on():
    (probe,) = made({**located(path="/shop/ping", match="exact"), "health": {"path": "/shop/ping", "status": [200, 503], "body": "ok"}})["probes"]
    assert (probe["script_name"], probe["path_info"], probe["status"], probe["body"]) == ("/shop/ping", "", [200, 503], "ok")


def test_health_beside_an_exact_location_is_asked_for_as_it_is():
    (probe,) = made({**located(path="/shop", match="exact"), "health": {"path": "/shop/ping"}})["probes"]
    assert (probe["script_name"], probe["path_info"], probe["params"]) == ("", "/shop/ping", {})


def test_health_outside_every_location_is_asked_for_as_it_is():
    (probe,) = made(app(health={"path": "/shopping"}, locations=[{"path": "/shop"}]))["probes"]
    assert (probe["script_name"], probe["path_info"]) == ("", "/shopping")


@pytest.mark.parametrize("keys", [{"health": False}, {"autostart": False}])
def test_what_is_not_to_answer_is_not_asked(keys):
    assert made(app(**keys))["probes"] == []
