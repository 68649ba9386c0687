# Set-up, demo, tests and checks. Every target first makes .venv where it is missing or older than what it is made from.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check setup extras clean

help:  ## say what there is (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: .venv/.ready  ## train and compare the quickstart suite, with a report in runs/demo
	$(BIN)/qladder suite quickstart --out runs/demo

test: .venv/.ready  ## run the test suite on two cores
	$(BIN)/python -m pytest -n 2

check: .venv/.ready  ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

setup: .venv/.ready  ## make .venv with everything in it, pinned by constraints.txt

clean:  ## remove .venv (runs are kept)
	rm -rf .venv qladder.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "qladder needs Python 3.11 or newer, and '$(PYTHON)' is not: name another as in 'make setup PYTHON=python3.12'" >&2; \
	  exit 1; }
	$(PYTHON) -m venv --clear --without-pip .venv

# Debian's Python comes without ensurepip; then the system's own pip (22.3 or newer) installs into .venv from outside.
define find_pip
set -e; pip="$(BIN)/python -m pip"; \
if ! $$pip --version >/dev/null 2>&1 && ! $(BIN)/python -m ensurepip >/dev/null 2>&1; then \
  pip="$(PYTHON) -m pip --python $(BIN)/python"; \
  $$pip --version >/dev/null 2>&1 || { \
    echo "'$(PYTHON)' has neither ensurepip nor pip 22.3 or newer: on Debian, 'apt-get install python3-venv', then again" >&2; \
    exit 1; }; \
fi
endef

# setuptools goes first, so that building qladder itself uses the pinned one too.
.venv/.ready: pyproject.toml constraints.txt $(BIN)/python
	@$(find_pip); \
	echo "Setting up .venv with $$pip (minutes the first time)"; \
	$$pip install -c constraints.txt setuptools; \
	$$pip install -c constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@

extras: .venv/.ready  ## add what setup leaves out: make extras EXTRAS=video (or peers, or ray; several with commas)
	@$(find_pip); $$pip install -c constraints.txt --no-build-isolation -e ".[$(or $(EXTRAS),$(error EXTRAS is missing: video, peers or ray))]"
