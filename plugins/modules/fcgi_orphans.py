# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_orphans
short_description: End what a supervisor that died has left running
version_added: 1.0.0
author: webops.fastcgi contributors (@webops)
description:
  - Ends the processes of programs whose supervisor is dead, or was replaced by a younger one. They hold the sockets that their successors need, and
    nobody watches over them any more.
  - They are known by what supervisord writes into their environment, its own address and their program's name, and by their age. What else runs on the host
    is left alone, and so is what the supervisor that listens at O(url) now has started.
options:
  url:
    description: The unix socket of the supervisor's RPC server.
    type: str
    default: unix:///run/supervisor.sock
  programs:
    description: The programs whose orphans are ended.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds that they have to end when they are asked to (SIGTERM). Then they are killed.
    type: int
    default: 10
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: Returns details on what has changed, or would change in check mode.
    support: none
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
seealso:
  - module: webops.fastcgi.fcgi_host_info
"""

EXAMPLES = r"""
- name: End what a dead supervisor has left of two programs
  webops.fastcgi.fcgi_orphans:
    url: unix:///run/fcgivisord.sock
    programs: [shop, blog]
"""

RETURN = r"""
orphans:
  description: The processes that were found, as RV(webops.fastcgi.fcgi_host_info#module:orphans).
  returned: always
  type: list
  elements: dict
  sample: [{"pid": 4711, "program": "shop", "process": "shop_00"}]
msg:
  description: What happened, in words.
  returned: always
  type: str
  sample: "ended: shop_00 (pid 4711)"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.fastcgi.plugins.module_utils import host


def words(orphans):
    return ", ".join(f"{orphan['process']} (pid {orphan['pid']})" for orphan in orphans)


def main():
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "unix:///run/supervisor.sock"},
            "programs": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        rpc_socket = host.rpc_socket(module.params["url"])
    except ValueError as error:
        module.fail_json(msg=str(error), orphans=[])
    found = host.orphans(rpc_socket, module.params["programs"])
    left = [] if module.check_mode else host.end(found, module.params["timeout"])
    if left:
        module.fail_json(msg=f"not even SIGKILL ended {words(left)}: what they wait for, 'ps -o wchan,stat' may tell", orphans=found)
    module.exit_json(changed=bool(found), orphans=found, msg=f"ended: {words(found)}" if found else "there are none")


if __name__ == "__main__":
    main()
