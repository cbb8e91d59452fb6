# Every target sets itself up: a virtual environment in $(VENV) with the versions of constraints.txt. Python compiles what it imports;
# to compile all that is installed takes 40 s.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test test-cluster lint types format

demo: $(READY)
	$(BIN)/uldscale demo

test: $(READY)
	$(BIN)/pytest --numprocesses 2 -m "not cluster"

test-cluster: $(READY)
	$(BIN)/pytest --numprocesses 2 -m cluster

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
