# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports a set notes, and which it closes."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.webops.fastcgi.plugins.filter.fcgi_opened_ports import FilterModule

fcgi_opened_ports = FilterModule().filters()["fcgi_opened_ports"]


def told(own=(), others=(), needed=(), listens=(), found_closed=(), state="running"):
    """What the filter tells of the one kind "selinux"."""
    opened = {"selinux": {"own": list(own), "others": list(others), "needed": list(needed)}}
    answer = fcgi_opened_ports(opened, listens={"selinux": list(listens)}, found_closed={"selinux": list(found_closed)}, states={"selinux": state})
    return {what: by_kind["selinux"] for what, by_kind in answer.items()}


def test_a_port_that_was_closed_is_noted_before_it_is_opened():
    assert told(listens=[8443], found_closed=[8443]) == {"noted": [], "ours": [8443], "close": [], "waiting": [], "kept": [8443]}


def test_a_port_that_the_site_had_open_is_never_ours():
    assert told(listens=[80])["ours"] == []


def test_a_port_that_is_no_longer_listened_on_is_closed_and_struck():
    assert told(own=[8443, 80], listens=[80]) == {"noted": [80, 8443], "ours": [80, 8443], "close": [8443], "waiting": [], "kept": [80]}


def test_a_changed_port_is_closed_while_the_new_one_is_noted():
    moved = told(own=[8080], listens=[9090], found_closed=[9090])
    assert (moved["ours"], moved["close"], moved["kept"]) == ([8080, 9090], [8080], [9090])


def test_a_port_that_another_set_opened_is_ours_too_so_that_whoever_goes_last_closes_it():
    joined = told(others=[8443, 9000], listens=[8443])
    assert joined["ours"] == [8443]
    first_goes = told(own=[8443], others=[8443], needed=[8443])
    assert (first_goes["close"], first_goes["kept"]) == ([], [])
    assert told(own=[8443])["close"] == [8443]


def test_what_is_stopped_is_asked_nothing_and_nothing_is_forgotten():
    stopped = told(own=[8443], state="stopped")
    assert stopped == {"noted": [8443], "ours": [8443], "close": [], "waiting": [8443], "kept": [8443]}
    assert told(own=[8443], needed=[8443], state="stopped")["waiting"] == []


def test_what_is_not_there_has_no_ports():
    assert told(own=[8443], state="absent") == {"noted": [8443], "ours": [8443], "close": [], "waiting": [], "kept": []}


def test_an_unchanged_deployment_has_nothing_to_note_in_whatever_order_the_ports_come():
    unchanged = told(own=[8443, 80, 80], listens=[80, 8443])
    assert unchanged["ours"] == unchanged["noted"] == unchanged["kept"] == [80, 8443] and unchanged["close"] == []


def test_ports_of_a_firewall_differ_by_their_zones():
    public, internal = ({"port": 80, "remote": True, "zone": zone} for zone in ("public", "internal"))
    assert told(own=[public], listens=[internal], found_closed=[internal])["close"] == [public]
    assert told(own=[public, internal], listens=[public, internal])["noted"] == [internal, public]


def test_a_set_that_leaves_the_firewall_to_others_closes_nothing_that_it_listens_on_in_whatever_zone():
    external, anywhere = {"port": 80, "zone": "external"}, {"port": 80, "zone": ""}
    assert told(own=[external], listens=[anywhere])["close"] == []
    assert told(own=[external], listens=[], needed=[anywhere])["close"] == []
    assert told(own=[external], listens=[])["close"] == [external]
    assert told(others=[external], listens=[anywhere])["ours"] == [external]


def test_an_unknown_state_is_refused():
    with pytest.raises(AnsibleFilterError, match="'asleep' is no state: it is one of running, stopped, absent"):
        told(state="asleep")
