# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell scripts of the role fcgi_php_fpm, with real php-fpm: what a killed master left is ended and nobody else's, and a configuration is checked."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import select
import shlex
import signal
import subprocess

import php_host
import pytest
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi
from ansible_collections.webops.fastcgi.plugins.plugin_utils import model
from supervisord import DEBIANS, FCGIVISORD, wait_for

TELL = "<?php echo json_encode(['pid' => getmypid(), 'master' => posix_getppid()]);"
STATIC = {"pm": "static", "pm.max_children": 2}
# Names that no app has of which this machine or another test, at the same time, may have a worker without a master: those would be ended too.
FORUM, BLOG = f"forum{os.getpid()}", f"blog{os.getpid()}"
WORKERS = {FORUM: 4, BLOG: 2}
SLOW = {"request_slowlog_timeout": "5s"}
OTHER_USER = "nobody"


@pytest.fixture
def empty():
    """A directory with nothing but a script."""
    with directory_with_script() as directory:
        yield directory


@pytest.fixture(scope="module")
def directory():
    """A host with two apps, of which forum has two pools."""
    with directory_with_script() as directory:
        apps = [{"name": FORUM, "pool": STATIC, "pools": [{"name": "api", "pool": STATIC}]}, {"name": BLOG, "pool": STATIC}]
        php_host.install(directory, apps, provider="supervisord")
        yield directory


@contextlib.contextmanager
def directory_with_script():
    with php_host.directory_for_all() as directory:
        (directory / "www").mkdir()
        (directory / "www" / "tell.php").write_text(TELL)
        yield directory


# What is left


class Master:
    """A php-fpm as supervisord would run it, without its wrapper, and the processes of its group."""

    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.pid_file = directory / "run" / name / "php-fpm.pid"
        last_step = php_host.command(directory, name)[2].rpartition(" && ")[2]
        with (directory / "log" / f"{name}.log").open("ab") as log:
            self.process = php_host.start(["/bin/sh", "-c", last_step], stdout=log, stderr=subprocess.STDOUT)
        wait_for(self.pid_file.exists, "the pid file of php-fpm")
        wait_for(lambda: len(self.group()) == 1 + WORKERS[name], "all workers")
        self.workers = self.group()[1:]
        self.handles = [os.pidfd_open(pid) for pid in self.group()]

    def group(self):
        """The pids of its processes, its own first."""
        found = subprocess.run(["pgrep", "--pgroup", str(self.process.pid)], capture_output=True, text=True, check=False).stdout.split()
        return sorted(map(int, found), key=lambda pid: pid != self.process.pid)

    def ask(self):
        return php_host.ask(self.directory / "run" / self.name / f"{self.name}.sock", self.directory / "www/tell.php")

    def kill(self):
        """End the master alone; its workers go on."""
        self.process.kill()
        self.process.wait()
        assert self.ask()["pid"] in self.workers

    def is_unharmed(self):
        return not select.select(self.handles, [], [], 0)[0] and self.ask()["master"] == self.process.pid

    def has_ended(self):
        return len(select.select(self.handles, [], [], 0)[0]) == len(self.handles)

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pid_file.unlink(missing_ok=True)
        for handle in self.handles:
            os.close(handle)


@pytest.fixture
def start(directory):
    """start(NAME): the master of an app, which ends with the test."""
    with contextlib.ExitStack() as cleanup:

        def start_master(name):
            master = Master(directory, name)
            cleanup.callback(master.end)
            return master

        yield start_master


