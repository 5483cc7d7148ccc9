"""Ask for PATHs below URL, one after the other, and print what came, as JSON: [{"path": ..., "status": 200, "url": ..., "type": ..., "body": ...}, ...].

    ask.py URL PATH...

url: where redirections led to.
"""

import json
import sys
import urllib.error
import urllib.request

base, *paths = sys.argv[1:]


def ask(path):
    try:
        answer = urllib.request.urlopen(base + path, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = answer.read().decode(errors="replace")
        return {"path": path, "status": answer.status, "url": answer.url, "type": answer.headers.get_content_type(), "body": body}


json.dump([ask(path) for path in paths], sys.stdout)
