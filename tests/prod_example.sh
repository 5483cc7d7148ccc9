#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# prod_example.sh: examples/prod, two groups with vaulted secrets, run as its first line says: ansible-playbook deploy_fcgi.yml -i prod.
# The hosts are containers; how they are reached stands in an inventory of its own.
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
tools=$checkout/molecule/images
prefix=prod-$(printf %s "$checkout" | sha1sum | cut -c 1-8)
hosts=(web1 web2 tools1)
scratch=$(mktemp -d)
trap 'for host in "${hosts[@]}"; do "$tools/host" remove "$prefix-$host"; done; rm -rf "$scratch"' EXIT

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }
get() { # HOST PATH [USER:PASSWORD]
    "$tools/podman" exec --interactive "$prefix-$1" python3 - "http://$prefix-$1$2" "$1" "${3:-}" <<'PYTHON'
import base64, sys, urllib.error, urllib.request
url, host, login = sys.argv[1:]
headers = {"Host": host}
if login:
    headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
try:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
PYTHON
}
play() { # PLAYBOOK [ARGUMENT...]; the output goes to $scratch/log and, if the play fails, to the terminal
    (cd "$checkout/examples" && ansible-playbook "$1" -i prod -i "$scratch/connection.yml" "${@:2}") >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail "$*"; }
}
pids() { "$tools/podman" exec "$prefix-$1" supervisorctl status | sed -n 's/^\([^ ]*\) .*pid \([0-9]*\),.*/\1 \2/p'; }

cat >"$scratch/connection.yml" <<EOT
all:
  hosts:
    # Declares no fcgi_apps and does not exist: whoever touches it fails.
    db1:
  vars:
    ansible_connection: containers.podman.podman
    ansible_podman_executable: "$tools/podman"
    ansible_python_interpreter: /usr/bin/python3
    ansible_host: "$prefix-{{ inventory_hostname }}"
EOT
export ANSIBLE_COLLECTIONS_PATH=$checkout/.cache/collections ANSIBLE_HOST_PATTERN_MISMATCH=error ANSIBLE_INJECT_FACT_VARS=false

"$tools/build" debian12
for host in "${hosts[@]}"; do "$tools/host" start "$prefix-$host" localhost/webops-fastcgi:debian12; done
say "web1, web2 and tools1 are up"

play deploy_fcgi.yml --diff -v
say "deployed"
! grep -q "correct horse" "$scratch/log" || fail "the secret of shop is in the output"
[[ $(get web1 /shop/x) == "200 "*ProcessId* ]] || fail "web1 does not serve /shop: $(get web1 /shop)"
[[ $(get web2 /shop) == "200 "*ProcessId* ]] || fail "web2 does not serve /shop"
[[ $(get tools1 /reports) == 401 ]] || fail "tools1 serves /reports without a password"
[[ $(get tools1 /reports ada:lovelace) == "200 "*ProcessId* ]] || fail "tools1 does not serve /reports to ada"
say "both groups are served, /reports asks for its password"

play deploy_fcgi.yml
[ "$(grep -Ec '^(web1|web2|tools1) .*changed=0 ' "$scratch/log")" = 3 ] || { cat "$scratch/log"; fail "the second deployment changed something"; }
say "the second deployment changed nothing"

before=$(pids web1)
play webops.fastcgi.restart_fcgi -e '{"fcgi_groups": ["public"], "fcgi_hosts": "web1"}'
[ "$(comm -12 <(sort <<<"$before") <(pids web1 | sort) | wc -l)" = 0 ] || fail "restart_fcgi left processes of shop as they were"
say "restart_fcgi restarted the programs of a group on one host"

play webops.fastcgi.status_fcgi
for word in shop_03 reports_01 http://web2/shop; do grep -q "$word" "$scratch/log" || fail "status_fcgi does not show $word"; done
! grep -Eq 'changed=[1-9]' "$scratch/log" || fail "status_fcgi changed something"
say "status_fcgi shows every process and URL, and changes nothing"
