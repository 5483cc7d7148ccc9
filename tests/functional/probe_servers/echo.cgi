#!/bin/sh
# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
echo "echo.cgi was here" >&2
printf 'Content-Type: text/plain\r\n\r\n'
printf '%s %s %s %s\n' "$REQUEST_METHOD" "$SCRIPT_NAME$PATH_INFO" "$QUERY_STRING" "$(cat)"
