# Everything here sets up what it needs by itself: `make demo` works on a bare machine. ARGS go to what is run.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help setup demo run test lint bench bench-quick bench-pages clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Make .venv with everything, so that .venv/bin/tok0n works
	@scripts/setup.sh dev

demo: ## Run a gateway with a simulated upstream, a funded account and a key
	@scripts/setup.sh run
	@exec .venv/bin/tok0n demo $(ARGS)

run: ## Serve with ./tok0n.toml
	@scripts/setup.sh run
	@exec .venv/bin/tok0n serve $(ARGS)

test: ## Run all tests, or some: make test ARGS="tests/domain -k bound"
	@scripts/setup.sh test
	@exec .venv/bin/pytest -q $(ARGS)

lint: ## Check format, style, types, layers and the lock
	@scripts/setup.sh dev
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache
	@scripts/export-lock.sh --check

bench: ## Measure everything beside nginx and the peers, in one run
	@scripts/setup.sh bench
	@exec .venv/bin/python benchmarks/run.py $(ARGS)

bench-quick: ## The main figures, beside nginx alone, in two minutes
	@scripts/setup.sh bench
	@exec .venv/bin/python benchmarks/run.py --quick $(ARGS)

bench-pages: ## Measure the pages of an account with a million requests
	@scripts/setup.sh dev
	@exec .venv/bin/python benchmarks/pages.py $(ARGS)

clean: ## Remove what was made here; settings and databases stay
	rm -rf .venv .uv dist src/tok0n/web/assets/htmx.min.js src/tok0n/web/assets/.htmx .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis tests/clients/node/node_modules tests/clients/recipes/.venv
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
