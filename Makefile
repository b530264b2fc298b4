# Heft: `make demo` and `make test` set everything up first; `make setup` only does that.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Imports of TensorFlow are three times faster from compiled bytecode.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# In the order of the folders: the long files do not come last.
PYTEST := $(BIN)/python -m pytest -q -rs -n 2 --dist loadfile --no-loadscope-reorder
READY := .venv/.ready
TOOLS := .tools/.ready
# What the image and its tools have beside requirements.lock has the versions of it.
LOCK := .uv/bin/uv pip compile -c requirements.lock --python-version 3.11 --generate-hashes \
  --no-annotate --no-header -q
LINUX := --python-platform x86_64-manylinux_2_28

.PHONY: help setup demo test test-all test-operations test-kubeflow test-flink test-spark test-mysql lint format types lock clean image test-image lint-docker sbom audit

help:  ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## Set up .venv from requirements.lock

demo: $(READY)  ## Run the whole street on a simulated shop
	$(BIN)/heft run pipeline/configs/demo.yaml

test: $(READY)  ## All tests but the slow proofs
	$(PYTEST) -m "not slow" tests

test-all: $(READY)  ## All tests
	$(PYTEST) tests

test-kubeflow: $(READY)  ## The street pod by pod, and workers that train together
	$(BIN)/python -m pytest -q tests/kubeflow tests/unit/model/test_workers_export.py

test-operations: $(READY)  ## A run that is killed in each node, cleaning, a disk that fills up
	$(BIN)/python -m pytest -q -rs tests/e2e/test_operations.py

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
	$(LOCK) $(LINUX) pyproject.toml requirements-image.in -o requirements-image.lock
	$(LOCK) $(LINUX) pyproject.toml --extra gpu | awk '/^[^ ]/ {kept = /^nvidia-/} kept' > requirements-gpu.lock
	$(LOCK) --universal requirements-tools.in -o requirements-tools.lock

image:  ## Build the image into .image, without a Docker daemon
	bash scripts/image.sh cpu .image

test-image: $(READY)  ## Build the image and run containers of it
	$(BIN)/python -m pytest -q tests/image

lint-docker: $(TOOLS)  ## hadolint
	.tools/bin/hadolint Dockerfile

sbom: $(TOOLS)  ## The image's bill of materials, as dist/sbom.cdx.json
	@mkdir -p dist
	.tools/bin/cyclonedx-py requirements requirements-image.lock --output-reproducible -o dist/sbom.cdx.json

audit: $(TOOLS)  ## Known vulnerabilities of what is locked
	bash scripts/audit.sh

$(TOOLS): requirements-tools.lock
	@bash scripts/prerequisites.sh "$(PYTHON)"
	@test -x .tools/bin/pip || "$(PYTHON)" -m venv .tools
	@.tools/bin/pip install -q --no-deps --require-hashes -r $<
	@touch $@

clean:  ## Remove runs and caches, keep .venv
	@test ! -d .image || bash scripts/image.sh clean .image
	rm -rf runs dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
