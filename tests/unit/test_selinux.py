# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of SELinux's policy is there: by the files of a policy, and by a libsemanage that answers as the real one does."""

from __future__ import annotations

import types

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import selinux

SOCKETS, RELEASES = "/run/fastcgi(/.*)?", "/srv/fcgi(/.*)?"
NONE = {"contexts": {}, "ports": [], "booleans": []}


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """policy(NAME=TEXT, ...): the policy's files of contexts, local and subs_dist."""
    monkeypatch.setattr(selinux, "CONFIG", str(tmp_path))
    monkeypatch.setattr(selinux, "semanage", None)
    monkeypatch.setattr(selinux, "SEMANAGE", str(tmp_path / "semanage"))
    (tmp_path / "config").write_text("SELINUX=enforcing\nSELINUXTYPE=strict\n")
    directory = tmp_path / "strict/contexts/files"
    directory.mkdir(parents=True)

    def write(**files):
        for name, text in files.items():
            (directory / f"file_contexts.{name}").write_text(text)

    return write


@pytest.mark.parametrize(
    ("subs", "pattern"),
    [
        ("/run /var/run\n", "/var/run/fastcgi(/.*)?"),  # EL9
        ("/var/run /run\n", SOCKETS),  # EL10, Debian
        ("# /run /nowhere\n\n/run/lock /var/lock\n", SOCKETS),
        ("", SOCKETS),
    ],
)
def test_a_pattern_is_written_as_the_policy_knows_its_path(policy, subs, pattern):
    policy(subs_dist=subs)
    assert selinux.target(SOCKETS) == pattern


def test_a_context_is_there_if_the_site_has_added_it_with_that_type(policy):
    policy(
        subs_dist="/run /var/run\n",
        local="# made by semanage\n\n/var/run/fastcgi(/.*)?    system_u:object_r:httpd_var_run_t:s0\n"
        "/srv/fcgi(/.*)?  --  system_u:object_r:var_t:s0\n/x <<none>>\n",
    )
    found = selinux.missing({**NONE, "contexts": {SOCKETS: "httpd_var_run_t", RELEASES: "httpd_sys_content_t", "/x": "etc_t"}})
    assert [item["pattern"] for item in found["contexts"]] == [RELEASES, "/x"]
    assert found["contexts"][0] == {"pattern": RELEASES, "target": RELEASES, "setype": "httpd_sys_content_t"}


def test_without_a_policy_or_semanage_everything_is_missing_but_the_ports_of_the_stock_policy(policy):
    wanted = {"contexts": {SOCKETS: "httpd_var_run_t"}, "ports": [80, 8080, 8100], "booleans": ["httpd_can_network_connect"]}
    found = selinux.missing(wanted)
    assert ([item["target"] for item in found["contexts"]], found["ports"], found["booleans"]) == ([SOCKETS], [8100], wanted["booleans"])


def test_without_libsemanage_for_this_python_semanage_is_asked_for_ports(policy, tmp_path):
    script = tmp_path / "semanage"
    script.write_text("""#!/bin/sh
cat <<'END'
http_cache_port_t              tcp      8080, 8118, 10001-10010
http_cache_port_t              udp      3130
http_port_t                    tcp      8100, 80, 81, 443
pegasus_http_port_t            tcp      5988
END
""")
    script.chmod(0o755)
    assert selinux.missing({**NONE, "ports": [80, 8100, 8101, 10005, 10011, 3130, 5988]})["ports"] == [8101, 10011, 3130, 5988]


class Semanage(types.SimpleNamespace):
    """A libsemanage of which a record of a port is (type, protocol, low, high), and one of a boolean its value."""

    def __init__(self, ports, booleans):
        super().__init__(
            semanage_handle_create=lambda: "handle",
            semanage_connect=lambda handle: 0,
            semanage_port_list=lambda handle: (len(ports), ports),
            semanage_port_get_proto=lambda record: record[1],
            semanage_port_get_proto_str=lambda protocol: protocol,
            semanage_port_get_low=lambda record: record[2],
            semanage_port_get_high=lambda record: record[3],
            semanage_port_get_con=lambda record: record[0],
            semanage_context_get_type=lambda context: context,
            semanage_bool_key_create=lambda handle, name: (0, name),
            semanage_bool_query=lambda handle, key: (0, booleans[key]) if key in booleans else (-1, None),
            semanage_bool_get_value=lambda record: record,
        )


