# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer each request on fd 0 with what it was asked."""

from flup.server.fcgi import WSGIServer


def echo(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    return [f"{environ['REQUEST_METHOD']} {path} {environ['QUERY_STRING']} {body}\n".encode()]


WSGIServer(echo).run()
