# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisorctl top: the other screen, keys, and a new picture when it is time or the window changes. Plain ANSI (ECMA-48), no curses."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import sys
import termios
import time
import tty
import xmlrpc.client
from typing import TYPE_CHECKING, Any

from fcgivisor import top_table
from fcgivisor.client import ClientError, Exit
from fcgivisor.ctl_session import Command, UsageError
from fcgivisor.ctl_text import cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.ctl_session import Session
    from fcgivisor.top_table import Look

# Seconds between two looks, and between the two that top --once needs, since a rate lies between two looks.
DELAY = 2.0
ONCE_DELAY = 0.5
# The other screen and the cursor: enter it and hide, leave it and show (xterm's control sequences 1049 and 25).
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_FOOTER = "q quit   sort by: c CPU  m memory  u uptime  r restarts  n name   arrows scroll"
_KEYS = {"c": "cpu", "m": "memory", "u": "uptime", "r": "restarts", "n": "name"}
_STEPS = {"\x1b[A": -1, "k": -1, "\x1b[B": 1, "j": 1, "\x1b[5~": -10, "\x1b[6~": 10, "\x1b[H": -(10**9), "\x1b[F": 10**9}
# One key of what a terminal sends: a control sequence, or a character.
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)
# Seconds from the first look to the second, so that CPU% does not stay unknown for long.
_FIRST_DELAY = 0.3


class Screen:
    """look: takes one, or raises ClientError. delay: seconds between two. order: of top_table.ORDERS. names: what to show."""

    def __init__(self, look: Callable[[], Look], url: str, delay: float, order: str, names: list[str]) -> None:
        self._look, self._url, self._delay, self._order, self._names = look, url, delay, order, names
        self._before: Look | None = None
        self._after: Look | None = None
        self._problem = ""
        self._offset = 0  # rows scrolled away
        self._colour = "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"
        self._settings: list[Any] = []
        self._woken, self._waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Until q or Ctrl-C."""
        previous = signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, handler) for number, handler in ((signal.SIGWINCH, _nothing), (signal.SIGTSTP, self._suspend))}
        self._enter()
        try:
            self._loop()
        except KeyboardInterrupt:
            pass
        finally:
            self._leave()
            signal.set_wakeup_fd(previous)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(self._woken)
            os.close(self._waking)

    def _loop(self) -> None:
        due = 0.0
        while True:
            if time.monotonic() >= due:
                self._take_look()
                due = time.monotonic() + (self._delay if self._before else min(_FIRST_DELAY, self._delay))
            self._draw()
            ready = select.select([sys.stdin, self._woken], [], [], max(0.0, due - time.monotonic()))[0]
            if self._woken in ready:
                os.read(self._woken, 4096)
            if sys.stdin in ready:
                keys = _KEY.findall(os.read(sys.stdin.fileno(), 1024).decode("ascii", "replace"))
                if not keys or any(key in ("q", "Q") for key in keys):
                    return
                for key in keys:
                    self._press(key)
                due = 0.0 if " " in keys else due

    def _press(self, key: str) -> None:
        self._offset += _STEPS.get(key, 0)
        if key in _KEYS:
            self._order, self._offset = _KEYS[key], 0

    def _take_look(self) -> None:
        try:
            look = self._look()
        except (ClientError, xmlrpc.client.Fault) as error:  # a fault: supervisord, while it ends
            reason = error.faultString if isinstance(error, xmlrpc.client.Fault) else error
            self._problem = f"{self._url} does not answer ({reason}); it is asked again every {self._delay:g} s"
            return
        self._problem = ""
        self._before, self._after = self._after, look

    def _draw(self) -> None:
        width, height = shutil.get_terminal_size((top_table.WIDTH, 24))
        lines = self._lines(width, height)
        text = _HOME + "\n".join(line + _END_OF_LINE for line in lines[:height]) + _BELOW
        sys.stdout.write(text)
        sys.stdout.flush()

    def _lines(self, width: int, height: int) -> list[str]:
        """The whole screen."""
        if self._after is None:
            return [cell(self._problem, width).rstrip()]
        found = top_table.ordered(top_table.rows(self._before, self._after, self._names), self._order)
        room = max(1, height - 5)
        self._offset = max(0, min(self._offset, len(found) - room))
        shown = found[self._offset : self._offset + room]
        more = f"rows {self._offset + 1} to {self._offset + len(shown)} of {len(found)}" if len(found) > room else ""
        note = self._problem or more
        first, second = top_table.heading(self._after, found, width)
        body = top_table.table(found, width, self._colour)
        rows = [body[0], *body[1 + self._offset : 1 + self._offset + room]]
        painted = f"{top_table.RED}{cell(note, width).rstrip()}{top_table.PLAIN}" if self._problem and self._colour else cell(note, width).rstrip()
        lines = [f"{top_table.BOLD}{first}{top_table.PLAIN}" if self._colour else first, second, painted, *rows]
        lines += [""] * (height - 1 - len(lines))
        return [*lines[: height - 1], cell(_FOOTER, width).rstrip()]

    def _enter(self) -> None:
        self._settings = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()

    def _leave(self) -> None:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._settings)

    def _suspend(self, number: int, _frame: object) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again on return."""
        self._leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        self._enter()


