# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord and fcgivisord side by side: the same configuration, the same script, and what differs in what they answer."""

from __future__ import annotations

import concurrent.futures
import difflib
import pathlib
import pprint
import re
import xml.parsers.expat
import xmlrpc.client

from differences import EXCUSES
from harness import OURS, THEIRS, Supervisor

_TIMES = ("start", "stop", "now")
_MASKS = (
    (re.compile(r"pid \d+, uptime (\d+ days?, )?\d+:\d\d:\d\d"), "pid PID, uptime TIME"),
    (re.compile(r"[A-Z][a-z]{2} \d\d \d\d:\d\d [AP]M"), "DATE"),
    (re.compile(r"(---\w+-)\w+(?=\.log)"), r"\1RANDOM"),
    (re.compile(r"\bpid:\d+"), "pid:PID"),
)


class Witness:
    """One of the two, for a script: call() is written down, all else is not."""

    def __init__(self, supervisor):
        self.supervisor = supervisor
        self.answers = []

    @property
    def directory(self):
        return self.supervisor.directory

    def call(self, method, *params):
        """Call a method ("supervisor." may be left out), and write down what came of it."""
        name = method if "." in method else f"supervisor.{method}"
        answer = self.masked(self._answer(name, params))
        if name.startswith(("supervisor.start", "supervisor.stop")) and isinstance(answer[1], list):
            answer = ("answer", sorted(answer[1], key=str))  # in the order in which they came to their end
        self.answers.append((name, params, answer))

    def calls(self, *methods):
        for method in methods:
            self.call(method)

    def note(self, what, value):
        """Write down something else that both should have in common."""
        self.answers.append((what, (), self.masked(("answer", value))))

    def play(self, script):
        self.supervisor.start()
        try:
            script(self)
        except Exception as error:
            raise AssertionError(f"{self.supervisor.implementation}, after {self.answers[-1:]}: {error}") from error

    def until(self, name, *states):
        self.supervisor.wait_for_state(name, *states)

    def masked(self, value):
        if isinstance(value, str):
            value = value.replace(str(self.directory), "DIRECTORY")
            for pattern, replacement in _MASKS:
                value = pattern.sub(replacement, value)
            return value
        if isinstance(value, dict):
            return {key: _mask_number(key, item) if key in (*_TIMES, "pid") else self.masked(item) for key, item in value.items()}
        return type(value)(self.masked(item) for item in value) if isinstance(value, (list, tuple)) else value

    def _answer(self, name, params):
        try:
            return ("answer", getattr(self.supervisor.server, name)(*params))
        except xmlrpc.client.Fault as fault:
            return ("fault", fault.faultCode, fault.faultString)
        except xmlrpc.client.ProtocolError as error:
            return ("http", error.errcode)
        except xml.parsers.expat.ExpatError as error:
            return ("unreadable", str(error))


def _mask_number(name, value):
    return name.upper() if value else value


class Pair:
    """Both supervisors, each in a directory of its own; the two have names of one length, since some answers count bytes of paths."""

    def __init__(self, directory):
        self.both = []
        for name, implementation in (("s", THEIRS), ("f", OURS)):
            own = pathlib.Path(directory) / name
            own.mkdir(mode=0o755)
            self.both.append(Supervisor(own, implementation))
        self.theirs, self.ours = self.both

    def configure(self, configure):
        for supervisor in self.both:
            configure(supervisor)
        return self

    def run(self, script):
        """Run script(Witness) on both at once, started; returns the two lists of answers."""
        witnesses = [Witness(supervisor) for supervisor in self.both]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda witness: witness.play(script), witnesses))
        return [witness.answers for witness in witnesses]

    def agree(self, script, *differences):
        """The script has the same answers from both, but for these differences; each of which must be seen."""
        theirs, ours = self.run(script)
        assert [entry[:2] for entry in mask_calls(theirs)] == [entry[:2] for entry in mask_calls(ours)]
        unseen = set(differences)
        problems = []
        for (method, params, answer), (_method, _params, other) in zip(theirs, ours):
            if answer == other:
                continue
            excuse = next((name for name in differences if EXCUSES[name](method, params, answer, other)), None)
            if excuse is None:
                problems.append(f"{method}{params}: supervisord's answer (-), and ours (+)\n{_difference(answer, other)}")
            unseen.discard(excuse)
        assert not problems, "\n".join(problems)
        assert not unseen, f"no difference was seen of {unseen}: it is no exception any more"

    def end(self):
        for supervisor in self.both:
            supervisor.end()


def _difference(theirs, ours):
    lines = difflib.ndiff(pprint.pformat(theirs, width=1000, sort_dicts=True, compact=False).split(", "), pprint.pformat(ours, width=1000).split(", "))
    return "\n".join(line for line in lines if line[0] in "-+")


def mask_calls(answers):
    """Calls alone, without the directories in their parameters."""
    return [(method, len(params)) for method, params, _answer in answers]
