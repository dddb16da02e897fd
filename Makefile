# The few commands of the project. `make` alone lists them; each makes .venv by itself when it needs it.
SHELL := bash
.DEFAULT_GOAL := help

# Options of `make run`, each also an option of `cascade up`:
ASSETS ?=
SPEED ?=
CONFIG ?=
SET ?=
JSON ?=
FRESH ?=
QUESTDB ?=
# How many tests run at a time; most of them wait for other processes.
WORKERS ?= 3

up_options = $(if $(ASSETS),--assets '$(ASSETS)') $(if $(SPEED),--speed '$(SPEED)') $(if $(CONFIG),--config '$(CONFIG)') \
	$(foreach pair,$(SET),--set '$(pair)') $(if $(JSON),--json) $(if $(FRESH),--fresh) $(if $(QUESTDB),--questdb)
python := .venv/bin/python

.PHONY: help run stop status test check format bench lock clean venv venv-dev
.PHONY: check-format check-lint check-types check-imports check-lock

help: ## List the commands
	@echo "Cascade: make COMMAND [VARIABLE=value ...]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "make run understands (all optional):"
	@echo "  ASSETS=HUSDT,TAOUSDT   the markets to trade          SPEED=max|1|3600   replay: market seconds per second"
	@echo "  CONFIG=my.toml         a configuration file          SET='rebalancer.cooldown_minutes=60 ...'"
	@echo "  JSON=1                 print only the final summary  FRESH=1            forget where the last run stopped"
	@echo "  QUESTDB=1              run a local QuestDB too and record into it (needs Java 17 or later)"
	@echo "  CASCADE_REPLAY=file    replay recorded candles (.csv, .csv.gz, .parquet) instead of the sandbox exchange"

run: venv ## Start the stack: a sandbox exchange, made-up money, dashboard; Ctrl-C stops it
	@exec .venv/bin/cascade up $(up_options)

stop: venv ## Stop a running stack
	@exec .venv/bin/cascade stop

status: venv ## Show what runs, its health and the trading state
	@exec .venv/bin/cascade status

test: venv-dev ## Run every test that this machine can run, and say what was skipped and why (TESTS=path for some)
	@$(python) -m pytest -q -m browser $(or $(TESTS),tests) || [ $$? -eq 5 ]
	@$(python) -m pytest -m "not browser" -n $(WORKERS) --dist loadfile $(or $(TESTS),tests)

check: check-format check-lint check-types check-imports check-lock ## Check format, lint, types, import rules and the lock

check-format: venv-dev
	@.venv/bin/ruff format --check .

check-lint: venv-dev
	@.venv/bin/ruff check .

check-types: venv-dev
	@.venv/bin/mypy

check-imports: venv-dev
	@.venv/bin/lint-imports --no-logo

check-lock: venv-dev
	@PATH="$(CURDIR)/.venv/bin:$$PATH" deploy/requirements/lock.sh --check

format: venv-dev ## Format the code and fix what can be fixed
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

bench: venv-dev ## Measure latency and throughput
	@for file in tests/benchmarks/[a-z]*.py; do echo "== $$file"; $(python) "$$file" || exit 1; done

lock: venv-dev ## Rewrite the locked requirements from pyproject.toml
	@PATH="$(CURDIR)/.venv/bin:$$PATH" deploy/requirements/lock.sh

clean: ## Remove .venv, caches and build outputs; never var/, where the stack keeps its state
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find services shared tests -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@deploy/bootstrap/venv.sh stack

venv-dev:
	@deploy/bootstrap/venv.sh dev
