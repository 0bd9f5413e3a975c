# Two commands for a newcomer: `make demo` and `make test`. Each works alone on a fresh machine with Python 3.11.
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint format install clean

demo: install ## make the demo shop, train on it, write the report
	$(BIN)/moonshelf demo --out demo-work

test: install ## run the test suite
	$(BIN)/python -m pytest

lint: install ## format, lint and type checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/install.sh

clean:
	rm -rf $(VENV) demo-work
