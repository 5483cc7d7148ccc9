# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the generated nginx configuration promises, read from the templates' output for every set of tests/lint/nginx_samples.yml.

What an application gets through it from a running nginx: tests/functional/test_nginx_front.py.
"""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

import crossplane
import pytest
import rendering
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_keys import LOCATION
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_runtimes import RUNTIMES
from ansible_collections.webops.fastcgi.plugins.plugin_utils.model_values import KINDS

# RFC 3875, section 4.1, as far as nginx knows it, and what every FastCGI application takes for granted.
CGI_PARAMETERS = {
    "GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_ADDR", "SERVER_PORT", "REQUEST_METHOD", "REQUEST_URI",
    "REQUEST_SCHEME", "HTTPS", "HTTP_HOST", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_ADDR", "REMOTE_PORT",
    "REMOTE_USER",
}  # fmt: skip

# Decoded by nginx, and then no longer what the client sent; or sent by the client, and not checked by nginx.
UNSAFE_VARIABLES = re.compile(r"\$\{?(http_host|uri|document_uri|document_root|request_filename)\b")


class Block(NamedTuple):
    """A block directive, such as location. head: its arguments. statements: [[name, *arguments], ...] directly in it. blocks: those directly in it."""

    name: str
    head: list
    statements: list
    blocks: list

    def all(self, name):
        """Every block of this name in it, however deep."""
        return [found for block in self.blocks for found in ([block] if block.name == name else []) + block.all(name)]

    def get(self, name):
        """The arguments of each statement of this name, in order."""
        return [arguments for statement, *arguments in self.statements if statement == name]

    def one(self, name):
        """The arguments of the only statement of this name."""
        (arguments,) = self.get(name)
        return arguments


def block(name, head, parsed):
    statements = [[item["directive"], *item["args"]] for item in parsed if "block" not in item]
    return Block(name, head, statements, [block(item["directive"], item["args"], item["block"]) for item in parsed if "block" in item])


def parse(path):
    parsed = crossplane.parse(str(path), single=True, check_ctx=False)
    assert parsed["status"] == "ok", parsed["errors"]
    return block(str(path), [], parsed["config"][0]["parsed"])


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The directory in which the samples are installed, and the files of their generations."""
    directory = tmp_path_factory.mktemp("samples")
    return directory, rendering.install(rendering.samples(), directory, rendering.SITE)


@pytest.fixture(scope="module")
def files(samples):
    """(File, Block) of every nginx configuration: one per set, and one per app that serves locations."""
    directory, installed = samples
    found = [(file, parse(file.under(directory))) for file in installed if file.role == "fcgi_nginx" and file.path.endswith(".conf")]
    assert len(found) > 10
    return found


@pytest.fixture(scope="module")
def servers(files):
    found = [server for _file, configuration in files for server in configuration.all("server")]
    assert found
    return found


@pytest.fixture(scope="module")
def upstreams(files):
    return {upstream.head[0]: upstream for _file, configuration in files for upstream in configuration.all("upstream")}


@pytest.fixture(scope="module")
def locations(files):
    """Every location that passes requests on, in the servers of ours and in the files for servers of a site."""
    found = [location for _file, configuration in files for location in configuration.all("location") if location.get("fastcgi_pass")]
    assert len(found) > 40
    return found


@pytest.fixture(scope="module")
def php_locations(files):
    """Every location of php, and the one of scripts in it."""
    outer = [location for _file, configuration in files for location in configuration.all("location") if location.all("location")]
    found = [(location, script) for location in outer for script in location.all("location") if script.get("fastcgi_pass")]
    assert len(found) == len(outer) == 6  # each in a server of ours and in a file for one of a site
    return found


@pytest.fixture(scope="module")
def static_locations(files):
    found = [location for _file, configuration in files for location in configuration.all("location") if not location.get("fastcgi_pass")]
    assert found
    return found


def parameters(location):
    return dict(arguments[:2] for arguments in location.get("fastcgi_param"))


def test_the_samples_use_every_kind_runtime_and_key_of_a_location():
    apps = [app for variables in rendering.samples() for app in variables["fcgi_apps"]]
    assert {app.get("kind", "fcgi") for app in apps} == set(KINDS)
    assert {app.get("runtime", "generic") for app in apps} == set(RUNTIMES)
    assert {key for app in apps for location in app.get("locations", []) for key in location} == {key.name for key in LOCATION.keys}


def test_debians_nginx_accepts_all_of_it(samples):
    directory, _installed = samples
    certificate(directory / "fcgi")
    done = subprocess.run(["nginx", "-t", "-p", directory, "-c", directory / "nginx.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr, done.stderr


def certificate(directory):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=blog.example.org",
         "-keyout", directory / "tls.key", "-out", directory / "tls.pem"],
        capture_output=True, check=True,
    )  # fmt: skip


