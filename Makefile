# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What is installed: the tree itself (editable), or the built wheel: `make test INSTALL=wheel`.
INSTALL ?= editable
# Debian packages that tests use as real peers.
PEERS := chromium dcmtk dicomscope faketime fonts-dejavu-core openssl orthanc orthanc-dicomweb strace systemd xdotool xvfb
PYTEST := $(BIN)/python -m pytest
# Processes for the tests that start no whole service: most of them wait, or use one core.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 8 ? n : 8)))
PARALLEL = --numprocesses $(WORKERS) --dist loadfile

.PHONY: help setup demo tools peers wheel install-for-test test test-fast test-acceptance viewers chaos soak properties check format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cxr-triage needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version: a bare requirement may pull gigabytes of CUDA libraries.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) install --constraint constraints.txt --editable ".[train]"
	@touch $@

$(VENV)/.tools: $(VENV)/.runtime
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	@touch $@

setup: $(VENV)/.runtime  ## .venv with everything that the demo, the service and training need

demo: setup  ## the main job on real radiographs; ARGS=--json for a machine
	@$(BIN)/cxr-triage demo $(ARGS)

tools: $(VENV)/.tools

peers:
	@tests/install-peers $(PEERS)

wheel: tools  ## the built wheel, in dist/
	@rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null

# The tests never see the tree on their path: they import what is installed.
install-for-test: tools
ifeq ($(INSTALL),wheel)
	@$(MAKE) --no-print-directory wheel
	$(PIP) install --force-reinstall --no-deps dist/*.whl
	@rm -f $(VENV)/.runtime $(VENV)/.tools
endif

test: peers install-for-test  ## all tests, with real peers; WORKERS=1 for one process
	$(PYTEST) $(PARALLEL) -m "not acceptance and not viewers" $(ARGS)
	$(PYTEST) -m "acceptance or viewers" $(ARGS)

test-fast: install-for-test  ## tests without the acceptance runs
	$(PYTEST) $(PARALLEL) -m "not acceptance and not viewers" $(ARGS)

test-acceptance: peers install-for-test  ## the whole product as a process, with real peers
	$(PYTEST) -m acceptance $(ARGS)

viewers: peers install-for-test  ## OHIF, dwv and DICOMscope show what we send; CXR_TRIAGE_VIEWER_PICTURES=folder keeps pictures
	$(PYTEST) -m viewers $(ARGS)

chaos: peers tools  ## kill the daemon 500 times on each database, and check what must hold; ARGS="--kills 100"
	@$(BIN)/python tests/chaos $(ARGS)

soak: tools  ## 10,000 images and associations, half of them broken off; ARGS="--images 1000 --warm-up 200"
	@$(BIN)/python tests/soak $(ARGS)

properties: tools  ## the rules of the reading order, by 10,000 examples each
	$(PYTEST) --hypothesis-profile thorough tests/test_model_priority.py $(ARGS)

check: tools  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: tools  ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
