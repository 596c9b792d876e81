# Everything here sets up what it needs by itself: `make demo` works on a bare machine. ARGS go to what is run.
# `make test` runs WORKERS processes, each with its own PostgreSQL and Redis.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Without its .pyc files each of the many processes that the tests start would compile every module again.
unexport PYTHONDONTWRITEBYTECODE
WORKERS ?= 4

.PHONY: help setup demo run test test-clients test-pictures test-proxies test-soak attack lint bench bench-quick bench-pages bench-ab clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Make .venv with everything, so that .venv/bin/tok0n works
	@scripts/setup.sh dev

demo: ## Run a gateway with a simulated upstream, a funded account and a key
	@scripts/setup.sh run
	@exec .venv/bin/tok0n demo $(ARGS)

run: ## Serve with ./tok0n.toml
	@scripts/setup.sh run
	@exec .venv/bin/tok0n serve $(ARGS)

test: ## Run the tests, or some: make test ARGS="tests/domain -k bound"
	@scripts/setup.sh test
	@exec .venv/bin/pytest -q -n $(WORKERS) --dist worksteal $(ARGS)

test-clients: ## Run the official SDKs and the tools of the recipes
	@scripts/setup.sh clients
	@exec .venv/bin/pytest -q -n 2 --dist worksteal tests/clients $(ARGS)

test-pictures: ## Compare pictures of all pages with their references
	@scripts/setup.sh pictures
	@exec .venv/bin/pytest -q -n 2 --dist worksteal tests/pictures $(ARGS)

test-proxies: ## Run the conformance tests behind nginx, HAProxy and Caddy
	@scripts/setup.sh proxies
	@exec .venv/bin/pytest -q tests/proxies $(ARGS)

attack: ## Attack a running server; measure its memory and an honest client
	@scripts/setup.sh dev
	@PYTHONPATH=tests exec .venv/bin/python -m attack $(ARGS)

test-soak: ## Run the long kill, outage and race tests
	@scripts/setup.sh soak
	@exec .venv/bin/pytest -q tests/soak $(ARGS)

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
	@scripts/setup.sh bench-pages
	@exec .venv/bin/python benchmarks/pages.py $(ARGS)

bench-ab: ## Compare the CPU per request with another commit: BASE=COMMIT
	@scripts/setup.sh bench-ab
	@exec .venv/bin/python benchmarks/ab.py "$(BASE)" $(ARGS)

clean: ## Remove what was made here; settings and databases stay
	rm -rf .venv .uv dist src/tok0n/web/assets/htmx.min.js src/tok0n/web/assets/.htmx .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis tests/pictures/failures tests/clients/node/node_modules tests/clients/recipes/.venv tests/clients/agents/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
