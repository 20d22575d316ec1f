# gcheap: `make run` shows it, `make test` checks it. `make help` lists the rest.
PYTHON ?= python3
JOBS ?= $(shell nproc)
SECONDS ?= 60
SEED ?=
# ON: warnings of the C compiler are errors
WERROR ?= OFF
# sanitize, stress: address | thread | empty (sanitize: both; stress: none)
SANITIZE ?=
# stress: another preset than `verify` or the sanitizer's, e.g. test
STRESS_BUILD ?=
# soak: how long in all and with one heap, how large it is, another build; FRESH=1: not from where the last one ended
SOAK_SECONDS ?= 1800
SOAK_MIB ?= 4096
SOAK_ROUND ?= 60
SOAK_BUILD ?= test
FRESH ?=
# more arguments for pytest, e.g. PYTEST_ARGS="-k graph -x"
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
MODULE := build/editable
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
OUT := out
export PATH := $(abspath $(BIN)):$(PATH)
export CMAKE_GENERATOR := Ninja
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PRESET_address := asan-ubsan
PRESET_thread := tsan
SANITIZERS := $(if $(SANITIZE),$(SANITIZE),address thread)
CONFIGURE = cmake --log-level=NOTICE -DGCHEAP_WERROR=$(WERROR)
# libstdc++ too: loaded later (by matplotlib), its exceptions would not be known to the sanitizer, which then gives up.
LIBASAN = $(shell gcc -print-file-name=libasan.so) $(shell gcc -print-file-name=libstdc++.so.6)
ASAN_ENV = LD_PRELOAD="$(LIBASAN)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
# Without address space randomisation: the thread sanitizer wants its places in memory.
FIXED_ADDRESSES = $$(setarch -R true 2>/dev/null && echo setarch -R)
STRESS_PRESET = $(or $(STRESS_BUILD),$(PRESET_$(SANITIZE)),verify)
C_FILES = $(shell git ls-files --cached 'native/*.c' 'native/*.h')
NOT_SLOW := not machine and not packaging and not examples

.DEFAULT_GOAL := help
.PHONY: help run test test-c test-python test-examples machine packaging bench stress soak lint format sanitize clean setup module \
  tools hello asan-python stress-c stress-python $(addprefix sanitize-,address thread python) $(addprefix lint-,python types c lengths headers)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: hello module ## compare gcheap with its alternatives on this machine: table here, out/compare.json, out/compare.png
	@mkdir -p $(OUT)
	$(BIN)/gcheap compare --json $(OUT)/compare.json --plot $(OUT)/compare.png

test: hello test-c test-python test-examples ## the C tests, the Python tests, the example hosts and the README's C (less than 8 minutes on 2 cores)

test-c: setup
	@cd native && $(CONFIGURE) --preset test
	@cmake --build build/test
	@mkdir -p $(OUT)
	cd native && ctest --preset test --output-junit $(abspath $(OUT))/ctest.xml

test-python: module
	@mkdir -p $(OUT)
	$(BIN)/python -m pytest -q -m "$(NOT_SLOW)" --benchmark-disable --junitxml=$(OUT)/pytest.xml $(PYTEST_ARGS)

test-examples: setup
	@mkdir -p $(OUT)
	$(BIN)/python -m pytest -q -m examples --junitxml=$(OUT)/examples.xml \
	  tests/packaging/test_examples.py tests/packaging/test_readme.py

machine: module ## tests that change the machine: swap, compaction, cgroup, unprivileged user, fork
	@mkdir -p $(OUT)
	$(BIN)/python -m pytest -q -m machine --junitxml=$(OUT)/machine.xml $(PYTEST_ARGS)

packaging: module ## sdist, wheel, clean environment; C programs through pkg-config and find_package
	@mkdir -p $(OUT)
	$(BIN)/python -m pytest -q -m packaging --junitxml=$(OUT)/packaging.xml $(PYTEST_ARGS)

bench: module ## every benchmark of benchmarks/, with GCHEAP_BENCH_LIVE=64MiB live (bars: 1GiB), results in out/bench.json
	@mkdir -p $(OUT)
	@test -d benchmarks || { echo "gcheap: benchmarks/ does not exist yet" >&2; exit 1; }
	$(BIN)/python -m pytest benchmarks -o python_files='bench_*.py test_*.py' --benchmark-only \
	  --benchmark-json=$(OUT)/bench.json --timeout=0 $(PYTEST_ARGS)

stress: hello stress-c stress-python ## long random runs, C and Python: SECONDS=60 each, SANITIZE=address|thread, SEED=n

