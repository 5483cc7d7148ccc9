"""Stop the process that comes to hold a lock while it works, and decide its fate when the controller is dead.

    watch.py FATE LOCK [SIGN]

LOCK: the file; flock(2) or fcntl(2). SIGN: a pattern of a path that has to be there meanwhile, or "gone:PID...": one of these processes has to have ended.
FATE, at the end of the standard input, when the controller is dead: "dies", killed with all that it has started; "goes on", once another process has
opened the lock; "goes on at once", and it is never stopped. Prints "watching", then "stopped".
"""

import contextlib
import glob
import os
import signal
import sys
import time

fate, lock, *signs = sys.argv[1:]
DEADLINE = time.monotonic() + 240


def holder():
    """Who holds the lock, or 0."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(lock)
        inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        with open("/proc/locks") as locks:
            fields = [line.split() for line in locks]
        return next((int(line[4]) for line in fields if line[1] != "->" and line[5] == inode), 0)
    return 0


def seen(sign):
    if sign.startswith("gone:"):
        return not all(os.path.exists(f"/proc/{pid}") for pid in sign[5:].split(","))
    return bool(glob.glob(sign, include_hidden=True) if "*" in sign else os.path.lexists(sign))


def children(pid):
    found = []
    for other in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{other}/stat") as stat:
            if int(stat.read().rpartition(")")[2].split()[1]) == pid:
                found += [int(other), *children(int(other))]
    return found


def opened(pid):
    """Whether a process has opened the lock."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") == lock:
                    return True
    return False


def until(condition):
    while not (answer := condition()):
        if time.monotonic() > DEADLINE:
            sys.exit("watch.py: it never came")
        time.sleep(0.0005)
    return answer


def found():
    """The holder, stopped, while the signs are there."""
    pid = holder()
    if not pid or not all(map(seen, signs)):
        return 0
    if fate != "goes on at once":
        os.kill(pid, signal.SIGSTOP)
        if holder() != pid:  # it was just done
            os.kill(pid, signal.SIGCONT)
            return 0
    return pid


print("watching", flush=True)
pid = until(found)
print("stopped", flush=True)
sys.stdin.read()
if fate == "dies":
    for one in [pid, *children(pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
elif fate == "goes on":
    until(lambda: any(opened(other) for other in os.listdir("/proc") if other.isdigit() and int(other) != pid))
    os.kill(pid, signal.SIGCONT)
