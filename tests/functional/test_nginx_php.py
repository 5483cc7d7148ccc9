# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site of php gets from the generated front: real requests through a real nginx to a real php-fpm, which fcgivisord runs."""

from __future__ import annotations

import base64
import grp
import http.client
import json
import os
import pwd
import subprocess

import php_host
import pytest
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model
from ports import free_port
from test_nginx_front import running_nginx

TELL = """<?php
$upload = $_FILES['file'] ?? null;
echo json_encode([
    'here' => basename(__DIR__) . '/' . basename(__FILE__),
    'server' => $_SERVER,
    'get' => $_GET,
    'post' => $_POST,
    'input' => substr(file_get_contents('php://input'), 0, 100),
    'upload' => $upload ? [$upload['error'], $upload['size']] : null,
    'proxy' => getenv()['HTTP_PROXY'] ?? '',  // elsewhere PHP itself hides it
    'pool' => getenv('POOL'),
    'pid' => getmypid(),
]);
"""
SECRET = "not for the world"
MEGABYTE = 2**20

FILES = {
    "www/index.php": TELL,
    "www/tell.php": TELL,
    "www/a b.php": TELL,
    "www/sub/index.php": TELL,
    "www/html/index.html": "a page",
    "www/bare/x.txt": "a file",
    "www/x.txt": "a file",
    "www/upload.jpg": TELL,
    "www/data/secret.txt": SECRET,
    "www/data/tell.php": TELL,
    "www/database/x.txt": "a file",
    "www/only.php": TELL,
    "www/.htaccess": SECRET,
    "www/.tell.php": TELL,
    "www/sub/.git/config": SECRET,
    "www/sub/.git/tell.php": TELL,
    "www/.well-known/acme-challenge/token": "a token",
    "www/.well-known/.git/config": SECRET,
    "files/x.txt": "a static file",
    "files/tell.php": TELL,
    "beside.txt": SECRET,
    "srv/shop/releases/1/public/index.php": "<?php echo 'release 1 in ' . basename(dirname(__DIR__)) . ' ' . basename(dirname($_SERVER['DOCUMENT_ROOT']));",
    "srv/shop/releases/2/public/index.php": "<?php echo 'release 2 in ' . basename(dirname(__DIR__)) . ' ' . basename(dirname($_SERVER['DOCUMENT_ROOT']));",
}

# Nothing but the path tells php-fpm of another release: neither a look at the files nor time.
FORGETS_NOTHING = {"opcache.validate_timestamps": False, "realpath_cache_ttl": 3600, "opcache.enable": True}


def apps(directory):
    limits = {"post_max_size": "2M", "upload_max_filesize": "1900K"}
    password = subprocess.run(["openssl", "passwd", "-6", "secret"], capture_output=True, text=True, check=True).stdout.strip()
    static = [{"path": "/forum/files", "alias": f"{directory}/files"}]
    return [
        {
            "name": "forum",
            "pool": {"pm": "static", "pm.max_children": 3},
            "php_admin_value": limits,
            "environment": {"POOL": "own"},
            "health": {"path": "/board/anything?x=y", "body": '"here":"www.{2}index.php"'},
            "pools": [{"name": "api", "environment": {"POOL": "api"}, "pool": {"pm": "ondemand"}}],
            "locations": [
                {"path": "/forum", "deny": ["/data", "/only.php"], "static": static},
                {"path": "/board", "front_controller": True},
                {"path": "/api", "pool": "api", "params": {"SHOP": "$request_method of shop"}},
                {"path": "/secret", "auth": {"realm": "Secret", "users": {"ada": password}}},
                {"path": "/", "server_name": "forum.example.org", "deny": "/data", "index": ["index.html", "index.php"]},
                {"path": "/", "server_name": "board.example.org", "front_controller": True},
            ],
        },
        {
            "name": "shop",
            "root": "public",
            "release": {"src": "/dev/null", "version": "1"},
            "directory": "/",
            "pool": {"pm": "static", "pm.max_children": 1},
            "php_admin_value": FORGETS_NOTHING,
            "locations": [{"path": "/shop"}],
        },
        {"name": "blog", "user": "nobody", "group": "nogroup", "pools": [{"name": "api"}], "locations": [{"path": "/blog"}, {"path": "/blogs", "pool": "api"}]},
    ]


