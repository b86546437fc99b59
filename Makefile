# The verbs below each set up what they need; `make test` on a fresh clone is enough.
#
# Debian packages: gcc (or another C compiler), python3-dev, python3-venv, make; fitsverify and libcfitsio-bin for
# the tests; clang and libclang-rt-dev for the fuzzers.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
BENCH := --write

NATIVE := $(wildcard torchfits/_native/*.c)
OVER_WCSLIB := $(wildcard torchfits/_wcslib/*.c)
INPUTS := setup.py vendor/build.py $(wildcard torchfits/*.px[di] torchfits/*.pyx torchfits/_native/* torchfits/_wcslib/*)
MODULES := $(patsubst torchfits/%.pyx,torchfits.%,$(wildcard torchfits/*.pyx))
STAMPS := build/stamps
SANITIZED := build/sanitize
CLANG ?= clang
FUZZED := build/fuzz
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZING := $(filter-out tests/fuzz/fuzz_%,$(wildcard tests/fuzz/*.c))
FUZZ_SECONDS ?= 60
# says how our C finds and links the libraries that it calls
LIBRARIES := zlib libdeflate
INSIDE = $(PYTHON) vendor/build.py $(LIBRARIES)

.PHONY: help dev demo test lint sanitize fuzz bench clean fitsverify fpack clang
help:
	@echo "make dev       virtual environment in $(VENV), torchfits built in place"
	@echo "make demo      the guided tour over real files"
	@echo "make test      the test-suite"
	@echo "make lint      ruff, mypy, stubtest, cython-lint, warnings of our C"
	@echo "make sanitize  the native tests under AddressSanitizer and UndefinedBehaviorSanitizer, then make fuzz"
	@echo "make fuzz      our C on inputs that libFuzzer makes up; FUZZ_SECONDS=60 for each target"
	@echo "make bench     the race against other readers; writes benchmarks/README.md"
	@echo "make clean     what was built; neither $(VENV) nor the kept downloads"
	@echo "PYTHON=... chooses the interpreter, 3.10 or newer"

dev: $(STAMPS)/extensions

demo: dev
	$(BIN)/python demo/demo.py

test: dev fitsverify fpack
	$(BIN)/python -m pytest $(PYTEST)

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml $(MODULES)
	PATH="$(abspath $(BIN)):$$PATH" cython-lint $(wildcard torchfits/*.px[di] torchfits/*.pyx)
	inside=$$($(INSIDE) wcslib | tr ' ' '\n' | grep '^-[DI]') && for file in $(NATIVE) $(OVER_WCSLIB) $(wildcard tests/fuzz/*.c); do \
	  $(CC) -std=c99 -O2 -Wall -Wextra -Werror -Itorchfits $$inside -c -o /dev/null $$file || exit 1; \
	done

bench: dev
	$(BIN)/python -m pip install -q --no-build-isolation -e '.[bench]'
	$(BIN)/python -m benchmarks $(BENCH)

# The tests run inside a build of its own, so that it is found before the checkout. What is preloaded is the
# compiler's; leaks are not looked for, since Python leaks by design; SIGBUS is ours to handle.
sanitize: clang dev
	TORCHFITS_SANITIZE=1 $(BIN)/python setup.py -q build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	cd $(SANITIZED)/lib && export PYTHONPATH=$(CURDIR)/$(SANITIZED)/lib \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:handle_sigbus=0:suppressions=$(CURDIR)/tests/sanitize.supp UBSAN_OPTIONS=print_stacktrace=1 && \
	$(abspath $(BIN))/python -c 'import sys; from torchfits import _core; sys.exit("sanitize" not in _core.__file__)' && \
	$(abspath $(BIN))/python -m pytest -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) -p no:cacheprovider -m native $(CURDIR)/tests $(PYTEST)
	$(MAKE) fuzz

# Each target begins with the seeds and with what earlier runs kept. An input that shows a fault is left in build/fuzz.
fuzz: $(FUZZERS:%=$(FUZZED)/%)
	$(PYTHON) tests/fuzz/seeds.py $(FUZZED)/seeds
	for name in $(FUZZERS); do \
	  mkdir -p $(FUZZED)/corpus/$$name $(FUZZED)/seeds/$$name && \
	  $(FUZZED)/$$name -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=60 -dict=tests/fuzz/fits.dict -verbosity=0 \
	    -print_final_stats=1 -artifact_prefix=$(FUZZED)/$$name- $(FUZZED)/corpus/$$name $(FUZZED)/seeds/$$name || exit 1; \
	done

$(FUZZED)/%: tests/fuzz/%.c $(FUZZING) $(wildcard tests/fuzz/*.h torchfits/_native/* torchfits/_wcslib/*) | clang
	@mkdir -p $(@D)
	inside=$$(CC=$(CLANG) CFLAGS=-fsanitize=fuzzer-no-link TORCHFITS_SANITIZE=1 $(INSIDE)) && \
	$(CLANG) -std=c99 -O1 -g -ffp-contract=off -Wall -Wextra -Werror -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=undefined -fsanitize-coverage-ignorelist=tests/fuzz/uncovered.txt $(COVERAGE) \
	  -Itorchfits $< $(FUZZING) $(NATIVE) $(MORE) $$inside -lm -lpthread -o $@
$(FUZZED)/fuzz_wcs: MORE := $(OVER_WCSLIB)
$(FUZZED)/fuzz_wcs: LIBRARIES += wcslib
# comparing pixels tells libFuzzer nothing, and takes most of the time
$(FUZZED)/fuzz_image $(FUZZED)/fuzz_table $(FUZZED)/fuzz_heap: COVERAGE := -fno-sanitize-coverage=trace-cmp

clean:
	rm -rf build torchfits/*.so torchfits/_build_info.py *.egg-info

fitsverify:
	@command -v fitsverify >/dev/null || { echo "the tests need fitsverify (Debian: apt install fitsverify)"; exit 1; }

fpack:
	@command -v fpack >/dev/null && command -v funpack >/dev/null || \
	  { echo "the tests need fpack and funpack (Debian: apt install libcfitsio-bin)"; exit 1; }

clang:
	@command -v $(CLANG) >/dev/null || { echo "the fuzzers need clang (Debian: apt install clang libclang-rt-dev)"; exit 1; }
	@echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d[0] && n; }' | \
	  $(CLANG) -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null || \
	  { echo "$(CLANG) lacks libFuzzer or its sanitizers (Debian: apt install libclang-rt-dev)"; exit 1; }

$(STAMPS)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "torchfits needs Python 3.10 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot make virtual environments (Debian: apt install python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null || \
	  { echo "the headers of $(PYTHON) are missing (Debian: apt install python3-dev)"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "no C compiler (Debian: apt install gcc)"; exit 1; }
	@mkdir -p $(@D) && touch $@

$(BIN)/python: | $(STAMPS)/python
	$(PYTHON) -m venv $(VENV)

# the environment: torch is pinned for developers, users bring theirs
$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q $(TORCH) "setuptools>=77" "Cython>=3.1" wheel
	$(BIN)/python -m pip install -q --no-build-isolation -e '.[test,lint]'
	@touch $@

$(STAMPS)/extensions: $(INPUTS) $(VENV)/installed
	$(BIN)/python setup.py -q build_ext --inplace
	@mkdir -p $(@D) && touch $@
