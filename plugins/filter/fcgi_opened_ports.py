# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter fcgi_opened_ports. Documented in fcgi_opened_ports.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.webops.fastcgi.plugins.plugin_utils.opened_ports import ledger


def fcgi_opened_ports(
    opened: Mapping[str, Mapping[str, list[Any]]],
    listens: Mapping[str, list[Any]],
    found_closed: Mapping[str, list[Any]],
    states: Mapping[str, str],
) -> dict[str, dict[str, list[Any]]]:
    try:
        by_kind = {kind: ledger(**opened[kind], listens=listens[kind], found_closed=found_closed[kind], state=states[kind]) for kind in sorted(opened)}
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return {what: {kind: told[what] for kind, told in by_kind.items()} for what in ("noted", "ours", "close", "waiting", "kept")}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fcgi_opened_ports": fcgi_opened_ports}
