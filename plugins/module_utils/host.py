# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has for FastCGI apps, and what would keep them from starting. Reads only, but for end().

Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import configparser
import contextlib
import functools
import glob
import grp
import hashlib
import http.client
import importlib.util
import ipaddress
import json
import os
import platform
import pwd
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import NamedTuple

from ansible_collections.webops.fastcgi.plugins.module_utils import nginx_conf, selinux
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationStore

# What init systems give to services; an interactive user's PATH would find more than they do.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UNIX_PATH_LIMIT = 107  # unix(7): 108 bytes with the terminating zero
ANSWER_TIMEOUT = 5  # seconds
KILLED_WITHIN = 5  # seconds
LOOK_EVERY = 0.1  # seconds
NAMING_SECTIONS = ("program", "fcgi-program", "eventlistener", "group")
OPENED_PORTS = "opened_ports.json"  # in a set's directory
MASKED_SERVICES = "masked_services.json"  # in the directory of all sets
# Web servers that ask FastCGI programs too, by the names of their processes, and where their configuration lies.
WEB_SERVERS = {"apache2": "/etc/apache2", "httpd": "/etc/httpd", "caddy": "/etc/caddy", "lighttpd": "/etc/lighttpd"}
ROLES = ("fcgi_app", "fcgi_nginx")  # whose generations lie in a set's directory
TCP_LISTEN = "0A"  # the state, in /proc/net/tcp (include/net/tcp_states.h)
SO_ACCEPTCON = 0x10000  # the flag of a listening socket, in /proc/net/unix (include/uapi/linux/net.h)


def read(path):
    """Return a file's text, '' where there is none to read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""


def digest(path):
    """Return the SHA-1 of a file's content in hexadecimal, '' where there is none to read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.sha1(stream.read()).hexdigest()
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


def nginx_info(params):
    conf = params["nginx_conf"]
    binary = find("nginx")
    build = output([binary, "-V"]) if binary else ""
    version = re.search(r"nginx version: \S+?/(\S+)", build)
    configuration = nginx_conf.read(conf)
    user, group = nginx_account(configuration, build, params["nginx_user"])
    pid_file = setting(configuration, "pid", build, "pid-path", "/run/nginx.pid")
    pid = nginx_pid(pid_file) if binary else 0
    return {
        "installed": bool(binary),
        "binary": binary,
        "version": version.group(1) if version else "",
        "user": user,
        "group": group,
        "pid_file": pid_file,
        "error_log": setting(configuration, "error_log", build, "error-log-path", "/var/log/nginx/error.log"),
        "pid": pid,
        "running": pid > 0,
        "problems": nginx_problems(params, configuration, pid) if params["nginx_link"] else [],
    }


def nginx_problems(params, configuration, pid):
    """Return the sentences about what keeps nginx from serving what our link leads to; its master is ``pid``, 0 if it does not run."""
    conf, link = params["nginx_conf"], params["nginx_link"]
    included = nginx_conf.http_includes(configuration, conf)
    found = []
    if os.path.exists(conf) and not nginx_conf.is_included(link, included):
        found.append(
            f"the http block of {conf} includes {', '.join(included) or 'nothing'}, and so not {link}: "
            "set fcgi_nginx_include_dir to a directory whose *.conf it includes, or add that include"
        )
    # A running nginx has the addresses of its own files already; one that starts needs them all.
    sources = {} if pid else {address: file for file, address in nginx_conf.listens(configuration)}
    sources.update(dict.fromkeys(params["nginx_listens"], "fcgi_apps"))
    own = descendants(pid)
    for address, source in sources.items():
        problem = nginx_listen_problem(address, own)
        if problem:
            found.append(f"{source}: listen {address} of nginx {problem}")
    return found


def nginx_listen_problem(address, own):
    """Return what keeps an nginx whose processes are ``own`` from listening at an address as its configuration has it, '' if nothing."""
    if not address.startswith("unix:"):
        # A port alone is on all addresses, an address alone has the port 80.
        address = address if re.search(r":\d+$", address) else f":{address}" if address.isdigit() else f"{address}:80"
    return listen_problem(address, own)


def compiled_in(build, option):
    found = re.search(rf"--{option}=(\S+)", build)
    return found.group(1) if found else ""


