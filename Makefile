# BenchAI. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-input -c constraints.txt
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test lint bench soak conformance js-client mcp-conformance tiny-model tiny-vision constraints clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(VENV)/installed: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 run" if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing BenchAI into $(VENV)" >&2
	@$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing the checks and tests" >&2
	@$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/installed-train: $(VENV)/installed
	@$(PIP) -e '.[train]'
	@touch $@

run: $(VENV)/installed ## Run the ReAct agent on the bundled model
	@$(BIN)/benchai run react "What is 4817 * 963?"

# compiled once: where Python is told to write no bytecode, each command that a test starts would compile it all again
test: lint ## Lint, types, import contracts and all tests
	@$(BIN)/python -m compileall -q benchai
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/installed-dev ## Lint, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/installed-dev ## Benchmarks: the tiny models on their held-out tasks, the fleet, the workflows, the router
	@$(BIN)/python benchmarks/tiny_model.py
	@$(BIN)/python benchmarks/tiny_vision.py
	@$(BIN)/python benchmarks/fleet.py
	@$(BIN)/python benchmarks/workflows.py
	@$(BIN)/python benchmarks/router.py

soak: $(VENV)/installed-dev ## Mixed clients for 5 minutes while models are killed: nothing may be lost or doubled
	@$(BIN)/python benchmarks/soak.py

build/conformance/installed: Makefile constraints.txt
	@$(PYTHON) -m venv --clear build/conformance
	@grep -E '^lang(graph|chain-core)' constraints.txt > build/conformance/constraints.txt
	@build/conformance/bin/python -m pip --disable-pip-version-check install --quiet --no-input -c build/conformance/constraints.txt \
		'langgraph-cli[inmem]==0.4.40' langgraph-api==0.16.7
	@touch $@

conformance: $(VENV)/installed-dev build/conformance/installed ## The agent wire against `langgraph dev`: what differs must be listed in docs/agent.md
	@$(BIN)/python -m scripts.agent_conformance

js-client: ## LangGraph's JavaScript client, for examples/client_javascript.mjs and its test
	@npm install --silent --no-audit --no-fund --save-exact --prefix build/node @langchain/langgraph-sdk@2.0.0

mcp-conformance: $(VENV)/installed-dev ## The MCP conformance package, which wants Node 20, against the MCP server and client
	@npm install --silent --no-audit --no-fund --save-exact --prefix build/node @modelcontextprotocol/conformance@0.1.13
	@$(BIN)/python -m scripts.mcp_conformance

tiny-model: $(VENV)/installed-train ## Train the bundled model and its draft anew (CPU only)
	@$(BIN)/python -m scripts.tiny_model --new-tokenizer --steps 10600 --minutes 43
	@$(BIN)/python -m scripts.tiny_model --start build/tiny_model/checkpoint.pt --rate 0.5 --seed 8 --steps 4400 --minutes 17
	@$(BIN)/python -m scripts.tiny_model --start build/tiny_model/checkpoint.pt --rate 0.25 --seed 11 --steps 7600 --minutes 31
	@$(BIN)/python -m scripts.tiny_model --start build/tiny_model/checkpoint.pt --rate 0.15 --seed 41 --steps 450 --minutes 18 --choosy 0
	@$(BIN)/python -m scripts.tiny_model --draft --work build/tiny_draft --steps 8000 --minutes 12

tiny-vision: $(VENV)/installed-train ## Train the bundled vision model anew, after tiny-model (CPU only)
	@$(BIN)/python -m scripts.tiny_vision

constraints: $(VENV)/installed-dev ## Compile constraints.txt anew
	@$(PIP) uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --no-annotate --no-emit-index-url \
		--output-file constraints.txt pyproject.toml

clean: ## Remove the environment and what was built
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
