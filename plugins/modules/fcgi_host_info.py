# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_host_info
short_description: Tell what a host has for FastCGI apps, and what stands in their way
version_added: 1.0.0
author: webops.fastcgi contributors (@webops)
description:
  - Answers in one call what the roles of this collection ask of a host, and finds what would keep apps from starting.
  - Neither nginx nor supervisord needs to be there.
options:
  nginx_conf:
    description: The main configuration file of nginx. Its C(user) and C(pid) directives are read.
    type: path
    default: /etc/nginx/nginx.conf
  supervisord_conf:
    description: The configuration file of supervisord. Only its existence is looked at.
    type: path
    default: /etc/supervisor/supervisord.conf
  url:
    description: The unix socket of supervisord's RPC server.
    type: str
    default: unix:///run/supervisor.sock
  users:
    description: Names of users to look up.
    type: list
    elements: str
    default: []
  groups:
    description: Names of groups to look up.
    type: list
    elements: str
    default: []
  commands:
    description: Executables that apps are going to be started with.
    type: list
    elements: dict
    default: []
    suboptions:
      app:
        description: The app, which the problem names.
        type: str
        required: true
      command:
        description: An absolute path, or a name to be looked up in the usual PATH of services.
        type: str
        required: true
      user:
        description: The user who executes it. While it does not exist, it is only looked at whether the file is executable at all.
        type: str
        required: true
      pending:
        description: Whether this play is still going to place it. Then it is not looked at.
        type: bool
        default: false
  listens:
    description: Addresses that apps are going to listen on.
    type: list
    elements: dict
    default: []
    suboptions:
      app:
        description: The app, which the problem names.
        type: str
        required: true
      address:
        description: As V(unix:///run/fastcgi/shop.sock), V(unix:/run/fastcgi/shop.sock), V(tcp://127.0.0.1:9000) or V(127.0.0.1:9000).
        type: str
        required: true
  paths_executable:
    description: Paths of which to tell whether there is an executable file.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the target.
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    description: Returns details on what has changed, or would change in check mode.
    support: none
    details:
      - This action does not modify state.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details:
      - This action does not modify state.
"""

EXAMPLES = r"""
- name: Look at the host
  webops.fastcgi.fcgi_host_info:
    users: [fcgi-shop]
    commands:
      - {app: shop, command: /opt/shop/bin/shop, user: fcgi-shop}
    listens:
      - {app: shop, address: "tcp://127.0.0.1:9000"}
  register: host

- name: Stop where an app could not start
  ansible.builtin.assert:
    that: host.problems | length == 0
    fail_msg: "{{ host.problems | join('\n') }}"
"""

RETURN = r"""
nginx:
  description: The web server.
  returned: success
  type: dict
  contains:
    installed:
      description: Whether there is an executable nginx.
      type: bool
    binary:
      description: Its path, or an empty string.
      type: str
      sample: /usr/sbin/nginx
    version:
      description: Its version, or an empty string.
      type: str
      sample: 1.22.1
    user:
      description: The user of its workers, by its configuration, else as compiled in, and where it is not installed as the operating system's package has it.
      type: str
      sample: www-data
    group:
      description: The group of its workers.
      type: str
      sample: www-data
    pid:
      description: The process ID of its master, V(0) if it does not run.
      type: int
    running:
      description: Whether the process of its pid file is an nginx.
      type: bool
supervisord:
  description: The supervisor.
  returned: success
  type: dict
  contains:
    installed:
      description: Whether there is an executable supervisord in the usual PATH of services.
      type: bool
    binary:
      description: Its path, or an empty string.
      type: str
      sample: /usr/bin/supervisord
    interpreter:
      description: The Python that runs it, from the first line of the script, or an empty string.
      type: str
      sample: /usr/bin/python3
    version:
      description: Its version, or an empty string.
      type: str
      sample: 4.2.5
    pid:
      description: The process ID of the process that listens at O(url), V(0) if there is none.
      type: int
    running:
      description: Whether something answers at O(url).
      type: bool
    conf_exists:
      description: Whether O(supervisord_conf) exists.
      type: bool
service_manager:
  description: What starts services on this host, V(systemd) where PID 1 is systemd, else V(sysvinit).
  returned: success
  type: str
selinux:
  description: V(enabled) or V(disabled).
  returned: success
  type: str
users:
  description: For each of O(users) that exists, by its name, its C(uid), C(gid), C(home) and C(shell).
  returned: success
  type: dict
  sample: {"fcgi-shop": {"uid": 995, "gid": 995, "home": "/nonexistent", "shell": "/usr/sbin/nologin"}}
users_missing:
  description: Those of O(users) that do not exist.
  returned: success
  type: list
  elements: str
groups_missing:
  description: Those of O(groups) that do not exist.
  returned: success
  type: list
  elements: str
paths_executable:
  description: For each of O(paths_executable), whether there is an executable file.
  returned: success
  type: dict
  sample: {"/opt/supervisor/bin/supervisord": true}
problems:
  description: What would keep apps from starting, one sentence each.
  returned: success
  type: list
  elements: str
  sample:
    - "fcgi_apps[shop]: tcp://127.0.0.1:9000 is in use by php-fpm8.2 (pid 123): stop it, or choose another address"
"""

import functools
import grp
import http.client
import ipaddress
import os
import pwd
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys

from ansible.module_utils.basic import AnsibleModule

# What init systems give to services; an interactive user's PATH would find more than they do.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UNIX_PATH_LIMIT = 107  # unix(7): 108 bytes with the terminating zero
ANSWER_TIMEOUT = 5  # seconds


def read(path):
    """Return a file's text, '' where there is none to read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""


def find(name):
    """Return the absolute path of an executable in the services' PATH, or ''."""
    return shutil.which(name, path=SYSTEM_PATH) or ""


def output(command):
    """Return what a command prints, on either stream."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.strip()


# nginx and supervisord.


def nginx_info(conf):
    binary = find("nginx")
    build = output([binary, "-V"]) if binary else ""
    version = re.search(r"nginx version: \S+?/(\S+)", build)
    configuration = read(conf)
    user, group = nginx_account(configuration, build)
    pid = nginx_pid(configuration, build)
    return {
        "installed": bool(binary),
        "binary": binary,
        "version": version.group(1) if version else "",
        "user": user,
        "group": group,
        "pid": pid,
        "running": pid > 0,
    }


def directive(configuration, name):
    """Return the arguments of the first directive ``name`` of an nginx configuration, [] where it has none."""
    found = re.search(r"(?:^|[;{}])\s*" + name + r"\s+([^;{}]+);", re.sub(r"(?m)(?:^|\s)#.*$", "", configuration))
    return shlex.split(found.group(1)) if found else []


def compiled_in(build, option):
    found = re.search(rf"--{option}=(\S+)", build)
    return found.group(1) if found else ""


def nginx_account(configuration, build):
    """Return (user, group) of nginx's workers; nginx takes the group of the user's name where only a user is given."""
    arguments = directive(configuration, "user")
    if arguments:
        return arguments[0], arguments[-1]
    if not build:
        packaged = "www-data" if os.path.exists("/etc/debian_version") else "nginx"
        return packaged, packaged
    user = compiled_in(build, "user")
    # nginx's own build (auto/unix): nobody, and nogroup where there is such a group.
    fallback = user or ("nogroup" if group_exists("nogroup") else "nobody")
    return user or "nobody", compiled_in(build, "group") or fallback


def nginx_pid(configuration, build):
    """Return the process ID of nginx's master, 0 where its pid file is missing or old."""
    path = (directive(configuration, "pid") or [compiled_in(build, "pid-path")])[0]
    pid = read(path).strip() if path else ""
    return int(pid) if pid.isdigit() and process_name(pid) == "nginx" else 0


def supervisord_info(conf, pid, running):
    binary = find("supervisord")
    return {
        "installed": bool(binary),
        "binary": binary,
        "interpreter": interpreter(binary) if binary else "",
        "version": output([binary, "--version"]) if binary else "",
        "pid": pid,
        "running": running,
        "conf_exists": os.path.exists(conf),
    }


def first_lines(path):
    """The first two lines of a file as bytes, without their ends."""
    with open(path, "rb") as stream:
        return [stream.readline(4096).rstrip(b"\n"), stream.readline(4096).rstrip(b"\n")]


def interpreter(script):
    """Return the path of the interpreter of a script, '' if it is none."""
    first, second = (os.fsdecode(line) for line in first_lines(script))
    if not first.startswith("#!"):
        return ""
    words = first[2:].split()
    if words and os.path.basename(words[0]) == "env":
        return find(words[-1])
    if second.startswith("'''exec' "):
        # How pip writes a first line that is too long for the kernel.
        return shlex.split(second[len("'''exec' "):])[0]
    return words[0] if words else ""


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=ANSWER_TIMEOUT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_TIMEOUT)
        self.sock.connect(self.path)


