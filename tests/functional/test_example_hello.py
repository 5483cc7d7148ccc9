# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""examples/hello as a supervisor runs it: several processes on one socket."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import socket
import subprocess
import sys

from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi

HELLO = pathlib.Path(__file__).resolve().parents[2] / "examples/hello/hello.py"
PROCESSES = 4
PATIENCE = 8  # seconds; flup looks every second whether it is to stop, and a supervisor kills after 10


def answer(path):
    return fastcgi.request(f"unix:{path}", fastcgi.cgi_params("GET", "/hello", "", "", 0), b"", timeout=20)


def test_processes_that_lost_a_connection_to_another_still_stop_when_asked(tmp_path):
    path = tmp_path / "hello.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        processes = [subprocess.Popen([sys.executable, HELLO], stdin=listener) for _number in range(PROCESSES)]
        try:
            with concurrent.futures.ThreadPoolExecutor(2 * PROCESSES) as visitors:
                statuses = list(visitors.map(lambda _number: answer(path).status, range(100 * PROCESSES)))
            assert set(statuses) == {200}
            # Whether one of them hangs is chance (8 of 12 stops did); that none can is this.
            assert not os.get_blocking(listener.fileno())
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(PATIENCE)
        finally:
            for process in processes:
                process.kill()
                process.wait()
