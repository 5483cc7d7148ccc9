#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# gixy over the nginx configuration that the roles make of tests/lint/nginx_samples.yml.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python "$(dirname "$0")/../rendering.py" "$work"

# Its exit status is 1 when it finds anything, however small. Not ours to decide, because it concerns all that a host name or an address serves:
#   default_server_flag    which server answers for an unknown name (Debian's own site says that it does)
#   try_files_is_evil_too  whether nginx remembers files that it has seen: a new release would be seen late
#   hsts_header            whether browsers may ever again ask a name without TLS
gixy --skips default_server_flag,hsts_header,try_files_is_evil_too "$work/nginx.conf"
