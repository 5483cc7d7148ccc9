# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every escaping filter, by round trip through the parser that will read its output: supervisord 4.2.5 (Debian 12) and 4.3.0, and nginx."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.webops.fastcgi.plugins.filter.escaping import FilterModule
from ansible_collections.webops.fastcgi.plugins.plugin_utils import escaping

NASTY = [
    "%", "%%", "100%", "%s", "%(ENV_HOME)s", "%(process_num)", "%%(ENV_HOME)s", "%d%%(x)s",
    "a ;x", "a #x", ";x", "#x", "a ;; # ;x", "a\u00a0;x", "a;b#c", "% ;", "%(x)s ;%",
    'say "no"', "it's", "'", '"', "back\\slash", "end\\", "\\n", "\\\\", '\\"x',
    "naïve ☃ 日本", "a,b", "A=b", "A='b',C=\"d\"", "$HOME `id` $(id)", "[x]", "key: value", "~/x", "*", "a  b",
]  # fmt: skip

READ = """
import json, sys
from supervisor.options import ServerOptions
options = ServerOptions()
options.realize(["-n", "-c", sys.argv[1]])
print(json.dumps({
    group.name: {"command": p.command, "directory": p.directory, "environment": p.environment}
    for group in options.process_group_configs for p in group.process_configs
}))
"""


