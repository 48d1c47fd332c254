# `make help` lists what there is. Everything runs in .venv, which `make setup` makes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_FOR_TESTS := $(VENV)/.installed-for-tests
COMPILED := $(shell find kernels -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.cmake' -o -name CMakeLists.txt)

.DEFAULT_GOAL := help
.PHONY: help setup demo train test test-all bench lint clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 17

setup: $(INSTALLED) ## make .venv and install fastcifar into it (the others do this first)

demo: $(INSTALLED) ## train on the built-in data set: no GPU, no download, two minutes
	$(BIN)/fastcifar train --recipe demo

train: $(INSTALLED) ## train on CIFAR-10 (FASTCIFAR_DATA_DIR, ./data or the cache); ARGS="--target 85" adds flags
	$(BIN)/fastcifar train --amp --compile $(ARGS)

test: $(INSTALLED_FOR_TESTS) ## run the tests on all cores, less the slow ones
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

test-all: $(INSTALLED_FOR_TESTS) ## run every test: trainings, installs, kernels in the interpreter too
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

bench: $(INSTALLED_FOR_TESTS) ## run the benchmarks; table and plot go to benchmarks/results (ARGS=--short: the smallest cases)
	env $$($(BIN)/python -m fastcifar.relaunch) $(BIN)/python -m pytest benchmarks --benchmark-only --record benchmarks/results $(ARGS)

lint: $(INSTALLED_FOR_TESTS) ## ruff and pyright
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

clean: ## remove .venv and what was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'fastcifar needs Python 3.11 or newer: make PYTHON=python3.12 ...' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'no venv module: apt install python3-venv' >&2; exit 2; }

# Editable, so that a pulled change needs no second install but where it is C++; the stamps make a second call quick.
$(INSTALLED): pyproject.toml constraints.txt $(COMPILED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(INSTALLED_FOR_TESTS): pyproject.toml constraints.txt $(COMPILED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(INSTALLED) $@
