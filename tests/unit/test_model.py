# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list fcgi_apps as a whole, the filter, and the reference that is made from the tables of keys."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import textwrap
import time

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.webops.fastcgi.plugins.filter.fcgi_model import FilterModule
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model
from conftest import CHECKOUT
from fcgi_apps import app, errors, listener, located, made


def test_all_errors_are_found_in_one_go():
    found = errors(app("a", processes="six", umask=22), app("b", nonsense=1), app("c", socket="/run/x.sock"), app("d", socket="/run/x.sock"))
    assert [error.split(":")[0] for error in found] == ["fcgi_apps[a].processes", "fcgi_apps[a].umask", "fcgi_apps[b].nonsense", "fcgi_apps[d].socket"]


def test_an_app_without_a_name_is_called_by_its_position():
    assert errors(app("a"), app("b"), {"command": "/x"})[0].startswith("fcgi_apps[2].name: missing")


@pytest.mark.parametrize("wrong", ["shop", None, ["shop"], 3])
def test_an_app_that_is_no_dictionary_is_an_error(wrong):
    (error,) = errors(wrong)
    assert error.startswith("fcgi_apps[0]: ")
    assert error.endswith("is not a dictionary")


@pytest.mark.parametrize("wrong", [None, "shop", {"name": "shop"}])
def test_fcgi_apps_must_be_a_list(wrong):
    with pytest.raises(model.ModelError, match=r"^fcgi_apps: is not a list of apps$"):
        model.fcgi_model(wrong)


@pytest.mark.parametrize("state", ["present", "absent", "purged"])
def test_an_app_is_not_both_present_and_something_else(state):
    assert errors(app(), {"name": "shop", "state": state, "command": "/x"}) == ["fcgi_apps[shop]: the name is used twice, by items 0 and 1"]


def test_duplicate_names_are_refused():
    assert "fcgi_apps[shop]: the name is used twice, by items 0 and 2" in errors(app(), app("blog"), app(socket="/run/other.sock"))


@pytest.mark.parametrize("kind", ["uwsgi_cgi"])
def test_a_kind_of_a_later_version_is_one_error_whatever_its_keys(kind):
    assert len(errors({"name": "blog", "kind": kind, "root": "/srv/www/blog"})) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"fcgi_set": "a-b"}, 'fcgi_model.fcgi_set: "a-b" is not a name'),
        ({"run_dir": "run"}, 'fcgi_model.run_dir: "run" is not an absolute path'),
        ({"listen": ["x"]}, "fcgi_model.listen[0]: "),
        ({"serv_dir": "/srv"}, "fcgi_model.serv_dir: unknown key; did you mean srv_dir?"),
    ],
)
def test_the_options_of_the_filter_are_checked_as_well(options, error):
    assert errors(app(), **options)[0].startswith(error)


def test_the_model_is_plain_data():
    found = made(located(), listener(locations=[{"path": "/api"}]), app("x", release={"src": "y", "version": "1"}))
    assert json.loads(json.dumps(found)) == found


def test_nothing_of_one_app_depends_on_another_by_accident():
    apps = [located("a", path="/a"), located("b", path="/b")]
    alone = made(apps[1])["programs"][0]
    assert made(*apps)["programs"][1] == alone


def test_two_hundred_apps_take_no_time_to_speak_of():
    apps = [app(f"app{number}", processes=4, locations=[{"path": f"/app{number}"}]) for number in range(200)]
    apps.append(listener(processes=4096, listen=10000))
    begin = time.monotonic()
    made(*apps)
    assert time.monotonic() - begin < 5


def test_the_filter_raises_the_error_of_ansible_with_all_errors():
    run = FilterModule().filters()["fcgi_model"]
    with pytest.raises(AnsibleFilterError, match=r"(?s)fcgi_apps\[a\]\.processes.*fcgi_apps\[b\]\.processes"):
        run([app("a", processes="x"), app("b", processes="x")])


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  vars:
    secret: !vault |
{vault}
    fcgi_apps:
      - name: shop
        command: /opt/shop/run
        environment:
          SHOP_DB: "password={{{{ secret }}}}"
          DIRECT: !vault |
{vault}
          N: 1
          DAY: 2026-01-02
    found: "{{{{ (fcgi_apps | webops.fastcgi.fcgi_model).programs[0].environment }}}}"
  tasks:
    - ansible.builtin.assert:
        that:
          - found.SHOP_DB == "password=hush ; 5%"
          - found.DIRECT == "hush ; 5%"
          - found.N == "1"
          - found.DAY == "2026-01-02"
"""


@pytest.fixture
def play(tmp_path, collections_path):
    """Runs the playbook with this secret, encrypted."""

    def run(secret):
        key = tmp_path / "key"
        key.write_text("unlock")
        encrypted = VaultLib([("default", VaultSecret(b"unlock"))]).encrypt(secret).decode()
        playbook = tmp_path / "play.yml"
        playbook.write_text(PLAYBOOK.format(vault=textwrap.indent(encrypted, " " * 12)))
        return subprocess.run(
            [pathlib.Path(sys.executable).parent / "ansible-playbook", "-vvv", "--vault-password-file", key, playbook],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_vault_secrets_reach_the_environment(play):
    done = play("hush ; 5%")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_vault_secret_that_is_refused_is_never_shown(play):
    done = play("quiet\nquiet")
    assert done.returncode != 0
    assert "fcgi_apps[shop].environment.DIRECT: the value (not shown)" in done.stdout + done.stderr
    assert "quiet" not in done.stdout + done.stderr


def test_the_reference_of_fcgi_apps_is_what_the_model_says():
    done = subprocess.run([sys.executable, CHECKOUT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
