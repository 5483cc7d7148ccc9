# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fcgi_release
short_description: Place the code of apps on a host and make it current
version_added: 1.0.0
author: webops.fastcgi contributors (@webops)
description:
  - Places the code of all apps of a host in one task, each version in a directory of its own, C(PATH/releases/VERSION), and points C(PATH/current) to it.
  - Nothing is sent unless a version is missing on the host. Then all missing ones go in one archive, so that many apps take hardly longer than one.
  - A version never changes. Other content under a version that is already placed is an error.
  - A directory in C(PATH/releases) without the file C(.fcgi-release.json) is an interrupted placement. It is replaced, unless C(PATH/current) points to it.
  - Two runs never work in one O(releases[].path). The second one waits, up to ten minutes, and takes over what the first one has placed. The first may be
    what a killed C(ansible-playbook) has left running on the host.
  - The placed code belongs to root, and the app's user cannot write it. The group may read and execute what the owner may, others what the source lets them.
options:
  releases:
    description: The releases, one for each app.
    type: list
    elements: dict
    required: true
    suboptions:
      app:
        description: The app's name. Errors and results name it.
        type: str
        required: true
      src:
        description:
          - The code on the controller, a directory or a tar archive (plain or compressed with gzip, bzip2 or xz). It must be given for O(state=placed).
          - >-
            A relative path is looked for where Ansible looks for files (in the role and beside the playbook, there also in C(files/)), then in the
            inventory's directory, then in the directory in which Ansible was started.
          - The content of an archive is taken as it is. A single directory at its top is part of the release's paths.
          - Of a directory, C(.git), C(__pycache__) and C(*.pyc) are left out.
          - Links that lead out of the tree, absolute member names, C(..) in them, devices, pipes and sockets are refused.
        type: path
      version:
        description: The version. It names the release's directory.
        type: str
        required: true
      path:
        description: The app's directory on the host. It is made if it is missing. The app's user must not be able to write in it.
        type: path
        required: true
      python_requirements:
        description:
          - The path of a pip requirements file inside the release. If it is not empty, the release gets a virtual environment, C(.venv), with what it lists.
          - pip runs as O(releases[].user) and never as root. The environment variables of the task reach it, such as C(PIP_INDEX_URL).
        type: str
        default: ""
      keep:
        description:
          - How many placed releases stay on the host. Older ones are removed when C(current) moves, but never the one that was current before.
        type: int
        default: 5
      user:
        description: The app's user. It must exist when a release is placed.
        type: str
        required: true
      group:
        description: The app's group. It must exist when a release is placed.
        type: str
        required: true
      executable:
        description: The path of the app's executable inside the release. It is checked unless it is empty. A release without it is never placed.
        type: str
        default: ""
  state:
    description:
      - V(placed) puts missing releases beside the others and leaves C(PATH/current) alone.
      - V(current) points C(PATH/current) to the releases, which must be placed, and removes old releases. In check mode they need not be placed yet.
    type: str
    choices: [placed, current]
    default: placed
  digests:
    description: The digest of each release's content, in the order of O(releases). The action plugin sets it. It is not for tasks.
    type: list
    elements: str
  archive:
    description: Where the content of the missing releases is on the host. The action plugin sets it. It is not for tasks.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: Returns details on what has changed, or would change in check mode.
    support: full
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
"""

EXAMPLES = r"""
- name: Put the new version beside the running one
  webops.fastcgi.fcgi_release:
    releases:
      - app: shop
        src: dist/shop.tar.gz
        version: "1.4.2"
        path: /srv/fcgi/shop
        python_requirements: requirements.txt
        user: fcgi-shop
        group: fcgi-shop
        executable: bin/shop

- name: Make it the current one
  webops.fastcgi.fcgi_release:
    state: current
    releases:
      - {app: shop, version: "1.4.2", path: /srv/fcgi/shop, user: fcgi-shop, group: fcgi-shop, executable: bin/shop}
"""

RETURN = r"""
msg:
  description: What changed, in words.
  returned: always
  type: str
  sample: "placed: shop 1.4.2"
releases:
  description: The releases, in the order in which they were given.
  returned: success
  type: list
  elements: dict
  contains:
    app:
      description: The app.
      type: str
      sample: shop
    version:
      description: The version asked for.
      type: str
      sample: "1.4.2"
    previous:
      description: The version to which C(current) pointed before, or an empty string.
      type: str
      sample: "1.4.1"
    changed:
      description: Whether this release was placed or made current.
      type: bool
    path:
      description: The release's directory.
      type: str
      sample: /srv/fcgi/shop/releases/1.4.2
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.fastcgi.plugins.module_utils import release


def main():
    module = AnsibleModule(argument_spec=release.ARGUMENT_SPEC, supports_check_mode=True)
    state = module.params["state"]
    try:
        releases = release.releases_from(module.params["releases"], module.params["digests"])
        if not module.check_mode and state == "current":
            steps = release.make_current(releases)
        elif not module.check_mode and module.params["archive"]:
            steps = release.place(releases, module.params["archive"])
        else:  # without an archive the action plugin only asks what is missing
            steps = release.plan(releases, state, lenient=module.check_mode)
    except (release.ReleaseError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**release.report(steps, state))


if __name__ == "__main__":
    main()
