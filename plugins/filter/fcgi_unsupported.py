# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter fcgi_unsupported. Documented in fcgi_unsupported.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.webops.fastcgi.plugins.plugin_utils import support


def fcgi_unsupported(
    system: Mapping[str, Any], facts: Mapping[str, Any], provider: str, method: str = "package", python: str = "", names: list[str] | None = None
) -> list[str]:
    # One after the other: what is not known has no supervisors, and a supervisor that is not there no names.
    problem = support.system_problem(system, facts) or support.provider_problem(system["supervisor"], provider, method)
    if problem:
        return [problem]
    return list(support.fcgivisord_problems(system["supervisor"], facts, python, names or [])) if provider == "fcgivisord" else []


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fcgi_unsupported": fcgi_unsupported}
