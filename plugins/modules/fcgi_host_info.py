# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_host_info
short_description: Tell what a host has for FastCGI apps, and what stands in their way
version_added: 1.0.0
author: webops.fastcgi contributors (@webops)
description:
  - Answers in one call what the roles of this collection ask of a host, and finds what would keep apps from starting.
  - Neither nginx nor supervisord needs to be there.
options:
  nginx_conf:
    description: The main configuration file of nginx. It is read with all that it includes.
    type: path
    default: /etc/nginx/nginx.conf
  nginx_user:
    description: The user and the group that the operating system's package gives nginx's workers, for a host where it is not installed.
    type: str
    default: www-data
    version_added: 1.1.0
  nginx_link:
    description: Path at which nginx is going to find the caller's configuration. Without it, nothing is asked of nginx.
    type: str
    default: ""
  nginx_listens:
    description: Addresses that nginx is going to listen on for the caller, as its C(listen) directive has them.
    type: list
    elements: str
    default: []
  supervisord_conf:
    description:
      - The configuration file of supervisord. The names of its programs and groups are read, and those of the files that it includes.
      - What cannot be read is passed over.
    type: path
    default: /etc/supervisor/supervisord.conf
  own:
    description: The one among the files included by O(supervisord_conf) whose programs are the caller's. All others are foreign.
    type: path
    default: /etc/supervisor/conf.d/fcgi-default.conf
  programs:
    description:
      - Names of the programs that supervisord is going to run. A foreign program or group of that name is a problem,
        since supervisord would take one for the other.
    type: list
    elements: str
    default: []
  url:
    description: The unix socket of supervisord's RPC server.
    type: str
    default: unix:///run/supervisor.sock
  users:
    description: Names of users to look up.
    type: list
    elements: str
    default: []
  groups:
    description: Names of groups to look up.
    type: list
    elements: str
    default: []
  commands:
    description: Executables that apps are going to be started with.
    type: list
    elements: dict
    default: []
    suboptions:
      app:
        description: The app, which the problem names.
        type: str
        required: true
      command:
        description: An absolute path, or a name to be looked up in the usual PATH of services.
        type: str
        required: true
      user:
        description: The user who executes it. While it does not exist, it is only looked at whether the file is executable at all.
        type: str
        required: true
      pending:
        description: Whether this play is still going to place it. Then it is not looked at.
        type: bool
        default: false
  listens:
    description:
      - Addresses that apps are going to listen on. Those in use by supervisord's own programs, or by RV(orphans), are free, unless that program is foreign.
    type: list
    elements: dict
    default: []
    suboptions:
      app:
        description: The app, which the problem names.
        type: str
        required: true
      address:
        description: As V(unix:///run/fastcgi/shop.sock), V(unix:/run/fastcgi/shop.sock), V(tcp://127.0.0.1:9000) or V(127.0.0.1:9000).
        type: str
        required: true
      pid_file:
        description:
          - A file with the process ID of the app's own master. What is in use by that one's process group, which may outlive it, is free for the app.
        type: path
        version_added: 1.1.0
  packages:
    description: Packages of the operating system to look for; for rpm also what a package provides, such as V(php-curl).
    type: list
    elements: str
    default: []
    version_added: 1.1.0
  php_pool_dirs:
    description: Services of the distribution's php-fpm of which to tell whether others need them, and the directory of the pools of each.
    type: dict
    default: {}
    version_added: 1.1.0
  paths_executable:
    description: Paths of which to tell whether there is an executable file.
    type: list
    elements: path
    default: []
  directories:
    description: Paths of directories to look for.
    type: list
    elements: path
    default: []
  include_dirs:
    description:
      - Of other supervisors, the directory that they include and their RPC server's unix socket. By them RV(former_supervisors) knows a set that
        was deployed by a release which did not note its supervisor.
    type: dict
    default: {}
  digests:
    description: Paths of files of which to tell a digest.
    type: list
    elements: path
    default: []
  services:
    description: Services of which to tell whether they start at boot.
    type: list
    elements: str
    default: []
  selinux:
    description: What of SELinux's policy to look for, where SELinux is enabled.
    type: dict
    version_added: 1.1.0
    suboptions:
      contexts:
        description: Patterns of paths and the type of each.
        type: dict
        default: {}
      ports:
        description: TCP ports that nginx is to be let listen on; they are of the type C(http_port_t) or C(http_cache_port_t).
        type: list
        elements: int
        default: []
      booleans:
        description: Booleans that are to be on.
        type: list
        elements: str
        default: []
      ignore_selinux_state:
        description: Whether to look where SELinux is not enabled, too.
        type: bool
        default: false
  set_path:
    description: Directory of the generations of the caller's C(fcgi_set). Those beside it are other sets.
    type: path
    default: /etc/fcgi/default
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the target.
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    description: Returns details on what has changed, or would change in check mode.
    support: none
    details:
      - This action does not modify state.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details:
      - This action does not modify state.
"""

EXAMPLES = r"""
- name: Look at the host
  webops.fastcgi.fcgi_host_info:
    users: [fcgi-shop]
    programs: [shop]
    commands:
      - {app: shop, command: /opt/shop/bin/shop, user: fcgi-shop}
    listens:
      - {app: shop, address: "tcp://127.0.0.1:9000"}
  register: host

- name: Stop where an app could not start
  ansible.builtin.assert:
    that: host.problems | length == 0
    fail_msg: "{{ host.problems | join('\n') }}"
"""

RETURN = r"""
nginx:
  description: The web server.
  returned: success
  type: dict
  contains:
    installed:
      description: Whether there is an executable nginx.
      type: bool
    binary:
      description: Its path, or an empty string.
      type: str
      sample: /usr/sbin/nginx
    version:
      description: Its version, or an empty string.
      type: str
      sample: 1.22.1
    user:
      description: The user of its workers, by its configuration, else as compiled in, and where it is not installed as the operating system's package has it.
      type: str
      sample: www-data
    group:
      description: The group of its workers.
      type: str
      sample: www-data
    pid_file:
      description: Its pid file, found as the user is.
      type: str
      sample: /run/nginx.pid
    error_log:
      description: The error log of its master, found as the user is.
      type: str
      sample: /var/log/nginx/error.log
    pid:
      description: The process ID of its master, V(0) if it does not run.
      type: int
    running:
      description: Whether the process of its pid file is an nginx.
      type: bool
    problems:
      description:
        - What would keep it from serving what O(nginx_link) leads to, one sentence each. That may be an address of O(nginx_listens) that is in use by
          another process or, while nginx does not run, one of its own configuration.
      type: list
      elements: str
      sample:
        - "the http block of /etc/nginx/nginx.conf includes /etc/nginx/sites/*.conf, and so not /etc/nginx/conf.d/fcgi-default.conf:
          set fcgi_nginx_include_dir to a directory whose *.conf it includes, or add that include"
supervisord:
  description: The supervisor.
  returned: success
  type: dict
  contains:
    installed:
      description: Whether there is an executable supervisord in the usual PATH of services.
      type: bool
    binary:
      description: Its path, or an empty string.
      type: str
      sample: /usr/bin/supervisord
    interpreter:
      description: The Python that runs it, from the first line of the script, or an empty string.
      type: str
      sample: /usr/bin/python3
    pid:
      description: The process ID of the process that listens at O(url), V(0) if there is none.
      type: int
    running:
      description: Whether something answers at O(url).
      type: bool
    command:
      description: The command line of that process, or an empty string.
      type: str
      sample: /usr/bin/python3 /usr/bin/supervisord -n -c /etc/supervisor/supervisord.conf
    conf_exists:
      description: Whether O(supervisord_conf) exists.
      type: bool
service_manager:
  description: What starts services on this host, V(systemd) where PID 1 is systemd, else V(sysvinit).
  returned: success
  type: str
selinux:
  description: V(enabled) or V(disabled).
  returned: success
  type: str
selinux_missing:
  description:
    - What of O(selinux) the policy does not have. Each of C(contexts) has its C(pattern), its C(setype), and the C(target), which is the pattern as
      semanage(8) takes it where two paths are equivalent, as C(/run) and C(/var/run) are.
    - Without libsemanage for the Python that runs this module, semanage(8) is asked for the ports, and all booleans are told.
  returned: success
  type: dict
  version_added: 1.1.0
  sample: {"contexts": [{"pattern": "/run/fastcgi(/.*)?", "target": "/var/run/fastcgi(/.*)?", "setype": "httpd_var_run_t"}], "ports": [], "booleans": []}
selinux_mislabelled:
  description: Directories of O(selinux) whose label is of another type, as a run leaves them that ended between the policy and C(restorecon).
  returned: success
  type: list
  elements: str
  version_added: 1.1.0
selinux_targets:
  description: The patterns of O(selinux) as semanage(8) takes them.
  returned: success
  type: list
  elements: str
  version_added: 1.1.0
  sample: ["/var/run/fastcgi(/.*)?"]
selinux_lets_nginx_connect:
  description: >-
    Whether the loaded policy lets nginx connect to unix sockets that the supervisor at O(url) and its programs make, V(null) where nobody can tell.
  returned: success
  type: bool
  version_added: 1.1.0
ports_opened:
  description:
    - Ports that the set at O(set_path) (C(own)) and other sets (C(others)) have opened, by what they note before they do, and those that other sets need
      (C(needed)), by C(firewalld) and C(selinux).
  returned: success
  type: dict
  version_added: 1.1.0
  sample:
    firewalld: {"own": [{"port": 80, "remote": true, "zone": "public"}], "others": [], "needed": []}
    selinux: {"own": [], "others": [], "needed": []}
firewalld:
  description: The firewall.
  returned: success
  type: dict
  version_added: 1.1.0
  contains:
    running:
      description: Whether there is a process of it.
      type: bool
    default_zone:
      description: The zone of ports for which none is named.
      type: str
      sample: public
    zones:
      description: Those that there are, none where firewalld is not installed.
      type: list
      elements: str
      sample: [dmz, public]
users:
  description: For each of O(users) that exists, by its name, its C(uid), C(gid), C(home) and C(shell).
  returned: success
  type: dict
  sample: {"fcgi-shop": {"uid": 995, "gid": 995, "home": "/nonexistent", "shell": "/usr/sbin/nologin"}}
users_missing:
  description: Those of O(users) that do not exist.
  returned: success
  type: list
  elements: str
groups_missing:
  description: Those of O(groups) that do not exist.
  returned: success
  type: list
  elements: str
directories_missing:
  description: Those of O(directories) that are not there.
  returned: success
  type: list
  elements: str
digests:
  description: Of O(digests), the SHA-1 of each file's content, an empty string where there is no file.
  returned: success
  type: dict
  sample: {"/etc/systemd/system/fcgivisord.service": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}
php_services_in_use:
  description:
    - Of O(php_pool_dirs), by their names, those that serve others, and why. They have pools besides the C(www) of their package, or the configuration of
      nginx, or of another web server that runs (Apache, Caddy, lighttpd), passes requests to them.
  returned: success
  type: dict
  version_added: 1.1.0
  sample: {"php8.2-fpm": "nginx asks it at /run/php/php8.2-fpm.sock"}
packages_missing:
  description: Those of O(packages) that are not installed.
  returned: success
  type: list
  elements: str
  version_added: 1.1.0
python_venv:
  description: Whether the Python that runs modules here can make a venv; Debian has a package of its own for that.
  returned: success
  type: bool
paths_executable:
  description: For each of O(paths_executable), whether there is an executable file.
  returned: success
  type: dict
  sample: {"/opt/supervisor/bin/supervisord": true}
orphans:
  description:
    - Processes of O(programs), and of the programs of O(own), that go on although the supervisor that started them has died. They hold their sockets;
      M(webops.fastcgi.fcgi_orphans) ends them.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: The process ID.
      type: int
    program:
      description: The program.
      type: str
    process:
      description: The process's name.
      type: str
  sample: [{"pid": 4711, "program": "shop", "process": "shop_00"}]
former_supervisors:
  description:
    - Other supervisors that still have programs of the set at O(set_path), since it was deployed with them before.
  returned: success
  type: list
  elements: dict
  contains:
    url:
      description: The unix socket of its RPC server.
      type: str
    pid:
      description: Its process ID, V(0) if it does not run.
      type: int
    command:
      description: Its command line, or an empty string.
      type: str
    running:
      description: Whether it answers.
      type: bool
    programs:
      description: The set's programs there.
      type: list
      elements: str
    orphans:
      description: Those of their processes that outlived it, as RV(orphans).
      type: list
      elements: dict
  sample: [{"url": "unix:///run/supervisor.sock", "pid": 815, "command": "supervisord -n", "running": true, "programs": ["shop"], "orphans": []}]
services_enabled:
  description: Of O(services), whether each starts at boot.
  returned: success
  type: dict
  sample: {"nginx": true}
services_masked:
  description:
    - Services of the distribution that the role C(fcgi_php_fpm) has masked, by what it notes before it does (C(own)), and those of O(services) that are
      masked now (C(found)).
  returned: success
  type: dict
  version_added: 1.1.0
  sample: {"own": ["php8.2-fpm"], "found": ["php8.2-fpm"]}
other_sets:
  description: The other sets on this host, by their names; of each the C(app) and the C(user) of every program that it declares.
  returned: success
  type: dict
  sample: {"map_team": [{"app": "maps", "user": "fcgi-maps"}]}
problems:
  description: What would keep apps from starting, one sentence each.
  returned: success
  type: list
  elements: str
  sample:
    - "fcgi_apps[shop]: /etc/supervisor/conf.d/site.conf has a section [program:shop] already: choose another name, or remove that one"
    - "fcgi_apps[shop]: tcp://127.0.0.1:9000 is in use by php-fpm8.2 (pid 123): stop it, or choose another address"
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationError
from ansible_collections.webops.fastcgi.plugins.module_utils.host import host_info


def main():
    module = AnsibleModule(
        argument_spec={
            "nginx_conf": {"type": "path", "default": "/etc/nginx/nginx.conf"},
            "nginx_user": {"type": "str", "default": "www-data"},
            "nginx_link": {"type": "str", "default": ""},
            "nginx_listens": {"type": "list", "elements": "str", "default": []},
            "supervisord_conf": {"type": "path", "default": "/etc/supervisor/supervisord.conf"},
            "own": {"type": "path", "default": "/etc/supervisor/conf.d/fcgi-default.conf"},
            "programs": {"type": "list", "elements": "str", "default": []},
            "url": {"type": "str", "default": "unix:///run/supervisor.sock"},
            "users": {"type": "list", "elements": "str", "default": []},
            "groups": {"type": "list", "elements": "str", "default": []},
            "commands": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "app": {"type": "str", "required": True},
                    "command": {"type": "str", "required": True},
                    "user": {"type": "str", "required": True},
                    "pending": {"type": "bool", "default": False},
                },
            },
            "listens": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"app": {"type": "str", "required": True}, "address": {"type": "str", "required": True}, "pid_file": {"type": "path"}},
            },
            "php_pool_dirs": {"type": "dict", "default": {}},
            "selinux": {
                "type": "dict",
                "options": {
                    "contexts": {"type": "dict", "default": {}},
                    "ports": {"type": "list", "elements": "int", "default": []},
                    "booleans": {"type": "list", "elements": "str", "default": []},
                    "ignore_selinux_state": {"type": "bool", "default": False},
                },
            },
            "packages": {"type": "list", "elements": "str", "default": []},
            "paths_executable": {"type": "list", "elements": "path", "default": []},
            "directories": {"type": "list", "elements": "path", "default": []},
            "digests": {"type": "list", "elements": "path", "default": []},
            "include_dirs": {"type": "dict", "default": {}},
            "services": {"type": "list", "elements": "str", "default": []},
            "set_path": {"type": "path", "default": "/etc/fcgi/default"},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg=f"what the roles ask of a host only root sees, and this ran as uid {os.geteuid()}: give the play become: true, and no become_user")
    try:
        module.exit_json(changed=False, **host_info(module.params))
    except (ValueError, GenerationError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
