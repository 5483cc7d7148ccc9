# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of config_set: render the files and send them as one archive."""

from __future__ import annotations

import io
import os
import tarfile
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.action import ActionBase

try:
    from ansible.template import trust_as_template
except ImportError:  # core 2.18, where every text is a template
    trust_as_template = None

_SOURCES = ("content", "src", "template")
_CONTROLLER_KEYS = (*_SOURCES, "vars")


class ActionModule(ActionBase):
    """Run config_set with the contents of its files in an archive, because a module's arguments are logged on the host."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            if arguments.get("state", "present") == "present":
                files = self._each_file(_checked(arguments.get("files")))
                contents = Renderer(self, task_vars or {}).render(files)
                arguments["files"] = [{key: value for key, value in item.items() if key not in _CONTROLLER_KEYS} for item in files]
                arguments["archive"] = self._send(_archive(contents))
            return self._execute_module(module_name="webops.fastcgi.config_set", module_args=arguments, task_vars=task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _each_file(self, files: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
        """The files, with those of a directory in its place."""
        found = []
        for item in files:
            source = None if item.get("src") is None else self._find(item)
            if source is None or not os.path.isdir(source):
                found.append(item if source is None else {**item, "src": source})
                continue
            for path in _files_below(source):
                found.append({**item, "path": f"{item['path']}/{os.path.relpath(path, source)}", "src": path})
        return found

    def _find(self, item: dict[str, t.Any]) -> str:
        try:
            return self._find_needle("files", item["src"])
        except AnsibleError as error:
            raise AnsibleActionFail(f"files[{item['path']}]: {error}") from error

    def _send(self, data: bytes) -> str:
        """Bring the archive to the host; returns its path there."""
        directory = self._make_tmp_path()
        path = self._connection._shell.join_path(directory, "generation.tar")
        self._transfer_data(path, data)
        self._fixup_perms2((directory, path), execute=False)
        return path


class Renderer:
    """Contents of files from text, files and templates on the controller.

    A templar is made once per template, not per file: making one takes longer than rendering a small file.
    """

    def __init__(self, action: ActionModule, task_vars: dict[str, t.Any]) -> None:
        self._action = action
        self._variables = {"ansible_managed": "Ansible managed", **task_vars}
        self._templates: dict[str, tuple[t.Any, str]] = {}

    def render(self, files: list[dict[str, t.Any]]) -> list[bytes]:
        return [self._content(item) for item in files]

    def _content(self, item: dict[str, t.Any]) -> bytes:
        try:
            if item.get("content") is not None:
                return to_bytes(str(item["content"]))
            if item.get("src") is not None:
                return self._read(item["src"])
            return to_bytes(self._fill(item["template"], item.get("vars") or {}))
        except AnsibleError as error:
            raise AnsibleActionFail(f"files[{item['path']}]: {error}") from error

    def _read(self, path: str) -> bytes:
        """A file of the controller, decrypted if it is vaulted."""
        real = self._action._loader.get_real_file(path)
        try:
            with open(real, "rb") as stream:
                return stream.read()
        finally:
            self._action._loader.cleanup_tmp_file(real)

    def _fill(self, template: str, variables: dict[str, t.Any]) -> str:
        if template not in self._templates:
            self._templates[template] = self._load(template)
        templar, text = self._templates[template]
        templar.available_variables = {**self._variables, **variables}
        if trust_as_template is None:
            return templar.do_template(text, escape_backslashes=False)
        return templar.template(text, escape_backslashes=False)

    def _load(self, template: str) -> tuple[t.Any, str]:
        """A templar whose includes are searched for as the template module does, and the template's text."""
        source = self._action._find_needle("templates", template)
        places = [*self._variables.get("ansible_search_path", []), self._action._loader.get_basedir(), os.path.dirname(source)]
        search_path = [path for place in places for path in (os.path.join(place, "templates"), place)]
        text = to_text(self._read(source))
        templar = self._action._templar.copy_with_new_env(searchpath=search_path, available_variables=self._variables)
        return templar, trust_as_template(text) if trust_as_template else text


def _files_below(directory: str) -> list[str]:
    """Paths of the files in a directory and those below it, but for what Python has compiled."""
    found = []
    for place, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if name != "__pycache__"]
        found += [os.path.join(place, name) for name in names]
    return sorted(found)


def _checked(files: t.Any) -> list[dict[str, t.Any]]:
    """The list of files, each with a path and one source of its content."""
    if not isinstance(files or [], list):
        raise AnsibleActionFail("files: has to be a list of dictionaries, each with a path")
    for number, item in enumerate(files or []):
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            raise AnsibleActionFail(f"files[{number}]: has to be a dictionary with a path")
        sources = [key for key in _SOURCES if item.get(key) is not None]
        if len(sources) != 1:
            raise AnsibleActionFail(f"files[{item['path']}]: needs exactly one of {', '.join(_SOURCES)}; it has {' and '.join(sources) or 'none'}")
        if not isinstance(item[sources[0]], str):
            raise AnsibleActionFail(f"files[{item['path']}].{sources[0]}: has to be text")
    return files or []


def _archive(contents: list[bytes]) -> bytes:
    """A tar archive in which member "3" is the content of files[3]."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(str(number))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