def test_ports_and_booleans_are_asked_of_the_policy_with_what_the_site_has_added(policy, monkeypatch):
    ports = [("http_port_t", "tcp", 80, 80), ("http_port_t", "udp", 81, 81), ("unreserved_port_t", "tcp", 1024, 32767), ("http_port_t", "tcp", 8008, 8009)]
    ports.append(("http_cache_port_t", "tcp", 8080, 8080))
    monkeypatch.setattr(selinux, "semanage", Semanage(ports, {"on": 1, "off": 0}))
    assert selinux.missing({**NONE, "ports": [80, 81, 8009, 8010, 8080], "booleans": ["on", "off", "no-such"]}) == {
        "contexts": [],
        "ports": [81, 8010],
        "booleans": ["off", "no-such"],
    }


def test_a_libsemanage_that_has_no_policy_knows_nothing(policy, monkeypatch):
    broken = Semanage([("http_port_t", "tcp", 80, 80)], {"on": 1})
    broken.semanage_connect = lambda handle: -1
    monkeypatch.setattr(selinux, "semanage", broken)
    assert selinux.missing({**NONE, "ports": [80, 8100], "booleans": ["on"]}) == {"contexts": [], "ports": [8100], "booleans": ["on"]}


@pytest.mark.parametrize(("allowed", "answer"), [("1ff", True), ("ff", False)])
def test_the_kernel_is_asked_whether_nginx_may_connect(tmp_path, monkeypatch, allowed, answer):
    """The kernel answers what was written on the same descriptor; a file does not, so that the two calls are exchanged."""
    perms = tmp_path / "class/unix_stream_socket/perms"
    perms.mkdir(parents=True)
    (perms / "connectto").write_text("9")
    (perms.parent / "index").write_text("31\n")
    (tmp_path / "access").write_text("")
    asked = []
    monkeypatch.setattr(selinux, "KERNEL", str(tmp_path))
    monkeypatch.setattr(selinux.os, "write", lambda descriptor, words: asked.append(words))
    monkeypatch.setattr(selinux.os, "read", lambda descriptor, size: f"{allowed} ffffffff 0 ffffffff 8 0".encode())
    assert selinux.may_connect("a:b:httpd_t:s0", "a:b:unconfined_service_t:s0") is answer
    assert asked == [b"a:b:httpd_t:s0 a:b:unconfined_service_t:s0 31 ffffffff"]


def test_where_there_is_no_selinux_nobody_can_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(selinux, "KERNEL", str(tmp_path / "none"))
    assert selinux.may_connect(selinux.NGINX, selinux.SERVICE) is None
    assert not selinux.enabled()


def test_a_process_that_does_not_run_has_the_usual_context(tmp_path):
    assert selinux.context_of(0, selinux.NGINX) == selinux.NGINX


def test_directories_that_a_run_left_without_their_label_are_told(monkeypatch):
    labels = {"/run/fastcgi": "httpd_var_run_t", "/srv/apps.d": "var_t", "/var/log/fcgi": ""}
    monkeypatch.setattr(selinux, "label_of", lambda path: labels[path])
    # The last has no label, as on a file system without any.
    wanted = {SOCKETS: "httpd_var_run_t", r"/srv/apps\.d(/.*)?": "httpd_sys_content_t", "/var/log/fcgi(/.*)?": "var_log_t"}
    assert selinux.mislabelled(wanted) == ["/srv/apps.d"]


def test_a_file_system_without_labels_has_none(tmp_path):
    assert selinux.label_of(str(tmp_path)) == "" and selinux.label_of(str(tmp_path / "none")) == ""
