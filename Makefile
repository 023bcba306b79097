SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
INSTALLED := $(VENV)/.installed
KERNEL := $(VENV)/.kernel
CHECKED := app training tests
COMPILE := $(BIN)/uv --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--only-binary :all: --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

# Libraries that compute are the same everywhere, so that servers are compared and not these; certifi stays where it is.
SAME := certifi|keras|openvino|pillow|tensorflow
PEERS := $(wildcard benchmarks/peers/*/requirements.in)

.PHONY: help install serve train test fuzz bench check fix lock

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED) $(KERNEL) ## create .venv from requirements/dev.txt, every file checked against its hash

serve: install ## start the service with the newest model on http://127.0.0.1:8000
	exec $(PYTHON) -m app

train: install ## train ResNet18 on CIFAR-10 and publish the next version under model/; options in ARGS="..."
	exec $(PYTHON) training/train.py $(ARGS)

# A process of tests that dies ends the run, which says so: pytest-xdist would start another and then wait for ever.
test: install ## run the tests, two files at a time; options for pytest in ARGS="...", ARGS="-n 0" for one at a time
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

fuzz: install ## look for pictures that break the decoder; a minute, or FUZZ_SECONDS=600
	$(PYTHON) tests/fuzz_decode.py -max_total_time=$(or $(FUZZ_SECONDS),60)

bench: install ## compare the service with its peers, see docs/benchmarks.md; options in ARGS="--quick"
	exec $(PYTHON) benchmarks/compare.py $(ARGS)

check: install ## lint, format and types, changing nothing
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy $(CHECKED)

fix: install ## correct what ruff can correct
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: install ## bring requirements/ up to pyproject.toml; newer versions of everything with ARGS=--upgrade
	$(COMPILE) $(ARGS) pyproject.toml --output-file requirements/dev.txt --extra dev
	$(COMPILE) $(ARGS) pyproject.toml --output-file requirements/tensorflow.txt --extra tensorflow --extra grpc --constraint requirements/dev.txt
	$(COMPILE) $(ARGS) pyproject.toml --output-file requirements/serve.txt --extra grpc --constraint requirements/dev.txt
	for peer in $(PEERS); do \
		grep -E '^($(SAME))==' requirements/dev.txt | tr -d '\\' | \
		$(COMPILE) $(ARGS) "$$peer" --output-file "$${peer%.in}.txt" --constraint -; \
	done

# setuptools comes from the lock too, so building the project fetches nothing that has no hash. The environment is
# changed in place: one that works survives an installation that fails.
$(INSTALLED): pyproject.toml requirements/dev.txt
	for python in python3.11 python3; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
	done; \
	[[ -n "$${found:-}" ]] || { echo "make: Python 3.11 or newer is needed: neither python3.11 nor python3 is one. Install python3.11 (with venv) and run make again." >&2; exit 2; }; \
	"$$found" -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements/dev.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Without a compiler one engine is missing, which says so; the others serve.
$(KERNEL): $(INSTALLED) app/engines/winograd/kernel.c app/engines/winograd/build.py
	if $(PYTHON) app/engines/winograd/build.py; then touch $@; fi
