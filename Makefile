# Everything a person or CI runs. Each target sets up what it needs: .venv from hashed lock files.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
EXTRAS := --extra broker --extra compression --extra jwt --extra objects --extra pictures --extra postgres --extra smtp

.PHONY: help demo test check format bench lock clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

.venv/demo: deploy/demo.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing what the demo needs into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r deploy/demo.lock
	@touch $@

.venv/dev: tests/requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing what tests and checks need into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r tests/requirements.lock
	@touch $@ .venv/demo

.venv/bench: bench/requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing what the measurements need into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r bench/requirements.lock
	@touch $@ .venv/demo

demo: .venv/demo ## Run 200,000 events through the application on a real Kafka (ARGS="--events N --keep --json")
	@$(BIN)/python -m bench demo $(ARGS)

test: .venv/dev ## Run all tests (ARGS="-k name")
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev ## Format, lint, types, import layers, tidiness, deployment files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_tidy.py
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

format: .venv/dev ## Rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/bench ## Measure (ARGS="--quick", or the names of scenarios)
	@$(BIN)/python -m bench run $(ARGS)

lock: ## Pin the newest versions into the lock files
	@$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install --quiet uv
	@for line in "deploy/requirements.lock --extra jwt --extra objects --extra pictures --extra postgres --extra smtp" \
	  "deploy/demo.lock --extra broker --extra objects --extra pictures" \
	  "bench/requirements.lock $(EXTRAS) --group bench" \
	  "tests/requirements.lock $(EXTRAS) --group test --group lint --group bench"; do \
	  set -- $$line; out=$$1; shift; \
	  .venv/lock/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links $$* pyproject.toml -o $$out; \
	done

clean: ## Remove what the targets made
	rm -rf .venv data bench/results .mypy_cache .pytest_cache .ruff_cache .hypothesis