def test_a_clients_proxy_header_is_blanked_after_all_other_parameters(locations):
    for location in locations:
        assert location.get("fastcgi_param")[-1] == ["HTTP_PROXY", ""], location.head


def test_no_location_needs_parameters_of_an_outer_level_which_its_own_would_hide(locations, files):
    for location in locations:
        assert set(parameters(location)) >= CGI_PARAMETERS, location.head
    for file, configuration in files:
        for outer in [configuration, *configuration.all("server")]:
            assert not outer.get("fastcgi_param"), file.path


def test_every_parameter_is_set_once(locations):
    for location in locations:
        names = [name for name, *_value in location.get("fastcgi_param")]
        assert len(names) == len(set(names)), location.head


def test_nothing_of_the_distributions_files_is_included_which_differ_between_versions(files):
    for file, configuration in files:
        included = [arguments for part in [configuration, *configuration.all("server"), *configuration.all("location")] for arguments in part.get("include")]
        key = re.fullmatch(r"servers/(\w+)\.conf", file.path)
        # A server takes in the locations of all sets, and nothing else.
        assert [path.rpartition("/conf.d/")[2] for (path,) in included] == ([f".fcgi-*.d/{key[1]}.conf"] if key else []), file.path


def test_a_server_serves_the_locations_of_all_sets_and_stands_there_once(samples, files):
    directory, _installed = samples
    linked = sorted(path.name for path in (directory / "conf.d").glob("fcgi-server-*.conf"))
    assert linked == sorted({f"fcgi-server-{file.path[8:]}" for file, _configuration in files if file.path.startswith("servers/")})
    texts = {name: (directory / "conf.d" / name).read_text() for name in linked}
    (blog,) = (name for name, text in texts.items() if "server_name blog.example.org;" in text and "ssl" not in text)
    sites = {path.parent.name: path.read_text() for path in (directory / "conf.d").glob(f".fcgi-*.d/{blog[len('fcgi-server-') :]}")}
    assert sorted(sites) == [".fcgi-default.d", ".fcgi-team.d"]
    assert "location ^~ /stock/" in sites[".fcgi-team.d"]


def test_no_parameter_takes_what_a_client_can_forge_or_nginx_has_decoded(locations):
    for location in locations:
        unsafe = {name: value for name, value in parameters(location).items() if UNSAFE_VARIABLES.search(value)}
        assert not unsafe, location.head


def test_the_host_header_is_used_only_in_the_map_that_checks_it(files):
    for file, configuration in files:
        maps = [found.head[0] for found in configuration.all("map")]
        assert maps == ["$host|$http_host"] * (file.path == "nginx.conf"), file.path
        assert file.text.count("$http_host") == len(maps), file.path


def test_a_server_asks_the_map_before_a_location_is_chosen_and_no_parameter_does(files, locations):
    for file, configuration in files:
        if configuration.all("location") and not file.path.startswith("servers/"):
            assert configuration.one("set") == [f"$fcgi_{file.fcgi_set}_host", f"$host_and_port_of_fcgi_{file.fcgi_set}"], file.path
    assert {parameters(location)["HTTP_HOST"] for location in locations} == {"$fcgi_default_host", "$fcgi_intranet_host", "$fcgi_team_host"}


