# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin's renderer, with a controller that counts what is expensive."""

from __future__ import annotations

import pathlib

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.webops.fastcgi.plugins.action.config_set import ActionModule, Renderer


class Controller:
    """Action plugin, loader and templar in one; a template is a format string."""

    def __init__(self, directory):
        self.directory = directory
        self.templars_made = self.reads = 0
        self._loader = self._templar = self

    def get_basedir(self):
        return str(self.directory)

    def get_real_file(self, path):
        self.reads += 1
        return path

    def cleanup_tmp_file(self, path):
        pass

    def _find_needle(self, kind, name):
        return str(self.directory / kind / name)

    def copy_with_new_env(self, searchpath, available_variables):
        self.templars_made += 1
        self.search_path = searchpath
        return self

    def template(self, text, escape_backslashes):
        return text.format(**self.available_variables)


def test_a_templar_is_made_once_per_template_and_each_file_gets_its_own_variables(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/x.j2").write_text("{number} of {host}")
    controller = Controller(tmp_path)
    files = [{"path": str(number), "template": "x.j2", "vars": {"number": number}} for number in range(200)]
    contents = Renderer(controller, {"host": "web1"}).render(files)
    assert contents == [f"{number} of web1".encode() for number in range(200)]
    assert (controller.templars_made, controller.reads) == (1, 1)


def test_variables_of_one_file_do_not_leak_into_the_next(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/x.j2").write_text("{greeting}")
    files = [{"path": "a", "template": "x.j2", "vars": {"greeting": "of the file"}}, {"path": "b", "template": "x.j2"}]
    assert Renderer(Controller(tmp_path), {"greeting": "of the play"}).render(files) == [b"of the file", b"of the play"]


def test_includes_are_searched_for_where_the_template_module_does(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/x.j2").write_text("")
    controller = Controller(tmp_path)
    Renderer(controller, {"ansible_search_path": ["/role", "/play"]}).render([{"path": "a", "template": "x.j2"}])
    assert controller.search_path[:4] == ["/role/templates", "/role", "/play/templates", "/play"]
    assert f"{tmp_path}/templates" in controller.search_path


class Finder(ActionModule):
    """An action plugin that only finds files, below one directory."""

    def __init__(self, directory):
        self.directory = directory

    def _find_needle(self, dirname, needle):
        if not (self.directory / dirname / needle).exists():
            raise AnsibleError(f"Could not find {needle}")
        return str(self.directory / dirname / needle)


def test_of_a_directory_each_file_is_taken_but_what_python_has_compiled(tmp_path):
    for name in ("files/shop/run.py", "files/shop/web/page.py", "files/shop/__pycache__/run.pyc", "files/one.conf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    declared = [{"path": "lib", "src": "shop", "mode": "0640"}, {"path": "one.conf", "src": "one.conf"}, {"path": "text", "content": "x"}]
    found = Finder(tmp_path)._each_file(declared)
    assert [(item["path"], pathlib.Path(item.get("src", "/")).name, item.get("mode")) for item in found] == [
        ("lib/run.py", "run.py", "0640"),
        ("lib/web/page.py", "page.py", "0640"),
        ("one.conf", "one.conf", None),
        ("text", "", None),
    ]


def test_a_source_that_is_not_there_is_an_error_that_names_the_file_of_the_set(tmp_path):
    with pytest.raises(AnsibleActionFail, match=r"files\[lib\]: Could not find nothing"):
        Finder(tmp_path)._each_file([{"path": "lib", "src": "nothing"}])
