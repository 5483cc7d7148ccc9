# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options that fcgi_program and fcgi_program_info share (module_utils/programs.py)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where supervisord answers XML-RPC, as in C([unix_http_server]) or C([inet_http_server]) of its configuration.
      - Either V(unix:///PATH) or V(http://HOST:PORT). That of fcgivisord is V(unix:///run/fcgivisord.sock), of Debian's supervisord the default.
    type: str
    default: unix:///run/supervisor.sock
  username:
    description: User name, where supervisord asks for one.
    type: str
  password:
    description: Password for O(username).
    type: str
  declared:
    description:
      - The directory of a C(config_set) whose live generation declares the programs, as the role C(fcgi_app) writes it.
      - With it only declared programs can be selected.
    type: path
  name:
    description:
      - The programs that this is about, by name (V(shop)). A pool of C(numprocs) processes is named by its plain name.
      - A process is named V(shop:shop_00). Patterns are V(shop*) and V(shop:*).
      - With neither O(name) nor O(groups), all programs of O(declared).
    type: list
    elements: str
  groups:
    description: Labels of C(fcgi_apps[].groups); selects the declared programs that have one of them. Needs O(declared).
    type: list
    elements: str
requirements:
  - Python's full standard library on the target (on Debian the package C(python3), since C(python3-minimal) lacks C(xmlrpc))
"""
