# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_status_table: what a person sees first, in both tables, and that they are aligned."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.webops.fastcgi.plugins.filter.fcgi_status_table import fcgi_status_table


def process(name, state="running", **others):
    process = {"program": name.split("_")[0], "name": name, "state": state, "pid": None, "uptime": None, "restarts": None, "socket": None}
    return {**process, **({"pid": 4711, "uptime": 93784} if state == "running" else {}), **others}


def pool(name="blog", **others):
    """What fcgi_probe returns of a pool on TCP of which nothing is wrong."""
    counts = {"active_processes": 3, "idle_processes": 2, "listen_queue": 0, "listen_queue_len": 511, "max_active_processes": 4}
    counts.update(max_children_reached=0, slow_requests=0, start_since=93784)
    return {"name": name, "ok": True, "message": "", "pool": {"pool": "www", "process_manager": "dynamic", **counts, **others}}


def silent(name="blog"):
    return {"name": name, "ok": False, "message": "there is no such socket: start the program", "pool": None}


def pool_lines(*pools):
    """The second table without its titles."""
    return fcgi_status_table([process("blog")], list(pools))[4:]


def test_a_pool_stands_together_and_its_program_and_socket_are_said_once():
    pool = [process("shop_00", socket="unix:///run/fastcgi/shop.sock"), process("shop_01", pid=12, uptime=59, restarts=3)]
    assert fcgi_status_table(pool) == [
        "PROGRAM PROCESS STATE   PID  UPTIME     RESTARTS SOCKET".rjust(56),
        " shop    shop_00 running 4711 1d 2:03:04 -        /run/fastcgi/shop.sock",
        "         shop_01 running 12   0:00:59    3",
    ]


def test_what_does_not_run_comes_first_and_is_marked():
    lines = fcgi_status_table([process("app"), process("web_00"), process("web_01", "backoff"), process("zoo", "fatal"), process("old", "stopped")])
    assert [line.split()[:3] for line in lines[1:]] == [
        ["!", "zoo", "zoo"], ["!", "web", "web_01"], ["web_00", "running", "4711"], ["!", "old", "old"], ["app", "app", "running"],
    ]  # fmt: skip


def test_fifty_usual_programs_are_readable_at_100_columns():
    lines = fcgi_status_table([process(f"application-{n:02}_{n:02}", socket=f"unix:///run/fastcgi/application-{n:02}.sock") for n in range(50)])
    assert len(lines) == 51 and max(map(len, lines)) <= 100


def test_no_programs_are_said_in_words():
    assert fcgi_status_table([]) == ["no programs"]


@pytest.mark.parametrize("wrong", ["shop", None, [{"name": "shop"}], ["shop"]])
def test_anything_else_is_refused_in_words(wrong):
    with pytest.raises(AnsibleFilterError, match="fcgi_program_info"):
        fcgi_status_table(wrong)


# Pools of php-fpm


def test_the_pools_stand_under_the_processes_by_the_names_of_their_probes():
    lines = fcgi_status_table([process("blog")], [pool(), pool("blog api", active_processes=12)])
    assert lines[:2] == fcgi_status_table([process("blog")])
    assert lines[2:] == [
        "",
        " POOL     PM      ACTIVE IDLE QUEUE MAX ACTIVE MAX CHILDREN REACHED SLOW SINCE",
        " blog     dynamic 3      2    0     4          0                    0    1d 2:03:04",
        " blog api dynamic 12     2    0     4          0                    0    1d 2:03:04",
    ]


@pytest.mark.parametrize("pools", [None, []])
def test_without_pools_there_is_one_table(pools):
    assert fcgi_status_table([process("blog")], pools) == fcgi_status_table([process("blog")])


@pytest.mark.parametrize("needy", [{"listen_queue": 1}, {"max_children_reached": 1}, {"process_manager": "static", "idle_processes": 0}])
def test_a_pool_with_too_few_workers_is_marked_and_comes_first(needy):
    assert [line.split()[:2] for line in pool_lines(pool("a"), pool("b", **needy))] == [["!", "b"], ["a", "dynamic"]]


def test_an_idle_pool_that_starts_workers_on_demand_is_not_marked():
    (line,) = pool_lines(pool(process_manager="ondemand", active_processes=0, idle_processes=0))
    assert line.startswith(" blog ondemand 0      0 ")


def test_a_pool_that_did_not_answer_is_marked_and_says_why_and_widens_nothing():
    assert pool_lines(pool("shop"), silent())[0] == "! blog there is no such socket: start the program"
    assert pool_lines(pool("shop"), silent())[1] == " " + pool_lines(pool("shop"))[0]


def test_what_php_fpm_does_not_measure_is_not_called_0():
    """It measures the queue of TCP alone, and never counts that a static pool has too few workers."""
    (line,) = pool_lines(pool(process_manager="static", listen_queue_len=0))
    assert line.split()[:8] == ["blog", "static", "3", "2", "-", "4", "-", "0"]


def test_pools_are_shown_where_no_program_is():
    assert fcgi_status_table([], [silent()])[::3] == ["no programs", "! blog there is no such socket: start the program"]


def test_usual_pools_are_readable_at_100_columns():
    assert max(map(len, fcgi_status_table([], [pool(f"application-{n:02} pool-{n:02}", max_children_reached=12345) for n in range(9)]))) <= 100


@pytest.mark.parametrize("wrong", ["blog", [None], [{"name": "blog"}], [{"name": "blog", "ok": True, "message": "", "pool": None}]])
def test_probes_of_another_mode_are_refused_in_words(wrong):
    with pytest.raises(AnsibleFilterError, match="php_fpm_status"):
        fcgi_status_table([], wrong)
