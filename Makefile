# `make` lists the targets. PYTHON: the interpreter, or its version as in PYTHON=3.12.
PYTHON ?= python3
VERSION := $(filter 3.%,$(PYTHON))
ifneq ($(VERSION),)
override PYTHON := python$(VERSION)
endif
TARGET ?= $(or $(VERSION),$(PYTHON))
TORCH ?= yes
VENV_PYTHON := .venv/bin/python
# Two pytest workers, one torch thread each: two cores are what a CI machine has. worksteal keeps the tests of a file
# together, with what they share, and lets both workers end at the same time.
PYTEST := OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -n 2 --dist worksteal

# Two detectors' activations come and go at each step: without these, glibc hands the pages back each time.
KEEP_MEMORY := MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_THRESHOLD_=4000000000

.DEFAULT_GOAL := help
.PHONY: help setup data demo test test-slow matrix lint docs format lock bundle clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: ## make or complete .venv (10 GB of free disk; PYTHON=python3.12 chooses the interpreter)
	@$(PYTHON) tools/setup_environment.py

data: setup ## draw the synthetic data set into datasets/synthetic
	@$(VENV_PYTHON) -m osal_detectron2 data synthetic --out datasets/synthetic --tiles 300 --seed 0

demo: data ## a whole active learning run on the synthetic data, on a CPU; again: goes on where it stopped
	@$(KEEP_MEMORY) $(VENV_PYTHON) -m osal_detectron2 train --config-file configs/quickstart.yaml --resume OUTPUT_DIR output/quickstart
	@echo "These were drawn tiles, labelled by their hidden truth; the detector went on learning from round to round."
	@echo "For the commands osal ... above and in the docs, first: . .venv/bin/activate"
	@echo "Open output/quickstart/report.html: what it learnt, what it asked for, and why."
	@echo "Your own tiles: five commands in README.md, Use it. People who label: docs/human_oracle.md"

test: setup ## all tests but the slow ones and those for a GPU (ARGS="-k name" chooses)
	@$(PYTEST) -m "not slow and not gpu" $(ARGS)

test-slow: setup ## the tests that take minutes
	@$(PYTEST) -m "slow and not gpu" $(ARGS)

matrix: setup ## smoke tests with other versions, see docs/versions.md (ARGS="--combination numpy=1.26.4")
	@$(VENV_PYTHON) tools/version_matrix.py $(ARGS)

lint: setup ## ruff's rules and format, mypy's types, who imports whom
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy
	@.venv/bin/lint-imports --no-logo

# The pages link to each other as in the repository, so the site is built of a folder that has its layout.
PAGES := README.md CONTRIBUTING.md CHANGELOG.md CITATION.cff docs benchmarks configs

docs: .venv-docs/complete ## the pages and the API as a site in site/, links checked; needs neither torch nor `make setup`
	@mkdir -p build/docs && ln -sfn $(PAGES:%=../../%) build/docs/
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict
	@echo "Open site/index.html. To search: python3 -m http.server -d site"

.venv-docs/complete: requirements/docs-lock.txt
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

format: setup ## mend what ruff can mend
	@$(VENV_PYTHON) -m ruff check --fix .
	@$(VENV_PYTHON) -m ruff format .

UV_LOCK := uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.10 \
	--custom-compile-command "make lock"

lock: ## requirements/*lock.txt anew from the files beside them; versions stay where they can (pip install uv)
	@$(UV_LOCK) requirements/base.txt requirements/dev.txt -o requirements/lock.txt
	@$(UV_LOCK) --fork-strategy fewest requirements/docs.txt -o requirements/docs-lock.txt

bundle: ## wheels for a machine without a network (PYTHON=3.12 TORCH=no HAVE=pip-freeze.txt)
	@$(or $(wildcard $(VENV_PYTHON)),python3) tools/bundle.py --target $(TARGET) --torch $(TORCH) $(if $(HAVE),--have $(HAVE))

clean: ## remove .venv, the bundle, the site and caches; datasets/ and output/ stay
	rm -rf .venv .venv-docs bundle build site *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
