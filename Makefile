# Every target that needs the environment makes it first; `make setup` alone is never required.
# The stamp is older than the lock or pyproject.toml only when there is something to install.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
PEER_BIN := .venv-bench/bin
PEER_STAMP := .venv-bench/.installed
RECTOOLS_BIN := .venv-rectools/bin
RECTOOLS_STAMP := .venv-rectools/.installed
CODE := $(wildcard lightsans pipelines cluster benchmarks tools tests submit.py)
# mypy refuses a directory without a Python file
TYPED := $(wildcard submit.py) $(patsubst %/,%,$(sort $(dir $(wildcard $(addsuffix /*.py,$(CODE))))))

.DEFAULT_GOAL := help
.PHONY: help setup hooks check format test test-unit test-repository test-integration test-times test-chaos test-hosts test-hosts-faults bench bench-env bench-rectools demo lock schema clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## create .venv with the locked packages

$(STAMP): requirements.lock pyproject.toml
	@"$(or $(wildcard $(BIN)/python),$(PYTHON),python3)" tools/make_venv.py
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

hooks: $(STAMP) ## run the quick checks before every commit
	$(BIN)/pre-commit install

check: $(STAMP) ## lint, formatting, types, lock in sync
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy --strict $(TYPED)
	$(BIN)/python tools/lock.py check

format: $(STAMP) ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

TESTED := not chaos and not cluster and not hosts
# Two at a time: much of the time of a test on Ray goes by while processes start and end. The tests of
# a file stay together, with what they share; tests/integration/conftest.py orders the files.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

test: test-unit test-repository test-integration ## all tests but those of test-chaos

test-unit: $(STAMP) ## unit and property tests, on two to four cores (a minute or two)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m "$(TESTED) and not programs" \
	  tests/unit tests/property

test-repository: $(STAMP) ## documents, rooms, bad input, and unit tests that start programs
	$(BIN)/python -m pytest -n auto --maxprocesses 4 tests/repository
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m "$(TESTED) and programs" tests/unit

test-integration: $(STAMP) ## tests on real local Rays and a real S3 server
	$(BIN)/python -m pytest $(TWO) tests/integration

test-times: $(STAMP) ## all tests, and then the 20 slowest of them
	$(BIN)/python -m pytest --durations=20 tests

test-chaos: $(STAMP) ## kill tests and fault injection
	$(BIN)/python -m pytest tests -m "chaos and not hosts"

test-hosts: $(STAMP) ## tests on several hosts, made of this machine by root (half an hour at most)
	timeout --kill-after=30 1800 $(BIN)/python -m pytest -m "hosts and not chaos" tests/hosts

test-hosts-faults: $(STAMP) ## each fault during each stage on several hosts; goes on where it stopped
	$(BIN)/python -m pytest -m "hosts and chaos" tests/hosts/test_faults.py; \
	  status=$$?; $(BIN)/python -m tests.hosts.cells && exit $$status

bench: $(STAMP) ## one benchmark: make bench NAME=x [ARGS=--smoke]
	@[ -f "benchmarks/$(NAME).py" ] || { echo "make: name a benchmark, make bench NAME=x, of:" \
	  $(basename $(notdir $(wildcard benchmarks/*.py))) >&2; exit 1; }
	$(BIN)/python -m benchmarks.$(NAME) $(ARGS)

bench-env: $(PEER_STAMP) ## create .venv-bench with RecBole beside the project, and compare the two
	$(PEER_BIN)/python -m pytest tests/integration/test_recbole.py

$(PEER_STAMP): benchmarks/requirements-recbole.txt
	@"$(or $(wildcard $(PEER_BIN)/python),$(PYTHON),python3)" tools/make_venv.py .venv-bench
	$(PEER_BIN)/python -m pip install --quiet --requirement benchmarks/requirements-recbole.txt
	$(PEER_BIN)/python -m pip install --quiet --no-deps recbole==1.2.1
	@touch $(PEER_STAMP)

bench-rectools: $(RECTOOLS_STAMP) ## create .venv-rectools, the peer of benchmarks/peer_sasrec.py

$(RECTOOLS_STAMP): benchmarks/requirements-rectools.txt
	@"$(or $(wildcard $(RECTOOLS_BIN)/python),$(PYTHON),python3)" tools/make_venv.py .venv-rectools
	$(RECTOOLS_BIN)/python -m pip install --quiet --requirement benchmarks/requirements-rectools.txt
	@touch $(RECTOOLS_STAMP)

demo: $(STAMP) ## fetch MovieLens-100K (or generate a log), train, recommend
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/demo.sh $(ARGS)

lock: $(STAMP) ## resolve pyproject.toml again; ARGS=--upgrade lifts every pin
	$(BIN)/python tools/lock.py write $(ARGS)

schema: $(STAMP) ## write pipelines/configs/schema.json anew after a change of settings
	$(BIN)/python tools/write_schema.py

clean: ## remove caches and build output; .venv and data stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +
