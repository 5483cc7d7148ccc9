# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of apps on a host: placed beside each other, one of them current.

Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.

::

    PATH/releases/1.4.2/                      the code, root's; .venv/ where requirements were asked for
    PATH/releases/1.4.2/.fcgi-release.json    written last: without it the placement was interrupted
    PATH/current -> releases/1.4.2            moved by rename(2)
    PATH/.lock                                flock(2) while a run works on PATH

``plan`` reads and decides. ``place`` and ``make_current`` wait for their turn, plan once more, and act on that.
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import errno
import fcntl
import functools
import grp
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass

MARKER = ".fcgi-release.json"
VENV = ".venv"

ARGUMENT_SPEC = {
    "releases": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "app": {"type": "str", "required": True},
            "src": {"type": "path"},
            "version": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "python_requirements": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 5},
            "user": {"type": "str", "required": True},
            "group": {"type": "str", "required": True},
            "executable": {"type": "str", "default": ""},
        },
    },
    "state": {"type": "str", "choices": ["placed", "current"], "default": "placed"},
    # From the action plugin.
    "digests": {"type": "list", "elements": "str"},
    "archive": {"type": "path"},
}

# Where the system's own Python is. Not the PATH: an activated venv of whoever runs the play is no base for an app's.
PYTHON_PATH = "/usr/bin:/usr/local/bin:/bin"

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
_PIP_LINES = 12
# The module of a run whose controller was killed may go on, and install what takes its time.
_LOCK_TIMEOUT = 600
_LOCK_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1  # prctl(2)


class ReleaseError(Exception):
    """A sentence for the operator: which app, which value, and the way out."""


@dataclass(frozen=True)
class Release:
    """One version of one app's code; ``digest`` is '' where only the version counts."""

    app: str
    version: str
    path: str
    python_requirements: str
    keep: int
    user: str
    group: str
    executable: str
    digest: str = ""

    @property
    def all_releases(self):
        return os.path.join(self.path, "releases")

    @property
    def directory(self):
        return os.path.join(self.all_releases, self.version)

    @property
    def link(self):
        return os.path.join(self.path, "current")

    def error(self, text):
        return ReleaseError(f"fcgi_apps[{self.app}].release: {text}")


@dataclass(frozen=True)
class Step:
    """What is to be done for a release: ``changed`` says whether anything; ``previous`` is the version now current, or ''."""

    release: Release
    previous: str
    changed: bool

    def result(self):
        release = self.release
        return {"app": release.app, "version": release.version, "previous": self.previous, "changed": self.changed, "path": release.directory}


def releases_from(options, digests=None):
    """Return the list of Release for the module's option ``releases``.

    :raises ReleaseError: for a version that cannot name a directory, and for two releases under one path.
    """
    releases = []
    owners: dict[str, str] = {}  # of paths
    for number, option in enumerate(options):
        fields = {name: value for name, value in option.items() if name != "src"}
        release = Release(digest=digests[number] if digests else "", **fields)
        if not _VERSION.fullmatch(release.version):
            raise release.error(f"version {release.version!r} cannot name a directory: use letters, digits and . _ + ~ -, a letter or digit first")
        if release.keep < 1:
            raise release.error(f"keep: {release.keep} is not a whole number from 1")
        if not os.path.isabs(release.path):
            raise release.error(f"path {release.path} is not absolute")
        if release.path in owners:
            raise release.error(f"path {release.path} is that of fcgi_apps[{owners[release.path]}] too: give each release its own")
        owners[release.path] = release.app
        releases.append(release)
    return releases


@contextlib.contextmanager
def _named(release):
    """Say of an operating system's error whose release it met."""
    try:
        yield
    except OSError as error:
        raise release.error(error) from error


# Planning: reads only.


def plan(releases, state, lenient=False):
    """Return a Step per release.

    :param state: ``placed`` or ``current``.
    :param lenient: do not refuse to make current what is not placed yet (check mode, where this play would place it).
    :raises ReleaseError: with a line for each release that cannot become what is asked.
    """
    decide = _plan_placed if state == "placed" else functools.partial(_plan_current, lenient=lenient)
    steps, errors = [], []
    for release in releases:
        try:
            with _named(release):
                steps.append(decide(release))
        except ReleaseError as error:
            errors.append(str(error))
    if errors:
        raise ReleaseError("\n".join(errors))
    return steps


