# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config_set on this machine: the module as it is, and the whole way through ansible-playbook."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pathlib
import select
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from io import BytesIO

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils.converge import Journal
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationStore
from ansible_collections.webops.fastcgi.plugins.modules import config_set as config_set_module
from forked import run_forked


class ConfigSet:
    """One set, installed by the module from an archive such as the action plugin sends."""

    def __init__(self, root):
        self.root = root
        self.path = root / "set"
        self.current = self.path / "current"
        self.store = GenerationStore(str(self.path))
        self.temporary = root / "tmp"  # made, handed to the module and removed by the action plugin
        self.temporary.mkdir()

    def __call__(self, files=None, check=False, diff=False, prepare=None, **options):
        """Run the module."""
        internal = {"_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_tmpdir": str(self.temporary)}
        return run_forked(config_set_module, {**self.arguments(files, **options), **internal}, prepare)

    def arguments(self, files=None, **options):
        """The module's arguments. files: content by path, or a dict with content and options."""
        arguments = {"path": str(self.path), **options}
        if files is not None:
            items = [{"path": path, **(item if isinstance(item, dict) else {"content": item})} for path, item in files.items()]
            arguments["archive"] = self._archive([item.pop("content") for item in items])
            arguments["files"] = items
        return arguments

    def _archive(self, contents):
        path = self.root / "archive.tar"
        with tarfile.open(path, "w") as archive:
            for number, content in enumerate(contents):
                member = tarfile.TarInfo(str(number))
                member.size = len(content.encode())
                archive.addfile(member, BytesIO(content.encode()))
        return str(path)

    def link(self, name="site.conf", target="a.conf"):
        return [{"path": str(self.root / name), "target": target}]

    def untouched(self, text="1"):
        """Whether the live set is still the one that is first installed, and nothing half done lies about."""
        return (self.current / "a.conf").read_text() == text and os.listdir(self.path / "generations") == ["000001"]


@pytest.fixture
def config_set(tmp_path):
    return ConfigSet(tmp_path)


@pytest.fixture
def installed(config_set):
    """A set that is live already."""
    assert config_set({"a.conf": "1"})["changed"]
    return config_set


class TestInstallation:
    def test_what_is_declared_is_live_with_its_owners_and_modes(self, config_set):
        files = {"a.conf": "1", "auth/shop": {"content": "x", "mode": "0640", "owner": "nobody", "group": "www-data", "secret": True}}
        result = config_set(files, links=config_set.link(), directories=[{"path": "empty", "mode": "0700"}])
        assert (result["generation"], result["previous"], result["applied"], result["pending"]) == ("000001", None, None, True)
        assert (config_set.root / "site.conf").read_text() == "1"
        status = (config_set.current / "auth/shop").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, grp.getgrnam("www-data").gr_gid)
        assert stat.S_IMODE((config_set.current / "empty").stat().st_mode) == 0o700

    def test_a_strict_umask_does_not_lock_readers_out(self, config_set):
        before = os.umask(0o077)
        try:
            config_set({"sub/a.conf": "1"})
        finally:
            os.umask(before)
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (config_set.path, config_set.path / "generations", config_set.current / "sub")]
        assert modes == [0o755, 0o755, 0o755]

    def test_the_same_again_changes_nothing(self, installed):
        result = installed({"a.conf": "1"})
        assert (result["changed"], result["generation"], result["msg"]) == (False, "000001", "generation 000001 is live already")

    def test_what_is_no_longer_declared_is_gone_with_its_link(self, config_set):
        config_set({"a.conf": "1", "b.conf": "2"}, links=config_set.link())
        config_set({"b.conf": "2"})
        assert sorted(os.listdir(config_set.current)) == [".manifest.json", "b.conf"]
        assert not os.path.lexists(config_set.root / "site.conf")

    @pytest.mark.parametrize(
        "meddle",
        [
            lambda live: (live / "a.conf").write_text("edited"),
            lambda live: (live / "a.conf").chmod(0o600),
            lambda live: os.chown(live / "a.conf", 65534, 65534),
            lambda live: (live / "a.conf").unlink(),
            lambda live: (live / "a.conf~").write_text("backup"),
            lambda live: (live / ".manifest.json").write_text("{"),
        ],
        ids=["edited", "mode", "owner", "removed", "added", "manifest"],
    )
    def test_a_change_by_hand_is_replaced_by_a_new_generation(self, installed, meddle):
        meddle(installed.current)
        result = installed({"a.conf": "1"})
        assert (result["changed"], result["generation"]) == (True, "000002")
        assert sorted(os.listdir(installed.current)) == [".manifest.json", "a.conf"]
        assert not installed({"a.conf": "1"})["changed"]

    def test_a_change_by_hand_is_reported(self, installed):
        (installed.current / "a.conf").write_text("edited")
        result = installed({"a.conf": "1"}, diff=True)
        assert "generation 000001 had been changed by hand: a.conf" in result["msg"]
        assert [(part["before"], part["after"]) for part in result["diff"]] == [("edited\n", "1\n")]

    def test_a_link_that_somebody_removed_comes_back_as_a_new_generation(self, config_set):
        config_set({"a.conf": "1"}, links=config_set.link())
        (config_set.root / "site.conf").unlink()
        result = config_set({"a.conf": "1"}, links=config_set.link())
        assert (result["generation"], (config_set.root / "site.conf").read_text()) == ("000002", "1")

    def test_old_generations_are_removed(self, config_set):
        for number in range(1, 6):
            config_set.store.mark_applied(config_set({"a.conf": str(number)}, keep=2)["generation"])
        assert config_set.store.generations() == ["000004", "000005"]

    def test_pending_ends_when_the_generation_is_applied(self, installed):
        installed.store.mark_applied("000001")
        result = installed({"a.conf": "1"})
        assert (result["applied"], result["pending"]) == ("000001", False)


class Selinux:
    """A host whose policy gives every place a type of its own. A label belongs to the inode, so it survives a rename."""

    def __init__(self, path):
        self.path = path
        path.write_text("{}")

    def context(self, path):
        return json.loads(self.path.read_text()).get(str(os.lstat(path).st_ino), "unlabeled_t")

    def set(self, path, context):
        self.path.write_text(json.dumps({**json.loads(self.path.read_text()), str(os.lstat(path).st_ino): context}))

    def default(self, path, mode):
        return f"{stat.S_IFMT(mode):o} of {path}"

    def enable(self):
        """In the process of the module."""
        module = config_set_module.AnsibleModule
        module.selinux_enabled = lambda _module: True
        module.selinux_default_context = lambda _module, path, mode=0: [self.default(path, mode)]
        module.selinux_context = lambda _module, path: [self.context(path)]
        module.set_context_if_different = lambda _module, path, context, changed: self.set(path, context[0])


class TestSelinux:
    @pytest.fixture
    def selinux(self, tmp_path):
        return Selinux(tmp_path / "contexts.json")

    @pytest.fixture
    def links(self, config_set):
        return [str(config_set.current), str(config_set.root / "site.conf")]

    @pytest.fixture
    def install(self, config_set, selinux):
        return lambda text: config_set({"a.conf": text}, links=config_set.link(), prepare=selinux.enable)

    def test_links_have_the_context_of_their_place_from_the_moment_that_they_are_there(self, install, selinux, links):
        install("1")
        assert [selinux.context(link) for link in links] == [selinux.default(link, stat.S_IFLNK) for link in links]
        assert not install("1")["changed"]

    @pytest.mark.parametrize("number", [0, 1], ids=["current", "entry"])
    def test_a_link_with_another_context_is_made_again(self, install, selinux, links, number):
        install("1")
        selinux.set(links[number], "unconfined_t")
        assert install("1")["changed"]
        assert [selinux.context(link) for link in links] == [selinux.default(link, stat.S_IFLNK) for link in links]
        assert not install("1")["changed"]


class TestCheckMode:
    def test_a_virgin_host_is_predicted_and_left_virgin(self, config_set, run_module):
        files = {"a.conf": {"content": "1", "owner": "made-by-this-play"}}
        links = [{"path": "/not-installed-yet/conf.d/site.conf", "target": "a.conf"}]
        arguments = config_set.arguments(files, links=links, validate={"command": ["not-installed-yet"], "tree": "/not-installed-yet"})
        result = run_module("config_set", arguments, check=True)
        assert (result["changed"], result["generation"], result["pending"]) == (True, "000001", True)
        assert not config_set.path.exists()
        warnings = "\n".join(str(warning) for warning in result["warnings"])
        assert "not validated: there is no program not-installed-yet" in warnings
        assert 'there is no user "made-by-this-play"' in warnings

    def test_validation_takes_place(self, installed):
        result = installed({"a.conf": "2"}, check=True, validate={"command": ["grep", "-q", "1", "{staged}/a.conf"]})
        assert result["failed"]
        assert installed.untouched()

    def test_a_live_set_is_left_as_it_is(self, installed):
        before = sorted(str(path) for path in installed.path.rglob("*"))
        assert installed({"a.conf": "2"}, check=True)["generation"] == "000002"
        assert installed(state="absent", check=True)["changed"]
        assert sorted(str(path) for path in installed.path.rglob("*")) == before


class TestChangedParts:
    PARTS = r"^\[program:(.+)\]$"

    def install(self, config_set, content, **options):
        return config_set({"a.conf": {"content": content, "parts": self.PARTS}}, **options).get("changed_parts")

    @pytest.mark.parametrize("check", [True, False], ids=["check", "real"])
    def test_changed_new_and_gone_parts_are_named_and_none_else(self, config_set, check):
        former = "; header\n[program:shop]\na=1\n\n[program:blog]\na=1\n\n[program:gone]\na=1\n"
        assert self.install(config_set, former) == ["blog", "gone", "shop"]
        assert self.install(config_set, former) == []
        assert self.install(config_set, "; other\n[program:new]\na=1\n[program:blog]\na=1\n[program:shop]\na=2", check=check) == ["gone", "new", "shop"]

    def test_a_pattern_without_a_group_is_refused(self, config_set):
        result = config_set({"a.conf": {"content": "[x]", "parts": r"^\[x\]$"}})
        assert result["failed"] and "parts is not a regular expression with a group" in result["msg"] and not config_set.current.exists()


class TestDiff:
    def test_one_list_shows_files_modes_links_and_metadata(self, config_set):
        config_set({"a.conf": "1", "gone": "x", "mode": "m"})
        files = {"a.conf": "2", "new": "y", "mode": {"content": "m", "mode": "0600"}}
        result = config_set(files, diff=True, links=config_set.link(), metadata={"programs": ["shop"]})
        parts = {part["after_header"].replace(f"{config_set.current}/", ""): (part["before"], part["after"]) for part in result["diff"]}
        attributes = "file, mode {}, owner root, group root\n"
        assert parts == {
            "a.conf": ("1\n", "2\n"),
            "gone": (attributes.format("0644") + "x\n", ""),
            "mode": (attributes.format("0644") + "m\n", attributes.format("0600") + "m\n"),
            "new": ("", attributes.format("0644") + "y\n"),
            "links": ("", f"{config_set.root}/site.conf -> {config_set.current}/a.conf\n"),
            "metadata": ("", '{\n "programs": [\n  "shop"\n ]\n}\n'),
        }

    def test_a_mask_that_was_taken_away_still_masks_the_old_value(self, config_set):
        config_set({"a.conf": {"content": "pw=hunter2\n", "mask": ["^(pw=)"]}})
        result = config_set({"a.conf": "no password\n"}, diff=True)
        assert "hunter2" not in json.dumps(result)
        assert result["diff"][0]["before"] == "pw=********\n"

    def test_of_a_brief_file_the_checksum_is_shown(self, config_set):
        config_set({"code.py": {"content": "print(1)\n", "brief": True}})
        (part,) = config_set({"code.py": {"content": "print(2)\n", "brief": True}}, diff=True)["diff"]
        shown = [part["before"], part["after"]]
        assert shown == [f"(sha256 {hashlib.sha256(code).hexdigest()})\n" for code in (b"print(1)\n", b"print(2)\n")]

    def test_an_editor_backup_of_a_secret_is_not_shown(self, installed):
        (installed.current / "a.conf~").write_text("hunter2")
        assert "hunter2" not in json.dumps(installed({"a.conf": "1"}, diff=True))


