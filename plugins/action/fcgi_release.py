# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of fcgi_release: finds the sources, and sends those that the host does not have."""

from __future__ import annotations

import os
import posixpath
import tempfile
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.webops.fastcgi.plugins.module_utils.release import ARGUMENT_SPEC, VENV
from ansible_collections.webops.fastcgi.plugins.plugin_utils.release_source import SourceError, content_digest, describe, pack

MODULE = "webops.fastcgi.fcgi_release"


class ActionModule(ActionBase):
    """One module call where nothing is missing; else pack and send what is, and a second one."""

    # run() makes the remote directory itself, and only where something is sent.
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _result, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        if options["state"] == "current":
            return self._call({}, task_vars)
        sources = [self._find(release, task_vars) for release in options["releases"]]
        digests = [self._digest(release, source) for release, source in zip(options["releases"], sources)]
        planned = self._call({"digests": digests}, task_vars)
        if self._task.check_mode or planned.get("failed") or not planned.get("changed"):
            return planned
        missing = {number: sources[number] for number, release in enumerate(planned["releases"]) if release["changed"]}
        return self._call({"digests": digests, "archive": self._send(missing)}, task_vars)

    def _call(self, more: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return self._execute_module(module_name=MODULE, module_args={**self._task.args, **more}, task_vars=task_vars)

    def _find(self, release: dict[str, Any], task_vars: dict[str, Any]) -> str:
        """Return the absolute path of a release's source on the controller."""
        src = release["src"]
        if not src:
            raise self._error(release, "src is missing: give the directory or tar archive that has the code")
        try:
            return self._find_needle("files", src)
        except AnsibleError:
            # Not where Ansible looks for a task's files; but a list of apps usually stands in an inventory.
            others = [task_vars.get("inventory_dir") or "", os.getcwd()]
        for directory in filter(os.path.isabs, others):  # an inventory that is no file has none
            if os.path.exists(os.path.join(directory, src)):
                return os.path.abspath(os.path.join(directory, src))
        searched = filter(os.path.isabs, [*self._task.get_search_path(), self._loader.get_basedir(), *others])
        raise self._error(release, f"src {src} does not exist on the controller; searched {', '.join(dict.fromkeys(searched))}")

    def _digest(self, release: dict[str, Any], source: str) -> str:
        try:
            entries = describe(source)
        except (SourceError, OSError) as error:
            raise self._error(release, f"src {source}: {error}") from error
        requirements = release["python_requirements"]
        if requirements and not entries.get(posixpath.normpath(requirements), "").startswith("file"):
            raise self._error(release, f"python_requirements {requirements} is not a file in {source}")
        if requirements and VENV in entries:
            raise self._error(release, f"src {source}: it has a {VENV} of its own, where python_requirements would make one: leave it out")
        return content_digest(entries)

    def _send(self, missing: dict[int, str]) -> str:
        """Put one archive of the missing releases on the host; return its path there."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "releases.tar.gz")
        with tempfile.NamedTemporaryFile(dir=C.DEFAULT_LOCAL_TMP) as archive:
            pack(missing, archive)  # type: ignore[arg-type]
            archive.flush()
            self._transfer_file(archive.name, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        return remote

    @staticmethod
    def _error(release: dict[str, Any], text: str) -> AnsibleActionFail:
        return AnsibleActionFail(f"fcgi_apps[{release['app']}].release: {text}")
