# Every target sets up what it needs in .venv: Python 3.11 or newer, pip and make are enough.
# Another interpreter: make PYTHON=/path/to/python3.12 test

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench conformance clean

ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
# The first interpreter that is new enough; python3 where there is none, so that the rule below can say what was found.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	if $$p -c '$(ENOUGH)' >/dev/null 2>&1; then echo $$p; exit; fi; done; echo python3)

PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-input --prefer-binary
WORKERS ?= 2
# More for pytest: make test PYTEST_ARGS='-k dtypes -x'
PYTEST_ARGS ?=

help:
	@echo 'make demo         train a classifier of handwritten digits on NumPy (examples/digits.py)'
	@echo 'make test         all tests, the docstring examples and the code blocks of the docs'
	@echo 'make conformance  gradloom against all samples of PyTorch'\''s op_db; writes docs/conformance.md'
	@echo 'make lint         ruff check, ruff format --check, mypy'
	@echo 'make bench        all benchmarks (benchmarks/run_all.py)'
	@echo 'make clean        remove .venv, caches and builds (runs/ stays)'
	@echo ''
	@echo 'Each sets up .venv on first use. Options: PYTHON=, WORKERS=, PYTEST_ARGS=.'

demo: .venv/.demo
	$(PY) examples/digits.py

# One run, so that there is one summary. tests/conftest.py holds each worker to one thread.
test: .venv/.all
	$(PY) -m pytest -n $(WORKERS) --doctest-modules tests src/gradloom $(PYTEST_ARGS)

conformance: .venv/.all
	CONFORMANCE=full $(PY) -m pytest -n $(WORKERS) tests/conformance $(PYTEST_ARGS)

lint: .venv/.all
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: .venv/.all
	$(PY) benchmarks/run_all.py

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Some systems ship Python without the module that puts pip into a new environment; then the system's pip does it.
$(PY):
	@$(PYTHON) -c '$(ENOUGH)' 2>/dev/null || { \
		echo "gradloom needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not installed)." >&2; \
		echo "Name one that is: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "setting up .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --clear --without-pip .venv && \
		$(PYTHON) -m pip --python $(PY) install --quiet --disable-pip-version-check pip; }

.venv/.demo: pyproject.toml constraints.txt | $(PY)
	@echo 'installing what the demo needs (once)'
	@$(PIP) -c constraints.txt -e '.[demo]'
	@touch $@

.venv/.all: pyproject.toml constraints.txt | $(PY)
	@echo 'installing all engines and tools (once; some minutes)'
	@$(PIP) -c constraints.txt -e '.[all]'
	@touch .venv/.demo $@
