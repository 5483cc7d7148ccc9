# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations in a container whose image has a deployment already: there they lie in a lower layer, whose directories cannot be renamed."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationStore


@pytest.fixture
def store(tmp_path):
    """Four generations, of which the last is live and proved, in the lower layer of an overlayfs."""
    for directory in ("lower/set", "upper", "work", "merged"):
        (tmp_path / directory).mkdir(parents=True)
    image = GenerationStore(str(tmp_path / "lower/set"))
    for number in range(1, 5):
        directory = tmp_path / "lower/set/generations" / f"{number:06d}"
        directory.mkdir(parents=True)
        (directory / "file").write_text("content")
        (directory / ".manifest.json").write_text(json.dumps({"digest": str(number), "links": [], "metadata": {}}))
    image.switch("000004", [], {})
    image.mark_applied("000004")
    layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, tmp_path / "merged"], check=True)
    yield GenerationStore(str(tmp_path / "merged/set"))
    subprocess.run(["umount", tmp_path / "merged"], check=True)


def test_old_ones_are_pruned(store):
    store.prune(2)
    assert sorted(os.listdir(store.generations_path)) == ["000003", "000004"]
    assert store.current() == "000004"


def test_one_that_a_killed_run_has_half_removed_goes_with_the_next(store, monkeypatch):
    def killed(_path):
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.prune(3)
    monkeypatch.undo()
    assert os.path.exists(os.path.join(store.directory("000001"), "file"))
    store.clean([])
    assert store.generations() == ["000002", "000003", "000004"]


def test_all_is_removed(store):
    with open(store.lock_path, "w", encoding="utf-8"):
        pass
    store.remove()
    assert not os.path.exists(store.path)
