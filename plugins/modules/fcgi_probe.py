# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_probe
short_description: Ask FastCGI programs whether they answer
version_added: 1.0.0
author: webops.fastcgi contributors (@webops)
description:
  - Sends a real FastCGI request, or a ping that the application does not notice, to the socket of one program or of many, and judges the answers.
  - The connections are made from the host on which the module runs, without a web server between.
  - Many targets are probed at once, so that they take hardly longer than one.
  - The module fails if any target does, and then its message names each one that failed. It returns the same structure either way.
options:
  address:
    description:
      - Where the program listens, as V(unix:/run/fastcgi/shop.sock), V(127.0.0.1:9001) or V([::1]:9001).
      - Exactly one of O(address) and O(targets) must be given.
    type: str
  name: &name
    description: What the results call this target. It defaults to the address.
    type: str
  mode: &mode
    description:
      - V(ping) asks the FastCGI library in the program for its values (C(FCGI_GET_VALUES)). The application itself sees nothing of it, so this proves
        that a worker is free to answer, and nothing about the application. Programs on uWSGI's C(fastcgi-socket) never answer a ping.
        Php-fpm counts each as accepted and active workers, so a pool whose status is watched is better asked for its C(ping.path).
      - V(request) sends a request as a web server would.
      - V(php_fpm_status), new in version 1.1.0, asks a pool of php-fpm for its status page, and fails if what comes is none.
        O(script_name) is its only option of a request.
        The page is answered by a worker, and so by none while all are busy, unless the pool has a C(pm.status_listen), which is then the address to ask.
    type: str
    choices: [ping, request, php_fpm_status]
    default: ping
  method: &method
    description: The request's method.
    type: str
    default: GET
  script_name: &script_name
    description:
      - C(SCRIPT_NAME) of the request, the part of the URL's path that leads to the program. Not percent-encoded.
      - In mode V(php_fpm_status) it is the pool's C(pm.status_path), and required.
    type: str
    default: ""
  path_info: &path_info
    description: C(PATH_INFO) of the request, the part of the URL's path after O(script_name). Not percent-encoded.
    type: str
    default: ""
  query: &query
    description: C(QUERY_STRING) of the request, percent-encoded, without the question mark.
    type: str
    default: ""
  params: &params
    description:
      - More FastCGI params, such as C(SCRIPT_FILENAME), which php-fpm needs. They replace those that the module sets itself.
      - The values are never logged. Those of 8 characters or more are masked in what the module returns, in case the application repeats them,
        unless they also stand in an option that is no secret, such as O(address).
    type: dict
    default: {}
  request_body: &request_body
    description: The request's body. It is kept secret as O(params) are.
    type: str
    default: ""
  status: &status
    description: The statuses that count as success. Only in mode V(request).
    type: list
    elements: int
    default: [200]
  body: &body
    description:
      - A Python regular expression that must be found in the response's body, of which the first MiB is searched. Only in mode V(request).
      - The empty one is always found.
    type: str
    default: ""
  targets:
    description: Several targets, probed at once. The other options of a single target cannot be given beside it.
    type: list
    elements: dict
    suboptions:
      address:
        description: Where the program listens, as V(unix:/run/fastcgi/shop.sock), V(127.0.0.1:9001) or V([::1]:9001).
        type: str
        required: true
      name: *name
      mode: *mode
      method: *method
      script_name: *script_name
      path_info: *path_info
      query: *query
      params: *params
      request_body: *request_body
      status: *status
      body: *body
      timeout:
        description: O(timeout) for this target alone. Without it, it has that of the module.
        type: float
      deadline:
        description: O(deadline) for this target alone. Without it, it has that of the module.
        type: float
  timeout:
    description: The seconds in which one attempt must be complete.
    type: float
    default: 5
  deadline:
    description:
      - For how many seconds from the start failed attempts are repeated. The last one begins when they are over and still has O(timeout) seconds.
      - With V(0) there is one attempt.
    type: float
    default: 0
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the target.
    support: full
    details: The module never changes anything, so it also probes in check mode.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check mode) when in diff mode.
    support: N/A
    details: The module never changes anything.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details: What the application does with a request in mode V(request) is its own affair.
