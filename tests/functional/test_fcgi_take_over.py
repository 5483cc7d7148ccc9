# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fcgi_host_info tells of a set that another supervisor runs, and that its programs are not in their own way."""

from __future__ import annotations

import json

import host_info
import pytest
from supervisord import FCGIVISORD, OWN, Supervisord

pytestmark = pytest.mark.machine


@pytest.fixture
def former(tmp_path):
    """A supervisord that runs the declared program "shop"."""
    (tmp_path / "former").mkdir()
    supervisord = Supervisord(tmp_path / "former", executable=OWN)
    supervisord.fcgi_section("shop")
    supervisord.declare("shop")
    yield supervisord.start()
    supervisord.stop()


@pytest.fixture
def successor(tmp_path):
    (tmp_path / "successor").mkdir()
    supervisor = Supervisord(tmp_path / "successor", executable=FCGIVISORD)
    yield supervisor.start()
    supervisor.stop()


@pytest.fixture
def look(former, successor, run_module):
    """fcgi_host_info for the set that the former supervisor runs, on the way to its successor."""
    path = former.directory / "sets" / "default"
    path.mkdir(parents=True)
    (path / "fcgi_app").symlink_to(former.declared)

    def call(url=successor.url, **options):
        listens = [{"app": "shop", "address": former.socket("shop")}]
        return run_module(
            "fcgi_host_info",
            {**host_info.places(former.directory), "url": url, "programs": ["shop"], "listens": listens, "set_path": str(path), **options},
        )

    return call


def test_the_supervisor_that_runs_the_set_is_told_and_its_sockets_are_free_for_the_set(look, former):
    result = look()
    (told,) = result["former_supervisors"]
    assert told.pop("command").endswith(f"-c {former.directory}/supervisord.conf")
    assert told == {"url": former.url, "pid": former.rpc.getPID(), "running": True, "programs": ["shop"], "orphans": []}
    assert result["problems"] == []


def test_of_a_generation_that_does_not_name_its_supervisor_the_link_tells(look, former):
    manifest = former.declared / "current" / ".manifest.json"
    declared = json.loads(manifest.read_text())
    del declared["metadata"]["supervisor"]
    declared["links"] = [{"path": "/etc/supervisor/conf.d/fcgi-default.conf", "target": "supervisord.conf"}]
    manifest.write_text(json.dumps(declared))
    assert look()["former_supervisors"] == []
    assert [told["url"] for told in look(include_dirs={"/etc/supervisor/conf.d": former.url})["former_supervisors"]] == [former.url]


def test_none_is_told_where_the_supervisor_stays_the_same(look, former):
    assert look(former.url)["former_supervisors"] == []


def test_of_one_that_died_what_it_left_is_told(look, former):
    pid = former.pids()["shop"]
    former.die()
    result = look()
    (told,) = result["former_supervisors"]
    assert (told["pid"], told["running"]) == (0, False)
    assert told["orphans"] == [{"pid": pid, "program": "shop", "process": "shop"}] and result["problems"] == []


def test_it_is_told_until_the_set_is_proved_to_run_under_its_successor(look, former, successor, run_module):
    (former.declared / "applied").write_text("000001\n")
    successor.declared = former.declared
    successor.declare("shop")
    assert [told["url"] for told in look()["former_supervisors"]] == [former.url], "an interrupted run has made the new generation live"
    former.no_section("shop")
    removed = run_module("fcgi_program", {"url": former.url, "name": ["shop"], "state": "absent"})
    assert removed["removed"] == ["shop"]
    successor.fcgi_section("shop")
    assert not run_module("fcgi_program", {"url": successor.url, "declared": str(former.declared), "timeout": 20}).get("failed")
    assert look()["former_supervisors"] == []


def test_the_command_line_of_a_supervisor_and_digests_of_files_are_told(look, successor, tmp_path, run_module):
    (tmp_path / "unit").write_text("")
    asked = {"url": successor.url, "digests": [str(tmp_path / "unit"), "/none"]}
    result = run_module("fcgi_host_info", {**host_info.places(tmp_path), **asked})
    assert result["supervisord"]["command"].endswith(f"-n -c {successor.directory}/supervisord.conf")
    assert result["digests"] == {str(tmp_path / "unit"): "da39a3ee5e6b4b0d3255bfef95601890afd80709", "/none": ""}
