# Each command makes its own environment in .venv, so both work in a fresh clone with nothing but Python and make.
PYTHON ?= python3
BIN := .venv/bin
# `make sweep ARGS="--model DIR --data FILE --images DIR"` passes options on.
ARGS ?=

.PHONY: sweep test test-slow test-browser tpu-compile lint

sweep: .venv/.sweep
	$(BIN)/python -m xmflow_jax.sweep $(ARGS)

test: .venv/.test
	$(BIN)/python -m pytest

test-slow: .venv/.test
	$(BIN)/python -m pytest -m slow

# In the Chromium or Chrome that is installed; without one these tests are skipped and say so.
test-browser: .venv/.browser
	$(BIN)/python -m pytest -m browser

# The engine's passes through the TPU compiler, which `jax[tpu]` brings, in an environment of its own; needs no TPU.
tpu-compile: .venv-tpu/.ready
	.venv-tpu/bin/python -m experiments.benchmarks.tpu_compile $(ARGS)

lint: .venv/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv-tpu/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/python -m pip install --quiet --editable '.[tpu]'
	touch $@

.venv/.sweep: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv/.browser: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,browser]'
	touch $@

.venv/.lint: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@
