# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collections that the controller does not have."""

from __future__ import annotations

from ansible_collections.webops.fastcgi.plugins.filter.fcgi_collections_missing import FilterModule

missing = FilterModule().filters()["fcgi_collections_missing"]


def test_a_collection_is_missing_with_its_namespace_or_without():
    assert missing(["no_such_namespace.any", "webops.fastcgi", "webops.no_such_collection"]) == ["no_such_namespace.any", "webops.no_such_collection"]
