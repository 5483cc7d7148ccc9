# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_probe against the FastCGI libraries that people use, and against servers that do everything wrong.

Needs Go, php-fpm, fcgiwrap (which stands for all programs on libfcgi) and flup.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import json
import os
import pathlib
import socket
import socketserver
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi

PROGRAMS = pathlib.Path(__file__).with_name("probe_servers")

PHP_FPM_CONFIG = """
[global]
error_log = {directory}/php-fpm.log
[pool]
user = {user}
listen = {directory}/php.sock
pm = static
pm.max_children = 2
ping.path = /ping
"""


def stdout(content):
    return fastcgi.pack_record(fastcgi.STDOUT, fastcgi.REQUEST, content)


def stderr(content):
    return fastcgi.pack_record(fastcgi.STDERR, fastcgi.REQUEST, content)


def end(protocol_status=0):
    return fastcgi.pack_record(fastcgi.END_REQUEST, fastcgi.REQUEST, bytes([0, 0, 0, 0, protocol_status, 0, 0, 0]))


ALIVE = fastcgi.pack_record(fastcgi.GET_VALUES_RESULT, fastcgi.MANAGEMENT)
ANSWER = stdout(b"Content-Type: text/plain\r\n\r\nok") + end()


# Real programs


def unix_socket(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    return listener


@pytest.fixture
def start():
    """start(command, listener): run a program that takes its connections from fd 0. Those made before it is ready wait in the socket's queue."""
    with contextlib.ExitStack() as cleanup:

        def start_program(command, listener, **options):
            program = subprocess.Popen(command, stdin=listener, start_new_session=True, **options)
            cleanup.callback(program.wait, timeout=30)
            cleanup.callback(program.terminate)  # SIGKILL would leave php-fpm's children behind
            listener.close()

        yield start_program


@pytest.fixture(scope="module")
def go_program(tmp_path_factory):
    program = tmp_path_factory.mktemp("go") / "echo"
    subprocess.run(["go", "build", "-o", program, PROGRAMS / "echo.go"], env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return program


@pytest.fixture
def go(start, go_program, tmp_path):
    start([go_program], unix_socket(tmp_path / "go.sock"))
    return {"address": f"unix:{tmp_path}/go.sock"}


@pytest.fixture
def flup(start, tmp_path):
    start([sys.executable, PROGRAMS / "echo_flup.py"], unix_socket(tmp_path / "flup.sock"))
    return {"address": f"unix:{tmp_path}/flup.sock"}


@pytest.fixture
def libfcgi(start, tmp_path):
    start(["fcgiwrap", "-f"], unix_socket(tmp_path / "fcgiwrap.sock"))
    return {"address": f"unix:{tmp_path}/fcgiwrap.sock", "params": {"SCRIPT_FILENAME": str(PROGRAMS / "echo.cgi")}}


@pytest.fixture
def php_fpm(start, tmp_path):
    """php-fpm takes a socket that is already listening from the descriptor that FPM_SOCKETS names."""
    config = tmp_path / "php-fpm.conf"
    config.write_text(PHP_FPM_CONFIG.format(directory=tmp_path, user=getpass.getuser()))
    listener = unix_socket(tmp_path / "php.sock")
    held = os.dup(listener.fileno())
    command = ["php-fpm8.2", "--nodaemonize", "--allow-to-run-as-root", "-n", "-d", "cgi.fix_pathinfo=0", "--fpm-config", config]
    start(command, listener, pass_fds=[held], env={**os.environ, "FPM_SOCKETS": f"{tmp_path}/php.sock={held}"})
    os.close(held)
    return {"address": f"unix:{tmp_path}/php.sock", "params": {"SCRIPT_FILENAME": str(PROGRAMS / "echo.php")}}


@pytest.mark.parametrize(("web_servers", "answers"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_libfcgi_on_tcp_answers_the_web_servers_that_its_environment_names(start, run_module, web_servers, answers):
    """So does the one that the model writes into an app's environment."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    start(["fcgiwrap", "-f"], listener, env={**os.environ, "FCGI_WEB_SERVER_ADDRS": web_servers})
    result = run_module("fcgi_probe", {"targets": [{"name": "x", "address": f"127.0.0.1:{port}", "timeout": 5, "deadline": 0}]})
    assert result.get("failed", False) is not answers, result


@pytest.mark.parametrize("library", ["go", "flup", "libfcgi", "php_fpm"])
def test_every_library_answers_a_ping_and_a_request(library, request, run_module):
    target = request.getfixturevalue(library)
    ping = {"address": target["address"]}
    place = {"script_name": "/app", "path_info": "/a b", "query": "x=1&y=2"}
    post = {**target, **place, "mode": "request", "method": "POST", "request_body": "hello", "body": "^POST /app/a b x=1&y=2 hello$"}
    result = run_module("fcgi_probe", {"targets": [ping, post]})
    assert result["msg"] == "2 of 2 targets answered"
    assert [probe["ok"] for probe in result["probes"]] == [True, True]
    assert result["probes"][1]["status"] == 200
    assert result["probes"][1]["headers"]["content-type"].startswith("text/plain")
    assert not result["changed"]


def test_a_program_is_reached_over_tcp(start, go_program, run_module):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    start([go_program], listener)
    result = run_module("fcgi_probe", {"address": f"127.0.0.1:{port}", "mode": "request", "path_info": "/tcp", "body": "^GET /tcp"})
    assert result["probes"][0]["ok"], result["msg"]


def test_what_a_program_writes_to_its_error_stream_is_returned(libfcgi, run_module):
    result = run_module("fcgi_probe", {**libfcgi, "mode": "request"})
    assert result["probes"][0]["stderr"].strip() == "echo.cgi was here"


def test_php_fpm_answers_its_ping_path_as_the_examples_say(php_fpm, run_module):
    ping_path = {"script_name": "/ping", "params": {"SCRIPT_FILENAME": "/ping"}, "body": "^pong$"}
    result = run_module("fcgi_probe", {"address": php_fpm["address"], "mode": "request", **ping_path})
    assert result["probes"][0]["ok"], result["msg"]


def test_a_script_that_php_fpm_does_not_find_fails_with_its_words(php_fpm, run_module):
    result = run_module("fcgi_probe", {**php_fpm, "mode": "request", "params": {"SCRIPT_FILENAME": "/nowhere/x.php"}})
    assert result["failed"]
    assert (result["probes"][0]["error"], result["probes"][0]["status"]) == ("status", 404)
    assert "primary script" in result["probes"][0]["stderr"]


def test_a_request_body_of_several_records_arrives_whole(go, run_module):
    result = run_module("fcgi_probe", {**go, "mode": "request", "method": "PUT", "request_body": "x" * 300_000, "body": "^PUT / +x{300000}$"})
    assert result["probes"][0]["ok"], result["msg"]


# Servers that do everything wrong


@pytest.fixture
def serve(tmp_path):
    """serve(behave) -> address of a server that treats its connection number n (from 0) as `behave(connection, n)` says."""
    with contextlib.ExitStack() as cleanup:

        def start_server(behave):
            path = tmp_path / "scripted.sock"
            numbers = itertools.count()

            class Handler(socketserver.BaseRequestHandler):
                def handle(self):
                    with contextlib.suppress(OSError):  # the client may go at any time
                        behave(self.request, next(numbers))

            server = cleanup.enter_context(socketserver.ThreadingUnixStreamServer(str(path), Handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            cleanup.callback(thread.join)
            cleanup.callback(server.shutdown)
            return f"unix:{path}"

        yield start_server


def hold(connection):
    """Leave the connection open until the client closes it."""
    while connection.recv(65536):
        pass


def reply(answer, then_hold=False):
    def behave(connection, _number):
        connection.recv(65536)
        connection.sendall(answer)
        if then_hold:
            hold(connection)

    return behave


FAULTS = {
    "closes at once": ("ping", "closed", lambda connection, number: None),
    "closes a request at once": ("request", "closed", lambda connection, number: None),
    "closes after reading": ("request", "closed", reply(b"")),
    "closes within a record": ("request", "closed", reply(ANSWER[:5])),
    "closes within a record's content": ("ping", "closed", reply(b"\x01\x0a\x00\x00\x00\x10\x00\x00abc")),
    "closes before the end": ("request", "closed", reply(stdout(b"Status: 200\r\n\r\n"))),
    "says nothing to a ping": ("ping", "silent", reply(b"", then_hold=True)),
    "says nothing to a request": ("request", "silent", reply(b"", then_hold=True)),
    "stops within a record": ("request", "unfinished", reply(ANSWER[:5], then_hold=True)),
    "stops before the end": ("request", "unfinished", reply(stdout(b"Status: 200\r\n\r\n"), then_hold=True)),
    "speaks HTTP to a ping": ("ping", "malformed", reply(b"HTTP/1.1 400 Bad Request\r\n\r\n", then_hold=True)),
    "speaks HTTP to a request": ("request", "malformed", reply(b"HTTP/1.1 400 Bad Request\r\n\r\n", then_hold=True)),
    "speaks FastCGI 2": ("request", "malformed", reply(b"\x02" + ANSWER[1:])),
    "answers a ping with output": ("ping", "malformed", reply(ANSWER)),
    "sends an unknown record": ("request", "malformed", reply(fastcgi.pack_record(42, fastcgi.REQUEST))),
    "answers another request": ("request", "malformed", reply(fastcgi.pack_record(fastcgi.STDOUT, 7, b"x"))),
    "ends with a short record": ("request", "malformed", reply(fastcgi.pack_record(fastcgi.END_REQUEST, fastcgi.REQUEST, b"\0"))),
    "ends with an unknown status": ("request", "malformed", reply(end(9))),
    "ends without a header": ("request", "malformed", reply(end())),
    "sends a huge header": ("request", "malformed", reply(stdout(b"X: " + b"x" * 65000) * 2 + stdout(b"\r\n\r\n") + end())),
    "cannot multiplex": ("request", "cant_multiplex", reply(end(1))),
    "is overloaded": ("request", "overloaded", reply(end(2))),
    "is no responder": ("request", "unknown_role", reply(end(3))),
    "answers 500": ("request", "status", reply(stdout(b"Status: 500 Internal Server Error\r\n\r\nok") + end())),
    "answers no status of php-fpm": ("php_fpm_status", "no_pool", reply(stdout(b"Content-Type: application/json\r\n\r\n{}") + end())),
    "answers something else": ("request", "body", reply(stdout(b"Status: 200\r\n\r\nfail") + end())),
}


OPTIONS = {"request": {"body": "^ok"}, "php_fpm_status": {"script_name": "/status"}}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_apart(fault, serve, run_module):
    mode, error, behave = FAULTS[fault]
    target = {"name": "shop", "address": serve(behave), "mode": mode, **OPTIONS.get(mode, {})}
    timeout = {"silent": 0.2, "unfinished": 2}.get(error, 60)
    result = run_module("fcgi_probe", {**target, "timeout": timeout})
    assert result["failed"]
    assert result["probes"][0]["error"] == error, result["msg"]
    assert f"shop ({target['address']}): {result['probes'][0]['message']}" in result["msg"]


def test_a_server_that_knows_no_get_values_is_alive(serve, run_module):
    unknown = fastcgi.pack_record(fastcgi.UNKNOWN_TYPE, fastcgi.MANAGEMENT, bytes([fastcgi.GET_VALUES, 0, 0, 0, 0, 0, 0, 0]))
    result = run_module("fcgi_probe", {"address": serve(reply(unknown))})
    assert result["probes"][0]["ok"], result["msg"]


def test_a_ping_is_two_records_in_one_write(serve, run_module):
    received = []

    def behave(connection, _number):
        received.append(connection.recv(65536))
        connection.sendall(ALIVE)

    run_module("fcgi_probe", {"address": serve(behave)})
    buffer = bytearray(received[0])
    first, second = fastcgi.take_record(buffer), fastcgi.take_record(buffer)
    assert (first.type, second.type, second.content, buffer) == (fastcgi.GET_VALUES, fastcgi.GET_VALUES, b"", b"")


def test_an_answer_counts_that_came_in_pieces_among_records_of_the_connection(serve, run_module):
    def behave(connection, _number):
        connection.recv(65536)
        for byte in ALIVE + stderr(b"half") + ANSWER:
            connection.sendall(bytes([byte]))

    result = run_module("fcgi_probe", {"address": serve(behave), "mode": "request", "body": "^ok$"})
    assert result["probes"][0]["ok"], result["msg"]
    assert result["probes"][0]["stderr"] == "half"


def test_an_answer_counts_that_came_before_the_request_was_read(serve, run_module):
    result = run_module("fcgi_probe", {"address": serve(reply(ANSWER)), "mode": "request", "method": "POST", "request_body": "x" * 5_000_000})
    assert result["probes"][0]["ok"], result["msg"]


def test_the_last_words_of_a_program_that_died_are_returned(serve, run_module):
    result = run_module("fcgi_probe", {"address": serve(reply(stderr(b"Segmentation fault"))), "mode": "request"})
    assert (result["probes"][0]["error"], result["probes"][0]["stderr"]) == ("closed", "Segmentation fault")


def test_an_endless_answer_is_cut_in_time_and_in_memory(serve):
    def behave(connection, _number):
        chunk = stdout(b"X: y\r\n\r\n" + b"x" * 60_000) + stderr(b"x" * 60_000)
        while True:
            connection.sendall(chunk)

    address = serve(behave)
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(fastcgi.FastCGIError) as error:
        fastcgi.request(address, {}, b"", timeout=1)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.value.kind == "unfinished"
    assert time.monotonic() - began < 5
    assert peak < 8 * fastcgi.STDOUT_LIMIT


def test_a_long_body_is_read_to_its_end_and_kept_up_to_the_limit(serve):
    response = fastcgi.request(serve(reply(stdout(b"Status: 200\n\n") + stdout(b"x" * 60_000) * 50 + end())), {}, b"", timeout=5)
    assert response.body == b"x" * (fastcgi.STDOUT_LIMIT - len(b"Status: 200\n\n"))


# No connection


def error_of(run_module, address):
    return run_module("fcgi_probe", {"address": address, "timeout": 2})["probes"][0]["error"]


def test_a_missing_socket_is_missing(tmp_path, run_module):
    assert error_of(run_module, f"unix:{tmp_path}/none.sock") == "missing"


def test_a_socket_that_nobody_serves_is_refused(tmp_path, run_module):
    unix_socket(tmp_path / "left.sock").close()
    assert error_of(run_module, f"unix:{tmp_path}/left.sock") == "refused"


def test_a_port_on_which_nobody_listens_is_refused(run_module):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert error_of(run_module, f"127.0.0.1:{bound.getsockname()[1]}") == "refused"


def test_a_full_queue_is_a_backlog(tmp_path, run_module):
    with contextlib.ExitStack() as cleanup:
        listener = cleanup.enter_context(unix_socket(tmp_path / "full.sock"))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = cleanup.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(tmp_path / "full.sock"))
        assert error_of(run_module, f"unix:{tmp_path}/full.sock") == "backlog"


def test_a_host_name_that_does_not_exist_is_unreachable(run_module):
    assert error_of(run_module, f"{'x' * 64}.invalid:9001") == "unreachable"


@contextlib.contextmanager
def unprivileged():
    """root may connect to everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_socket_of_others_is_a_matter_of_permission(tmp_path):
    with unix_socket(tmp_path / "closed.sock"):
        (tmp_path / "closed.sock").chmod(0)
        with unprivileged(), pytest.raises(fastcgi.FastCGIError) as error:
            fastcgi.ping(f"unix:{tmp_path}/closed.sock", timeout=2)
    assert error.value.kind == "permission"


# Retries


def test_attempts_are_repeated_until_one_succeeds(serve, run_module):
    def behave(connection, number):
        if number == 2:
            connection.recv(65536)
            connection.sendall(ALIVE)

    result = run_module("fcgi_probe", {"address": serve(behave), "deadline": 60})
    assert (result["probes"][0]["ok"], result["probes"][0]["attempts"]) == (True, 3)


def test_without_a_deadline_there_is_one_attempt(tmp_path, run_module):
    assert run_module("fcgi_probe", {"address": f"unix:{tmp_path}/none.sock"})["probes"][0]["attempts"] == 1


def test_attempts_end_with_the_deadline_and_the_result_has_the_same_keys_as_in_success(tmp_path, serve, run_module):
    began = time.monotonic()
    result = run_module("fcgi_probe", {"targets": [{"address": f"unix:{tmp_path}/none.sock"}, {"address": serve(reply(ALIVE))}], "deadline": 1})
    failed, succeeded = result["probes"]
    assert 1 < failed["attempts"] < 10  # delays grow from 0.05 s
    assert 1 <= time.monotonic() - began < 30
    assert failed.keys() == succeeded.keys()
    assert (failed["ok"], succeeded["ok"], succeeded["error"], succeeded["message"]) == (False, True, None, "")


# Many targets


def test_200_silent_targets_take_hardly_longer_than_one(tmp_path, run_module):
    with unix_socket(tmp_path / "silent.sock") as listener:
        listener.listen(256)
        targets = [{"name": f"app{number}", "address": f"unix:{tmp_path}/silent.sock"} for number in range(200)]
        began = time.monotonic()
        result = run_module("fcgi_probe", {"targets": targets, "timeout": 1})
    assert time.monotonic() - began < 20
    assert [probe["name"] for probe in result["probes"]] == [target["name"] for target in targets]
    assert {probe["error"] for probe in result["probes"]} == {"silent"}
    assert "200 of 200 targets failed" in result["msg"]


def test_a_target_may_have_its_own_timeout_and_deadline(tmp_path, run_module):
    targets = [
        {"address": f"unix:{tmp_path}/silent.sock", "timeout": 0.2, "deadline": 0},
        {"address": f"unix:{tmp_path}/none.sock", "deadline": 0.2},
    ]
    with unix_socket(tmp_path / "silent.sock"):
        silent, missing = run_module("fcgi_probe", {"timeout": 60, "deadline": 60, "targets": targets})["probes"]
    assert (silent["error"], silent["attempts"]) == ("silent", 1)
    assert missing["attempts"] > 1


def test_only_the_targets_that_failed_are_named(serve, tmp_path, run_module):
    targets = [{"name": "shop", "address": serve(reply(ALIVE))}, {"name": "blog", "address": f"unix:{tmp_path}/blog.sock"}]
    result = run_module("fcgi_probe", {"targets": targets})
    assert result["msg"].startswith(f"1 of 2 targets failed: blog (unix:{tmp_path}/blog.sock): there is no such socket")
    assert "shop" not in result["msg"]


def test_check_mode_probes_too(serve, run_module):
    connections = []
    result = run_module("fcgi_probe", {"address": serve(lambda connection, number: connections.append(number))}, check=True)
    assert (result["failed"], result["changed"], connections) == (True, False, [0])


# Secrets


def betray(connection, _number):
    """Repeat the whole request in body, header, error stream."""
    request = connection.recv(65536).replace(b"\0", b"")
    connection.sendall(stderr(request) + stdout(b"Status: 500\nX-Request: " + request.replace(b"\n", b"") + b"\n\n" + request) + end())


@pytest.mark.parametrize("wrap", [lambda target: target, lambda target: {"targets": [target]}], ids=["single", "targets"])
def test_params_and_request_body_are_never_returned(wrap, serve, run_module):
    secrets = {"params": {"SHOP_TOKEN": "correct-horse", "HTTPS": "on", "SERVER_PORT": "500"}, "request_body": "battery-staple"}
    result = run_module("fcgi_probe", wrap({"address": serve(betray), "mode": "request", "method": "POST", **secrets}))
    shown = json.dumps(result)
    assert "SHOP_TOKEN" in result["probes"][0]["body"]
    assert "correct-horse" not in shown
    assert "battery-staple" not in shown
    assert "SHOP_TOKEN" not in json.dumps(result["invocation"])


def test_a_secret_at_the_cut_of_a_long_body_is_not_returned_in_part(serve, run_module):
    address = serve(reply(stdout(b"Status: 200\n\n" + b"x" * 990 + b"correct-horse-battery-staple") + end()))
    result = run_module("fcgi_probe", {"address": address, "mode": "request", "params": {"SHOP_TOKEN": "correct-horse-battery-staple"}})
    assert result["probes"][0]["body"].startswith("x" * 990)
    assert "correct" not in json.dumps(result)


def test_short_and_public_params_do_not_garble_the_result(serve, run_module):
    address = serve(betray)
    result = run_module("fcgi_probe", {"address": address, "mode": "request", "params": {"HTTPS": "on", "SERVER_PORT": "500", "SOCKET": address}})
    assert result["probes"][0]["status"] == 500
    assert f"{address}: the answer's status is 500, not 200" in result["msg"]


# Options that make no sense

ADDRESS = "127.0.0.1:9001"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of the following is required: address, targets"),
        ({"address": ADDRESS, "targets": []}, "mutually exclusive: address|targets"),
        ({"targets": [], "path_info": "/x"}, "mutually exclusive: path_info|targets"),
        ({"targets": [{}]}, "missing required arguments: address"),
        ({"address": "9001"}, "address: '9001' is not an address"),
        ({"targets": [{"address": ADDRESS}, {"address": "shop.sock"}]}, "targets[1].address: 'shop.sock' is not an address"),
        ({"address": "unix:/" + "x" * 300}, "has 301 bytes; the kernel takes at most 107"),
        ({"address": ADDRESS, "timeout": 0}, "timeout: 0.0 is not a number of seconds"),
        ({"address": ADDRESS, "timeout": "nan"}, "timeout: nan is not a number of seconds"),
        ({"targets": [{"address": ADDRESS, "timeout": -1}]}, "targets[0].timeout: -1.0 is not a number of seconds"),
        ({"address": ADDRESS, "deadline": -1}, "deadline: -1.0 is not a number of seconds"),
        ({"address": ADDRESS, "path_info": "/x"}, "path_info: mode ping sends no request"),
        ({"address": ADDRESS, "mode": "php_fpm_status"}, "script_name: mode php_fpm_status needs the pool's pm.status_path"),
        ({"address": ADDRESS, "mode": "php_fpm_status", "script_name": "status"}, "'status' does not begin with a slash"),
        (
            {"targets": [{"address": ADDRESS, "mode": "php_fpm_status", "script_name": "/status", "query": "full"}]},
            "targets[0].query: mode php_fpm_status asks for nothing but the pool's status page",
        ),
        ({"address": ADDRESS, "mode": "request", "path_info": "x"}, "path_info: 'x' does not begin with a slash"),
        ({"address": ADDRESS, "mode": "request", "body": "("}, "body: '(' is not a regular expression"),
        ({"address": ADDRESS, "mode": "request", "status": []}, "status: an empty list accepts no answer"),
        ({"address": ADDRESS, "mode": "request", "params": {"HTTPS": True}}, "params.HTTPS: its value is neither text nor a number"),
        ({"targets": [{"address": ADDRESS, "mode": "request", "params": {"KEY": ["a-secret-value"]}}]}, "targets[0].params.KEY: its value is neither"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_option_and_the_way_out(options, words, run_module):
    result = run_module("fcgi_probe", options)
    assert result["failed"]
    assert words in result["msg"]
    assert "a-secret-value" not in json.dumps(result)
