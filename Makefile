# Each target sets up .venv by itself. A fresh clone needs nothing but make, python and a package index.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# No telemetry, no version check, no look-up of a newer tool: what constraints.txt pins is what runs.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench docs clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(STAMP) ## set up .venv

# One call of pip with the constraints: an unpinned torch would bring gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: $(STAMP) ## the life of one memory: demo-out/report.html
	$(BIN)/mnemotrace demo -o demo-out

test: $(STAMP) ## the default tests (no network, no GPU)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP) ## style, types, import layers, spelling, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/mkdocs build --strict

bench: $(STAMP) ## every figure and ratio that the documentation quotes
	$(BIN)/python benchmarks/run.py

docs: $(STAMP) ## serve the documentation at http://localhost:8000
	$(BIN)/mkdocs serve

clean: ## remove what the targets wrote, .venv too
	rm -rf .venv demo-out site build dist benchmarks/out .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
