# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values: what they mean, that supervisord means the same, and that what is wrong is said with what would be right."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import signal

import pytest
from fcgivisor import values
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from supervisor import datatypes

INFINITY = resource.RLIM_INFINITY

#   converter              text                          value
RIGHT = [
    (values.name, "shop", "shop"),
    (values.name, " shop ", "shop"),
    (values.integer, "-3", -3),
    (values.count, "0", 0),
    (values.seconds, "0.5", 0.5),
    (values.seconds, "5", 5.0),
    (values.boolean, "Yes", True),
    (values.boolean, "on", True),
    (values.boolean, "1", True),
    (values.boolean, "OFF", False),
    (values.byte_size, "512", 512),
    (values.byte_size, "64KB", 64 * 1024),
    (values.byte_size, "50mb", 50 * 1024**2),
    (values.byte_size, "1GB", 1024**3),
    (values.octal, "022", 0o022),
    (values.octal, "0660", 0o660),
    (values.words, "a, b,c", ["a", "b", "c"]),
    (values.words, "", []),
    (values.exit_codes, "0,2", [0, 2]),
    (values.exit_codes, "", []),
    (values.autorestart, "true", "always"),
    (values.autorestart, "no", "never"),
    (values.autorestart, "Unexpected", "unexpected"),
    (values.signal_number, "TERM", signal.SIGTERM),
    (values.signal_number, "sigusr1", signal.SIGUSR1),
    (values.signal_number, "9", signal.SIGKILL),
    (values.stop_sequence, "TERM:10 QUIT:0.5 KILL", ((15, 10.0), (3, 0.5), (9, 10.0))),
    (values.stop_sequence, "KILL:1", ((9, 1.0),)),
    (values.environment, 'A="1",B=\'2, 3\',C=/x-y.z', {"A": "1", "B": "2, 3", "C": "/x-y.z"}),
    (values.environment, 'A="1",', {"A": "1"}),
    (values.environment, 'A="%(x)s"\n  ,B="2"', {"A": "%(x)s", "B": "2"}),
    (values.environment, "", {}),
    (values.uid, "root", 0),
    (values.uid, "0", 0),
    (values.gid, grp.getgrgid(0).gr_name, 0),
    (values.owner, "root", (0, -1)),
    (values.owner, "0:0", (0, 0)),
    (values.log_file, "NONE", None),
    (values.log_file, "off", None),
    (values.log_file, "Auto", values.AUTO),
    (values.log_file, "syslog", values.SYSLOG),
    (values.log_file, "/tmp/a.log", "/tmp/a.log"),
    (values.log_file, "a.log", "a.log"),
    (values.log_level, "DEBUG", 10),
    (values.host_and_port, "localhost:9001", ("localhost", 9001)),
    (values.host_and_port, "*:9001", ("", 9001)),
    (values.host_and_port, "9001", ("", 9001)),
    (values.host_and_port, "[::1]:9001", ("::1", 9001)),
    (values.socket_url, "unix:///run/a//b/../c.sock", "unix:///run/a/c.sock"),
    (values.socket_url, "tcp://LOCALHOST:09000", "tcp://localhost:9000"),
    (values.socket_url, "tcp://[::1]:9000", "tcp://[::1]:9000"),
    (values.backlog, "65535", 65535),
    (values.limit, "1024", (1024, 1024)),
    (values.limit, "1GB:unlimited", (1024**3, INFINITY)),
    (values.limit, "infinity", (INFINITY, INFINITY)),
    (values.one_of("plain", "json"), "JSON", "json"),
    (values.existing_directory, "/tmp", "/tmp"),
]  # fmt: skip

#   converter              texts that are wrong                                  what is said of each
WRONG = [
    (values.name, ["a b", "a:b", "a/b"], "names have no space, colon or slash"),
    (values.integer, ["", "1.5", "many"], "is not a whole number"),
    (values.count, ["-1"], "is negative"),
    (values.seconds, ["", "-1", "nan", "inf", "1e10", "soon"], "is not a number of seconds"),
    (values.boolean, ["", "2", "maybe"], "is neither true nor false"),
    (values.byte_size, ["", "KB", "-1", "-1KB", "1.5MB", "1TB", "1 0"], "is not a size in bytes"),
    (values.octal, ["", "8", "-1", "0x1ff", "77777"], "is not an octal mode"),
    (values.exit_codes, ["256", "-1", "0;2", ","], "is not a list of exit codes"),
    (values.autorestart, ["", "sometimes"], "is none of true, false, unexpected"),
    (values.signal_number, ["", "0", "65", "-15", "NONSENSE", "_DFL", "SIG_UNBLOCK"], "is not a signal"),
    (values.stop_sequence, ["", "TERM QUIT:5", "TERM:10:5", "TERM:x"], "is not a"),
    (values.environment, ["A", "A=", 'A="1" B="2"', "=1", 'A="1",B'], "KEY="),
    (values.environment, ['A="1'], "a quote that is not closed"),
    (values.uid, ["", "nobody-has-this-name", "4294967294", "99999999999999999999", "a\0b"], "there is no user"),
    (values.gid, ["", "nobody-has-this-name", "4294967294", "99999999999999999999"], "there is no group"),
    (values.owner, ["root:nobody-has-this-name", "root:", ":root"], "there is no"),
    (values.log_file, ["/nowhere/to/be/a.log"], "does not exist"),
    (values.log_level, ["", "loud"], "is none of critical,"),
    (values.host_and_port, ["", "localhost", "localhost:", "localhost:0", "localhost:65536", "::1:x"], "is not host:port"),
    (values.socket_url, ["", "/run/a.sock", "http://a:1", "tcp://a", "tcp://a:0", "tcp://:1", "tcp://::1:1", "tcp://a b:1"], "is neither unix:///path nor"),
    (values.socket_url, ["unix://a.sock"], "is absolute"),
    (values.socket_url, ["unix:///" + "a" * 107], "the kernel takes 107 at most"),
    (values.backlog, ["0", "-1", "65536", "x"], "is not"),
    (values.limit, ["", "2:1", "1:2:3", "unlimited:1", "-1"], "is not"),
    (values.one_of("plain", "json"), ["", "xml"], "is none of plain, json"),
    (values.existing_directory, ["/nowhere", "/etc/passwd"], "is not a directory"),
]  # fmt: skip


