# `make demo` and `make test` do all set-up on a machine with Python 3.11 or newer.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Processes of tests import the same modules again and again: compile them once, whatever is set.
export PYTHONDONTWRITEBYTECODE :=
# The arrays of a fit are small: threads of linear algebra only get in each other's way.
export OPENBLAS_NUM_THREADS := 1

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Several at a time: most of the time of the tests is waiting for servers. Each takes a part of the tests
# in their order, and who has finished takes over from the others. Each process of `make test-all` also
# runs an Apache Kafka of three nodes, so there are fewer of them.
PARALLEL ?= --numprocesses 4 --dist worksteal
PARALLEL_ALL ?= --numprocesses 2 --dist worksteal
# What needs nothing but Python and does not take long, with a fifth of the examples of properties.
SHORT := -m "not slow and not kafka" --hypothesis-profile short
QUICK := -m "not slow and not kafka and not heavy" --hypothesis-profile quick

# Tests that look at how the core runs, and those of the core itself.
COMPILED := tests/test_compiled.py tests/test_models

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	--constraint constraints.txt
# One line a package is progress enough; pip's errors go to stderr and stay whole.
PIP_PROGRESS := awk '/^Collecting/ { print "  " $$2; fflush() } \
	/^(Building|Installing)/ { print "  " $$1 " ..."; fflush() }'

.PHONY: help demo check test test-all compiled test-compiled docs lint bench faults soak chaos lock audit sbom clean

help:
	@echo 'make demo   the whole service on this machine, with nothing to install first'
	@echo 'make test   the tests that need nothing but Python      make test ARGS="-k embedded"'
	@echo 'make test-all  every test, the long ones and those on Apache Kafka (Java 17, Maven) too'
	@echo 'make check  style, types and the quick tests, in seconds: while you edit'
	@echo 'make lint   style, types and the direction of imports'
	@echo 'make compiled  the core as machine code, in build/compiled   PYTHONPATH=build/compiled clv worker'
	@echo 'make test-compiled  the tests of the core, compiled'
	@echo 'make docs   the documentation site, in build/docs'
	@echo 'make bench  the benchmarks'
	@echo 'make faults break everything, many times   make faults ARGS="--kinds kill --runs 5"'
	@echo 'make soak   half an hour of load with a break every minute'
	@echo 'make chaos  five minutes with a worker killed every few seconds'
	@echo 'make lock   write docker/requirements.txt: what the image installs, with hashes'
	@echo 'make audit  ask whether the parts have known vulnerabilities'
	@echo 'make sbom   list the parts of the image and of this environment (CycloneDX)'
	@echo 'make clean  remove the virtual environment and all caches'
	@echo 'PYTHON=/path/to/python3.12 chooses the interpreter (3.11 or newer).'

demo: $(VENV)/.dev-installed
	@$(BIN)/clv demo $(ARGS)

test: $(VENV)/.dev-installed
	@$(BIN)/python -m pytest $(PARALLEL) $(SHORT) $(ARGS)

test-all: $(VENV)/.dev-installed
	@$(BIN)/python -m tests.servers.prepare
	@$(BIN)/python -m pytest $(PARALLEL_ALL) $(ARGS)

compiled: $(VENV)/.dev-installed
	@$(BIN)/python -m tools.compiled

test-compiled: compiled
	@PYTHONSAFEPATH=1 PYTHONPATH="$(CURDIR)/build/compiled:$(CURDIR)" $(BIN)/python -m pytest $(PARALLEL) \
		$(QUICK) --override-ini 'pythonpath=build/compiled .' $(COMPILED) $(ARGS)

check: lint
	@$(BIN)/python -m pytest --numprocesses 2 --quiet $(QUICK) tests/test_models $(ARGS)

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev-installed
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs

bench: $(VENV)/.bench-installed
	@$(BIN)/python -m benchmarks $(ARGS)

faults: $(VENV)/.dev-installed
	@$(BIN)/python -m tests.faults $(ARGS)

soak: $(VENV)/.dev-installed
	@$(BIN)/python -m tests.faults.soak $(ARGS)

chaos: $(VENV)/.dev-installed
	@$(BIN)/python -m tests.faults.chaos $(ARGS)

lock: $(VENV)/.dev-installed
	$(BIN)/python -m tools.lock

audit: $(VENV)/.dev-installed
	@$(BIN)/python -m tools.audit

sbom: $(VENV)/.dev-installed
	@mkdir -p build
	$(BIN)/python -m cyclonedx_py requirements --output-reproducible --pyproject pyproject.toml \
		--output-file build/sbom-image.cdx.json docker/requirements.txt
	$(BIN)/python -m cyclonedx_py environment --output-reproducible --pyproject pyproject.toml \
		--output-file build/sbom-environment.cdx.json $(BIN)/python

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." >&2; \
		echo 'Name another one: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'Could not create it; Debian and Ubuntu need the package python3-venv.' >&2; exit 1; }

$(VENV)/.dev-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing the packages, about a minute the first time:'
	@$(PIP_INSTALL) --editable '.[dev]' | $(PIP_PROGRESS)
	@touch $@

$(VENV)/.deploy-installed: $(VENV)/.dev-installed
	@echo 'Installing the schemas of Kubernetes:'
	@$(PIP_INSTALL) --editable '.[deploy]' | $(PIP_PROGRESS)
	@touch $@

$(VENV)/.bench-installed: $(VENV)/.dev-installed
	@echo 'Installing what the benchmarks compare with:'
	@$(PIP_INSTALL) --editable '.[bench]' | $(PIP_PROGRESS)
	@touch $@
