# Heft: `make demo` and `make test` set everything up first; `make setup` only does that.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Imports of TensorFlow are three times faster from compiled bytecode.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-all test-flink test-spark test-mysql lint format types lock clean

help:  ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## Set up .venv from requirements.lock

demo: $(READY)  ## Run the whole street on a simulated shop
	$(BIN)/heft run pipeline/configs/demo.yaml

test: $(READY)  ## All tests but the slow proofs
	$(BIN)/python -m pytest -q -rs -n 2 --dist loadfile -m "not slow" tests

test-all: $(READY)  ## All tests
	$(BIN)/python -m pytest -q -rs -n 2 --dist loadfile tests

test-flink: $(READY)  ## The street on a Flink cluster of this machine, which is fetched
	@bash scripts/engine_jars.sh flink && $(BIN)/python -m pytest -q tests/e2e/test_engines.py -k flink

test-spark: $(READY)  ## The same on a Spark cluster
	@bash scripts/engine_jars.sh spark && $(BIN)/python -m pytest -q tests/e2e/test_engines.py -k spark

test-mysql: $(READY)  ## Metadata in a MariaDB of this machine, and two runs at once on it
	$(BIN)/python -m pytest -q tests/unit/pipeline/test_records.py tests/e2e/test_mysql.py

lint: $(READY)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## mypy over src/heft
	$(BIN)/mypy

$(READY): requirements.lock pyproject.toml
	@bash scripts/prerequisites.sh "$(PYTHON)"
	@test -x .uv/bin/uv || { "$(PYTHON)" -m venv .uv && .uv/bin/pip install -q "uv>=0.9,<1"; }
	@test -x $(BIN)/python || .uv/bin/uv venv -q --python "$(PYTHON)" .venv
	@echo "installing $$(grep -c '==' requirements.lock) packages from requirements.lock"
	@.uv/bin/uv pip sync -q --require-hashes --compile-bytecode --python $(BIN)/python requirements.lock
	@.uv/bin/uv pip install -q --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

lock:  ## Resolve requirements.lock again
	@test -x .uv/bin/uv || { "$(PYTHON)" -m venv .uv && .uv/bin/pip install -q "uv>=0.9,<1"; }
	.uv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header -q -o requirements.lock

clean:  ## Remove runs and caches, keep .venv
	rm -rf runs .pytest_cache .hypothesis .mypy_cache .ruff_cache
