# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apps of kind php_fpm for real: the files of the roles, and a supervisor that runs what they say as the users that they name."""

from __future__ import annotations

import configparser
import contextlib
import json
import pathlib
import pwd
import shlex
import shutil
import subprocess
import tempfile

import rendering
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi
from supervisord import FCGIVISORD, Supervisord

USER = "www-data"  # an account that every host has


@contextlib.contextmanager
def directory_for_all():
    """A directory that every user can reach (pytest's own is the tester's alone), with a short path for sockets."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="fcgi-php-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def places(directory):
    """Where things lie: names of the model's options, and their directories."""
    return {f"{name}_dir": str(directory / name) for name in ("run", "log", "srv")}


def complete(directory, apps):
    """The apps with what all of them need here."""
    return [{"kind": "php_fpm", "user": USER, "root": str(directory / "www"), **app} for app in apps]


def install(directory, apps, provider="fcgivisord", server="", **variables):
    """Write the roles' files for these apps, and make the directories that a deployment would."""
    for name in ("run", "log"):
        (directory / name).mkdir()
    shared = {f"fcgi_{name}": path for name, path in places(directory).items()}
    shared.update({"fcgi_set": "web", "fcgi_apps": complete(directory, apps), "fcgi_supervisor_provider": provider, **variables})
    files = rendering.install([shared], directory, server)
    (tmpfiles,) = (file.text for file in files if file.path == "tmpfiles.conf")
    for kind, path, mode, owner, group, _age in (line.split() for line in tmpfiles.splitlines() if line.startswith("d ")):
        assert kind == "d"
        pathlib.Path(path).mkdir(exist_ok=True)
        shutil.chown(path, owner, group)
        pathlib.Path(path).chmod(int(mode, 8))  # after the owner: that takes the setgid bit away
    return files


@contextlib.contextmanager
def running(directory, executable=FCGIVISORD):
    """The supervisor, with the programs of the installed files."""
    (directory / "supervisor").mkdir()
    host = Supervisord(directory / "supervisor", executable=executable)
    (host.directory / "conf.d" / "programs.conf").symlink_to(directory / "fcgi/web/fcgi_app/current/supervisord.conf")
    try:
        yield host.start()
    finally:
        host.stop()


def request_params():
    """What every request brings."""
    return {**fastcgi.cgi_params("GET", "/", "", "", 0), "SCRIPT_FILENAME": ""}


def ask(socket, script, timeout=20, **params):
    """What a script answers, asked without nginx; JSON if it is that. A socket that a supervisor holds waits for php-fpm."""
    given = {**request_params(), "SCRIPT_NAME": f"/{script.name}", "SCRIPT_FILENAME": str(script), **params}
    body = fastcgi.request(f"unix:{socket}", given, b"", timeout).body.decode()
    with contextlib.suppress(ValueError):
        return json.loads(body)
    return body


def command(directory, name):
    """The words that a supervisor runs for an app."""
    sections = configparser.ConfigParser(interpolation=None, strict=True)
    sections.read(directory / "fcgi/web/fcgi_app/current/supervisord.conf")
    (section,) = (found for found in sections.sections() if found.endswith(f":{name}"))
    return shlex.split(sections[section]["command"].replace("%%", "%"))


def start(words, user=USER, **options):
    """Run them as a user, as the leader of a process group, like a supervisor."""
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[], start_new_session=True, **options)
