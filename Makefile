# Every chore of the project, one target each; continuous integration calls the same ones. They need python3
# (3.11 or later, with venv and pip), make and git, set themselves up, and are quick the second time.

PYTHON ?= python3
BIN := .venv/bin
SECONDS ?= 60
PYTHONS ?= python3.12 python3.13
ORDINARY := -n 2 -m 'not cluster and not container and not languages and not outside'
CLUSTER := tests/docs/test_blocks.py tests/integration/test_ray.py tests/integration/test_ray_restart.py tests/integration/test_ray_serve.py

# Without its bytecode each of the hundreds of processes of the tests compiles the sources again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test coverage test-cluster test-container test-languages test-pythons lint protos manual hashes serve docs bench outside faults fuzz

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 24

demo: .venv/demo  ## Train a classifier on real data: a server, three workers, and the optimum to compare with
	$(BIN)/python -m demo

test: lint $(BIN)/prometheus $(BIN)/chromium  ## Check everything: lint, then all tests
	$(BIN)/pytest $(ORDINARY)
	$(MAKE) --no-print-directory test-cluster
	$(MAKE) --no-print-directory test-container
	$(MAKE) --no-print-directory test-languages

coverage: .venv/dev $(BIN)/prometheus $(BIN)/chromium  ## List the lines and branches that no test reaches; takes twice as long as the tests
	$(BIN)/pytest $(ORDINARY) --cov --cov-report=term-missing

test-cluster: .venv/dev  ## Start clusters of Ray, whose parts give up on a machine that is busy, and compute on them
	$(BIN)/pytest -m cluster $(CLUSTER)

test-container: .venv/dev  ## Build the image and check it, with Docker, which root on Debian need not have installed
	tools/with-docker $(BIN)/pytest tests/container

test-languages: .venv/languages  ## Build the examples in C++, Go and JavaScript, and compare their bits; try completion in zsh and fish
	tools/install-languages
	$(BIN)/pytest -m languages tests/languages

test-pythons:  ## Run the unit tests with PYTHONS='python3.12 python3.13'; each gets all packages, 8 GB on Linux, which takes minutes
	tools/test-pythons $(PYTHONS) -- -n 2 tests/unit

lint: .venv/dev  ## Check style, formatting, types, the contract and the Dockerfile
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/buf lint && $(BIN)/hadolint deploy/Dockerfile

protos: .venv/dev  ## Generate the stubs in client/gradwire/v1 from protos/
	$(BIN)/python -m tools.generate_stubs client

manual: .venv/dev  ## Write the manual page of the command from what parses its arguments
	$(BIN)/python -m tools.write_manual

hashes: .venv/dev  ## Write the hashes of what the image installs, in the versions of constraints.txt
	$(BIN)/python -m tools.hash_requirements

serve: .venv/demo  ## Start a server on this machine
	$(BIN)/gradwire serve

docs: .venv/dev  ## Serve the documentation, and build it again when a page changes
	$(BIN)/python -m tools.site serve

bench: .venv/bench  ## Measure against other libraries and services, and print a table of ratios
	$(BIN)/python -m tests.benchmarks

outside: .venv/dev  ## Play the suites of other projects whole: CUTEst by way of JAX, nodes of ONNX, ADBench, the array API
	$(BIN)/pytest -n 2 tests/outside

faults: .venv/dev  ## Break a server in every way at full length, and print a table of what became of it
	$(BIN)/pytest tests/faults --full

fuzz: .venv/fuzz  ## Send the decoder and the server what a fuzzer makes up, for SECONDS=60 each
	$(BIN)/python -m tests.fuzzing decode --seconds $(SECONDS)
	$(BIN)/python -m tests.fuzzing serve --seconds $(SECONDS)

# .venv/NAME says that the extra NAME of the server is installed in its pinned versions.
.venv/%: $(wildcard */pyproject.toml) pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing gradwire-server[$*] into .venv ..."
	@$(BIN)/pip install -qq --constraint constraints.txt --editable . --editable imports --editable pictures --editable 'server[$*]'
	@$(BIN)/python -m gradwire_server.warming
	@touch $@

$(BIN)/pip:
	$(PYTHON) -m venv .venv

$(BIN)/prometheus: | $(BIN)/pip
	tools/install-prometheus $(BIN)

$(BIN)/chromium: | $(BIN)/pip
	tools/install-chromium $(BIN)
