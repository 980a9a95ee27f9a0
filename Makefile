PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-android test-devices devices lint style types android-types layers typed docs

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

demo: .venv/ready
	$(BIN)/lorarar demo --force

test: .venv/ready lint
	$(BIN)/pytest -q -n 2 --dist loadfile

test-android: .venv/ready
	$(BIN)/pytest -q -m android tests/test_android.py

test-devices: .venv/ready
	$(BIN)/pytest -q -m devices -n 2 --dist loadfile

# What emulation, the runner and adb need; as root, on Debian.
devices:
	apt-get install -y --no-install-recommends adb cmake g++ g++-aarch64-linux-gnu gcc \
		ninja-build nlohmann-json3-dev npm qemu-user

lint: style types android-types layers

style: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The package as it is imported, with its four folders, for tools that read files.
typed:
	rm -rf build/typed && mkdir -p build/typed/lorarar
	ln -s $(CURDIR)/lorarar/* $(CURDIR)/export $(CURDIR)/runtime $(CURDIR)/benchmarks build/typed/lorarar

types: .venv/ready typed
	cd build/typed && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache -p lorarar
	cd build/typed && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache $(CURDIR)/examples/*.py

android-types: .venv/ready typed
	cd android_demo && MYPYPATH=$(CURDIR)/build/typed:$(CURDIR) $(abspath $(BIN))/mypy \
		--config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p make

layers: .venv/ready typed
	cd build/typed && PYTHONPATH=. $(abspath $(BIN))/lint-imports $(CURDIR)/pyproject.toml --no-logo --no-cache

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
