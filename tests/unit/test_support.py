# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems and supervisors that the roles do not support, and users that no program may have."""

from __future__ import annotations

import pathlib

import pytest
import yaml
from ansible_collections.webops.fastcgi.plugins.filter.fcgi_unsupported import FilterModule
from ansible_collections.webops.fastcgi.plugins.module_utils import host

fcgi_unsupported = FilterModule().filters()["fcgi_unsupported"]
VARS = pathlib.Path(__file__).resolve().parents[2] / "roles" / "fcgi" / "vars"
FACTS = {"distribution": "Debian", "os_family": "Debian", "python": {"executable": "/usr/bin/python3", "version_info": [3, 13, 5, "final", 0]}}
OLD = {**FACTS, "python": {"executable": "/usr/bin/python3", "version_info": [3, 6, 8, "final", 0]}}


def told(provider="fcgivisord", system="Debian", facts=None, **options):
    return fcgi_unsupported(yaml.safe_load((VARS / f"{system}.yml").read_text())["__fcgi_os"], facts or FACTS, provider, **options)


@pytest.mark.parametrize("system", ["Debian", "RedHat"])
def test_each_supervisor_of_a_known_system_is_supported(system):
    assert told(system=system) == told("supervisord", system) == told("supervisord", system, method="pip") == []


def test_an_unknown_system_is_all_that_is_told():
    (problem,) = fcgi_unsupported({}, {**OLD, "distribution": "Alpine", "os_family": "Alpine"}, "no-such-provider")
    assert problem.startswith("Alpine (os_family Alpine) is not supported: webops.fastcgi knows Debian and the RHEL family, and what derives from them.")


@pytest.mark.parametrize(("provider", "method"), [("systemd", "package"), ("package", "package"), ("supervisord", "snap")])
def test_another_provider_or_method_is_refused(provider, method):
    assert told(provider, method=method) == [
        f'fcgi_supervisor_provider: "{provider}" with fcgi_supervisor_method: "{method}" is not available in this version; '
        "the provider is fcgivisord or supervisord, the method of supervisord one of package, pip."
    ]


@pytest.mark.parametrize("name", ["supervisor", "unix:///run/supervisor.sock", "/etc/supervisor/supervisord.conf", "/etc/fcgi-supervisord/conf.d"])
def test_fcgivisord_is_given_nothing_of_another_supervisor(name):
    (problem,) = told(names=["", name])
    assert problem.startswith(f"fcgi_supervisor_provider is fcgivisord, but {name} is supervisord's: take fcgi_supervisor_service,")
    assert told(names=["", "our-own", "unix:///run/fcgivisord.sock"]) == told("supervisord", names=["", name]) == []


def test_an_old_python_runs_no_fcgivisord():
    assert told(facts=OLD) == [
        "fcgivisord needs Python 3.9 or newer, but ansible_python_interpreter is /usr/bin/python3, Python 3.6.8: "
        "set fcgi_supervisor_python to another one, or fcgi_supervisor_provider to supervisord."
    ]
    assert told(facts=OLD, python="/opt/python3.12/bin/python3") == told("supervisord", facts=OLD) == []


def test_all_that_fcgivisord_lacks_is_told_at_once():
    assert len(told(facts=OLD, names=["supervisor"])) == 2


def test_no_program_runs_as_root_by_another_name():
    users = {"toor": {"uid": 0}, "fcgi-shop": {"uid": 995}}
    assert host.root_problem(users).startswith("fcgi_apps: user toor has uid 0 on this host; FastCGI programs never run as root.")
    assert host.root_problem({"fcgi-shop": {"uid": 995}}) == ""
