# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter fcgi_collections_missing. Documented in fcgi_collections_missing.yml."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any


def _is_missing(collection: str) -> bool:
    try:
        return importlib.util.find_spec(f"ansible_collections.{collection}") is None
    except ModuleNotFoundError:  # not even its namespace
        return True


def fcgi_collections_missing(collections: list[str]) -> list[str]:
    return [collection for collection in collections if _is_missing(collection)]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fcgi_collections_missing": fcgi_collections_missing}