def nginx_account(configuration, build, packaged):
    """Return (user, group) of nginx's workers; nginx takes the group of the user's name where only a user is given. packaged: while it is not there."""
    arguments = nginx_conf.first(configuration, "user")
    if arguments:
        return arguments[0], arguments[-1]
    if not build:
        return packaged, packaged
    user = compiled_in(build, "user")
    # nginx's own build (auto/unix): nobody, and nogroup where there is such a group.
    fallback = user or ("nogroup" if group_exists("nogroup") else "nobody")
    return user or "nobody", compiled_in(build, "group") or fallback


def setting(configuration, name, build, option, packaged):
    """Return the file that nginx uses: by its configuration, else as compiled in, else (not installed yet, or no file, as C(stderr)) as packaged."""
    path = (nginx_conf.first(configuration, name) or [compiled_in(build, option)])[0]
    return path if path.startswith("/") else packaged


def nginx_pid(pid_file):
    """Return the process ID of nginx's master, 0 where its pid file is missing or old."""
    pid = read(pid_file).strip()
    return int(pid) if pid.isdigit() and process_name(pid) == "nginx" else 0


def supervisord_info(conf, pid, running):
    binary = find("supervisord")
    return {
        "installed": bool(binary),
        "binary": binary,
        "interpreter": interpreter(binary) if binary else "",
        "pid": pid,
        "running": running,
        "command": command_line(pid),
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
        return shlex.split(second[len("'''exec' ") :])[0]
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


# What supervisord's configuration declares, read as supervisor/options.py does (ServerOptions.read_config).


class Section(NamedTuple):
    """A section that makes a program or a group, which share one space of names: its file, its title, and the name that it gives."""

    file: str
    title: str
    name: str


def foreign_sections(conf, own):
    """Return the Sections of a configuration of supervisord and all that it includes, but for those of the file ``own``."""
    files = dict.fromkeys([conf, *included(conf)])
    return [section for path in files if os.path.realpath(path) != os.path.realpath(own) for section in sections(path)]


def included(conf):
    """Return the paths of the files that a configuration includes; these include none themselves."""
    here = os.path.dirname(os.path.abspath(conf))
    known = {"here": here, "host_node_name": platform.node()}
    patterns = re.sub(r"%\((\w+)\)s", lambda name: known.get(name[1], name[0]), parsed(conf).get("include", "files", fallback=""))
    return [path for pattern in patterns.split() for path in sorted(glob.glob(os.path.join(here, pattern)))]


def sections(path):
    titles = [(title, *title.partition(":")) for title in parsed(path).sections()]
    return [Section(path, title, name.strip()) for title, kind, _colon, name in titles if kind in NAMING_SECTIONS]


def parsed(path):
    """Return a file's sections; none where supervisord could not read them either."""
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";", "#"))
    try:
        parser.read_string(read(path))
    except configparser.Error:
        parser.clear()
    return parser


# Processes and their sockets, by proc(5).


def process_name(pid):
    return read(f"/proc/{pid}/comm").strip()


def command_line(pid):
    return read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()


def supervision(pid):
    """Return what supervisord tells a process of itself in its environment, as {"GROUP_NAME": ...}; empty if nothing is to be seen."""
    return dict(re.findall(r"(?:^|\0)SUPERVISOR_(\w+)=([^\0]*)", read(f"/proc/{pid}/environ")))


def supervised_group(pid):
    """Return the name of supervisord's group that a process belongs to, '' if none is to be seen."""
    return supervision(pid).get("GROUP_NAME", "")


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat_fields(pid):
    """Return the fields of /proc/PID/stat from the third on, [] if there is no such process."""
    # "pid (name) state parent ...", and a name may contain anything.
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def parents():
    """Return {pid: its parent's pid} of all processes."""
    return {pid: int(fields[1]) for pid, fields in ((pid, stat_fields(pid)) for pid in pids()) if fields}


def started(pid):
    """Return when a process was started, in clock ticks since the system's boot; 0 if there is none."""
    return int((stat_fields(pid) or [0] * 20)[19])


def lives(pid, since):
    """Whether the process that was started at that time is there and does more than wait for its parent to notice its end."""
    fields = stat_fields(pid)
    return bool(fields) and fields[0] != "Z" and int(fields[19]) == since


