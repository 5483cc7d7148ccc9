# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an operating system and a supervisor the roles do not support. Private: the filter fcgi_unsupported shows it.

An operating system is what roles/fcgi/vars has of it as __fcgi_os, nothing where it is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PROVIDERS = ("fcgivisord", "supervisord")
OLDEST_PYTHON = [3, 9]  # that runs fcgivisord
# What tells of a supervisor which one it is.
NAMES = ("service", "url", "config", "include_dir")


def system_problem(system: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    if system:
        return ""
    return (
        f"{facts['distribution']} (os_family {facts['os_family']}) is not supported: webops.fastcgi knows Debian and the RHEL family, and what derives from "
        "them. For another system, copy roles/fcgi/vars/Debian.yml, put that system's names and paths into it, and give it as extra variables: -e @FILE."
    )


def provider_problem(supervisors: Mapping[str, Mapping[str, Any]], provider: str, method: str) -> str:
    """:param supervisors: what the system has for each kind: fcgivisord, and the methods of supervisord."""
    if provider in PROVIDERS and kind_of(provider, method) in supervisors:
        return ""
    methods = ", ".join(kind for kind in supervisors if kind != "fcgivisord")
    return (
        f'fcgi_supervisor_provider: "{provider}" with fcgi_supervisor_method: "{method}" is not available in this version; '
        f"the provider is fcgivisord or supervisord, the method of supervisord one of {methods}."
    )


def kind_of(provider: str, method: str) -> str:
    return method if provider == "supervisord" else provider


def fcgivisord_problems(supervisors: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any], python: str, names: list[str]) -> Iterator[str]:
    """:param python: that is to run it, if it is named. :param names: its NAMES, as far as they are given."""
    of_others = {named[key] for kind, named in supervisors.items() if kind != "fcgivisord" for key in NAMES}
    foreign = [name for name in names if name in of_others]
    if foreign:
        yield (
            f"fcgi_supervisor_provider is fcgivisord, but {', '.join(foreign)} is supervisord's: take fcgi_supervisor_service, fcgi_supervisor_url, "
            "fcgi_supervisor_config and fcgi_supervisor_include_dir away, or set fcgi_supervisor_provider to supervisord."
        )
    usual = facts["python"]
    if not str(python).startswith("/") and list(usual["version_info"])[:2] < OLDEST_PYTHON:
        version = ".".join(str(number) for number in list(usual["version_info"])[:3])
        yield (
            f"fcgivisord needs Python 3.9 or newer, but ansible_python_interpreter is {usual['executable']}, Python {version}: "
            "set fcgi_supervisor_python to another one, or fcgi_supervisor_provider to supervisord."
        )
