# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fcgi_probe makes of answers of php-fpm's status page. tests/functional/test_php_fpm_pools.py asks a real one."""

from __future__ import annotations

import json

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi, php_fpm_status

# As php-fpm 8.2 writes it.
PAGE = (
    b'{"pool":"blog","process manager":"dynamic","start time":1795576293,"start since":5,"accepted conn":7,"listen queue":2,"max listen queue":3,'
    b'"listen queue len":511,"idle processes":0,"active processes":4,"total processes":4,"max active processes":5,"max children reached":1,"slow requests":6}'
)


def answer(body=PAGE, status=200, headers=None):
    return fastcgi.Response(status, headers or {}, body, "")


def page(**changed):
    """The page with some fields changed (names with _ for a space); None leaves one out."""
    fields = {**json.loads(PAGE), **{name.replace("_", " "): value for name, value in changed.items()}}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def words_for(response):
    with pytest.raises(fastcgi.FastCGIError) as error:
        php_fpm_status.parse(response)
    assert error.value.kind == "no_pool"
    assert str(error.value).endswith(": script_name must be the pool's pm.status_path, which a pool does not have unless it is set")
    return str(error.value)


def test_the_page_is_told_in_its_own_terms():
    assert php_fpm_status.parse(answer()) == {
        "pool": "blog", "process_manager": "dynamic", "active_processes": 4, "idle_processes": 0, "total_processes": 4, "listen_queue": 2,
        "max_listen_queue": 3, "listen_queue_len": 511, "max_active_processes": 5, "max_children_reached": 1, "slow_requests": 6,
        "accepted_connections": 7, "start_since": 5,
    }  # fmt: skip


def test_fields_that_a_later_php_adds_do_no_harm():
    assert php_fpm_status.parse(answer(page(memory_peak=2097152))) == php_fpm_status.parse(answer())


@pytest.mark.parametrize(
    ("status", "words"), [(404, "the pool has no such page (status 404)"), (403, "access denied (status 403)"), (500, "the answer's status is 500, not 200")]
)
def test_a_refusal_is_no_pool_even_with_the_page_in_it(status, words):
    assert words_for(answer(status=status)).startswith(words)


@pytest.mark.parametrize("body", [b"", b"pong", b"<html>", PAGE[:-1], b"[]", b"null", b"\xff", b"[" * 100_000, b"1" * 10_000])
def test_what_is_no_object_of_json_is_no_pool_and_its_type_is_said(body):
    assert "(content-type text/html)" in words_for(answer(body, headers={"content-type": "text/html"}))
    assert "(content-type unknown)" in words_for(answer(body))


@pytest.mark.parametrize("wrong", [None, "0", 1.5, True, []])
def test_a_field_that_lacks_or_is_no_number_is_named(wrong):
    assert "status page of php-fpm: listen queue, slow requests missing or not of the right type" in words_for(
        answer(page(slow_requests=wrong, listen_queue=wrong))
    )


def test_the_request_names_the_page_as_the_script_and_asks_for_json():
    params = php_fpm_status.params("/fpm-status")
    assert (params["SCRIPT_NAME"], params["SCRIPT_FILENAME"], params["QUERY_STRING"]) == ("/fpm-status", "/fpm-status", "json")
    assert "PATH_INFO" not in params
