#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# test_hosts.sh: what scenarios rely on: a host that is put back is as virgin as a new one, and has what it had when it was kept.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
tools=$checkout/molecule/images
image=localhost/webops-fastcgi:debian12
name=put-back-$(printf %s "$checkout" | sha1sum | cut -c 1-8)
scratch=$(mktemp -d)
trap '"$tools/host" remove "$name"; rm -rf "$scratch"' EXIT

fail() { echo "FAILED: $*"; exit 1; }
inside() { "$tools/podman" exec --interactive "$name" "$@"; }
# Every path that a package, a role or a program leaves, with its type, mode, owner and, of what is not a log, content; who runs what; what systemd was told.
# A container's own numbers are not in it.
everything() {
    inside sh -c '
        cd /
        find etc opt root srv usr/local var boot home \( -path var/log/journal -o -path "var/tmp/systemd-private-*" \) -prune -o -printf "%p %y %m %u:%g %l\n" | sort
        find etc opt root srv usr/local home -type f ! -name hosts ! -name hostname ! -name resolv.conf ! -name machine-id -exec sha256sum {} + | sort
        find run -xdev -maxdepth 2 ! -path "run/systemd/*" ! -path "run/user/*" -printf "%p %y\n" | sort
        ps -e -o user=,args= | grep -vE "ps -e|sh -c|grep|sort" | sort
        systemctl list-unit-files --no-legend'
}
wound() {
    inside sh -euc '
        useradd intruder
        echo precious >/etc/intruder; mkdir -p /opt/intruder /run/intruder; rm /etc/issue; chmod 700 /srv
        printf "[Service]\nExecStart=/bin/sleep 1000000\n[Install]\nWantedBy=multi-user.target\n" >/etc/systemd/system/intruder.service
        systemctl --quiet enable --now intruder'
}

"$tools/host" start "$name" "$image"
everything >"$scratch/new"
grep -q ' /usr/sbin/init\|/sbin/init' "$scratch/new" || fail "nothing runs on a new host"
wound
everything | cmp -s "$scratch/new" - && fail "what was done to the host does not show"
kept=localhost/webops-fastcgi-snapshot:$name-wounded
"$tools/host" snapshot "$name" "$kept"

"$tools/host" put-back "$name" "$image"
everything | diff "$scratch/new" - || fail "a host that is put back is not as a new one (above)"
echo "a host that is put back is as virgin as a new one"

"$tools/host" put-back "$name" "$kept"
[ "$(inside cat /etc/intruder; inside systemctl is-active intruder; inside ls -d /run/intruder 2>&1 | grep -c 'No such')" = "precious
active
1" ] || fail "a host that is put back to a snapshot does not have what was kept on its disk, or has what was not"
echo "a host that is put back to a snapshot has what was on its disk, and starts it"

"$tools/host" remove "$name"
[ -z "$("$tools/podman" image ls --quiet --filter "reference=$kept")" ] || fail "a snapshot outlives its host"
echo "snapshots go with their host"
