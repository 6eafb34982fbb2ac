# Every target makes its own virtual environment, .venv, from a fresh clone with only Python 3.11+ and make on the machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
# The locks are complete. With --no-deps pip takes them as they are: its resolver (23.2) trips over an extra, as in
# coverage[toml], as soon as the index has a newer version than the locked one.
LOCKED := $(PIP) --no-deps --require-hashes
# Of the tests: twice as many as most machines of CI have processors, as half of their time is spent waiting.
WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help demo test mutants coverage test-ceph faults bench check package image test-servers clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(VENV)/run.stamp  ## mirror sample flat files between two embedded servers, and verify them
	@$(BIN)/polyb2 demo

test: $(VENV)/dev.stamp  ## run the tests
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

mutants: $(VENV)/dev.stamp  ## take out each check that guards a guarantee, and see a test fail for it
	@$(BIN)/python -m tests.mutants

coverage: $(VENV)/dev.stamp  ## run the tests and show which lines none of them reaches
	@$(BIN)/python -m pytest --cov --cov-report=term --numprocesses $(WORKERS) --dist worksteal

test-ceph: $(VENV)/dev.stamp  ## what the source seems to be: install Ceph, and run the tests that need its gateway (needs root or sudo)
	@tools/install-test-servers.sh
	@tools/install-ceph.sh
	@$(BIN)/python -m pytest -m ceph

faults: $(VENV)/dev.stamp  ## every fault at every step, deaths, soaks, strange places: docs/fault-report.md, fault-rows.jsonl
	@$(BIN)/python -m tests.faults --report docs/fault-report.md --rows fault-rows.jsonl

bench: $(VENV)/dev.stamp .venv-bench/stamp  ## measure polyb2 beside its peers: all, or SCENARIO=large-tls; benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks $(SCENARIO) --write

check: $(VENV)/dev.stamp  ## lint, formatting, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

package: $(VENV)/run.stamp  ## build sdist and wheel, install them into a clean environment, run the demo there
	@tools/try-package.sh

image: $(VENV)/run.stamp  ## build the container image and try it: killed, restarted, stopped (needs root, see tools/try-image.sh)
	@tools/try-image.sh

test-servers:  ## install what some tests use: real S3 servers, PostgreSQL, a browser, promtool, a false clock (Debian packages, needs root or sudo)
	@tools/install-test-servers.sh
	@tools/install-page-tools.sh
	@tools/install-fault-tools.sh

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .coverage

$(VENV)/run.stamp: requirements/run.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "polyb2 needs Python 3.11 or newer: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(LOCKED) -r requirements/run.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	@$(LOCKED) -r requirements/dev.txt
	@touch $@

.venv-bench/stamp: requirements/bench.txt
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r requirements/bench.txt
	@touch $@