def answers(path):
    """Whether an HTTP server answers at a unix socket; a refusal for lack of a password is an answer."""
    connection = UnixConnection(path)
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# Processes and their sockets, by proc(5).


def process_name(pid):
    return read(f"/proc/{pid}/comm").strip()


def parents():
    """Return {pid: its parent's pid} of all processes."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # "pid (name) state parent ...", and a name may contain anything.
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if fields:
            found[int(pid)] = int(fields[1])
    return found


def descendants(ancestor):
    """Return the pids of a process and all its descendants; none for pid 0."""
    if not ancestor:
        return set()
    family = {ancestor}
    tree = parents()
    found = True
    while found:
        found = {pid for pid, parent in tree.items() if parent in family} - family
        family |= found
    return family


@functools.lru_cache(maxsize=None)
def socket_holders():
    """Return {inode: pids of the processes that have this socket open}."""
    holders = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # has ended, or is not ours to look into
        for descriptor in descriptors:
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{descriptor}"))
            except OSError:
                continue
            if found:
                holders.setdefault(int(found.group(1)), []).append(int(pid))
    return holders


def unix_listeners():
    """Yield (path, inode) of all listening unix sockets."""
    for line in read("/proc/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        accepts_connections = int(fields[3], 16) & 0x10000  # __SO_ACCEPTCON
        if len(fields) == 8 and accepts_connections:
            yield fields[7], int(fields[6])


def tcp_listeners():
    """Yield (ip address, port, inode) of all listening TCP sockets."""
    for name in ("tcp", "tcp6"):
        for line in read(f"/proc/net/{name}").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # TCP_LISTEN
                address, port = fields[1].split(":")
                yield kernel_address(address), int(port, 16), int(fields[9])


def kernel_address(text):
    """Return the ip address that the kernel prints as hexadecimal words in its own byte order."""
    words = [int(text[start:start + 8], 16) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return getattr(address, "ipv4_mapped", None) or address


def supervisord_pid(path):
    """Return the process ID that listens at supervisord's socket, 0 if none does."""
    # supervisord binds PATH.PID and then gives it the name PATH, so the kernel knows it by the former.
    name = re.compile(re.escape(path) + r"(\.\d+)?")
    for found, inode in unix_listeners():
        if name.fullmatch(found):
            return min(socket_holders().get(inode, [0]))
    return 0


