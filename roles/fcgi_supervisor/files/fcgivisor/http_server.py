# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP on the loop: requests come in, whole and not too large; answers go out, now or later. It knows no XML-RPC."""

from __future__ import annotations

import binascii
import errno
import os
import socket
import stat
import struct

from fcgivisor.loop import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.loop import Loop, Timer
    from fcgivisor.mainlog import MainLog
    from fcgivisor.model import ServerConfig

# Bytes of a request line with its headers, and of a body. The largest call there is, a multicall over a thousand programs, has 300 KiB.
MAX_HEAD = 64 * 1024
MAX_BODY = 8 * 1024 * 1024
# Connections of a server at once: each costs a descriptor, and those of the workers come first. One more costs the oldest that awaits no answer its place.
MAX_CONNECTIONS = 200
# Seconds in which a request has to be complete, an answer to be taken, and a kept connection to be used again.
PATIENCE = 60.0
# Seconds for a client to close its side after the last answer.
LINGER = 2.0
_READ_SIZE = 65536
# Supplementary groups of a client that are looked at: Python's getsockopt() takes no more.
_MOST_GROUPS = 256

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
}
_ERROR_BODY = (
    "<head>\r\n<title>Error response</title>\r\n</head>\r\n<body>\r\n<h1>Error response</h1>\r\n<p>Error code {code}.\r\n<p>Message: {reason}.\r\n</body>\r\n"
)


class Request:
    """A whole request. answer() is called once, at any time."""

    __slots__ = ("_connection", "_streaming", "_version", "body", "headers", "method", "path")

    def __init__(self, connection: Connection, method: str, path: str, version: str, headers: dict[str, str]) -> None:
        self.method, self.path, self.headers, self._version = method, path, headers, version
        self.body = b""
        self._connection = connection
        self._streaming = False

    @property
    def keep(self) -> bool:
        """Whether the client wants to go on with this connection."""
        word = self.headers.get("connection", "").lower()
        return word != "close" if self._version == "HTTP/1.1" else word == "keep-alive"

    @property
    def gone(self) -> bool:
        """Whether the client has gone."""
        return self._connection.closed

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._connection.waiting

    def answer(self, body: bytes, content_type: str = "text/xml", code: int = 200, more: tuple[str, ...] = ()) -> None:
        keep = self.keep and code == 200
        head = [f"HTTP/1.1 {code} {_REASONS[code]}", f"Content-Length: {len(body)}", f"Content-Type: {content_type}", "Server: fcgivisord", *more]
        if not keep:
            head.append("Connection: close")
        elif self._version == "HTTP/1.0":
            head.append("Connection: Keep-Alive")
        self._connection.finish(("\r\n".join(head) + "\r\n\r\n").encode() + body, keep)

    def refuse(self, code: int, more: tuple[str, ...] = ()) -> None:
        self.answer(_ERROR_BODY.format(code=code, reason=_REASONS[code]).encode(), "text/html", code, more)

    def stream(self, content_type: str) -> None:
        """Begin an answer without an end: send() follows, until gone. Chunked for HTTP/1.1 (RFC 9112, 7.1)."""
        self._streaming = self._version == "HTTP/1.1"
        head = ["HTTP/1.1 200 OK", f"Content-Type: {content_type}", "X-Accel-Buffering: no", "Server: fcgivisord"]
        head.append("Transfer-Encoding: chunked" if self._streaming else "Connection: close")
        self._connection.send(("\r\n".join(head) + "\r\n\r\n").encode())

    def send(self, data: bytes) -> None:
        self._connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._streaming else data)


