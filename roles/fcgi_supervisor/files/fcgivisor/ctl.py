# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m fcgivisor.ctl: fcgivisorctl, which controls fcgivisord, and supervisord too: all of supervisorctl, and more."""

from __future__ import annotations

import getopt
import getpass
import os
import sys
import xmlrpc.client
from collections import namedtuple
from typing import TYPE_CHECKING

from fcgivisor import VERSION, ctl_names, ctl_processes, ctl_supervisor, diagnosis, top, values
from fcgivisor.client import AuthenticationNeeded, Client, ClientError, Exit
from fcgivisor.ctl_session import Command, Session, UsageError
from fcgivisor.ctl_shell import Shell
from fcgivisor.ini import ConfigError, Ini, search_path
from fcgivisor.wire import FAULTS

if TYPE_CHECKING:
    from collections.abc import Mapping

USAGE = """Usage: fcgivisorctl [options] [action [arguments]]

Options:
  -c, --configuration FILE  the supervisor's configuration, whose [supervisorctl] tells where it listens (looked for where supervisorctl looks)
  -s, --serverurl URL       where it listens: unix:///path or http://host:port
  -u, --username USER       for a server that wants one
  -p, --password PASSWORD   for a server that wants one
  -r, --history_file FILE   where the shell keeps its history
  -i, --interactive         a shell, after the action if there is one
      --json                answer with one JSON document
  -v, --version             print the version of fcgivisorctl
  -h, --help                print this

Without an action it is a shell. Names are name, group:name, group:*, all, or patterns ('shop*'). Actions:
"""

_DEFAULT_URL = "http://localhost:9001"
# What [supervisorctl] says. file: the configuration, None where there is none.
Settings = namedtuple("Settings", "file serverurl username password prompt history_file", defaults=(None, _DEFAULT_URL, None, None, "supervisor", None))


def read_settings(path: str, environ: Mapping[str, str]) -> Settings:
    """[supervisorctl] of a configuration file, or without it what the server's section says. No program is looked at. Raises ConfigError."""
    ini = Ini()
    ini.read(path)
    here = os.path.dirname(os.path.abspath(path))
    expansions = {**{f"ENV_{name}": value for name, value in environ.items()}, "here": here, "host_node_name": os.uname().nodename}
    section = ini.sections.get("supervisorctl")
    if section is None:
        return _of_server(ini, path, expansions)
    found: dict[str, str] = {}
    for key in Settings._fields[1:]:
        if key in section.values:
            try:
                found[key] = values.expand(section.values[key].text, expansions)
            except ValueError as error:
                raise section.error(str(error), key) from None
    if found.get("history_file"):
        found["history_file"] = os.path.abspath(os.path.expanduser(found["history_file"]))
    return Settings(path, **{key: text for key, text in found.items() if text or key not in ("history_file", "serverurl")})


def _of_server(ini: Ini, path: str, expansions: Mapping[str, object]) -> Settings:
    for name, key in (("unix_http_server", "file"), ("inet_http_server", "port")):
        section = ini.sections.get(name)
        if section is None or key not in section.values:
            continue
        try:
            texts = {word: values.expand(value.text, expansions) for word, value in section.values.items() if word in (key, "username", "password")}
            host, port = values.host_and_port(texts[key]) if key == "port" else ("", 0)
        except ValueError as error:
            raise section.error(str(error), key) from None
        password = texts.get("password", "")
        url = f"unix://{texts[key].strip()}" if key == "file" else f"http://{f'[{host}]' if ':' in host else host or 'localhost'}:{port}"
        return Settings(path, url, texts.get("username"), None if password.startswith("{SHA}") else password or None)
    raise ConfigError("has neither [supervisorctl] nor [unix_http_server]: nothing tells where the supervisor listens; give -s URL", path)


def help_(session: Session, words: list[str]) -> None:
    if not words:
        session.line("Actions (help <action> tells more):")
        for line in _columns(sorted(COMMANDS)):
            session.line(line)
        session.data = {name: [list(entry) for entry in command.usage] for name, command in COMMANDS.items()}
        return
    command = COMMANDS.get(words[0])
    if command is None:
        session.error(f"*** No help on {words[0]}{ctl_names.nearest(words[0], COMMANDS)}")
        return
    for line in _usage(command):
        session.line(line)
    session.data = [list(entry) for entry in command.usage]


def _columns(names: list[str], width: int = 13, count: int = 6) -> list[str]:
    return ["  " + "".join(f"{name:<{width}}" for name in names[index : index + count]).rstrip() for index in range(0, len(names), count)]


