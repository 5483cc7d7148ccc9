# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m fcgivisor, or python3 DIRECTORY-OF-THIS-PACKAGE: see daemon.USAGE."""

import os.path
import sys

if not __package__:  # run by its directory's path: python3 -IS looks nowhere else, and so starts faster
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from fcgivisor.daemon import main

sys.exit(main(sys.argv[1:]))