def _plan_placed(release):
    _check_owners(release)
    previous = current_version(release)
    placed = _is_placed(release)
    if not placed and os.path.lexists(release.directory) and previous == release.version:
        raise release.error(f"{release.directory} is current, and not placed by this module: it stays as it is; give the new content a new version")
    if placed:
        _check_executable(release)
    return Step(release, previous, changed=not placed)


def _plan_current(release, lenient):
    previous = current_version(release)
    if _is_placed(release):
        _check_executable(release)
    elif not lenient:
        raise release.error(f"version {release.version} is not placed under {release.all_releases}: place it first (state: placed)")
    return Step(release, previous, changed=previous != release.version)


def current_version(release):
    """Return the version that ``current`` points to, or ''.

    :raises ReleaseError: if ``current`` is something that this module did not make.
    """
    try:
        target = os.readlink(release.link)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise release.error(f"{release.link} is not a symbolic link: move it out of the way") from error
    parent, version = os.path.split(target)
    if parent != "releases" or not _VERSION.fullmatch(version):
        raise release.error(f"{release.link} points to {target}, not to releases/<version>: move it out of the way")
    return version


def _is_placed(release):
    """Whether the release stands there complete; an error where it stands there with other content."""
    marker = _read_marker(release.directory)
    if marker is None:
        if os.path.lexists(release.directory) and not _is_real_directory(release.directory):
            raise release.error(f"{release.directory} is not a directory: move it out of the way")
        return False
    if release.digest and marker["digest"] != release.digest:
        raise release.error(f"version {release.version} is already placed with other content; give the new content a new version")
    if marker["python_requirements"] != release.python_requirements:
        raise release.error(
            f"version {release.version} is already placed with python_requirements {marker['python_requirements']!r},"
            f" not {release.python_requirements!r}; give the change a new version"
        )
    return True


def _is_real_directory(path):
    return os.path.isdir(path) and not os.path.islink(path)


def _read_marker(directory):
    """The marker's content, or None where there is none or half of one."""
    try:
        with open(os.path.join(directory, MARKER), encoding="utf-8") as stream:
            marker = json.load(stream)
        return {name: marker[name] for name in ("version", "digest", "python_requirements")}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _check_owners(release):
    """Refuse directories in which the app's user could exchange the code that root places."""
    try:
        account = pwd.getpwnam(release.user)
    except KeyError:
        return  # check mode, before the user is created; place() insists on it
    groups = os.getgrouplist(release.user, account.pw_gid)
    for path in (release.path, release.all_releases):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            raise release.error(f"{path} is not a directory: move it out of the way")
        by_group = status.st_mode & stat.S_IWGRP and status.st_gid in groups
        if os.geteuid() != account.pw_uid and (status.st_uid == account.pw_uid or by_group or status.st_mode & stat.S_IWOTH):
            raise release.error(f"{release.user} can write in {path} and so exchange the code: make it root's (chown root:root, chmod 0755)")


def _check_executable(release):
    """:raises ReleaseError: if the release has no such executable; names the nearest that it has."""
    if not release.executable:
        return
    path = os.path.join(release.directory, release.executable)
    if os.path.isfile(path) and os.access(path, os.X_OK):
        return
    if os.path.isfile(path):
        raise release.error(f"{release.executable} is in {release.directory}, but not executable: set its mode to 0755 where the release is made")
    nearest = difflib.get_close_matches(release.executable, _executables(release.directory), n=3, cutoff=0.0)
    has = f"its nearest executables are {', '.join(nearest)}" if nearest else "it has no executable at all"
    raise release.error(f"{release.executable} is not in {release.directory}; {has}")