def in_this_container(pid):
    """Whether a process numbers processes as this one does: what runs in a container of this host has names and addresses of its own."""
    try:
        return os.path.samefile(f"/proc/{pid}/ns/pid", "/proc/self/ns/pid")
    except OSError:
        return False


def descendants(ancestor):
    """Return the pids of a process and all its descendants; none for pid 0."""
    if not ancestor:
        return set()
    family = {ancestor}
    tree = parents()
    while children := {pid for pid, parent in tree.items() if parent in family} - family:
        family |= children
    return family


def process_group(pid_file):
    """Return the pids of the process group that the process of a pid file led, which may have died; none where there is no such file."""
    leader = first_word(pid_file) if pid_file else ""
    return {pid for pid in pids() if stat_fields(pid)[2:3] == [leader]} if leader.isdigit() else set()


def first_word(path):
    """Return what a small file begins with, '' if it cannot be read. It may lie where an app's user can put a link, or a pipe that nobody writes to."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(descriptor, encoding="ascii", errors="replace") as file:
        return "".join(file.read(32).split()[:1]) if stat.S_ISREG(os.fstat(descriptor).st_mode) else ""


@functools.cache
def socket_holders():
    """Return {inode: pids of the processes that have this socket open}."""
    holders: dict[int, list[int]] = {}
    for pid in pids():
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
                holders.setdefault(int(found.group(1)), []).append(pid)
    return holders


@functools.cache
def unix_listeners():
    """Return a list of (path, inode) of all listening unix sockets that have a path.

    The kernel knows it as it was bound, often by way of /var/run, a symbolic link: the path's directory is resolved.
    """
    found = []
    for line in read("/proc/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        accepts_connections = int(fields[3], 16) & SO_ACCEPTCON
        if len(fields) == 8 and accepts_connections and os.path.isabs(fields[7]):
            directory, name = os.path.split(fields[7])
            found.append((os.path.join(os.path.realpath(directory), name), int(fields[6])))
    return found


@functools.cache
def tcp_listeners():
    """Return a list of (ip address, port, inode) of all listening TCP sockets."""
    found = []
    for line in (read("/proc/net/tcp") + read("/proc/net/tcp6")).splitlines():
        fields = line.split()
        if fields[3] == TCP_LISTEN:
            address, port = fields[1].split(":")
            found.append((kernel_address(address), int(port, 16), int(fields[9])))
    return found


def kernel_address(text):
    """Return the ip address that the kernel prints as hexadecimal words in its own byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return getattr(address, "ipv4_mapped", None) or address


def supervisord_pid(path):
    """Return the process ID that listens at supervisord's socket, 0 if none does."""
    # supervisord binds PATH.PID and then gives it the name PATH, so the kernel knows it by the former.
    name = re.compile(re.escape(os.path.realpath(path)) + r"(\.\d+)?")
    for found, inode in unix_listeners():
        if name.fullmatch(found):
            return min(socket_holders().get(inode, [0]))
    return 0


def orphans(address, programs):
    """Return [{pid, program, process}] of those programs' processes that outlived their supervisor, the one of this socket.

    Whatever an older supervisor than the one that listens there has started is an orphan. A process that its program has sent into the background is none.
    """
    supervisor = supervisord_pid(address)
    since, family = started(supervisor), descendants(supervisor)
    found = []
    for pid in pids():
        told = supervision(pid)
        ours = told.get("GROUP_NAME") in programs and same_socket(told.get("SERVER_URL", ""), address) and in_this_container(pid)
        # The times are those of ticks, of 10 ms: within one, a supervisor may have died and another one have started, or one its first programs.
        if ours and (not supervisor or (started(pid) <= since and pid not in family)):
            found.append({"pid": pid, "program": told["GROUP_NAME"], "process": told["PROCESS_NAME"]})
    return found


def same_socket(url, path):
    return url.startswith("unix://") and os.path.realpath(url[len("unix://") :]) == os.path.realpath(path)


def end(found, patience):
    """Have these orphans end, first politely; return those that are still there after that."""
    born = {orphan["pid"]: started(orphan["pid"]) for orphan in found}
    left = found
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, KILLED_WITHIN)):
        for orphan in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan["pid"], number)
        deadline = time.monotonic() + seconds
        while (left := [orphan for orphan in left if lives(orphan["pid"], born[orphan["pid"]])]) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
    return left


# Problems.


