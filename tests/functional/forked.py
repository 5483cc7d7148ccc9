# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module in a forked child of the test: a process of its own, like on a host, without the second that starting one takes."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback

from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.testing import patch_module_args

# Where anything has imported the controller, as other tests do, a module imports more of it, for a sixth of a second: once here, not in each child.
importlib.import_module("ansible.constants")
for _direction in Direction:
    get_module_encoder("legacy", _direction)


def run_forked(module, arguments, prepare=None, report=None):
    """Run main() of an imported module; returns its result (dict), None if the child was killed.

    prepare() is called before, report() after it, both in the child; what report() returns (dict) is added to the result.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            sys.stdout = os.fdopen(writer, "w")
            with contextlib.suppress(SystemExit), patch_module_args(arguments):
                if prepare:  # only now: what Ansible itself does for the arguments, the first time, is not the module's
                    prepare()
                module.main()
            print(json.dumps(report() if report else {}), flush=True)
        except BaseException:  # else nobody would ever see it
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        lines = [line for line in stream if line.startswith("{")]
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    assert len(lines) == 2, f"the module printed no result: {lines}"
    return {"failed": False, **json.loads(lines[0]), **json.loads(lines[1])}
