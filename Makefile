# `make help` lists the verbs. Everything is installed into .venv, once for each change of the two files that pin it.
PYTHON ?= python3
PORT ?= 8000
DATA ?= weighbridge-data
IMAGE ?= weighbridge
WORKERS ?= 2
PYTEST_ARGS ?=
SECONDS ?= 60
FUZZ_ARGS ?=

BIN := .venv/bin
PINS := pyproject.toml constraints.txt
# Python compiles what it imports, and keeps it; compiling all of torch beforehand would double the set-up's time.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-slow test-exhaustive fuzz check format bench bench-compatible bench-reading bench-check image constraints clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo ## push, inspect and load real models on a throw-away server, told as a story
	@$(BIN)/python examples/demo.py

serve: .venv/.demo ## run the service on loopback, data kept in DATA (PORT=8000)
	@WEIGHBRIDGE_DATA=$(DATA) $(BIN)/weighbridge serve --port $(PORT)

setup: .venv/.dev ## install everything that development needs

check: .venv/.dev ## lint, formatting, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: .venv/.dev ## what must stay true, on all backends and databases at small sizes
	$(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-slow: .venv/.dev ## large sizes, clean installs, client matrices, browsers
	$(BIN)/pytest -m "slow and not exhaustive" -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-exhaustive: .venv/.dev ## every network of timm and torchvision, hundreds of kills and faults, where the tests take some (hours)
	$(BIN)/pytest -m exhaustive -n $(WORKERS) $(PYTEST_ARGS)

fuzz: .venv/.dev ## change weight files and see that the reader holds (SECONDS=60, FUZZ_ARGS='--processes 2 --seed 7')
	@PYTHONPATH=tests:examples $(BIN)/python -m fuzzing.campaign --seconds $(SECONDS) --coverage 2000 $(FUZZ_ARGS)

format: .venv/.dev ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev ## what transfers cost beside MLflow, boto3 and plain copies (an hour, 60 GiB of free disk, 16 of memory)
	@PYTHONPATH=.:bench:tests:examples $(BIN)/python -m transfers $(BENCH_ARGS)

bench-compatible: .venv/.dev ## how long finding what fits takes, with 100,000 versions on SQLite and PostgreSQL
	@PYTHONPATH=.:tests:examples $(BIN)/python bench/compatible.py $(BENCH_ARGS)

bench-reading: .venv/.dev ## how long looking into weight files takes, and how much memory
	@PYTHONPATH=.:tests:examples $(BIN)/python bench/reading.py

bench-check: .venv/.dev ## how long a compatibility report takes
	@PYTHONPATH=. $(BIN)/python bench/compat.py

image: ## build the container image
	docker build --tag $(IMAGE) .

constraints: .venv/.dev ## pin what is installed now
	{ head -1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	mv constraints.new constraints.txt

clean: ## remove everything that can be made again; data folders stay
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* build dist
	find api bench examples registry storage tests weighbridge -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Weighbridge needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

# torch first: its pin decides what everything else may choose. torchvision comes without dependencies, because its
# wheel wants the CUDA build of torch (examples/support says what that takes).
.venv/.torch: .venv/bin/python $(PINS)
	@echo "Installing torch into .venv (a minute the first time)"
	$(PIP) torch
	$(PIP) --no-deps torchvision
	@touch $@

# lpips is never installed: its wheel brings real trained weights of a few kilobytes.
.venv/.demo: .venv/.torch
	@echo "Installing Weighbridge and the demo's libraries into .venv"
	$(PIP) --editable '.[torch,server]' timm safetensors
	$(BIN)/python -m pip --disable-pip-version-check --quiet download --no-deps --dest .venv/weights lpips==0.1.4
	@touch $@

# segmentation-models-pytorch wants torchvision, so it comes as that does; timm and pillow are what else it imports.
.venv/.dev: .venv/.demo
	@echo "Installing what development needs into .venv"
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps segmentation-models-pytorch
	@touch $@
