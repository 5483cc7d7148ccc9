# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx's configuration, read as nginx does: with what it includes, and with the blocks that a directive stands in.

Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

# src/core/ngx_conf_file.c, ngx_conf_read_token(): quotes and comments count only where a word begins.
_TOKEN = re.compile(
    r"""\#[^\n]* | (?P<mark>[;{}]) | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*') | (?P<word>(?:\\.|\$\{\w*\}|[^\s;{}])+)""",
    re.VERBOSE | re.DOTALL,
)
_DEEPEST_INCLUDE = 20  # files that include themselves


class Directive(NamedTuple):
    """A directive: the file that it stands in, the names of the blocks round it, such as ("http", "server"), its name and its arguments."""

    file: str
    context: tuple[str, ...]
    name: str
    arguments: list[str]


def read(path: str) -> list[Directive]:
    """All directives of a configuration, in order. A file that cannot be read has none."""
    return list(_directives(path, os.path.dirname(path), (), 0))


def _directives(path: str, directory: str, context: tuple[str, ...], depth: int) -> Iterator[Directive]:
    """directory: what relative paths of includes are relative to."""
    words: list[str] = []
    for mark, word in _tokens(path):
        if mark == "{":
            context = (*context, words[0] if words else "")
        elif mark == "}":
            context = context[:-1]
        elif mark == ";" and words:
            directive = Directive(path, context, words[0], words[1:])
            yield directive
            if directive.name == "include" and directive.arguments and depth < _DEEPEST_INCLUDE:
                for file in sorted(glob.glob(os.path.join(directory, directive.arguments[0]))):
                    yield from _directives(file, directory, context, depth + 1)
        words = [] if mark else [*words, word]


def _tokens(path: str) -> Iterator[tuple[str, str]]:
    """(mark, word): one of ; { }, or a word without its quotes."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read()
    except OSError:
        return
    for match in _TOKEN.finditer(text):
        quoted, word = match["quoted"], match["word"]
        if match["mark"] or quoted or word:
            yield match["mark"] or "", re.sub(r"\\(.)", r"\1", quoted[1:-1]) if quoted else word or ""


def first(configuration: list[Directive], name: str) -> list[str]:
    """The arguments of the first directive of this name outside of all blocks, [] where there is none."""
    return next((directive.arguments for directive in configuration if directive.name == name and not directive.context), [])


def http_includes(configuration: list[Directive], conf: str) -> list[str]:
    """The patterns of the files that the http block of the main file conf takes in."""
    return [
        os.path.join(os.path.dirname(conf), directive.arguments[0])
        for directive in configuration
        if directive.name == "include" and directive.context == ("http",) and directive.arguments
    ]


def is_included(path: str, patterns: list[str]) -> bool:
    """Whether one of the patterns takes in a file of this path, which need not be there yet."""
    directory, name = os.path.split(path)
    return any(
        fnmatch.fnmatchcase(name, os.path.basename(pattern)) and os.path.realpath(os.path.dirname(pattern)) == os.path.realpath(directory)
        for pattern in patterns
    )


def listens(configuration: list[Directive]) -> list[tuple[str, str]]:
    """(file, address) of every listen of its servers."""
    return [
        (directive.file, directive.arguments[0])
        for directive in configuration
        if directive.name == "listen" and directive.context == ("http", "server") and directive.arguments
    ]


def asked(configuration: list[Directive]) -> set[str]:
    """Every address that requests are passed to: unix sockets by their path, others as they stand there."""
    passed = [directive.arguments[0] for directive in configuration if directive.name == "fastcgi_pass" and directive.arguments]
    servers = [directive.arguments[0] for directive in configuration if directive.name == "server" and directive.context[-1:] == ("upstream",)]
    return {re.sub("^unix:", "", address) for address in passed + servers}