# Problems.


def listen_problem(address, own):
    """Return what keeps a supervisor whose processes are ``own`` from listening at an address, '' if nothing."""
    kind, place = split_address(address)
    if kind == "unix":
        if len(os.fsencode(place)) > UNIX_PATH_LIMIT:
            return f"the path has {len(os.fsencode(place))} bytes, and a unix socket's can have {UNIX_PATH_LIMIT}: choose a shorter one"
        if os.path.exists(place) and not stat.S_ISSOCK(os.stat(place).st_mode):
            return "exists and is no socket: move it out of the way, or choose another path"
        inodes = [inode for path, inode in unix_listeners() if path == place] if os.path.exists(place) else []
    else:
        try:
            wanted = resolve(*place)
        except socket.gaierror as error:
            return f"{place[0]} is no address of a host ({error.strerror})"
        inodes = [inode for ip, port, inode in tcp_listeners() if port == place[1] and collide(ip, wanted)]
    for inode in inodes:
        holders = socket_holders().get(inode, [])
        if not own.intersection(holders):
            holder = f"{process_name(holders[0])} (pid {holders[0]})" if holders else "a process that is not visible here"
            return f"is in use by {holder}: stop it, or choose another address"
    return ""


def split_address(address):
    """Return ("unix", path) or ("tcp", (host, port)).

    :raises ValueError: if it is neither.
    """
    if address.startswith("unix:"):
        path = address[len("unix:"):]
        return "unix", path[2:] if path.startswith("//") else path
    host, _colon, port = (address[len("tcp://"):] if address.startswith("tcp://") else address).rpartition(":")
    if not port.isdigit():
        raise ValueError(f"{address!r} is neither unix:///PATH nor tcp://HOST:PORT")
    return "tcp", (host.strip("[]"), int(port))


