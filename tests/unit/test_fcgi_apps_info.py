# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_apps_info, by real plays: what it refuses, what it warns of, and that nothing of what it tells is secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def tell(tmp_path, collections_path):
    """A function that runs the module once, verbosely, for a list of apps, and returns what Ansible printed."""

    def tell(apps):
        task = {"webops.fastcgi.fcgi_apps_info": {"apps": apps, "options": {"server_name": ["www.example.org"]}}, "register": "declared"}
        show = {"ansible.builtin.copy": {"content": "{{ declared | to_json }}", "dest": str(tmp_path / "declared.json"), "mode": "0600"}, "diff": False}
        playbook = tmp_path / "play.json"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task, show]}]))
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-vvv", str(playbook)],
            env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(collections_path), ANSIBLE_LOCALHOST_WARNING="0", COLUMNS="10000"),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout

    return tell


SHOP = {
    "name": "shop",
    "command": "/srv/fcgi/shop/current/shop",
    "environment": {"SHOP_DB": "hush-of-environment"},
    "release": {"src": "shop", "version": "1", "python_requirements": "requirements.txt"},
    "locations": [{"path": "/shop", "auth": {"realm": "Shop", "users": {"admin": "$6$hush$of.auth"}}}],
}


def test_it_tells_what_the_list_asks_for_and_no_secret(tell, tmp_path):
    status, shown = tell([SHOP, {"name": "old", "state": "purged"}])
    assert status == 0, shown
    declared = json.loads((tmp_path / "declared.json").read_text())
    assert declared["programs"] == declared["releases"] == declared["served"] == ["shop"]
    assert declared["users"] == declared["groups"] == ["fcgi-shop"]
    assert declared["purged"] == ["old"] and declared["needs_venv"] is True and declared["changed"] is False
    assert declared["urls"] == ["http://www.example.org/shop"]
    assert "hush" not in json.dumps(declared) and "hush" not in shown


FORUM = {
    "name": "forum",
    "kind": "php_fpm",
    "root": "/usr/share/forum",
    "php_extensions": ["gd"],
    "environment": {"FORUM_DB": "hush-of-environment"},
    "pools": [{"name": "api", "environment": {"API_KEY": "hush-of-pool"}}],
    "pool": {"request_slowlog_timeout": "5s"},
    "locations": [{"path": "/forum"}],
}


def test_it_tells_what_php_fpm_has_to_be_on_the_host_and_how_its_pools_tell_their_status(tell, tmp_path):
    status, shown = tell([FORUM])
    assert status == 0, shown
    declared = json.loads((tmp_path / "declared.json").read_text())
    assert declared["php"]["packages"] == ["php8.2-fpm", "php8.2-gd"]
    assert [check["app"] for check in declared["php"]["checks"]] == ["forum"]
    assert [directory["path"] for directory in declared["directories"]] == ["/run/fastcgi/forum", "/var/log/fcgi/forum"]
    assert [probe["name"] for probe in declared["status_probes"]] == ["forum", "forum api"]
    assert declared["commands"] == [] and declared["listens"][0]["app"] == "forum"
    assert "hush" not in json.dumps(declared) and "hush" not in shown


def test_everything_that_is_wrong_is_said_at_once(tell):
    status, shown = tell([dict(SHOP, processes="six"), {"name": "blog", "command": "/opt/blog", "umask": 22}])
    assert status == 2
    assert "fcgi_apps[shop].processes" in shown and "fcgi_apps[blog].umask" in shown and "hush" not in shown


def test_what_rarely_works_as_meant_is_a_warning(tell):
    status, shown = tell([{"name": "shop", "command": "/opt/migrate && /opt/shop"}])
    assert status == 0
    assert "[WARNING]" in shown and "fcgi_apps[shop].command" in shown