class Server:
    """One listening address. handle(request) gets each request that may be answered."""

    def __init__(self, config: ServerConfig, loop: Loop, log: MainLog, handle: Callable[[Request], None]) -> None:
        self.config, self.loop, self.log, self.handle = config, loop, log, handle
        self._connections: dict[Connection, None] = {}  # the oldest first
        self._socket = _unix_socket(config) if config.family == "unix" else _inet_socket(config)
        self._socket.setblocking(False)
        loop.watch(self._socket.fileno(), self._accept)

    def close(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self.loop.forget(self._socket.fileno())
        self._socket.close()
        if self.config.family == "unix":
            try:
                os.unlink(self.config.file)
            except OSError:
                pass

    def forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def _accept(self, _events: int) -> None:
        try:
            accepted, _address = self._socket.accept()
        except OSError as error:  # no descriptor left, or the client is gone
            if not isinstance(error, BlockingIOError):
                self.log.error(f"a client of {self.config.section} could not be accepted: {error.strerror}")
                self._pause(1.0)
            return
        if self.config.family == "unix" and not _is_allowed(accepted, self.config):
            accepted.close()
            self.log.warn(f"a client of {self.config.section} was turned away: its user may not use {self.config.file}")
            return
        accepted.setblocking(False)
        self._connections[Connection(self, accepted)] = None
        if len(self._connections) > MAX_CONNECTIONS:
            next(connection for connection in self._connections if not connection.busy).close()

    def _pause(self, seconds: float) -> None:
        self.loop.change(self._socket.fileno(), 0)
        self.loop.after(seconds, self._resume)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self.loop.change(self._socket.fileno(), IN)

    def authorized(self, request: Request) -> bool:
        """Whether the request may be answered, by basic authentication."""
        if not self.config.username:
            return True
        import hashlib  # where it is asked for: it brings OpenSSL
        import hmac

        scheme, _space, cookie = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _colon, password = binascii.a2b_base64(cookie).decode().partition(":")
        except ValueError:
            return False
        stored = self.config.password or ""
        if stored.startswith("{SHA}"):
            stored, password = stored[len("{SHA}") :], hashlib.sha1(password.encode()).hexdigest()
        right_user = hmac.compare_digest(user.encode(), self.config.username.encode())
        return hmac.compare_digest(password.encode(), stored.encode()) and right_user


class Connection:
    """One client. It is read only while no answer is due, so it cannot pile up requests."""

    def __init__(self, server: Server, accepted: socket.socket) -> None:
        self._server, self._socket = server, accepted
        self._in, self._out = bytearray(), bytearray()
        self._request: Request | None = None
        self._length = 0  # of the body that is awaited
        self.busy = False  # an answer is due
        self._authorized = True
        self._close_after = False
        self._lingering = False
        self._heard = 0  # bytes since it lingers
        self.closed = False
        self._events = IN
        self._timer: Timer = server.loop.after(PATIENCE, self._impatient)
        server.loop.watch(accepted.fileno(), self._ready)

    @property
    def waiting(self) -> int:
        return len(self._out)

    def send(self, data: bytes) -> None:
        if not self.closed:
            self._out += data
            self._flush()

    def finish(self, data: bytes, keep: bool) -> None:
        """The answer is complete."""
        if self.closed:
            return
        self._close_after = not keep
        self.busy = False
        self._request = None
        self._restart_timer()
        self.send(data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._timer.cancel()
            self._server.loop.forget(self._socket.fileno())
            self._socket.close()
            self._server.forget(self)

    def _impatient(self) -> None:
        # An answer that is due is not the client's fault; one that it does not take is.
        if self.busy and not self._out:
            self._restart_timer()
        else:
            self.close()

    def _restart_timer(self) -> None:
        self._timer.cancel()
        self._timer = self._server.loop.after(PATIENCE, self._impatient)

    def _ready(self, ready: int) -> None:
        if ready & OUT:
            self._flush()
        if not self.closed and ready & ~OUT:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if self._lingering:
            self._heard += len(data)
            if self._heard > MAX_HEAD:
                self.close()
            return
        if self.busy and len(self._in) > MAX_HEAD:
            self.close()  # it talks on and does not listen
            return
        self._in += data
        if not self.busy:
            self._advance()

    def _advance(self) -> None:
        if self.closed or self.busy or self._out:
            return
        if self._request is None and not self._read_head():
            return
        request = self._request
        if request is None:
            return
        if not self._authorized:  # what it sends has to be read, or it would not get our answer, but is not kept
            taken = min(self._length, len(self._in))
            del self._in[:taken]
            self._length -= taken
        if len(self._in) < self._length:
            return
        request.body = bytes(self._in[: self._length])
        del self._in[: self._length]
        self.busy = True
        if not self._authorized:
            request.refuse(401, ('WWW-Authenticate: Basic realm="default"',))
            return
        self._server.handle(request)

    def _read_head(self) -> bool:
        """Returns whether there is a request whose body may be awaited."""
        end = self._in.find(b"\r\n\r\n")
        if end < 0:
            if len(self._in) > MAX_HEAD:
                self._refuse(413)
            return False
        lines = bytes(self._in[:end]).decode("latin-1").lstrip("\r\n").split("\r\n")
        del self._in[: end + 4]
        words = lines[0].split()
        if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
            self._refuse(400)
            return False
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                self._refuse(400)
                return False
            headers[name.strip().lower()] = value.strip()
        digits = headers.get("content-length", "0")
        if not (digits.isascii() and digits.isdigit()) or "transfer-encoding" in headers:
            self._refuse(400)
            return False
        if len(digits) > 12 or int(digits) > MAX_BODY:
            self._refuse(413)
            return False
        self._length = int(digits)
        self._request = Request(self, words[0], words[1], words[2], headers)
        self._authorized = self._server.authorized(self._request)
        return True

    def _refuse(self, code: int) -> None:
        self.busy = True
        self._in.clear()
        Request(self, "", "", "HTTP/1.0", {}).refuse(code)

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out[:_READ_SIZE])]
                self._restart_timer()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not self._out and self._close_after and not self.busy and not self._lingering:
            self._linger()
            if self.closed:
                return
        if self._in and not self._out and not self._lingering:
            self._server.loop.soon(self._advance)
        # Who does not take an answer gets no further question heard.
        wanted = OUT if self._out else IN
        if wanted != self._events:
            self._events = wanted
            self._server.loop.change(self._socket.fileno(), wanted)

    def _linger(self) -> None:
        """Say no more, but hear the client out: one that still writes would lose the answer (supervisorctl's tail -f does; RFC 9112, 9.6)."""
        self._lingering = True
        self._in.clear()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._timer.cancel()
        self._timer = self._server.loop.after(LINGER, self.close)


