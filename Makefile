# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
FAST ?=
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-long fuzz lint clean help

help:
	@echo "make demo           everything once on synthetic images; the result lies in demo/"
	@echo "make test           ruff, mypy and the tests (FAST=1: without the slow ones and what trains)"
	@echo "make test-long      what takes longer: all kills, every export"
	@echo "make fuzz           mutated files for ten minutes a target (POCKETSEG_FUZZ_SECONDS)"
	@echo "make clean          remove .venv and the demo"

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(shell find native -name '*.cpp' -o -name '*.h' -o -name '*.inc' -o -name '*.txt' | grep -v CMakeFiles)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3"; exit 3; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/pocketseg demo --out demo

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Threads are held at one for each of the workers: two processes that each take all cores wait for one another.
test: lint
ifeq ($(FAST),)
	OMP_NUM_THREADS=1 $(PYTEST) -n $(JOBS) --dist loadfile -m "not slow" --doctest-modules src tests
else
	OMP_NUM_THREADS=1 $(PYTEST) -n $(JOBS) -m "not slow and not real_data" --doctest-modules src tests/unit tests/contract tests/parity
endif

test-long: $(STAMP)
	OMP_NUM_THREADS=1 $(PYTEST) -n $(JOBS) -m slow tests

# Files that nobody would write, for ten minutes a target.
fuzz: $(STAMP)
	POCKETSEG_FUZZ_SECONDS=$${POCKETSEG_FUZZ_SECONDS:-600} OMP_NUM_THREADS=1 $(PYTEST) -m fuzz tests

clean:
	rm -rf .venv demo build
