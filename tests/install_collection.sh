#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# install_collection.sh DIRECTORY: build the collection of this checkout, look into its tarball, and install it from there into DIRECTORY/installed.
set -euo pipefail
"$(dirname "$0")/lint/copy.sh" "$1/copy"
cd "$1"

# None of this checkout's settings.
echo '[defaults]' >ansible.cfg
export ANSIBLE_CONFIG=$1/ansible.cfg

ansible-galaxy collection build copy --output-path .
if tar --list --file webops-fastcgi-*.tar.gz | grep -E '^(tests|molecule|bench|\.[a-z])'; then
    echo "The tarball contains what only the checkout needs (above): see build_ignore in galaxy.yml." >&2
    exit 1
fi
# Without what only SELinux and firewalld need: what is installed so works alone.
ansible-galaxy collection install --offline --no-deps webops-fastcgi-*.tar.gz --collections-path installed
