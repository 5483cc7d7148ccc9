# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reach a test host by nsenter(1) straight from Ansible's process, with pipelining.

containers.podman.podman has no pipelining and starts podman three times and more for each task: half of what a scenario's commands cost.
tests/prod_example.sh goes by it all the same, as an operator would.
"""

from __future__ import annotations

import pathlib
import resource
import shlex
import subprocess

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase, ensure_connect

DOCUMENTATION = """
name: test_host
short_description: enter a test host's namespaces
description:
  - Runs commands in the namespaces of PID 1 of a container of C(molecule/images/host), as this machine's root.
options:
  remote_addr:
    description: Name of the container.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
  remote_user:
    description: Who runs the commands; root unless another one is named.
    type: str
    default: root
    vars:
      - name: ansible_user
    keyword:
      - name: remote_user
  podman_executable:
    description: Path of C(molecule/images/podman).
    type: path
    required: true
    vars:
      - name: ansible_podman_executable
"""

# What a login on the host has. The limits stand below this machine's own, as those of the host's services do: see molecule/images/host.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "USER": "root", "LC_ALL": "C.UTF-8", "container": "podman",
}  # fmt: skip
LIMIT = 10000  # open files, and processes of a user
# What makes a shell on the host another user, with all that a login gives but the session.
AS_USER = 'export HOME="$(getent passwd "$0" | cut -d: -f6)" USER="$0"; exec setpriv --reuid "$0" --regid "$(id -g "$0")" --init-groups -- "$@"'


def started(pid):
    """When a process started, in clock ticks since the boot, by proc(5); "" if there is none."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Connection(ConnectionBase):
    transport = "test_host"
    has_pipelining = True

    def _connect(self):
        super()._connect()
        for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
            _soft, hard = resource.getrlimit(limit)
            least = LIMIT if hard == resource.RLIM_INFINITY else min(LIMIT, hard)
            resource.setrlimit(limit, (least, hard))
        self._connected = True
        return self

    def _pid(self):
        """Of PID 1, as this machine numbers it. molecule/images/podman notes it with the time of its start: of a host that was started anew it is asked."""
        podman = pathlib.Path(self.get_option("podman_executable"))
        name = self.get_option("remote_addr")
        try:
            pid, noted = (podman.parent / "../../.cache/hosts" / name).read_text(encoding="utf-8").split()
        except (FileNotFoundError, ValueError):
            pid, noted = "", None
        if noted and started(pid) == noted:
            return pid
        asked = subprocess.run([podman, "pid", name], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if asked.returncode:
            raise AnsibleConnectionFailure(f"The test host {name} does not run: {asked.stderr.strip() or 'podman knows no such container'}")
        return asked.stdout.strip()

    @ensure_connect
    def exec_command(self, cmd, in_data=None, sudoable=False):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        command = shlex.split(to_text(cmd, errors="surrogate_or_strict"))
        user = self.get_option("remote_user")
        if user != "root":
            command = ["/bin/sh", "-c", AS_USER, user, *command]
        enter = ["nsenter", "--target", self._pid(), "--mount", "--uts", "--ipc", "--net", "--pid", "--wdns=/", "--", *command]
        with subprocess.Popen(
            [to_bytes(word, errors="surrogate_or_strict") for word in enter],
            env=ENVIRONMENT, stdin=subprocess.PIPE if in_data else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            output, errors = process.communicate(to_bytes(in_data) if in_data else None)
        return process.returncode, output, errors

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        with open(to_bytes(in_path, errors="surrogate_or_strict"), "rb") as source:
            content = source.read()
        # An empty standard input is none: what is to be empty is made by the redirection alone.
        self._must(f"cat >{shlex.quote(to_text(out_path))}", content)

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        content = self._must(f"cat <{shlex.quote(to_text(in_path))}")
        with open(to_bytes(out_path, errors="surrogate_or_strict"), "wb") as target:
            target.write(content)

    def _must(self, script, content=None):
        status, output, errors = self.exec_command(shlex.join(["/bin/sh", "-c", script]), content)
        if status:
            raise AnsibleError(f"{self.get_option('remote_addr')}: {script}: {to_text(errors).strip()}")
        return output

    def close(self):
        self._connected = False
