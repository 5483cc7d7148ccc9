# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgivisord: supervisord's contract, without its second of silence.

A process supervisor for FastCGI applications in one Python package that needs the standard library alone (Python 3.9 or newer, Linux).
It reads supervisord's configuration, answers supervisord's XML-RPC, and adds what FastCGI needs; docs/fcgivisord.md tells what.

The rooms, one idea each; every arrow points downwards:

    __main__ -> daemon -> rpc -> supervisor -> process -> { sockets  output  events  heartbeat  spawn  policy } -> { config  states  loop }
                       -> http_server, wire                                                        ctl -> { config, wire }
"""

VERSION = "1.1.0"
# Of the XML-RPC interface (supervisor/rpcinterface.py), which every client asks for first.
API_VERSION = "3.0"
# The supervisor whose contract this is, and whose clients look at this number.
SUPERVISOR_VERSION = f"4.3.0+fcgivisord.{VERSION}"
