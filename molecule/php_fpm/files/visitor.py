"""Ask for a URL again and again, as VISITORS do, until SIGTERM; then write to FILE what came back, as JSON.

    visitor.py FILE URL VISITORS PAUSE

PAUSE: seconds between two requests of one visitor. FILE: {"statuses": {"200": 10}, "gap": 0.3, "lost": []}; gap is the longest time in seconds without an
answer of 200; lost are the first 20 requests that had another one, or none, as [when they ended, after how many seconds, with what].
"""

import collections
import http.client
import json
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

path, url, visitors, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
stop = threading.Event()
statuses = collections.Counter()
good = [time.monotonic()]
lost = []


def visit():
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            answer.read()
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)


def keep_visiting():
    while not stop.is_set():
        begun = time.monotonic()
        status = visit()
        statuses[status] += 1
        if status == "200":
            good.append(time.monotonic())
        else:
            lost.append((time.strftime("%Y/%m/%d %H:%M:%S"), round(time.monotonic() - begun, 3), status))
        stop.wait(pause)


signal.signal(signal.SIGTERM, lambda *_: stop.set())
threads = [threading.Thread(target=keep_visiting) for _number in range(visitors)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
good = sorted([*good, time.monotonic()])
with open(path, "w", encoding="utf-8") as file:
    json.dump({"statuses": statuses, "gap": round(max(b - a for a, b in zip(good, good[1:])), 2), "lost": lost[:20]}, file)
