# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_status_table: what a person sees first, and that it is aligned."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.webops.fastcgi.plugins.filter.fcgi_status_table import fcgi_status_table


def process(name, state="running", **others):
    process = {"program": name.split("_")[0], "name": name, "state": state, "pid": None, "uptime": None, "restarts": None, "socket": None}
    return {**process, **({"pid": 4711, "uptime": 93784} if state == "running" else {}), **others}


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
