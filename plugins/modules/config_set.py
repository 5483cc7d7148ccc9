# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_set
short_description: Install a complete set of configuration files as one transaction
version_added: 1.0.0
author: webops.fastcgi contributors (@webops)
description:
  - Renders a set of files on the controller, sends it as one archive, has the program that will read it check it, and makes it
    live by one rename of a symbolic link. Until then, and whatever fails, the set before stays live.
  - Each set is a I(generation), a directory below C(PATH/generations). C(PATH/current) points to the live one. What is not in
    the new generation is gone; nothing outside of O(path) is written or removed but the symbolic links in O(links).
  - A change by hand of a file in the live generation is drift, and is replaced by a new generation.
  - Contents of files are never arguments of the module on the host, which are logged there.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    details:
      - The new generation is staged in a temporary directory and validated there. Where the validating program is not installed
        yet, as on a host that this play is about to set up, validation is skipped with a warning.
  diff_mode:
    support: full
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - Each run with O(state=previous) turns further back.
options:
  path:
    description:
      - Absolute path of the directory that this set owns.
    type: str
    required: true
  state:
    description:
      - With V(present) the declared set is live.
      - With V(previous) the generation that was last proved to be in use is made live again if the live one has not been proved; else
        the newest older one that differs from the live one.
      - With V(absent) links, generations and O(path) are removed.
    type: str
    choices: [present, previous, absent]
    default: present
  files:
    description:
      - The files of the set. Each has exactly one of O(files[].content), O(files[].src) and O(files[].template).
    type: list
    elements: dict
    default: []
    suboptions:
      path: &path
        description: Path inside the generation, relative.
        type: str
        required: true
      content:
        description: The content itself.
        type: str
      src:
        description:
          - A file on the controller, searched for as M(ansible.builtin.copy) does.
          - Of a directory all files are taken, but C(__pycache__); they lie below O(files[].path) as they lie in it.
        type: str
      template:
        description: A Jinja2 template on the controller, searched for as M(ansible.builtin.template) does.
        type: str
      vars:
        description: Variables for O(files[].template), in addition to those of the task.
        type: dict
      mask:
        description:
          - Regular expressions with a group each. In a line that one matches, what follows the group is masked wherever it
            would be shown.
        type: list
        elements: str
        default: []
      parts:
        description:
          - A regular expression with a group, for the lines with which the parts of the file begin. The group is the part's name. See RV(changed_parts).
        type: str
      secret:
        description: Whether the whole content is masked wherever it would be shown.
        type: bool
        default: false
      brief:
        description:
          - Whether a diff shows the checksum of the file instead of its content, as for code that nobody reads in a diff.
        type: bool
        default: false
        version_added: 1.1.0
      mode: &mode
        description: Octal permissions. V(0644) for a file and V(0755) for a directory unless given.
        type: raw
      owner: &owner
        description: Name or number of the user; the one that runs the module unless given.
        type: str
      group: &group
        description: Name or number of the group; that of the user that runs the module unless given.
        type: str
      seuser: &seuser
        description: SELinux user. What the policy says for the path unless given, as for the rest of the context.
        type: str
      serole: &serole
        description: SELinux role.
        type: str
      setype: &setype
        description: SELinux type.
        type: str
      selevel: &selevel
        description: SELinux level.
        type: str
  directories:
    description:
      - Directories of the set that need attributes of their own, or that stay empty. Those that files lie in are made with mode 0755.
    type: list
    elements: dict
    default: []
    suboptions:
      path: *path
      mode: *mode
      owner: *owner
      group: *group
      seuser: *seuser
      serole: *serole
      setype: *setype
      selevel: *selevel
  links:
    description:
      - Symbolic links outside of O(path) by which other software finds the set. They point into C(PATH/current).
      - Something else in their place is an error, and is left alone.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the link.
        type: str
        required: true
      target:
        description: A path inside the generation.
        type: str
        required: true
      shared:
        description:
          - Whether other sets may have this link, to their file of the same O(links[].target). They lie beside this one, as C(../../SET/NAME) to a
            O(path) that ends in C(SET/NAME). The first one to need it makes it, and while it is there it serves all. When that set no longer declares it,
            the link passes to another one that does.
        type: bool
        default: false
  metadata:
    description:
      - Data that is kept with the generation for the modules that apply it. No secrets.
    type: dict
    default: {}
  validate:
    description:
      - How the program that will read the set checks it before it goes live.
      - It is given a copy of the staged generation in which C(PATH/current) is replaced by the path of the copy.
    type: dict
    suboptions:
      command:
        description:
          - Program and arguments; no shell is involved. V({staged}) stands for the copy of the staged generation and
            V({tree}) for that of O(validate.tree).
        type: list
        elements: str
        required: true
      tree:
        description:
          - A directory that is copied as well, such as C(/etc/nginx), and with it the directories of O(links) that lie outside of it. Their own paths and
            C(PATH/current) are replaced by those of the copies in all files and links, and O(links) are made as they will be.
        type: str
      substitute:
        description: What else is replaced in the copies.
        type: list
        elements: dict
        default: []
        suboptions:
          pattern:
            description: A regular expression; V(^) and V($) match at lines.
            type: str
            required: true
          replacement:
            description: Its replacement, in which V({staged}) and V({tree}) stand for the paths of the copies.
            type: str
            required: true
      forbid:
        description:
          - A regular expression; output that it matches is a failure although the program's exit status is 0.
          - With O(validate.tree), what the program says of that tree as it is too is no failure.
        type: str
      advice:
        description: What can be done about what O(validate.forbid) matches; it ends the error message.
        type: str
        default: ""
      timeout:
        description: Seconds after which the program and its children are killed, and validation has failed.
        type: float
        default: 30
      environment:
        description: Environment variables for the program, in addition to the ones it inherits.
        type: dict
        default: {}
  keep:
    description:
      - How many generations are kept. The live one, the one last proved to be in use and all since are kept in any case.
    type: int
    default: 5
  archive:
    description: Where the contents of O(files) are on the host. The action plugin sets it. It is not for tasks.
    type: path
