# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's own log, in supervisord's format (supervisor/loggers.py): "2026-11-24 20:26:32,123 INFO spawned: 'shop' with pid 4711"."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.logs import Sink

_NAMES = {50: "CRIT", 40: "ERRO", 30: "WARN", 20: "INFO", 10: "DEBG", 5: "TRAC", 3: "BLAT"}


class MainLog:
    """Messages at or above a level go to the sinks. What is logged before the sinks are there waits for them."""

    def __init__(self, level: int = 20) -> None:
        self.level = level
        self.sinks: list[Sink] = []
        self.to_stdout = False
        self.path: str | None = None
        self._early: list[bytes] = []
        self._second, self._second_text = 0, ""

    def open(self, sinks: list[Sink], path: str | None, to_stdout: bool) -> None:
        self.sinks, self.path, self.to_stdout = sinks, path, to_stdout
        early, self._early = self._early, []
        for line in early:
            self._emit(line)

    def reopen(self) -> None:
        for sink in self.sinks:
            sink.reopen()

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()
        self.sinks = []

    def critical(self, message: str) -> None:
        self.log(50, message)

    def error(self, message: str) -> None:
        self.log(40, message)

    def warn(self, message: str) -> None:
        self.log(30, message)

    def info(self, message: str) -> None:
        self.log(20, message)

    def debug(self, message: str) -> None:
        self.log(10, message)

    def trace(self, message: str) -> None:
        self.log(5, message)

    def log(self, level: int, message: str) -> None:
        if level < self.level:
            return
        moment = time.time()
        second = int(moment)
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        line = f"{self._second_text},{int((moment - second) * 1000):03d} {_NAMES[level]} {message}\n".encode("utf-8", "backslashreplace")
        if self.sinks or self.to_stdout:
            self._emit(line)
        else:
            self._early.append(line)

    def _emit(self, line: bytes) -> None:
        if self.to_stdout:
            try:
                os.write(1, line)
            except OSError:  # nobody reads it any more
                self.to_stdout = False
        for sink in self.sinks:
            sink.write(line)

    def complain(self, text: str) -> None:
        """For sinks that cannot write: the log of the log is stderr."""
        try:
            sys.stderr.write(f"fcgivisord: {text}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass
