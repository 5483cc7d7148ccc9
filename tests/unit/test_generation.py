# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations: the store, declarations, differences, and the copies for validation."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import stat

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import generation_check as check
from ansible_collections.webops.fastcgi.plugins.module_utils import generation_content as content
from ansible_collections.webops.fastcgi.plugins.module_utils import generation_diff as diff
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationError, GenerationStore


@pytest.fixture
def store(tmp_path):
    store = GenerationStore(str(tmp_path / "set"))
    store.prepare()
    return store


def declaration(store, files=(), links=(), metadata=None, directories=()):
    files = [{"path": path, **(options if isinstance(options, dict) else {"content": options})} for path, options in dict(files).items()]
    contents = {item["path"]: item.get("content", "").encode() for item in files}
    links = [{"path": path, "target": target} for path, target in dict(links).items()]
    return content.declare(store.path, files, list(directories), links, metadata or {}, contents)


def install(store, files=(), links=(), metadata=None):
    """Make a generation live; returns its name."""
    declared = declaration(store, files, links, metadata)
    name = store.next_name()
    content.stage(declared, store.staging_path(name), content.expected(declared, content.Identity()))
    store.adopt(store.staging_path(name), name)
    store.switch(name, store.changed_links(declared.links), store.stale_links(declared.links))
    return name


class TestStore:
    def test_nothing_is_live_applied_or_there_before_the_first_generation(self, tmp_path):
        store = GenerationStore(str(tmp_path / "nowhere"))
        assert (store.current(), store.applied(), store.generations(), store.live_manifest()) == (None, None, [], None)
        assert store.metadata_since_applied() == []

    def test_the_newest_installed_generation_is_live(self, store):
        install(store, {"a": "1"})
        assert install(store, {"a": "2"}, metadata={"programs": []}) == store.current() == "000002"
        assert store.live_manifest()["metadata"] == {"programs": []}
        assert store.manifest("000001")["files"][0]["path"] == "a"

    def test_something_foreign_in_place_of_current_is_named(self, store):
        os.symlink("/etc", store.current_path)
        with pytest.raises(GenerationError, match=f"{store.current_path} points to /etc"):
            store.current()

    def test_a_damaged_manifest_is_named(self, store):
        name = install(store, {"a": "1"})
        with open(os.path.join(store.directory(name), ".manifest.json"), "w") as stream:
            stream.write("{")
        with pytest.raises(GenerationError, match="generation 000001 has no readable manifest"):
            store.manifest(name)

    def test_applied_is_what_was_marked_last(self, store):
        store.mark_applied("000001")
        store.mark_applied("000002")
        assert store.applied() == "000002"
        assert sorted(os.listdir(store.path)) == ["applied", "generations"]

    def test_a_second_process_waits_for_the_lock_and_then_gives_up_by_name(self, store):
        with store.lock(1), pytest.raises(GenerationError, match=f"{store.lock_path} for 0.1 s"), store.lock(0.1):
            pass

    def test_the_lock_is_free_again_after_an_error(self, store):
        with contextlib.suppress(ZeroDivisionError), store.lock(1):
            raise ZeroDivisionError
        with store.lock(0):
            pass


class TestMetadataSinceApplied:
    @pytest.fixture
    def four(self, store):
        for number in range(1, 5):
            install(store, {"a": str(number)}, metadata={"number": number})
        return store

    def numbers(self, store):
        return [metadata["number"] for metadata in store.metadata_since_applied()]

    def test_all_earlier_ones_count_when_none_was_applied(self, four):
        assert self.numbers(four) == [1, 2, 3]

    def test_the_applied_one_and_those_in_between_count(self, four):
        four.mark_applied("000002")
        assert self.numbers(four) == [2, 3]

    def test_none_counts_when_the_live_one_is_applied(self, four):
        four.mark_applied("000004")
        assert self.numbers(four) == []

    def test_after_a_roll_back_the_newer_ones_count(self, four):
        four.mark_applied("000004")
        four.switch("000002", [], {})
        assert self.numbers(four) == [3, 4]


class TestPrune:
    def test_the_last_ones_are_kept(self, store):
        for number in range(1, 6):
            store.mark_applied(install(store, {"a": str(number)}))
        store.prune(2)
        assert store.generations() == ["000004", "000005"]

    def test_the_applied_one_and_all_since_are_kept(self, store):
        store.mark_applied(install(store, {"a": "0"}))
        for number in range(1, 5):
            install(store, {"a": str(number)})
        store.prune(1)
        assert store.generations() == ["000001", "000002", "000003", "000004", "000005"]

    def test_the_live_one_is_kept_after_a_roll_back(self, store):
        for number in range(1, 4):
            store.mark_applied(install(store, {"a": str(number)}))
        store.switch("000001", [], {})
        store.prune(1)
        assert store.generations() == ["000001", "000003"]

    def test_what_nobody_ever_applies_does_not_pile_up_unless_it_declares_something(self, store):
        for number in range(1, 4):
            install(store, {"a": str(number)}, metadata={"programs": []} if number == 1 else {})
        store.prune(1)
        assert store.generations() == ["000001", "000003"]


class TestRollbackTarget:
    def test_it_is_the_one_before(self, store):
        for number in range(1, 4):
            store.mark_applied(install(store, {"a": str(number)}))
        assert store.rollback_target() == "000002"

    def test_it_is_the_proved_one_when_the_live_one_is_not(self, store):
        store.mark_applied(install(store, {"a": "proved"}))
        install(store, {"a": "broken"})
        install(store, {"a": "broken as well"})
        assert store.rollback_target() == "000001"

    def test_it_declares_something_else(self, store):
        for text in ("old", "new", "new"):
            store.mark_applied(install(store, {"a": text}))
        assert store.rollback_target() == "000001"

    def test_it_is_an_error_if_there_is_none(self, store):
        with pytest.raises(GenerationError, match="no live generation"):
            store.rollback_target()
        install(store, {"a": "1"})
        with pytest.raises(GenerationError, match="no generation before 000001"):
            store.rollback_target()


class TestDeclaration:
    @pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../b", "", ".", "a//b", "a/", ".manifest.json", "a\0b"])
    def test_a_path_that_is_not_plainly_inside_is_refused(self, store, path):
        with pytest.raises(GenerationError, match="has to be relative"):
            declaration(store, {path: ""})

    def test_a_path_declared_twice_is_refused(self, store):
        with pytest.raises(GenerationError, match='"a" is declared twice'):
            declaration(store, {"a": ""}, directories=[{"path": "a"}])

    def test_a_file_that_is_also_a_directory_is_refused(self, store):
        with pytest.raises(GenerationError, match='"a" is declared as a file, and as the directory'):
            declaration(store, {"a": "", "a/b/c": ""})

    @pytest.mark.parametrize("path", ["conf.d/x", "/etc/../x", "/etc/x/"])
    def test_a_link_path_that_is_not_absolute_is_refused(self, store, path):
        with pytest.raises(GenerationError, match="has to be absolute"):
            declaration(store, {"a": ""}, links={path: "a"})

    def test_a_link_to_nothing_is_refused(self, store):
        with pytest.raises(GenerationError, match=r'links\[/x\].target: "b" is not among'):
            declaration(store, {"a": ""}, links={"/x": "b"})

    @pytest.mark.parametrize("mode", ["u=rw", "0999", "77777", 0o77777, [], ""])
    def test_a_mode_that_is_not_octal_is_refused_by_name(self, store, mode):
        with pytest.raises(GenerationError, match=r"files\[a\].mode"):
            declaration(store, {"a": {"mode": mode}})

    @pytest.mark.parametrize("mode", ["0640", "640", 0o640])
    def test_a_mode_may_be_text_or_a_number(self, store, mode):
        assert declaration(store, {"a": {"mode": mode}}).files[0]["mode"] == "0640"

    @pytest.mark.parametrize(("pattern", "words"), [("(", "is not a regular expression"), ("password=.*", "needs a group")])
    def test_a_mask_that_masks_nothing_is_refused(self, store, pattern, words):
        with pytest.raises(GenerationError, match=words):
            declaration(store, {"a": {"mask": [pattern]}})

    def test_parents_of_files_are_directories_with_mode_0755(self, store):
        assert declaration(store, {"a/b/c": ""}).directories == [{"path": "a", "mode": "0755"}, {"path": "a/b", "mode": "0755"}]

    @pytest.mark.parametrize(
        "other",
        [
            {"files": {"a": {"content": "2"}}},
            {"files": {"a": {"content": "1", "mode": "0600"}}},
            {"files": {"a": {"content": "1", "owner": "nobody"}}},
            {"files": {"a": {"content": "1", "setype": "etc_t"}}},
            {"files": {"a": {"content": "1", "secret": True}}},
            {"files": {"a": "1", "b": "1"}},
            {"files": {"a": "1"}, "links": {"/x": "a"}},
            {"files": {"a": "1"}, "metadata": {"programs": []}},
            {"files": {"a": "1"}, "directories": [{"path": "d"}]},
        ],
    )
    def test_the_digest_covers_everything_declared(self, store, other):
        one = declaration(store, {"a": "1"})
        assert one.manifest["digest"] == declaration(store, {"a": "1"}).manifest["digest"]
        assert one.manifest["digest"] != declaration(store, **other).manifest["digest"]

    def test_no_content_stands_in_the_manifest(self, store):
        assert "hunter2" not in json.dumps(declaration(store, {"a": {"content": "hunter2", "secret": True}}).manifest)

    @pytest.mark.parametrize(("key", "kind"), [("owner", "user"), ("group", "group")])
    def test_an_unknown_owner_is_an_error_but_a_remark_in_check_mode(self, store, key, kind):
        declared = declaration(store, {"a": {key: "no-such-one"}})
        with pytest.raises(GenerationError, match=f'a: {key}: there is no {kind} "no-such-one"'):
            content.expected(declared, content.Identity())
        lenient = content.Identity(lenient=True)
        content.expected(declared, lenient)
        assert len(lenient.unknown) == 1


class TestStaging:
    def test_what_is_staged_is_what_was_expected(self, store, tmp_path):
        declared = declaration(store, {"a/b": {"content": "x", "mode": "0600", "owner": "nobody"}}, directories=[{"path": "e", "mode": "0700"}])
        wanted = content.expected(declared, content.Identity())
        content.stage(declared, str(tmp_path / "staged"), wanted)
        assert content.observe(str(tmp_path / "staged")) == wanted
        assert stat.S_IMODE(os.stat(tmp_path / "staged").st_mode) == 0o755
        assert stat.S_IMODE(os.stat(tmp_path / "staged/.manifest.json").st_mode) == 0o600

    def test_the_umask_of_the_run_does_not_matter(self, store, tmp_path):
        before = os.umask(0o777)
        try:
            declared = declaration(store, {"a/b": {"mode": "0666"}})
            content.stage(declared, str(tmp_path / "staged"), content.expected(declared, content.Identity()))
        finally:
            os.umask(before)
        assert content.observe(str(tmp_path / "staged")) == content.expected(declared, content.Identity())


class FakeSelinux:
    """The part of AnsibleModule that knows SELinux, on a host that has it."""

    def __init__(self):
        self.contexts = {}

    def selinux_enabled(self):
        return True

    def selinux_default_context(self, path, mode):
        kind = {stat.S_IFDIR: "dir", stat.S_IFREG: "file", stat.S_IFLNK: "link"}[stat.S_IFMT(mode)]
        return ["system_u", "object_r", f"{kind}_for_{path.replace('/', '_')}_t", "s0"]

    def selinux_context(self, path):
        return self.contexts.get(path, ["unconfined_u", "object_r", "tmp_t", "s0"])

    def set_context_if_different(self, path, context, changed):
        self.contexts[path] = context
        return True


