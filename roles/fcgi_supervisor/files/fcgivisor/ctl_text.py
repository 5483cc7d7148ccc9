# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and texts for a person to read, in columns of a terminal."""

from __future__ import annotations

import unicodedata


def size(count: float | None) -> str:
    """Bytes as 12.3M (powers of 1024); "-" where it is not known."""
    if count is None:
        return "-"
    for unit in ("", "K", "M", "G"):
        if count < 1000:
            return f"{count:.1f}{unit}" if unit and count < 100 else f"{count:.0f}{unit}"
        count /= 1024
    return f"{count:.1f}T"


def short_duration(seconds: float | None) -> str:
    """5s, 12m05s, 3h07m, 4d03h: two units, at most seven characters below three years."""
    if seconds is None:
        return "-"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minutes}m{second:02d}s" if minutes else f"{second}s"


def printable(text: str) -> str:
    """The text without characters that would move the cursor or change the colour."""
    return text if text.isprintable() else "".join(character if character.isprintable() else "?" for character in text)


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cell(text: str, width: int, right: bool = False) -> str:
    """The text in exactly so many columns; what does not fit is cut, with … at the end."""
    text = printable(text)
    if columns(text) > width:
        text = _head(text, width - 1) + "…" if width > 0 else ""
    padding = " " * (width - columns(text))
    return padding + text if right else text + padding


def _head(text: str, width: int) -> str:
    used = 0
    for index, character in enumerate(text):
        used += _width(character)
        if used > width:
            return text[:index]
    return text


def lines(rows: list[list[str]], gap: str = "  ") -> list[str]:
    """Rows of cells with their columns aligned; no cell is cut."""
    widths = [max((columns(row[index]) for row in rows if index < len(row)), default=0) for index in range(max(map(len, rows), default=0))]
    return [gap.join(cell(text, width) for text, width in zip(row, widths)).rstrip() for row in rows]
