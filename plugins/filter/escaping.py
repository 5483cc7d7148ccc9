# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One escaping filter per output format. Each is documented in the .yml file of its name."""

from __future__ import annotations

import functools

from ansible.errors import AnsibleFilterError
from ansible_collections.webops.fastcgi.plugins.plugin_utils import escaping


def _filter(name, escape):
    """escape() as a filter whose errors name the filter and never show the value."""

    @functools.wraps(escape)
    def run(*args, **kwargs):
        try:
            return escape(*args, **kwargs)
        except escaping.EscapingError as error:
            raise AnsibleFilterError(f"{name}: {error}") from None

    return run


class FilterModule:
    def filters(self):
        return {
            name: _filter(name, escape)
            for name, escape in (
                ("fcgi_ini_value", escaping.ini_value),
                ("fcgi_supervisord_environment", escaping.supervisord_environment),
                ("fcgi_nginx_string", escaping.nginx_string),
                ("fcgi_nginx_params", escaping.nginx_params),
                ("fcgi_php_fpm_settings", escaping.php_fpm_settings),
            )
        }
