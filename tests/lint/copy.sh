#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# copy.sh DIRECTORY: the files of this checkout that git knows or would add, as a git repository of their own in DIRECTORY.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "$1"
git ls-files --cached --others --exclude-standard -z | while IFS= read -r -d '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file"
done | tar --null --files-from - --create | tar --extract --directory "$1"
git -C "$1" init --quiet
git -C "$1" add --all