def resolve(host, port):
    """Return the set of ip addresses that a listener at host would bind."""
    if host in ("", "*"):
        return {ipaddress.ip_address("0.0.0.0")}
    return {ipaddress.ip_address(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}


def collide(bound, wanted):
    """Whether a socket at ``bound`` is in the way of one at any of ``wanted``, which have the same port."""
    return bound in wanted or bound.is_unspecified or any(ip.is_unspecified and ip.version == bound.version for ip in wanted)


def command_problem(command, user):
    """Return what keeps ``user`` from executing ``command``, '' if nothing."""
    path = command if "/" in command else find(command)
    if not path:
        return f"is not in the PATH of services ({SYSTEM_PATH}): install it, or give its absolute path"
    if not os.path.exists(path):
        return "does not exist: install it, or correct the path"
    if not os.path.isfile(path):
        return "is not a file"
    obstacle = next((place for place in places_to(path) if not executable_by(user, place)), None)
    if obstacle:
        status = os.stat(obstacle)
        owner = f"mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}, gid {status.st_gid}"
        return f"is not executable for {user}" + (f" ({owner})" if obstacle == path else f", who cannot enter {obstacle} ({owner})")
    return script_problem(path)


def places_to(path):
    """Return the directories on the way to a file, from the root on, and the file."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(len(parts) + 1)]


def executable_by(user, path):
    """Ask the kernel, as that user: mode bits alone do not tell, where there are access control lists."""
    identity = {}
    account = lookup(pwd.getpwnam, user)
    if account and os.geteuid() == 0:
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": os.getgrouplist(user, account.pw_gid)}
    return subprocess.run(["test", "-x", path], cwd="/", check=False, **identity).returncode == 0


def script_problem(path):
    """Return what is wrong with a script's first line, '' if nothing: the kernel then says that the script does not exist."""
    first = first_lines(path)[0]
    if not first.startswith(b"#!"):
        return ""
    if first.endswith(b"\r"):
        return "has the line ends of Windows, with which its first line names no interpreter: convert it"
    found = os.fsdecode(first[2:]).split()
    if found and not os.path.exists(found[0]):
        return f"needs the interpreter {found[0]}, which does not exist"
    return ""


# Accounts.


def lookup(function, name):
    """Return function(name), None for a KeyError."""
    try:
        return function(name)
    except KeyError:
        return None


def group_exists(name):
    return lookup(grp.getgrnam, name) is not None


def users_found(names):
    accounts = {name: lookup(pwd.getpwnam, name) for name in names}
    return {
        name: {"uid": account.pw_uid, "gid": account.pw_gid, "home": account.pw_dir, "shell": account.pw_shell}
        for name, account in accounts.items()
        if account
    }


def problems(params, own):
    """Return the sentences about commands and addresses; ``own`` are the pids of the supervisor and its programs."""
    found = []
    for item in params["commands"]:
        problem = "" if item["pending"] else command_problem(item["command"], item["user"])
        if problem:
            found.append(f"fcgi_apps[{item['app']}]: command {item['command']} {problem}")
    for item in params["listens"]:
        problem = listen_problem(item["address"], own)
        if problem:
            found.append(f"fcgi_apps[{item['app']}]: {item['address']} {problem}")
    return found


def host_info(params):
    rpc_socket = split_address(params["url"])[1]
    pid = supervisord_pid(rpc_socket)
    users = users_found(params["users"])
    return {
        "nginx": nginx_info(params["nginx_conf"]),
        "supervisord": supervisord_info(params["supervisord_conf"], pid, answers(rpc_socket)),
        "service_manager": "systemd" if os.path.isdir("/run/systemd/system") else "sysvinit",
        "selinux": "enabled" if os.path.exists("/sys/fs/selinux/enforce") else "disabled",
        "users": users,
        "users_missing": [name for name in params["users"] if name not in users],
        "groups_missing": [name for name in params["groups"] if not group_exists(name)],
        "paths_executable": {path: os.path.isfile(path) and os.access(path, os.X_OK) for path in params["paths_executable"]},
        "problems": problems(params, descendants(pid)),
    }


def main():
    module = AnsibleModule(
        argument_spec={
            "nginx_conf": {"type": "path", "default": "/etc/nginx/nginx.conf"},
            "supervisord_conf": {"type": "path", "default": "/etc/supervisor/supervisord.conf"},
            "url": {"type": "str", "default": "unix:///run/supervisor.sock"},
            "users": {"type": "list", "elements": "str", "default": []},
            "groups": {"type": "list", "elements": "str", "default": []},
            "commands": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "app": {"type": "str", "required": True},
                    "command": {"type": "str", "required": True},
                    "user": {"type": "str", "required": True},
                    "pending": {"type": "bool", "default": False},
                },
            },
            "listens": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"app": {"type": "str", "required": True}, "address": {"type": "str", "required": True}},
            },
            "paths_executable": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **host_info(module.params))
    except ValueError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
