# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_nginx_reload
short_description: Reload nginx when its configuration has changed, and prove that it did
version_added: 1.0.0
author: webops.fastcgi contributors (@webops)
description:
  - Makes nginx read its configuration again if the live generation of a M(webops.fastcgi.config_set) is not the one last proved to be
    in use. A run that was killed in between is thereby caught up by the next one.
  - C(nginx -s reload) and C(systemctl reload nginx) succeed although the master refuses the configuration, for example because a port is in use.
    This module waits until new workers have taken over, or fails with what nginx wrote in its log. The old workers then go on serving.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    details:
      - Where nginx does not run (yet), a reload that is due is reported as a change all the same.
  diff_mode:
    support: none
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - With O(force=true) each run reloads.
options:
  declared:
    description:
      - The O(webops.fastcgi.config_set#module:path) of the configuration that nginx reads.
    type: str
    required: true
  pid_file:
    description:
      - Where the nginx master keeps its process number.
    type: str
    default: /run/nginx.pid
  error_log:
    description:
      - The log in which the nginx master says why it refuses a configuration.
    type: str
    default: /var/log/nginx/error.log
  timeout:
    description:
      - Seconds in which new workers have to be there.
    type: float
    default: 30
  force:
    description:
      - Reload in any case.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make nginx use what was installed
  webops.fastcgi.fcgi_nginx_reload:
    declared: /etc/fcgi/default/fcgi_nginx
"""

RETURN = r"""
generation:
  description: The live generation; null if there is none.
  returned: always
  type: str
  sample: "000007"
workers_before:
  description: Process numbers of the workers that served before, without those that were shutting down already.
  returned: always
  type: list
  elements: int
workers_after:
  description: Process numbers of the workers that serve now.
  returned: always
  type: list
  elements: int
seconds:
  description: How long the reload took.
  returned: always
  type: float
log:
  description: What the master wrote in its error log meanwhile, from the level warn up.
  returned: always
  type: list
  elements: str
msg:
  description: What happened, in words.
  returned: always
  type: str
  sample: nginx uses generation 000007
"""

import contextlib
import os
import re
import signal
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationError, GenerationStore

_POLL_SECONDS = 0.02
_SERIOUS = re.compile(r" \[(warn|error|crit|alert|emerg)\] (\d+)#")
# A port in use is tried five times before nginx gives up with "still could not bind()".
_REFUSAL = re.compile(r" \[emerg\] \d+#\d+: (?!bind\(\) to )")

_ARGUMENTS = {
    "declared": {"type": "str", "required": True},
    "pid_file": {"type": "str", "default": "/run/nginx.pid"},
    "error_log": {"type": "str", "default": "/var/log/nginx/error.log"},
    "timeout": {"type": "float", "default": 30},
    "force": {"type": "bool", "default": False},
}


class ReloadError(Exception):
    """Why nginx does not use its configuration."""


class Process(t.NamedTuple):
    """A process of this host; its start (clock ticks since boot) tells it from a later one with the same number."""

    pid: int
    start: int


class Master:
    """The running nginx master."""

    def __init__(self, pid_file: str) -> None:
        try:
            with open(pid_file, encoding="ascii") as stream:
                self.pid = int(stream.read())
        except (OSError, ValueError) as error:
            raise ReloadError(f"nginx does not run: {pid_file} names no process ({error}); start nginx, or name its pid_file") from error
        if not _title(self.pid).startswith("nginx: master process"):
            raise ReloadError(f"nginx does not run: process {self.pid}, which {pid_file} names, is no nginx master; start nginx")

    def workers(self) -> set[Process]:
        """The workers that accept connections."""
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        found = ((number, _parent_and_start(number)) for number in numbers)
        children = {Process(number, start) for number, (parent, start) in found if parent == self.pid}
        return {child for child in children if _title(child.pid) == "nginx: worker process"}

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)


class ErrorLog:
    """What the master writes in its log from now on."""

    def __init__(self, path: str, master: Master) -> None:
        self.path = path
        self.master = master
        self.offset = os.path.getsize(path) if os.path.exists(path) else 0

    def lines(self) -> list[str]:
        """The lines so far, from the level warn up."""
        try:
            with open(self.path, encoding="utf-8", errors="replace") as stream:
                stream.seek(self.offset)
                text = stream.read()
        except OSError:
            return []  # nginx logs elsewhere: then only its workers tell
        complete = text[: text.rfind("\n") + 1].splitlines()
        return [line for line in complete if self._is_of_master(_SERIOUS.search(line))]

    def _is_of_master(self, match: re.Match[str] | None) -> bool:
        return match is not None and int(match.group(2)) == self.master.pid


def _title(pid: int) -> str:
    """What a process calls itself; nothing if it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as stream:
            return stream.read().replace("\0", " ").strip()
    except OSError:
        return ""


def _parent_and_start(pid: int) -> tuple[int, int]:
    """Fields 4 and 22 of /proc/PID/stat (proc(5)); zeros if the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            after_name = stream.read().rpartition(")")[2].split()
    except OSError:
        return 0, 0
    return int(after_name[1]), int(after_name[19])


def _wait_for_new_workers(master: Master, before: set[Process], log: ErrorLog, timeout: float) -> set[Process]:
    """The workers that took over. Raises ReloadError if nginx refuses, or nothing happens for timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        workers = master.workers()
        if workers and not workers & before:
            return workers
        lines = log.lines()
        if any(_REFUSAL.search(line) for line in lines):
            raise ReloadError("nginx refuses the configuration; the old workers go on serving:\n" + "\n".join(lines))
        if time.monotonic() >= deadline:
            said = "\n".join(lines) or f"nothing in {log.path}"
            raise ReloadError(f"nginx has not replaced its workers within {timeout:g} s; its master wrote:\n{said}")
        time.sleep(_POLL_SECONDS)


def _pids(workers: set[Process]) -> list[int]:
    return sorted(worker.pid for worker in workers)


def _is_due(store: GenerationStore, force: bool) -> bool:
    live = store.current()
    return force or (live is not None and live != store.applied())


def _reload(store: GenerationStore, params: dict[str, t.Any], result: dict[str, t.Any]) -> None:
    """Reload nginx and fill in the result, as far as it gets."""
    master = Master(params["pid_file"])
    before = master.workers()
    log = ErrorLog(params["error_log"], master)
    result.update(workers_before=_pids(before), workers_after=_pids(before))
    started = time.monotonic()
    try:
        master.reload()
        after = _wait_for_new_workers(master, before, log, params["timeout"])
    finally:
        result.update(seconds=round(time.monotonic() - started, 3), log=log.lines())
    result.update(workers_after=_pids(after), msg=f"nginx uses generation {result['generation']}")
    if result["generation"]:
        store.mark_applied(result["generation"])


def _alone(store: GenerationStore, module: AnsibleModule) -> t.ContextManager[t.Any]:
    """Two deployments of one set take turns, else an older generation could be the one that counts as applied."""
    if module.check_mode or store.current() is None:
        return contextlib.nullcontext()
    return store.lock(module.params["timeout"])


def main() -> None:
    module = AnsibleModule(argument_spec=_ARGUMENTS, supports_check_mode=True)
    store = GenerationStore(module.params["declared"])
    result: dict[str, t.Any] = {"changed": False, "generation": None, "workers_before": [], "workers_after": [], "seconds": 0.0, "log": []}
    try:
        with _alone(store, module):
            due = _is_due(store, module.params["force"])
            result.update(generation=store.current(), changed=due, msg="a reload is due" if due else "nginx uses the live generation already")
            if due and not module.check_mode:
                _reload(store, module.params, result)
    except (ReloadError, GenerationError) as error:
        module.fail_json(**{**result, "changed": False, "msg": str(error)})
    except OSError as error:
        module.fail_json(**{**result, "changed": False, "msg": f"{error.filename or 'nginx'}: {error.strerror}"})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
