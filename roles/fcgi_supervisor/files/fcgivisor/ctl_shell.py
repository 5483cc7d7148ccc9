# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell of fcgivisorctl: history, completion, and one command after the other."""

from __future__ import annotations

import atexit
import cmd
from typing import TYPE_CHECKING, Any

try:
    import readline
except ImportError:  # this Python was built without it
    readline = None  # type: ignore[assignment]

from fcgivisor.client import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcgivisor.ctl_session import Command, Session


class Shell(cmd.Cmd):
    """run(words): one command; returns whether that was the last. commands: the table of them."""

    def __init__(self, session: Session, commands: dict[str, Command], run: Callable[[list[str]], bool], prompt: str) -> None:
        super().__init__()
        self._session, self._commands, self._run = session, commands, run
        self.prompt = f"{prompt}> "

    def talk(self, history_file: str | None) -> None:
        """Until quit, the end of the input, or Ctrl-C at the prompt. It begins with the status, as supervisorctl does."""
        _set_up_readline(history_file)
        self.cmdqueue.append("status")
        try:
            self.cmdloop()
        except KeyboardInterrupt:
            self._session.line()

    def onecmd(self, line: str) -> bool:
        words = line.split()
        if line == "EOF":
            self._session.line()
            return True
        return bool(words) and self._run(words)

    def emptyline(self) -> bool:
        return False  # not the last command again

    def completenames(self, text: str, *_ignored: Any) -> list[str]:
        return [f"{name} " for name in self._commands if name.startswith(text)]

    def complete_help(self, text: str, *_ignored: Any) -> list[str]:
        return self.completenames(text)

    def completedefault(self, *ignored: Any) -> list[str]:
        text, line = ignored[0], ignored[1]
        command = self._commands.get(line.split()[0])
        kind = command.completes if command else ""
        try:
            known = self._session.known() if kind in ("process", "group") else []
        except (ClientError, OSError):
            return []
        return [f"{word} " for word in candidates(kind, known, text) if word.startswith(text)]


def candidates(kind: str, known: list[tuple[str, str]], text: str) -> list[str]:
    """What may stand where text begins a word: names of groups, or of processes with group:* for each group of several."""
    if kind == "group":
        return list(dict.fromkeys(group for group, _process in known))
    words: list[str] = []
    for group, process in known:
        if group == process and ":" not in text:
            words.append(process)
        else:
            words += [f"{group}:{process}", f"{group}:*"]
    return [*dict.fromkeys(words), *(["all"] if known and "all".startswith(text) and text else [])]


def _set_up_readline(history_file: str | None) -> None:
    if readline is None:
        return
    delimiters = readline.get_completer_delims()
    for character in ":*-":  # group:process, group:* and names with - are one word
        delimiters = delimiters.replace(character, "")
    readline.set_completer_delims(delimiters)
    if not history_file:
        return
    try:
        readline.read_history_file(history_file)
    except OSError:
        pass  # there is none yet
    atexit.register(_save_history, history_file)


def _save_history(path: str) -> None:
    try:
        readline.write_history_file(path)
    except OSError:
        pass
