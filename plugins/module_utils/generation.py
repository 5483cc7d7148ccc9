# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations: complete sets of files that one role owns on one host, of which one is live.

This module util is PRIVATE to the collection. It can have breaking changes at any time.

    PATH/generations/000007/            complete set of files, and .manifest.json that describes it
    PATH/current -> generations/000007  the live one
    PATH/applied                        the generation last proved to be in use by the software that reads it
    PATH/restarting                     what fcgi_program has stopped and is going to start again (converge.Journal)
    PATH/.lock                          flock(2) while a module works on PATH
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import glob
import json
import os
import re
import shutil
import time
import typing as t

MANIFEST = ".manifest.json"

_NUMBERED = re.compile(r"^\d{6,}$")
_STAGING = ".staging-"
_REMOVED = ".removed"
_LOCK_POLL_SECONDS = 0.05


class GenerationError(Exception):
    """What an operator has to know and can act upon; the text names the path and the way out."""


# Called with a new link, and the place where it is going to live.
Label = t.Callable[[str, str], None]


def _no_label(made: str, final: str) -> None:
    """Where SELinux is not enabled."""


class GenerationStore:
    """The generations below one PATH: what is there, what is live, what is applied.

    Nothing below PATH needs to exist: then nothing is live, nothing applied and no generation there.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.generations_path = os.path.join(path, "generations")
        self.current_path = os.path.join(path, "current")
        self.applied_path = os.path.join(path, "applied")
        self.restarting_path = os.path.join(path, "restarting")
        self.lock_path = os.path.join(path, ".lock")

    def directory(self, generation: str) -> str:
        return os.path.join(self.generations_path, generation)

    def generations(self) -> list[str]:
        """Names of all complete generations, oldest first."""
        try:
            names = os.listdir(self.generations_path)
        except FileNotFoundError:
            return []
        return sorted((name for name in names if _NUMBERED.match(name)), key=int)

    def current(self) -> str | None:
        """Name of the live generation ("000007"), None if there is none.

        Raises GenerationError if something else lies in its place.
        """
        try:
            target = os.readlink(self.current_path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GenerationError(f"{self.current_path} is not a symbolic link made by config_set; move it away") from error
        parent, name = os.path.split(target)
        if parent != "generations" or not _NUMBERED.match(name):
            raise GenerationError(f"{self.current_path} points to {target}, not to a generation of {self.path}; move it away")
        return name

    def manifest(self, generation: str) -> dict[str, t.Any]:
        """What a generation declares: version, digest, files, directories, links, metadata."""
        path = os.path.join(self.directory(generation), MANIFEST)
        try:
            with open(path, encoding="utf-8") as stream:
                return json.load(stream)
        except (OSError, ValueError) as error:
            raise GenerationError(f"generation {generation} has no readable manifest ({path}: {error}); remove its directory") from error

    def live_manifest(self) -> dict[str, t.Any] | None:
        """The manifest of the live generation, None if there is none."""
        live = self.current()
        return None if live is None else self.manifest(live)

    def applied(self) -> str | None:
        """Name of the generation last proved to be in use, None if none ever was."""
        try:
            with open(self.applied_path, encoding="ascii") as stream:
                return stream.readline().strip() or None
        except FileNotFoundError:
            return None

    def mark_applied(self, generation: str) -> None:
        """Record, atomically, that a generation is proved to be in use."""
        replace_file(self.applied_path, f"{generation}\n".encode("ascii"), 0o644)

    def metadata_since_applied(self) -> list[dict[str, t.Any]]:
        """The metadata of manifests_since_applied()."""
        return [manifest.get("metadata") or {} for manifest in self.manifests_since_applied()]

    def manifests_since_applied(self) -> list[dict[str, t.Any]]:
        """The manifest of every generation that may still have effects on the host although it is not the live one.

        These are the applied one and all that were made since, since any of them may have been live in a run that did
        not get through (all generations, if none was ever applied). Empty if the live generation is the applied one.
        """
        live, applied = self.current(), self.applied()
        if live == applied:
            return []
        since = 0 if applied is None else min(int(applied), int(live or applied))
        return [self.manifest(name) for name in self.generations() if name != live and int(name) >= since]

    @contextlib.contextmanager
    def lock(self, timeout: float) -> t.Iterator[None]:
        """Hold PATH/.lock (PATH has to exist). Raises GenerationError when another process keeps it for timeout seconds."""
        deadline = time.monotonic() + timeout
        while True:
            descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                self._wait_for(descriptor, deadline, timeout)
                if self._is_lock_file(descriptor):  # else "state: absent" removed it while we waited
                    yield
                    return
            finally:
                os.close(descriptor)

    def _wait_for(self, descriptor: int, deadline: float, timeout: float) -> None:
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise GenerationError(f"another process has held {self.lock_path} for {timeout:g} s; wait for that run, or end it") from error
                time.sleep(_LOCK_POLL_SECONDS)

    def _is_lock_file(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.lock_path))
        except FileNotFoundError:
            return False

    # What follows changes something, and is for config_set alone, which holds the lock.

    def check_place(self) -> None:
        """Raise GenerationError if PATH is anything but a directory (or nothing yet)."""
        for path in (self.path, self.generations_path):
            if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
                raise GenerationError(f"{path} is not a directory of its own (a symbolic link, or a file); move it away")

    def exists(self) -> bool:
        """Whether anything of ours lies below PATH."""
        return any(os.path.lexists(path) for path in (self.current_path, self.generations_path, self.applied_path, self.lock_path))

    def prepare(self) -> None:
        """Make PATH."""
        os.makedirs(self.generations_path, mode=0o755, exist_ok=True)

    def known_links(self) -> dict[str, dict[str, t.Any]]:
        """The links that any generation which is still there has declared, by path."""
        links: dict[str, dict[str, t.Any]] = {}
        for name in self.generations():
            with contextlib.suppress(GenerationError):  # an unreadable one is reported where it matters
                links.update((link["path"], link) for link in self.manifest(name)["links"])
        return dict(sorted(links.items()))

    def owns_link(self, path: str) -> bool:
        """Whether path is a symbolic link into PATH, made by this or an earlier run."""
        return os.path.islink(path) and os.readlink(path).startswith(self.path + os.sep)

    def stale_links(self, links: list[dict[str, t.Any]]) -> dict[str, str | None]:
        """Links of other generations that still lie there but are none of the given ones; and what they are to point to, None for nothing."""
        wanted = {link["path"] for link in links}
        return {path: next(iter(self._in_other_sets(link)), None) for path, link in self.known_links().items() if path not in wanted and self.owns_link(path)}

    def link_target(self, link: dict[str, t.Any]) -> str:
        """Where a link is to point to: into the live generation, but a shared one stays where it leads into that of another set."""
        there = _read_link(link["path"])
        return there if there is not None and there in self._in_other_sets(link) else os.path.join(self.current_path, link["target"])

    def _in_other_sets(self, link: dict[str, t.Any]) -> list[str]:
        """What a shared link may point to outside of PATH: its target in the live generations of the sets beside this one."""
        if not link.get("shared"):
            return []
        own = os.path.join(self.current_path, link["target"])
        return sorted(path for path in glob.glob(self._in_any_set(link)) if path != own)

    def _in_any_set(self, link: dict[str, t.Any]) -> str:
        """A pattern of the paths that the link may have as its target."""
        sets, name = os.path.dirname(os.path.dirname(self.path)), os.path.basename(self.path)
        return os.path.join(glob.escape(sets), "*", glob.escape(os.path.join(name, "current", link["target"])))

    def _may_replace(self, link: dict[str, t.Any]) -> bool:
        """Whether what lies in the link's place is our link or, if it is shared, that of another set which is gone."""
        there = _read_link(link["path"])
        shared = link.get("shared") and there is not None and fnmatch.fnmatchcase(there, self._in_any_set(link))
        return self.owns_link(link["path"]) or bool(shared)

    def changed_links(self, links: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
        """Which of the links do not lie there as declared. Raises GenerationError where something foreign lies."""
        changed = []
        for link in links:
            path = link["path"]
            if os.path.lexists(path) and not self._may_replace(link):
                kind = f"a symbolic link to {os.readlink(path)}" if os.path.islink(path) else "a file or directory"
                raise GenerationError(f"{path}: the link of {self.path} belongs here, but {kind} that is not ours is in the way; move it away")
            if _read_link(path) != self.link_target(link):
                changed.append(link)
        return changed

    def clean(self, links: t.Sequence[dict[str, str]]) -> None:
        """Remove what a killed run has left half done: staged, or half removed and so without its manifest (see _put_away())."""
        half_removed = [name for name in self.generations() if name != self.current() and not os.path.lexists(os.path.join(self.directory(name), MANIFEST))]
        for entry in os.listdir(self.generations_path) if os.path.isdir(self.generations_path) else []:
            if entry.startswith(_STAGING) or entry in half_removed:
                shutil.rmtree(os.path.join(self.generations_path, entry))
        shutil.rmtree(os.path.join(self.path, _REMOVED), ignore_errors=True)
        for path in [self.current_path, *self.known_links(), *(link["path"] for link in links)]:
            if os.path.islink(_temporary(path)):
                os.unlink(_temporary(path))

    def next_name(self) -> str:
        """The name that the next generation gets."""
        return f"{int((self.generations() or ['0'])[-1]) + 1:06d}"

    def staging_path(self, name: str) -> str:
        return os.path.join(self.generations_path, _STAGING + name)

    def adopt(self, staged: str, name: str) -> None:
        """Turn a complete staged directory into a generation (not yet live)."""
        os.rename(staged, self.directory(name))
        sync(self.generations_path)

    def switch(self, name: str, links: list[dict[str, t.Any]], stale: dict[str, str | None], label: Label = _no_label) -> None:
        """Make a generation live, and its links. Whatever fails, everything points where it did before.

        label: is called with each new link and the place where it is going to live, before it goes there.
        """
        moves = {self.current_path: os.path.join("generations", name)}
        moves.update((link["path"], self.link_target(link)) for link in links)
        moves.update((path, target) for path, target in stale.items() if target)
        gone = [path for path, target in stale.items() if not target]
        touched = [*moves, *gone]
        before = {path: _read_link(path) for path in touched}
        try:
            for path, target in moves.items():  # all that needs room on a disk, before anything live is touched
                os.symlink(target, _temporary(path))
                label(_temporary(path), path)
            for path in moves:
                os.rename(_temporary(path), path)
            for path in gone:
                os.unlink(path)
            for directory in sorted({os.path.dirname(path) for path in touched}):
                sync(directory)
        except OSError:
            for path, old_target in before.items():
                _restore_link(path, old_target, label)
            raise

    def rollback_target(self) -> str:
        """The generation that "state: previous" makes live.

        That is the one last proved to be in use, if the live one is not proved; else the newest older one that declares
        something else. Raises GenerationError if there is none.
        """
        live, applied, names = self.current(), self.applied(), self.generations()
        if live is None:
            raise GenerationError(f"{self.path} has no live generation, so there is nothing to turn back from")
        if applied != live and applied in names:
            return str(applied)
        digest = self.manifest(live)["digest"]
        for name in reversed(names[: names.index(live)]):
            if self.manifest(name)["digest"] != digest:
                return name
        raise GenerationError(f"{self.path} keeps no generation before {live} that differs from it; deploy the wanted configuration instead")

    def prune(self, keep: int) -> None:
        """Remove all but the last generations; never the live one, nor one that metadata_since_applied() needs."""
        live, applied = self.current(), self.applied()
        for name in self.generations()[:-keep]:
            waiting = int(name) >= int(applied) if applied else self._declares_metadata(name)
            if name != live and not waiting:
                shutil.rmtree(self._put_away(name))

    def _put_away(self, name: str) -> str:
        """Make a generation none any more, and return where it lies: of a run that is killed then nothing is left that looks like one.

        A directory cannot be renamed that lies in a lower layer of an overlayfs (a container, the image of which has a deployment already): EXDEV, see
        "redirect_dir" in the kernel's Documentation/filesystems/overlayfs.rst.
        """
        directory, doomed = self.directory(name), self.staging_path(name)
        try:
            os.rename(directory, doomed)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, MANIFEST))
            return directory
        return doomed

    def _declares_metadata(self, name: str) -> bool:
        try:
            return bool(self.manifest(name)["metadata"])
        except GenerationError:
            return False

    def discard(self, name: str) -> None:
        """Remove a generation that never went live."""
        shutil.rmtree(self.directory(name), ignore_errors=True)

    def remove(self, label: Label = _no_label) -> None:
        """Remove links, generations and PATH itself (unless somebody else keeps something there). label: as for switch()."""
        for path, target in self.stale_links([]).items():
            _restore_link(path, target, label)
        for path in [self.current_path, self.applied_path, self.restarting_path]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        removed = os.path.join(self.path, _REMOVED)
        try:
            os.rename(self.generations_path, removed)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.EXDEV:  # as in _put_away(); no link leads there any more
                raise
            removed = self.generations_path
        shutil.rmtree(removed, ignore_errors=True)
        os.unlink(self.lock_path)
        with contextlib.suppress(OSError):
            os.rmdir(self.path)


def _temporary(path: str) -> str:
    """Where the link that replaces path is made: hidden, so that "include conf.d/*.conf" does not see it."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.config_set")


def _read_link(path: str) -> str | None:
    return os.readlink(path) if os.path.islink(path) else None


def _restore_link(path: str, target: str | None, label: Label) -> None:
    """Bring a link to this target (None: to its absence)."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_temporary(path))
    if _read_link(path) == target:
        return
    if target is None:
        os.unlink(path)
    else:
        os.symlink(target, _temporary(path))
        label(_temporary(path), path)
        os.rename(_temporary(path), path)


def replace_file(path: str, content: bytes, mode: int) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one."""
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    write_new_file(temporary, content, mode)
    sync(temporary)
    os.rename(temporary, path)
    sync(os.path.dirname(path))


def write_new_file(path: str, content: bytes, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Create a file that nobody but this process' user can read until it has its owner and mode."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)


def sync(path: str) -> None:
    """Bring a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