def listen_problem(address, own, foreign=()):
    """Return what keeps a supervisor whose processes are ``own`` from listening at an address, '' if nothing; of its groups, ``foreign`` are in the way too.

    Of several sockets at one path only the last one made is reached: if the supervisor has one there, older ones are in nobody's way.
    """
    kind, place = split_address(address)
    if kind == "unix":
        if len(os.fsencode(place)) > UNIX_PATH_LIMIT:
            return f"is a path of {len(os.fsencode(place))} bytes, where a unix socket's can have {UNIX_PATH_LIMIT}: choose a shorter one"
        if os.path.exists(place) and not stat.S_ISSOCK(os.stat(place).st_mode):
            return "exists and is no socket: move it out of the way, or choose another path"
        real = os.path.realpath(place)
        inodes = [inode for path, inode in unix_listeners() if path == real] if os.path.exists(place) else []
    else:
        try:
            wanted = resolve(*place)
        except socket.gaierror as error:
            return f"cannot be resolved to an address ({error.strerror}): correct the host"
        inodes = [inode for ip, port, inode in tcp_listeners() if port == place[1] and any(covers(ip, one) or covers(one, ip) for one in wanted)]
    held = [socket_holders().get(inode, []) for inode in inodes]
    if kind == "unix" and any(own.intersection(holders) for holders in held):
        held = [holders for holders in held if own.intersection(holders)]
    for holders in held:
        strangers = [pid for pid in holders if not own.intersection(holders) or supervised_group(pid) in foreign]
        if strangers or not holders:
            stranger = f"{process_name(strangers[0])} (pid {strangers[0]})" if strangers else "a process that is not visible here"
            return f"is in use by {stranger}: stop it, or choose another address"
    return ""


def split_address(address):
    """Return ("unix", path) or ("tcp", (host, port)).

    :raises ValueError: if it is neither.
    """
    if address.startswith("unix:"):
        path = address[len("unix:") :]
        return "unix", path[2:] if path.startswith("//") else path
    host, _colon, port = (address[len("tcp://") :] if address.startswith("tcp://") else address).rpartition(":")
    if not port.isdigit():
        raise ValueError(f"{address!r} is neither unix:///PATH nor tcp://HOST:PORT")
    return "tcp", (host.strip("[]"), int(port))


def resolve(host, port):
    """Return the set of ip addresses that a listener at host would bind."""
    if host in ("", "*"):
        return {ipaddress.ip_address("0.0.0.0")}
    return {ipaddress.ip_address(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}


def covers(wide, narrow):
    """Whether a socket at ``wide`` takes what comes to ``narrow``; IPv6's wildcard takes what comes by IPv4 too."""
    return wide == narrow or (wide.is_unspecified and wide.version >= narrow.version)


def command_problem(command, user):
    """Return what keeps ``user`` from executing ``command``, '' if nothing."""
    path = command if "/" in command else find(command)
    if not path:
        return f"is not in the PATH of services ({SYSTEM_PATH}): install it, or give its absolute path"
    if not os.path.exists(path):
        return "does not exist: install it, or correct the path"
    if not os.path.isfile(path):
        return "is not a file"
    with acting_as(user):
        obstacle = next((place for place in places_to(path) if not os.access(place, os.X_OK, effective_ids=True)), "")
    if obstacle:
        status = os.stat(obstacle)
        owner = f"mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}, gid {status.st_gid}"
        return f"is not executable for {user}" + (f" ({owner})" if obstacle == path else f", who cannot enter {obstacle} ({owner})")
    return script_problem(path)


def places_to(path):
    """Return the directories on the way to a file, from the root on, and the file."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(len(parts) + 1)]


@contextlib.contextmanager
def acting_as(user):
    """Let the kernel judge by that user's rights, if it exists and this process may: mode bits do not tell all where there are access control lists."""
    account = lookup(pwd.getpwnam, user)
    if not account or os.geteuid() != 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups(os.getgrouplist(user, account.pw_gid))
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


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
        name: {"uid": account.pw_uid, "gid": account.pw_gid, "home": account.pw_dir, "shell": account.pw_shell} for name, account in accounts.items() if account
    }


# Services.


