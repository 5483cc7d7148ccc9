# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event listener protocol, each turn of it: supervisord and fcgivisord tell listeners the same, and take their answers alike."""

from __future__ import annotations

import os
import re
import time

import pytest
from harness import PYTHON_FOR_ALL, wait_for

# Writes each event down, and answers the first one as its second argument says.
LISTENER = """import os, sys
events, how, gate = sys.argv[1:]
def say(text):
    sys.stdout.write(text); sys.stdout.flush()
def hear():
    head = sys.stdin.readline()
    if not head:
        sys.exit(0)
    body = sys.stdin.read(int(dict(word.split(":", 1) for word in head.split())["len"]))
    with open(events, "a") as file:
        file.write(head + body + "\\n==\\n")
if how == "late":
    open(gate).read()  # a named pipe: until somebody writes to it
first = not os.path.exists(events)
say("READY\\n")
while True:
    hear()
    if first:
        first = False
        if how == "fail":
            say("RESULT 4\\nFAIL")
        elif how == "other":
            say("RESULT 5\\nMAYBE")
        elif how == "pieces":
            for piece in ("RESU", "LT 2", "\\nO", "K"):
                say(piece)
        elif how == "garbage":
            say("this is no result\\n")
        elif how == "chatter":
            say("RESULT 2\\nOKREADY\\nand more")
        elif how == "die":
            sys.exit(0)
        else:
            say("RESULT 2\\nOK")
    else:
        say("RESULT 2\\nOK")
    if how != "garbage":
        say("READY\\n")
"""


def listener(one, how="well", name="ears", **keys):
    (one.directory / "listener.py").write_text(LISTENER)
    command = f"{PYTHON_FOR_ALL} -S {one.directory}/listener.py {one.directory}/events {how} {one.directory}/gate"
    one.sections[f"eventlistener:{name}"] = {"command": command, "events": "REMOTE_COMMUNICATION", "startsecs": 1, "autorestart": "true", **keys}


def heard(one):
    file = one.directory / "events"
    return [event for event in file.read_text().split("\n==\n") if event] if file.exists() else []


def remarks(one):
    """What the supervisor's log says about listeners."""
    return re.findall(r"(?:WARN|ERRO|DEBG) (ears: .*|pool ears .*)", one.log.read_text())


@pytest.mark.parametrize("how", ["well", "fail", "other", "pieces", "die"])
def test_every_event_is_processed_whatever_the_first_answer(pair, how):
    pair.configure(lambda one: listener(one, how))
    expected = 4 if how in ("fail", "other", "die") else 3  # what was rejected, or not answered, is told again

    def script(witness):
        one = witness.supervisor
        witness.until("ears", "RUNNING")
        for number in range(3):
            witness.call("sendRemoteCommEvent", f"kind{number}", f"päyload {number}\nwith lines")
        wait_for(lambda: len(heard(one)) >= expected, f"{expected} events, not {heard(one)}")
        witness.note("events", heard(one))

    pair.agree(script)


@pytest.mark.parametrize("how", ["garbage", "chatter"])
def test_a_listener_that_breaks_the_protocol_gets_no_more_events(pair, how):
    pair.configure(lambda one: listener(one, how))

    def script(witness):
        one = witness.supervisor
        witness.until("ears", "RUNNING")
        witness.call("sendRemoteCommEvent", "first", "")
        one.wait_for_log("has entered the UNKNOWN state and will no longer receive events")
        witness.call("sendRemoteCommEvent", "second", "")
        witness.call("getProcessInfo", "ears")
        witness.note("events", heard(one))

    pair.agree(script)


def test_when_too_many_events_wait_the_oldest_go(pair):
    def configure(one):
        listener(one, "late", buffer_size=3)
        os.mkfifo(one.directory / "gate")

    pair.configure(configure)

    def script(witness):
        one = witness.supervisor
        witness.until("ears", "RUNNING")
        for number in range(6):
            witness.call("sendRemoteCommEvent", "kind", str(number))
        (one.directory / "gate").write_text("go")
        wait_for(lambda: len(heard(one)) >= 3, "three events")
        witness.note("events", heard(one))
        witness.note("log", [remark for remark in remarks(one) if "overflowed" in remark])

    pair.agree(script)


def test_each_event_goes_to_one_listener_of_a_pool(pair):
    pair.configure(lambda one: listener(one, numprocs=2, process_name="ear%(process_num)d"))

    def script(witness):
        one = witness.supervisor
        for name in ("ears:ear0", "ears:ear1"):
            witness.until(name, "RUNNING")
        for number in range(8):
            witness.call("sendRemoteCommEvent", "kind", str(number))
        wait_for(lambda: len(heard(one)) >= 8, "eight events")
        witness.note("events", sorted(event.rpartition("\n")[2] for event in heard(one)))

    pair.agree(script)


def test_the_states_of_the_supervisor_are_events(pair):
    def configure(one):
        listener(one, events="SUPERVISOR_STATE_CHANGE,PROCESS_GROUP")

    pair.configure(configure)

    def script(witness):
        one = witness.supervisor
        wait_for(lambda: any("SUPERVISOR_STATE_CHANGE_RUNNING" in event for event in heard(one)), "the event of the start")
        witness.note("events", heard(one))

    pair.agree(script)


def test_ticks_come_on_the_multiples_of_their_period(supervisor):
    listener(supervisor, events="TICK_5")
    supervisor.start()
    before = time.time()
    wait_for(lambda: heard(supervisor), "a tick")
    head, body = heard(supervisor)[0].split("\n")
    when = int(body.partition(":")[2])
    assert "eventname:TICK_5 " in head
    assert when % 5 == 0
    assert before - 5 < when <= time.time()
