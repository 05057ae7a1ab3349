# Everything runs in .venv, made from the locks (exact versions, checked by hash). You need make and Python 3.11, 3.12 or
# 3.13; say which with PYTHON=/path/to/python.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$p" && break; done)
# Locks are made with the oldest Python we support: what it resolves to also runs on the newer ones.
LOCK_PYTHON ?= python3.11
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo up-local test lint types unit kafka chaos plain bench wheel lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## the whole loop on invented traffic; look at demo/ afterwards
	$(BIN)/rater demo --out demo

up-local: $(VENV)/.dev ## everything of docker-compose.yml as processes of this machine, one page of links; SHIFT=1000 moves the ports, FRESH=1 forgets
	$(BIN)/python -m scripts.up_local --shift $(or $(SHIFT),0) $(if $(FRESH),--fresh)

test: lint types unit ## lint, types and all tests: what CI runs

lint: $(VENV)/.dev ## ruff: rules and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

unit: $(VENV)/.dev ## the tests alone, on two processes; those with a real Apache Kafka too, where Java and Maven are
	$(BIN)/rater warm-up
	$(BIN)/python -m pytest -n 2 -m ""

kafka: $(VENV)/.dev ## only the tests with a real Apache Kafka
	$(BIN)/python -m pytest -m kafka tests/kafka

chaos: $(VENV)/.dev ## faults in random mixes on a real Apache Kafka, SECONDS=600 of them; BOOTSTRAP=host:port,... takes a cluster that is there
	$(BIN)/python -m tests.kafka.chaos --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1) $(if $(BOOTSTRAP),--bootstrap $(BOOTSTRAP))

plain: $(VENV)/.dev ## the tests of core and contract with every kernel as plain Python: slow, debuggable
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -n 2 tests/core tests/contract

bench: $(VENV)/.dev ## records a second, on this machine
	$(BIN)/python -m benchmarks

wheel: $(VENV)/.dev ## dist/rater-*.whl
	$(BIN)/python -m hatchling build --target wheel

lock: .venv-lock/.made ## resolve the dependencies anew and write all locks
	$(COMPILE) --build-deps-for=wheel --build-deps-for=editable --output-file=requirements.lock pyproject.toml
	$(COMPILE) --build-deps-for=wheel --build-deps-for=editable --extra=kafka --constraint=requirements.lock \
		--output-file=requirements-kafka.lock pyproject.toml
	$(COMPILE) --build-deps-for=wheel --build-deps-for=editable $(IMAGE_EXTRAS:%=--extra=%) --extra=dev --constraint=requirements-kafka.lock \
		--output-file=requirements-dev.lock pyproject.toml
	$(COMPILE) --build-deps-for=wheel --build-deps-for=editable $(IMAGE_EXTRAS:%=--extra=%) --constraint=requirements-dev.lock \
		--output-file=requirements-image.lock pyproject.toml

clean: ## outputs, builds and caches; .venv stays
	rm -rf demo out dist build .up-local .venv-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find rater tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# What the container image can do: all of rater, none of the tools.
IMAGE_EXTRAS := kafka history postgres mediation notifications recharge stripe http

# No address of a package index goes into a lock: where packages come from is the machine's business, what they are is ours.
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" .venv-lock/bin/pip-compile --quiet --upgrade --generate-hashes \
	--strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "found no Python 3.11, 3.12 or 3.13; expected one on PATH or PYTHON=/path/to/python" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/.made
	$(PIP) install --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@

.venv-lock/.made:
	$(LOCK_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "LOCK_PYTHON: expected Python 3.11")'
	$(LOCK_PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check --quiet install 'pip==26.3' 'pip-tools==7.6.2'
	@touch $@
