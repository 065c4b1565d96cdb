# `make install` makes the environment, `make demo` runs the main job on the embedded data, `make test` tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test mutants campaign lowest newest lint

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/ciess demo --out runs/demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

mutants: install
	$(BIN)/python tests/mutants.py

campaign: install
	$(BIN)/python tests/hostile.py
	$(BIN)/python tests/kills.py 60

# Environments of their own: the lowest versions that pyproject.toml admits, which warn of each other, and the newest there are.
lowest: install
	mkdir -p runs
	$(BIN)/python tests/lowest.py > runs/lowest.txt
	$(PYTHON) -m venv --clear runs/lowest
	runs/lowest/bin/python -m pip install --quiet --constraint runs/lowest.txt --editable '.[dev]'
	runs/lowest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -W default

newest:
	$(PYTHON) -m venv --clear runs/newest
	runs/newest/bin/python -m pip install --quiet --upgrade --editable '.[dev]'
	runs/newest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
