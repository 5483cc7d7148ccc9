# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each operating system calls things: the roles find the same keys in every file of roles/fcgi/vars."""

from __future__ import annotations

import pathlib

import pytest
import yaml

VARS = pathlib.Path(__file__).resolve().parents[2] / "roles" / "fcgi" / "vars"
# Only where there are init scripts; and the extension that has a name of its own.
SOMEWHERE = {"unlink_init_script", "php.extension_mysql"}


def keys(value, prefix=""):
    """Every key of nested dictionaries, with dots between."""
    if not isinstance(value, dict):
        return set()
    return {f"{prefix}{key}" for key in value} | {found for key, inner in value.items() for found in keys(inner, f"{prefix}{key}.")}


def loaded(name):
    return yaml.safe_load((VARS / f"{name}.yml").read_text())


@pytest.mark.parametrize("name", sorted(path.stem for path in VARS.glob("[A-Z]*.yml")))
def test_every_operating_system_has_a_name_for_everything(name):
    assert keys(loaded(name)["__fcgi_os"]) - SOMEWHERE == keys(loaded("Debian")["__fcgi_os"]) - SOMEWHERE
    assert ("unlink_init_script" in loaded(name)["__fcgi_os"]) == ("sysvinit" in loaded(name)["__fcgi_os"]["service_managers"])


def test_supervisors_that_are_ours_are_the_same_everywhere():
    debian, rhel = (loaded(name)["__fcgi_os"]["supervisor"] for name in ("Debian", "RedHat"))
    assert debian["fcgivisord"] == rhel["fcgivisord"]
    assert {**debian["pip"], "packages": []} == {**rhel["pip"], "packages": []}
