# Two commands for newcomers: `make run` shows Clarion with real routers, `make test` proves it.
SHELL := /bin/sh
BIN := .venv/bin
# What set-up builds because the system has none, or an older one.
export PATH := $(CURDIR)/.cache/bin:$(PATH)
PYTHON_PATHS := src tests benchmarks

.PHONY: help setup engine run test check fmt bench bench-bgp bench-kube lock clean

help:
	@echo "make run    lab with real routers: addresses announced by L2 and BGP, verified (root)"
	@echo "make test   the whole gate: format, lint, types, imports, unit, property, API and lab tests"
	@echo "make check  the fast part: format, lint, types, import contracts, tidy rules"
	@echo "make bench  figures and ratios        make fmt    repair format"
	@echo "make bench-bgp    BGP beside BIRD, FRR, GoBGP and ExaBGP (root)"
	@echo "make bench-kube   the same at 10,000 Services on the real API server (root)"
	@echo "make hunt   fuzzing, guided by coverage: MINUTES=10 TARGET=bgp-session"
	@echo "make setup  only prepare              make clean  remove what the above made here"
	@echo "make engine prepare also the real Kubernetes API server and helm, which make test meets (Go)"

setup:
	@tools/setup

engine: setup
	@tools/setup engine
	@tools/judges

run: setup
	@$(BIN)/clarion lab demo

check: setup
	$(BIN)/ruff format --check --quiet $(PYTHON_PATHS)
	$(BIN)/ruff check --quiet $(PYTHON_PATHS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > .cache/imports.txt || { cat .cache/imports.txt; exit 1; }
	$(BIN)/python -m pytest -q tests/tidy

# Two workers: what waits for routers and what waits for the API server go on side by side.
test: engine check
	$(BIN)/python -m pytest -n 2 tests/tidy tests/unit tests/property tests/fuzz tests/exhaustive \
	  tests/api tests/cluster tests/lab

fmt: setup
	$(BIN)/ruff check --quiet --fix $(PYTHON_PATHS) || true
	$(BIN)/ruff format $(PYTHON_PATHS)

bench: setup
	@for bench in benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

bench-bgp: setup
	@for bench in benchmarks/bgp/bench_*.py; do \
	  echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

bench-kube: engine
	@for bench in benchmarks/kube/bench_*.py; do \
	  echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

# Fuzzing guided by coverage, in an environment of its own; MINUTES are those of each target.
hunt: setup
	@[ -x .venv-hunt/bin/python ] || .venv/bin/python -m venv .venv-hunt
	@.venv-hunt/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
	  -r requirements.lock -r requirements-hunt.lock
	@PYTHONPATH=src nice .venv-hunt/bin/python -m tests.fuzz.hunt hunt $(or $(MINUTES),1) $(TARGET)

lock: setup
	@for name in requirements requirements-dev requirements-build requirements-hunt; do \
	  $(BIN)/uv pip compile --upgrade --exclude-newer "7 days" --generate-hashes --no-emit-index-url \
	    --no-header --no-annotate --quiet $$name.in -o $$name.lock || exit 1; done

clean:
	rm -rf .venv .venv-hunt .cache .hypothesis build dist
	find src tests benchmarks -name __pycache__ -type d -exec rm -rf {} +
