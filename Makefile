PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint typed

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e ".[dev]"
	touch $@

demo: .venv/ready
	$(BIN)/lorarar demo --force

# The package as it is imported, with its four folders, for tools that read files.
typed:
	rm -rf build/typed && mkdir -p build/typed/lorarar
	ln -s $(CURDIR)/lorarar/* $(CURDIR)/export $(CURDIR)/runtime $(CURDIR)/benchmarks build/typed/lorarar

lint: .venv/ready typed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/typed && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p lorarar

test: .venv/ready lint
	$(BIN)/pytest -q -n 2 --dist loadfile