def _unix_socket(config: ServerConfig) -> socket.socket:
    """Bound under a temporary name with its final mode and owner, then linked: whoever finds it, finds it ready (supervisor/http.py). Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = f"{config.file}.{os.getpid()}"
    try:
        _unlink(temporary)
        os.fchmod(made.fileno(), config.chmod)
        mask = os.umask(0)
        try:
            made.bind(temporary)
        finally:
            os.umask(mask)
        os.chown(temporary, *config.chown)
        made.listen(socket.SOMAXCONN)
        _replace(temporary, config.file)
    except OSError:
        made.close()
        raise
    finally:
        _unlink(temporary)
    return made


def _replace(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)
        return
    except FileExistsError:
        pass
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(f"{path} is there, and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            os.rename(temporary, path)  # nobody listens there
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _inet_socket(config: ServerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((config.host, config.port))
        made.listen(socket.SOMAXCONN)
    except OSError:
        made.close()
        raise
    return made


def _is_allowed(client: socket.socket, config: ServerConfig) -> bool:
    """Whether the client's user may write to the socket's file, by owner and mode; the kernel says who it is (SO_PEERCRED).

    The kernel has checked the path when the client connected; this holds even where somebody gave the file away, or linked it elsewhere.
    """
    _pid, uid, gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    owner, group = (wanted if wanted >= 0 else own for wanted, own in zip(config.chown, (os.geteuid(), os.getegid())))
    if uid in (0, owner, os.geteuid()):
        return True
    if config.chmod & 0o002:
        return True
    return bool(config.chmod & 0o020) and (gid == group or group in _groups(client))


def _groups(client: socket.socket) -> tuple[int, ...]:
    """Supplementary groups of a client (socket(7), SO_PEERGROUPS)."""
    try:
        raw = client.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_PEERGROUPS", 59), _MOST_GROUPS * 4)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}i", raw)
