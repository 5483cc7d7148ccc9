# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m fcgivisor, or python3 DIRECTORY-OF-THIS-PACKAGE: see daemon.USAGE. With ctl as the first word it is fcgivisorctl: see ctl.USAGE."""

import os.path
import sys

if not __package__:  # run by its directory's path: python3 -IS looks nowhere else, and so starts faster
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if sys.argv[1:2] == ["ctl"]:
    from fcgivisor.ctl import main

    sys.argv[1:2] = []
else:
    from fcgivisor.daemon import main

sys.exit(main(sys.argv[1:]))
