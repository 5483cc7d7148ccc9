# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_release on this host: real files, a real pip, real interruptions. Needs root, as the module does."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import grp
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import release as release_util
from ansible_collections.webops.fastcgi.plugins.plugin_utils.release_source import content_digest, describe, pack

USER = "nobody"
GROUP = grp.getgrgid(pwd.getpwnam(USER).pw_gid).gr_name


@pytest.fixture
def host():
    """A directory that every user can reach, as /srv is (pytest's own is the tester's alone)."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="fcgi-release-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def source(tmp_path):
    """Write a source with an executable bin/shop that prints ``content``; return its path."""

    def make(content="one", name="shop"):
        root = tmp_path / name
        (root / "bin").mkdir(parents=True, exist_ok=True)
        (root / "bin" / "shop").write_text(f"#!/bin/sh\necho {content}\n")
        (root / "bin" / "shop").chmod(0o755)
        return root

    return make


@pytest.fixture
def release(host):
    """The options of a release of an app."""

    def make(src=None, version="1", app="shop", **options):
        option = {"app": app, "version": version, "path": str(host / app), "user": USER, "group": GROUP, "executable": "bin/shop", **options}
        return {**option, "src": str(src)} if src else option

    return make


@pytest.fixture
def run(run_module, tmp_path):
    """Run the module as its action plugin does when something is missing; what is packed is packed by the action plugin."""

    def call(state, *releases, **how):
        if state == "current":
            return run_module("fcgi_release", {"state": state, "releases": list(releases)}, **how)
        digests = [content_digest(describe(release["src"])) for release in releases]
        archive = tmp_path / "releases.tar.gz"
        with archive.open("wb") as stream:
            pack(dict(enumerate(release["src"] for release in releases)), stream)
        return run_module("fcgi_release", {"state": state, "releases": list(releases), "digests": digests, "archive": str(archive)}, **how)

    return call


class Play:
    """Runs a play with a task for each dict of arguments; returns what each task registered. ``output`` is what the play printed."""

    def __init__(self, directory, collections):
        self.directory = directory
        self.env = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(collections), ANSIBLE_LOCALHOST_WARNING="0", ANSIBLE_NOCOLOR="1")
        self.output = ""

    def __call__(self, *tasks, options=(), cwd=None, inventory="localhost,"):
        results = self.directory / "results.json"
        names = [f"result{number}" for number in range(len(tasks))]
        ours = [{"name": "Ours", "webops.fastcgi.fcgi_release": task, "register": name, "ignore_errors": True} for name, task in zip(names, tasks)]
        copy = {"dest": str(results), "mode": "0600", "content": "{{ [" + ", ".join(names) + "] | to_json }}"}
        play = {
            "hosts": "all",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable},
            "tasks": [*ours, {"name": "Results", "check_mode": False, "diff": False, "ansible.builtin.copy": copy}],
        }
        playbook = self.directory / "play.json"
        playbook.write_text(json.dumps([play]))
        command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), *options, str(playbook)]
        done = subprocess.run(command, env=self.env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
        self.output = done.stdout + done.stderr
        assert done.returncode == 0, self.output
        return json.loads(results.read_text())


@pytest.fixture
def play(tmp_path, collections_path):
    directory = tmp_path / "play"
    directory.mkdir()
    return Play(directory, collections_path)


def tree_state(directory):
    """Everything about a tree that a change would show in."""
    state = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        state[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_mtime_ns)
    return state


# As a playbook runs it: the action plugin with its module.


def test_a_playbook_places_a_release_and_makes_it_current_and_a_second_time_changes_nothing(host, play, source, release):
    shop = release(source())
    tasks = [{"releases": [shop], "state": "placed"}, {"releases": [release()], "state": "current"}]
    placed, switched = play(*tasks, options=["--diff"])
    directory = host / "shop" / "releases" / "1"
    assert placed["releases"] == [{"app": "shop", "version": "1", "previous": "", "changed": True, "path": str(directory)}]
    assert switched["changed"] and '+    "shop": "1"' in play.output
    assert subprocess.check_output([host / "shop" / "current" / "bin" / "shop"], text=True) == "one\n"
    before = tree_state(host)
    again = play(*tasks)
    assert [result["changed"] for result in again] == [False, False]
    assert tree_state(host) == before


def test_many_apps_are_two_module_calls_and_one_where_nothing_is_missing(host, play, source, release):
    task = {"releases": [release(source(name=f"app{number}"), app=f"app{number}") for number in range(20)]}
    calls = "plugins/modules/fcgi_release.py"
    first, second = play(task, task, options=["-vvv"])
    assert first["changed"] and not second["changed"]
    assert play.output.count(calls) == 3
    assert len(list(host.glob("app*/releases/1/.fcgi-release.json"))) == 20


def test_check_mode_on_a_virgin_host_shows_what_would_come_and_does_nothing(host, play, source, release):
    shop = release(source(), user="a-user-to-be-created", group="a-user-to-be-created")
    placed, switched = play({"releases": [shop]}, {"releases": [shop], "state": "current"}, options=["--check", "--diff"])
    assert placed["changed"] and switched["changed"]
    assert (placed["diff"]["before"], placed["diff"]["after"]) == ({"shop": ""}, {"shop": "1"})
    assert list(host.iterdir()) == []


def test_a_relative_source_is_looked_for_beside_the_playbook_and_the_inventory_and_in_the_working_directory(play, source, release, tmp_path):
    releases = []
    for place in (play.directory, play.directory / "files", tmp_path / "inventory", tmp_path / "cwd"):
        (place / "dist").mkdir(parents=True)
        source().rename(place / "dist" / place.name)
        releases.append(release(f"dist/{place.name}", app=place.name))
    (tmp_path / "inventory" / "hosts").write_text("localhost\n")
    (result,) = play({"releases": releases}, inventory=tmp_path / "inventory" / "hosts", cwd=tmp_path / "cwd")
    assert [one["changed"] for one in result["releases"]] == [True] * 4


def test_an_unfit_source_is_an_error_before_anything_is_touched(host, play, source, release, tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as evil:
        evil.addfile(tarfile.TarInfo("../../../evil"))
    own_venv = source(name="own_venv")
    (own_venv / ".venv").mkdir()
    (own_venv / "requirements.txt").write_text("")
    shop = release(source())
    unfit = {
        "fcgi_apps[blog].release: src dist/blog.tar.gz does not exist on the controller; searched /": {"src": "dist/blog.tar.gz"},
        "fcgi_apps[blog].release: src is missing": {},
        "evil.tar: ../../../evil leads out of the archive": {"src": tmp_path / "evil.tar"},
        "python_requirements requirements.txt is not a file in": {"src": source(), "python_requirements": "requirements.txt"},
        "it has a .venv of its own": {"src": own_venv, "python_requirements": "requirements.txt"},
    }
    results = play(*({"releases": [shop, release(app="blog", **options)]} for options in unfit.values()))
    for complaint, result in zip(unfit, results):
        assert result["failed"] and complaint in result["msg"]
    assert list(host.iterdir()) == []


# Whose the code is.


def test_placed_code_is_roots_and_its_readers_are_whom_the_source_lets_and_the_apps_group(host, run, source, release):
    root = source()
    (root / "open").write_text("")
    (root / "open").chmod(0o666)
    (root / "own").mkdir()
    (root / "own" / "key").write_text("")
    (root / "own" / "key").chmod(0o600)
    (root / "own").chmod(0o2770)
    assert run("placed", release(root))["changed"]
    directory = host / "shop" / "releases" / "1"
    modes = {name: oct((directory / name).stat().st_mode & 0o7777) for name in (".", "bin", "bin/shop", "open", "own", "own/key")}
    assert modes == {".": "0o755", "bin": "0o755", "bin/shop": "0o755", "open": "0o644", "own": "0o750", "own/key": "0o640"}
    assert {path.lstat().st_uid for path in directory.rglob("*")} == {0}
    assert (directory / "own" / "key").group() == GROUP


@pytest.mark.parametrize("path", ["shop", "shop/releases"])
def test_a_directory_that_the_apps_user_can_write_is_refused(path, host, run, source, release):
    (host / path).mkdir(parents=True)
    shutil.chown(host / path, USER)
    result = run("placed", release(source()))
    assert f"fcgi_apps[shop].release: {USER} can write in {host / path} and so exchange the code" in result["msg"]
    assert not (host / "shop" / "releases" / "1").exists()


def test_a_missing_user_is_named(run, source, release):
    assert "fcgi_apps[shop].release: user no-such-user or group" in run("placed", release(source(), user="no-such-user"))["msg"]


# What must not change.


def test_other_content_under_a_placed_version_is_refused(host, run, source, release):
    run("placed", release(source()))
    before = tree_state(host)
    refused = run("placed", release(source("two")))
    assert refused["msg"] == "fcgi_apps[shop].release: version 1 is already placed with other content; give the new content a new version"
    assert tree_state(host) == before


def make_directory(link):
    link.mkdir()


def make_foreign_link(link):
    link.symlink_to("/opt/shop")


@pytest.mark.parametrize("make", [make_directory, make_foreign_link])
def test_a_current_that_is_not_ours_is_an_error_and_stays(make, host, run, source, release):
    run("placed", release(source()))
    make(host / "shop" / "current")
    before = tree_state(host)
    for state in ("placed", "current"):
        message = run(state, release(source()))["msg"]
        assert f"fcgi_apps[shop].release: {host}/shop/current" in message and "move it out of the way" in message
    assert tree_state(host) == before


def test_every_release_that_is_not_placed_is_named_and_no_other_is_switched(host, run, source, release):
    run("placed", release(source()))
    result = run("current", release(), release(app="blog"), release(app="news", version="7"))
    assert "fcgi_apps[blog].release: version 1 is not placed" in result["msg"]
    assert "fcgi_apps[news].release: version 7 is not placed" in result["msg"]
    assert not (host / "shop" / "current").exists()


def test_an_executable_that_the_release_does_not_have_is_an_error_that_names_the_nearest(host, run, source, release):
    result = run("placed", release(source(), executable="shop"))
    assert result["msg"].endswith(f"shop is not in {host}/shop/releases/1; its nearest executables are bin/shop")
    assert not (host / "shop" / "releases" / "1").exists()


def test_a_file_that_is_not_executable_is_an_error(run, source, release):
    root = source()
    (root / "bin" / "shop").chmod(0o644)
    assert "bin/shop is in" in (message := run("placed", release(root))["msg"]) and "not executable: set its mode" in message


# Interruptions.


def test_an_interrupted_placement_is_replaced(host, run, source, release):
    half = host / "shop" / "releases" / "1"
    half.mkdir(parents=True)
    (half / "rest").write_text("")
    assert run("placed", release(source()))["changed"]
    assert not (half / "rest").exists() and (half / "bin" / "shop").exists()


def test_an_unmarked_directory_that_is_current_is_left_alone(host, run, source, release):
    (host / "shop" / "releases" / "1").mkdir(parents=True)
    (host / "shop" / "current").symlink_to("releases/1")
    assert "is current, and not placed by this module" in run("placed", release(source()))["msg"]
    assert list((host / "shop" / "releases" / "1").iterdir()) == []


def appears(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


def test_a_run_waits_for_another_one_in_its_directory_and_takes_over_what_that_has_placed(host, run, source, release, tmp_path):
    shop = release(source())
    run("placed", shop)
    releases, others = host / "shop" / "releases", tmp_path / "others"
    releases.rename(others)
    placed = (others / "1").stat().st_ino
    with (host / "shop" / ".lock").open("w") as lock, concurrent.futures.ThreadPoolExecutor() as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = pool.submit(run, "placed", shop)
        appears(releases)  # the last thing before it waits
        (others / "1").rename(releases / "1")
        assert not waiting.done()
        fcntl.flock(lock, fcntl.LOCK_UN)
        result = waiting.result(30)
    assert not result.get("failed") and not result["changed"]
    assert (releases / "1").stat().st_ino == placed


def test_a_run_that_has_waited_too_long_says_for_what(host, run, source, release, monkeypatch):
    shop = release(source())
    run("placed", shop)
    monkeypatch.setattr(release_util, "_LOCK_TIMEOUT", 0.1)
    fields = {name: shop.get(name, default) for name, default in {"python_requirements": "", "keep": 5, "executable": ""}.items()}
    releases = release_util.releases_from([{**shop, **fields}])
    with (host / "shop" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(release_util.ReleaseError, match=f"another run has worked in {host}/shop for 0.1 s"):
            release_util.make_current(releases)
    release_util.make_current(releases)
    assert os.readlink(host / "shop" / "current") == "releases/1"


def test_an_error_while_placing_names_the_app_and_leaves_no_half_release(host, run, source, release, tmp_path):
    python = tmp_path / "python-with-a-limit"
    python.write_text(f'#!/bin/sh\nulimit -f 1000\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    blog = source(name="blog")
    (blog / "large").write_bytes(bytes(2_000_000))
    result = run("placed", release(source()), release(blog, app="blog"), python=python)
    assert "fcgi_apps[blog].release: [Errno 27] File too large" in result["msg"]
    assert list(host.glob("*/releases/*")) == []


@pytest.fixture
def silent_index():
    """A package index that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def processes_in(directory):
    """Those that work there."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found |= {int(pid)} if os.readlink(f"/proc/{pid}/cwd").startswith(f"{directory}/") else set()
    return found


def parent_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_run_killed_while_pip_works_is_made_up_for_by_the_next_one(host, run, source, release, silent_index):
    root = source()
    (root / "requirements.txt").write_text("flup==1.0.3\n")
    shop = release(root, python_requirements="requirements.txt", executable=".venv/bin/python")
    index = f"http://127.0.0.1:{silent_index.getsockname()[1]}/simple"
    killed = os.fork()
    if killed == 0:
        try:
            run("placed", shop, env={"PIP_INDEX_URL": index, "PIP_EXTRA_INDEX_URL": ""})
        finally:  # it has no result
            os._exit(0)
    with silent_index.accept()[0]:
        pip = processes_in(host)
        (module,) = {parent_of(pid) for pid in pip} - pip
        os.kill(module, signal.SIGKILL)
        os.waitpid(killed, 0)
        deadline = time.monotonic() + 10
        while processes_in(host):
            assert time.monotonic() < deadline, "pip outlives the module, and would write into the release of the next run"
            time.sleep(0.01)
    directory = host / "shop" / "releases" / "1"
    assert (directory / "bin" / "shop").exists() and "not placed" in run("current", shop)["msg"]

    # The next run, with the real index and a log that shows who pip was.
    logs = host / "logs"
    logs.mkdir()
    shutil.chown(logs, USER)
    assert run("placed", shop, env={"PIP_LOG": str(logs / "pip.log")})["changed"]
    assert (logs / "pip.log").owner() == USER
    version = [directory / ".venv" / "bin" / "python", "-c", "import flup, importlib.metadata as m; print(m.version('flup'))"]
    assert subprocess.check_output(version, text=True, user=USER) == "1.0.3\n"
    assert {path.lstat().st_uid for path in directory.rglob("*")} == {0}
    assert [path for path in directory.rglob("*") if path.lstat().st_mode & 0o022 and not path.is_symlink()] == []


def test_what_pip_says_last_is_in_the_error_and_the_release_is_not_placed(host, run, source, release):
    root = source()
    (root / "requirements.txt").write_text("flup==1.0.3\n")
    result = run("placed", release(root, python_requirements="requirements.txt"), env={"PIP_NO_INDEX": "1"})
    assert f"fcgi_apps[shop].release: python_requirements requirements.txt: pip install failed as {USER}:" in result["msg"]
    assert "No matching distribution found for flup==1.0.3" in result["msg"]
    assert not (host / "shop" / "releases" / "1").exists()


def test_python_requirements_asked_for_later_need_a_new_version(run, source, release):
    run("placed", release(source()))
    result = run("placed", release(source(), python_requirements="bin/shop"))
    assert "version 1 is already placed with python_requirements '', not 'bin/shop'" in result["msg"]


# Pruning.


def test_old_releases_go_but_never_the_current_and_the_previous_one_nor_foreign_directories(host, run, source, release):
    releases = host / "shop" / "releases"
    (releases / "by-hand").mkdir(parents=True)
    for version in ("1", "2", "3", "4"):
        run("placed", release(source(version), version=version))
        assert run("current", release(version=version, keep=3))["changed"]
    assert sorted(os.listdir(releases)) == ["2", "3", "4", "by-hand"]
    run("current", release(version="2", keep=1))
    assert sorted(os.listdir(releases)) == ["2", "4", "by-hand"]
    assert os.readlink(host / "shop" / "current") == "releases/2"
