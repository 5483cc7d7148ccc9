# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a php-fpm master as the template writes it. What php-fpm reads of it: tests/functional/test_php_fpm_configuration.py."""

from __future__ import annotations

import re

import pytest
import rendering
import yaml
from ansible_collections.webops.fastcgi.plugins.module_utils import generation_diff

APP = {
    "name": "forum",
    "kind": "php_fpm",
    "root": "/usr/share/forum",
    "environment": {"FORUM_DB": "hush-1", "KEY_2": "hush-2 ; it's"},
    "php_value": {"session.save_path": "tcp://redis?auth=hush-3", "display_errors": True},
    "php_admin_value": {"mysqli.default_pw": "hush-4"},
    "pool": {"pm.max_children": 7},
    "pools": [{"name": "api", "environment": {"API_KEY": "hush-5"}, "php_admin_value": {"smtp.x-y": "hush-6"}}],
}


@pytest.fixture(scope="module")
def file():
    files, _links = rendering.render({"fcgi_apps": [APP]})
    (found,) = (file for file in files if file.path == "forum.conf")
    return found


@pytest.fixture(scope="module")
def hide():
    """The function by which the role has lines of this file masked in differences."""
    variables = yaml.safe_load((rendering.CHECKOUT / "roles/fcgi_php_fpm/vars/main.yml").read_text())
    return generation_diff.hider([variables["__fcgi_php_fpm_secret"]])


def test_a_master_has_its_own_section_and_one_for_each_pool(file):
    assert re.findall(r"^\[(.*)\]$", file.text, re.MULTILINE) == ["global", "forum", "forum_api"]


def test_only_the_app_and_root_can_read_its_secrets(file):
    assert file.text.count("hush") == 8  # the app's two variables stand in both pools
    assert file.mode == "0640"


def test_no_difference_shows_a_secret_and_all_show_what_is_none(file, hide):
    shown = [hide(line) for line in file.text.splitlines()]
    assert not [line for line in shown if "hush" in line]
    assert "pm.max_children = '7'" in shown and "php_flag[display_errors] = yes" in shown
    assert f"env[FORUM_DB] = {generation_diff.MASK}" in shown


def test_every_line_is_a_comment_a_section_or_one_setting(file):
    for line in filter(None, file.text.splitlines()):
        assert re.fullmatch(r"; .*|\[\w+\]|[a-z_.]+(\[[\w.-]+\])? = (yes|no|'[^']*'|\".*\")", line), line
