# The two commands are `make up` and `make test`; `make help` lists the rest.

SHELL := /bin/bash
PYTHON := .venv/bin/python
LAB := $(PYTHON) -m deploy.lab

# All state of the lab; every path in this file and in the lab follows it.
export VCSTACK_STATE ?= $(CURDIR)/var
# Handed over by the environment and as it was given, not as make expands or quotes it: any shell line may stand there.
override CMD := $(value CMD)
export CMD

HOSTS ?= 1
HOST ?= h1
PART ?=
PYTEST_ARGS ?=
# One more than cores of a small machine: the tests with guests mostly wait. `WORKERS=` runs them one after the other.
WORKERS ?= -n 3 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help install guest console kubernetes up down clean status logs exec rotate test test-fast test-k8s check format generate screenshots sbom bench

help: ## show this list
	@echo "VC Stack. State is kept in $(VCSTACK_STATE) (VCSTACK_STATE overrides)."
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

install: ## install the Debian packages and the locked Python environment that are missing
	@bash deploy/install.sh

guest: install ## build the small guest image, unless the cache has it
	@bash deploy/guest/build.sh "$${VCSTACK_CACHE:-$(VCSTACK_STATE)/cache}/guest"

console: install ## build the console, unless its sources are those it was built of
	@bash deploy/console.sh

kubernetes: install ## build a real kube-apiserver and kubectl, unless the cache has them (five minutes)
	@bash deploy/k8s/build.sh "$${VCSTACK_CACHE:-$(VCSTACK_STATE)/cache}/kubernetes"

up: install console ## bring the cloud up, or repair it (HOSTS=1; a larger number later adds hosts)
	@$(LAB) up --hosts $(HOSTS)

down: ## stop everything, guests included; what was stored stays
	@if [ -x $(PYTHON) ]; then $(LAB) down; else echo "Nothing is installed, so nothing is up."; fi

clean: ## stop everything and remove the state folder
	@if [ -x $(PYTHON) ]; then $(LAB) clean; else echo "Nothing is installed, so nothing is up."; fi

status: ## show the cloud's processes
	@$(LAB) status

logs: ## follow the logs (PART=h1, PART=h1/vc-compute, PART=central/etcd, ...)
	@$(LAB) logs $(PART)

exec: ## run a command inside a host (HOST=h1 CMD='virsh list'; HOST=central for ovn-nbctl, etcdctl, psql)
	@$(LAB) exec --host $(HOST) --shell "$$CMD"

rotate: ## a new master key and a new certificate authority while requests flow; says whether one failed
	@$(LAB) rotate

test: guest console ## run the test suite, real daemons included, all but test-k8s (PYTEST_ARGS='...')
	@bash deploy/console.sh test
	@VCSTACK_CACHE="$${VCSTACK_CACHE:-$(VCSTACK_STATE)/cache}" bash tests/run.sh $(WORKERS) --ignore=tests/k8s $(PYTEST_ARGS)

test-k8s: guest kubernetes ## test the operator on a real Kubernetes API and a whole cloud (PYTEST_ARGS='...')
	@VCSTACK_CACHE="$${VCSTACK_CACHE:-$(VCSTACK_STATE)/cache}" bash tests/run.sh tests/k8s $(PYTEST_ARGS)

test-fast: install ## run the tests that need no daemons
	@bash deploy/console.sh test
	@$(PYTHON) -m pytest $(WORKERS) -m 'not daemons' $(PYTEST_ARGS)

check: install ## lint, formatting, types and import rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	@bash deploy/console.sh check

format: install ## format the code and sort its imports
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	@bash deploy/console.sh format

generate: install ## write everything that is derived from the kinds
	$(PYTHON) -m vcstack.generate

screenshots: guest console ## take the documentation's pictures of the console anew, of a real cloud
	@VCSTACK_SCREENSHOTS=docs/screenshots VCSTACK_CACHE="$${VCSTACK_CACHE:-$(VCSTACK_STATE)/cache}" $(PYTHON) -m pytest -q tests/e2e/test_screenshots.py

sbom: install ## write bills of materials of all images, CycloneDX, into the state folder
	@$(PYTHON) -m deploy.containers.sbom --to "$(VCSTACK_STATE)/sbom"

bench: install ## run the benchmarks and print their table
	$(PYTHON) -m bench
