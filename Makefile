# One command each: install, run, test, check, bench. Everything is made below .venv; Debian packages only if missing.

SHELL := /bin/bash
VENV := .venv/bin
# What an engine needs to run, what its tests need beyond that, and what it is measured against.
PACKAGES := conmon crun runc tini nftables iproute2 busybox-static ca-certificates python3-venv
TEST_PACKAGES := docker-registry git skopeo debootstrap apache2-utils openssl prometheus curl procps kmod util-linux containerd xfsprogs erofs-utils nodejs containernetworking-plugins iptables
BENCH_PACKAGES := docker.io iptables podman docker-registry debootstrap
EXAMPLE_PACKAGES := docker.io iptables podman runc curl openssh-client

.PHONY: install deb test-install run down test test-cri examples chaos soak test-needs check dev-needs bench bench-pods protos lock clean help
.DEFAULT_GOAL := install

# Compiled here, because who may not write here, or has PYTHONDONTWRITEBYTECODE set, would compile it all at every start.
install: .venv/.installed ## Install the engine into .venv; with PREFIX=/usr/local [DESTDIR=…] for all users
	@tools/apt-install $(PACKAGES)
	@$(VENV)/python -m compileall -q sampan services cli
	@$(if $(PREFIX),tools/install-tree $(PREFIX) $(DESTDIR))

# Packages are found by paths. setuptools would have an import hook look for them, which every Python process then loads:
# 14 ms of its start, twice as long as the interpreter itself takes.
.venv/.installed: pyproject.toml requirements/lock.txt tools/launcher
	@tools/apt-install $(PACKAGES)
	@test -x $(VENV)/python || { python=$${PYTHON:-$$(tools/find-python)} && "$$python" -m venv .venv; }
	$(VENV)/pip install -q --disable-pip-version-check -r requirements/lock.txt
	$(VENV)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@for file in .venv/lib/python*/site-packages/__editable__.sampan-*.pth; do \
		printf '%s\n' $(CURDIR) $(CURDIR)/services $(CURDIR)/cli > "$$file"; \
	done
	@tools/launcher .venv/bin/sampan $(CURDIR)/.venv/bin/python3 $(CURDIR) $(CURDIR)/services $(CURDIR)/cli
	@touch $@

.venv/.test: requirements/test-lock.txt .venv/.installed
	$(VENV)/pip install -q --disable-pip-version-check -r requirements/test-lock.txt -r requirements/tracing-lock.txt
	@touch $@

.venv/.dev: requirements/dev-lock.txt .venv/.test
	$(VENV)/pip install -q --disable-pip-version-check -r requirements/dev-lock.txt
	@touch $@

run: install ## Start the engine and run a first container
	@tools/first-run

down: ## Stop the engine; containers go on running
	@$(VENV)/sampan down

test-needs: install .venv/.test .venv/.dev
	@tools/apt-install $(TEST_PACKAGES)
	@command -v docker >/dev/null || tools/apt-install 'docker-cli|docker.io'

test: test-needs ## Run every test
	@tools/run-tests

deb: .venv/.installed ## Make a Debian package in dist/
	@tools/make-deb

test-install: test-needs ## Install the wheel and the Debian package, boot a machine with it: some minutes, the Debian mirror
	@SAMPAN_TEST_STRICT=1 $(VENV)/python -m pytest -q tests/install $(ARGS)

test-cri: test-needs ## Have critest validate crid, a kubelet run pods on it, and a cluster of one node: over half an hour with building them, Go
	@SAMPAN_TEST_STRICT=1 $(VENV)/python -m pytest -q tests/cri $(ARGS)

examples: test-needs ## Build and run what is in examples/, with dockerd, BuildKit and podman beside: ten minutes, the Debian mirror, Go
	@tools/apt-install $(EXAMPLE_PACKAGES)
	@SAMPAN_TEST_STRICT=1 $(VENV)/python -m pytest -q tests/examples $(ARGS)

chaos: test-needs ## Clients and random kills for as long as asked: make chaos ARGS='--seed 7 --minutes 12'
	@$(VENV)/python -m tests.chaos.run $(ARGS)

soak: test-needs ## Thousands of execs and lives of containers, then memory, descriptors, files and rows as before
	@$(VENV)/python -m tests.chaos.run.soak $(ARGS)

dev-needs: install .venv/.dev

check: dev-needs ## Format, lint, types, import contracts, stubs; unit and contract tests with warnings as errors
	@tools/check $(ARGS)

bench: test-needs ## Measure beside dockerd and podman: make bench ARGS='--only exec,pull --runs 5'
	@tools/apt-install $(BENCH_PACKAGES)
	@$(VENV)/python -m bench $(ARGS)

bench-pods: test-needs ## Measure pods beside Debian's containerd: make bench-pods ARGS='--runs 15 --pods 100'
	@tools/apt-install runc containerd
	@$(VENV)/python -m bench.pods $(ARGS)

protos: dev-needs ## Generate sampan/api from protos
	@tools/gen-protos

lock: dev-needs ## Pin what .venv has installed
	@$(VENV)/python tools/lock.py

clean: ## Remove what was made here; the engine's data stays
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14
