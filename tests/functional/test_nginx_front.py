# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application gets from the generated front: real requests through a real nginx to a FastCGI program that remembers them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import select
import signal
import socket
import socketserver
import subprocess
import threading

import pytest
import rendering
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi
from ports import free_port

NASTY = [
    'say "no"', "it's", "back\\slash", "end\\", "\\n", "a;b", "}", "{", "# no comment", "a  b", " blanks ", "naïve ☃", "100%", "%(here)s", "", "if_not_empty",
]  # fmt: skip


class Application:
    """A FastCGI program on a unix socket. requests: the parameters (dict) of every request so far. deaths: how many more it answers by closing."""

    def __init__(self, path):
        self.requests = []
        self.deaths = 0
        application = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                application.requests.append(_unpack_pairs(_parameters(self.request)))
                if application.deaths:
                    application.deaths -= 1
                else:
                    self.request.sendall(
                        fastcgi.pack_record(fastcgi.STDOUT, fastcgi.REQUEST, b"Content-Type: text/plain\r\n\r\nfrom the application")
                        + fastcgi.pack_record(fastcgi.END_REQUEST, fastcgi.REQUEST, bytes(8))
                    )

        self.server = socketserver.ThreadingUnixStreamServer(str(path), Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_exception):
        self.server.shutdown()
        self.server.server_close()


def _parameters(connection):
    """The bytes of a whole request's FCGI_PARAMS."""
    parameters, buffer = b"", bytearray()
    while True:
        record = fastcgi.take_record(buffer)
        if record is None:
            data = connection.recv(65536)
            assert data, "nginx closed the connection before the request was complete"
            buffer += data
        elif record.type == fastcgi.PARAMS:
            parameters += record.content
        elif record.type == fastcgi.STDIN and not record.content:
            return parameters


def _unpack_pairs(data):
    """Name-value pairs as a dict; a name that comes twice is an error."""
    pairs = {}
    while data:
        lengths = []
        for _length in ("name", "value"):
            size = 4 if data[0] & 0x80 else 1
            lengths.append(int.from_bytes(data[:size], "big") & 0x7FFFFFFF)
            data = data[size:]
        name, value = data[: lengths[0]].decode(), data[lengths[0] : sum(lengths)].decode()
        assert name not in pairs, f"{name} comes twice"
        pairs[name] = value
        data = data[sum(lengths) :]
    return pairs


