# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_apps_info
short_description: Check fcgi_apps, and tell what it asks for
version_added: 1.1.0
author: webops.fastcgi contributors (@webops)
description:
  - Fails with everything that is wrong in C(fcgi_apps), warns of what rarely works as meant, and tells in short what the list asks for.
  - Nothing is asked of the host. Nothing that it returns is secret.
options:
  apps:
    description: The list C(fcgi_apps). Every key is described in C(docs/fcgi_apps.md).
    type: list
    elements: dict
    required: true
  options:
    description: The options of the filter P(webops.fastcgi.fcgi_model#filter).
    type: dict
    default: {}
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
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
- name: Check the list before it goes to production
  webops.fastcgi.fcgi_apps_info:
    apps: "{{ fcgi_apps }}"
  delegate_to: localhost
  register: declared

- name: Show where the apps are going to be
  ansible.builtin.debug:
    var: declared.urls
"""

RETURN = r"""
programs:
  description: The programs that the supervisor is going to run.
  returned: success
  type: list
  elements: str
  sample: [shop, search]
users:
  description: The users that they run as, each once.
  returned: success
  type: list
  elements: str
  sample: [fcgi-shop]
groups:
  description: The groups of these users, each once.
  returned: success
  type: list
  elements: str
  sample: [fcgi-shop]
releases:
  description: The apps whose code is placed.
  returned: success
  type: list
  elements: str
  sample: [shop]
needs_venv:
  description: Whether any release has Python requirements.
  returned: success
  type: bool
served:
  description: The apps that nginx serves.
  returned: success
  type: list
  elements: str
  sample: [shop]
purged:
  description: The apps of which everything is to be removed.
  returned: success
  type: list
  elements: str
  sample: [old-shop]
commands:
  description: What is executed, as the option O(webops.fastcgi.fcgi_host_info#module:commands) wants it.
  returned: success
  type: list
  elements: dict
  sample: [{app: shop, command: /opt/shop/bin/shop, user: fcgi-shop, pending: false}]
listens:
  description: What is listened on, as the option O(webops.fastcgi.fcgi_host_info#module:listens) wants it.
  returned: success
  type: list
  elements: dict
  sample: [{app: shop, address: "unix:///run/fastcgi/shop.sock"}]
directories:
  description: Directories of single apps that must be there before they start - C(path), C(owner), C(group) and C(mode).
  returned: success
  type: list
  elements: dict
  sample: [{path: /run/fastcgi/forum, owner: fcgi-forum, group: www-data, mode: "2750"}]
php:
  description:
    - What apps of kind php_fpm ask of the host - C(packages), and the executables C(commands).
    - C(services) are the distribution's own, one for each version (C(name), C(pool_dir), C(command)).
    - C(checks) say with which C(command) and as which C(user) the C(file) of an C(app) is checked, and which C(version) that is expected to be, if any.
  returned: success
  type: dict
  sample:
    packages: [php8.2-fpm, php8.2-gd]
    commands: [/usr/sbin/php-fpm8.2]
    services: [{name: php8.2-fpm, pool_dir: /etc/php/8.2/fpm/pool.d, command: /usr/sbin/php-fpm8.2}]
    checks: [{app: forum, user: fcgi-forum, command: /usr/sbin/php-fpm8.2, file: forum.conf, version: ""}]
status_probes:
  description: Pools of php-fpm that tell their status, as the option O(webops.fastcgi.fcgi_probe#module:targets) wants them.
  returned: success
  type: list
  elements: dict
nginx_listens:
  description: What nginx listens on.
  returned: success
  type: list
  elements: str
  sample: ["80"]
nginx_ports:
  description: The TCP ports among them - C(port), and whether other hosts can reach it (C(remote)).
  returned: success
  type: list
  elements: dict
  version_added: 1.1.0
  sample: [{port: 80, remote: true}]
connects_to:
  description: The addresses that nginx passes requests to, those of C(unix) sockets and those of C(tcp).
  returned: success
  type: dict
  version_added: 1.1.0
  sample: {unix: ["unix:/run/fastcgi/shop.sock"], tcp: ["127.0.0.1:9001"]}
nginx_links:
  description: The symbolic links by which nginx finds the set - C(path), C(target), and C(shared) for those of servers, which all sets have in common.
  returned: success
  type: list
  elements: dict
urls:
  description: Where a person can look.
  returned: success
  type: list
  elements: str
  sample: ["http://shop.example.org/"]
"""
