# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of fcgivisorctl, or one shell: the connection, what has been told so far, and the exit code."""

from __future__ import annotations

import json
import sys
from collections import namedtuple
from typing import TYPE_CHECKING, Any, TextIO

from fcgivisor import ctl_names, diagnosis
from fcgivisor.client import Client, ClientError, Exit, NotReached
from fcgivisor.ctl_text import printable
from fcgivisor.wire import FAULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

# run(session, words): does it. usage: (words, what they do) for the help. completes: what its words are: "process", "group", "action" or "".
# alone: it needs no supervisor.
Command = namedtuple("Command", "run usage completes alone", defaults=("", False))

# What supervisorctl says instead of a fault.
WORDS = {
    FAULTS["BAD_NAME"]: "no such process",
    FAULTS["BAD_SIGNAL"]: "bad signal name",
    FAULTS["NO_FILE"]: "no such file",
    FAULTS["NOT_EXECUTABLE"]: "file is not executable",
    FAULTS["FAILED"]: "failed",
    FAULTS["ALREADY_STARTED"]: "already started",
    FAULTS["SPAWN_ERROR"]: "spawn error",
    FAULTS["ABNORMAL_TERMINATION"]: "abnormal termination",
    FAULTS["NOT_RUNNING"]: "not running",
    FAULTS["SHUTDOWN_STATE"]: "the supervisor is shutting down",
}
_DEAD = (FAULTS["SPAWN_ERROR"], FAULTS["ABNORMAL_TERMINATION"], FAULTS["NOT_RUNNING"])


class UsageError(Exception):
    """The words of a command are wrong; status: the exit code."""

    def __init__(self, text: str, status: int = Exit.GENERIC) -> None:
        super().__init__(text)
        self.status = status


class Session:
    """What commands work with. as_json: one document instead of lines. configuration: the file that was read, if any. interactive: a shell."""

    def __init__(self, client: Client, as_json: bool = False, configuration: str | None = None, interactive: bool = False) -> None:
        self.client, self.as_json, self.configuration, self.interactive = client, as_json, configuration, interactive
        self.status = Exit.SUCCESS
        self.output: TextIO = sys.stdout
        self.data: Any = None
        self.results: list[dict[str, Any]] = []
        self._known: list[tuple[str, str]] | None = None

    # Telling

    def line(self, text: str = "") -> None:
        """A line for a person or a script; not with --json."""
        if not self.as_json:
            self.output.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Something beside the answer."""
        self.output.flush()
        sys.stderr.write(f"{text}\n")

    def error(self, text: str, status: int = Exit.GENERIC) -> None:
        """A command has failed as a whole."""
        self.status = status
        if self.as_json:
            self.data = {"error": text}
        else:
            self.note(text)

    def result(self, name: str, done: str, fault: int = FAULTS["SUCCESS"], words: str = "", hint: str = "", ignored: int = FAULTS["SUCCESS"]) -> None:
        """What came of one process: done ("started"), or a fault in words. ignored: a fault that does not count for the exit code."""
        if fault == FAULTS["SUCCESS"]:
            self.line(f"{name}: {done}")
            self.results.append({"name": name, "result": done, "error": None})
            return
        words = words or WORDS.get(fault, f"fault {fault}")
        self.line(f"{name}: ERROR ({printable(words)}){hint}")
        self.results.append({"name": name, "result": "error", "error": words + hint})
        if fault != ignored:
            self.status = Exit.NOT_RUNNING if fault in _DEAD else Exit.GENERIC

    def finish(self) -> None:
        """Print the one document of --json."""
        if self.as_json:
            self.output.write(json.dumps(self.results if self.data is None else self.data, indent=2, ensure_ascii=False) + "\n")
        self.output.flush()
        self.data, self.results = None, []

    def explain(self, error: ClientError, command: str) -> None:
        explained = diagnosis.explain(error, self.client.address, self.configuration)
        status_is_unknown = command == "status" and isinstance(error, NotReached)
        self.error(str(explained), Exit.STATUS_UNKNOWN if status_is_unknown else explained.status)

    # Names

    def known(self) -> list[tuple[str, str]]:
        """Group and name of every process; asked once for each command."""
        if self._known is None:
            self._known = [(info["group"], info["name"]) for info in self.client.call("getAllProcessInfo")]
        return self._known

    def forget(self) -> None:
        self._known = None

    def expanded(self, names: Sequence[str]) -> list[str]:
        """The names, with patterns replaced by what they fit; one that fits nothing stays."""
        found: list[str] = []
        for name in names:
            found += (ctl_names.expand(name, self.known()) if ctl_names.is_pattern(name) else []) or [name]
        return list(dict.fromkeys(found))

    def hint(self, name: str, fault: int) -> str:
        """What may help with a fault about a process."""
        if fault == FAULTS["BAD_NAME"]:
            return ctl_names.did_you_mean(name, self.known())
        return ""
