# Two commands, each from nothing but Python 3.11+ and make: `make bench` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: bench test test-slow test-all check smoke clean

bench: $(READY)  ## four methods on embedded digits, with the report
	$(BIN)/bench run quickstart
	$(BIN)/bench report results/quickstart

test: check  ## style, types, and every idea once
	$(BIN)/pytest -n 2 -m "not slow"

test-slow: $(READY)  ## what is exhaustive: every network and coupling, many kills, long recoveries
	$(BIN)/pytest -n 2 -m slow

test-all: test test-slow  ## both tiers

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

smoke: $(READY)  ## every method on a tiny subset: does it run?
	$(BIN)/bench run smoke
	$(BIN)/bench report results/smoke

clean:  ## remove the virtual environment and caches; results stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@
