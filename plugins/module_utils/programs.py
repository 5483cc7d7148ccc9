# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fcgi_program and fcgi_program_info share: their options, the declared programs, and how a process is told.

This module util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.webops.fastcgi.plugins.module_utils.backend import Backend, SupervisorError, xmlrpc
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationStore
from ansible_collections.webops.fastcgi.plugins.module_utils.plan import Selected

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "url": {"type": "str", "default": "unix:///run/supervisor.sock"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "declared": {"type": "path"},
    "name": {"type": "list", "elements": "str"},
    "groups": {"type": "list", "elements": "str"},
}

_TOLD = ("name", "program", "group", "state", "pid", "uptime", "exit_status", "spawn_error", "logfile", "stderr_logfile", "description")
_MEASURED = ("restarts", "memory", "heartbeat_age")


class OptionError(Exception):
    """An option does not name what it has to name; the text says what would be right."""


def connect(module: t.Any, ready_timeout: float, startup_grace: float = xmlrpc.STARTUP_GRACE) -> xmlrpc.XmlRpcSupervisor:
    """The supervisor that a module's options name. Raises OptionError; ends the module where Python lacks what it takes."""
    if xmlrpc.XMLRPC_IMPORT_ERROR:
        reason = "to talk to supervisord; it belongs to Python's standard library: on Debian install the package python3, python3-minimal lacks it"
        module.fail_json(msg=missing_required_lib("xmlrpc.client", reason=reason), exception=xmlrpc.XMLRPC_IMPORT_ERROR)
    options = module.params
    try:
        return xmlrpc.XmlRpcSupervisor(options["url"], options["username"], options["password"], ready_timeout, startup_grace)
    except ValueError as error:
        raise OptionError(str(error)) from error


def declared_programs(store: GenerationStore) -> list[dict[str, t.Any]]:
    """metadata.programs of the live generation.

    Raises OptionError if no generation is live, or if it is not one of programs, and GenerationError.
    """
    manifest = store.live_manifest()
    if manifest is None:
        raise OptionError(f"declared: {store.path} holds no live generation; the role fcgi_app (module config_set) makes it")
    programs = manifest["metadata"].get("programs")
    if programs is None:
        raise OptionError(f"declared: the live generation of {store.path} declares no programs; give the path that the role fcgi_app writes")
    return programs


def names_by_program(processes: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, list[str]]:
    """Full names of processes, by program."""
    names: dict[str, list[str]] = {}
    for process in processes:
        names.setdefault(process["program"], []).append(process["full_name"])
    return names


def measured(backend: Backend) -> dict[str, dict[str, t.Any]]:
    """The measures of a backend; none where it has died meanwhile, which must not hide what it told before."""
    try:
        return backend.measures()
    except SupervisorError:
        return {}


def told(
    processes: t.Iterable[dict[str, t.Any]],
    selection: t.Iterable[Selected],
    declared: t.Iterable[dict[str, t.Any]],
    measures: t.Mapping[str, dict[str, t.Any]],
) -> list[dict[str, t.Any]]:
    """The selected processes as the modules return them. measures: of a backend."""
    chosen = {one.program: one.processes for one in selection}
    metadata = {program["name"]: program for program in declared}
    return [
        _told(process, metadata.get(process["program"], {}), measures.get(process["full_name"], {}))
        for process in processes
        if process["program"] in chosen and (chosen[process["program"]] is None or process["full_name"] in (chosen[process["program"]] or ()))
    ]


def _told(process: t.Mapping[str, t.Any], program: t.Mapping[str, t.Any], measured: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    known = {**{key: process[key] for key in _TOLD}, **{key: measured.get(key) for key in _MEASURED}}
    return {**known, "groups": program.get("groups", []), "socket": program.get("socket")}
