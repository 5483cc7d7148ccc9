# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 replace_constants.py FILE OLD=NEW ...: replace strings that are compiled into a program by shorter ones."""

import pathlib
import sys

file = pathlib.Path(sys.argv[1])
content = file.read_bytes()
for argument in sys.argv[2:]:
    old, new = (b"\0" + part.encode() + b"\0" for part in argument.split("="))
    if len(new) > len(old) or old not in content:
        sys.exit(f"{file}: cannot replace {argument}")
    content = content.replace(old, new.ljust(len(old), b"\0"))
file.write_bytes(content)