class Front:
    """A running nginx. port: of our server. site_port: of a server block of the site, which includes our locations."""

    def __init__(self, port, site_port, application):
        self.port, self.site_port, self.application = port, site_port, application

    def ask(self, target, method="GET", version="1.1", host="localhost", headers=(), body="", port=None):
        """Send a request exactly as given; returns its status and body."""
        lines = [
            f"{method} {target} HTTP/{version}",
            *([f"Host: {host}"] if host is not None else []),
            *headers,
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=10) as connection:
            connection.sendall("\r\n".join([*lines, "", body]).encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, response.read().decode()

    def passes_on(self, target, **request):
        """What the application gets (dict) for a request that it answers."""
        before = len(self.application.requests)
        assert self.ask(target, **request) == (200, "from the application")
        (parameters,) = self.application.requests[before:]
        return parameters


def apps(directory):
    return [
        {
            "name": "shop",
            "command": "/bin/shop",
            "locations": [
                {
                    "path": "/shop",
                    "params": {f"NASTY_{number}": text for number, text in enumerate(NASTY)},
                    "static": [{"path": "/shop/files", "alias": f"{directory}/files"}],
                },
                {"path": "/exact", "match": "exact"},
                {
                    "path": "^/(?<language>de|en)/(.*)",
                    "match": "regex",
                    "script_filename": "/srv/$1/$language/$2",
                    "params": {"SERVER_SOFTWARE": "$2 in $1"},
                },
                {"path": "/insistent", "retry_non_idempotent": True},
                {
                    "path": "/secret",
                    "static": [{"path": "/secret/files", "alias": f"{directory}/files"}],
                    "auth": {"realm": 'a "realm"; with {all} of \\it', "users": {"ada": _hash("ada's password")}},
                },
            ],
        }
    ]


def _hash(password):
    return subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def running_nginx(directory):
    command = ["nginx", "-p", directory, "-c", directory / "nginx.conf"]
    # As a daemon it comes back when it listens.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    handle = os.pidfd_open(int((directory / "nginx.pid").read_text()))
    try:
        yield
    finally:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        select.select([handle], [], [], 10)
        os.close(handle)


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    directory = tmp_path_factory.mktemp("front")
    (directory / "files").mkdir()
    (directory / "files" / "x.txt").write_text("a file")
    (directory / "beside.txt").write_text("not for the world")
    port, site_port = free_port(), free_port()
    (directory / "release-2").mkdir()
    (directory / "archive").mkdir()
    (directory / "archive" / "current").symlink_to(directory / "release-2")
    shared = {
        "fcgi_nginx_listen": [f"127.0.0.1:{port}"],
        "fcgi_nginx_server_name": ["localhost", "shop.example.org", "_"],
        "fcgi_run_dir": str(directory),
        "fcgi_srv_dir": str(directory),
    }
    archive = {"path": "/archive", "script_filename": f"{directory}/archive/current/archive.cgi"}
    other = {"name": "archive", "command": "/bin/archive", "socket": f"{directory}/shop.sock", "locations": [archive]}
    sets = [{"fcgi_set": "web", "fcgi_apps": apps(directory), **shared}, {"fcgi_set": "archives", "fcgi_apps": [other], **shared}]
    rendering.install(sets, directory, f"server {{ listen 127.0.0.1:{site_port}; include fcgi/web/fcgi_nginx/current/locations/shop.conf; }}")
    with Application(directory / "shop.sock") as application, running_nginx(directory):
        yield Front(port, site_port, application)


@pytest.mark.parametrize(
    ("target", "script_name", "path_info"),
    [
        ("/shop", "/shop", ""),
        ("/shop?/x", "/shop", ""),
        ("/shop/", "/shop", "/"),
        ("/shop/a/b", "/shop", "/a/b"),
        ("/shop/shop/", "/shop", "/shop/"),
        ("/shop/a%0ab", "/shop", "/a\nb"),
        ("/shop/%0a", "/shop", "/\n"),
        ("/shop/a%0d%0aX:%20y", "/shop", "/a\r\nX: y"),
        ("/shop/a%3fb%23c%25", "/shop", "/a?b#c%"),
        ("/exact", "/exact", ""),
        ("/en/x%0a", "", "/en/x\n"),
    ],
)
def test_the_path_is_split_where_the_application_begins_whatever_it_contains(front, target, script_name, path_info):
    parameters = front.passes_on(target)
    assert (parameters["SCRIPT_NAME"], parameters["PATH_INFO"]) == (script_name, path_info)


@pytest.mark.parametrize("target", ["/shopping", "/shop.cgi", "/shop%00", "/exact/more", "/shop/../other", "/shop/%2e%2e/other", "/Shop"])
def test_a_path_beside_the_application_is_not_its_business(front, target):
    before = len(front.application.requests)
    assert front.ask(target)[0] in (400, 404)
    assert len(front.application.requests) == before


def test_a_groups_number_in_a_parameter_is_that_of_the_locations_regular_expression(front):
    """nginx 1.22 answers 500, and before the fix of CVE-2026-42533 overflows a buffer, if the map of the host is asked among the parameters."""
    parameters = front.passes_on("/en/a/b", host="shop.example.org:8080")
    assert (parameters["SCRIPT_FILENAME"], parameters["SERVER_SOFTWARE"]) == ("/srv/en/en/a/b", "a/b in en")


@pytest.mark.parametrize(
    ("target", "host", "passed"),
    [
        ("/shop", "shop.example.org", "shop.example.org"),
        ("/shop", "shop.example.org:8080", "shop.example.org:8080"),
        ("/shop", "Shop.EXAMPLE.org:8080", "shop.example.org:8080"),
        ("/shop", "shop.example.org.", "shop.example.org"),
        ("/shop", "127.0.0.1:80", "127.0.0.1:80"),
        ("/shop", "[::1]", "[::1]"),
        ("/shop", "[::1]:8080", "[::1]:8080"),
        ("/shop", "shop.example.org:", "shop.example.org"),
        ("/shop", "shop.example.org:123456", "shop.example.org"),
        ("/shop", "shop.example.org:80a", "shop.example.org"),
        ("/shop", "shop.example.org:80@evil.example", "shop.example.org"),
        ("/shop", "shop.example.org|shop.example.org:80", "shop.example.org|shop.example.org"),
        ("http://shop.example.org/shop", "evil.example", "shop.example.org"),
        ("http://shop.example.org/shop", "evil.example:666", "shop.example.org"),
        ("http://shop.example.org:8080/shop", "shop.example.org:8080", "shop.example.org:8080"),
    ],
)
def test_the_application_gets_the_host_that_nginx_took_and_its_port(front, target, host, passed):
    assert front.passes_on(target, host=host)["HTTP_HOST"] == passed


@pytest.mark.parametrize("host", ["shop.example.org/evil.example", "", None, "a b"])
def test_a_host_that_is_none_never_reaches_the_application(front, host):
    before = len(front.application.requests)
    assert front.ask("/shop", host=host)[0] == 400
    assert len(front.application.requests) == before


def test_an_old_client_that_names_no_host_gets_the_servers_name(front):
    assert front.passes_on("/shop", version="1.0", host=None)["HTTP_HOST"] == "localhost"


@pytest.mark.parametrize("header", ["Proxy: http://evil.example", "PROXY: http://evil.example"])
def test_a_clients_proxy_header_is_not_passed_on(front, header):
    assert "HTTP_PROXY" not in front.passes_on("/shop", headers=[header])


def test_parameters_are_what_the_operator_wrote(front):
    parameters = front.passes_on("/shop")
    assert [parameters[f"NASTY_{number}"] for number in range(len(NASTY))] == NASTY


def test_the_application_is_told_of_tls_only_where_there_is_some(front):
    assert "HTTPS" not in front.passes_on("/shop")


def test_locations_included_in_a_server_of_the_site_do_the_same(front):
    parameters = front.passes_on("/shop/x", port=front.site_port, host="site.example.org:81", headers=["Proxy: http://evil.example"])
    assert [parameters[name] for name in ("SCRIPT_NAME", "PATH_INFO", "HTTP_HOST")] == ["/shop", "/x", "site.example.org:81"]
    assert "HTTP_PROXY" not in parameters


def test_the_request_of_a_worker_that_dies_is_answered_by_another_one(front):
    front.application.deaths = 1
    assert front.ask("/shop") == (200, "from the application")


@pytest.mark.parametrize(("target", "status", "times"), [("/shop", 502, 1), ("/insistent", 200, 2)])
def test_a_post_is_sent_again_only_on_request(front, target, status, times):
    before = len(front.application.requests)
    front.application.deaths = 1
    assert front.ask(target, method="POST", body="one order")[0] == status
    assert len(front.application.requests) - before == times


def test_a_request_that_kills_every_worker_is_not_repeated_for_ever(front):
    before = len(front.application.requests)
    front.application.deaths = 2
    assert front.ask("/shop")[0] == 502
    assert len(front.application.requests) - before == 2


@pytest.mark.parametrize("target", ["/secret", "/secret/x", "/secret/files/x.txt", "/secret/files/missing.txt"])
def test_a_password_guards_the_application_and_its_files(front, target):
    before = len(front.application.requests)
    assert front.ask(target)[0] == 401
    assert front.ask(target, headers=[_credentials("ada:wrong")])[0] == 401
    assert len(front.application.requests) == before


def test_who_has_the_password_gets_the_files_and_the_application_learns_the_name(front):
    headers = [_credentials("ada:ada's password")]
    assert front.ask("/secret/files/x.txt", headers=headers) == (200, "a file")
    assert front.passes_on("/secret", headers=headers)["REMOTE_USER"] == "ada"


def _credentials(text):
    return f"Authorization: Basic {base64.b64encode(text.encode()).decode()}"


def test_files_are_served_without_the_application(front):
    assert front.ask("/shop/files/x.txt") == (200, "a file")


@pytest.mark.parametrize("target", ["/shop/files../beside.txt", "/shop/files/../beside.txt", "/shop/files/%2e%2e/beside.txt", "/shop/files/..%2fbeside.txt"])
def test_no_path_leads_out_of_the_directory_of_the_files(front, target):
    assert "not for the world" not in front.ask(target)[1]


def test_two_sets_with_the_same_names_share_their_server(front):
    for path in ("/shop", "/archive"):
        parameters = front.passes_on(f"{path}/x", host="shop.example.org:8080")
        assert [parameters[name] for name in ("SCRIPT_NAME", "PATH_INFO", "HTTP_HOST")] == [path, "/x", "shop.example.org:8080"]


def test_a_script_of_the_current_release_has_the_path_of_that_release(front):
    parameters = front.passes_on("/archive")
    assert parameters["SCRIPT_FILENAME"].endswith("/release-2/archive.cgi")
    assert parameters["SCRIPT_FILENAME"] == f"{parameters['DOCUMENT_ROOT']}/archive.cgi"
