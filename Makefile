# The interpreter that makes the environment; any of 3.11 to 3.13: make PYTHON=python3.12 test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# With a second busy process, OpenMP threads that spin while they wait make a forward pass some ten times slower.
export OMP_WAIT_POLICY ?= passive
# Everything below runs on what the repository carries; a name that would need a download fails at once.
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export TOKENIZERS_PARALLELISM ?= false
export WANDB_MODE ?= disabled

.PHONY: help demo test check format clean

help:  ## say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/'

demo: $(INSTALLED)  ## tune the embedded model on bird names and report what changed
	$(BIN)/anachron run birds

test: $(INSTALLED)  ## run all tests, a process a core
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(INSTALLED)  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)  ## format the sources and sort their imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@
