"""Look whether everything live on this host is complete, and print what is not.

    live.py JSON

JSON: {"generations": [PATH...], "releases": {PATH: {FILE: SHA256}}, "checks": [COMMAND...]}. Each PATH/current has to lead to all that its manifest
declares, or all files named; each COMMAND, of a program that reads them, has to succeed.
"""

import hashlib
import json
import os
import subprocess
import sys


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def files_below(directory):
    return {os.path.relpath(os.path.join(place, name), directory) for place, _directories, names in os.walk(directory) for name in names}


def problems(wanted):
    for path in wanted["generations"]:
        live = os.path.join(path, "current")
        with open(os.path.join(live, ".manifest.json")) as file:
            declared = {entry["path"]: entry["sha256"] for entry in json.load(file)["files"]}
        yield from differences(live, declared, ".manifest.json")
    for path, declared in wanted["releases"].items():
        yield from differences(os.path.join(path, "current"), declared, ".fcgi-release.json")
    for command in wanted["checks"]:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            yield f"{' '.join(command)}: {done.stdout}"


def differences(live, declared, description):
    live = os.path.realpath(live)
    there = files_below(live)
    for path in sorted(there ^ {*declared, description}):
        yield f"{live}/{path}: {'nobody declared it' if path in there else 'is missing'}"
    for path in sorted(there & set(declared)):
        if digest(os.path.join(live, path)) != declared[path]:
            yield f"{live}/{path}: has another content"


found = list(problems(json.loads(sys.argv[1])))
print(*found, sep="\n")
sys.exit(1 if found else 0)
