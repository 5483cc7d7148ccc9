# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SELinux's policy on this host has of what we want of it. Nothing is changed here.

Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.

Sources: selabel_file(5) for file_contexts and file_contexts.subs, semanage-fcontext(8), libselinux's compute_av.c for selinuxfs.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess

try:
    import semanage  # of the operating system, for its own Python
except ImportError:
    semanage = None

CONFIG = "/etc/selinux"
KERNEL = "/sys/fs/selinux"
PORT_TYPES = ("http_port_t", "http_cache_port_t")  # which httpd_t may listen on, as apache.te of the targeted policy has it
# Of these types in the targeted policy (policy/modules/kernel/corenetwork.te.in).
STOCK_PORTS = [range(number, number + 1) for number in (80, 81, 443, 488, 8008, 8009, 8080, 8118, 8123, 8443, 9000)] + [range(10001, 10011)]
SEMANAGE = "/usr/sbin/semanage"
SUBTREE = "(/.*)?"  # at the end of a pattern: the directory and all below
# Whom nginx, and a program that systemd's service starts, run as under the targeted policy, where they do not run yet.
NGINX = "system_u:system_r:httpd_t:s0"
SERVICE = "system_u:system_r:unconfined_service_t:s0"


def enabled():
    return os.path.exists(f"{KERNEL}/enforce")


def read(path):
    """Return a file's text, '' where there is none to read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def contexts_directory():
    found = re.search(r"(?m)^\s*SELINUXTYPE\s*=\s*(\S+)", read(f"{CONFIG}/config"))
    return f"{CONFIG}/{found[1] if found else 'targeted'}/contexts/files"


def target(pattern):
    """Return the pattern as semanage takes it: of two equivalent paths, such as /run and /var/run, the policy knows one, and which depends on its age."""
    lines = [line.split() for name in ("subs", "subs_dist") for line in read(f"{contexts_directory()}/file_contexts.{name}").splitlines()]
    for alias, original in (line for line in lines if len(line) == 2 and not line[0].startswith("#")):
        if pattern.startswith(f"{alias}/"):
            return original + pattern[len(alias) :]
    return pattern


def contexts_set():
    """Return {pattern: type} of the contexts that this site has added."""
    lines = (line.split() for line in read(f"{contexts_directory()}/file_contexts.local").splitlines())
    return {line[0]: line[-1].split(":")[2] for line in lines if len(line) > 1 and line[-1].count(":") >= 2}


class Store:
    """The policy with what the site has added, by libsemanage; nothing is known where that is missing."""

    def __init__(self):
        self.handle = semanage.semanage_handle_create() if semanage else None
        if self.handle and semanage.semanage_connect(self.handle) < 0:
            self.handle = None

    def has_port(self, number):
        if not self.handle:
            return any(number in ports for ports in self.ports_told)
        rc, records = semanage.semanage_port_list(self.handle)
        return rc >= 0 and any(_is_ours(record, number) for record in records)

    @functools.cached_property
    def ports_told(self):
        """Ranges of ports of PORT_TYPES as semanage(8), which has a Python of its own, tells them; where it is not installed, those of the stock policy."""
        if not os.path.exists(SEMANAGE):
            return STOCK_PORTS
        told = subprocess.run([SEMANAGE, "port", "--list", "--noheading"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
        rows = [row for row in (line.split(maxsplit=2) for line in told.splitlines()) if len(row) == 3 and row[0] in PORT_TYPES and row[1] == "tcp"]
        bounds = [port.strip().partition("-") for row in rows for port in row[2].split(",")]
        return [range(int(low), int(high or low) + 1) for low, _dash, high in bounds]

    def has_boolean(self, name):
        if not self.handle:
            return False
        rc, key = semanage.semanage_bool_key_create(self.handle, name)
        if rc < 0:
            return False
        rc, record = semanage.semanage_bool_query(self.handle, key)
        return rc >= 0 and bool(semanage.semanage_bool_get_value(record))


def _is_ours(record, number):
    tcp = semanage.semanage_port_get_proto_str(semanage.semanage_port_get_proto(record)) == "tcp"
    inside = semanage.semanage_port_get_low(record) <= number <= semanage.semanage_port_get_high(record)
    # The whole of the ephemeral ports, and others, are ranges of a type that a narrower record overrides.
    return tcp and inside and semanage.semanage_context_get_type(semanage.semanage_port_get_con(record)) in PORT_TYPES


def missing(wanted):
    """Return what of this the policy does not have, in the same form, with each pattern's target. wanted: contexts {pattern: type}, ports, booleans."""
    store, there = Store(), contexts_set()
    targets = [{"pattern": pattern, "target": target(pattern), "setype": setype} for pattern, setype in wanted["contexts"].items()]
    return {
        "contexts": [item for item in targets if there.get(item["target"]) != item["setype"]],
        "ports": [number for number in wanted["ports"] if not store.has_port(number)],
        "booleans": [name for name in wanted["booleans"] if not store.has_boolean(name)],
    }


def mislabelled(contexts):
    """Return the directories whose label is not that of their pattern, as a run leaves them that ended between the policy and restorecon(8)."""
    directories = {pattern[: -len(SUBTREE)].replace("\\", ""): setype for pattern, setype in contexts.items() if pattern.endswith(SUBTREE)}
    return [path for path, setype in directories.items() if label_of(path) not in ("", setype)]


def label_of(path):
    """Return the type in the label of a file, '' where there is none."""
    try:
        return os.getxattr(path, "security.selinux").decode().split(":")[2]
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def context_of(pid, otherwise):
    """Return the context of a process, ``otherwise`` if there is none."""
    return (read(f"/proc/{pid}/attr/current").strip("\0\n ") if pid else "") or otherwise


def may_connect(source, destination):
    """Whether the loaded policy lets one domain connect to a unix socket that the other made; None if that cannot be asked."""
    kind = f"{KERNEL}/class/unix_stream_socket"
    number, bit = read(f"{kind}/index").strip(), read(f"{kind}/perms/connectto").strip()
    if not (number.isdigit() and bit.isdigit()):
        return None
    try:
        descriptor = os.open(f"{KERNEL}/access", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.write(descriptor, f"{source} {destination} {number} ffffffff".encode())
        allowed = os.read(descriptor, 4096).split()[0]
    except (OSError, IndexError):
        return None
    finally:
        os.close(descriptor)
    return bool(int(allowed, 16) & 1 << int(bit) - 1)
