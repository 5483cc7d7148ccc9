# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status page of php-fpm: what asks for it, and what it says.

This module util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi

# What fcgi_probe calls the page's fields, their own names, and their types.
_FIELDS: dict[str, tuple[str, type]] = {
    "pool": ("pool", str),
    "process_manager": ("process manager", str),
    "active_processes": ("active processes", int),
    "idle_processes": ("idle processes", int),
    "total_processes": ("total processes", int),
    "listen_queue": ("listen queue", int),
    "max_listen_queue": ("max listen queue", int),
    "listen_queue_len": ("listen queue len", int),
    "max_active_processes": ("max active processes", int),
    "max_children_reached": ("max children reached", int),
    "slow_requests": ("slow requests", int),
    "accepted_connections": ("accepted conn", int),
    "start_since": ("start since", int),
}
_REFUSALS = {403: "access denied (status 403)", 404: "the pool has no such page (status 404)"}
_HINT = "script_name must be the pool's pm.status_path, which a pool does not have unless it is set"


def params(path: str) -> dict[str, str]:
    """The params of a request for the status page at `path`. php-fpm answers nothing that has no SCRIPT_FILENAME."""
    return {**fastcgi.cgi_params("GET", path, "", "json", 0), "SCRIPT_FILENAME": path}


def parse(response: fastcgi.Response) -> dict[str, Any]:
    """What the page says, in names of ours. Raises FastCGIError `no_pool` if it is none."""
    if response.status != 200:
        raise _no_pool(_REFUSALS.get(response.status, f"the answer's status is {response.status}, not 200"))
    try:
        page = json.loads(response.body)
    except (ValueError, RecursionError):
        page = None
    if not isinstance(page, dict):
        raise _no_pool(f"the answer (content-type {response.headers.get('content-type', 'unknown')}) is not the JSON of a status page of php-fpm")
    # True is an int too.
    wrong = [field for field, kind in _FIELDS.values() if not isinstance(page.get(field), kind) or isinstance(page[field], bool)]
    if wrong:
        raise _no_pool(f"the answer is JSON, but no status page of php-fpm: {', '.join(wrong)} missing or not of the right type")
    return {name: page[field] for name, (field, _kind) in _FIELDS.items()}


def _no_pool(what: str) -> fastcgi.FastCGIError:
    return fastcgi.FastCGIError("no_pool", f"{what}: {_HINT}")
