# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs as clients read them: parts of files, by supervisord's rules."""

from __future__ import annotations

import os

from fcgivisor.wire import Fault


def read(path: str | None, offset: int, length: int) -> str:
    """Of a log, length bytes from offset; a negative offset counts from the end, length 0 is all (options.py, readFile)."""
    if path is None or not os.path.exists(path):
        raise Fault("NO_FILE", path)
    if (offset < 0 and length) or length < 0:
        raise Fault("BAD_ARGUMENTS")
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size + offset) if offset < 0 else min(offset, size))
            data = file.read() if offset < 0 else file.read(min(length, size) or -1)
    except OSError:
        raise Fault("FAILED") from None
    return data.decode("utf-8", "replace")


def tail(path: str | None, offset: int, length: int) -> list:
    """New bytes of a log since offset: [text, size of the log, whether there were more than length] (options.py, tailFile)."""
    if path is None or not os.path.exists(path):
        return ["", 0, False]
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            overflow = size > offset + length
            if overflow:
                offset = size - 1
            if offset + length > size:
                if offset > size - 1:
                    length = 0
                offset = size - length
            file.seek(max(offset, 0))
            data = file.read(min(max(length, 0), size))
    except OSError:
        return ["", offset, False]
    return [data.decode("utf-8", "replace"), size, overflow]
