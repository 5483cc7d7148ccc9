# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of php-fpm as php-fpm itself reads it: the values that come back to scripts, and where its logs are."""

from __future__ import annotations

import itertools
import string

import php_host
import pytest
from ansible_collections.webops.fastcgi.plugins.plugin_utils import escaping
from supervisord import wait_for

# Tells what it has been given.
TELL = """<?php
$settings = ['user_agent', 'error_prepend_string', 'docref_ext', 'error_append_string', 'display_errors', 'html_errors', 'log_errors', 'memory_limit'];
echo json_encode(['environment' => getenv(), 'settings' => array_combine($settings, array_map('ini_get', $settings))]);
"""

# Ends when its slowness has been noted.
SLOW = """<?php
do {
    usleep(20000);
    clearstatcache();
} while (!filesize($_SERVER['SLOWLOG']));
"""
COMPLAIN = "<?php error_log('by error_log'); fwrite(fopen('php://stderr', 'w'), 'by stderr'); trigger_error('by a warning', E_USER_WARNING);"

PRINTABLE = list(map(chr, range(32, 127)))
# With what a quote, a comment, an expansion or an operator of an INI file begins.
SPECIAL = "'\"\\$`{}();#=[]%!^|&~? "
NASTY = [
    "${HOME}", "a${HOME}b", "x${", "}", "$$HOME", "it's ${HOME} \\${HOME} \\\\", "'${HOME}'", "yes", "no", "on", "off", "none", "null", "true", "false",
    "1|2", "~7", "[global]", "[www]", "; no comment", "# no comment", "a ; b", "key = value", " blanks ", "naïve ☃ 日本", "postgres://u:p%40ss;w0rd@db/x?y=#z",
    "E_ALL", "PHP_VERSION", "M_PI", "\\n", "\\x41", "%(ENV_HOME)s", "`id`", "$(id)", "$poo", "1M", "0x10", "1e3", string.punctuation,
]  # fmt: skip
FLAGS = ("yes", "no", "on", "off", "true", "false")


def texts():
    """Each printable character alone, at the beginning, in the middle and at the end; each pair of special ones, each three of the worst; the nasty ones."""
    around = [text for character in PRINTABLE for text in (character, f"{character}x", f"x{character}y", f"x{character}")]
    unions = [*itertools.product(SPECIAL, repeat=2), *itertools.product("'\"\\${};# ", repeat=3)]
    return list(dict.fromkeys([*around, *map("".join, unions), *NASTY]))


def inventory(text):
    """As an inventory has to write it, where {{ and its like begin a template."""
    return text.replace("{", "{{ '{' }}")


def is_refused(text):
    try:
        escaping.php_fpm_environment_value(text)
    except escaping.EscapingError:
        return True
    return False


@pytest.fixture(scope="module")
def directory():
    with php_host.directory_for_all() as directory:
        (directory / "www").mkdir()
        for name, script in {"tell": TELL, "slow": SLOW, "complain": COMPLAIN}.items():
            (directory / "www" / f"{name}.php").write_text(script)
        yield directory


@pytest.fixture(scope="module")
def variables():
    """Values by the name of the variable that has them; all but the few that php-fpm cannot hold."""
    found = {f"V{number}": text for number, text in enumerate(["", *texts()])}
    refused = [name for name, text in found.items() if is_refused(text)]
    assert len(refused) < len(found) / 8 and {found[name][0] for name in refused} == {"$"}
    return {name: text for name, text in found.items() if name not in refused}


@pytest.fixture(scope="module")
def settings():
    """Values by the name of the pool that has them; flags are no text."""
    return {f"p{number}": text for number, text in enumerate(dict.fromkeys([*PRINTABLE, *NASTY])) if text not in FLAGS}


@pytest.fixture(scope="module")
def told(directory, variables, settings):
    """What the app's own pool tells. Each of the others has its settings, and one all the variables, which those of the app would hand down to all."""
    usual = {"pm": "ondemand", "pm.max_children": 1, "pm.process_idle_timeout": "1s"}
    pools = [
        {
            "name": name,
            "pool": usual,
            "php_value": {"user_agent": inventory(text), "error_prepend_string": inventory(f"{text}x")},
            "php_admin_value": {"docref_ext": inventory(f"x{text}y"), "error_append_string": inventory(f"x{text}")},
        }
        for name, text in settings.items()
    ]
    app = {
        "name": "tell",
        "pool": {**usual, "request_slowlog_timeout": "1s"},
        "php_value": {"display_errors": True, "html_errors": "off"},
        "php_admin_value": {"log_errors": "No", "memory_limit": "77M"},
        "stdout_logfile": str(directory / "log/tell.log"),
        "pools": [
            *pools,
            {"name": "variables", "pool": usual, "environment": {name: inventory(text) for name, text in variables.items()}},
            {"name": "complaints", "pool": usual, "php_admin_value": {"fastcgi.logging": False}},
        ],
    }
    php_host.install(directory, [app])
    with php_host.running(directory):
        # Waits for php-fpm, which binds the other sockets itself.
        yield php_host.ask(directory / "run/tell.sock", directory / "www/tell.php")


@pytest.fixture(scope="module")
def read(told, directory, settings):
    """What each of the other pools tells of its settings."""
    return {name: php_host.ask(directory / f"run/tell/{name}.sock", directory / "www/tell.php")["settings"] for name in settings}


def test_every_variable_is_read_back_as_it_was_meant_and_no_other_comes_with_them(told, directory, variables):
    found = php_host.ask(directory / "run/tell/variables.sock", directory / "www/tell.php")["environment"]
    assert {name: found.get(name, "") for name in variables} == variables
    assert set(found) <= {*variables, *php_host.request_params(), "FCGI_ROLE", "HOME", "USER", "LOGNAME"}
    assert found["USER"] == found["LOGNAME"] == php_host.USER


@pytest.mark.parametrize(("key", "meant"), [("user_agent", "%s"), ("error_prepend_string", "%sx"), ("docref_ext", "x%sy"), ("error_append_string", "x%s")])
def test_every_setting_is_read_back_as_it_was_meant(key, meant, read, settings):
    assert {name: found[key] for name, found in read.items()} == {name: meant.replace("%s", text) for name, text in settings.items()}


def test_flags_are_on_or_off(told):
    assert {key: told["settings"][key] for key in ("display_errors", "html_errors", "log_errors", "memory_limit")} == {
        "display_errors": "1", "html_errors": "0", "log_errors": "0", "memory_limit": "77M",
    }  # fmt: skip


def test_a_slow_request_stands_in_the_slow_log_with_its_script(told, directory):
    slow_log = directory / "log/tell/slow.log"
    assert slow_log.read_text() == ""
    php_host.ask(directory / "run/tell.sock", directory / "www/slow.php", SLOWLOG=str(slow_log))
    assert f"script_filename = {directory}/www/slow.php\n" in slow_log.read_text()


def test_what_scripts_write_and_what_php_complains_of_stand_in_the_apps_log(told, directory):
    log = directory / "log/tell.log"
    php_host.ask(directory / "run/tell/complaints.sock", directory / "www/complain.php")
    wait_for(lambda: "by a warning" in log.read_text(), "php-fpm to pass on what the worker wrote")
    assert "by error_log" in log.read_text() and "by stderr" in log.read_text()
