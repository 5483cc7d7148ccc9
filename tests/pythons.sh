#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# fcgivisord under every Python from 3.9 on that this machine has, one of each version: the tests of its core, with real processes.
set -euo pipefail

shopt -s nullglob
files=(tests/fcgivisor/test_{service,update,sockets,http}.py)
declare -A seen=()
home=~ # bash knows it without HOME too
for python in /usr/bin/python3 /usr/bin/python3.[0-9]* /usr/local/bin/python3.[0-9]* "${PYENV_ROOT:-$home/.pyenv}"/versions/3.*/bin/python3; do
    version=$("$python" -IS -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 9) else "")' 2>/dev/null) || continue
    if [ -z "$version" ] || [ -n "${seen[$version]:-}" ]; then continue; fi
    seen[$version]=$python
    echo "Python $version: $python"
    FCGIVISOR_PYTHON=$python pytest --numprocesses 4 "${files[@]}"
done
[ ${#seen[@]} -gt 0 ] || { echo "no Python 3.9 or newer" >&2; exit 1; }
echo "passed under ${!seen[*]}"
