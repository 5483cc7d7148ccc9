# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of fcgi_release: what a source's content is, what is refused in one, and what is packed."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import release as releases
from ansible_collections.webops.fastcgi.plugins.plugin_utils import release_source as sources


def digest(path):
    return sources.content_digest(sources.describe(str(path)))


@pytest.fixture
def tree(tmp_path):
    """A source as a directory, with what archives get wrong: empty directories, links, hard links, odd names."""
    root = tmp_path / "shop"
    (root / "bin").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "bin" / "shop").write_text("#!/bin/sh\n")
    (root / "bin" / "shop").chmod(0o755)
    (root / "ein Brief an Jürgen\n.txt").write_text("Hallo")
    (root / "settings").write_text("a=1")
    os.link(root / "settings", root / "settings.again")
    (root / "run").symlink_to("bin/shop")
    (root / "bin" / "up").symlink_to("../settings")
    return root


def tar(tree, archive, *options):
    subprocess.run(["tar", "-C", str(tree), *options, "-cf", str(archive), "."], check=True)
    return archive


def archive_of(tmp_path, *members):
    """A tar archive of TarInfo, each with a content of its declared size."""
    path = tmp_path / "made.tar"
    with tarfile.open(path, "w") as made:
        for member in members:
            made.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name, kind=tarfile.REGTYPE, linkname="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, linkname, size
    return info


# Content.


@pytest.mark.parametrize("options", [(), ("-z",), ("-J",), ("-j",), ("--sort=name",), ("--mtime=2001-01-01", "--owner=1234")])
def test_a_directory_and_a_tar_archive_of_it_have_one_digest(tree, tmp_path, options):
    assert digest(tar(tree, tmp_path / "shop.tar", *options)) == digest(tree)


def test_an_archive_that_leaves_out_directories_has_the_digest_of_one_that_has_them(tree, tmp_path):
    without = tmp_path / "without.tar"
    (tree / "empty").rmdir()
    subprocess.run(f"find . -not -type d -print0 | tar --null -T - -cf {without}", shell=True, check=True, cwd=tree)
    assert digest(without) == digest(tree)


def test_time_and_owner_and_the_permissions_of_others_are_no_content(tree):
    before = digest(tree)
    os.utime(tree / "settings", (1, 1))
    (tree / "settings").chmod(0o600)
    assert digest(tree) == before


def change_content(tree):
    (tree / "settings").write_text("a=2")


def change_x_bit(tree):
    (tree / "settings").chmod(0o755)


def change_name(tree):
    (tree / "settings").rename(tree / "set")


def change_link(tree):
    (tree / "run").unlink()
    (tree / "run").symlink_to("settings")


def change_type(tree):
    (tree / "empty").rmdir()
    (tree / "empty").write_text("")


@pytest.mark.parametrize("change", [change_content, change_x_bit, change_name, change_link, change_type])
def test_every_change_of_the_content_changes_the_digest(tree, change):
    before = digest(tree)
    change(tree)
    assert digest(tree) != before


def test_caches_and_git_are_no_content_of_a_directory(tree):
    before = digest(tree)
    (tree / ".git").mkdir()
    (tree / "bin" / "__pycache__").mkdir()
    (tree / "bin" / "__pycache__" / "shop.cpython-311.pyc").write_text("")
    (tree / "bin" / "shop.pyc").write_text("")
    assert digest(tree) == before


