#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# ansible-test sanity, which wants to stand at .../ansible_collections/webops/fastcgi in a git repository.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/copy.sh" "$work/ansible_collections/webops/fastcgi"
cd "$work/ansible_collections/webops/fastcgi"

# ansible-test fetches a script that puts pip into its environments, under this name. Python can do that itself, without that server.
version=$(python -c 'import ansible_test._internal.python_requirements as r; print(r.get_venv_packages(type("Python", (), {"version": "any"}))["pip"])')
bootstrap=$HOME/.ansible/test/cache/get_pip_${version//./_}.py
if [ ! -e "$bootstrap" ]; then
    mkdir -p "$(dirname "$bootstrap")"
    printf 'import ensurepip\nensurepip.bootstrap(upgrade=True)\n' >"$bootstrap"
fi
ansible-test sanity --local --python "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" --color no