stress-c: setup
	@cd native && $(CONFIGURE) --preset $(STRESS_PRESET)
	@cmake --build build/$(STRESS_PRESET)
	@$(if $(filter thread,$(SANITIZE)),$(FIXED_ADDRESSES)) .ci/programs stress build/$(STRESS_PRESET)/tests $(SECONDS) $(SEED)

soak: setup ## a large heap for half an hour, in the background: faults, verifier, leaks counted; SOAK_SECONDS=, SOAK_MIB=, SEED=n, FRESH=1
	@cd native && $(CONFIGURE) --preset $(SOAK_BUILD)
	@cmake --build build/$(SOAK_BUILD) --target soak
	@.ci/soak build/$(SOAK_BUILD)/tests/soak $(OUT)/soak $(SOAK_SECONDS) $(SOAK_MIB) $(or $(SEED),1) $(SOAK_ROUND) $(FRESH)

# The interpreter is not built for the thread sanitizer.
stress-python: $(if $(filter address,$(SANITIZE)),asan-python,module)
	$(if $(filter thread,$(SANITIZE)),@echo "gcheap: no Python program runs under the thread sanitizer",\
	  $(if $(filter address,$(SANITIZE)),$(ASAN_ENV) build/asan-venv/bin/python,$(BIN)/python) \
	  -P tests/stress/stress_arrays.py $(SECONDS) $(SEED))

sanitize: hello $(addprefix sanitize-,$(SANITIZERS)) ## address+undefined (C and Python), then thread (C); SANITIZE= selects one

sanitize-address sanitize-thread: sanitize-%: setup
	@cd native && $(CONFIGURE) --preset $(PRESET_$*)
	@cmake --build build/$(PRESET_$*)
	@mkdir -p $(OUT)
	cd native && $(if $(filter thread,$*),$(FIXED_ADDRESSES)) \
	  ctest --preset $(PRESET_$*) --parallel $(JOBS) --output-junit $(abspath $(OUT))/ctest-$*.xml
	$(if $(filter address,$*),@$(MAKE) --no-print-directory sanitize-python)

# An environment that sees the packages of $(VENV) but not its editable gcheap, with a module built for the sanitizer.
asan-python: setup
	@.ci/borrow build/asan-venv $(BIN)/python
	@build/asan-venv/bin/python -m pip install -q --no-index --no-build-isolation --no-deps --force-reinstall . \
	  -Cbuild-dir=build/asan-module -Ccmake.build-type=Debug -Cinstall.strip=false \
	  -Ccmake.define.GCHEAP_SANITIZE=address -Ccmake.define.GCHEAP_VERIFY=ON

sanitize-python: asan-python
	@mkdir -p $(OUT)
	$(ASAN_ENV) build/asan-venv/bin/python -P -m pytest -q -p no:cacheprovider -m "$(NOT_SLOW)" --benchmark-disable \
	  --timeout=300 --junitxml=$(OUT)/pytest-address.xml $(PYTEST_ARGS)

lint: module ## ruff, mypy, clang-format, function lengths, each header alone, the direction of includes
	@$(MAKE) --keep-going --no-print-directory lint-python lint-types lint-c lint-lengths lint-headers

lint-python:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types:
	$(BIN)/mypy

lint-c:
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

# Warns only.
lint-lengths:
	$(BIN)/lizard -l cpp --length 60 --arguments 5 --CCN 15 --warnings_only --ignore_warnings -1 $(filter-out native/tests/%,$(C_FILES))
	$(BIN)/lizard -l python --length 50 --CCN 12 --warnings_only --ignore_warnings -1 gcheap

lint-headers:
	$(BIN)/python -m pytest -q tests/packaging/test_layers.py tests/packaging/test_headers.py

format: setup ## let ruff and clang-format rewrite what they own
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

clean: ## remove what was built (not the environment)
	rm -rf build dist $(OUT)

hello:
	@echo "gcheap: checking tools, then environment and native module"

tools:
	@.ci/tools $(PYTHON)

setup: $(STAMP)

# The network is used here, and only here.
$(STAMP): pyproject.toml constraints.txt | tools
	@echo "gcheap: setting up $(VENV) (once; a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -r constraints.txt
	@touch $@

# An editable install, rebuilt here and not at import.
module: $(MODULE)/.installed
	@cmake --build $(MODULE) --target _native -- $(if $(V),,--quiet) >&2
	@rm -f $(SITE)/gcheap/_native.abi3.so # CMake takes one that is a second older for the same
	@cmake --install $(MODULE) --component python --strip --prefix $(SITE) >/dev/null

$(MODULE)/.installed: $(STAMP)
	@echo "gcheap: building the native module"
	@$(BIN)/python -m pip install -q --no-index --no-build-isolation --no-deps -Cbuild-dir=$(MODULE) -e .
	@touch $@
