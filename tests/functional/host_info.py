# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fcgi_host_info of a directory instead of this machine, whose own nginx, supervisors and sets may run and are no test's business."""

from __future__ import annotations


def write_nginx_conf(directory, text=""):
    """nginx's configuration, with a pid file of its own: without one, nginx's is that of the machine."""
    (directory / "nginx.conf").write_text(f"pid {directory}/nginx.pid;\n{text}")


def places(directory):
    """Options that lead the module to the directory. What is missing there is missing on the host."""
    if not (directory / "nginx.conf").exists():
        write_nginx_conf(directory)
    return {
        "nginx_conf": f"{directory}/nginx.conf", "supervisord_conf": f"{directory}/none.conf", "own": f"{directory}/none.conf",
        "url": f"unix://{directory}/supervisor.sock", "set_path": f"{directory}/no-sets/default",
    }  # fmt: skip
