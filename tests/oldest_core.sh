#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# oldest_core.sh: the oldest ansible-core that meta/runtime.yml allows takes a deployment to this machine, in check mode, to its end: with each provider, one
# of them with jinja2_native, which made numbers of texts then. Its templates and variables are what differs most from what all other tests run.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
venv=$PWD/.cache/oldest-core
oldest=$(sed -n "s/^requires_ansible: *[\"']\?>=\([0-9]*\.[0-9]*\).*/\1/p" meta/runtime.yml)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$venv/bin/ansible" --version 2>/dev/null | grep -q "core $oldest\." || { python3 -m venv --clear "$venv"; "$venv/bin/pip" --quiet install "ansible-core==$oldest.*"; }
cat >"$scratch/inventory.yml" <<'EOT'
all:
  hosts:
    localhost:
      ansible_connection: local
      ansible_python_interpreter: /usr/bin/python3
      fcgi_set: oldest_core
      fcgi_config_dir: /etc/fcgi-oldest-core
      fcgi_nginx_listen: ["18418"]
      fcgi_apps:
        - {name: oldest_fcgi, command: /bin/cat, locations: [{path: /fcgi, auth: {realm: "8.10", users: {a: "{PLAIN}b"}}}]}
        - {name: oldest_listener, kind: listener, listen: 18419, command: /bin/cat}
        - {name: oldest_php, kind: php_fpm, root: /srv, php_admin_value: {memory_limit: 64M}, locations: [{path: /php}]}
EOT
export ANSIBLE_COLLECTIONS_PATH=$checkout/.cache/collections
check() { # PROVIDER JINJA2_NATIVE
    echo "ansible-core $oldest, $1, jinja2_native=$2"
    ANSIBLE_JINJA2_NATIVE=$2 "$venv/bin/ansible-playbook" webops.fastcgi.deploy_fcgi -i "$scratch/inventory.yml" --check --diff \
        -e "fcgi_supervisor_provider=$1" >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
    grep -q 'oldest_php' "$scratch/log" || { echo "the diff does not show what would come"; cat "$scratch/log"; exit 1; }
}
check fcgivisord true
check supervisord false
