PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e ".[dev]"
	touch $@

demo: .venv/ready
	$(BIN)/lorarar demo --force

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: .venv/ready lint
	$(BIN)/pytest -q -n 2 --dist loadfile
