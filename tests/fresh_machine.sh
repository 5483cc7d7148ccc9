#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# fresh_machine.sh systemd|plain: "make demo" from a clone of the last commit, on a Debian 12 that has never seen us.
# With systemd as PID 1, or with a PID 1 that starts nothing, as in most containers. A set-up step that was forgotten fails here.
set -euo pipefail

init=${1:-systemd}
checkout=$(cd "$(dirname "$0")/.." && pwd)
tools=$checkout/molecule/images
image=${FCGI_DEBIAN12_IMAGE:-localhost/webops-fastcgi:debian12}
name=fresh-$init-$(printf %s "$checkout" | sha1sum | cut -c 1-8)
clone=$(mktemp -d)
trap '"$tools/host" remove "$name"; rm -rf "$clone"' EXIT

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }
inside() { "$tools/podman" exec --interactive --workdir /root "$name" "$@"; }
make_inside() { inside make --no-print-directory --directory "a clone" "$@"; }

# Print the process ids that answered ten requests, once each; fail unless each answer is 200 with "ProcessId: <pid>".
ask_ten_times() {
    inside python3 - <<'PYTHON'
import re, urllib.request
pids = set()
for _number in range(10):
    with urllib.request.urlopen("http://127.0.0.1:8080/hello", timeout=10) as answer:
        pids.add(re.search(rb"ProcessId: (\d+)", answer.read())[1].decode())
print(*pids)
PYTHON
}

expect_several_processes() {
    local pids
    pids=$(ask_ten_times) || fail "http://127.0.0.1:8080/hello does not answer $1"
    [ "$(wc -w <<<"$pids")" -gt 1 ] || fail "ten requests $1 all came from process $pids"
    say "ten requests $1 came from the processes $pids"
}

expect_gone() {
    local path
    ! ask_ten_times >/dev/null 2>&1 || fail "http://127.0.0.1:8080/hello still answers after make demo-clean"
    for path in /srv/fcgi/hello /etc/fcgi/default /run/fastcgi/hello.sock; do
        ! inside test -e "$path" || fail "$path is still there after make demo-clean"
    done
    ! inside getent passwd fcgi-hello || fail "the user fcgi-hello is still there after make demo-clean"
}

case $image in localhost/webops-fastcgi:*) "$tools/build" "${image##*:}" ;; esac
"$tools/host" start "$name" "$image" "$init"
git clone --quiet "$checkout" "$clone/a clone"
"$tools/podman" cp "$clone/a clone" "$name:/root/a clone"
say "a bare Debian 12 is up ($init), with a clone of $(git -C "$checkout" rev-parse --short HEAD)"

# What the README asks for, and nothing that a minimal Debian lacks.
inside bash -euc 'SUDO_FORCE_REMOVE=yes apt-get -qq purge --yes sudo && apt-get -qq update && apt-get -qq install --yes make' >/dev/null 2>&1
started=$SECONDS
make_inside demo
say "make demo took $((SECONDS - started)) s"
expect_several_processes "after make demo"

make_inside demo | tee "$clone/second.log"
grep -Eq '^localhost .*changed=0 .*failed=0' "$clone/second.log" || fail "the second make demo changed something"
say "the second make demo changed nothing"

if [ "$init" = systemd ]; then
    "$tools/host" restart "$name"
    inside python3 -c 'import time, urllib.request as u
deadline = time.monotonic() + 30
while True:
    try: u.urlopen("http://127.0.0.1:8080/hello"); break
    except OSError:
        if time.monotonic() > deadline: raise
        time.sleep(0.2)' || fail "http://127.0.0.1:8080/hello does not answer within 30 s after a reboot"
    expect_several_processes "after a reboot"
fi

make_inside demo-clean
expect_gone
say "make demo-clean removed it"
