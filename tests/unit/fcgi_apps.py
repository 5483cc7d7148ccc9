# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small right apps, and what the model says of them."""

from __future__ import annotations

import pytest
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model


def app(name="shop", **keys):
    """A small right app, with these keys."""
    return {"name": name, "command": f"/opt/{name}/run", **keys}


def listener(name="api", listen=9001, **keys):
    return app(name, kind="listener", listen=listen, **keys)


def php(name="forum", **keys):
    """A small right app of kind php_fpm."""
    return {"name": name, "kind": "php_fpm", "root": f"/usr/share/{name}", **keys}


def located(name="shop", **keys):
    """An app with one location with these keys."""
    return app(name, locations=[{"path": "/shop", **keys}])


def errors(*apps, **options):
    """The errors (list) of these apps; there must be some."""
    with pytest.raises(model.ModelError) as caught:
        model.fcgi_model(list(apps), **options)
    return caught.value.errors


def made(*apps, **options):
    return model.fcgi_model(list(apps), **options)


def program(*apps, **options):
    return made(*apps, **options)["programs"][0]


def location(*apps, **options):
    """The first location of the first server."""
    return made(*apps, **options)["servers"][0]["locations"][0]
