# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a configuration file holds: it is loaded, or the error is a sentence. Never anything else."""

from __future__ import annotations

from fcgivisor import config, keys
from fcgivisor.ctl import read_settings
from fcgivisor.ini import ConfigError
from fcgivisor.model import Settings
from fuzzing import examples, written
from hypothesis import given
from hypothesis import strategies as st

ENVIRON = {"HOME": "/root", "PERCENT": "100%", "EMPTY": ""}


def load(content):
    """Settings, or the error; anything else that is raised fails the test."""
    path = written(content)
    try:
        settings = config.load(path, ENVIRON)
    except ConfigError as error:
        assert str(error).startswith(path), str(error)
        assert error.text
        return error
    assert isinstance(settings, Settings)
    for group in settings.groups.values():
        for name, process in group.processes.items():
            assert process.name == name
            assert process.command is not None
    return settings


# Sections and keys that there are, with values of all kinds: right, wrong, expanded, and made to hurt. numprocs stays small, since the test has to end.
_SECTIONS = [
    "supervisord", "unix_http_server", "inet_http_server", "supervisorctl", "program:a", "program:b", "program:", "program:a b", "fcgi-program:f",
    "eventlistener:e", "group:g", "group:a", "include", "rpcinterface:supervisor", "rpcinterface:x", "ctlplugin:x", "nonsense", "DEFAULT", "prgram:a",
]  # fmt: skip
_TABLES = (keys.PROGRAM, keys.FCGI, keys.LISTENER, keys.GROUP, keys.SUPERVISORD, keys.INET_SERVER, keys.UNIX_SERVER, keys.CTL, keys.INCLUDE)
_KEYS = [*sorted({key.name for table in _TABLES for key in table} - {"numprocs", "numprocs_start"}), "nonsense", "supervisor.rpcinterface_factory"]
_VALUES = [
    "", "0", "1", "-1", "2", "30", "1e3", "nan", "9" * 30, "9" * 5000, "true", "false", "yes", "unexpected", "a", "b", "a,b", "g,f", ",", "a b",
    "/bin/cat", "/bin/cat 'x", "\\", '"', "'", "root", "nobody-has-this-name", "root:root", ":", "022", "888", "TERM", "TERM:10 KILL", "TERM KILL",
    "10MB", "1:2", "unlimited", "1:unlimited", 'A="1"', 'A="1",B="2"', 'A="1', "A", "=", "%", "%%", "%(", "%(x)s", "%(here)s", "%(here)s/x",
    "%(program_name)s", "%(process_num)d", "%(process_num)02d", "%(process_num)s", "%(group_name)s", "%(host_node_name)s", "%(numprocs)d",
    "%(ENV_HOME)s", "%(ENV_PERCENT)s", "%(ENV_EMPTY)s", "%(ENV_NONE)s", "%(process_num)99999999999999999999d", "%s", "%d", "%n", "AUTO", "NONE",
    "syslog", "/tmp/x.log", "/nowhere/x", "unix:///tmp/x.sock", "unix://x", "unix:///" + "a" * 200, "tcp://localhost:9000", "tcp://[::1]:9000",
    "tcp://x", "tcp://:0", "127.0.0.1:9001", "*:9001", "9001", "localhost:99999", "[::1]:1", "{SHA}x", "TICK_5", "PROCESS_STATE,TICK_60", "NONSENSE",
    "json", "notify", "exponential", "info", "supervisor.rpcinterface:make_main_rpcinterface", "none/*.conf", "[", "\x1b[31m", "é", "\u2028", "\uff11",
]  # fmt: skip

_value = st.one_of(st.sampled_from(_VALUES), st.sampled_from(_VALUES), st.text(max_size=20).map(lambda text: text.replace("\0", "")))
_entry = st.one_of(
    st.tuples(st.sampled_from(_KEYS), _value).map("=".join),
    st.tuples(st.sampled_from(_KEYS), _value, _value).map(lambda parts: f"{parts[0]} = {parts[1]}\n  {parts[2]}"),
    st.sampled_from(
        [
            "numprocs=2",
            "numprocs=0",
            "numprocs=-1",
            "numprocs=x",
            "numprocs=99999",
            "numprocs_start=-1",
            "numprocs_start=5",
            "process_name=%(program_name)s_%(process_num)d",
        ]
    ),
    st.just("command=/bin/cat"),
    st.just("command=/bin/cat"),
)
_section = st.tuples(st.sampled_from(_SECTIONS), st.lists(_entry, max_size=6)).map(lambda parts: f"[{parts[0]}]\n" + "\n".join(parts[1]))
_file = st.lists(_section, max_size=6).map(lambda sections: "\n".join(["[supervisord]", *sections]))


@examples(1500)
@given(_file)
def test_any_sections_keys_and_values(text):
    load(text)


@examples(600)
@given(st.sampled_from(_KEYS), _value, st.sampled_from(["program:a", "fcgi-program:a", "eventlistener:a"]))
def test_one_strange_value_in_a_right_file(key, value, head):
    more = {"fcgi-program:a": "socket=unix:///tmp/x.sock\n", "eventlistener:a": "events=TICK_5\n"}.get(head, "")
    load(f"[supervisord]\n[{head}]\ncommand=/bin/cat\n{more}numprocs=2\nprocess_name=%(program_name)s_%(process_num)d\n{key}={value}\n")


@examples(600)
@given(st.text(max_size=300))
def test_any_text(text):
    load(text.encode("utf-8", "surrogatepass"))


@examples(600)
@given(st.one_of(st.binary(max_size=300), st.tuples(_file, st.binary(max_size=20), st.integers(0, 300)).map(lambda parts: _spliced(*parts))))
def test_any_bytes(content):
    load(content)


@examples(600)
@given(_file)
def test_the_client_reads_any_file_too_or_says_why_not(text):
    path = written(text)
    try:
        assert read_settings(path, ENVIRON).serverurl
    except ConfigError as error:
        assert str(error).startswith(path)


def _spliced(text, piece, position):
    """A right text with bytes in it that do not belong there."""
    data = text.encode()
    return data[:position] + piece + data[position:]


def test_the_examples_hold_files_that_load_and_files_that_do_not():
    """Else the tests above would show nothing."""
    outcomes = set()

    @examples(300)
    @given(_file)
    def collect(text):
        outcome = load(text)
        outcomes.add("loaded" if isinstance(outcome, Settings) and outcome.groups else "error" if isinstance(outcome, ConfigError) else "empty")

    collect()
    assert outcomes == {"loaded", "error", "empty"}