def starts_at_boot(service):
    """Return whether a service starts at boot: enabled in systemd, or with a start link in a run level (update-rc.d(8))."""
    if os.path.isdir("/run/systemd/system"):
        done = subprocess.run(["systemctl", "is-enabled", "--quiet", service], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0
    return bool(glob.glob(f"/etc/rc[2-5].d/S[0-9][0-9]{glob.escape(service)}"))


def services_masked(directory, services):
    """Return {"own": those that the role fcgi_php_fpm noted in that directory before it masked them, "found": those of the services that are masked now}.

    :raises ValueError: if the note cannot be read.
    """
    found = [service for service in services if os.path.realpath(f"/etc/systemd/system/{service.removesuffix('.service')}.service") == os.devnull]
    return {"own": noted(os.path.join(directory, MASKED_SERVICES), [], "unmask"), "found": found}


# Sets.


def php_services_in_use(pool_dirs, conf):
    """Return {name: why} of those php-fpm services of the distribution that serve others: by pools of their own, or asked by nginx or another web server.

    pool_dirs: {name: directory of its pools}. conf: nginx's configuration as it is on disk.
    """
    asked = {followed(address) for address in nginx_conf.asked(nginx_conf.read(conf))} if pool_dirs else set()
    reasons = {}
    for name, pool_dir in pool_dirs.items():
        files = sorted(file for file in names_in(pool_dir) if file.endswith(".conf"))
        own = [file for file in files if file != "www.conf"]
        listens = [found for file in files for found in re.findall(r"(?m)^\s*listen\s*=\s*['\"]?([^\s'\";]+)", read(os.path.join(pool_dir, file)))]
        wanted = [address for address in listens if followed(address) in asked]
        if own:
            reasons[name] = f"it has pools of the site's own: {', '.join(own)}"
        elif wanted:
            reasons[name] = f"nginx asks it at {', '.join(wanted)}"
        elif others := [reason for address in listens for reason in asked_by_others(address)]:
            reasons[name] = others[0]
    return reasons


def asked_by_others(address):
    """Return why an address is in use, one reason for each file in which another web server that runs on this host names it."""
    running = {process_name(pid) for pid in pids()}
    return [
        f"{server} asks it at {address}, as {path} has it"
        for server, directory in WEB_SERVERS.items()
        if server in running
        for path in enabled_files(directory)
        if names_address(read(path), address)
    ]


def enabled_files(directory):
    """Return the files below a directory, but those of Debian's *-available, which count where *-enabled has a link to them."""
    found = []
    for folder, folders, files in os.walk(directory):
        folders[:] = [one for one in folders if not one.endswith("-available")]
        found += [os.path.join(folder, file) for file in files]
    return sorted(found)


def names_address(text, address):
    """Whether a configuration names an address: "proxy:unix:/run/x.sock|fcgi://localhost" (Apache), "unix//run/x.sock" (Caddy), "127.0.0.1:9000"."""
    if not address.startswith("/"):
        return re.search(rf"(?<!\d){re.escape(address)}(?!\d)", text) is not None
    return followed(address) in {followed("/" + path.lstrip("/")) for path in re.findall(r"/[^\s|\"'<>;,]+", text)}


def followed(address):
    """Return a path without links: Debian has one, php-fpm.sock, to the socket of one of the versions. Anything else as it is."""
    return os.path.realpath(address) if address.startswith("/") else address


def names_in(directory):
    """Return what is in a directory, nothing where there is none."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def packages_missing(names):
    """Return those of these packages that are not installed, as dpkg or rpm knows them; all where there is neither.

    In rpm's world a name is often what another package provides: php-curl is in php-common.
    """
    if not names:
        return []
    dpkg, rpm = find("dpkg-query"), find("rpm")
    if dpkg:
        lines = output([dpkg, "--show", "--showformat", "${Package} ${db:Status-Status}\\n", *names]).splitlines()
        installed = {line.partition(" ")[0] for line in lines if line.endswith(" installed")}
    else:
        installed = {name for name in names if rpm and subprocess.run([rpm, "--quiet", "--query", "--whatprovides", name], check=False).returncode == 0}
    return [name for name in names if name not in installed]


def selinux_info(params, pid):
    """Return what is asked of SELinux's policy, where that is enabled; ``pid`` is the supervisor's."""
    wanted = params["selinux"]
    if not wanted or not (selinux.enabled() or wanted["ignore_selinux_state"]):
        nothing: dict[str, list] = {"contexts": [], "ports": [], "booleans": []}
        return {"selinux_missing": nothing, "selinux_mislabelled": [], "selinux_targets": [], "selinux_lets_nginx_connect": None}
    nginx = nginx_pid("/run/nginx.pid")
    return {
        "selinux_missing": selinux.missing(wanted),
        "selinux_mislabelled": selinux.mislabelled(wanted["contexts"]),
        "selinux_targets": [selinux.target(pattern) for pattern in wanted["contexts"]],
        "selinux_lets_nginx_connect": selinux.may_connect(selinux.context_of(nginx, selinux.NGINX), selinux.context_of(pid, selinux.SERVICE)),
    }


def ports_opened(own):
    """Return {"firewalld": {"own", "others", "needed"}, "selinux": ...}: ports that a set noted it was going to open, and those that other sets need.

    The role fcgi_nginx notes them in OPENED_PORTS of a set's directory before it opens them, and strikes them when they are closed again. What a set needs
    its live generation tells. Ports of firewalld are {"port", "zone"}, those of SELinux numbers.

    :raises GenerationError: if a set's live generation cannot be read.
    :raises ValueError: if a note cannot be read.
    """
    found: dict[str, dict[str, list]] = {kind: {"own": [], "others": [], "needed": []} for kind in ("firewalld", "selinux")}
    for path in sorted({own, *glob.glob(os.path.join(glob.escape(os.path.dirname(own)), "*"))}):
        store = GenerationStore(os.path.join(path, "fcgi_nginx"))
        needed = (store.live_manifest() or {}).get("metadata", {}).get("ports", {}) if path != own and store.exists() else {}
        noted = noted_ports(os.path.join(path, OPENED_PORTS))
        for kind, sides in found.items():
            sides["own" if path == own else "others"] += noted.get(kind, [])
            sides["needed"] += needed.get(kind, [])
    return found


def firewalld_default_zone():
    """Return the name of the zone that ports belong to if none is named; firewalld.conf(5)."""
    found = re.search(r"(?m)^\s*DefaultZone\s*=\s*(\S+)", read("/etc/firewalld/firewalld.conf"))
    return found[1] if found else "public"


def firewalld_zones():
    """Return the names of the zones that there are, none where firewalld is not installed; firewalld.zones(5), DIRECTORIES."""
    files = [file for directory in ("/etc/firewalld/zones", "/usr/lib/firewalld/zones") for file in names_in(directory)]
    return sorted({os.path.splitext(file)[0] for file in files if file.endswith(".xml")})


def noted_ports(path):
    return noted(path, {}, "close")


def noted(path, default, undo):
    """Return what a note of the roles holds, the default where there is none.

    :param undo: what is to be done by hand with what it was to remember. :raises ValueError: if it cannot be read.
    """
    text = read(path)
    try:
        return json.loads(text) if text else default
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): remove it, and {undo} by hand what it was to remember: {text!r}") from None


def other_sets(own):
    """Return {name: [{"app", "user"}]} of the sets that lie beside the one at the path ``own``, by what their live generations declare.

    :raises GenerationError: if that cannot be read.
    """
    parent = os.path.dirname(own)
    stores = {path: [GenerationStore(os.path.join(path, role)) for role in ROLES] for path in glob.glob(os.path.join(glob.escape(parent), "*")) if path != own}
    return {os.path.basename(path): apps_of(roles[0]) for path, roles in sorted(stores.items()) if any(store.exists() for store in roles)}


def apps_of(store):
    programs = (store.live_manifest() or {}).get("metadata", {}).get("programs", [])
    return [{"app": program["app"], "user": program["user"]} for program in programs]


def root_problem(users):
    """Return the sentence about users that are root by another name, '' if none is."""
    names = ", ".join(name for name, account in users.items() if account["uid"] == 0)
    return f"fcgi_apps: user {names} has uid 0 on this host; FastCGI programs never run as root. Give the app another user." if names else ""


def problems(params, users, own):
    """Return the sentences about users, names, commands and addresses; ``own`` are the pids of the supervisor and its programs."""
    foreign = foreign_sections(params["supervisord_conf"], params["own"])
    found = [
        f"fcgi_apps[{section.name}]: {section.file} has a section [{section.title}] already: choose another name, or remove that one"
        for section in foreign
        if section.name in params["programs"]
    ]
    for item in params["commands"]:
        problem = "" if item["pending"] else command_problem(item["command"], item["user"])
        if problem:
            found.append(f"fcgi_apps[{item['app']}]: command {item['command']} {problem}")
    for item in params["listens"]:
        problem = listen_problem(item["address"], own | process_group(item["pid_file"]), {section.name for section in foreign})
        if problem:
            found.append(f"fcgi_apps[{item['app']}]: {item['address']} {problem}")
    problem = root_problem(users)
    return [*found, problem] if problem else found


def former_supervisors(store, address, usual):
    """Return [{url, pid, running, programs, orphans}] of other supervisors than the one at ``address`` that still have programs of a set.

    They are those that its live generation, and all since the last one that was proved to be in use, were made for. ``usual``: {directory: url}, which
    tells by the directory of a generation's link for which one it was made, if the generation (of release 1.0.0) does not tell itself.

    :raises GenerationError: if a generation cannot be read.
    """
    live = store.live_manifest()
    declared: dict[str, set[str]] = {}
    for manifest in [live, *store.manifests_since_applied()] if live else []:
        metadata = manifest.get("metadata") or {}
        by_links = next((usual[os.path.dirname(link["path"])] for link in manifest.get("links", []) if os.path.dirname(link["path"]) in usual), "")
        url = metadata.get("supervisor", {}).get("url", by_links)
        if url and os.path.realpath(rpc_socket(url)) != os.path.realpath(address):
            declared.setdefault(url, set()).update(program["name"] for program in metadata.get("programs", []))
    return [former for url, programs in sorted(declared.items()) for former in [former_supervisor(url, programs)] if former["pid"] or former["orphans"]]


def former_supervisor(url, programs):
    path = rpc_socket(url)
    pid = supervisord_pid(path)
    return {"url": url, "pid": pid, "command": command_line(pid), "running": answers(path), "programs": sorted(programs), "orphans": orphans(path, programs)}


def rpc_socket(url):
    """Return the path of a supervisor's unix socket.

    :raises ValueError: for any other url.
    """
    kind, path = split_address(url)
    if kind != "unix":
        raise ValueError(f"url {url!r} is not unix:///PATH: give supervisord a unix socket")
    return path


def host_info(params):
    address = rpc_socket(params["url"])
    pid = supervisord_pid(address)
    own_sections = {section.name for section in sections(params["own"])}
    left = orphans(address, own_sections.union(params["programs"]))
    former = former_supervisors(GenerationStore(os.path.join(params["set_path"], ROLES[0])), address, params["include_dirs"])
    # What this play is going to end holds no address and no name against it.
    ending = {pid for one in former for pid in [*descendants(one["pid"]), *(orphan["pid"] for orphan in one["orphans"])]}
    users = users_found(params["users"])
    return {
        "nginx": nginx_info(params),
        "supervisord": supervisord_info(params["supervisord_conf"], pid, answers(address)),
        "service_manager": "systemd" if os.path.isdir("/run/systemd/system") else "sysvinit",
        "services_enabled": {service: starts_at_boot(service) for service in params["services"]},
        "services_masked": services_masked(os.path.dirname(params["set_path"]), params["services"]),
        "selinux": "enabled" if selinux.enabled() else "disabled",
        **selinux_info(params, pid),
        "ports_opened": ports_opened(params["set_path"]),
        "firewalld": {"running": any(process_name(pid) == "firewalld" for pid in pids()), "default_zone": firewalld_default_zone(), "zones": firewalld_zones()},
        "users": users,
        "users_missing": [name for name in params["users"] if name not in users],
        "groups_missing": [name for name in params["groups"] if not group_exists(name)],
        "directories_missing": [path for path in params["directories"] if not os.path.isdir(path)],
        "digests": {path: digest(path) for path in params["digests"]},
        "php_services_in_use": php_services_in_use(params["php_pool_dirs"], params["nginx_conf"]),
        "packages_missing": packages_missing(params["packages"]),
        "python_venv": importlib.util.find_spec("ensurepip") is not None,
        "paths_executable": {path: os.path.isfile(path) and os.access(path, os.X_OK) for path in params["paths_executable"]},
        "orphans": left,
        "former_supervisors": former,
        "other_sets": other_sets(params["set_path"]),
        "problems": problems(params, users, descendants(pid).union(ending, (orphan["pid"] for orphan in left))),
    }
