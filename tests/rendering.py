# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the roles fcgi_nginx and fcgi_app would install, rendered from their own variables, by their own tasks, with the product's renderer.

As a program it writes those of the samples below a directory, together with an nginx.conf that includes them: python tests/rendering.py DIRECTORY
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing as t

import yaml

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
SAMPLES = CHECKOUT / "tests" / "lint" / "nginx_samples.yml"
ROLES = ("fcgi_nginx", "fcgi_app", "fcgi_php_fpm")

# What the roles would have found out about a host.
HOST = {
    "ansible_facts": {"fqdn": "web1.example.org", "hostname": "web1", "distribution": "Debian", "distribution_major_version": "12"},
    "fcgi_nginx_group": "www-data",
}

# The site's part of an nginx.conf: everything in one directory, and what the distribution's file or the analyser asks for.
_NGINX_CONF = """\
user root;
worker_processes 1;
pid nginx.pid;
error_log error.log;

events {{
}}

http {{
    access_log off;
    server_tokens off;
    client_body_temp_path temporary/body;
    fastcgi_temp_path temporary/fastcgi;
    proxy_temp_path temporary/proxy;
    scgi_temp_path temporary/scgi;
    uwsgi_temp_path temporary/uwsgi;
{includes}
}}
"""


# A server block of a site that takes in the locations of all apps, instead of or beside the servers that the role makes.
SITE = """
    server {
        listen 127.0.0.1:8082;
        server_name site.example.org;
        include fcgi/default/fcgi_nginx/current/locations/*.conf;
        include fcgi/intranet/fcgi_nginx/current/locations/*.conf;
    }"""


class File(t.NamedTuple):
    """One file of a generation: the role and fcgi_set that own it, its path in the generation, its mode ("0644") and its text."""

    role: str
    fcgi_set: str
    path: str
    mode: str
    text: str

    def under(self, directory: pathlib.Path) -> pathlib.Path:
        """Its path if `directory` stands for /etc."""
        return directory / "fcgi" / self.fcgi_set / self.role / "current" / self.path


def samples() -> list[dict[str, t.Any]]:
    """The sets of the sample file, as variables of the roles."""
    return yaml.safe_load(SAMPLES.read_text())


class Link(t.NamedTuple):
    """A link to a file of a generation: the role and fcgi_set that own it, its own path, and its target in the generation."""

    role: str
    fcgi_set: str
    path: str
    target: str


def render(*sets: dict[str, t.Any]) -> tuple[list[File], list[Link]]:
    """All files and links of both roles for these sets of variables (fcgi_apps, fcgi_set, ...).

    In a process of its own: Ansible's loader of collections and the tests' plain imports of this one exclude each other.
    """
    with tempfile.TemporaryDirectory() as root:
        link = pathlib.Path(root, "ansible_collections", "webops", "fastcgi")
        link.parent.mkdir(parents=True)
        link.symlink_to(CHECKOUT)
        done = subprocess.run(
            [sys.executable, "-c", "import rendering; rendering.serve()"],
            cwd=CHECKOUT / "tests", env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": root},
            input=json.dumps(sets), capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    files, links = json.loads(done.stdout)
    return [File(*item) for item in files], [Link(*item) for item in links]


def install(sets: list[dict[str, t.Any]], directory: pathlib.Path, server: str = "") -> list[File]:
    """Write the files of these sets where the roles would, with `directory` for /etc, and an nginx.conf that runs them; returns the files.

    server: a server block of the site, to stand beside them. The path of a generation in it begins with fcgi/.
    """
    places = {"fcgi_config_dir": f"{directory}/fcgi", "fcgi_nginx_include_dir": f"{directory}/conf.d"}
    files, links = render(*({**places, **variables} for variables in sets))
    for file in files:
        path = file.under(directory)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    (directory / "conf.d").mkdir()
    for link in links:
        path = pathlib.Path(link.path)
        # The link of a server is one for all sets.
        if not path.is_symlink():
            path.symlink_to(directory / "fcgi" / link.fcgi_set / link.role / "current" / link.target)
    (directory / "temporary").mkdir()
    (directory / "nginx.conf").write_text(_NGINX_CONF.format(includes=f"    include conf.d/*.conf;\n{server}"))
    return files


def serve() -> None:
    """In a process of its own: sets of variables as JSON on stdin, files and links as JSON on stdout."""
    from ansible.plugins.loader import init_plugin_loader  # noqa: PLC0415  only where no test has imported the collection

    init_plugin_loader()
    items = [item for variables in json.load(sys.stdin) for role in ROLES for item in _generation(role, variables)]
    json.dump([[item for item in items if isinstance(item, kind)] for kind in (File, Link)], sys.stdout)


def _generation(role: str, variables: dict[str, t.Any]) -> t.Iterator[File | Link]:
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.template import Templar, trust_as_template  # noqa: PLC0415
    from ansible_collections.webops.fastcgi.plugins.action.config_set import Renderer  # noqa: PLC0415

    loader = DataLoader()

    def load(*parts: str) -> t.Any:
        path = CHECKOUT.joinpath("roles", *parts)
        return loader.load_from_file(str(path), trusted_as_template=True) if path.exists() else {}

    def trusted(value: t.Any) -> t.Any:
        """The tests' variables, in which templates work as in an inventory."""
        if isinstance(value, dict):
            return {key: trusted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [trusted(item) for item in value]
        return trust_as_template(value) if isinstance(value, str) else value

    roles = [load(name, *file) for name in ("fcgi", role) for file in (("defaults", "main.yml"), ("vars", "main.yml"))]
    merged = {key: value for source in [*roles, load("fcgi", "vars", "Debian.yml"), HOST, trusted(variables)] for key, value in source.items()}

    class Action:
        """What Renderer needs of an action plugin."""

        _loader = loader
        _templar = Templar(loader=loader, variables=merged)

        @staticmethod
        def _find_needle(kind: str, name: str) -> str:
            return str(CHECKOUT / "roles" / role / kind / name)

    options = _options_of_config_set(load(role, "tasks", "configure.yml"))
    files = Action._templar.template(options["files"])
    contents = Renderer(Action(), merged).render(files)
    for file, content in zip(files, contents):
        yield File(role, merged["fcgi_set"], file["path"], file["mode"], content.decode())
    for link in Action._templar.template(options["links"]) if role == "fcgi_nginx" else ():
        yield Link(role, merged["fcgi_set"], link["path"], link["target"])


def _options_of_config_set(tasks: list[dict[str, t.Any]]) -> t.Any:
    """The options of the task that installs a generation, wherever it stands among these tasks."""
    for task in tasks:
        options = task.get("webops.fastcgi.config_set", {})
        found = options if "files" in options else _options_of_config_set(task.get("block", []))
        if found:
            return found
    return None


if __name__ == "__main__":
    install(samples(), pathlib.Path(sys.argv[1]).resolve(), SITE)
