# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter fcgi_model: fcgi_apps as an operator writes them, to what the roles work with. Documented in fcgi_model.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model


def _plain(value: Any) -> Any:
    """The value in plain types: without the tags of ansible-core 2.19, and with vault secrets of older versions decrypted."""
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


# The last model, by what it was made of: one task asks for it many times, and Ansible evaluates a variable anew each time.
_made: dict[str, dict[str, Any]] = {}


def fcgi_model(fcgi_apps: Any, **options: Any) -> dict[str, Any]:
    """The model of fcgi_apps; raises AnsibleFilterError with everything that is wrong."""
    apps, options = _plain(fcgi_apps), _plain(options)
    source = repr((apps, options))
    if source not in _made:
        try:
            made = model.fcgi_model(apps, **options)
        except model.ModelError as error:
            raise AnsibleFilterError("\n".join(["", *error.errors])) from None
        _made.clear()
        _made[source] = made
    return _made[source]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fcgi_model": fcgi_model}