class TestLabels:
    def test_staged_files_get_the_context_of_their_final_place_unless_one_is_declared(self, store):
        declared = declaration(store, {"a": "", "b": {"setype": "httpd_config_t"}})
        selinux = FakeSelinux()
        content.label(declared, "/staged", "/final", content.Labels(selinux))
        assert selinux.contexts["/staged/a"] == ["system_u", "object_r", "file_for__final_a_t", "s0"]
        assert selinux.contexts["/staged/b"] == ["system_u", "object_r", "httpd_config_t", "s0"]
        assert selinux.contexts["/staged"] == ["system_u", "object_r", "dir_for__final_t", "s0"]

    def test_a_relabelled_file_is_found(self, store):
        directory = store.directory(install(store, {"a": ""}))
        declared = declaration(store, {"a": ""})
        selinux = FakeSelinux()
        assert content.labels_differ(declared, directory, content.Labels(selinux))
        content.label(declared, directory, directory, content.Labels(selinux))
        assert not content.labels_differ(declared, directory, content.Labels(selinux))


def masked(before, after, **entry):
    states = [content.State("file", 0o600, 0, 0, str(hash(text))) if text is not None else None for text in (before, after)]
    observed, wanted = ({"f": state} if state else {} for state in states)
    contents = {"f": after.encode()} if after is not None else {}
    original, diff.read_file = diff.read_file, lambda path: before.encode() if before is not None else None
    try:
        return diff.difference("/live", "/current", observed, wanted, {"f": [entry]}, contents)[0]
    finally:
        diff.read_file = original


MASKS = [r"^(\s+\w+=).*$"]


class TestDifference:
    def test_a_changed_masked_value_is_seen_to_change_but_not_shown(self):
        shown = masked("[x]\n pw=hunter2\n", "[x]\n pw=hunter3\n", mask=MASKS)
        assert shown["before"] == "[x]\n pw=********\n"
        assert shown["after"] == "[x]\n pw=******** (changed)\n"

    def test_an_unchanged_masked_value_beside_a_change_is_the_same_on_both_sides(self):
        shown = masked("[x]\n pw=hunter2\n", "[y]\n pw=hunter2\n", mask=MASKS)
        assert (shown["before"], shown["after"]) == ("[x]\n pw=********\n", "[y]\n pw=********\n")

    def test_masked_values_that_change_places_are_seen_to_change(self):
        shown = masked(" pw=a\n pw=b\n", " pw=b\n pw=a\n", mask=MASKS)
        assert shown["before"] != shown["after"]

    def test_a_secret_file_is_masked_as_a_whole(self):
        shown = masked("hunter2\n", "hunter3\n", secret=True)
        assert (shown["before"], shown["after"]) == ("********\n", "******** (changed)\n")

    def test_new_and_removed_files_show_their_attributes(self):
        assert masked(None, "x\n")["after"] == "file, mode 0600, owner root, group root\nx\n"
        assert masked("x\n", None)["before"] == "file, mode 0600, owner root, group root\nx\n"

    def test_what_nobody_declared_is_masked_as_it_may_be_a_copy_of_a_secret(self):
        assert diff.hider([])("pw=hunter2") == "********"


class TestRedact:
    @pytest.mark.parametrize(
        ("entry", "text"),
        [
            ({"secret": True}, "hunter2\n"),
            ({"secret": True}, "first line\nhunter2\n"),
            ({"mask": [r"^(\s+environment=).*$"]}, '  environment=DB="hunter2",X="y"\n'),
            ({"mask": [r"^(pw=).*$"]}, "pw=hunter2;\n"),
        ],
    )
    def test_no_form_of_a_secret_survives(self, entry, text):
        assert "hunter2" not in diff.redact('bad value "hunter2" near hunter2;', diff.secrets_of(entry, text.encode()))

    def test_what_is_no_secret_stays_readable(self):
        secrets = diff.secrets_of({"mask": ["^(pw=).*"]}, b"user=shop\npw=hunter2\n")
        assert diff.redact("shop.conf:2: bad value hunter2", secrets) == "shop.conf:2: bad value ********"

    def test_what_a_program_unescapes_or_quotes_is_found_as_well(self):
        secrets = diff.secrets_of({"mask": ["^(pw=).*"]}, rb"pw=50%%\off")
        assert "off" not in diff.redact(r"value 50%\off or '50%%\\off'", secrets)

    def test_a_short_secret_does_not_eat_numbers(self):
        assert diff.redact("x.conf:10: 1", {"1"}) == "x.conf:10: ********"


