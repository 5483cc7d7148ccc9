#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# prod_example.sh: examples/prod, two groups with vaulted secrets, run as its first line says: ansible-playbook deploy_fcgi.yml -i prod.
# The collection is the one of the built and installed tarball. The hosts are containers; how they are reached stands in an inventory of its own.
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
run() { (cd "$checkout/examples" && ansible-playbook "$1" -i prod -i "$scratch/connection.yml" "${@:2}") >"$scratch/log" 2>&1; }
play() { # PLAYBOOK [ARGUMENT...]; the output goes to $scratch/log and, if the play fails, to the terminal
    run "$@" || { cat "$scratch/log"; fail "$*"; }
}
play_fails() { # WORDS PLAYBOOK [ARGUMENT...]; the output has to contain the words
    if run "${@:2}" || ! grep -qF "$1" "$scratch/log"; then cat "$scratch/log"; fail "not failed with \"$1\": ${*:2}"; fi
}
generation() { "$tools/podman" exec "$prefix-$1" readlink /etc/fcgi/default/fcgi_app/current; }
same() { [ "$1" = "$2" ] || fail "$3: $1 became $2"; }
differ() { [ "$1" != "$2" ] || fail "$3: still $1"; }
pids() { "$tools/podman" exec "$prefix-$1" fcgivisorctl status | sed -n 's/^\([^ ]*\) .*pid \([0-9]*\),.*/\1 \2/p'; }

cat >"$scratch/connection.yml" <<EOT
all:
  hosts:
    # Its supervisor is one from PyPI, and asks for a password.
    tools1:
      fcgi_supervisor_provider: supervisord
      fcgi_supervisor_method: pip
      fcgi_supervisor_username: fcgi
      fcgi_supervisor_password: open sesame
    # Declares no fcgi_apps and does not exist: whoever touches it fails.
    db1:
  vars:
    ansible_connection: containers.podman.podman
    ansible_podman_executable: "$tools/podman"
    ansible_python_interpreter: /usr/bin/python3
    ansible_host: "$prefix-{{ inventory_hostname }}"
EOT
# The apps of the group web in another version, and with an answer to wait for that never comes.
sed 's/version: .*/version: "1.5.0"/' "$checkout/examples/prod/group_vars/web/fcgi.yml" >"$scratch/new.yml"
sed 's|^    health:|&\n      status: 418\n      deadline: 5|' "$scratch/new.yml" >"$scratch/wrong.yml"
{ printf 'all:\n  hosts:\n    web1:\n'; sed -n 's/^\([^-].*\)/      \1/p' "$scratch/wrong.yml"; } >"$scratch/wrong_on_web1.yml"
"$checkout/tests/install_collection.sh" "$scratch" >/dev/null
export ANSIBLE_COLLECTIONS_PATH=$scratch/installed ANSIBLE_HOST_PATTERN_MISMATCH=error ANSIBLE_INJECT_FACT_VARS=false
export ANSIBLE_CALLBACK_PLUGINS=$checkout/molecule/shared/callback ANSIBLE_CALLBACKS_ENABLED=task_seconds,prepared FCGI_BUILT_MODULES=$checkout/.cache/built_modules

"$tools/build" debian12-installed
starting=()
for host in "${hosts[@]}"; do
    "$tools/host" start "$prefix-$host" localhost/webops-fastcgi:debian12-installed &
    starting+=($!)
done
for pid in "${starting[@]}"; do wait "$pid"; done
say "web1, web2 and tools1 are up"

play deploy_fcgi.yml --diff -v
say "deployed"
grep -q "$scratch/installed/ansible_collections/webops/fastcgi/roles" "$scratch/log" || fail "not deployed with the installed collection"
! grep -q "correct horse" "$scratch/log" || fail "the secret of shop is in the output"
! grep -q "open sesame" "$scratch/log" || fail "the supervisor's password is in the output"
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

# What becomes of a deployment that goes wrong.
before=$(pids web2; generation web2; generation tools1)
play_fails "418" deploy_fcgi.yml -e "@$scratch/wrong.yml" -e fcgi_hosts=web -e fcgi_serial=1
grep -q '^web1 .*failed=1' "$scratch/log" || { cat "$scratch/log"; fail "it is not web1 that failed"; }
differ "generations/000001" "$(generation web1)" "web1 was not the first host"
same "$before" "$(pids web2; generation web2; generation tools1)" "a failed probe on web1 stopped no deployment to other hosts"
say "a failed probe on one host keeps the next ones as they were"

play_fails "418" deploy_fcgi.yml -i "$scratch/wrong_on_web1.yml" -e fcgi_hosts=web,tools -e fcgi_serial=2
! grep -q '^tools1 ' "$scratch/log" || { cat "$scratch/log"; fail "a failed probe on one of two hosts did not keep the deployment from the next batch"; }
play_fails "418" deploy_fcgi.yml -i "$scratch/wrong_on_web1.yml" -e fcgi_hosts=web,tools -e fcgi_serial=2 -e fcgi_max_fail_percentage=50
grep -q '^tools1 .*failed=0' "$scratch/log" || { cat "$scratch/log"; fail "fcgi_max_fail_percentage=50 did not let the deployment go on to the next batch"; }
say "fcgi_max_fail_percentage says how many hosts of a batch may fail"
play deploy_fcgi.yml -e fcgi_hosts=web1

# The phases by their tags: a new section is first written, and only then run.
before=$(pids web1) live=$(generation web1)
play deploy_fcgi.yml -e "@$scratch/new.yml" -e fcgi_hosts=web1 --tags fcgi_install
same "$before $live" "$(pids web1) $(generation web1)" "--tags fcgi_install configured or ran something"
play deploy_fcgi.yml -e "@$scratch/new.yml" -e fcgi_hosts=web1 --tags fcgi_configure
same "$before" "$(pids web1)" "--tags fcgi_configure restarted something"
differ "$live" "$(generation web1)" "--tags fcgi_configure configured nothing"
live=$(generation web1)
play deploy_fcgi.yml -e "@$scratch/new.yml" -e fcgi_hosts=web1 --tags fcgi_run
same "$live" "$(generation web1)" "--tags fcgi_run configured something"
[ "$(comm -12 <(sort <<<"$before") <(pids web1 | sort) | wc -l)" = 0 ] || fail "--tags fcgi_run left processes of shop as they were"
say "tags run the phases one by one"

play webops.fastcgi.remove_fcgi -e fcgi_hosts=tools
! "$tools/podman" exec "$prefix-tools1" ls -d /etc/fcgi /srv/fcgi /opt/fcgi /etc/fcgi-supervisord 2>/dev/null || fail "remove_fcgi left something on tools1 (above)"
[[ $(get web1 /shop) == "200 "*ProcessId* ]] || fail "remove_fcgi on tools1 took /shop from web1"
say "remove_fcgi removed what was on the hosts that were named"