class TestObstacles:
    def test_a_foreign_file_where_a_link_belongs_is_left_alone(self, installed):
        (installed.root / "site.conf").write_text("foreign")
        result = installed({"a.conf": "2"}, links=installed.link())
        assert f"{installed.root}/site.conf: the link of {installed.path} belongs here, but a file" in result["msg"]
        assert (installed.root / "site.conf").read_text() == "foreign"
        assert installed.untouched()

    def test_a_foreign_symbolic_link_is_left_alone(self, installed):
        (installed.root / "site.conf").symlink_to("/etc/hostname")
        result = installed({"a.conf": "2"}, links=installed.link())
        assert "a symbolic link to /etc/hostname that is not ours" in result["msg"]
        assert installed.untouched()

    def test_a_directory_for_a_link_that_is_missing_is_named(self, installed):
        result = installed({"a.conf": "2"}, links=[{"path": "/no/such/directory/x", "target": "a.conf"}])
        assert "no directory for /no/such/directory/x" in result["msg"]
        assert installed.untouched()

    @pytest.mark.parametrize("make", [lambda path: path.write_text(""), lambda path: path.symlink_to("/tmp")], ids=["file", "symlink"])
    def test_a_path_that_is_no_directory_is_refused(self, config_set, make):
        make(config_set.path)
        result = config_set({"a.conf": "1"})
        assert f"{config_set.path} is not a directory of its own" in result["msg"]

    @pytest.mark.parametrize(("option", "words"), [("owner", 'no user "nonesuch"'), ("group", 'no group "nonesuch"')])
    def test_an_unknown_owner_is_named_before_anything_is_touched(self, config_set, option, words):
        result = config_set({"a.conf": {"content": "1", option: "nonesuch"}})
        assert words in result["msg"]
        assert not config_set.path.exists()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"path": "relative"}, 'path: "relative" has to be an absolute path'),
            ({"path": "/"}, 'path: "/" has to be'),
            ({"keep": 0}, "keep: 0 is not"),
            ({"validate": {"command": ["true"], "substitute": [{"pattern": "(", "replacement": ""}]}}, "validate: '(' is not a regular expression"),
            ({"validate": {"command": ["no-such-validator"]}}, "validate: there is no program no-such-validator on this host"),
        ],
    )
    def test_bad_options_are_named(self, installed, arguments, words):
        assert words in installed({"a.conf": "2"}, **arguments)["msg"]
        assert installed.untouched()

    def test_the_module_without_its_action_plugin_says_so(self, config_set):
        assert "through its action plugin" in config_set(state="present")["msg"]

    def test_a_full_disk_leaves_the_old_set_live(self, installed):
        big = {"a.conf": "2", "big": "x" * 200_000}
        with filesystem(installed.path, "size=64k"):
            assert installed({"a.conf": "1"})["changed"]
            result = installed(big)
            assert "No space left on device. Generation 000001" in result["msg"]
            assert installed.untouched()
            assert installed({"a.conf": "2"})["changed"]

    def test_a_read_only_directory_leaves_the_old_set_live(self, installed):
        with filesystem(installed.path, "size=64k"):
            installed({"a.conf": "1"})
            subprocess.run(["mount", "-o", "remount,ro", installed.path], check=True)
            result = installed({"a.conf": "2"})
            assert "Read-only file system. Generation 000001" in result["msg"]
            assert installed.untouched()


