# `make demo` and `make test` set up all they need: their own virtual environment, with the pinned CPU build of torch.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint clean

demo: $(VENV)/.installed
	$(BIN)/edgeq demo

test: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -q -m "not slow"
	$(BIN)/python -m pytest -q tests/test_packaging.py

# Also the slow ones: emulated and isolated runtimes (which it downloads), real models, error rates by simulation.
test-all: test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow --deselect tests/test_packaging.py

lint: $(VENV)/.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
