# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_program_info
short_description: Tell what supervised FastCGI programs do
version_added: 1.0.0
description:
  - Returns the state of programs under fcgivisord or supervisord as data, read over its XML-RPC API.
  - A supervisor that does not answer is a failure, never an empty list.
author: webops.fastcgi contributors (@webops)
options:
  timeout:
    description: Seconds for which a supervisor may keep silent that was only just started, or that restarts.
    type: int
    default: 0
    version_added: 1.1.0
extends_documentation_fragment:
  - webops.fastcgi.program
attributes:
  check_mode:
    support: full
    description: This module never changes anything.
  diff_mode:
    support: N/A
    details: This module never changes anything.
    description: There is nothing to show.
  idempotent:
    support: full
    description: This module never changes anything.
seealso:
  - module: webops.fastcgi.fcgi_program
"""

EXAMPLES = r"""
- name: What do the programs of this host do?
  webops.fastcgi.fcgi_program_info:
    declared: /etc/fcgi/default/fcgi_app
  register: status

- name: Show it as a table
  ansible.builtin.debug:
    msg: "{{ status.programs | webops.fastcgi.fcgi_status_table }}"

- name: One pool, on a supervisord that asks for a password
  webops.fastcgi.fcgi_program_info:
    url: http://localhost:9001
    username: ops
    password: "{{ vault_supervisor_password }}"
    name: [shop]
"""

RETURN = r"""
programs:
  description: The processes of the selected programs, by program and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the process.
      type: str
      sample: shop_00
    program:
      description: Name of the program.
      type: str
      sample: shop
    group:
      description: Supervisord's name of the process group; that of the program.
      type: str
      sample: shop
    groups:
      description: Labels of the program; empty where it is not declared.
      type: list
      elements: str
      sample: [web]
    state:
      description: One of V(starting), V(running), V(backoff), V(stopping), V(stopped), V(exited), V(fatal), V(unknown).
      type: str
      sample: running
    pid:
      description: Process ID, V(null) if there is no process.
      type: int
      sample: 4711
    uptime:
      description: Seconds since the process was started, V(null) unless it is running.
      type: int
      sample: 3600
    exit_status:
      description: Exit status of a process that is exited or stopped (V(-1) where a signal ended it), else V(null).
      type: int
      sample: null
    spawn_error:
      description: Supervisord's words about a failed start, else V(null).
      type: str
      sample: null
    socket:
      description: The declared socket that supervisord holds, V(null) where there is none or the program is not declared.
      type: str
      sample: unix:///run/fastcgi/shop.sock
    logfile:
      description: Where stdout goes, V(null) if nowhere.
      type: str
      sample: /var/log/fastcgi/shop.log
    stderr_logfile:
      description: Where stderr goes, V(null) if nowhere of its own.
      type: str
      sample: null
    restarts:
      description: How often fcgivisord has started it again; V(null) of supervisord, whose API does not tell.
      type: int
      sample: 2
    memory:
      description: Its resident memory in bytes, by fcgivisord; V(null) where there is no process, and of supervisord.
      type: int
      sample: 12582912
    heartbeat_age:
      description: Seconds since its last heartbeat, by fcgivisord; V(null) where none is watched, and of supervisord.
      type: float
      sample: null
    description:
      description: The state in supervisord's words.
      type: str
      sample: "pid 4711, uptime 1:00:00"
missing:
  description: Names, and declared programs, that supervisord does not know.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.fastcgi.plugins.module_utils import plan, programs
from ansible_collections.webops.fastcgi.plugins.module_utils.backend import SupervisorError
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationError, GenerationStore


def gather(module: AnsibleModule) -> dict:
    options = module.params
    declared = programs.declared_programs(GenerationStore(options["declared"])) if options["declared"] else []
    backend = programs.connect(module, options["timeout"], options["timeout"])
    processes = backend.processes()
    known = programs.names_by_program(processes)
    candidates = {program["name"]: program["groups"] for program in declared} if options["declared"] else dict.fromkeys(known, ())
    selection, missing = plan.select(options["name"] or [], options["groups"] or [], candidates, known)
    missing += [one.program for one in selection if one.program not in known]
    return {"programs": programs.told(processes, selection, declared, programs.measured(backend)), "missing": missing}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**programs.ARGUMENTS, "timeout": {"type": "int", "default": 0}},
        required_by={"groups": "declared"},
        required_one_of=[("declared", "name")],
        supports_check_mode=True,
    )
    try:
        result = gather(module)
    except (SupervisorError, GenerationError, programs.OptionError, plan.SelectionError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
