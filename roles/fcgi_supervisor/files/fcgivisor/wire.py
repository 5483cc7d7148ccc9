# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XML-RPC as bytes (http://xmlrpc.com/spec.md): requests in, answers out. The standard library's client module would cost more memory than all else here."""

from __future__ import annotations

import binascii
import re
from xml.parsers import expat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Deeper values are an attack, not a request.
_DEEPEST = 64
# What XML 1.0 cannot hold; logs do hold it (Supervisor issues 85, 1485, 1611).
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MIN_INT, _MAX_INT = -(2**31), 2**31 - 1

# The numbers and names of supervisor/xmlrpc.py, Faults.
FAULTS = {
    "UNKNOWN_METHOD": 1,
    "INCORRECT_PARAMETERS": 2,
    "BAD_ARGUMENTS": 3,
    "SIGNATURE_UNSUPPORTED": 4,
    "SHUTDOWN_STATE": 6,
    "BAD_NAME": 10,
    "BAD_SIGNAL": 11,
    "NO_FILE": 20,
    "NOT_EXECUTABLE": 21,
    "FAILED": 30,
    "ABNORMAL_TERMINATION": 40,
    "SPAWN_ERROR": 50,
    "ALREADY_STARTED": 60,
    "NOT_RUNNING": 70,
    "SUCCESS": 80,
    "ALREADY_ADDED": 90,
    "STILL_RUNNING": 91,
    "CANT_REREAD": 92,
}


class Fault(Exception):
    """An answer that is an error. name: of FAULTS. text: as supervisord's, "NAME" or "NAME: extra"."""

    def __init__(self, name: str, extra: object = None) -> None:
        self.code = FAULTS[name]
        self.text = name if extra is None else f"{name}: {extra}"
        super().__init__(self.text)


class Ready(str):
    """A value that is XML-RPC already, from ready(): where one answer holds a thousand of the same kind, that is four times as fast."""

    __slots__ = ()


def ready_struct(names: tuple[str, ...], kinds: str) -> str:
    """A template for Ready structs, to be filled by % with one value a member. kinds: of each, s for a string (by escape()) or i for an int."""
    tags = {"s": "string>%s</string", "i": "int>%d</int"}
    members = "".join(f"<member>\n<name>{name}</name>\n<value><{tags[kind]}></value>\n</member>\n" for name, kind in zip(names, kinds))
    return f"<value><struct>\n{members}</struct></value>\n"


class WireError(ValueError):
    """A request that is no XML-RPC."""


class _Request:
    """Collects a methodCall from expat's events."""

    def __init__(self) -> None:
        self.method = ""
        self.params: list[object] = []
        self._text: list[str] = []
        self._stack: list[tuple[str, list]] = []  # open tags, each with the values inside

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        if len(self._stack) >= _DEEPEST:
            raise WireError("values are nested too deeply")
        self._stack.append((tag, []))
        self._text = []

    def data(self, text: str) -> None:
        self._text.append(text)

    def end(self, tag: str) -> None:
        _tag, values = self._stack.pop()
        text = "".join(self._text)
        if tag == "methodName":
            self.method = text.strip()
        elif tag == "param":
            self.params += values[:1]
        elif tag in ("value", "data", "array", "struct", "member", "name") or tag in _SCALARS:
            self._close(tag, values, text)
        self._text = []

    def _close(self, tag: str, values: list, text: str) -> None:
        if tag in _SCALARS:
            value: object = _SCALARS[tag](text)
        elif tag == "value":
            value = values[0] if values else text
        elif tag == "data":
            value = values
        elif tag == "array":
            value = values[0] if values else []
        elif tag == "member":
            value = (values[0], values[1])
        elif tag == "struct":
            value = dict(values)
        else:
            value = text
        if self._stack:
            self._stack[-1][1].append(value)


def _integer(text: str) -> int:
    if len(text) > 24:  # none of 64 bits is longer, and int() takes long for what is
        raise WireError("an integer is too long")
    return max(-(2**63), min(2**63 - 1, int(text)))


def _boolean(text: str) -> bool:
    if text.strip() not in ("0", "1"):
        raise WireError(f"{text[:20]!r} is no boolean")
    return text.strip() == "1"


_SCALARS: dict[str, Callable[[str], object]] = {
    "int": _integer,
    "i4": _integer,
    "i8": _integer,
    "boolean": _boolean,
    "string": str,
    "double": float,
    "dateTime.iso8601": str,
    "base64": lambda text: binascii.a2b_base64(text).decode("utf-8", "replace"),
    "nil": lambda text: None,
}


def parse_request(body: bytes) -> tuple[str, list]:
    """Method and parameters. Raises WireError."""
    request = _Request()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = request.start
    parser.EndElementHandler = request.end
    parser.CharacterDataHandler = request.data
    parser.StartDoctypeDeclHandler = _refuse_doctype  # entities have no use here but attacks
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, IndexError, TypeError, KeyError) as error:
        raise WireError(str(error)) from None
    return request.method, request.params


def _refuse_doctype(*_arguments: object) -> None:
    raise WireError("a document type has no place in a request")


def answer(value: object) -> bytes:
    """A methodResponse."""
    parts = ["<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n"]
    _dump(value, parts.append)
    parts.append("</param>\n</params>\n</methodResponse>\n")
    return "".join(parts).encode()


def fault(error: Fault) -> bytes:
    parts = ["<?xml version='1.0'?>\n<methodResponse>\n<fault>\n"]
    _dump({"faultCode": error.code, "faultString": error.text}, parts.append)
    parts.append("</fault>\n</methodResponse>\n")
    return "".join(parts).encode()


def _dump(value: object, write) -> None:
    kind = type(value)
    if kind is Ready:
        write(value)
    elif kind is str:
        write(f"<value><string>{escape(value)}</string></value>\n")  # type: ignore[arg-type]
    elif kind is bool:
        write(f"<value><boolean>{value:d}</boolean></value>\n")
    elif isinstance(value, int):
        write(f"<value><int>{capped(value)}</int></value>\n")
    elif isinstance(value, dict):
        write("<value><struct>\n")
        for name, member in value.items():
            write(f"<member>\n<name>{name}</name>\n")
            _dump(member, write)
            write("</member>\n")
        write("</struct></value>\n")
    elif isinstance(value, (list, tuple)):
        write("<value><array><data>\n")
        for item in value:
            _dump(item, write)
        write("</data></array></value>\n")
    elif kind is float:
        write(f"<value><double>{value!r}</double></value>\n")
    elif value is None:
        write("<value><nil/></value>\n")
    else:
        raise TypeError(f"{kind.__name__} has no form in XML-RPC")


def escape(text: str) -> str:
    """For XML; what XML cannot hold becomes U+FFFD."""
    if "&" in text or "<" in text or ">" in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text if text.isprintable() else _NO_XML.sub("\ufffd", text)


def capped(number: int) -> int:
    """XML-RPC's int has 32 bits."""
    return number if _MIN_INT <= number <= _MAX_INT else max(_MIN_INT, min(_MAX_INT, number))