@pytest.fixture(params=[sys.executable, "/usr/bin/python3"], ids=["supervisor-4.3.0", "debian"])
def supervisord_reads(request, tmp_path):
    """A function that has the real supervisord parse program sections (dict of name to lines) and returns what it understood, by program."""

    def read(sections, here=tmp_path):
        programs = here / "programs.conf"
        programs.write_text("".join(f"[program:{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items()), encoding="utf-8")
        main = here / "supervisord.conf"
        main.write_text("[supervisord]\nnodaemon=true\n[include]\nfiles=programs.conf\n")
        done = subprocess.run([request.param, "-c", READ, str(main)], capture_output=True, text=True, check=False, cwd=here)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return read


def test_any_value_without_an_expansion_is_read_back_by_supervisord(supervisord_reads):
    sections = {f"p{i}": ["command=/bin/true", f"directory={escaping.ini_value(text)}"] for i, text in enumerate(NASTY)}
    read = supervisord_reads(sections)
    assert [read[f"p{i}"]["directory"] for i in range(len(NASTY))] == NASTY


def test_blanks_round_the_equals_sign_do_not_turn_a_value_into_a_comment(supervisord_reads):
    read = supervisord_reads({"p": ["command = /bin/true", f"directory = {escaping.ini_value(';x')}"]})
    assert read["p"]["directory"] == ";x"


def test_supervisords_own_expansions_keep_their_meaning(supervisord_reads, tmp_path):
    text = "%(program_name)s %(process_num)02d %(numprocs)d %(group_name)s %(here)s 5% ;"
    read = supervisord_reads({"p": [f"command={escaping.ini_value(text)}"]})
    assert read["p"]["command"] == f"p 00 1 p {tmp_path} 5% ;"


def test_a_command_becomes_the_same_words_in_supervisord(supervisord_reads):
    words = ["/bin/app", *NASTY, ""]
    read = supervisord_reads({"p": [f"command={escaping.ini_value(shlex.join(words))}"]})
    assert shlex.split(read["p"]["command"]) == words


def test_a_command_may_name_the_process_number(supervisord_reads):
    read = supervisord_reads({"p": [f"command={escaping.ini_value(shlex.join(['/bin/app', '--port=%(process_num)d']))}", "numprocs_start=9001"]})
    assert shlex.split(read["p"]["command"]) == ["/bin/app", "--port=9001"]


REPRESENTABLE = [text for text in NASTY if text[0] not in "'\"" and text[-1] not in "'\"" and not ("'" in text and ("\\" in text or '"' in text))]
REPRESENTABLE += ["", " leading", "trailing ", "%(here)s", "%%(here)s", "%(program_name)s", "postgres://u:p%40ss;w0rd@db/x?y=#z"]


def test_an_environment_is_read_back_by_supervisord(supervisord_reads):
    environment = {f"V{i}": text for i, text in enumerate(REPRESENTABLE)}
    read = supervisord_reads({"p": ["command=/bin/true", "environment=" + escaping.supervisord_environment(environment), "priority=7"]})
    assert read["p"]["environment"] == environment


def test_only_the_expanded_part_of_an_environment_is_expanded(supervisord_reads):
    text = escaping.supervisord_environment({"LITERAL": "%(process_num)d"}, {"PORT": "%(process_num)d"})
    read = supervisord_reads({"p": ["command=/bin/true", f"environment={text}", "numprocs_start=9001"]})
    assert read["p"]["environment"] == {"LITERAL": "%(process_num)d", "PORT": "9001"}


def test_an_empty_environment_is_read_back_by_supervisord(supervisord_reads):
    read = supervisord_reads({"p": ["environment=" + escaping.supervisord_environment({}), "command=/bin/true"]})
    assert read["p"]["environment"] == {}


def test_supervisord_4_4_which_reads_the_environment_with_posix_quotes_reads_the_same():
    environment = {f"V{i}": text for i, text in enumerate(REPRESENTABLE)}
    lexer = shlex.shlex(escaping.supervisord_environment(environment) % {"here": ""}, posix=True)
    lexer.wordchars += "/.+-():"
    tokens = list(lexer)
    assert dict(zip(tokens[::4], tokens[2::4])) == environment


def test_one_variable_stands_on_each_line_so_that_a_mask_can_hide_its_value():
    assert escaping.supervisord_environment({"B": "2", "A": "1"}) == "\n    A='1',\n    B='2'"


@pytest.mark.parametrize("secret", ["'hush", 'hush"', 'it\'s "hush"', "it's\\hush", "hush\nhush", "hush\0", "\thush", "hush\x85"])
def test_an_environment_value_that_supervisord_cannot_hold_is_an_error_that_hides_it_and_says_the_way_out(secret):
    with pytest.raises(escaping.EscapingError) as caught:
        escaping.supervisord_environment({"OK": "x", "SHOP_DB": secret})
    assert "environment.SHOP_DB" in str(caught.value)
    assert "file with mode 0600" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["A-B", "1A", "", "A=B", "A B", "A\n", "É"])
def test_a_name_that_is_no_environment_variable_is_an_error(name):
    with pytest.raises(escaping.EscapingError, match="is not the name of an environment variable"):
        escaping.supervisord_environment({name: "x"})


@pytest.mark.parametrize("escape", [escaping.ini_value, escaping.nginx_string])
@pytest.mark.parametrize("text", ["a\nb", "a\n", "\rb", "a\0b", "a\tb", "\x1b[0m", "a\x85b", "\udc80"])
def test_a_control_character_is_an_error_in_every_format(escape, text):
    with pytest.raises(escaping.EscapingError, match="control character"):
        escape(text)


@pytest.mark.parametrize("text", [" x", "x ", "\u00a0x"])
def test_white_space_that_the_ini_parser_would_strip_is_an_error(text):
    with pytest.raises(escaping.EscapingError, match="white space"):
        escaping.ini_value(text)


def test_numbers_and_booleans_are_written_as_supervisord_reads_them():
    assert [escaping.ini_value(value) for value in (4, True, False)] == ["4", "true", "false"]


@pytest.mark.parametrize("value", [None, ["x"], {"x": 1}])
def test_what_is_not_text_is_an_error(value):
    with pytest.raises(escaping.EscapingError, match="not text"):
        escaping.ini_value(value)


def test_the_params_of_a_location_are_lines_in_which_no_value_becomes_syntax():
    params = [["SHOP", 'the "main"; one'], ["HTTPS", "$https"]]
    assert escaping.nginx_params(params, ["HTTPS"]) == 'fastcgi_param SHOP "the \\"main\\"; one";\nfastcgi_param HTTPS "$https" if_not_empty;'
    with pytest.raises(escaping.EscapingError, match="control character"):
        escaping.nginx_params([["SHOP", "a\nb"]])


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


@pytest.fixture
def nginx_serves(tmp_path):
    """A function that has nginx serve one location per string (already quoted) and returns the bodies that it answers with."""
    pid_file = tmp_path / "nginx.pid"

    def serve(strings):
        locations = "\n".join(f"location = /{i} {{ return 200 {text}; }}" for i, text in enumerate(strings))
        temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (tmp_path / "nginx.conf").write_text(
            f"pid {pid_file}; error_log {tmp_path}/error.log; events {{}}\n"
            f"http {{ access_log off; {temporary} server {{ listen unix:{tmp_path}/http.sock; {locations} }} }}\n",
            encoding="utf-8",
        )
        # Without "daemon off", nginx comes back when it listens.
        done = subprocess.run(["nginx", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        connection = UnixConnection(tmp_path / "http.sock")
        bodies = []
        for i in range(len(strings)):
            connection.request("GET", f"/{i}")
            bodies.append(connection.getresponse().read().decode())
        connection.close()
        return bodies

    yield serve
    if pid_file.exists():
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


def test_any_text_without_a_dollar_is_read_back_by_nginx(nginx_serves):
    texts = [text for text in NASTY if "$" not in text] + ["a;b", "}", "{", "# no comment", "\\t", "\\\\t"]
    assert nginx_serves([escaping.nginx_string(text) for text in texts]) == texts


def test_variables_are_variables_only_where_they_are_asked_for(nginx_serves):
    assert nginx_serves([escaping.nginx_string('"$request_method";', variables=True)]) == ['"GET";']
    with pytest.raises(escaping.EscapingError, match=r"contains a \$"):
        escaping.nginx_string("$request_method")


# What php-fpm itself reads back: tests/functional/test_php_fpm_configuration.py


def test_values_of_php_fpm_are_quoted_but_for_booleans():
    assert [escaping.php_fpm_value(value) for value in (True, False, 5, 1.5, "yes", "it's", 'say "no"')] == [
        "yes", "no", "'5'", "'1.5'", "'yes'", '"it\'s"', "'say \"no\"'",
    ]  # fmt: skip


@pytest.mark.parametrize("escape", [escaping.php_fpm_value, escaping.php_fpm_environment_value])
@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("back\\slash", "'back\\slash'"),
        ("end\\", '"end\\\\"'),
        ("it's \\ ${HOME} $HOME", '"it\'s \\\\ \\${HOME} $HOME"'),
        ("'${A}\"", '"\'\\${A}\\""'),
        ("a;b#c=d[e]", "'a;b#c=d[e]'"),
    ],
)
def test_a_value_of_php_fpm_is_quoted_so_that_nothing_in_it_is_syntax(escape, text, quoted):
    assert escape(text) == quoted


@pytest.mark.parametrize("escape", [escaping.php_fpm_value, escaping.php_fpm_environment_value])
@pytest.mark.parametrize("text", ["hush\nhush", "hush\0", "\thush", "hush\x85", "hush\udc80"])
def test_a_control_character_is_an_error_for_php_fpm_too(escape, text):
    with pytest.raises(escaping.EscapingError, match="control character") as caught:
        escape(text)
    assert "hush" not in str(caught.value)


def test_an_empty_value_is_an_error_which_php_fpm_refuses():
    with pytest.raises(escaping.EscapingError, match=r"is empty, which php-fpm refuses; php\.ini writes none"):
        escaping.php_fpm_value("")


def test_an_empty_variable_is_one_that_is_not_there():
    assert escaping.php_fpm_environment_value("") == "$FCGI_EMPTY"


@pytest.mark.parametrize(("secret", "reason"), [("$hush", "begins with a $"), ("hush$pool", "contains $pool"), ("$pool", "begins with a $")])
def test_a_variable_that_php_fpm_cannot_hold_is_an_error_that_hides_it_and_says_the_way_out(secret, reason):
    with pytest.raises(escaping.EscapingError) as caught:
        escaping.php_fpm_settings([("pm", "static"), ("env[FORUM_DB]", secret)])
    assert str(caught.value).startswith("env[FORUM_DB]: the value (not shown) ")
    assert reason in str(caught.value) and "file with mode 0600" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_setting_that_php_fpm_cannot_hold_is_named_without_its_value():
    with pytest.raises(escaping.EscapingError) as caught:
        escaping.php_fpm_settings([("php_value[error_log]", "hush\n")])
    assert str(caught.value) == "php_value[error_log]: the value (not shown) contains a control character, such as a newline or a tab"


def test_settings_of_php_fpm_are_one_line_each_so_that_a_mask_can_hide_a_variable():
    settings = [("listen", "/run/x.sock"), ("catch_workers_output", True), ("env[A]", "b"), ("env[N]", 1), ("slowlog", "/log/$pool")]
    assert escaping.php_fpm_settings(settings).splitlines() == [
        "listen = '/run/x.sock'", "catch_workers_output = yes", "env[A] = 'b'", "env[N] = '1'", "slowlog = '/log/$pool'",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [None, ["x"], {"x": 1}])
def test_what_is_not_text_is_an_error_for_php_fpm_too(value):
    with pytest.raises(escaping.EscapingError, match="not text"):
        escaping.php_fpm_settings([("pm", value)])


def test_the_filters_raise_the_error_of_ansible_and_name_themselves():
    filters = FilterModule().filters()
    assert filters["fcgi_nginx_string"]("x") == '"x"'
    with pytest.raises(AnsibleFilterError, match=r"fcgi_ini_value: the value \(not shown\) contains a control character"):
        filters["fcgi_ini_value"]("hush\n")
