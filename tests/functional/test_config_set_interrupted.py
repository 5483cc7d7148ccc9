# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of config_set that end in the middle.

Every system call by which config_set changes something is a step. A run is ended before its first step, another one before
its second, and so on until one gets through.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import pathlib
import shutil
import signal
import tarfile
import tempfile

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import generation_content as content
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationStore
from ansible_collections.webops.fastcgi.plugins.modules import config_set
from forked import run_forked

OLD_LINKS = {"kept.conf": "a.conf", "removed.conf": "a.conf"}
NEW_LINKS = {"kept.conf": "sub/b.conf", "new.conf": "a.conf"}
STEPS = ("open", "mkdir", "rename", "symlink", "unlink", "rmdir", "chmod", "chown", "fchmod", "fchown", "fsync")
OLD = {"a.conf": "old a\n", "secret": {"content": "old secret\n" * 10_000, "secret": True, "mode": "0640"}}
NEW = {"a.conf": "new a\n", "sub/b.conf": "new b\n", "secret": {"content": "new secret\n" * 10_000, "secret": True, "mode": "0640"}}


class Host:
    """A set with a live generation, a second one waiting in an archive, and links of both."""

    def __init__(self, root):
        self.root = root
        self.links_directory = root / "conf.d"
        self.store = GenerationStore(str(root / "set"))
        self.snapshot = root / "snapshot"

    def link(self, name):
        return str(self.links_directory / name)

    def arguments(self, files, links):
        items = [{"path": path, **(options if isinstance(options, dict) else {"content": options})} for path, options in files.items()]
        archive = self.root / "archive.tar"
        with tarfile.open(archive, "w") as members:
            for number, item in enumerate(items):
                data = item["content"].encode()
                member = tarfile.TarInfo(str(number))
                member.size = len(data)
                members.addfile(member, io.BytesIO(data))
        return {
            "path": self.store.path,
            "files": [{key: value for key, value in item.items() if key != "content"} for item in items],
            "links": [{"path": self.link(name), "target": target} for name, target in links.items()],
            "keep": 1,
            "archive": str(archive),
        }

    def save(self):
        shutil.copytree(self.root / "set", self.snapshot / "set", symlinks=True)
        shutil.copytree(self.links_directory, self.snapshot / "conf.d", symlinks=True)

    def restore(self):
        for name in ("set", "conf.d"):
            shutil.rmtree(self.root / name)
            shutil.copytree(self.snapshot / name, self.root / name, symlinks=True)

    def shows(self, files):
        """Whether the live generation is complete and consists of these files."""
        declared = content.load(self.store.directory(self.store.current()), self.store.live_manifest())
        whole = content.observe(self.store.directory(self.store.current())) == content.expected(declared, content.Identity())
        texts = {path: options["content"] if isinstance(options, dict) else options for path, options in files.items()}
        return whole and {path: data.decode() for path, data in declared.contents.items()} == texts

    def links(self):
        """The links by name, and what they point to in the live generation."""
        targets = {name: os.readlink(self.link(name)) for name in os.listdir(self.links_directory) if not name.startswith(".")}
        return {name: os.path.relpath(target, self.store.current_path) for name, target in targets.items()}

    def litter(self):
        """What a finished run should not leave."""
        places = [self.store.path, self.store.generations_path, str(self.links_directory)]
        names = [name for place in places for name in os.listdir(place)]
        return [name for name in names if name.startswith(".") and name != ".lock"]

    def readable_secrets(self):
        """Files that anybody may read and that hold a secret."""
        paths = [os.path.join(parent, name) for parent, _directories, names in os.walk(self.store.path) for name in names]
        files = [path for path in paths if not os.path.islink(path) and os.stat(path).st_mode & 0o007]
        return [path for path in files if "secret" in open(path).read()]


@pytest.fixture
def host():
    """In memory, where every system has a file system: hundreds of runs ask for thousands of files to be written to a disk, which others may keep busy."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        host = Host(pathlib.Path(directory))
        host.links_directory.mkdir()
        assert not run(host.arguments(OLD, OLD_LINKS))["failed"]
        host.store.mark_applied("000001")
        host.save()
        yield host


def run(arguments, action=None, step=None):
    """Run config_set in a child that does action() before the given step.

    Returns its result with the number of steps that it took, None if it was killed.
    """
    steps = itertools.count(1)

    def count_steps():
        for name in STEPS:
            setattr(os, name, _counted(getattr(os, name), steps, action, step))

    return run_forked(config_set, arguments, count_steps, lambda: {"steps": next(steps) - 1})


def _counted(function, steps, action, step):
    def wrapped(*arguments, **options):
        if next(steps) == step:
            action()
        return function(*arguments, **options)

    return wrapped


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def fail_for_want_of_space():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_converges(host):
    """The next run gets through, shows the new set by the new links alone, and cleans up."""
    result = run(host.arguments(NEW, NEW_LINKS))
    assert not result["failed"], result["msg"]
    assert host.shows(NEW)
    assert host.links() == NEW_LINKS
    assert host.litter() == []


@pytest.fixture
def steps(host):
    """The number of steps in which the old set becomes the new one."""
    steps = run(host.arguments(NEW, NEW_LINKS))["steps"]
    assert steps > len(STEPS)
    return range(1, steps + 1)


def test_a_run_killed_at_any_step_leaves_the_old_or_the_new_set_live_and_the_next_one_converges(host, steps):
    for step in steps:
        host.restore()
        assert run(host.arguments(NEW, NEW_LINKS), kill_oneself, step) is None
        assert host.shows(OLD) or host.shows(NEW), f"step {step}"
        assert host.readable_secrets() == [], f"step {step}"
        assert_converges(host)


def test_a_disk_that_is_full_at_any_step_leaves_the_old_set_with_the_old_links_or_the_new_with_the_new(host, steps):
    outcomes = set()
    for step in steps:
        host.restore()
        result = run(host.arguments(NEW, NEW_LINKS), fail_for_want_of_space, step)
        now = "old" if host.shows(OLD) else "new"
        assert host.shows(OLD if now == "old" else NEW), f"step {step}"
        assert host.links() == (OLD_LINKS if now == "old" else NEW_LINKS), f"step {step}"
        if now == "old":
            assert result["failed"], f"step {step}"
        if result["failed"]:
            assert "No space left on device" in result["msg"], f"step {step}"
            assert f"Generation {host.store.current()} of {host.store.path} is live." in result["msg"], f"step {step}"
        outcomes.add(now)
        assert_converges(host)
    assert outcomes == {"old", "new"}