"""

EXAMPLES = r"""
- name: Wait up to half a minute until a worker of the shop is there
  webops.fastcgi.fcgi_probe:
    address: unix:/run/fastcgi/shop.sock
    deadline: 30

- name: Ask the shop itself
  webops.fastcgi.fcgi_probe:
    address: unix:/run/fastcgi/shop.sock
    mode: request
    script_name: /shop
    path_info: /healthz
    body: ^ok

- name: Ask a pool of php-fpm whose ping.path is /ping
  webops.fastcgi.fcgi_probe:
    address: unix:/run/php/blog.sock
    mode: request
    script_name: /ping
    params:
      SCRIPT_FILENAME: /ping
    body: ^pong$

- name: Ask a pool of php-fpm whose pm.status_path is /fpm-status what it does
  webops.fastcgi.fcgi_probe:
    address: unix:/run/php/blog-status.sock  # its pm.status_listen, or where it listens
    mode: php_fpm_status
    script_name: /fpm-status

- name: Ask many pools, where one that does not answer is a result like any other
  webops.fastcgi.fcgi_probe:
    targets: "{{ pools }}"
  register: asked
  failed_when: "'probes' not in asked"

- name: Probe several programs at once
  webops.fastcgi.fcgi_probe:
    targets:
      - name: shop
        address: unix:/run/fastcgi/shop.sock
      - name: reports
        address: 127.0.0.1:9001
        mode: request
        path_info: /reports
        status: [200, 204]
    deadline: 10
"""

RETURN = r"""
msg:
  description: How many targets answered or, on failure, which did not, why, and what helps.
  returned: always
  type: str
  sample: "1 of 2 targets failed: shop (127.0.0.1:9001): nobody listens there: start the program, and read its log if it does not stay up"
probes:
  description: What became of each target, in the order in which they were given.
  returned: always, except when an option is not valid
  type: list
  elements: dict
  contains:
    name:
      description: The target's name, or its address if it has none.
      type: str
      sample: shop
    address:
      description: The target's address.
      type: str
      sample: unix:/run/fastcgi/shop.sock
    ok:
      description: Whether the target answered as it should.
      type: bool
    status:
      description: The response's status, V(null) if there is no response and in mode V(ping).
      type: int
      sample: 200
    headers:
      description: The response's header, names in lower case. The values of a repeated one are joined by a comma and a space.
      type: dict
      sample: {"content-type": "text/plain"}
    body:
      description: The first 1000 characters of the response's body.
      type: str
      sample: ok
    stderr:
      description: The first 1000 characters that the program wrote to the FastCGI error stream, also when it did not answer in the end.
      type: str
    seconds:
      description: How long the last attempt took.
      type: float
      sample: 0.0021
    attempts:
      description: How many attempts were made.
      type: int
      sample: 1
    error:
      description:
        - What kind of failure it is, V(null) if it is none.
        - "No connection: V(missing) (no such socket), V(refused) (nobody listens), V(permission), V(backlog) (the listening queue is full),
          V(unreachable) (anything else)."
        - "No answer: V(closed) (the connection ended first), V(silent) (nothing came in time), V(unfinished) (the answer began but did not end in time),
          V(malformed) (the answer is not FastCGI, or its header not CGI)."
        - "Refused in the protocol's own words: V(overloaded), V(cant_multiplex), V(unknown_role)."
        - "Not the answer that was asked for: V(status), V(body), V(no_pool) (not the status of a pool of php-fpm)."
      type: str
      sample: refused
    message:
      description: The failure in words, with what helps. Empty if there is none.
      type: str
    pool:
      description: What a pool of php-fpm does, V(null) in other modes and if there is no answer.
      type: dict
      version_added: 1.1.0
      contains:
        pool:
          description: The pool's own name.
          type: str
          sample: blog
        process_manager:
          description: V(static), V(dynamic) or V(ondemand).
          type: str
          sample: dynamic
        active_processes:
          description: Workers that have a request. One of them has this one, unless it was asked at C(pm.status_listen).
          type: int
          sample: 3
        idle_processes:
          description: Workers that have none.
          type: int
          sample: 2
        total_processes:
          description: All workers.
          type: int
          sample: 5
        listen_queue:
          description: Connections that wait for a worker. Php-fpm measures them on TCP alone; at a unix socket it is always 0.
          type: int
          sample: 0
        max_listen_queue:
          description: The most of them since the start.
          type: int
          sample: 0
        listen_queue_len:
          description: How many could wait; 0 where php-fpm does not measure it, or not yet.
          type: int
          sample: 511
        max_active_processes:
          description: The most active workers since the start. Php-fpm counts more for each ping of mode V(ping).
          type: int
          sample: 5
        max_children_reached:
          description: How often C(pm.max_children) kept php-fpm from starting another worker. A static pool does not count it.
          type: int
          sample: 0
        slow_requests:
          description: Requests that took longer than C(request_slowlog_timeout).
          type: int
          sample: 0
        accepted_connections:
          description: Requests since the start.
          type: int
          sample: 1712
        start_since:
          description: Seconds since the pool's start or reload, with which all counters begin.
          type: int
          sample: 86400
