#!/bin/sh
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Everything in /etc that is not ours by name, with its type, mode, owner and content; the accounts that are not ours; and what runs of the site's.
set -eu

foreign() { # FIND'S OPTIONS
    find /etc \
        ! -path /etc/fcgi ! -path '/etc/fcgi/*' \
        ! -regex '/etc/nginx/conf\.d/fcgi-\(default\|team\|other\|server-[0-9a-f]+\)\.conf' \
        ! -regex '/etc/nginx/conf\.d/\.fcgi-\(default\|team\|other\)\.d' \
        ! -regex '/etc/supervisor/conf\.d/fcgi-\(default\|team\)\.conf' \
        ! -regex '/etc/tmpfiles\.d/fcgi-\(default\|team\|other\)\.conf' \
        ! -path /etc/fcgi-supervisord ! -path '/etc/fcgi-supervisord/*' \
        ! -path /etc/systemd/system/fcgi-supervisord.service \
        ! -path /etc/systemd/system/multi-user.target.wants/fcgi-supervisord.service \
        ! -regex '/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-?' \
        "$@"
}

foreign -printf '%p %y %m %u:%g %l\n' | sort
foreign -type f -exec sha256sum {} + | sort -k 2
for accounts in passwd group shadow gshadow; do
    grep -v '^fcgi-' "/etc/$accounts" | sed "s|^|$accounts: |"
done
for service in nginx supervisor php8.2-fpm; do
    echo "$service: $(systemctl show --property MainPID,ActiveState,UnitFileState,NRestarts,DropInPaths "$service" | xargs)"
done
echo "foreign: $(supervisorctl pid foreign)"
