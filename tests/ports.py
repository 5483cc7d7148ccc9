# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP ports for what a test starts, though other tests, and all else on this machine, look for some at the same time."""

from __future__ import annotations

import socket

_held = []


def free_port(host: str = "127.0.0.1") -> int:
    """A port of the loopback interface that nobody has, nor is given until the tests end: it stays bound.

    Who sets SO_REUSEADDR, as servers do, can listen there nevertheless, for a socket that does not listen itself shares its port (inet_csk_bind_conflict()).
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((host, 0))
    _held.append(held)
    return held.getsockname()[1]