"""

import copy
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.webops.fastcgi.plugins.module_utils import fastcgi, php_fpm_status

_REQUEST_SPEC: dict[str, dict[str, Any]] = {
    "method": {"type": "str", "default": "GET"},
    "script_name": {"type": "str", "default": ""},
    "path_info": {"type": "str", "default": ""},
    "query": {"type": "str", "default": ""},
    "params": {"type": "dict", "default": {}, "no_log": True},
    "request_body": {"type": "str", "default": "", "no_log": True},
    "status": {"type": "list", "elements": "int", "default": [200]},
    "body": {"type": "str", "default": ""},
}
_TARGET_SPEC: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "address": {"type": "str", "required": True},
    "mode": {"type": "str", "choices": ["ping", "request", "php_fpm_status"], "default": "ping"},
    **_REQUEST_SPEC,
}
_ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **_TARGET_SPEC,
    "address": {"type": "str"},
    "targets": {"type": "list", "elements": "dict", "options": {**_TARGET_SPEC, "timeout": {"type": "float"}, "deadline": {"type": "float"}}},
    "timeout": {"type": "float", "default": 5},
    "deadline": {"type": "float", "default": 0},
}

_SHORTEST = {"timeout": 0.001, "deadline": 0}  # seconds
_LONGEST = 86400
_THREADS_MAX = 256
_SHOWN = 1000  # characters of a response's body and stderr that are returned
_FIRST_DELAY = 0.05  # seconds between two attempts; doubled each time
_LONGEST_DELAY = 1.0
_SHORTEST_SECRET = 8


class Expected(NamedTuple):
    """Which answer is right in mode request."""

    statuses: list[int]
    pattern: re.Pattern[str]


class Request(NamedTuple):
    """What to send. `expected` is None in mode php_fpm_status."""

    params: dict[str, str]
    content: bytes
    expected: Expected | None


class Target(NamedTuple):
    """`request` is None in mode ping. `timeout` and `deadline` are in seconds."""

    name: str
    address: str
    request: Request | None
    timeout: float
    deadline: float


def plan(options: dict[str, Any]) -> list[Target]:
    """The targets that the module's options describe. Raises ValueError, which names the option, its value and what would be right."""
    if options["targets"] is None:
        return [_target(options, "")]
    for target in options["targets"]:
        for name in _SHORTEST:
            target[name] = options[name] if target[name] is None else target[name]
    return [_target(target, f"targets[{index}].") for index, target in enumerate(options["targets"])]


