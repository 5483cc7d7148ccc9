# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The syntax of supervisord's configuration files, with the file and line of every value.

The dialect is that of Python's RawConfigParser as supervisord sets it up (supervisor/options.py, UnhosedConfigParser): sections and options may
come twice, the last value wins; ";" and "#" start a comment at the beginning of a line or after white space, quotes or not; option names are lower case;
a line that is indented deeper than its option continues the value.
"""

from __future__ import annotations

import glob
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

_SECTION = re.compile(r"\[(?P<header>.+)\]")
_OPTION = re.compile(r"(?P<option>.*?)\s*[=:]\s*(?P<value>.*)$")
_DEFAULT_SECTION = "DEFAULT"
# Bytes. No configuration is that large; a device or a log file that was named by mistake is.
MAX_FILE_SIZE = 16 * 1024 * 1024


class ConfigError(Exception):
    """What is wrong, where, and what would be right. str() is the whole sentence: FILE:LINE: [section] key: text."""

    def __init__(self, text: str, file: str = "", line: int = 0, section: str = "", key: str = "") -> None:
        self.text, self.file, self.line, self.section, self.key = text, file, line, section, key
        place = f"{file}:{line}: " if line else f"{file}: " if file else ""
        named = f"[{section}] " if section else ""
        super().__init__(place + named + (f"{key}: " if key else "") + text)


class Value:
    """What stands in a file, and where."""

    __slots__ = ("file", "line", "text")

    def __init__(self, text: str, file: str, line: int) -> None:
        self.text, self.file, self.line = text, file, line


class Section:
    """A section: its name, the place where it begins, its values by option, and which of them are [DEFAULT]'s (see Ini.inherit)."""

    __slots__ = ("file", "inherited", "line", "name", "values")

    def __init__(self, name: str, file: str, line: int) -> None:
        self.name, self.file, self.line = name, file, line
        self.values: dict[str, Value] = {}
        self.inherited: Set[str] = frozenset()

    def error(self, text: str, key: str = "") -> ConfigError:
        value = self.values.get(key)
        return ConfigError(text, value.file if value else self.file, value.line if value else self.line, self.name, key)


class Ini:
    """All sections of a configuration file and of the files that it includes. files: those that were read, in their order."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {}
        self.files: list[str] = []
        self._defaults = Section(_DEFAULT_SECTION, "", 0)

    def read(self, path: str) -> None:
        """Add the sections of a file, in which %(here)s is its directory. Raises ConfigError."""
        _Reader(self, path).read(_text(path))
        self.files.append(path)
        self._expand_here(os.path.dirname(os.path.abspath(path)), path)

    def get(self, section: str, key: str) -> Value | None:
        return self.sections[section].values.get(key) or self._defaults.values.get(key)

    def inherit(self) -> None:
        """Give every section what it lacks of [DEFAULT], as RawConfigParser does."""
        for section in self.sections.values():
            section.inherited = self._defaults.values.keys() - section.values.keys()
            section.values = {**self._defaults.values, **section.values}

    def named(self, kind: str) -> list[Section]:
        """The sections [kind:name], in the order of the files."""
        return [section for name, section in self.sections.items() if name.startswith(f"{kind}:")]

    def _expand_here(self, here: str, path: str) -> None:
        for section in [self._defaults, *self.sections.values()]:
            for value in section.values.values():
                if value.file == path and "%(here)s" in value.text:
                    value.text = value.text.replace("%(here)s", here.replace("%", "%%"))

    def section(self, name: str, file: str, line: int) -> Section:
        if name == _DEFAULT_SECTION:
            return self._defaults
        return self.sections.setdefault(name, Section(name, file, line))


class _Reader:
    """Reads one file into an Ini: the algorithm of RawConfigParser._read, line by line."""

    def __init__(self, ini: Ini, path: str) -> None:
        self._ini, self._path = ini, path
        self._section: Section | None = None
        self._value: Value | None = None
        self._indent = 0

    def read(self, text: str) -> None:
        # Only line feeds end a line, as in a file that is read in text mode.
        for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
            start = _comment_start(line)
            value = line[:start].strip()
            if value:
                self._line(number, line, value)
            elif start is None and self._value is not None:
                self._value.text += "\n"
        self._close_value()

    def _line(self, number: int, line: str, value: str) -> None:
        indent = len(line) - len(line.lstrip())
        if self._value is not None and indent > self._indent:
            self._value.text += "\n" + value
            return
        self._indent = indent
        self._close_value()
        header = _SECTION.match(value)
        if header:
            self._section = self._ini.section(header.group("header"), self._path, number)
            return
        if self._section is None:
            raise ConfigError("text before the first [section]", self._path, number)
        option = _OPTION.match(value)
        if option is None or not option.group("option"):
            raise ConfigError(f"{_shown(value)} is neither a [section] nor key=value", self._path, number, self._section.name)
        self._value = Value(option.group("value").strip(), self._path, number)
        self._section.values[sys.intern(option.group("option").rstrip().lower())] = self._value

    def _close_value(self) -> None:
        if self._value is not None:
            self._value.text = self._value.text.rstrip()
            self._value = None


def _comment_start(line: str) -> int | None:
    """Where a comment begins: at a ";" or "#" that begins the line's text or follows white space."""
    stripped = line.lstrip()
    if stripped[:1] in (";", "#"):
        return 0
    for index, character in enumerate(line):
        if character in ";#" and line[index - 1].isspace():
            return index
    return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path) from error
    if len(data) > MAX_FILE_SIZE:
        raise ConfigError(f"is larger than {MAX_FILE_SIZE} bytes: this is no configuration file", path)
    if b"\0" in data:
        raise ConfigError("holds a NUL byte, which no value can have", path, data[: data.index(b"\0")].count(b"\n") + 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 ({error.reason})", path, data[: error.start].count(b"\n") + 1) from error


def search_path(program: str) -> list[str]:
    """Where a configuration that nobody names is looked for (supervisor/options.py, Options). program: the path of what runs."""
    here = os.path.dirname(os.path.dirname(program))
    places = [os.path.join(here, "etc", "supervisord.conf"), os.path.join(here, "supervisord.conf"), "supervisord.conf", "etc/supervisord.conf"]
    return [*places, "/etc/supervisord.conf", "/etc/supervisor/supervisord.conf"]


def included(patterns: str, base: str) -> tuple[list[str], list[str]]:
    """The files that the patterns of [include] files= name, and the patterns that name none. Relative ones lie below base."""
    files: list[str] = []
    empty: list[str] = []
    for pattern in patterns.split():
        found = sorted(glob.glob(os.path.join(base, pattern)))
        files += found
        if not found:
            empty.append(os.path.join(base, pattern))
    return files, empty
