# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The syntax of configuration files is that of Python's RawConfigParser, as supervisord sets it up; every value knows its place."""

from __future__ import annotations

import configparser

import pytest
from fcgivisor import config
from fcgivisor.ini import ConfigError, Ini, included
from fuzzing import examples, written
from hypothesis import given
from hypothesis import strategies as st


def theirs(text):
    """What RawConfigParser reads, None for an error."""
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";", "#"))
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    return {name: dict(parser.items(name)) for name in parser.sections()}


def ours(text):
    ini = Ini()
    try:
        ini.read(written(text))
    except ConfigError:
        return None
    ini.inherit()
    return {name: {key: value.text for key, value in section.values.items()} for name, section in ini.sections.items()}


# Lines of all kinds, right and wrong, indented or not. A line has one of the two signs for comments, since RawConfigParser is odd about both together (below).
_word = st.text("aB0_.%é", min_size=1, max_size=4)
_blank = st.sampled_from(["", " ", "  ", "\t", "    "])
_value = st.lists(st.one_of(_word, st.sampled_from([" ", "=", ":", "[", "a;b", "'", '"', ",", "\\"])), max_size=5).map("".join)
_option = st.tuples(_blank, _word, _blank, st.sampled_from(["=", ":", ""]), _blank, _value).map("".join)
_section = st.tuples(_blank, st.sampled_from(["[a]", "[b]", "[program:a]", "[DEFAULT]", "[a b]", "[]", "[a", "[a] b"])).map("".join)
_comment = st.sampled_from(["", "", "", "", " ; words", ";glued", "\t;", " ;a ;b"])
_line = st.tuples(st.one_of(_option, _option, _option, _section, _blank, _value), _comment).map("".join)
_hash_line = st.tuples(_option, st.sampled_from([" # words", "#glued", " #a #b"])).map(lambda parts: parts[0].replace(";", "") + parts[1])
_text = st.lists(st.one_of(_line, _line, _hash_line), max_size=12).map("\n".join)
_begun = _text.map(lambda text: f"[a]\n{text}")


@examples(1500)
@given(st.one_of(_begun, _begun, _text))
def test_sections_options_and_values_are_those_of_rawconfigparser(text):
    assert ours(text) == theirs(text)


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n; comments\n", "[a]", "[a]\r\nb=1\r\n c\r\n", "\ufeff[a]\nb=1"])
def test_small_files_are_read_as_rawconfigparser_reads_them(text):
    assert ours(text) == theirs(text.replace("\r\n", "\n").lstrip("\ufeff"))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a=1 ; comment", "1"),
        ("a=1;no comment", "1;no comment"),
        ('a="x ; y"', '"x'),
        ("a=1 # comment ; more", "1"),
        ("A : 1", "1"),
        ("a==1", "=1"),
        ("a=", ""),
        ("a=1\n  2\n\n  3\nb=4", "1\n2\n\n3"),
        ("a=1\n  2 ; comment\n  ; comment\n  3", "1\n2\n3"),
        ("a=1\na=2", "2"),
    ],
)
def test_one_value(line, value):
    assert ours(f"[s]\n{line}")["s"]["a"] == value
    assert theirs(f"[s]\n{line}")["s"]["a"] == value


def test_of_two_comments_of_different_signs_the_first_one_counts():
    """RawConfigParser looks for the n-th ";" and the n-th "#" together, and would take the later comment here."""
    assert ours("[s]\na=b;c ;d #e")["s"]["a"] == "b;c"


def test_a_section_that_comes_twice_is_one():
    assert ours("[a]\nx=1\n[b]\n[a]\ny=2") == {"a": {"x": "1", "y": "2"}, "b": {}}


def test_the_keys_of_default_are_those_of_every_program_that_does_not_say_otherwise():
    sections = (
        "[DEFAULT]",
        "startsecs=3",
        "process_name=%(program_name)s_x",
        "[supervisord]",
        "[program:a]",
        "command=/a",
        "[program:b]",
        "command=/b",
        "startsecs=4",
    )
    settings = config.load(written("\n".join(sections)), {})
    found = {name: process for group in settings.groups.values() for name, process in group.processes.items()}
    assert {name: process.startsecs for name, process in found.items()} == {"a_x": 3, "b_x": 4}
    assert settings.warnings == [], "no section is to blame for what it only inherits"


def test_every_value_knows_its_file_and_line():
    ini = Ini()
    path = written("\n[a]\n\nx = 1\n  2\ny = 3\n")
    ini.read(path)
    assert [(value.text, value.file, value.line) for value in ini.sections["a"].values.values()] == [("1\n2", path, 4), ("3", path, 6)]
    assert str(ini.sections["a"].error("is wrong", "y")) == f"{path}:6: [a] y: is wrong"


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        (b"x=1\n", ":1", "text before the first [section]"),
        (b"[a]\nx=1\nnonsense\n", ":3: [a]", "'nonsense' is neither a [section] nor key=value"),
        (b"[a]\n=1\n", ":2: [a]", "'=1' is neither"),
        (b"[a]\n" + b"n" * 1000, ":2: [a]", "..."),
        (b"[a]\nx=\xff\n", ":2", "is not UTF-8"),
        (b"[a]\n\nx=\0\n", ":3", "holds a NUL byte"),
        (b"#" * (16 * 1024 * 1024 + 1), "", "is larger than"),
    ],
)
def test_errors_name_file_line_and_section(content, place, words):
    path = written(content)
    with pytest.raises(ConfigError) as caught:
        Ini().read(path)
    assert str(caught.value).startswith(f"{path}{place}")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.conf", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read: (No such file|Is a directory)"):
            Ini().read(str(path))


def test_here_is_the_directory_of_the_file_that_says_it(tmp_path):
    inner = tmp_path / "100%"
    inner.mkdir()
    (inner / "b.conf").write_text("[b]\nx=%(here)s/b\n")
    (tmp_path / "a.conf").write_text("[a]\nx=%(here)s/a\n")
    ini = Ini()
    ini.read(str(tmp_path / "a.conf"))
    ini.read(str(inner / "b.conf"))
    assert ini.get("a", "x").text == f"{tmp_path}/a"
    assert ini.get("b", "x").text == f"{tmp_path}/100%%/b", "it is expanded once more"


def test_patterns_name_files_in_order_and_say_which_names_none(tmp_path):
    for name in ("b.conf", "a.conf", "c.txt"):
        (tmp_path / name).touch()
    files, empty = included(f"*.conf none/*.conf {tmp_path}/c.txt", str(tmp_path))
    assert files == [str(tmp_path / name) for name in ("a.conf", "b.conf", "c.txt")]
    assert empty == [str(tmp_path / "none/*.conf")]
