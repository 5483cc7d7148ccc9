# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose ports are whose: what a set noted that it opened, what it listens on now, and what other sets have and need. Private: the filter shows it.

A port is a number for SELinux, {"port", "zone"} for firewalld. An empty zone is any: that of a set which has left the firewall to others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Ports = list[Any]
# The service that keeps the ports: it can be asked; it cannot, but has them in its files; it is not there, and nor are they.
STATES = ("running", "stopped", "absent")


def ledger(own: Ports, others: Ports, needed: Ports, *, listens: Ports, found_closed: Ports, state: str) -> dict[str, Ports]:
    """Return what the filter fcgi_opened_ports does of one kind of ports, each sorted and once.

    :param own: what this set noted before. :param others: what other sets noted. :param needed: what other sets listen on.
    :param listens: what this set listens on from now on. :param found_closed: of these, what nobody has opened for good. :param state: of STATES.
    :raises ValueError: if the state is none of them.
    """
    if state not in STATES:
        raise ValueError(f"fcgi_opened_ports: {state!r} is no state: it is one of {', '.join(STATES)}")
    # A port that another set opened becomes ours too: whichever of the two goes last closes it.
    noted, ours = _sorted(own), _sorted([*own, *found_closed, *_common(others, listens)])
    gone = _without(noted, listens)
    closable = _without(gone, needed)
    return {
        "noted": noted,
        "ours": ours,
        "close": closable if state == "running" else [],
        "waiting": closable if state == "stopped" else [],
        # What another set needs is that one's to close.
        "kept": ours if state == "stopped" else _without(ours, gone),
    }


def _common(one: Ports, other: Ports) -> Ports:
    return [port for port in one if any(_same(port, wanted) for wanted in other)]


def _without(one: Ports, other: Ports) -> Ports:
    return [port for port in one if not any(_same(port, wanted) for wanted in other)]


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Mapping):
        return bool(one == other)
    return bool(one["port"] == other["port"] and (one["zone"] == other["zone"] or "" in (one["zone"], other["zone"])))


def _sorted(ports: Iterable[Any]) -> Ports:
    once = {_key(port): port for port in ports}
    return [once[key] for key in sorted(once)]


def _key(port: Any) -> tuple[Any, ...]:
    return (str(port["zone"]), int(port["port"])) if isinstance(port, Mapping) else ("", int(port))
