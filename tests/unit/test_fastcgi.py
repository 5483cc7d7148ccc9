# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure half of the FastCGI client: bytes, CGI variables, CGI responses and addresses. tests/functional/test_fcgi_probe.py has the other half."""

from __future__ import annotations

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi


def kind_of(error):
    return error.value.kind


# Records


def test_a_record_is_packed_as_the_specification_lays_it_out():
    assert fastcgi.pack_record(fastcgi.STDIN, 1, b"abc") == b"\x01\x05\x00\x01\x00\x03\x00\x00abc"


def test_a_record_is_taken_off_the_buffer_without_its_padding_and_what_follows_stays():
    buffer = bytearray(b"\x01\x06\x00\x01\x00\x02\x05\x00hi-----" + b"\x01\x03")
    assert fastcgi.take_record(buffer) == fastcgi.Record(fastcgi.STDOUT, 1, b"hi")
    assert buffer == b"\x01\x03"


@pytest.mark.parametrize("length", range(len(b"\x01\x06\x00\x01\x00\x02\x01\x00hi-")))
def test_an_incomplete_record_stays_in_the_buffer_wherever_it_is_cut(length):
    start = b"\x01\x06\x00\x01\x00\x02\x01\x00hi-"[:length]
    buffer = bytearray(start)
    assert fastcgi.take_record(buffer) is None
    assert buffer == start


@pytest.mark.parametrize("answer", [b"H", b"HTTP/1.1 400 Bad Request\r\n", b"\x00\x00\x00\x00", b"\x02\x06\x00\x01\x00\x00\x00\x00"])
def test_what_is_not_fastcgi_is_malformed_from_its_first_byte(answer):
    with pytest.raises(fastcgi.FastCGIError) as error:
        fastcgi.take_record(bytearray(answer))
    assert kind_of(error) == "malformed"
    assert repr(answer[:16]) in str(error.value)


@pytest.mark.parametrize(("size", "lengths"), [(0, [0]), (1, [1, 0]), (65535, [65535, 0]), (65536, [65535, 1, 0])])
def test_a_stream_is_split_at_65535_bytes_and_ends_with_one_empty_record(size, lengths):
    buffer = bytearray(fastcgi.pack_stream(fastcgi.STDIN, b"x" * size))
    records = []
    while buffer:
        records.append(fastcgi.take_record(buffer))
    assert [len(record.content) for record in records] == lengths
    assert {(record.type, record.request_id) for record in records} == {(fastcgi.STDIN, fastcgi.REQUEST)}


@pytest.mark.parametrize(
    ("name", "value", "packed"),
    [
        ("A", "b", b"\x01\x01Ab"),
        ("A", "", b"\x01\x00A"),
        ("A", "b" * 127, b"\x01\x7fA" + b"b" * 127),
        ("A", "b" * 128, b"\x01\x80\x00\x00\x80A" + b"b" * 128),
        ("A" * 200, "b", b"\x80\x00\x00\xc8\x01" + b"A" * 200 + b"b"),
        ("A", "\u00fc", b"\x01\x02A\xc3\xbc"),
    ],
)
def test_name_value_pairs_have_lengths_of_one_byte_up_to_127_and_of_four_beyond(name, value, packed):
    assert fastcgi.pack_pairs({name: value}) == packed


# Requests


def test_the_request_uri_holds_script_name_path_info_and_query_encoded_as_a_browser_sends_them():
    params = fastcgi.cgi_params("GET", "/shop", "/a b/\u00fc", "x=1&y=%20", 0)
    assert params["REQUEST_URI"] == "/shop/a%20b/%C3%BC?x=1&y=%20"
    assert (params["SCRIPT_NAME"], params["PATH_INFO"], params["QUERY_STRING"]) == ("/shop", "/a b/\u00fc", "x=1&y=%20")


def test_a_request_without_a_path_asks_for_the_root():
    assert fastcgi.cgi_params("GET", "", "", "", 0)["REQUEST_URI"] == "/"


