# Each command makes its own environment in .venv, so both work in a fresh clone with nothing but Python and make.
PYTHON ?= python3
BIN := .venv/bin
# `make sweep ARGS="--model DIR --data FILE --images DIR"` passes options on.
ARGS ?=

.PHONY: sweep test test-slow lint

sweep: .venv/.sweep
	$(BIN)/python -m xmflow_jax.sweep $(ARGS)

test: .venv/.test
	$(BIN)/python -m pytest

test-slow: .venv/.test
	$(BIN)/python -m pytest -m slow

lint: .venv/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.sweep: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv/.lint: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@