"""

EXAMPLES = r"""
- name: Install what nginx serves, proved by nginx itself
  webops.fastcgi.config_set:
    path: /etc/fcgi/default/fcgi_nginx
    files:
      - path: nginx.conf
        template: nginx.conf.j2
      - path: locations/shop.conf
        template: location.conf.j2
        vars:
          app: shop
      - path: auth/shop
        content: "{{ vault_shop_htpasswd }}"
        secret: true
        mode: "0640"
        group: www-data
    links:
      - path: /etc/nginx/conf.d/fcgi-default.conf
        target: nginx.conf
    validate:
      command: [nginx, -t, -q, -c, "{tree}/nginx.conf"]
      tree: /etc/nginx
      substitute:
        - pattern: '^\s*pid\s+[^;]+;'
          replacement: "pid {tree}/nginx.pid;"

- name: Turn back to the configuration that worked
  webops.fastcgi.config_set:
    path: /etc/fcgi/default/fcgi_nginx
    state: previous
"""

RETURN = r"""
generation:
  description: The live generation after this task, in check mode the one that would be; null if there is none.
  returned: success
  type: str
  sample: "000007"
previous:
  description: The generation that was live before this task; null if there was none.
  returned: success
  type: str
  sample: "000006"
path:
  description: The directory that the set owns.
  returned: success
  type: str
  sample: /etc/fcgi/default/fcgi_nginx
applied:
  description: The generation last proved to be in use by the software that reads it; null if none was.
  returned: success
  type: str
  sample: "000006"
pending:
  description: Whether the live generation is not the one that is proved to be in use.
  returned: success
  type: bool
changed_parts:
  description: Names of the parts, by O(files[].parts), that differ from those of the live generation, are new, or are gone.
  returned: success
  type: list
  elements: str
  sample: [shop]
validation:
  description: What the validating program did; null if it was not run. Secrets are masked.
  returned: when validation ran or is not asked for
  type: dict
  contains:
    cmd:
      description: Program and arguments.
      type: list
      elements: str
    rc:
      description: Exit status; null if it was killed because it took too long.
      type: int
    stdout:
      description: Its output.
      type: str
    stderr:
      description: Its messages.
      type: str
    seconds:
      description: How long it took.
      type: float