class TestScratch:
    def build(self, tmp_path, **options):
        staged, tree, work = (tmp_path / name for name in ("staged", "etc/nginx", "work"))
        for directory in (staged, tree / "conf.d", work):
            directory.mkdir(parents=True, exist_ok=True)
        settings = {"tree": str(tree), "substitute": [], "links": {}, **options}
        return check.build_scratch(str(work), str(staged), "/etc/fcgi/current", **settings)

    def test_paths_of_the_tree_and_of_the_live_set_lead_to_the_copies(self, tmp_path):
        tree = tmp_path / "etc/nginx"
        tree.mkdir(parents=True)
        (tree / "nginx.conf").write_text(f"include {tree}/conf.d/*.conf; include /etc/fcgi/current/x; include {tree}2/y; include /opt{tree}/z;")
        scratch = self.build(tmp_path)
        expected = f"include {scratch.tree}/conf.d/*.conf; include {scratch.staged}/x; include {tree}2/y; include /opt{tree}/z;"
        assert pathlib.Path(scratch.tree, "nginx.conf").read_text() == expected

    def test_staged_files_that_name_the_live_set_mean_themselves(self, tmp_path):
        (tmp_path / "staged").mkdir()
        (tmp_path / "staged/a").write_text("include /etc/fcgi/current/b;")
        scratch = self.build(tmp_path, tree=None)
        assert pathlib.Path(scratch.staged, "a").read_text() == f"include {scratch.staged}/b;"

    def test_links_in_the_tree_are_made_as_they_will_be(self, tmp_path):
        confd = tmp_path / "etc/nginx/conf.d"
        confd.mkdir(parents=True)
        for name in ("ours.conf", "stale.conf"):
            (confd / name).symlink_to("/etc/fcgi/current/old")
        (confd / "elsewhere.conf").symlink_to("/dev/null")
        (confd / "sibling.conf").symlink_to(f"{confd}/ours.conf")
        scratch = self.build(tmp_path, links={f"{confd}/ours.conf": "/etc/fcgi/current/new", f"{confd}/stale.conf": None})
        links = {name: os.readlink(f"{scratch.tree}/conf.d/{name}") for name in os.listdir(f"{scratch.tree}/conf.d")}
        assert links == {
            "ours.conf": f"{scratch.staged}/new",
            "elsewhere.conf": "/dev/null",
            "sibling.conf": f"{scratch.tree}/conf.d/ours.conf",
        }

    def test_a_link_in_a_directory_that_lies_elsewhere_is_not_made_there(self, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "ours.conf").symlink_to("/etc/fcgi/current/old")
        tree = tmp_path / "etc/nginx"
        tree.mkdir(parents=True)
        (tree / "sites").symlink_to(elsewhere)
        scratch = self.build(tmp_path, links={f"{tree}/sites/ours.conf": "/etc/fcgi/current/new"})
        assert os.readlink(f"{scratch.tree}/sites/ours.conf") == f"{scratch.staged}/new"
        assert os.readlink(elsewhere / "ours.conf") == "/etc/fcgi/current/old"

    def test_a_tree_that_is_a_symbolic_link_is_copied_under_both_its_names(self, tmp_path):
        real = tmp_path / "opt/nginx"
        (real / "conf.d").mkdir(parents=True)
        tree = tmp_path / "link"
        tree.symlink_to(real)
        (real / "nginx.conf").write_text(f"{tree}/a {real}/b")
        scratch = self.build(tmp_path, tree=str(tree), links={f"{tree}/conf.d/ours.conf": "/etc/fcgi/current/new"})
        assert pathlib.Path(scratch.tree, "nginx.conf").read_text() == f"{scratch.tree}/a {scratch.tree}/b"
        assert os.listdir(real / "conf.d") == []

    def test_a_relative_link_that_leads_out_of_the_tree_leads_to_the_same_file(self, tmp_path):
        enabled = tmp_path / "etc/nginx/sites-enabled"
        enabled.mkdir(parents=True)
        (tmp_path / "etc/site.conf").write_text("theirs")
        (tmp_path / "etc/nginx/shop.conf").write_text("include /etc/fcgi/current/shop.conf;")
        (enabled / "outside.conf").symlink_to("../../site.conf")
        (enabled / "inside.conf").symlink_to("../shop.conf")
        scratch = self.build(tmp_path)
        assert pathlib.Path(scratch.tree, "sites-enabled/outside.conf").read_text() == "theirs"
        assert pathlib.Path(scratch.tree, "sites-enabled/inside.conf").read_text() == f"include {scratch.staged}/shop.conf;"

    def test_a_file_outside_of_the_tree_that_a_link_brings_in_is_copied_with_what_it_includes(self, tmp_path):
        confd = tmp_path / "etc/nginx/conf.d"
        confd.mkdir(parents=True)
        (tmp_path / "site.conf").write_text(f"include /etc/fcgi/current/shop.conf; include {confd}/part;")
        (confd / "site.conf").symlink_to(tmp_path / "site.conf")
        scratch = self.build(tmp_path, links={f"{confd}/other.conf": f"{tmp_path}/site.conf"})
        for name in ("site.conf", "other.conf"):
            assert pathlib.Path(scratch.tree, "conf.d", name).read_text() == f"include {scratch.staged}/shop.conf; include {scratch.tree}/conf.d/part;"

    def test_a_link_outside_of_the_tree_is_made_in_a_copy_of_its_directory(self, tmp_path):
        tree, beside = tmp_path / "etc/nginx", tmp_path / "srv/sites"
        for directory in (tree, beside):
            directory.mkdir(parents=True)
        (tree / "nginx.conf").write_text(f"include {beside}/*.conf;")
        (beside / "theirs.conf").write_text("theirs")
        scratch = self.build(tmp_path, links={f"{beside}/ours.conf": "/etc/fcgi/current/new"})
        copy = pathlib.Path(pathlib.Path(scratch.tree, "nginx.conf").read_text()[len("include ") :]).parent
        assert copy != beside
        assert (copy / "theirs.conf").read_text() == "theirs"
        assert os.readlink(copy / "ours.conf") == f"{scratch.staged}/new"
        assert os.listdir(beside) == ["theirs.conf"]
        assert scratch.translate(f"error in {copy}/ours.conf:1") == f"error in {beside}/ours.conf:1"

    def test_substitutions_apply_by_line_and_know_the_copies(self, tmp_path):
        tree = tmp_path / "etc/nginx"
        tree.mkdir(parents=True)
        (tree / "nginx.conf").write_text("user x;\npid /run/nginx.pid;\n")
        scratch = self.build(tmp_path, substitute=[{"pattern": r"^\s*pid\s+[^;]+;", "replacement": "pid {tree}/nginx.pid;"}])
        assert pathlib.Path(scratch.tree, "nginx.conf").read_text() == f"user x;\npid {scratch.tree}/nginx.pid;\n"

    def test_binary_files_and_undecodable_ones_are_copied_as_they_are(self, tmp_path):
        tree = tmp_path / "etc/nginx"
        tree.mkdir(parents=True)
        samples = {"binary": b"\0/etc/fcgi/current", "latin1": b"caf\xe9"}
        for name, data in samples.items():
            (tree / name).write_bytes(data)
        scratch = self.build(tmp_path)
        assert {name: pathlib.Path(scratch.tree, name).read_bytes() for name in samples} == samples

    def test_messages_speak_of_the_real_places(self, tmp_path):
        scratch = self.build(tmp_path)
        assert scratch.translate(f"error in {scratch.tree}/a and {scratch.staged}/b") == f"error in {tmp_path}/etc/nginx/a and /etc/fcgi/current/b"
