#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Build the collection, install it from its tarball into an empty directory and use it there; prod_example.sh deploys with one installed so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/../install_collection.sh" "$work"
cd "$work"

# What follows knows only what was installed.
export ANSIBLE_CONFIG=$work/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$work/installed
for playbook in copy/playbooks/*_fcgi.yml; do
    ansible-playbook --syntax-check --inventory copy/inventories/demo --extra-vars fcgi_hosts=fcgi "webops.fastcgi.$(basename "$playbook" .yml)"
done
ansible-playbook --inventory copy/inventories/demo copy/tests/lint/installed.yml

# It takes away what cannot be brought back: never from all hosts because nobody said which.
if ansible-playbook --inventory copy/inventories/demo --check webops.fastcgi.remove_fcgi >remove.log 2>&1 || ! grep -q 'fcgi_hosts: name the hosts' remove.log; then
    cat remove.log
    echo "remove_fcgi without fcgi_hosts does not ask for it (above)." >&2
    exit 1
fi
