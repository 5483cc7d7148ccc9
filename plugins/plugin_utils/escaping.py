# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that a configuration format reads back as exactly the value that was meant: a value never becomes syntax.

Note that this plugin util is PRIVATE to the collection. It can have breaking changes at any time.

Sources: supervisor 4.2.5 and 4.3.0, C(options.py) (UnhosedConfigParser, expand, expand_here) and C(datatypes.py)
(dict_of_key_value_pairs); nginx 1.22, C(ngx_conf_file.c) (ngx_conf_read_token); PHP 8.2, C(zend_ini_scanner.l), and C(fpm_conf.c), C(fpm_env.c) of FPM.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

# Expansions that supervisord knows in every program section. %(ENV_x)s is not among them: it would let a value read the supervisor's environment.
_EXPANSION_OR_PERCENT = re.compile(r"(?P<expansion>%\((?:(?:program_name|group_name|here|host_node_name)\)s|(?:process_num|numprocs)\)[0-9]*[sd]))|%")

# Expands to nothing, and supervisord expands after the INI parser has looked for comments.
_NOTHING = "%(here).0s"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTES = ("'", '"')


class EscapingError(ValueError):
    """A value that the format cannot hold. reason: why, and what to do instead. The text never contains the value."""

    def __init__(self, reason: str, subject: str = "the value (not shown)") -> None:
        super().__init__(f"{subject} {reason}")
        self.reason = reason


def ini_value(value: Any) -> str:
    """The text (str) of a value (str, int or bool) in a program section of supervisord.

    A C(%) means itself unless it begins one of supervisord's expansions: program_name, group_name, process_num, numprocs, here, host_node_name.
    Not for C(*_logfile), which supervisord expands twice, if the value contains any other C(%).
    Raises EscapingError for control characters, and for white space at either end, which the parser strips.
    """
    text = plain_text(value)
    if text != text.strip():
        raise EscapingError("begins or ends with white space, which supervisord's parser would strip")
    return _protect_comment_signs(_double_percents(text))


def supervisord_environment(environment: Mapping[str, Any], expanded: Mapping[str, Any] | None = None) -> str:
    """The text of C(environment=) in a program section: one quoted variable per line, sorted by name.

    environment: literal values. expanded: values in which supervisord's expansions keep their meaning.
    Raises EscapingError, which names the variable but not its value, for what no version of supervisord 4 reads back.
    """
    quoted = {name: _literal_percents(_assigned(name, value)) for name, value in environment.items()}
    quoted.update({name: _double_percents(_assigned(name, value)) for name, value in (expanded or {}).items()})
    return ",".join(f"\n    {name}={_protect_comment_signs(text)}" for name, text in sorted(quoted.items()))


def environment_value(value: Any) -> str:
    """The value in quotes that shlex reads back in both its modes: supervisord up to 4.3 uses the non-POSIX one and strips quotes, 4.4 the POSIX one.

    Raises EscapingError for what C(environment=) cannot hold.
    """
    try:
        text = plain_text(value)
        if text[:1] in _QUOTES or text[-1:] in _QUOTES:
            raise EscapingError("begins or ends with a quote")
        if "'" not in text:
            return f"'{text}'"
        if '"' in text or "\\" in text:
            raise EscapingError("contains a ' together with a \" or a backslash")
        return f'"{text}"'
    except EscapingError as error:
        raise EscapingError(
            f"{error.reason}, which supervisord's environment= cannot hold; put it into a file with mode 0600 and pass the path of that file"
        ) from None


