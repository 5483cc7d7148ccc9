# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new process is given: its environment, its user, its limits."""

from __future__ import annotations

import os
import resource

from fcgivisor import spawn
from fcgivisor.keys import LIMITS
from fcgivisor.spawn import SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fcgivisor.model import ProcessConfig
    from fcgivisor.process import Process

# What systemd told us about ourselves, and nobody else.
_OWN_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "UWSGI_EMPEROR_FD", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def environment(process: Process) -> dict[str, str]:
    """The supervisor's own, what supervisord sets (supervisor/process.py), HOME and USER, and what the configuration says. Raises SpawnError."""
    config, supervisor = process.config, process.supervisor
    found = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    found.update(SUPERVISOR_ENABLED="1", SUPERVISOR_PROCESS_NAME=config.name, SUPERVISOR_GROUP_NAME=process.group.config.name)
    own_url = config.serverurl is None or config.serverurl.strip().upper() == "AUTO"
    url = supervisor.settings.serverurl if own_url else config.serverurl
    if url:
        found["SUPERVISOR_SERVER_URL"] = url
    if config.user is not None:
        try:
            found["HOME"] = spawn.home(config.user)
        except KeyError:
            raise SpawnError(f"there is no user {config.user} any more") from None
        found["USER"] = found["LOGNAME"] = config.user
    if config.ready == "notify" or config.heartbeat:
        found["NOTIFY_SOCKET"] = supervisor.notify_address()
    if config.heartbeat:
        # A worker is to beat at half of it (sd_watchdog_enabled(3)).
        found["WATCHDOG_USEC"] = str(int(config.heartbeat * 2_000_000))
    if config.environment_file:
        found.update(spawn.read_environment_file(config.environment_file))
    found.update(config.environment)
    return found


def identity(config: ProcessConfig) -> spawn.Identity | None:
    """Whom it is to become, None for us. Raises SpawnError."""
    if config.uid is None or config.uid == os.getuid():
        return None
    if os.getuid() != 0:
        raise SpawnError(f"user {config.user} needs a supervisor that runs as root")
    return spawn.identity(config.user, config.uid, config.gid)


def limits(config: ProcessConfig) -> list[tuple[int, tuple[int, int]]]:
    """(number, (soft, hard)) for setrlimit(2)."""
    wanted = [(name, getattr(config, f"rlimit_{name}")) for name in LIMITS]
    return [(getattr(resource, f"RLIMIT_{name.upper()}"), limit) for name, limit in wanted if limit is not None]