def _usage(command: Command) -> list[str]:
    return [f"{words}\n    {text}" for words, text in command.usage]


COMMANDS: dict[str, Command] = {
    **ctl_processes.COMMANDS,
    **ctl_supervisor.COMMANDS,
    **top.COMMANDS,
    "help": Command(help_, (("help [action]", "What actions there are, and what one does"),), "action", True),
    "quit": Command(None, (("quit", "Leave the shell; exit and Ctrl-D do too"),), "", True),
    "exit": Command(None, (("exit", "Leave the shell"),), "", True),
}


def run(session: Session, words: list[str]) -> bool:
    """One command, whatever comes of it. Returns whether the shell ends."""
    name, arguments = words[0], words[1:]
    command = COMMANDS.get(name)
    if command is None:
        session.error(f"*** Unknown syntax: {' '.join(words)}{ctl_names.nearest(name, COMMANDS)}")
    elif command.run is None:
        return True
    else:
        _run_command(session, name, command, arguments)
    session.finish()
    return False


def _run_command(session: Session, name: str, command: Command, arguments: list[str]) -> None:
    session.forget()
    try:
        if not command.alone:
            session.client.require_interface()
        command.run(session, list(arguments))
    except UsageError as error:
        session.error("\n".join([str(error), *_usage(command)]), error.status)
    except AuthenticationNeeded as error:
        if not session.interactive:
            session.explain(error, name)
            return
        session.note("Server requires authentication")
        session.client.authenticate(input("Username:"), getpass.getpass("Password:"))
        _run_command(session, name, command, arguments)
    except ClientError as error:
        session.explain(error, name)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode == FAULTS["SHUTDOWN_STATE"]:
            session.error("ERROR: supervisor shutting down")
        else:
            session.error(f"error: {fault.faultString}")
    except KeyboardInterrupt:
        if not session.interactive:
            raise
        session.line()


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    try:
        return _main(arguments)
    except (ConfigError, ClientError, UsageError) as error:
        sys.stderr.write(f"Error: {error}\nFor help, use fcgivisorctl -h\n")
        return error.status if isinstance(error, ClientError) else Exit.INVALID_ARGUMENTS
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who read our output has gone, as head does; Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.GENERIC


def _main(arguments: list[str]) -> int:
    options, words = _parse(arguments)
    if "help" in options:
        sys.stdout.write(USAGE + "".join(f"  {words:<36}{text}\n" for command in COMMANDS.values() for words, text in command.usage))
        return Exit.SUCCESS
    if "version" in options:
        sys.stdout.write(f"{VERSION}\n")
        return Exit.SUCCESS
    settings = _settings(options)
    client = Client(settings.serverurl, settings.username, settings.password)
    interactive = "interactive" in options or not words
    session = Session(client, "json" in options, settings.file, interactive=not words)
    try:
        if words:
            run(session, words)
            if not interactive:
                return session.status
        session.interactive = True
        Shell(session, COMMANDS, lambda typed: run(session, typed), settings.prompt).talk(settings.history_file)
        return Exit.SUCCESS
    finally:
        session.client.close()


def _parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    names = {"c": "configuration", "s": "serverurl", "u": "username", "p": "password", "r": "history_file", "i": "interactive", "v": "version", "h": "help"}
    long = [f"{name}=" for name in ("configuration", "serverurl", "username", "password", "history_file")]
    try:
        found, words = getopt.getopt(arguments, "c:s:u:p:r:ivh", [*long, "interactive", "json", "version", "help"])
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    options = {names.get(option.lstrip("-"), option.lstrip("-")): value for option, value in found}
    if "--json" in words:  # it may stand behind the action too
        options["json"] = ""
        words = [word for word in words if word != "--json"]
    return options, words


def _settings(options: dict[str, str]) -> Settings:
    """The file's, with those of the command line before them. A file that nobody named need not be there, nor readable where -s names the place."""
    path = options.get("configuration") or next(filter(os.path.exists, search_path(sys.argv[0])), None)
    try:
        settings = read_settings(path, os.environ) if path else Settings()
    except ConfigError:
        if path and ("configuration" in options or "serverurl" not in options):
            if os.path.exists(path) and not os.access(path, os.R_OK):
                raise diagnosis.unreadable(path) from None
            raise
        settings = Settings()
    return settings._replace(**{key: options[key] for key in Settings._fields if key in options})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