@contextlib.contextmanager
def filesystem(path, options):
    """A small file system of its own at path."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


class TestStates:
    def test_previous_turns_the_links_back_too(self, installed):
        installed.store.mark_applied("000001")
        installed({"b.conf": "2"}, links=installed.link(target="b.conf"))
        result = installed(state="previous")
        assert (result["changed"], result["generation"], result["previous"], result["pending"]) == (True, "000001", "000002", False)
        assert (installed.current / "a.conf").read_text() == "1"
        assert not os.path.lexists(installed.root / "site.conf")

    def test_previous_is_validated_where_asked(self, installed):
        installed({"a.conf": "2"})
        result = installed(state="previous", validate={"command": ["grep", "-q", "2", "{staged}/a.conf"]})
        assert result["failed"]
        assert (installed.current / "a.conf").read_text() == "2"

    def test_previous_without_a_generation_before_is_an_error(self, config_set):
        assert "no live generation" in config_set(state="previous")["msg"]
        assert not config_set.path.exists()

    def test_absent_removes_everything_that_is_ours(self, config_set):
        config_set({"a.conf": "1"}, links=config_set.link())
        config_set.store.mark_applied("000001")
        Journal(str(config_set.path)).write(["shop:shop_00"])
        assert config_set(state="absent")["changed"]
        assert sorted(os.listdir(config_set.root)) == ["archive.tar", "tmp"]
        assert not config_set(state="absent")["changed"]

    def test_absent_leaves_what_is_not_ours(self, installed):
        (installed.path / "notes").write_text("foreign")
        installed(state="absent")
        assert os.listdir(installed.path) == ["notes"]
        assert not installed(state="absent")["changed"]


class TestValidation:
    def test_its_outcome_is_returned_and_speaks_of_the_real_place(self, config_set):
        result = config_set({"a.conf": "1"}, validate={"command": ["sh", "-c", "echo $WHO; ls $0", "{staged}/a.conf"], "environment": {"WHO": "me"}})
        assert result["validation"]["rc"] == 0
        assert result["validation"]["stdout"] == f"me\n{config_set.current}/a.conf\n"

    def test_a_refusal_is_told_in_the_words_of_the_program(self, installed):
        result = installed({"a.conf": "2"}, validate={"command": ["sh", "-c", "echo bad word in $0 >&2; exit 3", "{staged}/a.conf"]})
        assert f"sh refuses the configuration (rc 3): bad word in {installed.current}/a.conf" in result["msg"]
        assert "Generation 000001" in result["msg"]
        assert result["validation"]["rc"] == 3
        assert installed.untouched()

    def test_forbidden_output_is_a_failure_although_the_program_is_content(self, installed):
        validate = {"command": ["echo", "[warn] conflicting server name"], "forbid": r"conflicting server name"}
        result = installed({"a.conf": "2"}, validate=validate)
        assert "forbidden" in result["msg"]
        assert installed.untouched()

    def test_secrets_in_the_output_are_masked(self, installed):
        files = {"a.conf": {"content": "pw=hunter2\n", "mask": ["^(pw=)"]}, "auth": {"content": "hunter3\n", "secret": True}}
        result = installed(files, diff=True, validate={"command": ["sh", "-c", "cat $0/*; cat $0/* >&2; exit 1", "{staged}"]})
        assert result["failed"]
        assert "********" in result["msg"]
        assert "hunter" not in json.dumps(result)

    def test_a_validator_that_hangs_is_killed_with_its_children(self, installed):
        fifo = installed.root / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            command = ["sh", "-c", "exec 3>$0; echo so far >&2; sleep 300 & wait", str(fifo)]
            result = installed({"a.conf": "2"}, validate={"command": command, "timeout": 0.5})
            ready, _writable, _exceptional = select.select([reader], [], [], 5)
            assert ready
            assert os.read(reader, 1) == b"", "a process that holds the pipe still lives"
        finally:
            os.close(reader)
        assert "did not answer within 0.5 s and was killed; until then: so far" in result["msg"]
        assert result["validation"]["rc"] is None
        assert installed.untouched()

    def test_a_process_that_the_validator_leaves_behind_does_not_hold_the_run_up(self, installed):
        pid_file = installed.root / "pid"
        try:
            result = installed({"a.conf": "2"}, validate={"command": ["sh", "-c", "setsid sleep 300 & echo $! > $0", str(pid_file)]})
        finally:
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
        assert result["changed"]

    def test_no_copy_outlives_the_run(self, installed):
        installed({"a.conf": "2"}, validate={"command": ["false"]})
        installed({"a.conf": "2"}, check=True, validate={"command": ["true"]})
        assert os.listdir(installed.temporary) == []


CONFLICT = {"forbid": r'conflicting server name "\S+" on [^\s,]+', "advice": "set fcgi_nginx_server_name"}


class TestNginx:
    """nginx's own test follows absolute includes into the live tree; ours does not."""

    @pytest.fixture
    def tree(self, tmp_path):
        confd = tmp_path / "etc/nginx/conf.d"
        confd.mkdir(parents=True)
        main = f"user root;\npid {tmp_path}/live.pid;\nerror_log stderr;\nevents {{}}\nhttp {{ access_log off; include {confd}/*.conf; }}\n"
        (confd.parent / "nginx.conf").write_text(main)
        return confd.parent

    def install(self, config_set, tree, snippet, main="nginx.conf", include_dir=None, **validate):
        return config_set(
            {"nginx.conf": f"include {config_set.current}/locations/*.conf;\n", "locations/shop.conf": snippet},
            links=[{"path": f"{include_dir or tree / 'conf.d'}/fcgi.conf", "target": "nginx.conf"}],
            validate={
                "command": ["nginx", "-t", "-q", "-c", f"{{tree}}/{main}"],
                "tree": str(tree),
                "substitute": [{"pattern": r"^pid\s+[^;]+;", "replacement": "pid {tree}/nginx.pid;"}],
                **validate,
            },
        )

    def test_a_good_snippet_passes_and_the_live_pid_file_is_not_touched(self, config_set, tree):
        result = self.install(config_set, tree, "map $host $shop { default 1; }\n")
        assert not result["failed"], result["msg"]
        assert not (config_set.root / "live.pid").exists()

    def test_a_broken_snippet_that_only_absolute_includes_reach_is_found(self, config_set, tree):
        self.install(config_set, tree, "map $host $shop { default 1; }\n")
        result = self.install(config_set, tree, "broken_directive on;\n")
        assert f'unknown directive "broken_directive" in {config_set.current}/locations/shop.conf:1' in result["msg"]
        assert "default 1" in (config_set.current / "locations/shop.conf").read_text()

    def test_a_broken_snippet_that_is_live_does_not_stop_its_repair(self, config_set, tree):
        self.install(config_set, tree, "map $host $shop { default 1; }\n")
        (config_set.current / "locations/shop.conf").write_text("broken_directive on;\n")
        assert self.install(config_set, tree, "map $host $shop { default 2; }\n")["generation"] == "000002"

    @staticmethod
    def server(name):
        return f"server {{ listen 127.0.0.1:8099; server_name {name}; }}\n"

    def test_a_server_name_of_the_site_is_refused_with_the_way_out(self, config_set, tree):
        (tree / "conf.d/site.conf").write_text(self.server("shop.example.org"))
        result = self.install(config_set, tree, self.server("shop.example.org"), **CONFLICT)
        assert 'conflicting server name "shop.example.org" on 127.0.0.1:8099' in result["msg"]
        assert result["msg"].splitlines()[-2] == "set fcgi_nginx_server_name"
        assert not config_set.current.exists()

    def test_a_conflict_that_the_site_has_with_itself_is_none_of_ours(self, config_set, tree):
        (tree / "conf.d/site.conf").write_text(self.server("a.example.org") * 2)
        result = self.install(config_set, tree, self.server("shop.example.org"), **CONFLICT)
        assert not result["failed"], result["msg"]
        result = self.install(config_set, tree, self.server("a.example.org"), **CONFLICT)
        assert 'conflicting server name "a.example.org"' in result["msg"]

    def test_a_main_file_of_another_name_and_links_beside_its_directory_are_tested_as_staged(self, config_set, tree):
        beside = config_set.root / "beside"
        beside.mkdir()
        main = (tree / "nginx.conf").read_text().replace(f"{tree}/conf.d", str(beside))
        (tree / "main.conf").write_text(main)
        (tree / "nginx.conf").write_text("not a configuration")
        where = {"main": "main.conf", "include_dir": beside}
        assert not self.install(config_set, tree, "map $host $shop { default 1; }\n", **where)["failed"]
        result = self.install(config_set, tree, "broken_directive on;\n", **where)
        assert f'unknown directive "broken_directive" in {config_set.current}/locations/shop.conf:1' in result["msg"]