def nginx_string(value: Any, variables: bool = False) -> str:
    """A quoted string (str, with its quotes) of nginx's configuration language.

    variables: a C($) keeps the meaning that the directive gives it (a variable, or the end of a regular expression). Otherwise it is an error, because
    nginx has no way to write a C($) that means itself. Raises EscapingError for that and for control characters.
    """
    text = plain_text(value)
    if "$" in text and not variables:
        raise EscapingError("contains a $, which nginx would take for a variable and cannot escape")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def nginx_params(params: Iterable[tuple[str, Any]], if_not_empty: Iterable[str] = ()) -> str:
    """The lines (str, one for each param) that pass names and values to a FastCGI application. A C($) in a value begins a variable.

    params: pairs of name and value. if_not_empty: names of those that are passed only if their value is not empty. Raises EscapingError as nginx_string does.
    """
    optional = set(if_not_empty)
    return "\n".join(f"fastcgi_param {name} {nginx_string(value, variables=True)}{' if_not_empty' if name in optional else ''};" for name, value in params)


def php_fpm_value(value: Any) -> str:
    """The text (str, with its quotes, or yes and no) of a value in the configuration of php-fpm, where $pool is the pool's name. Raises EscapingError.

    In single quotes all is literal, but a quote cannot stand there; in double quotes a backslash protects itself, a quote, and the $ of ${variable}.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = plain_text(value)
    if not text:
        raise EscapingError("is empty, which php-fpm refuses; php.ini writes none")
    if "'" not in text and not text.endswith("\\"):
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'


def php_fpm_environment_value(value: Any) -> str:
    """The same for a variable of the environment. Raises EscapingError for what would be the name of another variable too."""
    try:
        text = plain_text(value)
        if text.startswith("$"):
            raise EscapingError("begins with a $, as the name of another variable does")
        if "$pool" in text:
            raise EscapingError("contains $pool, which is the name of the pool everywhere in php-fpm's configuration")
    except EscapingError as error:
        raise EscapingError(f"{error.reason}, which php-fpm's env[] cannot hold; put it into a file with mode 0600 and pass the path of that file") from None
    # A variable that is not there is empty (fpm_env.c), and php-fpm refuses an empty value.
    return php_fpm_value(text) if text else "$FCGI_EMPTY"


def php_fpm_settings(settings: Iterable[tuple[str, Any]]) -> str:
    """The lines (str, one for each setting) of a section of php-fpm's configuration. settings: pairs of name, such as C(env[HOME]), and value.

    Raises EscapingError, which names the setting but not its value.
    """
    lines = []
    for name, value in settings:
        try:
            lines.append(f"{name} = {php_fpm_environment_value(value) if name.startswith('env[') else php_fpm_value(value)}")
        except EscapingError as error:
            raise EscapingError(error.reason, subject=f"{name}: the value (not shown)") from None
    return "\n".join(lines)


def plain_text(value: Any) -> str:
    """The value (str, int, float or bool) as text. Raises EscapingError for any other type and for control characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        raise EscapingError(f"is a {type(value).__name__}, not text, a number or a boolean")
    text = str(value)
    # Cc: control characters; Cs: lone surrogates, which no file in UTF-8 can hold. Printable text, which is quicker to tell, has neither.
    if not text.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise EscapingError("contains a control character, such as a newline or a tab")
    return text


def _double_percents(text: str) -> str:
    """Every % that does not begin a known expansion, doubled."""
    return _EXPANSION_OR_PERCENT.sub(lambda match: match.group("expansion") or "%%", text)


def _literal_percents(text: str) -> str:
    """Every % doubled. supervisord replaces the bare text "%(here)s" before it expands, so that one is broken up as well."""
    return text.replace("%", "%%").replace("%(here)s", f"%{_NOTHING}(here)s")


def _protect_comment_signs(text: str) -> str:
    """A ; or # at the beginning or after white space begins a comment, inside quotes too: an expansion to nothing stands before it."""
    return re.sub(r"(^|\s)([;#])", rf"\1{_NOTHING}\2", text)


def _assigned(name: str, value: Any) -> str:
    """The value in quotes, for the variable of this name."""
    if not _VARIABLE.fullmatch(str(name)):
        raise EscapingError("is not the name of an environment variable: letters, digits and _, not beginning with a digit", subject=f'"{name}"')
    try:
        return environment_value(value)
    except EscapingError as error:
        raise EscapingError(error.reason, subject=f"environment.{name}: the value (not shown)") from None
