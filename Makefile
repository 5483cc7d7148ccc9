# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Everything that the tests run on this machine; the test hosts are built by molecule/images/build.
PACKAGES := podman crun netavark iptables mmdebstrap nginx supervisor golang-go fcgiwrap php8.2-fpm openssl python3-venv shellcheck
COLLECTION := .cache/collections/ansible_collections/webops/fastcgi
# More options for what a target starts: make demo ARGS=--diff, make unit ARGS=--list
ARGS :=
RUN := .venv-test/bin/python tests/run.py $(ARGS)
BENCH_PACKAGES := gcc libc6-dev multiwatch
# Who starts us may have neither (env -i, cron(8), a container), and a locale that this machine has not (ssh brings it), which Ansible refuses.
export PATH := $(if $(PATH),$(PATH):)/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME := $(or $(HOME),$(shell getent passwd "$$(id -u)" | cut -d: -f6))
export LC_ALL := C.UTF-8
# resolv.conf(5): where a network loses packets, a name server is asked again after 1 s, and not given up after two tries of 5 s.
export RES_OPTIONS ?= timeout:1 attempts:6

.PHONY: help demo demo-clean test lint unit functional fcgivisord molecule fresh bench bench-supervisors packages

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 28

demo: .venv/installed $(COLLECTION) ## nginx, the supervisor and a FastCGI program on this machine (as root); again: no change
	.venv/bin/ansible-playbook $(ARGS) -i inventories/demo playbooks/deploy_fcgi.yml
	@echo "Try it: http://127.0.0.1:8080/hello"

demo-clean: .venv/installed $(COLLECTION) ## removes what "make demo" made, except packages
	.venv/bin/ansible-playbook $(ARGS) -i inventories/demo playbooks/remove_fcgi.yml -e fcgi_hosts=fcgi
	@rm -rf .venv $(COLLECTION)
	@rmdir --parents --ignore-fail-on-non-empty $(dir $(COLLECTION))

test: ## everything below; installs what it needs (as root) and says so
	@echo "make test installs on this machine: the Debian packages $(PACKAGES); tests/requirements.txt into .venv-test."
	@echo "It builds images of test hosts (Debian 12 and 13, and an EL9 stand-in) from Debian's archive into ~/.cache/webops-fastcgi."
	@$(MAKE) --no-print-directory packages .venv-test/installed $(COLLECTION)
	@$(RUN)

lint: packages .venv-test/installed $(COLLECTION) ## linters, ansible-test sanity, documentation, the built collection
	@$(RUN) lint

unit: packages .venv-test/installed $(COLLECTION) ## pure logic
	@$(RUN) unit

functional: packages .venv-test/installed $(COLLECTION) ## modules against real processes on this machine
	@$(RUN) functional

fcgivisord: packages .venv-test/installed $(COLLECTION) ## the bundled supervisor, with real processes; about 3 minutes; FCGIVISOR_PYTHON=path: under another Python
	@.venv-test/bin/pytest --numprocesses 4 $(ARGS) tests/fcgivisor

molecule: packages .venv-test/installed $(COLLECTION) ## SCENARIO=name: one scenario on real hosts (default: "default")
	@$(RUN) molecule-$(or $(SCENARIO),default)

fresh: packages .venv-test/installed $(COLLECTION) ## "make demo" of the last commit on bare Debian 12, with systemd and without
	@$(RUN) fresh

bench: packages .venv-test/installed $(COLLECTION) ## deployment times, ours beside the usual way
	.venv-test/bin/python bench/deploy/run.py $(ARGS)

bench-supervisors: packages .venv-bench/installed ## the bundled supervisor beside supervisord, circus, php-fpm, multiwatch and systemd
	@.ci/packages $(BENCH_PACKAGES)
	.venv-bench/bin/python bench/supervisors/run.py $(ARGS)

packages:
	@.ci/packages $(PACKAGES)

.venv/installed: requirements.txt .ci/venv
	@.ci/venv .venv requirements.txt
	@touch $@

.venv-test/installed: tests/requirements.txt .ci/venv
	@.ci/venv .venv-test tests/requirements.txt
	@touch $@

.venv-bench/installed: bench/supervisors/requirements.txt .ci/venv
	@.ci/venv .venv-bench bench/supervisors/requirements.txt
	@touch $@

# Ansible finds a collection by its directory: here this checkout is webops.fastcgi, whatever its own directory is called.
$(COLLECTION):
	@mkdir -p $(@D)
	@ln -s ../../../.. $@