# What is refused.


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([member("/etc/passwd")], "/etc/passwd leads out"),
        ([member("../up")], "../up leads out"),
        ([member("a/../../up")], "a/../../up leads out"),
        ([member("l", tarfile.SYMTYPE, "/etc")], "l is a link out of the tree (to /etc)"),
        ([member("l", tarfile.SYMTYPE, "..")], "l is a link out of the tree"),
        ([member("a/l", tarfile.SYMTYPE, "../../up")], "a/l is a link out of the tree"),
        ([member("a/b/up", tarfile.SYMTYPE, "../.."), member("l", tarfile.SYMTYPE, "a/b/up/..")], "l is a link out of the tree"),
        ([member("l", tarfile.SYMTYPE, "."), member("l/file")], "l/file lies under l, which is no directory"),
        ([member("f"), member("f/file")], "f/file lies under f, which is no directory"),
        ([member("f"), member("./f")], "f is in it twice"),
        ([member("d/file"), member("d", tarfile.SYMTYPE, ".")], "d is in it twice"),
        ([member("h", tarfile.LNKTYPE, "/etc/shadow")], "/etc/shadow leads out"),
        ([member("h", tarfile.LNKTYPE, "elsewhere")], "h is a hard link to elsewhere, which is not in the archive"),
        ([member("l", tarfile.SYMTYPE, "file"), member("h", tarfile.LNKTYPE, "l")], "h is a hard link to l, which is not"),
        ([member("dev", tarfile.CHRTYPE)], "dev is neither"),
        ([member("pipe", tarfile.FIFOTYPE)], "pipe is neither"),
        ([member(releases.MARKER)], f"{releases.MARKER} is a name"),
    ],
)
def test_a_malicious_or_broken_archive_is_refused(tmp_path, members, complaint):
    with pytest.raises(sources.SourceError) as refusal:
        sources.describe(str(archive_of(tmp_path, *members)))
    assert complaint in str(refusal.value)


def test_links_that_stay_inside_are_taken(tmp_path):
    archive = archive_of(tmp_path, member("a/b/up", tarfile.SYMTYPE, "../.."), member("a/l", tarfile.SYMTYPE, "../c/./d"))
    assert sources.describe(str(archive))["a/b/up"] == "link ../.."


def test_a_link_out_of_a_directory_is_refused(tree):
    (tree / "python").symlink_to("/usr/bin/python3")
    with pytest.raises(sources.SourceError, match="python is a link out of the tree"):
        sources.describe(str(tree))


def test_a_pipe_in_a_directory_is_refused(tree):
    os.mkfifo(tree / "pipe")
    with pytest.raises(sources.SourceError, match="pipe is neither"):
        sources.describe(str(tree))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", b"\x28\xb5\x2f\xfd zstd"])
def test_what_is_no_tar_archive_is_refused(tmp_path, content):
    path = tmp_path / "shop.tar.gz"
    path.write_bytes(content)
    with pytest.raises(sources.SourceError, match="neither a directory nor a readable tar archive"):
        sources.describe(str(path))


@pytest.mark.parametrize("option", ["-z", "-J", "-j"])
def test_half_an_archive_is_refused(tmp_path, option):
    source = tmp_path / "random"
    source.mkdir()
    (source / "data").write_bytes(os.urandom(200_000))
    whole = tar(source, tmp_path / "whole", option).read_bytes()
    half = tmp_path / "half"
    half.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(sources.SourceError):
        sources.describe(str(half))


# Packing.


def test_packing_puts_each_source_under_its_number(tree, tmp_path):
    archive = tar(tree, tmp_path / "shop.tgz", "-z")
    packed = io.BytesIO()
    sources.pack({3: str(tree), 7: str(archive)}, packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as made:
        made.extractall(tmp_path / "out")
    assert digest(tmp_path / "out" / "3") == digest(tmp_path / "out" / "7") == digest(tree)


# The options.


def option(**changes):
    default = {"app": "shop", "src": None, "version": "1", "path": "/srv/fcgi/shop", "python_requirements": ""}
    return {**default, "keep": 5, "user": "u", "group": "g", "executable": "", **changes}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([option(version="../1")], "fcgi_apps[shop].release: version '../1' cannot name a directory"),
        ([option(version="")], "version '' cannot"),
        ([option(version=".hidden")], "version '.hidden' cannot"),
        ([option(keep=0)], "keep: 0 is not"),
        ([option(path="srv")], "path srv is not absolute"),
        ([option(), option(app="blog")], "fcgi_apps[blog].release: path /srv/fcgi/shop is that of fcgi_apps[shop] too"),
    ],
)
def test_unfit_options_are_named(options, complaint):
    with pytest.raises(releases.ReleaseError) as refusal:
        releases.releases_from(options)
    assert complaint in str(refusal.value)


def test_a_host_without_venv_says_which_package_to_install(monkeypatch, tmp_path):
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(releases, "PYTHON_PATH", str(tmp_path))
    wanted = releases.releases_from([option(python_requirements="requirements.txt", path=str(tmp_path / "shop"))])
    with pytest.raises(releases.ReleaseError, match=r"install python3-venv \(Debian.*python3-pip \(RHEL"):
        releases.place(wanted, "not read")
