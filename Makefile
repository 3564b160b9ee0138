# The one front door: every task of this repository is a target here.

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(if $(shell $(name) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(name))))
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?= 600
SEED ?= 1
PORT ?= 8000
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Every worker and program of the tests would compile each module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo example scaleout test check format lint types coverage docs matrix floors mutation fuzz audit package bench plots scale soak clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(BIN)/python:
	@echo "Creating $(VENV)"
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found: install one, or set PYTHON to it." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# What a user needs, and what a developer needs, each installed once and again when pyproject.toml changes, or the
# version, which what is installed says, too. Who has installed this clone by hand, as README.md says, has it already.
INSTALLED := import pathlib, cyclopts, rich, playai_async; assert pathlib.Path("playai_async/_version.py").samefile(playai_async._version.__file__)

$(VENV)/.user: pyproject.toml playai_async/_version.py | $(BIN)/python
	@if test -e $@ || ! $(BIN)/python -P -c '$(INSTALLED)' 2>/dev/null; then \
		echo "Installing playai-async and its dependencies into $(VENV): about half a minute, once"; \
		$(PIP) install --editable '.[cli]'; \
	fi
	@touch $@

$(VENV)/.developer: pyproject.toml $(VENV)/.user
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install --group dev --editable '.[cli,procrastinate,redis]'
	@$(BIN)/pytest --collect-only -qq >/dev/null || true # compiles the tests once; else each worker compiles them all
	@touch $@

$(VENV)/.example: pyproject.toml $(VENV)/.user
	@echo "Installing what the examples need into $(VENV): about half a minute, once"
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --group examples --editable '.[cli,procrastinate,redis]'
	@touch $@

# What some targets need beyond that: the dependency group of the same name.
$(VENV)/.bench $(VENV)/.fuzz $(VENV)/.mutation $(VENV)/.release: $(VENV)/.%: pyproject.toml $(VENV)/.developer
	$(PIP) install --group $* --editable '.[cli,procrastinate,redis]'
	@touch $@

demo: $(VENV)/.user  ## Wait for a few dozen jobs on the emulator
	@$(BIN)/playai-async demo

example: $(VENV)/.example  ## Serve the example of a web backend on http://127.0.0.1:8000, or PORT=8001
	$(BIN)/python -m examples.fastapi_backend --port $(PORT)

scaleout: $(VENV)/.example  ## Run the example of several processes on one quota; needs redis-server and PostgreSQL
	$(BIN)/python -m examples.scale_out

test: $(VENV)/.developer  ## Run the tests in parallel
	$(BIN)/pytest -n auto

check: format lint types coverage docs  ## Everything that a change must pass
	$(MAKE) --no-print-directory soak SECONDS=60

format: $(VENV)/.developer  ## Is every file formatted?
	$(BIN)/ruff format --check .

lint: $(VENV)/.developer  ## Is the code clean, and is it spelled right?
	$(BIN)/ruff check .
	$(BIN)/codespell
	scripts/hygiene

types: $(VENV)/.developer  ## Do mypy and pyright agree with the annotations?
	$(BIN)/mypy
	$(BIN)/pyright

coverage: $(VENV)/.developer  ## Run the tests, and fail if a branch of the package is never taken
	$(BIN)/pytest -n auto --cov

# All pages are read anew (-E): Sphinx forgets what the search finds on those that it does not read again.
docs: $(VENV)/.developer  ## Build the documentation, warnings as errors; needs Graphviz
	$(BIN)/sphinx-build -b html -E -W -n -q docs docs/_build/html

matrix:  ## Run the tests on every supported Python found here
	scripts/matrix

floors:  ## Run the tests on the lowest supported Python and dependencies
	scripts/floors

mutation: $(VENV)/.mutation  ## Change the code in a thousand places, and see that the tests notice; takes an hour and a half
	scripts/mutation $(BIN)

audit: $(VENV)/.release  ## Ask for known vulnerabilities in the dependencies; needs the network
	scripts/audit $(BIN)/python

package: $(VENV)/.release  ## Build the sdist and the wheel into dist/, and check them as a user would meet them
	$(BIN)/python scripts/package

fuzz: $(VENV)/.fuzz  ## Look for replies that break the decoder, a minute for bodies and one for Retry-After
	$(BIN)/python -m tests.fuzz

bench: $(VENV)/.bench  ## Compare with other clients: short runs, under five minutes
	$(BIN)/python -m bench.fleet --short
	$(BIN)/python -m bench.cost --short

plots: $(VENV)/.bench  ## Draw the plots of the documentation anew, in virtual time, and print their numbers; some ten minutes
	$(BIN)/python -m bench.figures.limiters
	$(BIN)/python -m bench.figures.pacing
	$(BIN)/python -m bench.figures.pauses
	$(BIN)/python -m bench.figures.sooner

scale: $(VENV)/.developer  ## Measure processes on one quota, and durable waits, also in chaos; needs redis-server and PostgreSQL
	$(BIN)/python -m bench.scale.shared_quota
	$(BIN)/python -m bench.scale.durable
	$(BIN)/python -m bench.scale.chaos

soak: $(VENV)/.developer  ## Soak the client in faults for ten minutes, or SECONDS=60; SEED=1 decides which
	$(BIN)/python -W error -m tests.soak --seconds $(SECONDS) --seed $(SEED)

clean:  ## Remove what the other targets made
	rm -rf $(VENV) .venv-* docs/_build bench/out mutants .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
