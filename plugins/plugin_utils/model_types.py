# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a table of keys is made of: types that check a value, and the place where they report what is wrong with it.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.

Each type has C(words), what a right value is, for errors and for the documentation; and C(parse(value, place)), which returns the value in its one normal
form, or reports errors at the place and returns what stands for no value.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

EMPTY: Mapping[str, str] = MappingProxyType({})


class Place(NamedTuple):
    """A place in fcgi_apps, such as C(fcgi_apps[shop].locations[0]), and the list that collects errors. secret: no error shows a value."""

    name: str
    errors: list[str]
    secret: bool = False

    def key(self, name: str) -> Place:
        return self._replace(name=f"{self.name}.{name}")

    def item(self, index: int) -> Place:
        return self._replace(name=f"{self.name}[{index}]")

    def hidden(self, secret: bool) -> Place:
        """The same place, from here on secret if that is so or if it was before."""
        return self._replace(secret=self.secret or secret)

    def error(self, text: str) -> None:
        self.errors.append(f"{self.name}: {text}")

    def show(self, value: Any) -> str:
        """The value for an error message, unless it is secret."""
        if self.secret:
            return "the value (not shown)"
        if value is None:
            return "an empty value"
        if isinstance(value, (dict, list)):
            return "a dictionary" if isinstance(value, dict) else "a list"
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 80 else f'{text[:76]}…"'


class Scalar(NamedTuple):
    """A single value. convert(value) returns the normal form or raises ValueError, with a text if it knows better than C(words) what is wrong."""

    words: str
    convert: Callable[[Any], Any]

    def parse(self, value: Any, place: Place) -> Any:
        try:
            return self.convert(value)
        except ValueError as error:
            reason = str(error) or f"is not {self.words}"
            place.error(f"{place.show(value)} {reason}")
            return None


class ListOf(NamedTuple):
    """A list; one item alone may stand without a list."""

    item: Any

    @property
    def words(self) -> str:
        return f"a list of: {self.item.words}"

    def parse(self, value: Any, place: Place) -> list:
        if isinstance(value, list):
            return [self.item.parse(item, place.item(index)) for index, item in enumerate(value)]
        return [self.item.parse(value, place)]


class Dictionary(NamedTuple):
    """Names to values, where the user chooses the names. secret: no error shows a value."""

    name: Scalar
    value: Scalar
    secret: bool = False

    @property
    def words(self) -> str:
        return f"a dictionary: {self.name.words} to {self.value.words}"

    def parse(self, value: Any, place: Place) -> dict[str, Any]:
        hidden = place.hidden(self.secret)
        if not isinstance(value, dict):
            place.error(f"{hidden.show(value)} is not {self.words}")
            return {}
        names = {name: self.name.parse(name, place) for name in value}
        return {names[name]: self.value.parse(item, hidden.key(name)) for name, item in value.items() if names[name] is not None}


class Key(NamedTuple):
    """One key of a table.

    default: for a missing key; None where the default depends on other keys, and then C(otherwise) says how. kinds: of app that have this key, all if empty.
    """

    name: str
    type: Any
    doc: str
    default: Any = None
    otherwise: str = ""
    required: bool = False
    kinds: tuple[str, ...] = ()


class Table(NamedTuple):
    """A dictionary with known keys. synonyms: names that people try, and ours. secret: no error shows a value."""

    keys: tuple[Key, ...]
    synonyms: Mapping[str, str] = EMPTY
    secret: bool = False
    words: str = "a dictionary"

    def parse(self, value: Any, place: Place) -> dict[str, Any] | None:
        place = place.hidden(self.secret)
        if not isinstance(value, dict):
            place.error(f"{place.show(value)} is not {self.words}")
            return None
        for name in value:
            if name not in self._names():
                place.key(name).error(f"unknown key{self._nearest(str(name))}")
        return {key.name: self._parse_key(key, value, place) for key in self.keys}

    def _names(self) -> list[str]:
        return [key.name for key in self.keys]

    def _parse_key(self, key: Key, value: dict[str, Any], place: Place) -> Any:
        given = value.get(key.name)
        # An empty value is a missing key where "none" is the default.
        if given is not None or (key.name in value and (key.required or key.default is not None)):
            return key.type.parse(given, place.key(key.name))
        if key.required:
            place.key(key.name).error(f"missing; it is {key.type.words}")
        return copy.deepcopy(key.default)

    def _nearest(self, name: str) -> str:
        near = [self.synonyms[name]] if name in self.synonyms else difflib.get_close_matches(name, self._names(), n=1)
        return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(self._names())}"


class OrEmpty(NamedTuple):
    """A value, or empty text for none: a variable that has no value, since no template of core 2.18 makes None."""

    type: Any

    @property
    def words(self) -> str:
        return f"{self.type.words}, or empty"

    def parse(self, value: Any, place: Place) -> Any:
        return None if value == "" else self.type.parse(value, place)


class OrFalse(NamedTuple):
    """A table that can be switched off."""

    table: Table

    @property
    def words(self) -> str:
        return f"{self.table.words}, or false"

    def parse(self, value: Any, place: Place) -> Any:
        return False if value is False else self.table.parse(value, place)
