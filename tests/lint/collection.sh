#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Build the collection, look into the tarball, install it from there into an empty directory and use it there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/copy.sh" "$work/copy"
cd "$work"

# None of this checkout's settings: what follows knows only what was installed.
echo '[defaults]' >ansible.cfg
export ANSIBLE_CONFIG=$work/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$work/installed

ansible-galaxy collection build copy --output-path .
if tar --list --file webops-fastcgi-*.tar.gz | grep -E '^(tests|molecule|bench|\.[a-z])'; then
    echo "The tarball contains what only the checkout needs (above): see build_ignore in galaxy.yml." >&2
    exit 1
fi
ansible-galaxy collection install --offline webops-fastcgi-*.tar.gz --collections-path installed

for playbook in copy/playbooks/*_fcgi.yml; do
    ansible-playbook --syntax-check --inventory copy/inventories/demo "webops.fastcgi.$(basename "$playbook" .yml)"
done
ansible-playbook --inventory copy/inventories/demo copy/tests/lint/installed.yml