def _executables(directory):
    for parent, _directories, files in os.walk(directory):
        for name in files:
            path = os.path.join(parent, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                yield os.path.relpath(path, directory)


# Placing.


def place(releases, archive):
    """Place those of the releases that are missing, from ``archive``, which has the content of ``releases[N]`` under the name ``N/``; return the steps taken.

    :raises ReleaseError: what did not become complete is removed again.
    """
    os.umask(0o022)
    with _turn([step for step in plan(releases, "placed") if step.changed]):
        steps = plan(releases, "placed")  # what another run has placed while this one waited is not missing any more
        _place_missing({number: step.release for number, step in enumerate(steps) if step.changed}, archive)
    return steps


def _place_missing(missing, archive):
    with_venv = [release for release in missing.values() if release.python_requirements]
    if with_venv:
        _check_python(with_venv[0])
    accounts = {number: _account(release) for number, release in missing.items()}
    try:
        for release in missing.values():
            with _named(release):
                _clear(release)
        _unpack(archive, missing)
        for number, release in missing.items():
            with _named(release):
                _complete(release, *accounts[number])
    finally:
        for release in missing.values():
            if _read_marker(release.directory) is None:
                shutil.rmtree(release.directory, ignore_errors=True)


@contextlib.contextmanager
def _turn(steps):
    """Make the apps' directories and hold a lock in each, so that two runs do not work in one. Nobody but root can hold it.

    Always in the same order: two runs that have several apps in common never wait for each other.
    """
    deadline = time.monotonic() + _LOCK_TIMEOUT
    with contextlib.ExitStack() as stack:
        for release in sorted((step.release for step in steps), key=lambda release: release.path):
            with _named(release):
                os.makedirs(release.all_releases, exist_ok=True)
                descriptor = os.open(os.path.join(release.path, ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            stack.callback(os.close, descriptor)
            _wait_for(release, descriptor, deadline)
        yield


def _wait_for(release, descriptor, deadline):
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise release.error(f"another run has worked in {release.path} for {_LOCK_TIMEOUT} s: let it end, then try again") from error
            time.sleep(_LOCK_POLL_SECONDS)


def _account(release):
    """(struct_passwd of the app's user, gid of its group)"""
    try:
        return pwd.getpwnam(release.user), grp.getgrnam(release.group).gr_gid
    except KeyError as error:
        raise release.error(f"user {release.user} or group {release.group} does not exist on this host: create it first") from error


def _clear(release):
    """Make the release's directory, empty; what an interrupted run left there goes."""
    if os.path.lexists(release.directory):
        shutil.rmtree(release.directory)
    os.mkdir(release.directory)


def _unpack(archive, releases):
    # The action plugin has written this archive: directories, files and links inside the tree, nothing else.
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            number, _slash, path = member.name.partition("/")
            release = releases.get(int(number))
            if release is None:  # placed by another run meanwhile
                continue
            with _named(release):
                _unpack_member(tar, member, os.path.join(release.directory, path))


def _unpack_member(tar, member, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if member.issym():
        os.symlink(member.linkname, target)
        return
    if member.isdir():
        os.makedirs(target, exist_ok=True)
    else:
        with open(target, "xb") as stream:
            shutil.copyfileobj(tar.extractfile(member), stream)
    os.chmod(target, member.mode & 0o777)


def _complete(release, account, gid):
    """Everything that comes after the files; the marker last."""
    if release.python_requirements:
        _give(release.directory, account.pw_uid, gid)
        _make_venv(release, account, gid)
    _give(release.directory, os.geteuid(), gid)
    os.chmod(release.directory, 0o755)
    _check_executable(release)
    with open(os.path.join(release.directory, MARKER), "w", encoding="utf-8") as stream:
        json.dump({"version": release.version, "digest": release.digest, "python_requirements": release.python_requirements}, stream)


def _give(directory, uid, gid):
    """Give a tree to an owner, and let only that owner write.

    A directory changes hands before its entries are looked at: from then on its former owner, whose programs may still run, can exchange none of them.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _give_open(descriptor, uid, gid)
    finally:
        os.close(descriptor)


def _give_open(directory, uid, gid):
    os.fchown(directory, uid, gid)
    os.fchmod(directory, _tidy(os.fstat(directory).st_mode) | stat.S_IRWXU)
    for name in os.listdir(directory):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            try:
                _give_open(child, uid, gid)
            finally:
                os.close(child)
            continue
        if status.st_nlink > 1:
            # Whoever wrote here could have linked somebody else's file in, to get it given away.
            raise OSError(errno.EMLINK, "has hard links, which a release must not have", name)
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            os.chmod(name, _tidy(status.st_mode), dir_fd=directory)


def _tidy(mode):
    """The permissions of a placed file: only its owner writes, and the app's group may do whatever else the owner may."""
    return (mode & 0o755) | ((mode & 0o500) >> 3)


def _python():
    return shutil.which("python3", path=PYTHON_PATH)


def _check_python(release):
    """Find out before anything is placed whether this host can make a venv: Debian's python3 alone cannot."""
    python = _python()
    if python and subprocess.run([python, "-I", "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return
    raise release.error(
        f"python_requirements {release.python_requirements} needs Python's venv and pip on the host,"
        " which are not there: install python3-venv (Debian, Ubuntu) or python3-pip (RHEL and its kin)"
    )


def _make_venv(release, account, gid):
    """Make ``.venv`` as the app's user: what pip installs may run code of its own while it is being installed."""
    venv = os.path.join(release.directory, VENV)
    requirements = os.path.join(release.directory, release.python_requirements)
    # In the release, so that the next run clears away what an interrupted one left of it.
    with tempfile.TemporaryDirectory(dir=release.directory) as home:
        os.chown(home, account.pw_uid, gid)
        _run_as(release, account, gid, home, [_python(), "-I", "-m", "venv", venv])
        pip = [os.path.join(venv, "bin", "python"), "-I", "-m", "pip"]
        _run_as(release, account, gid, home, [*pip, "install", "--no-cache-dir", "--disable-pip-version-check", "--no-input", "-r", requirements])


def _run_as(release, account, gid, home, command):
    identity = {}
    if os.geteuid() != account.pw_uid:
        identity = {"user": account.pw_uid, "group": gid, "extra_groups": os.getgrouplist(release.user, gid)}
    done = subprocess.run(
        command,
        cwd=release.directory,
        env=dict(os.environ, HOME=home, TMPDIR=home),
        umask=0o022,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
        preexec_fn=_end_with_parent,
        **identity,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-_PIP_LINES:])
        raise release.error(f"python_requirements {release.python_requirements}: {' '.join(command[3:5])} failed as {release.user}:\n{last}")


def _end_with_parent():
    """A module that is killed takes along what it started, which would go on writing where the next run builds anew. (A change of user would undo it.)"""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# Switching.


def make_current(releases):
    """Point ``current`` of every app to its release where it is not that, then prune old releases; return the steps taken."""
    with _turn([step for step in plan(releases, "current") if step.changed]):
        steps = plan(releases, "current")
        changed = [step for step in steps if step.changed]
        for step in changed:
            _switch(step.release)
        for step in changed:
            _prune(step.release, step.previous)
    return steps


def _switch(release):
    new = os.path.join(release.path, ".current.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(os.path.join("releases", release.version), new)
    os.replace(new, release.link)


def _prune(release, previous):
    """Remove what this module placed beyond the ``keep`` youngest; never the current one and never the one before it."""
    placed = []
    for entry in os.scandir(release.all_releases):
        if entry.is_dir(follow_symlinks=False) and _read_marker(entry.path) is not None:
            placed.append((os.stat(os.path.join(entry.path, MARKER)).st_mtime_ns, entry.name))
    youngest = [name for _age, name in sorted(placed, reverse=True)]
    for name in youngest[release.keep :]:
        if name not in (release.version, previous):
            shutil.rmtree(os.path.join(release.all_releases, name))


def report(steps, state):
    """Return what the module returns for ``steps``: changed, msg, releases and diff (dict)."""
    changed = [step for step in steps if step.changed]
    names = ", ".join(f"{step.release.app} {step.release.version}" for step in changed)
    return {
        "changed": bool(changed),
        "msg": f"{state}: {names}" if changed else f"every release was {state} already",
        "releases": [step.result() for step in steps],
        "diff": {
            "before_header": "current releases",
            "after_header": f"releases to be {state}",
            "before": {step.release.app: step.previous for step in changed},
            "after": {step.release.app: step.release.version for step in changed},
        },
    }