class TestShared:
    """Two sets beside each other that have one link for both."""

    @pytest.fixture
    def first(self, tmp_path):
        return self.beside(tmp_path, "first")

    @pytest.fixture
    def second(self, tmp_path):
        return self.beside(tmp_path, "second")

    @staticmethod
    def beside(tmp_path, name):
        root = tmp_path / name
        root.mkdir()
        return ConfigSet(root)

    @staticmethod
    def serve(config_set, *names, **options):
        root = config_set.root.parent
        links = [{"path": f"{root}/{name}.conf", "target": f"servers/{name}", "shared": True} for name in names]
        return config_set({f"servers/{name}": "server" for name in names} or {"none": ""}, links=links, **options)

    @staticmethod
    def server(config_set, name="shop"):
        link = config_set.root.parent / f"{name}.conf"
        return os.readlink(link) if link.is_symlink() else None

    def test_the_first_one_makes_it_and_the_second_one_finds_it_there(self, first, second):
        assert self.serve(first, "shop")["changed"]
        assert self.serve(second, "shop")["changed"]
        assert self.server(first) == f"{first.current}/servers/shop"
        for config_set in (first, second):
            assert not self.serve(config_set, "shop")["changed"]

    @pytest.mark.parametrize("leave", ["declares it no longer", "is removed"])
    def test_it_passes_to_the_other_one_when_its_holder_goes(self, first, second, leave):
        self.serve(first, "shop")
        self.serve(second, "shop")
        result = self.serve(first) if leave == "declares it no longer" else first(state="absent")
        assert not result["failed"], result["msg"]
        assert self.server(first) == f"{second.current}/servers/shop"
        assert not self.serve(second, "shop")["changed"]
        self.serve(second)
        assert self.server(first) is None

    def test_one_that_does_not_hold_it_leaves_it_where_it_is(self, first, second):
        self.serve(first, "shop")
        self.serve(second, "shop")
        second(state="absent")
        assert self.server(first) == f"{first.current}/servers/shop"

    def test_turning_back_gives_it_away_and_takes_it_again(self, first, second):
        self.serve(first)
        self.serve(first, "shop")
        self.serve(second, "shop")
        first(state="previous")
        assert self.server(first) == f"{second.current}/servers/shop"
        second(state="absent")
        self.serve(first, "shop")
        assert self.server(first) == f"{first.current}/servers/shop"

    def test_one_whose_set_was_deleted_by_hand_is_taken_over(self, first, second):
        self.serve(first, "shop")
        shutil.rmtree(first.path)
        assert self.serve(second, "shop")["changed"]
        assert self.server(second) == f"{second.current}/servers/shop"

    @pytest.fixture
    def confd(self, tmp_path):
        confd = tmp_path / "etc/nginx/conf.d"
        confd.mkdir(parents=True)
        main = f"pid {tmp_path}/live.pid;\nerror_log stderr;\nevents {{}}\nhttp {{ access_log off; include {confd}/*.conf; }}\n"
        (confd.parent / "nginx.conf").write_text(main)
        return confd

    @staticmethod
    def locate(config_set, confd, location):
        """Have a location in the server of all sets; none without it."""
        links = [
            {"path": f"{confd}/server.conf", "target": "servers/server.conf", "shared": True},
            {"path": f"{confd}/.{config_set.root.name}.d", "target": "sites"},
        ]
        files = {"servers/server.conf": f"server {{ listen 127.0.0.1:8099; include {confd}/.*.d/site.conf; }}\n", "sites/site.conf": location}
        validate = {"command": ["nginx", "-t", "-c", "{tree}/nginx.conf"], "tree": str(confd.parent)}
        validate["substitute"] = [{"pattern": r"^pid\s+[^;]+;", "replacement": "pid {tree}/nginx.pid;"}]
        return config_set(files if location else {"none": ""}, links=links if location else [], validate=validate)

    def test_what_a_set_adds_to_the_server_that_another_one_holds_is_validated_as_staged(self, first, second, confd):
        self.locate(first, confd, "location /first { return 200; }")
        result = self.locate(second, confd, "broken_directive on;")
        assert f'unknown directive "broken_directive" in {confd}/.second.d/site.conf:1' in result["msg"]
        result = self.locate(second, confd, "location /first { return 200; }")
        assert 'duplicate location "/first"' in result["msg"]
        assert self.locate(second, confd, "location /second { return 200; }")["changed"]

    def test_what_a_set_takes_out_of_a_server_is_not_asked_of_the_live_one(self, first, second, confd):
        self.locate(first, confd, "location /first { return 200; }")
        self.locate(second, confd, "location /second { return 200; }")
        for config_set in (first, second):
            (config_set.current / "sites" / "site.conf").write_text("broken_directive on;")
            result = self.locate(config_set, confd, None)
            assert not result["failed"], result["msg"]

    def test_a_foreign_link_in_its_place_is_left_alone(self, first):
        (first.root.parent / "shop.conf").symlink_to("/etc/hostname")
        assert "that is not ours is in the way" in self.serve(first, "shop")["msg"]
        assert self.server(first) == "/etc/hostname"

    def test_check_mode_and_diff_tell_of_the_passing(self, first, second):
        self.serve(first, "shop")
        self.serve(second, "shop")
        result = self.serve(first, check=True, diff=True)
        (links,) = (part for part in result["diff"] if part["before_header"] == "links")
        assert f"{second.current}/servers/shop" in links["after"]
        assert self.server(first) == f"{first.current}/servers/shop"


