# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisorctl top: what runs, for a person at a terminal, and as one table for scripts."""

from __future__ import annotations

import json
import os
import signal

import pytest
from command_line import Terminal, ctl
from fcgivisor import top_table
from fcgivisor.ctl_text import cell, columns, short_duration, size
from fcgivisor.proc import Usage
from harness import OURS, PATIENCE, THEIRS, Supervisor

IGNORES_TERM = "/bin/sh -c 'trap \"\" TERM; echo ready; while :; do sleep 600; done'"
# A shell whose child is busy, as a master with its workers.
BUSY = "/bin/sh -c 'while :; do :; done & exec sleep 600'"


@pytest.fixture(params=[OURS, THEIRS])
def either(request, directory):
    """fcgivisord and supervisord, not started yet."""
    made = Supervisor(directory, request.param)
    yield made
    made.end()


def process(name="shop", state="RUNNING", pid=10, **known):
    usual = {"uptime": 5.0, "restarts": 0, "tries": 0, "memory": 1024, "heartbeat_age": None, "spawn_error": None, "exit_status": None, "description": ""}
    return {"name": name, "group": name.partition(":")[0], "state": state, "pid": pid, **usual, **known}


def look(moment, processes, usage):
    supervisor = {"ours": True, "version": "1.1.0", "pid": 1, "state": "RUNNING", "processes": processes}
    return top_table.Look(moment, supervisor, usage)


# From looks to a table


def test_cpu_is_what_a_process_used_between_two_looks():
    before = look(100.0, [process()], {10: Usage(7.0, 4096, 1)})
    after = look(102.0, [process(), process("new", pid=11), process("idle", "STOPPED", None)], {10: Usage(8.0, 8192, 3), 11: Usage(0.5, 1, 1)})
    rows = {row.name: row for row in top_table.rows(before, after)}
    assert (rows["shop"].cpu, rows["shop"].memory, rows["shop"].processes) == (50.0, 8192, 3)
    assert rows["new"].cpu == 25.0
    assert rows["idle"].cpu is None


def test_without_an_earlier_look_or_on_another_host_cpu_is_not_known():
    assert top_table.rows(None, look(1.0, [process()], {10: Usage(7.0, 1, 1)}))[0].cpu is None
    elsewhere = look(1.0, [process()], None)
    row = top_table.rows(elsewhere, elsewhere)[0]
    assert (row.cpu, row.memory) == (None, 1024)


@pytest.mark.parametrize("order", ["cpu", "memory", "restarts", "uptime", "name"])
def test_each_order_brings_the_interesting_ones_to_the_top(order):
    dull = top_table.Row("b", "RUNNING", 0.0, 1, 900.0, 0, 1, 1, "running")
    notable = dull._replace(
        name="a" if order == "name" else "c",
        **{"cpu": {"cpu": 9.0}, "memory": {"memory": 9}, "restarts": {"restarts": 9}, "uptime": {"uptime": 1.0}}.get(order, {}),
    )
    silent = dull._replace(name="d", cpu=None, memory=None, uptime=None, restarts=None)
    assert top_table.ordered([silent, dull, notable], order)[0] == notable


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, "running"),
        ({"heartbeat_age": 12.4}, "running, heartbeat 12s ago"),
        ({"state": "STARTING"}, "starting"),
        ({"state": "STOPPING"}, "stopping"),
        ({"state": "BACKOFF", "tries": 1, "spawn_error": "no such file"}, "waiting, 1 failed start: no such file"),
        ({"state": "BACKOFF", "tries": 3}, "waiting, 3 failed starts"),
        ({"state": "BACKOFF"}, "waiting"),
        ({"state": "EXITED", "exit_status": 2}, "ended, exit status 2"),
        ({"state": "EXITED", "exit_status": -1}, "ended by a signal"),
        ({"state": "STOPPED", "description": "Not started"}, "never started"),
        ({"state": "STOPPED", "description": "Nov 24 09:00 PM"}, "stopped"),
        ({"state": "FATAL", "spawn_error": "no such file"}, "failed: no such file"),
        ({"state": "UNKNOWN"}, "unknown"),
    ],
)
def test_states_are_told_in_words(known, words):
    assert top_table.words_for(process(**known)) == words


@pytest.mark.parametrize("width", [40, 60, 80, 81, 120, 200])
def test_no_line_is_wider_than_the_terminal(width):
    names = ["a", "shop:shop_00", "a-group-with-a-long-name:a-process-with-an-even-longer-name_00", "店舗:店舗_00", "esc\x1b[31m"]
    processes = [process(name, state, spawn_error="x" * 300) for name in names for state in ("RUNNING", "FATAL")]
    found = top_table.rows(None, look(1.0, processes, {10: Usage(1e6, 10**15, 1)}))
    lines = [*top_table.heading(look(1.0, processes, None), found, width), *top_table.table(found, width)]
    assert max(map(columns, lines)) <= max(width, 8 + 36 + 2)
    assert not any("\x1b" in line for line in lines)


def test_eighty_columns_hold_usual_names_whole():
    found = top_table.rows(None, look(1.0, [process("wholesale-checkout:wholesale-checkout_00")], None))
    heading, line = top_table.table(found, 80)
    assert heading.split() == ["NAME", "CPU%", "MEMORY", "UPTIME", "RESTARTS", "STATE"]
    assert line.startswith("wholesale-checkout:wholes… ")
    assert top_table.table([found[0]._replace(name="checkout:checkout_00")], 80)[1].startswith("checkout:checkout_00 ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86400, "1d00h"), (400 * 86400, "400d00h")]
)
def test_durations_have_two_units(seconds, text):
    assert short_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (0, "0"), (999, "999"), (1000, "1.0K"), (1536, "1.5K"), (100 * 1024**2, "100M"), (5 * 1024**3, "5.0G"), (2**50, "1024.0T")]
)
def test_sizes_are_short(count, text):
    assert size(count) == text