def test_a_site_that_includes_every_file_of_the_directory_is_served_too(samples):
    directory, _installed = samples
    certificate(directory / "fcgi")
    (directory / "every.conf").write_text((directory / "nginx.conf").read_text().replace("conf.d/*.conf", "conf.d/*"))
    done = subprocess.run(["nginx", "-t", "-p", directory, "-c", directory / "every.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_in_the_current_release_is_passed_on_by_the_path_of_that_release(locations):
    with_script = [location for location in locations if "SCRIPT_FILENAME" in parameters(location) and location.get("fastcgi_split_path_info")]
    assert with_script
    for location in with_script:
        assert location.one("root") == ["/srv/fcgi/git/current"], location.head
        assert (parameters(location)["SCRIPT_FILENAME"], parameters(location)["DOCUMENT_ROOT"]) == ("$realpath_root/gitweb.cgi", "$realpath_root")


def test_each_object_takes_directives_of_the_operators_own(servers, upstreams, static_locations):
    assert ["zone", "shop", "64k"] in upstreams["fcgi_default.shop"].statements
    assert [server.head for server in servers if ["error_page", "502", "=", "@later"] in server.statements] == [[]]
    assert {location.head[-1] for location in static_locations if ["autoindex_format", "json"] in location.statements} == {"/reports/static/"}


def test_an_alias_and_its_location_both_end_in_a_slash(static_locations):
    aliases = [(location.head[-1], directory) for location in static_locations for (directory,) in location.get("alias")]
    assert aliases
    assert all(path.endswith("/") and directory.endswith("/") for path, directory in aliases), aliases


def test_connections_are_kept_only_to_programs_that_serve_many_at_once(locations, upstreams):
    kept = {location.one("fastcgi_pass")[0] for location in locations if location.one("fastcgi_keep_conn") == ["on"]}
    assert kept == {name for name, upstream in upstreams.items() if upstream.get("keepalive")}
    runtimes = {app["name"]: app.get("runtime") for variables in rendering.samples() for app in variables["fcgi_apps"]}
    assert {runtimes[re.split("[._]", name)[-1]] for name in kept} == {"go", "fastcgipp"}


def test_every_upstream_has_a_second_server_to_ask_and_gives_none_up(upstreams, locations):
    assert {location.one("fastcgi_pass")[0] for location in locations} == set(upstreams)
    for upstream in upstreams.values():
        servers = upstream.get("server")
        assert len(servers) >= 2, upstream.head
        assert all(options == ["max_fails=0"] for _address, *options in servers), upstream.head


def test_a_request_is_retried_once_per_server_and_not_for_ever(locations, upstreams):
    for location in locations:
        assert set(location.one("fastcgi_next_upstream")) - {"non_idempotent"} == {"error", "timeout", "invalid_header"}, location.head
        assert int(location.one("fastcgi_next_upstream_tries")[0]) == len(upstreams[location.one("fastcgi_pass")[0]].get("server")), location.head
        assert location.one("fastcgi_next_upstream_timeout") == location.one("fastcgi_read_timeout"), location.head


def test_only_what_asks_for_it_has_its_posts_repeated(locations):
    repeated = {location.head[-1] for location in locations if "non_idempotent" in location.one("fastcgi_next_upstream")}
    assert repeated == {"/shop", "/shop/"}


def test_nobody_waits_long_for_a_connection_to_a_program_on_this_host(locations):
    assert {location.one("fastcgi_connect_timeout")[0] for location in locations} == {"5s", "2s"}


def test_no_dot_in_the_split_of_a_path_leaves_out_a_newline(locations):
    for location in locations:
        # One of php is itself the expression that splits.
        expression = (location.get("fastcgi_split_path_info") or [location.head])[0][-1]
        assert expression.startswith("(?s)^") and expression.endswith(r"\z"), expression


def test_a_script_of_php_is_passed_on_only_if_it_is_a_file_and_by_its_real_path(php_locations):
    for outer, script in php_locations:
        assert script.head[0] == "~" and not outer.get("fastcgi_pass"), script.head
        (file, otherwise) = script.one("try_files")
        assert re.fullmatch(r"\$fcgi_\w+_script", file), script.head
        # A front controller takes what is no file, whatever its name.
        assert otherwise == ("/board/index.php$is_args$args" if "/board" in script.head[1] else "=404"), script.head
        assert f"(?<{file[1:]}>" in script.head[1]
        given = parameters(script)
        assert (given["SCRIPT_FILENAME"], given["DOCUMENT_ROOT"], given["PATH_INFO"]) == (f"$realpath_root{file}", "$realpath_root", f"{file}_info")
        assert script.one("root") == ["/usr/share/forum"]


def test_php_has_no_alias_beside_try_files_which_nginx_gets_wrong(php_locations):
    for outer, script in php_locations:
        assert not script.get("alias") and not outer.get("try_files"), outer.head


def test_hidden_and_denied_files_come_before_scripts_and_are_404(php_locations):
    denied = {}
    for outer, script in php_locations:
        before = outer.blocks[: outer.blocks.index(script)]
        gone = [location for location in before if location.name == "location"]
        assert all(location.statements == [["return", "404"]] for location in gone), outer.head
        assert gone[-1].head[0] == "~" and "well-known" in gone[-1].head[1], outer.head
        denied[outer.head[-1]] = [location.head for location in gone[:-1]]
    forum = [["=", "/forum/data"], ["^~", "/forum/data/"], ["=", "/forum/conf"], ["^~", "/forum/conf/"]]
    assert denied == {"/forum/": forum, "/board/": [], "/forum-api/": []}


def test_uploads_are_limited_where_nginx_first_looks_which_is_the_location_outside(php_locations):
    limits = {outer.head[-1]: outer.one("client_max_body_size") for outer, script in php_locations if not script.get("client_max_body_size")}
    assert limits == {"/forum/": ["65M"], "/board/": ["65M"], "/forum-api/": ["8M"]}


def test_a_front_controller_is_the_only_if_and_does_nothing_but_rewrite(php_locations, files):
    conditions = [(outer.head[-1], condition) for outer, _script in php_locations for condition in outer.all("if")]
    assert {path for path, _condition in conditions} == {"/board/"}
    assert all(condition.statements == [["rewrite", "^", "/board/index.php", "last"]] for _path, condition in conditions)
    assert sum(len(configuration.all("if")) for _file, configuration in files) == len(conditions)


def test_the_operators_own_directives_stand_with_the_scripts(php_locations):
    assert {outer.head[-1] for outer, script in php_locations if ["fastcgi_intercept_errors", "on"] in script.statements} == {"/forum/"}


def test_a_second_pool_is_another_upstream(php_locations, upstreams):
    passed = {outer.head[-1]: script.one("fastcgi_pass")[0] for outer, script in php_locations}
    assert passed == {"/forum/": "fcgi_default.forum", "/board/": "fcgi_default.forum", "/forum-api/": "fcgi_default.forum.api"}
    assert {address for address, *_options in upstreams["fcgi_default.forum.api"].get("server")} == {"unix:/run/fastcgi/forum/api.sock"}


def test_static_files_ask_for_the_password_of_their_location(locations, static_locations):
    realms = {location.head[-1]: (location.get("auth_basic"), location.get("auth_basic_user_file")) for location in [*locations, *static_locations]}
    for static, location in (("/reports/static/", "/reports"), ("/reports/media/", "/reports"), ("/wiki/static/", "/wiki")):
        assert realms[static] == realms[location] != ([], [])


def test_only_nginx_can_read_password_hashes_and_only_there_do_they_stand(samples):
    _directory, installed = samples
    hashes = {file.path: file.mode for file in installed if "$6$" in file.text}
    assert sorted(path.rpartition("_")[0] for path in hashes) == ["auth/reports", "auth/wiki"]
    assert set(hashes.values()) == {"0640"}


def test_passwords_are_one_line_each(samples):
    _directory, installed = samples
    (reports,) = (file for file in installed if file.path.startswith("auth/reports_"))
    assert reports.text == "ada:$6$salt$hash\ngrace:$6$salt$other\n"


def test_tls_is_of_version_1_2_or_later_and_on_every_address_of_its_server(servers):
    with_tls = [server for server in servers if server.get("ssl_certificate")]
    assert with_tls
    for server in with_tls:
        assert server.one("ssl_protocols") == ["TLSv1.2", "TLSv1.3"]
        assert all("GCM" in cipher or "POLY1305" in cipher for cipher in server.one("ssl_ciphers")[0].split(":"))
    for server in servers:
        assert all(("ssl" in listen) == (server in with_tls) for listen in server.get("listen")), server.get("server_name")


def test_sets_on_one_host_share_no_name(files):
    names = {}
    for file, configuration in files:
        for name in re.findall(r"(?:\$|\?<)(\w*fcgi\w*)", file.text) + [upstream.head[0] for upstream in configuration.all("upstream")]:
            names.setdefault(file.fcgi_set, set()).add(name)
    names = {fcgi_set: {name for name in found if not name.startswith("fastcgi")} for fcgi_set, found in names.items()}
    assert names["default"] and names["intranet"]
    assert not names["default"] & names["intranet"]


def test_an_app_without_locations_is_no_business_of_nginx(samples):
    _directory, installed = samples
    assert not [file.path for file in installed if file.role == "fcgi_nginx" and "queue" in file.text + file.path]


@pytest.mark.parametrize("name", ["a b", "a;b", "a{", "}", "~^www", '"a"', "$host", "a\nb", "a#b", "a\\b", "*", "a/b", "-a"])
def test_a_server_name_that_could_become_syntax_is_refused(name):
    app = {"name": "app", "command": "/bin/app", "locations": [{"path": "/", "server_name": name}]}
    with pytest.raises(model.ModelError, match=r"locations\[0\]\.server_name\[?0?\]?: "):
        model.fcgi_model([app])


def test_every_file_is_indented_as_its_braces_say_and_has_no_stray_blanks(files):
    for file, _configuration in files:
        depth = 0
        for number, line in enumerate(file.text.splitlines(), 1):
            depth -= line.strip() == "}"
            assert line == line.rstrip() and (not line or len(line) - len(line.lstrip()) == 4 * depth), f"{file.path}:{number}: {line!r}"
            depth += line.endswith("{")
        assert "\n\n\n" not in file.text and "{\n\n" not in file.text and "\n\n}" not in file.text, file.path
        assert file.text.endswith("}\n"), file.path
