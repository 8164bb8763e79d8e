# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Of what `make demo` needs; the rest comes on top of it.
DEMO_STAMP := .venv/.installed-demo
FAST ?=
JOBS ?= 2
SAMPLE ?= 2
PYTEST := $(BIN)/python -m pytest
NATIVE := $(shell find native examples -name '*.cpp' -o -name '*.h' -o -name '*.inc' -o -name '*.c' | grep -v CMakeFiles)
DOCS := .venv-docs/bin
DOCS_STAMP := .venv-docs/.installed

.PHONY: demo test test-all kills fuzz lint docs wasm wheel sbom clean help

help:
	@echo "make demo           everything once on synthetic images; the result lies in demo/"
	@echo "make test           ruff, mypy, clang-format and tests of every kind, in minutes (FAST=1: of src and tests/unit, in one)"
	@echo "make test-all       ruff, mypy, clang-format and all tests, in less than an hour"
	@echo "make kills          every command, ended at each of its file operations (EACH=5: at each fifth); hours"
	@echo "make fuzz           mutated files for ten minutes a target (POCKETSEG_FUZZ_SECONDS), with a new seed (POCKETSEG_FUZZ_SEED)"
	@echo "make docs           the documentation site in build/site; a link that leads nowhere is an error"
	@echo "make wasm           the engine for browsers, which \`pocketseg web\` puts into a page; installs Debian's clang for it"
	@echo "make sbom           the wheel and its bill of materials (CycloneDX), in dist/"
	@echo "make clean          remove what was set up and built"

SOURCES := pyproject.toml constraints.txt scripts/install $(wildcard requirements/*.lock) CMakeLists.txt $(shell find native -name '*.cpp' -o -name '*.h' -o -name '*.inc' -o -name '*.txt' | grep -v CMakeFiles)
define set-up
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3"; exit 3; }
$(PYTHON) -m venv .venv
scripts/install $(BIN)/python
endef

$(STAMP): $(SOURCES)
	$(set-up)
	@touch $(DEMO_STAMP) $@

$(DEMO_STAMP): $(SOURCES)
	$(set-up) demo
	@touch $@

# With the page for browsers where its engine is there, or clang for it: nothing is installed into the system for a demo.
demo: $(DEMO_STAMP)
	@mkdir -p build; if clang++-19 --version && wasm-ld-19 --version && cmake --version; then \
		$(MAKE) wasm WASM_TOOLS=: || true; \
	fi >build/wasm.log 2>&1
	$(BIN)/pocketseg demo --out demo

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

# Threads are held at one for each of the workers: two processes that each take all cores wait for one another.
# Each worker begins with half of the files and takes over from the other what it has not begun: files stay together, so
# that what their tests share is made once, and both end at the same time.
RUN_TESTS := OMP_NUM_THREADS=1 $(PYTEST) -n $(JOBS) --dist worksteal --doctest-modules

# SAMPLE cases of each parametrized test; tests/helpers/sampling.py has the rule. FAST leaves out what trains, draws or
# starts processes.
FAST_WITHOUT := training reporting predictors
test: lint
ifeq ($(FAST),)
	$(RUN_TESTS) -m "not slow" --sample $(SAMPLE) src tests
else
	$(RUN_TESTS) -m "not slow and not real_data" --sample 1 src tests/unit $(FAST_WITHOUT:%=--ignore=tests/unit/%)
endif

test-all: lint
	$(RUN_TESTS) src tests

fuzz: $(STAMP)
	POCKETSEG_FUZZ_SEED=$${POCKETSEG_FUZZ_SEED:-$$(date +%s)} POCKETSEG_FUZZ_SECONDS=$${POCKETSEG_FUZZ_SECONDS:-600} OMP_NUM_THREADS=1 $(PYTEST) -m fuzz tests

kills: $(STAMP)
	OMP_NUM_THREADS=1 POCKETSEG_KILLS=$(or $(EACH),1) $(PYTEST) -s -m "not slow" tests/e2e/test_kill_points.py

# The engine for browsers, beside the JavaScript that calls it. A wheel that is built afterwards has it.
WASM := src/pocketseg/web/pocketseg.wasm
WASM_TOOLS := scripts/system-packages wasm
$(WASM): CMakeLists.txt $(NATIVE) $(wildcard native/*.txt native/toolchains/wasm32.cmake)
	$(WASM_TOOLS)
	cmake -S . -B build/wasm -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/native/toolchains/wasm32.cmake -DPOCKETSEG_THREADS=OFF
	cmake --build build/wasm --parallel $(JOBS) --target pocketseg_web
	cp build/wasm/native/pocketseg.wasm $@

wasm: $(WASM)

# Has an environment of its own: nothing of it is needed to run or test pocketseg.
$(DOCS_STAMP): pyproject.toml scripts/requirements.py
	$(PYTHON) -m venv .venv-docs
	$(DOCS)/python scripts/requirements.py docs > .venv-docs/requirements.txt
	$(DOCS)/python -m pip install --quiet --disable-pip-version-check -r .venv-docs/requirements.txt
	@touch $@

docs: $(DOCS_STAMP)
	$(DOCS)/python scripts/reference.py
	$(DOCS)/zensical build --clean --strict

# Equal sources give an equal wheel: nothing in it tells when or where it was made.
wheel: $(STAMP)
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

sbom: wheel
	$(BIN)/python scripts/sbom dist/pocketseg-*.whl

clean:
	rm -rf .venv .venv-docs .cache demo build dist
