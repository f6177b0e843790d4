# The few verbs of skerry. Each brings what it needs: on a machine with only make and git, as root, `make demo` works.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
# What mypy reads, and the kinds of test in the order in which they say most for their time.
SOURCES := $(foreach folder,agent native hub bench cross-build tests,$(if $(wildcard $(folder)/*.py $(folder)/*/*.py),$(folder)))
TESTS := $(wildcard tests/unit tests/builds tests/contract tests/properties tests/sim tests/faults tests/e2e)
# The sandbox of builds, and the tools that the units of cross-build/ name.
BUILD_DEBS := bubblewrap binutils binutils-aarch64-linux-gnu binutils-arm-linux-gnueabihf qemu-user-static \
	diffutils grep make mawk patch sed
BUILD := PYTHONPATH=cross-build $(PYTHON) -m crossbuild
# Whose unit a package is, and what `make reproduce` builds twice.
workspace_skerry := agent
workspace_skerry-hub := hub
UNITS ?= $(foreach target,aarch64-bookworm aarch64-jammy aarch64-trixie armhf-bookworm,agent:deb@$(target)) \
	$(foreach target,aarch64-bookworm aarch64-trixie amd64-bookworm amd64-trixie,hub:deb@$(target))
export PYTHONDONTWRITEBYTECODE := 1
export SEEDS

.PHONY: help demo test pythons sim e2e brokers bench check reproduce setup lock clean clean-root deb deb-test boards lock-image qemu qemu-short qemu-image qemu-image-armhf
.DEFAULT_GOAL := help

help: ## these lines
	@sed -n 's/^\([a-z0-9%-]*\):[^#]*## /\1\t/p' Makefile | expand -t 12

demo: setup ## one machine, a hub and a board: a pod runs, and runs on without network and after a power cut
	$(PYTHON) tests/demo.py

test: setup check ## all checks and all tests
	@tools/setup bubblewrap
	@tools/setup docker-registry || echo "test: no docker-registry (above): no private image is pulled from a real one"
	@tools/setup chromium || echo "test: no chromium (above): the fleet's page is not tried in a browser"
	@tools/kubectls > /dev/null || echo "test: fewer kubectls (above): the table is tried with those that are here"
	$(PYTEST) $(TESTS)
	tools/pythons --short

pythons: setup ## unit, property and contract tests on each Python from 3.10 to 3.13 that is here
	tools/pythons

sim: setup ## the simulator, long form: make sim SEEDS=1000
	$(PYTEST) tests/sim

e2e: setup ## the tests that run real mosquitto, containerd and kubectl
	$(PYTEST) $(TESTS) -m e2e

brokers: setup ## a whole skerry on RabbitMQ of Debian 13, by docs/rabbitmq.md; as root
	tools/rabbitmq
	SKERRY_BROKERS=1 $(PYTEST) tests/e2e/test_rabbitmq.py

bench: setup ## measure; one report
	PYTHONPATH=tests $(PYTHON) -m bench

check: setup ## ruff, mypy, import rules, tidy rules
	.venv/bin/ruff check
	.venv/bin/mypy $(SOURCES)
	PYTHONPATH=cross-build $(PYTHON) -m image check
	if [ -e .importlinter ] || grep -q '^\[tool.importlinter' pyproject.toml; then .venv/bin/lint-imports; fi
	if [ -e tests/unit/test_tidy.py ]; then $(PYTEST) -q tests/unit/test_tidy.py tests/unit/native/test_built.py; fi

setup: # what is missing on this machine
	@tools/setup

deb: DEB = $(workspace_$(or $(PACKAGE),skerry)):deb@$(or $(TARGET),aarch64-bookworm)
deb: ## the package for a board: make deb [TARGET=armhf-bookworm] [PACKAGE=skerry-hub]
	@tools/setup $(BUILD_DEBS)
	$(BUILD) build $(DEB) --out build/units
	mkdir -p build/deb
	cp build/units/$(subst :deb@,/deb-,$(DEB))/*.deb build/deb/

deb-test: ## all packages: clean for lintian, at work under user-mode QEMU
	@tools/setup $(BUILD_DEBS) lintian
	SKERRY_SLOW_BUILD=1 $(PYTEST) tests/builds/test_packages.py
	PYTHONPATH=tests:cross-build $(PYTHON) -m builds.figures

reproduce: ## build the packages twice in two places and compare; a second project reuses them
	@tools/setup $(BUILD_DEBS) diffoscope-minimal
	$(BUILD) reproduce $(UNITS)
	SKERRY_BUILDS=1 $(PYTEST) tests/builds/test_product.py

boards: setup ## check every board: layers, sizes, memory, locks, kernel options
	PYTHONPATH=cross-build $(PYTHON) -m image check

image-%: ## the image of a board: make image-qemu-virt-arm64
	@tools/setup image $(BUILD_DEBS)
	PYTHONPATH=cross-build $(PYTHON) -m image build $*

lock-image: setup ## pin the Debian packages of the images, from this machine's apt sources
	PYTHONPATH=cross-build $(PYTHON) -m image lock $(ONLY)

qemu: qemu-image qemu-image-armhf image-raspberrypi-3 ## boot the images in QEMU: reboot offline, upgrade, power cuts, watchdog
	$(MAKE) --no-print-directory deb
	$(MAKE) --no-print-directory deb TARGET=armhf-bookworm
	$(PYTEST) tests/qemu
	PYTHONPATH=tests:cross-build $(PYTHON) -m qemu.figures

qemu-short: setup # what CI runs of it: a pod, and the pod again after a reboot without network
	@tools/setup image $(BUILD_DEBS) || { echo "qemu-short: skipped: what it needs cannot be installed here (above)"; exit 0; }; \
	$(MAKE) --no-print-directory qemu-image && $(PYTEST) tests/qemu -m "not slow"

qemu-image: image-qemu-virt-arm64 # the image that tests/qemu boots

qemu-image-armhf: image-qemu-virt-armhf # the same for the 32-bit board, which only the long form boots

lock: setup ## requirements/*.in -> *.txt, with hashes
	tools/lock

clean: ## what was built here, not .venv and not what was downloaded
	rm -rf build dist bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache/stamps/build
	find agent native hub tests bench \( -name __pycache__ -o -name '*.so' \) -prune -exec rm -rf {} +
	find native -name '*.c' -delete

clean-root: ## make test in a fresh Debian: make clean-root [SUITE=trixie] [VERBS="demo test"]
	tools/clean-root --suite $(or $(SUITE),bookworm) $(or $(VERBS),test)
