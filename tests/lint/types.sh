#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Check the types of all plugins, under the names by which they import each other, and of the bundled supervisor.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/../.." && pwd)
cd "$checkout/.cache/collections"
mypy --config-file "$checkout/pyproject.toml" --cache-dir "$checkout/.cache/mypy" --package ansible_collections.webops.fastcgi.plugins
cd "$checkout/roles/fcgi_supervisor/files"
mypy --config-file "$checkout/pyproject.toml" --cache-dir "$checkout/.cache/mypy-fcgivisor" --package fcgivisor