def _named(convert):
    return getattr(convert, "__name__", "one_of")


@pytest.mark.parametrize(("convert", "text", "value"), RIGHT, ids=[f"{_named(convert)} {text!r}" for convert, text, _value in RIGHT])
def test_right_values(convert, text, value):
    assert convert(text) == value


@pytest.mark.parametrize(("convert", "texts", "words"), WRONG, ids=[f"{_named(convert)} {words}" for convert, _texts, words in WRONG])
def test_wrong_values_are_refused_with_what_would_be_right(convert, texts, words):
    for text in texts:
        with pytest.raises(ValueError, match=r".") as caught:
            convert(text)
        assert words in str(caught.value), text


def test_the_longest_path_of_a_socket_is_counted_in_bytes():
    assert values.socket_url("unix:///" + "a" * 106)
    with pytest.raises(ValueError, match="has 109 bytes"):
        values.socket_url("unix:///" + "é" * 54)


def test_a_home_directory_is_found():
    assert values.existing_directory("~root") == pwd.getpwuid(0).pw_dir
    assert values.path_in_directory("~root/a") == f"{pwd.getpwuid(0).pw_dir}/a"


def test_a_wrong_environment_is_not_repeated_for_it_may_hold_secrets():
    for text in ('PASSWORD="secret" X', 'PASSWORD="secret'):
        with pytest.raises(ValueError, match=r".") as caught:
            values.environment(text)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("%(program_name)s_%(process_num)02d", "shop_07"),
        ("100%%", "100%"),
        ("%(ENV_HOME)s", "/root"),
        ("plain", "plain"),
    ],
)
def test_expansions(text, expanded):
    assert values.expand(text, {"program_name": "shop", "process_num": 7, "ENV_HOME": "/root"}) == expanded


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%(nonsense)s", r"%\(nonsense\)s cannot be expanded; there are program_name and ENV_"),
        ("100%", "write %% for a percent sign"),
        ("%(program_name)d", "write %% for a percent sign"),
        ("%(program_name", "write %% for a percent sign"),
        ("%s %s", "write %% for a percent sign"),
        ("%(program_name)99999999999999999999s", "write %% for a percent sign"),
    ],
)
def test_wrong_expansions_are_explained(text, words):
    with pytest.raises(ValueError, match=words):
        values.expand(text, {"program_name": "shop"})


# Beside supervisord's own converters

_SIGNS = "aB19 ,=\"'-_.:/()+;%\t"
PAIRS = [
    (values.integer, datatypes.integer),
    (values.boolean, datatypes.boolean),
    (values.byte_size, datatypes.byte_size),
    (values.octal, datatypes.octal_type),
    (values.words, datatypes.list_of_strings),
    (values.exit_codes, datatypes.list_of_exitcodes),
    (values.environment, datatypes.dict_of_key_value_pairs),
    (values.signal_number, datatypes.signal_number),
    (values.name, datatypes.process_or_group_name),
    (values.host_and_port, datatypes.inet_address),
    (values.log_level, datatypes.logging_level),
]
_LIKELY = [
    "1",
    "12",
    "022",
    "-1",
    "true",
    "NO",
    "1KB",
    "2mb",
    "0,1",
    'A="1",B=2',
    "A='x y'",
    "TERM",
    "SIGHUP",
    "10",
    "localhost:80",
    "*:80",
    "info",
    "WARN",
    "300",
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[_named(ours) for ours, _theirs in PAIRS])
@examples(200)
@given(text=st.one_of(st.sampled_from(_LIKELY), st.text(_SIGNS, max_size=8), st.text("AB12=,\"'", max_size=12)))
def test_whatever_we_take_means_the_same_to_supervisord(ours, theirs, text):
    """We refuse more: negative sizes, modes beyond 7777, pairs that no comma parts. What we take is no other value."""
    try:
        value = ours(text)
    except ValueError:
        return
    assert value == theirs(text)


@pytest.mark.parametrize("convert", sorted({convert for convert, *_rest in (*RIGHT, *WRONG) if convert.__name__ != "convert"}, key=_named), ids=_named)
@examples(200)
@given(text=st.one_of(st.text(max_size=12), st.text(_SIGNS, max_size=12), st.sampled_from(["9" * 5000, "%" * 9, "~" + "a" * 9, "[::", "tcp://[", "unix://"])))
def test_no_text_raises_anything_but_valueerror(convert, text):
    try:
        convert(text)
    except ValueError as error:
        assert str(error)


def test_names_of_signals_are_told_even_if_they_have_none():
    assert values.signal_name(15) == "SIGTERM"
    assert values.signal_name(40) == "signal 40"


def test_an_existing_file_is_found_beside_a_home_that_is_not(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    assert values.path_in_directory("~nobody-has-this-name") == "~nobody-has-this-name"
    assert os.path.isdir(values.existing_directory("~"))
