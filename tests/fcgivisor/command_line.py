# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisorctl as a person or a script runs it: with pipes, or on a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from harness import PACKAGE, PATIENCE, PYTHON

COMMAND = [PYTHON, "-m", "fcgivisor.ctl"]


def environment(**variables):
    # Those are of the tests' terminal, not of ours.
    own = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS", "NO_COLOR")}
    return {**own, "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", **variables}


def run(*words, input=None, cwd=None, **variables):
    """One run with pipes, to its end."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, text=True, capture_output=True, timeout=PATIENCE, check=False, input=input, cwd=cwd, env=environment(**variables))


def ctl(supervisor, *words, **options):
    """The same with a supervisor's configuration."""
    return run("-c", supervisor.configuration, *words, **options)


class Terminal:
    """A command on a pseudo terminal. text: all that it has written. screen(): what a person sees of the last picture."""

    def __init__(self, *words, width=80, height=24, **variables):
        self.pid, self._master = pty.fork()
        if self.pid == 0:  # the size comes first: the command asks for it when it likes
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))
            os.execve(PYTHON, [*COMMAND, *map(str, words)], environment(TERM="xterm", **variables))
        self.text = ""

    def resize(self, width, height):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    def type(self, keys):
        os.write(self._master, keys.encode())

    def forget(self):
        self._read(0)
        self.text = ""

    def wait_for(self, found, what, seconds=PATIENCE):
        """Read until found(text), which may be a string that is to stand in it."""
        condition = (lambda text: found in text) if isinstance(found, str) else found
        deadline = time.monotonic() + seconds
        while not condition(self.text):
            assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}; the terminal has {self.text[-3000:]!r}"
            self._read(0.1)
        return self.text

    def say(self, keys, prompt="> "):
        """Type something at a prompt, and return what is there when the prompt is back."""
        self.text = ""
        self.type(keys)
        return self.wait_for(lambda text: "\n" in text and text.endswith(prompt), "the prompt to be back")

    def _read(self, seconds):
        while select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            self.text += data.decode("utf-8", "replace")
            seconds = 0

    def picture(self):
        """The lines of the last whole picture, without colours."""
        last = self.text.rpartition("\x1b[J")[0].rpartition("\x1b[H")[2]
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in last.split("\r\n")]

    def end(self):
        """Its exit code; it is killed if it does not end by itself."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self._master)
                return os.waitstatus_to_exitcode(status)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._master)
        raise AssertionError(f"it did not end; the terminal has {self.text[-3000:]!r}")