def _target(options: dict[str, Any], where: str) -> Target:
    address = options["address"]
    for name, lowest in _SHORTEST.items():
        if not lowest <= options[name] <= _LONGEST:
            raise ValueError(f"{where}{name}: {options[name]} is not a number of seconds from {lowest} to {_LONGEST}")
    try:
        fastcgi.parse_address(address)
    except fastcgi.FastCGIError as error:
        raise ValueError(f"{where}address: {error}") from error
    request = _REQUESTS[options["mode"]](options, where)
    return Target(options["name"] or address, address, request, options["timeout"], options["deadline"])


def _refuse_request_options(options: dict[str, Any], where: str, why: str, but: str = "") -> None:
    """A probe that ignored them would report success for something that was never tried."""
    for name in _REQUEST_SPEC:
        if name != but and options[name] != _REQUEST_SPEC[name]["default"]:
            raise ValueError(f"{where}{name}: mode {options['mode']} {why}; leave {name} out or set mode: request")


def _ping(options: dict[str, Any], where: str) -> None:
    _refuse_request_options(options, where, "sends no request to the application")


def _status_request(options: dict[str, Any], where: str) -> Request:
    _refuse_request_options(options, where, "asks for nothing but the pool's status page", but="script_name")
    path = options["script_name"]
    if not path.startswith("/"):
        raise ValueError(f"{where}script_name: mode php_fpm_status needs the pool's pm.status_path, such as /fpm-status; {path!r} does not begin with a slash")
    return Request(php_fpm_status.params(path), b"", None)


def _request(options: dict[str, Any], where: str) -> Request:
    for name in ("script_name", "path_info"):
        if options[name] and not options[name].startswith("/"):
            raise ValueError(f"{where}{name}: {options[name]!r} does not begin with a slash")
    if not options["status"]:
        raise ValueError(f"{where}status: an empty list accepts no answer; give at least one status, such as 200")
    try:
        pattern = re.compile(options["body"])
    except re.error as error:
        raise ValueError(f"{where}body: {options['body']!r} is not a regular expression: {error}") from error
    content = options["request_body"].encode("utf-8", "surrogateescape")
    params = fastcgi.cgi_params(options["method"], options["script_name"], options["path_info"], options["query"], len(content))
    params.update(_extra_params(options["params"], where))
    return Request(params, content, Expected(options["status"], pattern))


def _extra_params(params: dict[str, Any], where: str) -> dict[str, str]:
    for name, value in params.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f'{where}params.{name}: its value is neither text nor a number: quote it, as in HTTPS: "on"')
    return {name: str(value) for name, value in params.items()}


_REQUESTS: dict[str, Callable[[dict[str, Any], str], Request | None]] = {"ping": _ping, "request": _request, "php_fpm_status": _status_request}


def probe(target: Target, secrets: set[str]) -> dict[str, Any]:
    """Try until the target answers as it should or its deadline is over, and return the last attempt's result."""
    end = time.monotonic() + target.deadline
    attempts, delay = 1, _FIRST_DELAY
    result = attempt(target, secrets)
    while not result["ok"] and time.monotonic() < end:
        time.sleep(max(0, min(delay, end - time.monotonic())))
        result = attempt(target, secrets)
        attempts, delay = attempts + 1, min(delay * 2, _LONGEST_DELAY)
    return {**result, "attempts": attempts}


