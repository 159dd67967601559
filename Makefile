# What a developer and CI do; `make` alone lists the targets.
#
#   make PYTHON=python3.13 test     another interpreter (the environment is made anew)
#   make test ARGS='-k locks -x'    more arguments for pytest, or for the bench programs

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# One stamp per interpreter: asking for another one finds its stamp missing and starts over.
STAMP := $(VENV)/.installed-$(notdir $(PYTHON))
PEERS := $(VENV)/.peers-$(notdir $(PYTHON))
BENCH := bench/planner.py bench/overhead.py bench/commands.py bench/journal.py bench/stream.py bench/makespan.py

ifneq (,$(findstring $(VENV)/,$(PYTHON)))
$(error PYTHON=$(PYTHON) is in $(VENV) itself, which would be made anew by it)
endif

.PHONY: help demo test test-crash lint bench docs clean distclean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo 'make demo       run the example tree in examples/system'
	@echo 'make test       run the tests'
	@echo 'make test-crash kill a run at every step, and its resume at every step, and so on'
	@echo 'make lint       ruff check, ruff format --check, mypy --strict'
	@echo 'make bench      measure the planner, the overhead of a task, of watching commands, and when all is over'
	@echo 'make docs       build the documentation into docs/_build'
	@echo 'make clean      remove what the others left, but for .venv'
	@echo 'make distclean  remove .venv as well'

$(STAMP): pyproject.toml requirements-dev.txt
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c requirements-dev.txt -e '.[dev]'
	@touch $@

$(PEERS): $(STAMP)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c requirements-dev.txt -e '.[bench]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/pexen run examples/system -j 4
	@echo
	@$(BIN)/pexen status -C examples/system
	@echo
	@echo 'That was examples/system: look there for the tasks, and in README.md and docs/ for what they say.'
	@echo 'Next: $(BIN)/pexen list examples/system, $(BIN)/pexen --help'

# The tests start hundreds of interpreters, which are not to compile everything anew where PYTHONDONTWRITEBYTECODE is set.
test: $(STAMP)
	@$(BIN)/python -m compileall -q src
	@$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --max-worker-restart=0 $(ARGS)

test-crash: $(STAMP)
	@PEXEN_CRASH=all $(BIN)/python -m pytest tests/crash tests/state/test_crash.py $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --strict --no-error-summary src/pexen

bench: $(PEERS)
	@set -e; for program in $(BENCH); do $(BIN)/python $$program $(ARGS); done

docs: $(STAMP)
	@$(BIN)/sphinx-build -q -W --keep-going docs docs/_build

clean:
	@rm -rf docs/_build dist build .coverage .coverage.* .hypothesis .mypy_cache .nox .pytest_cache .ruff_cache
	@find . -path ./$(VENV) -prune -o -path ./.git -prune -o \
	    '(' -name __pycache__ -o -name .pexen -o -name '*.egg-info' ')' -type d -prune -exec rm -rf '{}' +

distclean: clean
	@rm -rf $(VENV)