def _nothing(_number: int, _frame: object) -> None:
    """The wake-up descriptor tells of the signal."""


# The command


def top(session: Session, words: list[str]) -> None:
    once, delay, order, names = _options(words)
    if session.as_json or once:
        _print_once(session, delay or ONCE_DELAY, order, names)
        return
    if not (sys.stdin.isatty() and session.output.isatty()):
        raise UsageError("Error: top needs a terminal; top --once prints one table", Exit.INVALID_ARGUMENTS)
    top_table.look(session.client)  # its errors are told on the usual screen
    Screen(lambda: top_table.look(session.client), session.client.address.url, delay or DELAY, order, names).run()


def _options(words: list[str]) -> tuple[bool, float | None, str, list[str]]:
    once, delay, order, names = False, None, "cpu", []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if word in ("--once", "-1"):
            once = True
        elif option in ("--delay", "-d", "--sort", "-s"):
            value = value if equals else next(rest, "")
            if option in ("--delay", "-d"):
                delay = _delay(value)
            elif value in top_table.ORDERS:
                order = value
            else:
                raise UsageError(f"Error: {value!r} is no order; there are {', '.join(top_table.ORDERS)}", Exit.INVALID_ARGUMENTS)
        elif word.startswith("-"):
            raise UsageError(f"Error: top does not know {word}", Exit.INVALID_ARGUMENTS)
        elif word != "all":
            names.append(word)
    return once, delay, order, names


def _delay(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise UsageError(f"Error: {text!r} is not a number of seconds from 0.1 to 3600", Exit.INVALID_ARGUMENTS)
    return seconds


def _print_once(session: Session, delay: float, order: str, names: list[str]) -> None:
    before = top_table.look(session.client)
    if before.usage is not None:
        time.sleep(delay)
    after = top_table.look(session.client) if before.usage is not None else before
    found = top_table.ordered(top_table.rows(before, after, names), order)
    unknown = [name for name in names if not top_table.rows(before, after, [name])]
    for name in unknown:
        session.note(f"{name}: ERROR (no such process)")
        session.status = Exit.STATUS_UNKNOWN
    for text in (*top_table.heading(after, found, top_table.WIDTH), "", *top_table.table(found, top_table.WIDTH)):
        session.line(text)
    session.data = [row._asdict() for row in found]


COMMANDS = {
    "top": Command(
        top,
        (
            ("top [name ...]", "A live table: CPU, memory, uptime, restarts and state; keys: q quits, c m u r n sort, arrows scroll"),
            ("top --once [name ...]", "One table; --delay SECONDS between looks, --sort cpu|memory|uptime|restarts|name"),
        ),
        "process",
    ),
}
