# Everything needs only git, make, Python 3.11 or newer and PyPI; the environment is made in .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check
ARGS ?= experiment=quickstart

.DEFAULT_GOAL := help
.PHONY: help setup train test test-numeric test-full bench studies figures lint check format lock

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup: .venv/installed ## make .venv and install the locked versions (Linux without an NVIDIA GPU: CPU=1 leaves CUDA out)

.venv/installed: requirements.lock setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
ifdef CPU  # the lock names PyPI's builds of PyTorch, which need CUDA on Linux: PyTorch's own builds for the CPU come first
	$(PIP) install uv
	$(BIN)/uv pip install --python $(BIN)/python --torch-backend=cpu $$(grep -oE '^torch(vision)?==[0-9.]+' requirements.lock)
	sed -E '/^(nvidia-|cuda-|triton)/,/[^\\]$$/d' requirements.lock > .venv/requirements.lock
	$(PIP) install -r .venv/requirements.lock
else
	$(PIP) install -r requirements.lock
endif
	$(PIP) install --no-deps -e .
	@touch $@

train: setup ## train on real digits; ARGS="data=mnist lr=0.01" passes overrides on
	$(BIN)/python train.py $(ARGS)

test: setup ## the tests, minutes
	$(BIN)/python -m pytest -n 3 --dist loadgroup

test-numeric: setup ## those that compare computed numbers, as an older processor rounds
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m "numeric and not full" --older-processor

test-full: setup ## those too that take minutes each
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m ""

bench: setup .venv/bench ## speed, side by side with what you would use instead (ten minutes; BENCH=full: twice that)
	$(BIN)/python -m benchmarks --packages .venv/bench $(if $(filter full,$(BENCH)),--full)

studies: setup ## all studies of experiments/, hours, skipping what is trained (ARGS="--cifar10 FILE" reads CIFAR-10 from there)
	$(BIN)/python -m experiments $(if $(filter command line,$(origin ARGS)),$(ARGS))

figures: setup ## their figures and tables again, from the committed results.csv
	$(BIN)/python -m experiments --draw

.venv/bench: setup.cfg  # apart: with torchmetrics around, every start of Fabric takes two seconds longer
	$(PIP) install --no-deps --target $@ 'pytorch-lightning>=2.6,<3' 'torchmetrics>=1.8'
	@touch $@

lint: setup ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint ## those and the quick tests
	$(BIN)/python -m pytest -n 2 -m "not slow and not full"

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## resolve requirements.lock anew, for every platform, with the hashes of all files
	$(PYTHON) -m venv .venv && $(PIP) install uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --extra dev --extra export --extra heic --extra hub --extra search --extra slurm --no-header --no-annotate setup.cfg -o requirements.lock
