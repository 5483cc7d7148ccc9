#!/usr/bin/env bash
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# fresh_machine.sh systemd|plain: "make demo" from a clone of the last commit, on a Debian 12 that has never seen us.
# With systemd as PID 1, or with a PID 1 that starts nothing, as in most containers. A set-up step that was forgotten fails here, and so does
# anything that "make demo-clean" leaves, and a test that the running demo reddens.
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
# A command inside whose output is of interest only if it fails.
quietly() { inside "$@" >"$clone/output" 2>&1 || { cat "$clone/output"; fail "$*"; }; }
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

# The demo took at most three times the minute that it takes on a machine that does nothing else, and ended with the table and the URL; what the table shows
# is on this host, and as promised.
expect_promised() { # LOG SECONDS
    [ "$2" -le 180 ] || fail "make demo took $2 s, which is more than 180"
    [ "$(grep -Ec ' hello_0[0-3] +running ' "$1")" = 4 ] || fail "make demo shows no table of four running processes"
    [ "$(tail -n 1 "$1")" = "Try it: http://127.0.0.1:8080/hello" ] || fail "make demo does not end with the URL"
    inside sh -eu >"$clone/processes" <<'SHELL'
for pid in $(pgrep -f 'hello[.]py'); do
    echo "$(ps -o user:32= -p "$pid") $(readlink "/proc/$pid/cwd") $(tr '\0' ' ' <"/proc/$pid/cmdline")"
done
SHELL
    [ "$(wc -l <"$clone/processes")" = 4 ] || fail "not four processes run: $(cat "$clone/processes")"
    ! grep -Ev '^fcgi-hello +/srv/fcgi/hello/releases/1\.0\.0 ' "$clone/processes" || fail "a process (above) has another user, or runs from elsewhere"
    ! grep -F "a clone" "$clone/processes" || fail "a process (above) runs from the checkout"
}

packages() { inside dpkg-query --show | cut -f 1 | sort; }

# Every path where a demo leaves something, and the accounts. What systemd keeps of what runs, and Python's caches, are nobody's promise.
snapshot() {
    inside sh -c 'find /etc /srv /run /var/log /var/cache/fcgivisord* /opt /usr/local "/root/a clone" \( -name __pycache__ -o -path /run/systemd \) -prune -o -print; cut -d: -f1 /etc/passwd /etc/group' | sort
}

expect_gone() {
    ! ask_ten_times >/dev/null 2>&1 || fail "http://127.0.0.1:8080/hello still answers after make demo-clean"
    # The packages stay; with them purged, the host is as it was, but for what Debian's supervisor forgets itself.
    mapfile -t added < <(comm -13 "$clone/packages" <(packages))
    quietly apt-get -qq purge --yes "${added[@]}"
    comm -3 "$clone/before" <(snapshot) | grep -Ev '^.?(/run/supervisor\.sock|/run/supervisord\.pid|/var/log/supervisor(/supervisord\.log)?)$' >"$clone/left" || true
    [ ! -s "$clone/left" ] || { cat "$clone/left"; fail "make demo-clean left the second column, or took the first"; }
}

case $image in localhost/webops-fastcgi:*) "$tools/build" "${image##*:}" ;; esac
"$tools/host" start "$name" "$image" "$init"
git clone --quiet "$checkout" "$clone/a clone"
"$tools/podman" cp "$clone/a clone" "$name:/root/a clone"
say "a bare Debian 12 is up ($init), with a clone of $(git -C "$checkout" rev-parse --short HEAD)"

# What the README asks for, and nothing that a minimal Debian lacks.
quietly bash -euc 'SUDO_FORCE_REMOVE=yes apt-get -qq purge --yes sudo && apt-get -qq update && apt-get -qq install --yes make'
# A warm package cache, which that time assumes.
quietly apt-get -qq install --download-only --no-install-recommends --yes nginx python3-venv
packages >"$clone/packages"
snapshot >"$clone/before"
started=$SECONDS
make_inside demo | tee "$clone/first.log"
took=$((SECONDS - started))
say "make demo took $took s"
expect_promised "$clone/first.log" "$took"
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

# README: "make test" comes next. The tests that look for nginx, supervisors and their processes on a machine find the demo's, and pass all the same.
if [ "$init" = systemd ]; then
    mapfile -t needed < <(grep -E '^(pytest|supervisor)[>=]' "$checkout/tests/requirements.txt")
    quietly "a clone/.venv/bin/pip" --disable-pip-version-check install "${needed[@]}"
    quietly sh -euc 'cd "a clone" && .venv/bin/python -m pytest -p no:cacheprovider -m machine tests/functional'
    say "the tests that can see the demo pass beside it: $(tail -n 1 "$clone/output")"
    expect_several_processes "after the tests"
fi

make_inside demo-clean
expect_gone
say "make demo-clean removed all of it"
