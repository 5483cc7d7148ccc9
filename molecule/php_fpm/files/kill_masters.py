"""Kill the php-fpm master of a program again and again, each time while one of its workers is busy and holds the socket; print the tries, as JSON.

    kill_masters.py TRIES URL PROGRAM SUPERVISORCTL

URL is that of files/answers. A try is good when a master of the supervisor's serves again and runs: {"tries": [{"back": 1.2, "statuses": {"200": 5}}, ...]};
back: seconds from the kill to its first answer; statuses: what was answered meanwhile.
"""

import collections
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

tries, url, program, supervisorctl = int(sys.argv[1]), *sys.argv[2:]
DEADLINE = 20


def get(address):
    try:
        with urllib.request.urlopen(address, timeout=DEADLINE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except (OSError, http.client.HTTPException) as error:
        return repr(error), ""


def command(pid):
    """The command line of a process, "" if it has ended; that may be at any moment, of a killed one also while it is read."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def master_of(body):
    """The master of the worker that wrote it, or 0 if that is an orphan: its parent is no master."""
    pid = json.loads(body)["master"]
    return pid if command(pid).startswith("php-fpm: master process") else 0


def supervisor_shows():
    return subprocess.run([supervisorctl, "status", f"{program}:*"], capture_output=True, text=True, check=False).stdout


def hold():
    """Have a worker busy for longer than a try may last; return when it is."""
    answer = urllib.request.urlopen(f"{url}?milliseconds={DEADLINE * 2000}", timeout=DEADLINE)
    if not answer.readline().startswith(b'{"pid": '):
        raise SystemExit("the page is another one than files/answers")
    return answer


def once(master):
    """Kill the master; return its successor and what is told of the try."""
    holding = hold()
    os.kill(master, signal.SIGKILL)
    killed, statuses = time.monotonic(), collections.Counter()
    while True:
        status, body = get(url)
        statuses[str(status)] += 1
        new = master_of(body) if status == 200 else 0
        if new not in (0, master):
            break
        if time.monotonic() > killed + DEADLINE:
            raise SystemExit(f"no new master in {DEADLINE} s; answers: {dict(statuses)}; {supervisor_shows()}")
        time.sleep(0.02)
    back = time.monotonic() - killed
    holding.close()
    # What is killed before it has run for startsecs is a failed start, and these are counted.
    while not (running := re.search(r"RUNNING +pid (\d+)", shown := supervisor_shows())):
        if time.monotonic() > killed + 2 * DEADLINE:
            raise SystemExit(f"it serves, but does not run: {shown}")
        time.sleep(0.1)
    if int(running[1]) != new:
        raise SystemExit(f"master {new} answers, but the supervisor shows {shown}")
    return new, {"back": round(back, 2), "statuses": statuses}


def main():
    master, told = master_of(get(url)[1]), []
    for _number in range(tries):
        master, outcome = once(master)
        told.append(outcome)
    json.dump({"tries": told, "master": master}, sys.stdout)


main()
