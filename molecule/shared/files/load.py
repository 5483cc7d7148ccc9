"""Send requests to a URL from several threads and print what came back, as JSON.

    load.py URL[,URL...] REQUESTS CONCURRENCY [COMMAND...]

Of several URLs each gets the same share. COMMAND runs when a third of the requests has been answered and the next ones are at work for HALF_WAY.
The answer: {"statuses": {"200": 10}, "pids": [...], "seconds": 1.2}.
"""

import collections
import concurrent.futures
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

# Seconds. An answer of the sleeper takes one: its programs are then in the middle of theirs. Nobody can send the rest of an answer of which a killed
# program has sent a part.
HALF_WAY = 0.4


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return type(error).__name__, ""


def main():
    urls, requests, concurrency, command = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    statuses, pids, started = collections.Counter(), set(), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        answers = []
        for number in range(requests):
            if command and number == requests // 3:
                concurrent.futures.wait(answers)
            answers.append(pool.submit(get, urls[number % len(urls)]))
            if command and number == requests // 3 + concurrency:
                time.sleep(HALF_WAY)
                subprocess.run(command, check=True)
        for status, body in (answer.result() for answer in answers):
            statuses[str(status)] += 1
            pids.update(int(pid) for pid in re.findall(r"ProcessId: (\d+)", body))
    json.dump({"statuses": statuses, "pids": sorted(pids), "seconds": round(time.monotonic() - started, 2)}, sys.stdout)


main()
