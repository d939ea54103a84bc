# make demo: the tour on data that ships with a dependency; make test: all tests; make check: style, types, layers.
# Each makes .venv and installs what it needs where that is missing or the requirements have changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RUNTIME := $(VENV)/.runtime-installed
TOOLS := $(VENV)/.tools-installed

.PHONY: demo test check

demo: $(RUNTIME)
	$(BIN)/secateur demo --out demo-out

test: $(TOOLS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(TOOLS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[data]'
	touch $@

# torchvision and timm without their requirements: the torch that is there must stay.
$(TOOLS): $(RUNTIME)
	$(INSTALL) --editable '.[data,dev,export,search]'
	$(INSTALL) --no-deps torchvision timm
	$(INSTALL) huggingface_hub pillow pyyaml transformers
	touch $@
