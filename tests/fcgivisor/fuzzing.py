# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How hypothesis is used here: the same examples in every run, and none kept."""

from __future__ import annotations

import os
import pathlib
import tempfile

from hypothesis import HealthCheck, settings


def examples(count):
    """So many; FCGIVISOR_FUZZ multiplies them, and has them chosen anew in each run."""
    factor = int(os.environ.get("FCGIVISOR_FUZZ", "0"))
    return settings(
        max_examples=count * (factor or 1),
        derandomize=not factor,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


_directory = tempfile.TemporaryDirectory(prefix="fcgivisor-")


def written(content):
    """The path of a file with this text or these bytes; the next call overwrites it."""
    path = pathlib.Path(_directory.name) / "fuzzed.conf"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)
