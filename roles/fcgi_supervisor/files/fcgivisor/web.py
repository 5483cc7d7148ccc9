# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is behind which path: XML-RPC, logs that are followed, and the status as JSON."""

from __future__ import annotations

import os
import urllib.parse

from fcgivisor import rpc, wire
from fcgivisor.methods import Dispatcher
from fcgivisor.rpc import Deferred

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.http_server import Request
    from fcgivisor.supervisor import Supervisor

# Seconds between two looks at a log that a client follows, and bytes that it gets of what is there (supervisor/http.py, tail_f_producer).
TAIL_LOOKS = 0.1
TAIL_HEAD = 1024
_TAIL_PIECE = 65536


class Site:
    """Answers requests for one supervisor."""

    def __init__(self, supervisor: Supervisor, dispatcher: Dispatcher) -> None:
        self._supervisor, self._dispatcher = supervisor, dispatcher

    def handle(self, request: Request) -> None:
        path = request.path.partition("?")[0]
        if path.startswith("/RPC2"):
            if request.method == "POST":
                self._rpc(request)
            else:
                request.refuse(400)
            return
        if request.method != "GET":
            request.refuse(400)
        elif path.startswith("/mainlogtail"):
            self._follow(request, self._supervisor.log.path)
        elif path.startswith("/logtail/"):
            self._follow(request, self._process_log(urllib.parse.unquote(path[len("/logtail/") :])))
        elif path == "/status":
            request.answer(rpc.status_json(self._supervisor), "application/json")
        else:
            request.refuse(404)

    def _rpc(self, request: Request) -> None:
        try:
            method, params = wire.parse_request(request.body)
        except wire.WireError as error:
            self._supervisor.log.error(f"XML-RPC request is invalid: {error}")
            request.refuse(400)
            return
        if not method:
            self._supervisor.log.error("XML-RPC request is invalid: no method name")
            request.refuse(400)
            return
        self._supervisor.log.trace(f"XML-RPC method called: {method}()")
        if not self._try(request, lambda: self._dispatcher.call(method, params)):
            return

    def _try(self, request: Request, call) -> bool:
        """Answer with what the call returns. Returns whether it was answered; else it will be, later."""
        try:
            value = call()
            if value is Deferred.NOT_YET:
                return False
            if isinstance(value, Deferred):
                poll = value.poll
                self._supervisor.wait(lambda: request.gone or self._try(request, poll))
                self._supervisor.changed()  # it may have come true by now
                return False
            body = wire.answer(value)
        except wire.Fault as fault:
            body = wire.fault(fault)
        except Exception as error:
            # One client's request that meets a mistake of ours must not end the supervisor.
            self._supervisor.log.critical(f"a request raised an unexpected exception: {error!r}")
            request.refuse(500)
            return True
        request.answer(body)
        return True

    def _process_log(self, name: str) -> str | None:
        """Of NAME or NAME/CHANNEL."""
        name, _slash, channel = name.partition("/")
        group_name, colon, process_name = name.partition(":")
        group = self._supervisor.groups.get(group_name)
        process = group.processes.get(process_name if colon else group_name) if group else None
        return process.logfile(channel or "stdout") if process and channel in ("", "stdout", "stderr") else None

    def _follow(self, request: Request, path: str | None) -> None:
        try:
            if path is None:
                raise FileNotFoundError
            _Tail(self._supervisor, request, path)
        except OSError:
            request.refuse(404)


class _Tail:
    """A log that a client follows, through rotations, until it goes."""

    def __init__(self, supervisor: Supervisor, request: Request, path: str) -> None:
        self._supervisor, self._request, self._path = supervisor, request, path
        self._file = open(path, "rb")
        self._file.seek(max(0, os.fstat(self._file.fileno()).st_size - TAIL_HEAD))
        request.stream("text/plain;charset=utf-8")
        self._look()

    def _look(self) -> None:
        if self._request.gone or self._supervisor.stopping:
            self._file.close()
            return
        if self._request.waiting < _TAIL_PIECE:
            self._send_news()
        self._supervisor.loop.after(TAIL_LOOKS, self._look)

    def _send_news(self) -> None:
        try:
            here, there = os.fstat(self._file.fileno()), os.stat(self._path)
            if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) and self._file.tell() >= here.st_size:
                self._file.close()
                self._file = open(self._path, "rb")
            elif here.st_size < self._file.tell():
                self._file.seek(0)
                self._request.send(b"==> File truncated <==\n")
        except OSError:  # it has been removed; there may be a new one soon
            pass
        data = self._file.read(_TAIL_PIECE)
        if data:
            self._request.send(data)
