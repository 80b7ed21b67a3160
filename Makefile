# Two commands do all the set-up: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test lint bench-models clean

demo: $(VENV)/.ready
	$(BIN)/python -m tilewright.demo

test: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Compiles and checks the development models; `python -m tools.zoo` makes them first.
bench-models: $(VENV)/.ready
	$(BIN)/python -m benchmarks.models

# pip 25.1 is the first that reads dependency groups.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[demo]' --group dev
	touch $@

clean:
	rm -rf $(VENV) demo-out
