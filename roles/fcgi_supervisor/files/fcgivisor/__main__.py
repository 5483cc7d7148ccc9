# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m fcgivisor: see daemon.USAGE."""

import sys

from fcgivisor.daemon import main

sys.exit(main(sys.argv[1:]))
