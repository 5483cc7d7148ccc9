# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a log means, in words. The sockets of running programs: tests/functional/test_fcgi_program.py."""

from __future__ import annotations

import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils.diagnosis import hint

FCGI = {"kind": "fcgi", "socket": "tcp://127.0.0.1:9000", "user": "fcgi-shop", "listen": []}
LISTENER = {"kind": "listener", "socket": None, "user": "fcgi-shop", "listen": ["127.0.0.1:9001"]}
PHP_FPM = {"kind": "php_fpm", "socket": "unix:///run/fastcgi/wiki/wiki.sock", "user": "www-data", "listen": []}
UNDECLARED: dict = {}
TOO_QUICKLY = "Exited too quickly (process log may have details)"


@pytest.mark.parametrize(("line", "program", "words"), [
    ("listen tcp 127.0.0.1:9000: bind: address already in use", FCGI, "the supervisor already holds tcp://127.0.0.1:9000"),
    ("OSError: [Errno 98] Address already in use", FCGI, "kind: listener"),
    ("bind() failed: Permission denied", FCGI, "kind: listener"),
    ("Error: listen EADDRINUSE: address already in use", LISTENER, "another process has 127.0.0.1:9001 already"),
    ("OSError: [Errno 98] Address already in use", UNDECLARED, "another process has its address already"),
    ("ERROR: unable to bind listening socket for address '/run/fastcgi/wiki/api.sock': Address already in use (98)", PHP_FPM,
     "another process has /run/fastcgi/wiki/api.sock already: 'ss -lxp' names it"),
    ("ERROR: unable to bind listening socket for address '127.0.0.1:9101': Address already in use (98)", PHP_FPM,
     "another process has 127.0.0.1:9101 already: 'ss -ltnp' names it"),
    ("ERROR: Another FPM instance seems to already listen on /run/fastcgi/wiki/status.sock", PHP_FPM,
     "another process has /run/fastcgi/wiki/status.sock already: 'ss -lxp' names it"),
    ("open /etc/shop.key: permission denied", LISTENER, "fcgi-shop lacks a permission"),
    ("cannot open /etc/shop.ini: No such file or directory", FCGI, "a file that the program needs is missing"),
    ("ModuleNotFoundError: No module named 'flup'", FCGI, "a library is missing"),
    ("supervisor: couldn't exec /srv/fcgi/shop/current/bin/shop: EACCES", FCGI, "may fcgi-shop reach it"),
    ("supervisor: couldn't setuid to 990: Can't drop privilege as nonroot user", UNDECLARED, "could not become its user"),
    ("supervisor: couldn't chdir to /srv/fcgi/shop/current: ENOENT", FCGI, "fcgi-shop may not enter it"),
])  # fmt: skip
def test_what_a_log_tells_is_told_with_the_way_out(line, program, words):
    assert words in hint(["starting", line], TOO_QUICKLY, program)


def test_a_command_that_supervisord_cannot_find_is_told():
    assert "could not execute the command" in hint([], "can't find command '/srv/shop'", FCGI)


def test_a_program_that_says_nothing_may_have_gone_into_the_background():
    assert "into the background" in hint([], TOO_QUICKLY, FCGI)


def test_what_nobody_knows_is_not_guessed_at():
    assert hint(["panic: runtime error: index out of range"], TOO_QUICKLY, FCGI) is None


@pytest.mark.parametrize("line", ["could not bind parameter :1", "LDAP: bind as cn=shop failed: invalid credentials"])
def test_what_else_is_called_bind_is_no_socket(line):
    assert "socket" not in (hint([line], TOO_QUICKLY, FCGI) or "")
