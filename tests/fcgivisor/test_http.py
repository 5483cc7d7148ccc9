# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What supervisord's HTTP servers do beside XML-RPC calls, fcgivisord's do too: passwords, and logs that are followed."""

from __future__ import annotations

import base64
import hashlib
import http.client
import subprocess

import pytest
from harness import PATIENCE, SLEEP, TOOLS, unix_connection
from ports import free_port

SHA = "{SHA}" + hashlib.sha1(b"secret: it is").hexdigest()
CALL = b"<?xml version='1.0'?><methodCall><methodName>supervisor.getAPIVersion</methodName><params></params></methodCall>"


def ask(connection, path="/RPC2", method="POST", body=CALL, **headers):
    connection.request(method, path, body if method == "POST" else None, headers)
    answer = connection.getresponse()
    found = (answer.status, answer.getheader("WWW-Authenticate"), b"3.0" in answer.read())
    connection.close()
    return found


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("family", ["unix", "inet"])
@pytest.mark.parametrize("stored", ["secret: it is", SHA], ids=["cleartext", "SHA"])
def test_basic_authentication(pair, family, stored):
    ports = {one: free_port() for one in pair.both}

    def configure(one):
        if family == "inet":
            one.sections["inet_http_server"] = {"port": f"127.0.0.1:{ports[one]}"}
        else:
            one.credentials = "user:secret: it is"
        one.sections[f"{family}_http_server"].update(username="user", password=stored)

    pair.configure(configure)

    def script(witness):
        one = witness.supervisor

        def connect():
            return unix_connection(one.socket) if family == "unix" else http.client.HTTPConnection("127.0.0.1", ports[one], timeout=PATIENCE)

        tries = ["user:secret: it is", "user:", "user", ":", "user:secret", "User:secret: it is", f"user:{stored}x", "user:sécret", ""]
        for text in tries:
            witness.note(f"with {text}", ask(connect(), Authorization=basic(text)))
            witness.note(f"tail with {text}", ask(connect(), "/logtail/nobody", "GET", Authorization=basic(text))[0])
        witness.note("without", ask(connect()))
        witness.note("lower case", ask(connect(), authorization=basic(tries[0]).replace("Basic", "basic")))
        for scheme in ("Digest abc", "Basic", "Basic %%%", "Bearer token"):
            witness.note(scheme, ask(connect(), Authorization=scheme)[:2])
        url = f"unix://{one.socket}" if family == "unix" else f"http://127.0.0.1:{ports[one]}"
        for words in (("-u", "user", "-p", "secret: it is"), ("-u", "user", "-p", "wrong"), ()):
            command = [str(TOOLS / "supervisorctl"), "-s", url, *words, "pid", "all"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            witness.note(f"supervisorctl {words}", (done.returncode, done.stdout, done.stderr))

    pair.agree(script, "malformed-credentials")


def test_logs_are_followed(pair):
    text = "".join(f"line {number:04d}\n" for number in range(300))

    def configure(one):
        (one.directory / "text").write_text(text)
        one.sections["program:web"] = {
            "command": f"/bin/sh -c 'cat {one.directory}/text; echo error >&2; exec cat'",
            "stdout_logfile": one.directory / "web.log",
        }
        one.sections["program:silent"] = {"command": SLEEP, "stdout_logfile": "NONE"}

    pair.configure(configure)

    def script(witness):
        one = witness.supervisor
        one.wait_for_output("web", "line 0299")
        witness.until("web", "RUNNING")

        def follow(path):
            connection = unix_connection(one.socket)
            connection.request("GET", path)
            answer = connection.getresponse()
            return connection, answer, (answer.status, answer.getheader("Content-Type"), answer.getheader("Transfer-Encoding"))

        for path in ("/logtail/web", "/logtail/web/stdout", "/logtail/web%3Aweb/stdout"):
            connection, answer, facts = follow(path)
            witness.note(path, (facts, answer.read(1024).decode()))
            one.rpc.sendProcessStdin("web", f"more for {path}\n")
            witness.note(path, answer.read(len(f"more for {path}\n")).decode())
            connection.close()
        connection, answer, facts = follow("/logtail/web/stderr")
        witness.note("stderr", (facts, answer.read(6).decode()))
        connection.close()
        connection, answer, facts = follow("/mainlogtail")
        answer.read(100)
        witness.note("main log", facts)
        connection.close()
        for path in ("/logtail/nobody", "/logtail/silent", "/logtail/", "/logtail/web/nonsense", "/logtail/nobody:web/stderr"):
            witness.note(path, follow(path)[2][0])
        # A log that is cleared begins anew.
        connection, answer, _facts = follow("/logtail/web")
        answer.read(1024)
        one.rpc.clearProcessLogs("web")
        one.rpc.sendProcessStdin("web", "anew\n")
        witness.note("cleared", answer.read(len("anew\n")).decode())
        connection.close()

    pair.agree(script)


def test_requests_that_are_none(pair):
    def script(witness):
        one = witness.supervisor
        for body in (b"<", b"<methodCall/>", b"<methodCall><methodName/></methodCall>", CALL[:60]):
            witness.note(repr(body), ask(unix_connection(one.socket), body=body))
        without_params = b"<methodCall><methodName>supervisor.getAPIVersion</methodName></methodCall>"
        witness.note("without params", ask(unix_connection(one.socket), body=without_params))
        witness.note("longer path", ask(unix_connection(one.socket), "/RPC2/more?x=1"))
        witness.note("POST elsewhere", ask(unix_connection(one.socket), "/logtail/web")[0])

    pair.agree(script)


def test_there_is_no_web_interface(supervisor):
    supervisor.start()
    for path in ("/", "/index.html", "/tail.html", "/stylesheets/supervisor.css"):
        assert ask(unix_connection(supervisor.socket), path, "GET")[0] == 404