msg:
  description: What happened, in words.
  returned: always
  type: str
  sample: generation 000007 is live
"""

import contextlib
import os
import re
import shutil
import tarfile
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.fastcgi.plugins.module_utils import generation_check, generation_diff
from ansible_collections.webops.fastcgi.plugins.module_utils import generation_content as content
from ansible_collections.webops.fastcgi.plugins.module_utils.generation import GenerationError, GenerationStore
from ansible_collections.webops.fastcgi.plugins.module_utils.generation_plan import Plan, make_plan

_LOCK_TIMEOUT = 300  # seconds; another run, or what is left of a killed one, validates meanwhile, or replaces the processes of a pool in turn
_MAX_OUTPUT = 20000  # characters of a validator's output that are kept, from its end

_ATTRIBUTES: dict[str, t.Any] = {
    "path": {"type": "str", "required": True},
    "mode": {"type": "raw"},
    **{name: {"type": "str"} for name in ("owner", "group", *content.SELINUX_KEYS)},
}
_FILE: dict[str, t.Any] = {
    **_ATTRIBUTES,
    "content": {"type": "str"},
    "src": {"type": "str"},
    "template": {"type": "str"},
    "vars": {"type": "dict"},
    "mask": {"type": "list", "elements": "str", "default": []},
    "parts": {"type": "str"},
    "secret": {"type": "bool", "default": False, "no_log": False},
    "brief": {"type": "bool", "default": False},
}
_LINK: dict[str, t.Any] = {
    "path": {"type": "str", "required": True},
    "target": {"type": "str", "required": True},
    "shared": {"type": "bool", "default": False},
}
_SUBSTITUTE = {"pattern": {"type": "str", "required": True}, "replacement": {"type": "str", "required": True}}
_VALIDATE: dict[str, t.Any] = {
    "command": {"type": "list", "elements": "str", "required": True},
    "tree": {"type": "str"},
    "substitute": {"type": "list", "elements": "dict", "default": [], "options": _SUBSTITUTE},
    "forbid": {"type": "str"},
    "advice": {"type": "str", "default": ""},
    "timeout": {"type": "float", "default": 30},
    "environment": {"type": "dict", "default": {}},
}
_ARGUMENTS: dict[str, t.Any] = {
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "previous", "absent"], "default": "present"},
    "files": {"type": "list", "elements": "dict", "default": [], "options": _FILE},
    "directories": {"type": "list", "elements": "dict", "default": [], "options": _ATTRIBUTES},
    "links": {"type": "list", "elements": "dict", "default": [], "options": _LINK},
    "metadata": {"type": "dict", "default": {}},
    "validate": {"type": "dict", "options": _VALIDATE},
    "keep": {"type": "int", "default": 5},
    # From the action plugin: a tar archive in which member "3" is the content of files[3].
    "archive": {"type": "path"},
}


class ValidationError(GenerationError):
    """The program that would read the configuration does not accept it."""

    def __init__(self, message: str, outcome: dict[str, t.Any]) -> None:
        super().__init__(message)
        self.outcome = outcome


class ConfigSet:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.check_mode = module.check_mode
        self.store = GenerationStore(self.params["path"])
        self.identity = content.Identity(lenient=self.check_mode)
        self.labels = content.Labels(module)

    def run(self) -> dict[str, t.Any]:
        self._check_arguments()
        self.store.check_place()
        if self.params["state"] == "absent":
            return self._remove()
        if self.params["state"] == "previous":
            self.store.rollback_target()  # or there is nothing to turn back to
            with self._working():
                return self._turn_back()
        declaration = self._declaration()
        content.expected(declaration, self.identity)  # unknown owners are found before anything is touched
        if not self.check_mode:
            self.store.prepare()
        with self._working(declaration.links):
            return self._install(declaration)

    def _check_arguments(self) -> None:
        path = self.params["path"]
        if not os.path.isabs(path) or os.path.normpath(path) != path or path == "/":
            raise GenerationError(f'path: "{path}" has to be an absolute path without ".." or a trailing slash')
        if self.params["keep"] < 1:
            raise GenerationError(f"keep: {self.params['keep']} is not a number from 1 on")

    @contextlib.contextmanager
    def _working(self, links: t.Sequence[dict[str, str]] = ()) -> t.Iterator[None]:
        """Alone with PATH, rid of what a killed run left. Check mode leaves no trace: it neither locks nor cleans."""
        if self.check_mode:
            yield
            return
        with self.store.lock(_LOCK_TIMEOUT):
            self.store.clean(links)
            yield

    def _declaration(self) -> content.Declaration:
        files = self.params["files"]
        archive = self.params["archive"]
        if archive is None:
            raise GenerationError("config_set has to run through its action plugin, which renders the files")
        with tarfile.open(archive) as members:
            contents = {item["path"]: t.cast(t.IO[bytes], members.extractfile(str(number))).read() for number, item in enumerate(files)}
        return content.declare(self.params["path"], files, self.params["directories"], self.params["links"], self.params["metadata"], contents)

    def _plan(self, target: str, declaration: content.Declaration) -> Plan:
        return make_plan(self.store, target, declaration, self.identity, self.labels)

    def _install(self, declaration: content.Declaration) -> dict[str, t.Any]:
        plan = self._plan(self.store.next_name(), declaration)
        if not plan.changed:
            return self._result(plan, plan.live, None, f"generation {plan.live} is live already")
        changed_parts = self._changed_parts(plan)
        staged = os.path.join(self.module.tmpdir, "generation") if self.check_mode else self.store.staging_path(plan.target)
        try:
            self._check_link_directories(plan)
            content.stage(declaration, staged, plan.wanted)
            validation = self._validate(plan, staged)
            diff = self._diff(plan)
            if not self.check_mode:
                content.label(declaration, staged, self.store.directory(plan.target), self.labels)
                content.sync_tree(staged)
                self._go_live(plan, staged)
                self.store.prune(self.params["keep"])
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return self._result(plan, plan.target, validation, self._summary(plan), diff, changed_parts)

    def _changed_parts(self, plan: Plan) -> list[str]:
        try:
            return plan.changed_parts({item["path"]: item["parts"] for item in self.params["files"] if item["parts"]})
        except (re.error, IndexError) as error:
            raise GenerationError(f"files: parts is not a regular expression with a group: {error}") from error

    def _check_link_directories(self, plan: Plan) -> None:
        for link in plan.changed_links:
            if not self.check_mode and not os.path.isdir(os.path.dirname(link["path"])):
                raise GenerationError(f"links: there is no directory for {link['path']}; install the software that it belongs to first")

    def _go_live(self, plan: Plan, staged: str) -> None:
        try:
            self.store.adopt(staged, plan.target)
            self.store.switch(plan.target, plan.links_to_make, plan.stale_links, self.labels.apply_to_link)
        except OSError:
            self.store.discard(plan.target)
            raise

    def _turn_back(self) -> dict[str, t.Any]:
        target = self.store.rollback_target()
        directory = self.store.directory(target)
        plan = self._plan(target, content.load(directory, self.store.manifest(target)))
        validation = self._validate(plan, directory)
        diff = self._diff(plan)
        if not self.check_mode:
            self.store.switch(target, plan.links_to_make, plan.stale_links, self.labels.apply_to_link)
        return self._result(plan, target, validation, self._summary(plan), diff)

    def _remove(self) -> dict[str, t.Any]:
        if not self.store.exists():
            return self._result(None, None, None, f"{self.store.path} is absent already")
        with self._working():
            plan = self._plan("", content.declare(self.store.path, [], [], [], {}, {}))
            diff = self._diff(plan)
            if not self.check_mode:
                self.store.remove(self.labels.apply_to_link)
        return self._result(plan, None, None, f"{self.store.path} is removed", diff)

    def _validate(self, plan: Plan, staged: str) -> dict[str, t.Any] | None:
        options = self.params["validate"]
        if options is None:
            return None
        missing = self._missing_for_validation(options)
        if missing and self.check_mode:
            self.module.warn(f"not validated: {missing}")
            return None
        if missing:
            raise GenerationError(f"validate: {missing}; install it first. {still_live(self.store)}")
        outcome = self._run_validator(options, plan, staged)
        problem = generation_check.problem(outcome, options["timeout"]) or self._forbidden(options, plan, outcome)
        if problem:
            raise ValidationError(f"{options['command'][0]} {problem}\n{still_live(self.store)}", outcome)
        return outcome

    def _forbidden(self, options: dict[str, t.Any], plan: Plan, outcome: dict[str, t.Any]) -> str | None:
        """What the program warns of that is forbidden, and that it does not say of the live configuration too; None if nothing."""
        if not options["forbid"]:
            return None
        found = generation_check.forbidden(outcome, options["forbid"])
        if found and options["tree"]:
            found -= generation_check.forbidden(self._run_validator(options, plan, None), options["forbid"])
        return "\n".join(["warns of what is forbidden here:", *found, *filter(None, [options["advice"]])]) if found else None

    def _missing_for_validation(self, options: dict[str, t.Any]) -> str | None:
        program, tree = options["command"][0], options["tree"]
        if not self.module.get_bin_path(program):
            return f"there is no program {program} on this host"
        if tree and not os.path.isdir(tree):
            return f"there is no directory {tree} on this host"
        return None

    def _run_validator(self, options: dict[str, t.Any], plan: Plan, staged: str | None) -> dict[str, t.Any]:
        """What the program says of the staged generation, without one of the live configuration."""
        declaration = plan.declaration
        links = {**plan.stale_links, **{link["path"]: self.store.link_target(link) for link in declaration.links}} if staged else {}
        secrets = set().union(*(generation_diff.secrets_of(entry, declaration.contents[entry["path"]]) for entry in declaration.files))
        command = [self.module.get_bin_path(options["command"][0]), *options["command"][1:]]
        directory = tempfile.mkdtemp(dir=self.module.tmpdir)
        try:
            scratch = generation_check.build_scratch(directory, staged, self.store.current_path, options["tree"], options["substitute"], links)
            outcome = generation_check.run([scratch.fill(word) for word in command], options["timeout"], options["environment"], directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        for stream in ("stdout", "stderr"):
            outcome[stream] = generation_diff.redact(scratch.translate(outcome[stream]), secrets)[-_MAX_OUTPUT:]
        outcome["cmd"] = [scratch.translate(word) for word in outcome["cmd"]]
        return outcome

    def _diff(self, plan: Plan) -> list[dict[str, str]]:
        return plan.difference() if self.module._diff else []

    def _summary(self, plan: Plan) -> str:
        verb = "would be" if self.check_mode else "is"
        drift = f"; generation {plan.live} had been changed by hand: {', '.join(plan.drift)}" if plan.drift else ""
        return f"generation {plan.target} {verb} live{drift}"

    def _result(
        self,
        plan: Plan | None,
        generation: str | None,
        validation: dict[str, t.Any] | None,
        message: str,
        diff: t.Sequence[dict[str, str]] = (),
        changed_parts: t.Sequence[str] = (),
    ) -> dict[str, t.Any]:
        for problem in sorted(self.identity.unknown):
            self.module.warn(problem)
        applied = self.store.applied()
        return {
            "changed": bool(plan and (plan.changed or generation != plan.live)),
            "generation": generation,
            "previous": plan.live if plan else None,
            "path": self.store.path,
            "applied": applied,
            "pending": generation != applied,
            "changed_parts": list(changed_parts),
            "validation": validation,
            "diff": list(diff),
            "msg": message,
        }


def still_live(store: GenerationStore) -> str:
    """What an error message says of the state that it leaves behind."""
    live = store.current()
    return f"Generation {live} of {store.path} is live." if live else f"{store.path} has no live generation."


def main() -> None:
    module = AnsibleModule(argument_spec=_ARGUMENTS, supports_check_mode=True)
    config_set = ConfigSet(module)
    os.umask(0o022)  # whoever may read a file of the set has to get through the directories above it
    try:
        result = config_set.run()
    except ValidationError as error:
        module.fail_json(msg=str(error), validation=error.outcome)
    except GenerationError as error:
        module.fail_json(msg=str(error))
    except re.error as error:
        module.fail_json(msg=f"validate: {error.pattern!r} is not a regular expression: {error}")
    except OSError as error:
        place = error.filename2 or error.filename or config_set.store.path
        module.fail_json(msg=f"{place}: {error.strerror}. {still_live(config_set.store)}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