def attempt(target: Target, secrets: set[str]) -> dict[str, Any]:
    """Probe once."""
    result: dict[str, Any] = {"name": target.name, "address": target.address, "ok": True}
    result.update(status=None, headers={}, body="", stderr="", error=None, message="", pool=None)
    began = time.monotonic()
    try:
        if target.request is None:
            fastcgi.ping(target.address, target.timeout)
        else:
            response = fastcgi.request(target.address, target.request.params, target.request.content, target.timeout)
            result.update(status=response.status, headers=response.headers)
            result.update(body=_start(_text(response), secrets), stderr=_start(response.stderr, secrets))
            result.update(pool=judge(response, target.request.expected))
    except fastcgi.FastCGIError as error:
        result.update(ok=False, error=error.kind, message=str(error), stderr=result["stderr"] or _start(error.stderr, secrets))
    return {**result, "seconds": round(time.monotonic() - began, 6)}


def _start(text: str, secrets: set[str]) -> str:
    """What of a long text is returned. AnsibleModule masks too, but could not recognize a secret that was cut in two."""
    start: str = remove_values(text, secrets)[:_SHOWN]
    return start


def _text(response: fastcgi.Response) -> str:
    return response.body.decode("utf-8", "replace")


def judge(response: fastcgi.Response, expected: Expected | None) -> dict[str, Any] | None:
    """The pool of php-fpm, if the response is to tell of one. Raise FastCGIError `status`, `body` or `no_pool` if it is not what was asked for."""
    if expected is None:
        return php_fpm_status.parse(response)
    if response.status not in expected.statuses:
        statuses = " or ".join(str(status) for status in expected.statuses)
        raise fastcgi.FastCGIError("status", f"the answer's status is {response.status}, not {statuses}: read its stderr and the program's log")
    if not expected.pattern.search(_text(response)):
        raise fastcgi.FastCGIError("body", f"{expected.pattern.pattern!r} is not found in the answer's body, which has {len(response.body)} bytes")
    return None


def run(targets: list[Target], secrets: set[str]) -> list[dict[str, Any]]:
    """Probe all targets at once; the texts that come back have their `secrets` masked."""
    if not targets:
        return []
    with ThreadPoolExecutor(min(len(targets), _THREADS_MAX)) as pool:
        return list(pool.map(lambda target: probe(target, secrets), targets))


def describe(probes: list[dict[str, Any]]) -> str:
    failures = [f"{_label(one)}: {one['message']}" for one in probes if not one["ok"]]
    if not failures:
        return f"{len(probes)} of {len(probes)} targets answered"
    return f"{len(failures)} of {len(probes)} targets failed: " + "; ".join(failures)


def _label(one: dict[str, Any]) -> str:
    return one["name"] if one["name"] == one["address"] else f"{one['name']} ({one['address']})"


def take_options(module: AnsibleModule) -> dict[str, Any]:
    """The module's options, after which it returns no secret one, and masks elsewhere only the values that can be secrets: neither short nor public.

    Ansible masks each value of a no_log option wherever its characters stand in the result: a param `HTTPS: "on"` would leave no message readable,
    `SERVER_PORT: "200"` would replace the returned status, and `SERVER_NAME: "127.0.0.1"` hide the address.
    """
    options: dict[str, Any] = copy.deepcopy(module.params)
    for shown in [module.params, *(module.params["targets"] or [])]:
        shown["params"] = shown["request_body"] = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    public = repr(module.params)
    module.no_log_values = {value for value in module.no_log_values if len(value) >= _SHORTEST_SECRET and value not in public}
    return options


def main() -> None:
    module = AnsibleModule(
        argument_spec=_ARGUMENT_SPEC,
        mutually_exclusive=[(option, "targets") for option in _TARGET_SPEC],
        required_one_of=[("address", "targets")],
        supports_check_mode=True,
    )
    options = take_options(module)
    try:
        targets = plan(options)
    except ValueError as error:
        module.fail_json(msg=str(error))
    probes = run(targets, module.no_log_values)
    finish = module.exit_json if all(one["ok"] for one in probes) else module.fail_json
    finish(changed=False, msg=describe(probes), probes=probes)


if __name__ == "__main__":
    main()