def test_cells_are_cut_by_columns_and_not_by_characters():
    assert cell("店舗店舗", 5) == "店舗…"
    assert cell("店舗店舗", 6) == "店舗… "
    assert cell("ab", 4, right=True) == "  ab"
    assert cell("a\nb\x1b", 4) == "a?b?"


# One table


def test_once_prints_one_table_with_the_busiest_first_and_children_counted(either):
    either.program("idle").program("busy", command=BUSY, stopasgroup="true", killasgroup="true").program("off", autostart="false").start()
    told = ctl(either, "top", "--once", "--delay", "0.5")
    assert told.returncode == 0
    lines = told.stdout.splitlines()
    assert lines[0].startswith(f"{either.implementation} ")
    assert f"pid {either.process.pid}" in lines[0]
    assert lines[1].startswith("3 processes: 2 running, 1 stopped")
    assert lines[3].split() == ["NAME", "CPU%", "MEMORY", "UPTIME", "RESTARTS", "STATE"]
    assert [line.split()[0] for line in lines[4:]] == ["busy", "idle", "off"]
    assert float(lines[4].split()[1]) > 0
    assert lines[6].split()[-2:] == ["never", "started"]
    assert "\x1b" not in told.stdout
    assert max(map(len, lines)) <= 80


def test_once_shows_the_processes_that_are_asked_for(supervisor):
    supervisor.pool("shop", 2).program("mail").start()
    rows = json.loads(ctl(supervisor, "top", "--json", "sh*").stdout)
    assert sorted(row["name"] for row in rows) == ["shop:shop_00", "shop:shop_01"]
    nothing = ctl(supervisor, "top", "--once", "nothing")
    assert (nothing.returncode, nothing.stderr) == (4, "nothing: ERROR (no such process)\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "top --once prints one table"),
        ("--delay never", "'never' is not a number of seconds"),
        ("--sort colour", "there are cpu, memory"),
        ("-x", "does not know -x"),
    ],
)
def test_what_cannot_be_is_told_with_the_way_out(supervisor, words, told):
    supervisor.start()
    answer = ctl(supervisor, "top", *words.split())
    assert answer.returncode == 2
    assert told in answer.stderr


# A terminal


def test_the_live_table_fits_sorts_scrolls_and_gives_the_terminal_back(supervisor):
    supervisor.pool("shop", 30).program("busy", command=BUSY, stopasgroup="true", killasgroup="true").start()
    terminal = Terminal("-c", supervisor.configuration, "top", "--delay", "0.2", width=80, height=12)
    terminal.wait_for(lambda _text: _row(terminal, 0).startswith("busy"), "the busiest one at the top")
    assert terminal.text.startswith("\x1b[?1049h\x1b[?25l")
    assert "\x1b[32mrunning" in terminal.text
    picture = terminal.picture()
    assert len(picture) == 12
    assert max(map(len, picture)) <= 80
    assert picture[1].startswith("31 processes: 31 running")
    assert picture[2] == "rows 1 to 7 of 31"
    assert picture[-1].startswith("q quit")
    terminal.type("n")
    terminal.wait_for(lambda _text: _row(terminal, 1).startswith("shop:shop_00"), "the order of names")
    terminal.type("\x1b[6~")
    terminal.wait_for(lambda _text: _row(terminal, 0).startswith("shop:shop_09"), "the next rows")
    terminal.resize(100, 30)
    os.kill(terminal.pid, signal.SIGWINCH)
    terminal.wait_for(lambda _text: len(terminal.picture()) == 30, "a picture of the new size")
    terminal.type("q")
    assert terminal.end() == 0
    assert terminal.text.endswith("\x1b[?25h\x1b[?1049l")


def test_the_live_table_survives_its_supervisor(either):
    either.program("mail", command=IGNORES_TERM, stopwaitsecs=600).start()
    either.wait_for_output("mail", "ready")
    terminal = Terminal("-c", either.configuration, "top", "--delay", "0.2")
    terminal.wait_for("mail", "the table")
    mail = either.pid("mail")
    either.process.terminate()
    # While it waits for mail, supervisord refuses to tell anything.
    terminal.wait_for({OURS: ", shutdown", THEIRS: "does not answer (SHUTDOWN_STATE)"}[either.implementation], "the message that the supervisor ends")
    os.kill(mail, signal.SIGKILL)
    either.process.wait(PATIENCE)
    terminal.wait_for("does not answer (No such file", "the message that the supervisor is gone")
    either.start()
    terminal.wait_for(lambda _text: terminal.picture()[2:3] == [""] and f"pid {either.process.pid}" in terminal.picture()[0], "the new supervisor")
    terminal.type("\x03")
    assert terminal.end() == 0


def test_no_colour_where_none_is_wanted(supervisor):
    supervisor.program("mail").start()
    terminal = Terminal("-c", supervisor.configuration, "top", NO_COLOR="1")
    terminal.wait_for("running", "the table")
    terminal.type("q")
    assert terminal.end() == 0
    assert "\x1b[3" not in terminal.text


def _row(terminal, index):
    """Of the last picture, a row of the table."""
    return "".join(terminal.picture()[4 + index : 5 + index])