def test_method_and_length_are_passed_on_and_every_mandatory_cgi_variable_is_there():
    params = fastcgi.cgi_params("POST", "/shop", "", "", 12)
    assert (params["REQUEST_METHOD"], params["CONTENT_LENGTH"]) == ("POST", "12")
    assert params.keys() >= {
        "GATEWAY_INTERFACE", "QUERY_STRING", "REMOTE_ADDR", "REQUEST_METHOD", "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE",
    }  # fmt: skip


def test_an_empty_path_info_is_left_out():
    assert "PATH_INFO" not in fastcgi.cgi_params("GET", "/ping", "", "", 0)


# Responses


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Type: text/plain", 200),
        (b"Status: 404 Not Found", 404),
        (b"status: 204", 204),
        (b"Location: /elsewhere", 302),
        (b"Location: /elsewhere\r\nStatus: 301 Moved", 301),
    ],
)
def test_the_status_is_that_of_the_cgi_header(header, status):
    assert fastcgi.parse_response(header + b"\r\n\r\n").status == status


def test_a_response_is_its_headers_and_the_body_after_the_first_empty_line():
    response = fastcgi.parse_response(b"Content-Type: text/plain\nX-Time:  10:30 \nSet-Cookie: a=1\nset-cookie: b=2\n\none\n\ntwo", "oops")
    assert response == fastcgi.Response(200, {"content-type": "text/plain", "x-time": "10:30", "set-cookie": "a=1, b=2"}, b"one\n\ntwo", "oops")


@pytest.mark.parametrize("separator", ["\x0b", "\x1c", "\x85", "\u2028"])
def test_only_a_line_feed_ends_a_header_line(separator):
    response = fastcgi.parse_response(f"X: a{separator}b\n\n".encode())
    assert response.headers == {"x": f"a{separator}b"}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"Content-Type: text/plain\r\n",
        b"X: " + b"x" * fastcgi.HEADER_LIMIT + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\r\n\r\nbody",
        b"Status: fine\r\n\r\n",
        b"Status: 2000\r\n\r\n",
        b"Status: 600\r\n\r\n",
    ],
)
def test_a_response_without_a_proper_cgi_header_is_malformed(answer):
    with pytest.raises(fastcgi.FastCGIError) as error:
        fastcgi.parse_response(answer)
    assert kind_of(error) == "malformed"


# Addresses


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("unix:/run/fastcgi/shop.sock", "/run/fastcgi/shop.sock"),
        ("unix:/" + "x" * 106, "/" + "x" * 106),
        ("127.0.0.1:9001", ("127.0.0.1", 9001)),
        ("[::1]:9001", ("::1", 9001)),
        ("app-1.example.org:65535", ("app-1.example.org", 65535)),
    ],
)
def test_an_address_is_a_socket_path_or_host_and_port(address, place):
    assert fastcgi.parse_address(address) == place


@pytest.mark.parametrize("address", [
    "", "9001", ":9001", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:9001", "[::1]", "a b:9001", "127.0.0.1:9001\n",
    "/run/fastcgi/shop.sock", "unix:", "unix:run/shop.sock", "unix:/run/\0shop.sock",
])  # fmt: skip
def test_what_is_no_address_is_refused_with_its_value_and_an_example(address):
    with pytest.raises(fastcgi.FastCGIError) as error:
        fastcgi.parse_address(address)
    assert kind_of(error) == "address"
    assert repr(address.replace("unix:", "")) in str(error.value)
    assert "unix:/run/fastcgi/shop.sock" in str(error.value)


def test_a_path_that_the_kernel_cannot_take_is_refused_with_its_length_in_bytes():
    with pytest.raises(fastcgi.FastCGIError) as error:
        fastcgi.parse_address("unix:/" + "\u00fc" * 60)
    assert kind_of(error) == "address"
    assert "121 bytes" in str(error.value)
    assert "107" in str(error.value)
