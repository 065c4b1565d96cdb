# `make install` makes the environment, `make demo` runs the main job on the embedded data, `make test` tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test mutants campaign lint

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/ciess demo --out runs/demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

mutants: install
	$(BIN)/python tests/mutants.py

campaign: install
	$(BIN)/python tests/hostile.py

lint: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
