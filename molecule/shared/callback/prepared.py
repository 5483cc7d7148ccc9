# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every task of every run would do again is done once: plugins are loaded before Ansible forks, and built modules are kept.

Ansible forks a worker for each task and host. Each loads the filters, the tests, Jinja2's parser and the builder of modules anew; and each run builds its
modules anew. What a module does and where is as ever.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib
import importlib.util
import io
import marshal
import os
import pathlib
import sys
import zipfile
from importlib import metadata

from ansible import constants
from ansible.executor import module_common
from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__

DOCUMENTATION = """
name: prepared
type: aggregate
short_description: load plugins once, and keep built modules
description:
  - Loads the plugins that tasks use before workers are forked, and keeps built modules in the directory of the environment variable C(FCGI_BUILT_MODULES),
    one directory for each content of the collection and version of Ansible.
"""

COLLECTION = "ansible_collections.webops.fastcgi"
# The head of compiled code (PEP 552): its Python's magic number, "do not compare it with its source", and the place for a hash that nobody looks at then.
COMPILED = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "prepared"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        load_plugins()
        keep_built_modules(pathlib.Path(os.environ["FCGI_BUILT_MODULES"]))


def load_plugins():
    for plugins in (loader.filter_loader, loader.test_loader):
        list(plugins.all())
    package = pathlib.Path(importlib.import_module(COLLECTION).__path__[0])
    for path in package.glob("plugins/filter/*.py"):
        importlib.import_module(f"{COLLECTION}.plugins.filter.{path.stem}")


def keep_built_modules(directory):
    """Lead Ansible's cache of built modules, which ends with the run, to a directory that stays."""
    package = pathlib.Path(importlib.import_module(COLLECTION).__path__[0])
    installed = [__version__, *(f"{found.name} {found.version}" for found in metadata.distributions() if found.name == "ansible")]
    digest = hashlib.sha256(f"{installed} {sys.version} {pathlib.Path(__file__).read_text(encoding='utf-8')}".encode())
    for path in sorted([*package.glob("plugins/modules/*.py"), *package.glob("plugins/module_utils/**/*.py")]):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    kept = directory / digest.hexdigest()[:16]
    kept.mkdir(parents=True, exist_ok=True)
    (pathlib.Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache").symlink_to(kept)
    module_common._CachedModule.dump = dump_compiled


def dump_compiled(module, path, dump=module_common._CachedModule.dump):
    """Keep a built module with its compiled code, which zipimport takes if it is its Python's, and passes over otherwise."""
    archive = io.BytesIO(base64.b64decode(module.zip_data))
    with zipfile.ZipFile(archive, "a") as files:
        for name in [name for name in files.namelist() if name.endswith(".py")]:
            code = compile(files.read(name), name, "exec", dont_inherit=True)
            files.writestr(f"{name}c", COMPILED + marshal.dumps(code), zipfile.ZIP_DEFLATED)
    dump(dataclasses.replace(module, zip_data=base64.b64encode(archive.getvalue())), path)