@pytest.fixture
def impostor():
    """impostor(TITLE, USER, IGNORE): another program of this title, which ends with the test."""
    with contextlib.ExitStack() as cleanup:

        def start_impostor(title, user=php_host.USER, ignore=""):
            # Without arguments, which would be part of its title. What it ignores, cat does.
            words = ["/bin/bash", "-c", f"trap '' {ignore}; exec -a '{title}' cat" if ignore else f"exec -a '{title}' cat"]
            reader, writer = os.pipe()
            process = subprocess.Popen(words, stdin=reader, user=user, group=user if user == php_host.USER else "nogroup", start_new_session=True)
            os.close(reader)
            cleanup.callback(os.close, writer)
            cleanup.callback(process.wait)
            cleanup.callback(process.kill)
            command_line = pathlib.Path(f"/proc/{process.pid}/cmdline")
            wait_for(lambda: command_line.read_text().startswith(title), "cat")
            return process

        yield start_impostor


@pytest.fixture
def clean_up(directory):
    """Do what the wrapper of forum does first; returns what it said."""

    def run():
        first, _then, _rest = php_host.command(directory, FORUM)[2].partition(" && ")
        assert "/leftovers.sh " in first
        process = php_host.start(first.split(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said, _none = process.communicate(timeout=30)
        assert process.returncode == 0, said
        return said

    return run


def name_in_pid_file(directory, pid):
    path = directory / f"run/{FORUM}/php-fpm.pid"
    path.write_text(str(pid))
    return path


def test_workers_of_a_killed_master_are_ended_so_that_the_next_one_can_bind_their_addresses(start, clean_up):
    killed = start(FORUM)
    killed.kill()
    assert clean_up() == ""
    assert killed.has_ended() and not killed.pid_file.exists()
    assert start(FORUM).ask()["pid"] not in killed.workers


def test_workers_of_a_killed_master_are_ended_though_its_pid_file_is_gone_and_nobody_elses(start, impostor, clean_up):
    killed, other, impostors = start(FORUM), start(BLOG), [impostor(f"php-fpm: pool {FORUM}"), impostor(f"php-fpm: pool {FORUM}_api")]
    killed.kill()
    killed.pid_file.unlink()
    assert clean_up() == ""
    assert killed.has_ended() and other.is_unharmed()
    assert [one.poll() for one in impostors] == [None, None]  # they have a parent


def test_a_master_that_outlived_its_supervisor_is_ended_with_its_workers(start, clean_up):
    alone = start(FORUM)
    assert clean_up() == ""
    alone.process.wait(10)
    assert alone.has_ended()


def test_another_master_of_the_same_user_is_left_alone(start, clean_up):
    killed, other = start(FORUM), start(BLOG)
    killed.kill()
    clean_up()
    assert killed.has_ended() and other.is_unharmed()


def test_a_pool_of_the_same_name_of_another_master_of_the_same_user_is_left_alone(start, impostor, clean_up):
    killed, other = start(FORUM), impostor(f"php-fpm: pool {FORUM}")
    killed.kill()
    clean_up()
    assert killed.has_ended() and other.poll() is None


def test_another_master_that_has_got_the_number_of_a_dead_one_is_left_alone(start, clean_up, directory):
    other = start(BLOG)
    name_in_pid_file(directory, other.process.pid)
    assert clean_up() == ""
    assert other.is_unharmed()


@pytest.mark.parametrize(
    "title", ["cat", "php-fpm: pool BLOG", "php-fpm: pool FORUMs", "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", "pool FORUM"]
)
def test_another_program_that_has_got_the_number_of_a_dead_master_is_left_alone(title, impostor, clean_up, directory):
    other = impostor(title.replace("FORUM", FORUM).replace("BLOG", BLOG))
    name_in_pid_file(directory, other.pid)
    assert clean_up() == ""
    assert other.poll() is None


def test_what_belongs_to_another_user_is_left_alone_whatever_it_calls_itself(impostor, clean_up, directory):
    other = impostor(f"php-fpm: pool {FORUM}", OTHER_USER)
    name_in_pid_file(directory, other.pid)
    assert clean_up() == ""
    assert other.poll() is None


def test_a_worker_that_ignores_term_is_killed(impostor, clean_up, directory):
    stubborn = impostor(f"php-fpm: pool {FORUM}_api", ignore="TERM")
    pid_file = name_in_pid_file(directory, stubborn.pid)
    assert clean_up() == ""
    assert stubborn.wait(10) == -signal.SIGKILL and not pid_file.exists()


@pytest.mark.parametrize("content", [None, "", "\n", "forum", "-1", "1 2"])
def test_without_a_pid_there_is_nothing_to_do_and_nothing_is_said(content, start, clean_up, directory):
    if content is not None:
        name_in_pid_file(directory, content)
    other = start(BLOG)
    assert clean_up() == ""
    assert other.is_unharmed()


@pytest.mark.parametrize(("provider", "executable"), [("supervisord", DEBIANS), ("fcgivisord", FCGIVISORD)], ids=["debian", "fcgivisord"])
def test_a_master_killed_while_its_workers_hold_the_socket_is_replaced(provider, executable, empty):
    log = empty / f"log/{FORUM}.log"
    php_host.install(empty, [{"name": FORUM, "pool": STATIC, "pools": [{"name": "api", "pool": STATIC}], "stdout_logfile": str(log)}], provider=provider)
    sockets = [empty / "run" / (f"{FORUM}.sock" if provider == "fcgivisord" else f"{FORUM}/{FORUM}.sock"), empty / f"run/{FORUM}/api.sock"]

    def masters():
        """Whose workers answer; nobody's while a socket is not there yet or its listener is dying."""
        with contextlib.suppress(fastcgi.FastCGIError):
            return {php_host.ask(socket, empty / "www/tell.php", timeout=5)["master"] for socket in sockets}
        return set()

    with php_host.running(empty, executable):
        (killed,) = wait_for(masters, "php-fpm")
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(masters()) == 1 and killed not in masters(), "another php-fpm, which serves both pools")
        # The first may have been killed before it said that it is ready.
        wait_for(lambda: log.read_text().count("fpm is running, pid") == 2, "the words of both")
    assert "already in use" not in log.read_text() and "nother FPM instance" not in log.read_text()


@pytest.mark.parametrize("shell", ["dash", "bash"])  # sh of Debian, and of the RHEL family
def test_a_stop_ends_a_start_that_waits(shell):
    (program,) = model.fcgi_model([{"name": "forum", "kind": "php_fpm", "root": "/srv", "start_delay": 1}], supervisor="fcgivisord")["programs"]
    _sh, option, script = shlex.split(dict(program["options"])["command"])
    # A shell cannot trap what was ignored when it started, as QUIT is in what another shell runs in the background; a supervisor's programs begin with it.
    process = subprocess.Popen(["env", "--default-signal=QUIT", shell, option, script], stdin=subprocess.DEVNULL)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(children.read_text, "the process that waits")
    process.send_signal(signal.SIGQUIT)
    # php-fpm, which has no configuration here, would end with 78.
    assert process.wait(10) == 0


def test_a_slow_log_that_is_moved_away_begins_anew_without_a_signal(empty):
    """So that logrotate needs neither a signal, which would be a reload, nor copytruncate."""
    (empty / "www/slow.php").write_text("<?php usleep(2500000); echo '{}';")
    php_host.install(empty, [{"name": FORUM, "pool": {"pm": "static", "pm.max_children": 1, "request_slowlog_timeout": "1s"}}])
    log = empty / f"log/{FORUM}/slow.log"
    with php_host.running(empty):
        for name in ("slow.log.1", "slow.log.2"):
            php_host.ask(empty / f"run/{FORUM}.sock", empty / "www/slow.php")
            wait_for(lambda: log.exists() and "slow.php" in log.read_text(), "an entry in the slow log")
            log.rename(log.with_name(name))
    assert "slow.php" in log.with_name("slow.log.2").read_text()


# The check


@pytest.fixture
def check(empty):
    """check(APPS): what the check of their configuration says, which ends with this status. Nothing of it stays behind.

    asked: the version of PHP, where a host has one alone, for apps that name none.
    """

    def run(*apps, status, asked=""):
        php_host.install(empty, apps)
        temporary = empty / "tmp"
        temporary.mkdir()
        temporary.chmod(0o1777)
        generation = empty / "fcgi/web/fcgi_php_fpm/current"
        script = generation / "check.sh"
        script.write_text(script.read_text().replace(".conf ''\n", f".conf {asked}\n"))
        words = ["/bin/sh", script, generation]
        done = subprocess.run(words, env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True, check=False)
        assert done.returncode == status, done
        assert list(temporary.iterdir()) == [] and done.stderr == ""
        return done.stdout

    return run


def test_a_configuration_that_php_fpm_accepts_is_not_talked_about_and_leaves_no_slow_log_in_the_place_of_the_real_one(check, empty):
    apps = [
        {"name": "forum", "environment": {"A": "it's"}, "pool": {**SLOW, "slowlog": str(empty / "slow.log")}, "pools": [{"name": "api", "pool": SLOW}]},
        {"name": "blog", "user": OTHER_USER, "group": "nogroup"},
    ]
    assert check(*apps, status=0) == ""
    assert not (empty / "slow.log").exists() and list((empty / "log/forum").iterdir()) == []


def test_a_version_that_was_asked_for_is_the_one_that_is_there(check):
    assert check({"name": "forum", "php_version": "8.2"}, status=0) == ""


def test_another_version_than_was_asked_for_is_refused(check):
    assert check({"name": "forum", "php_version": "8.2"}, {"name": "blog"}, asked="8.1", status=1) == (
        "fcgi_apps[blog]: PHP 8.1 is asked for, but /usr/sbin/php-fpm8.2 is PHP 8.2: install the other one, or leave php_version and fcgi_php_fpm_version out\n"
    )


WRONG = {
    "manager": ({"pool": {"pm": "elastic"}}, "invalid process manager (static, dynamic or ondemand)"),
    "none": ({"pool": {"pm.max_children": 0}}, "[pool none] pm.max_children must be a positive value"),
    "spare": ({"pool": {"pm.min_spare_servers": 9}}, "[pool spare] pm.min_spare_servers(9) and pm.max_spare_servers(9) cannot be greater than"),
    "time": ({"pool": {"request_terminate_timeout": "soon"}}, "unable to parse value for entry 'request_terminate_timeout': unknown suffix used in time value"),
    "level": ({"global": {"log_level": "loud"}}, "invalid value for 'log_level'"),
    "further": ({"pools": [{"name": "api", "pool": {"chdir": "/nowhere"}}]}, "[pool further_api] the chdir path '/nowhere' does not exist"),
}


def test_php_fpms_own_words_on_every_app_that_it_refuses_reach_the_operator_with_the_apps_name(check, empty):
    unknown = {"name": "unknown", "pool": {"pm.children_max": 5}}
    said = check({"name": "good"}, *({"name": name, **keys} for name, (keys, _words) in WRONG.items()), unknown, {"name": "fine"}, status=1)
    parts = dict(re.findall(r"^fcgi_apps\[(\w+)\]: /usr/sbin/php-fpm8\.2 refuses its configuration:\n((?:(?!fcgi_apps).*\n)+)", said, re.MULTILINE))
    assert list(parts) == [*WRONG, "unknown"]
    for name, (_keys, words) in WRONG.items():
        assert words in parts[name]
    lines = (empty / "fcgi/web/fcgi_php_fpm/current/unknown.conf").read_text().splitlines()
    place = next(number for number, line in enumerate(lines, 1) if "pm.children_max" in line)
    assert f"ERROR: [unknown.conf:{place}] unknown entry 'pm.children_max'" in parts["unknown"]
    assert str(empty) not in said


def test_a_check_is_made_as_the_user_who_is_going_to_run_it(check, empty):
    (empty / "private").mkdir(mode=0o700)
    assert "Permission denied" in check({"name": "forum", "pool": {"access.log": str(empty / "private/access.log")}}, status=1)
