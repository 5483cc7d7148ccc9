# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is live, what is to be, and what therefore has to change.

This module util is PRIVATE to the collection. It can have breaking changes at any time.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.webops.fastcgi.plugins.module_utils import generation_content as content
from ansible_collections.webops.fastcgi.plugins.module_utils import generation_diff
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationError, GenerationStore


@dataclasses.dataclass(frozen=True)
class Plan:
    """A declaration against what lies on disk. Made by make_plan(), carried out by config_set."""

    store: GenerationStore
    live: str | None
    live_manifest: dict[str, t.Any]  # empty if there is none that can be read
    target: str  # the generation that will be live if anything changes
    declaration: content.Declaration
    observed: dict[str, content.State]
    wanted: dict[str, content.State]
    changed_links: list[dict[str, t.Any]]
    stale_links: dict[str, str | None]  # what they will point to, by path; None for nothing
    relabel: bool

    @property
    def drift(self) -> list[str]:
        """What somebody else has changed of a live generation that is the declared one."""
        if self._redeclared:
            return []
        paths = [path for path in self.observed.keys() | self.wanted.keys() if self.observed.get(path) != self.wanted.get(path)]
        return sorted(paths + [link["path"] for link in self.changed_links] + [*self.stale_links])

    @property
    def changed(self) -> bool:
        return bool(self._redeclared or self.relabel or self.drift)

    @property
    def links_to_make(self) -> list[dict[str, str]]:
        """The links that are made anew when the target goes live."""
        return self.declaration.links if self.relabel else self.changed_links

    @property
    def _redeclared(self) -> bool:
        return self.live_manifest.get("digest") != self.declaration.manifest["digest"]

    def difference(self) -> list[dict[str, str]]:
        """Before and after of each file or directory that differs, of the links and of the metadata; secrets masked."""
        live_directory = self.store.directory(self.live) if self.live else None
        parts = generation_diff.difference(live_directory, self.store.current_path, self.observed, self.wanted, self._declared(), self.declaration.contents)
        parts.append(generation_diff.before_after("links", *self._links_before_and_after()))
        metadata = [generation_diff.metadata_text(manifest.get("metadata")) for manifest in (self.live_manifest, self.declaration.manifest)]
        parts.append(generation_diff.before_after("metadata", *metadata))
        return [part for part in parts if part["before"] != part["after"]]

    def changed_parts(self, patterns: dict[str, str]) -> list[str]:
        """Names of the parts of files that differ from those of the live generation; patterns: of the lines with which a file's parts begin, by path."""
        changed: set[str] = set()
        for path, pattern in patterns.items():
            live = content.read_file(os.path.join(self.store.directory(self.live), path)) if self.live else None
            old, new = content.parts(live or b"", pattern), content.parts(self.declaration.contents[path], pattern)
            changed.update(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        return sorted(changed)

    def _declared(self) -> dict[str, list[dict[str, t.Any]]]:
        """What the live manifest and the new one say of each path."""
        entries: dict[str, list[dict[str, t.Any]]] = {}
        for manifest in (self.live_manifest, self.declaration.manifest):
            for entry in [*manifest.get("files", []), *manifest.get("directories", [])]:
                entries.setdefault(entry["path"], []).append(entry)
        return entries

    def _links_before_and_after(self) -> tuple[str, str]:
        wanted = {link["path"]: self.store.link_target(link) for link in self.declaration.links}
        wanted.update({path: target for path, target in self.stale_links.items() if target})
        there = {path: os.readlink(path) for path in [*wanted, *self.stale_links] if os.path.islink(path)}
        return generation_diff.links_text(there), generation_diff.links_text(wanted)


def make_plan(store: GenerationStore, target: str, declaration: content.Declaration, identity: content.Identity, labels: content.Labels) -> Plan:
    """Compare a declaration with what is live. Raises GenerationError if something foreign lies where a link belongs."""
    live = store.current()
    live_directory = store.directory(live) if live else None
    return Plan(
        store=store,
        live=live,
        live_manifest=_live_manifest(store),
        target=target,
        declaration=declaration,
        observed=content.observe(live_directory) if live_directory else {},
        wanted=content.expected(declaration, identity),
        changed_links=store.changed_links(declaration.links),
        stale_links=store.stale_links(declaration.links),
        relabel=live_directory is not None and _labels_differ(store, declaration, live_directory, labels),
    )


def _labels_differ(store: GenerationStore, declaration: content.Declaration, live_directory: str, labels: content.Labels) -> bool:
    links = [store.current_path, *(link["path"] for link in declaration.links)]
    return content.labels_differ(declaration, live_directory, labels) or any(map(labels.link_differs, links))


def _live_manifest(store: GenerationStore) -> dict[str, t.Any]:
    try:
        return store.live_manifest() or {}
    except GenerationError:  # damaged: replaced like any other difference
        return {}
