# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fork a process for each module that the tests ask for, by the socket that is stdin; Ansible's own part, which takes longest, is imported already."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import sys


def serve() -> str | None:
    """Return the name of the module to run, in a child; None when the tests have ended."""
    requests = socket.socket(fileno=0)
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(requests, 2**20, 3)
        if not message:
            return None
        if os.fork() == 0:
            requests.detach()
            return become(descriptors, **json.loads(message))
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def become(descriptors: list[int], module: str, directory: str, environment: dict[str, str], timeout: int) -> str:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    signal.alarm(timeout)
    return module


if __name__ == "__main__":
    for needed in ("ansible.module_utils.basic", "xmlrpc.client"):  # by most modules: the children have them
        importlib.import_module(needed)
    name = serve()
    if name:
        sys.argv = [name]
        runpy.run_module(name, run_name="__main__", alter_sys=True)
