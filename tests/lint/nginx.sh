#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# nginx.sh FILE...: gixy over generated nginx configurations (complete ones: an nginx.conf and what it includes).
set -euo pipefail
[ $# -gt 0 ] || { echo "nginx.sh: no configuration given" >&2; exit 2; }
for file in "$@"; do
    [ -s "$file" ] || { echo "nginx.sh: $file is empty or missing" >&2; exit 1; }
done
# Its exit status is 1 when it finds anything, however small.
gixy "$@"