class Playbook:
    """A play of config_set tasks against this machine, by ansible-playbook."""

    def __init__(self, root, collections_path):
        self.root = root
        self.environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(collections_path),
            "ANSIBLE_LOCAL_TEMP": str(root / "local"),
            "ANSIBLE_REMOTE_TEMP": str(root / "remote"),
            "ANSIBLE_NOCOLOR": "1",
        }

    def run(self, *tasks, options=(), variables=None):
        """Run the tasks, whether they fail or not; returns the finished process. Each task is the arguments of one config_set."""
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **(variables or {})},
            "tasks": [{"webops.fastcgi.config_set": {"path": str(self.root / "set"), **task}, "ignore_errors": True} for task in tasks],
        }
        (self.root / "play.yml").write_text(json.dumps([play]))
        command = [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", *options, str(self.root / "play.yml")]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def playbook(tmp_path, collections_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "files").mkdir()
    return Playbook(tmp_path, collections_path)


class TestPlaybook:
    def test_templates_files_and_text_are_rendered_on_the_controller(self, playbook):
        (playbook.root / "templates/site.conf.j2").write_text(
            "# {{ ansible_managed }}\n{% include 'part.j2' %}\n\n{% for name in names %}\nserver {{ name }} \\d;\n{% endfor %}\n{{ greeting }}\n"
        )
        (playbook.root / "templates/part.j2").write_text("part for {{ names | length }}")
        (playbook.root / "files/raw").write_bytes(b"\xff{{ raw }}\n")
        task = {
            "files": [
                {"path": "one.conf", "template": "site.conf.j2", "vars": {"names": ["a", "b"]}},
                {"path": "two.conf", "template": "site.conf.j2", "vars": {"names": ["c"]}, "mode": "0600"},
                {"path": "raw", "src": "raw"},
                {"path": "json", "content": "{{ {'a': 1} | to_json }} \n"},
            ]
        }
        done = playbook.run(task, task, variables={"greeting": "{{ 'hel' ~ 'lo' }}"})
        assert "ok=2    changed=1" in done.stdout, done.stdout + done.stderr
        assert "DEPRECATION" not in done.stdout + done.stderr
        live = playbook.root / "set/current"
        assert (live / "one.conf").read_text() == "# Ansible managed\npart for 2\nserver a \\d;\nserver b \\d;\nhello\n"
        assert (live / "two.conf").read_text() == "# Ansible managed\npart for 1\nserver c \\d;\nhello\n"
        assert (live / "raw").read_bytes() == b"\xff{{ raw }}\n"
        assert (live / "json").read_text() == '{"a": 1} \n'

    def test_files_that_cannot_be_rendered_are_named(self, playbook):
        mistakes = {
            "files[a]: needs exactly one of content, src, template; it has none": {"path": "a"},
            "files[b]: needs exactly one of content, src, template; it has content and src": {"path": "b", "content": "x", "src": "y"},
            "files[0]: has to be a dictionary with a path": {"content": "x"},
            "files[c]: Could not find or access 'nonesuch.j2'": {"path": "c", "template": "nonesuch.j2"},
            "files[d].content: has to be text": {"path": "d", "content": 5},
        }
        done = playbook.run(*({"files": [item]} for item in mistakes.values()))
        assert f"ignored={len(mistakes)}" in done.stdout
        assert [words for words in mistakes if words not in done.stdout + done.stderr] == []

    def test_secrets_are_seen_nowhere(self, playbook):
        """Neither in the most verbose output, nor in the syslog of the host, nor in what is left in temporary directories."""
        spies = playbook.root / "spies"
        spies.mkdir()
        (spies / "sitecustomize.py").write_text(
            "import os, sys, syslog\n"
            "sys.modules['systemd'] = None\n"  # the journal would be preferred
            "syslog.syslog = lambda *words: print(*words, file=open(os.environ['SPY_LOG'], 'a'))\n"
        )
        playbook.environment.update(PYTHONPATH=str(spies), SPY_LOG=str(spies / "syslog"))
        (playbook.root / "templates/ini.j2").write_text("[x]\n  DB={{ password }}\n")
        files = [
            {"path": "auth", "content": "{{ password }}", "secret": True, "mode": "0600"},
            {"path": "ini", "template": "ini.j2", "mode": "0600", "mask": [r"^(\s+\w+=).*$"]},
        ]
        former = [{**files[0], "content": "{{ former_password }}"}, files[1]]
        refused = {"files": files, "validate": {"command": ["sh", "-c", "cat $0/* >&2; false", "{staged}"]}}
        unusable = {"files": [*files, {"path": "/absolute", "content": "{{ password }}"}]}
        unrendered = {"files": [*files, {"path": "b", "content": "{{ password | no_such_filter }}"}]}
        secret = playbook.root / "secret.json"
        secret.write_text(json.dumps({"password": "hunter2", "former_password": "hunter1"}))
        tasks = [{"files": former}, {"files": files}, {"state": "previous"}, refused, unusable, unrendered, {"state": "absent"}]
        done = playbook.run(*tasks, options=["-vvvvv", "--diff", "-e", f"@{secret}"])
        assert "changed=4 " in done.stdout
        assert "ignored=3 " in done.stdout
        assert "******** (changed)" in done.stdout
        assert "hunter" not in done.stdout + done.stderr
        syslog = (spies / "syslog").read_text()
        assert "Invoked with path=" in syslog
        assert "hunter" not in syslog
        left = [path for directory in ("local", "remote") for path in (playbook.root / directory).rglob("*") if path.is_file()]
        assert left == []