class Front:
    """A running nginx."""

    def __init__(self, directory, port):
        self.directory, self.port = directory, port

    def ask(self, target, method="GET", host="localhost", headers=None, body=None):
        """The status, the body and the headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, target, skip_host=True)
        given = {"Host": host, **({} if body is None else {"Content-Length": str(len(body))}), **(headers or {})}
        for name, value in given.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        answer = response.status, response.read().decode(), response.headers
        connection.close()
        return answer

    def status(self, target, **request):
        return self.ask(target, **request)[0]

    def script(self, target, **request):
        """What the script that answers tells."""
        status, body, _headers = self.ask(target, **request)
        assert status == 200, (status, body)
        return json.loads(body)


@pytest.fixture(scope="module")
def front():
    with php_host.directory_for_all() as directory:
        for name, text in FILES.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (directory / "srv/shop/current").symlink_to("releases/1")
        port = free_port()
        listen = {"fcgi_nginx_listen": [f"127.0.0.1:{port}"], "fcgi_nginx_server_name": ["localhost"]}
        php_host.install(directory, apps(directory), **listen)
        with php_host.running(directory), running_nginx(directory):
            yield Front(directory, port)


# Scripts and files


@pytest.mark.parametrize(
    ("target", "host", "here", "script_name", "path_info"),
    [
        ("/forum/", "localhost", "www/index.php", "/forum/index.php", ""),
        ("/forum/?a=b", "localhost", "www/index.php", "/forum/index.php", ""),
        ("/forum/index.php", "localhost", "www/index.php", "/forum/index.php", ""),
        ("/forum/tell.php", "localhost", "www/tell.php", "/forum/tell.php", ""),
        ("/forum/a%20b.php", "localhost", "www/a b.php", "/forum/a b.php", ""),
        ("/forum/sub/", "localhost", "sub/index.php", "/forum/sub/index.php", ""),
        ("/forum/tell.php/", "localhost", "www/tell.php", "/forum/tell.php", "/"),
        ("/forum/tell.php/a/b.php", "localhost", "www/tell.php", "/forum/tell.php", "/a/b.php"),
        ("/forum/tell.php/a%0ab", "localhost", "www/tell.php", "/forum/tell.php", "/a\nb"),
        ("/forum/tell.php/%0a", "localhost", "www/tell.php", "/forum/tell.php", "/\n"),
        ("/forum/tell.php/PHP%0Ais_the_shittiest_lang.php", "localhost", "www/tell.php", "/forum/tell.php", "/PHP\nis_the_shittiest_lang.php"),
        ("/forum/tell.php/a%3fb%23c%25", "localhost", "www/tell.php", "/forum/tell.php", "/a?b#c%"),
        ("/", "forum.example.org", "www/index.php", "/index.php", ""),
        ("/tell.php/x", "forum.example.org", "www/tell.php", "/tell.php", "/x"),
        ("/sub/", "forum.example.org", "sub/index.php", "/sub/index.php", ""),
    ],
)
def test_a_script_is_found_and_what_follows_it_is_its_path_info_whatever_it_contains(front, target, host, here, script_name, path_info):
    told = front.script(target, host=host)
    server = told["server"]
    assert (told["here"], server["SCRIPT_NAME"], server.get("PATH_INFO", "")) == (here, script_name, path_info)
    assert server["PHP_SELF"] == f"{script_name}{path_info}"
    assert server["DOCUMENT_ROOT"] == str(front.directory / "www")
    assert server["SCRIPT_FILENAME"] == f"{server['DOCUMENT_ROOT']}/{here.removeprefix('www/')}"
    assert server["REQUEST_URI"] == target


@pytest.mark.parametrize(
    ("target", "host", "body"),
    [
        ("/forum/x.txt", "localhost", "a file"),
        ("/forum/html/", "localhost", "a page"),
        ("/forum/database/x.txt", "localhost", "a file"),
        ("/forum/.well-known/acme-challenge/token", "localhost", "a token"),
        ("/forum/files/x.txt", "localhost", "a static file"),
        ("/board/x.txt", "localhost", "a file"),
        ("/x.txt", "forum.example.org", "a file"),
        ("/.well-known/acme-challenge/token", "board.example.org", "a token"),
    ],
)
def test_files_are_served_as_they_are(front, target, host, body):
    assert front.ask(target, host=host)[:2] == (200, body)


def test_a_file_beside_scripts_is_never_run(front):
    for target in ("/forum/upload.jpg", "/forum/files/tell.php"):
        assert front.ask(target)[:2] == (200, TELL)


@pytest.mark.parametrize(("target", "status"), [("/forum/upload.jpg/x.php", 404), ("/forum/upload.jpg/.php", 404), ("/forum/upload.jpg%00.php", 400)])
def test_what_was_uploaded_is_never_run(front, target, status):
    """cgi.fix_pathinfo would have PHP look for the script in what is before x.php."""
    assert front.status(target) == status


@pytest.mark.parametrize("target", ["/forum", "/forum?a=b&c=%20d", "/board", "/secret"])
def test_a_path_without_its_slash_leads_to_the_one_with_it(front, target):
    path, _mark, query = target.partition("?")
    status, _body, headers = front.ask(target)
    assert (status, headers["Location"]) == (301, f"http://localhost:{front.port}{path}/{'?' if query else ''}{query}")


def test_a_directory_without_its_slash_leads_to_the_one_with_it(front):
    status, _body, headers = front.ask("/forum/sub?a=b")
    assert (status, headers["Location"]) == (301, f"http://localhost:{front.port}/forum/sub/?a=b")


def test_a_directory_without_an_index_is_not_listed(front):
    assert front.status("/forum/bare/") == front.status("/board/bare/") == 403


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/forum/none.php", "localhost"),
        ("/forum/none.txt", "localhost"),
        ("/forum/none/tell.php", "localhost"),
        ("/forum/sub/none.php/tell.php", "localhost"),
        ("/forums/tell.php", "localhost"),
        ("/foru/tell.php", "localhost"),
        ("/none.php", "forum.example.org"),
        ("/forum/tell.php", "forum.example.org"),
    ],
)
def test_what_is_not_there_is_404_and_php_is_not_asked(front, target, host):
    status, body, _headers = front.ask(target, host=host)
    assert status == 404 and "nginx" in body


def test_a_front_controller_takes_scripts_that_are_not_there_too(front):
    assert front.status("/board/none.php?a=b") == front.status("/board/old/page.php/42") == 200


@pytest.mark.parametrize("host", ["localhost", "forum.example.org"])
@pytest.mark.parametrize("path", ["", "/", "/secret.txt", "/tell.php", "/tell.php/x", "/none", "/../data/secret.txt", "/./secret.txt", "/%73ecret.txt"])
def test_what_is_denied_is_404(front, path, host):
    prefix = "/forum" if host == "localhost" else ""
    status, body, _headers = front.ask(f"{prefix}/data{path}", host=host)
    assert status == 404 and SECRET not in body


@pytest.mark.parametrize("target", ["/forum/only.php", "/forum/only.php/x", "/forum//only.php", "/forum/%6fnly.php", "/forum/sub/../only.php"])
def test_a_script_that_is_denied_is_404(front, target):
    assert front.status(target) == 404


@pytest.mark.parametrize(
    "path",
    [
        "/.htaccess",
        "/.tell.php",
        "/sub/.git/config",
        "/sub/.git/tell.php",
        "/sub/.git/",
        "/.well-known/.git/config",
        "/.none",
        "/%2ehtaccess",
        "/sub/%2Egit/config",
    ],
)
@pytest.mark.parametrize(("prefix", "host"), [("/forum", "localhost"), ("/board", "localhost"), ("", "forum.example.org"), ("", "board.example.org")])
def test_hidden_files_are_404_even_where_a_front_controller_takes_the_rest(front, prefix, host, path):
    status, body, _headers = front.ask(f"{prefix}{path}", host=host)
    assert status == 404 and SECRET not in body


@pytest.mark.parametrize(
    "target", ["/forum/../beside.txt", "/forum/..%2fbeside.txt", "/forum../beside.txt", "/forum/%2e%2e/beside.txt", "/forum/files../beside.txt"]
)
def test_no_path_leads_out_of_the_document_root(front, target):
    status, body, _headers = front.ask(target)
    assert status in (400, 404) and SECRET not in body


# The front controller


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(("target", "host"), [("/board/articles/7?deep=1&b=%20", "localhost"), ("/articles/7?deep=1&b=%20", "board.example.org")])
def test_a_front_controller_takes_what_is_no_file_with_its_method_its_query_and_its_body(front, method, target, host):
    told = front.script(target, method=method, host=host, body=b"some words", headers={"Content-Type": "text/plain"})
    assert told["here"] == "www/index.php"
    server = told["server"]
    prefix = "/board" if host == "localhost" else ""
    assert (server["REQUEST_METHOD"], server["REQUEST_URI"], server["SCRIPT_NAME"]) == (method, target, f"{prefix}/index.php")
    assert told["get"] == {"deep": "1", "b": " "}
    assert told["input"] == "some words"


def test_a_form_that_is_posted_to_a_front_controller_arrives(front):
    told = front.script("/board/articles", method="POST", body=b"a=1&b=two", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert told["post"] == {"a": "1", "b": "two"}


def test_a_front_controller_leaves_files_scripts_and_directories_alone(front):
    assert front.script("/board/tell.php/x")["here"] == "www/tell.php"
    assert front.script("/board/sub/")["here"] == "sub/index.php"
    assert front.ask("/board/x.txt")[:2] == (200, "a file")


@pytest.mark.parametrize("target", ["/board/a%0ab", "/board/a%3fb", "/board/%20", "/board/a;b", "/board/$uri"])
def test_a_front_controller_sees_the_request_as_the_client_wrote_it(front, target):
    assert front.script(target)["server"]["REQUEST_URI"] == target


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_directory_passes_its_query_and_body_on_to_its_index(front, method):
    told = front.script("/forum/sub/?a=b", method=method, body=b"c=d", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (told["here"], told["get"], told["input"], told["post"]) == ("sub/index.php", {"a": "b"}, "c=d", {"c": "d"} if method == "POST" else [])


# What a client must not decide


@pytest.mark.parametrize("target", ["/forum/tell.php", "/board/x", "/api/tell.php"])
def test_a_clients_proxy_header_is_empty_for_the_script(front, target):
    assert front.script(target, headers={"Proxy": "http://evil.example"})["proxy"] == ""


def test_the_parameters_of_a_location_reach_its_scripts(front):
    assert front.script("/api/tell.php", method="POST", body=b"")["server"]["SHOP"] == "POST of shop"


# Uploads


def upload(size):
    """A form with a file, of a body of this size."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.bin"\r\n\r\n'
    tail = b"\r\n--x--\r\n"
    return {"method": "POST", "body": head + bytes(size - len(head) - len(tail)) + tail, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


@pytest.mark.parametrize("target", ["/forum/tell.php", "/forum/tell.php/x", "/forum/", "/board/articles", "/board/"])
def test_what_php_takes_nginx_takes_too_wherever_it_is_sent(front, target):
    told = front.script(target, **upload(1800 * 1024))
    assert told["upload"][0] == 0 and told["upload"][1] > 1700 * 1024


@pytest.mark.parametrize("target", ["/forum/tell.php", "/forum/", "/board/articles", "/board/"])
def test_more_than_php_takes_is_refused_by_nginx(front, target):
    status, body, _headers = front.ask(target, **upload(2 * MEGABYTE + 1))
    assert status == 413 and "nginx" in body


def test_a_file_that_is_larger_than_php_takes_one_is_for_the_script_to_refuse(front):
    assert front.script("/forum/tell.php", **upload(2 * MEGABYTE))["upload"][0] == 1  # UPLOAD_ERR_INI_SIZE


def test_another_pool_has_its_own_limit(front):
    assert front.script("/api/tell.php", **upload(3 * MEGABYTE))["upload"][0] == 1
    assert front.status("/api/tell.php", **upload(8 * MEGABYTE + 1)) == 413


# Passwords


@pytest.mark.parametrize("target", ["/secret/", "/secret/tell.php", "/secret/x.txt", "/secret/none", "/secret/sub/"])
def test_a_password_guards_files_and_scripts(front, target):
    assert front.status(target) == 401
    assert front.status(target, headers=credentials("wrong")) == 401


def test_who_has_the_password_gets_files_and_scripts_which_learn_the_name(front):
    assert front.ask("/secret/x.txt", headers=credentials("secret"))[:2] == (200, "a file")
    assert front.script("/secret/", headers=credentials("secret"))["server"]["REMOTE_USER"] == "ada"


def credentials(password):
    return {"Authorization": f"Basic {base64.b64encode(f'ada:{password}'.encode()).decode()}"}


# Pools and releases


def test_a_location_is_served_by_the_pool_that_it_names(front):
    own, api = front.script("/forum/tell.php"), front.script("/api/tell.php")
    assert (own["pool"], api["pool"]) == ("own", "api")
    assert own["pid"] != api["pid"]


def test_sockets_are_for_nginxs_group_whoever_binds_them(front):
    run = front.directory / "run"
    assert {front.script(f"{path}/tell.php")["here"] for path in ("/blog", "/blogs")} == {"www/tell.php"}
    for path in ("blog.sock", "blog/api.sock", "blog/status.sock", "blog/api.status.sock"):
        status = (run / path).stat()
        assert (pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name, oct(status.st_mode)[-3:]) == ("nobody", "www-data", "660"), path
    assert oct((run / "blog").stat().st_mode)[-4:] == "2750"


def test_what_a_deployment_and_a_status_ask_is_what_the_pools_answer(front, run_module):
    found = model.fcgi_model(php_host.complete(front.directory, apps(front.directory)), supervisor="fcgivisord", **php_host.places(front.directory))
    asked = run_module("fcgi_probe", {"targets": found["probes"]})
    assert [(probe["name"], probe["ok"]) for probe in asked["probes"]] == [("forum", True), ("shop", True), ("blog", True)], asked["msg"]
    told = run_module("fcgi_probe", {"targets": found["status_probes"]})
    pools = [(probe["name"], probe["pool"]["pool"], probe["pool"]["process_manager"]) for probe in told["probes"]]
    assert pools == [
        ("forum", "forum", "static"), ("forum api", "forum_api", "ondemand"), ("shop", "shop", "static"), ("blog", "blog", "dynamic"),
        ("blog api", "blog_api", "dynamic"),
    ], told["msg"]  # fmt: skip


def test_another_release_is_served_from_its_first_request_on(front):
    assert [front.ask("/shop/")[1] for _time in range(3)] == ["release 1 in 1 1"] * 3
    new = front.directory / "srv/shop/new"
    new.symlink_to("releases/2")
    os.replace(new, front.directory / "srv/shop/current")
    assert [front.ask("/shop/")[1] for _time in range(3)] == ["release 2 in 2 2"] * 3
