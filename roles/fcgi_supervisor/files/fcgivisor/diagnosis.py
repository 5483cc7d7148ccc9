# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a supervisor cannot be reached, and what to do about it: errors as sentences for whoever sits at the terminal."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat

from fcgivisor.client import Address, AuthenticationNeeded, ClientError, Exit, NotReached

# Services that run a supervisor, ours first: of the collection, of Debian, of EPEL.
SERVICES = ("fcgivisord", "fcgi-supervisord", "supervisor", "supervisord")
_UNIT_DIRECTORIES = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


def explain(error: ClientError, address: Address, configuration: str | None) -> ClientError:
    """The same error with its cause and the way out. configuration: the file that was read, if any."""
    if isinstance(error, AuthenticationNeeded):
        place = f"username= and password= in [supervisorctl] of {configuration}" if configuration else "username= and password= in [supervisorctl]"
        return ClientError(f"Server requires authentication: give -u USER and -p PASSWORD, or {place}", error.status)
    if not isinstance(error, NotReached):
        return error
    number = error.error.errno
    if number in (errno.EACCES, errno.EPERM) and address.path:
        return ClientError(f"{address.url}: permission denied: {who_may(address.path, stat.S_IWOTH)}", Exit.NO_PRIVILEGES)
    start = f"{start_command(configuration)}; or name another place with -s URL or -c FILE"
    if number == errno.ENOENT:
        return ClientError(f"{address.url} no such file: the supervisor is not running, or listens elsewhere. To start it: {start}", Exit.NOT_RUNNING)
    if number == errno.ECONNREFUSED:
        return ClientError(f"{address.url} refused connection: nobody listens there any more. To start the supervisor: {start}", Exit.NO_PRIVILEGES)
    return ClientError(f"{address.url}: {error}. Is the supervisor there? To start it on this host: {start}", Exit.GENERIC)


def start_command(configuration: str | None, root: str = "/") -> str:
    """The command that starts the supervisor of this host: of the service that names the configuration, or of the first that there is."""
    found = [(name, path) for name in SERVICES for path in _definitions(name, root)]
    naming = [entry for entry in found if configuration and _mentions(entry[1], configuration)]
    if not found:
        return f"fcgivisord -c {configuration or 'FILE'}"
    name = (naming or found)[0][0]
    return f"systemctl start {name}" if os.path.isdir(os.path.join(root, "run/systemd/system")) else f"service {name} start"


def _definitions(name: str, root: str) -> list[str]:
    paths = [os.path.join(root, directory, f"{name}.service") for directory in _UNIT_DIRECTORIES]
    return [path for path in (*paths, os.path.join(root, "etc/init.d", name)) if os.path.exists(path)]


def _mentions(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return text in file.read()
    except OSError:
        return False


def unreadable(path: str) -> ClientError:
    """Of a configuration that we may not read."""
    return ClientError(f"{path}: permission denied: {who_may(path, stat.S_IROTH)}", Exit.NO_PRIVILEGES)


def who_may(path: str, needed: int) -> str:
    """Who may use a file that we may not use, by the first thing on its way that keeps us out. needed: the bit of its mode for all others."""
    blocking = path
    parts = os.path.dirname(path).split("/")
    for count in range(1, len(parts) + 1):
        directory = "/".join(parts[:count]) or "/"
        if not os.access(directory, os.X_OK):
            blocking, needed = directory, stat.S_IXOTH
            break
    try:
        status = os.stat(blocking)
    except OSError as error:
        return f"{blocking} cannot be looked at ({error.strerror})"
    user, group = _user(status.st_uid), _group(status.st_gid)
    allowed = ["root"] if status.st_uid == 0 or not status.st_mode & needed << 6 else ["root", f"the user {user}"]
    if status.st_mode & needed << 3:
        allowed.append(f"the members of the group {group}")
    return (
        f"{blocking} belongs to {user}:{group} and has mode {stat.S_IMODE(status.st_mode):04o}, so {' and '.join(allowed)} may; "
        f"you are {_user(os.geteuid())}. Run this with sudo" + (", or set chmod= and chown= of [unix_http_server]" if needed == stat.S_IWOTH else "")
    )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
