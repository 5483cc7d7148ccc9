# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about the applications that people run: measured, see docs/fcgi_apps.md.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_types import EMPTY


class Runtime(NamedTuple):
    """Presets. stopsignal: the one that lets a request in flight finish. stopwaitsecs, startsecs: seconds. keepalive: whether nginx may keep connections
    open.

    graceful: the signals that let a request in flight finish; empty where that depends on the program. libfcgi: whether it is built on that library; then
    a process serves one connection at a time, and a kept one starves all others. shares_socket: whether processes may share a socket.
    """

    about: str
    stopsignal: str = "TERM"
    reload_signal: str | None = None
    startsecs: int = 1
    startretries: int = 3
    exitcodes: tuple[int, ...] = (0,)
    killasgroup: bool = False
    stopwaitsecs: int = 10
    keepalive: bool = False
    graceful: tuple[str, ...] = ()
    libfcgi: bool = False
    shares_socket: bool = True
    environment: Mapping[str, str] = EMPTY


RUNTIMES = {
    "generic": Runtime("Anything else: the safe choices."),
    "go": Runtime("net/http/fcgi. Only a program that handles TERM itself finishes its requests.", keepalive=True),
    "libfcgi": Runtime("C and C++ programs with libfcgi.", graceful=("TERM", "USR1"), libfcgi=True),
    "perl": Runtime("FCGI.pm, CGI::Fast, Plack.", graceful=("TERM", "USR1"), libfcgi=True),
    "flup": Runtime("Python with flup.", graceful=("TERM", "INT", "HUP")),
    "fastcgipp": Runtime(
        "fastcgi++. Processes cannot share a socket: under load all but one exit.",
        stopsignal="USR1", graceful=("USR1",), keepalive=True, shares_socket=False,
    ),
    "mapserver": Runtime(
        "MapServer. An idle process takes no notice of TERM, so the wait is short.", stopwaitsecs=2, graceful=("TERM", "USR1"), libfcgi=True
    ),
    "qgis": Runtime("QGIS Server.", libfcgi=True, environment={"QT_QPA_PLATFORM": "offscreen"}),
    "php_fpm": Runtime(
        "php-fpm's master. Needs a `process_control_timeout`, or QUIT ends requests too.",
        stopsignal="QUIT", stopwaitsecs=15, graceful=("QUIT",), reload_signal="USR2", startsecs=2, startretries=5, exitcodes=(0, 2, 70), killasgroup=True,
    ),
    "fcgiwrap": Runtime("CGI programs through fcgiwrap.", graceful=("TERM", "USR1"), libfcgi=True),
}  # fmt: skip
