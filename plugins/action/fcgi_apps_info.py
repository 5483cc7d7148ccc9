# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_apps_info, all of it: nothing is asked of the host."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleFilterError
from ansible.plugins.action import ActionBase
from ansible_collections.webops.fastcgi.plugins.filter.fcgi_model import fcgi_model

ARGUMENT_SPEC = {"apps": {"type": "list", "elements": "dict", "required": True}, "options": {"type": "dict", "default": {}}}
# What of the model is returned: it has no secrets.
_PUBLIC = (
    "commands", "connects_to", "directories", "listens", "needs_venv", "nginx_links", "nginx_listens", "nginx_ports", "php", "status_probes", "urls",
)  # fmt: skip


class ActionModule(ActionBase):
    """Checks fcgi_apps, and says what it asks for.

    Ansible loads an action plugin in its main process, so that the code of the model is compiled once a run, not in each task that asks for the model.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        try:
            model = fcgi_model(arguments["apps"], **arguments["options"])
        except AnsibleFilterError as error:
            raise AnsibleActionFail(str(error)) from None
        return {
            "changed": False,
            "warnings": model["warnings"],
            **{key: model[key] for key in _PUBLIC},
            "programs": [program["name"] for program in model["programs"]],
            "users": _once(user["name"] for user in model["users"]),
            "groups": _once(user["group"] for user in model["users"]),
            "releases": [release["app"] for release in model["releases"]],
            "served": [app["name"] for app in model["apps"] if app["locations"]],
            "purged": [app["name"] for app in model["purged"]],
        }


def _once(names: Any) -> list[str]:
    return list(dict.fromkeys(names))
