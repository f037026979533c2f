# kylin-gguf-engine. `make help` lists what there is to make; every target does the set-up it needs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
PRESET ?= cpu
PYTEST_ARGS ?=
CASES ?= engine/*
MODELS ?=
ROUNDS ?=
ARCHITECTURES ?= arm64 riscv64
SUITES ?= bookworm trixie

# What the targets below call, and nothing more. libglib2.0-bin has gdbus, the tests' foreign client, and gsettings;
# with libglib2.0-dev and libjson-glib-dev the tests build docs/examples/chat.c. qtbase5-dev, for chat.cpp, would bring
# 75 packages more: its test runs where it is installed.
DEBIAN_PACKAGES := ca-certificates ccache cmake dbus-daemon g++ gettext libglib2.0-bin libglib2.0-dev libjson-glib-dev ninja-build patch python3 python3-dbusmock python3-venv

SOURCES := $(wildcard po/*.po)
CATALOGUES := $(SOURCES:po/%.po=kylin_gguf/locale/%/LC_MESSAGES/kylin-gguf-engine.mo)

# These would send packages elsewhere than to .venv, or have Python read modules from elsewhere.
unexport PIP_USER PIP_TARGET PIP_PREFIX PYTHONHOME PYTHONPATH

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: venv native locale trained ## Convert, serve, chat and command on a real model
	@.venv/bin/python -m bench.demo

.PHONY: bench
bench: venv native locale trained model ## Measure against llama.cpp's own tools (CASES=... MODELS=... ROUNDS=...)
	@.venv/bin/python -m bench run $(CASES:%='%') $(MODELS:%=--model '%') $(ROUNDS:%=--rounds %)
	@.venv/bin/python -m bench report

.PHONY: test
test: venv native locale trained model ## Run the unit, bus and end-to-end tests (PYTEST_ARGS=...)
	@.venv/bin/python -m pytest $(PYTEST_ARGS)

.PHONY: deb
deb: DEBIAN_PACKAGES += dpkg-dev git
deb: venv ## Build the Debian packages in build/deb/ (ARCHITECTURES='arm64 riscv64' besides the own)
	@debian/build-packages build/deb $(ARCHITECTURES)

.PHONY: check-deb
check-deb: DEBIAN_PACKAGES += debootstrap dpkg-dev iproute2 lintian
check-deb: bootstrap ## Check the packages in build/deb/ with lintian, and on bare systems (SUITES=...)
	lintian --fail-on error,warning --suppress-tags bad-distribution-in-changes-file build/deb/*.changes
	$(if $(filter-out 0,$(shell id -u)),sudo) debian/tests/bare-install $(SUITES:%=--suite %) build/deb

.PHONY: lint
lint: venv ## Check style, types, the import table and generated pages
	@# No cache: how an import is sorted depends on which other files there are.
	.venv/bin/ruff check --no-cache .
	.venv/bin/ruff format --no-cache --check .
	.venv/bin/mypy
	.venv/bin/mypy native/build.py bench
	.venv/bin/lint-imports
	.venv/bin/python -m kylin_gguf.bus.document --check
	.venv/bin/python -m kylin_gguf.cli.document --check

.PHONY: fmt
fmt: venv ## Rewrite the code in the project's style
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: native
native: venv ## Build llama.cpp's libraries and tools (PRESET=cpu)
	@.venv/bin/python native/build.py libraries $(PRESET)

.PHONY: model
model: venv ## Get the model that the tests use
	@.venv/bin/kylin-gguf pull smollm2-135m-instruct

.PHONY: venv
venv: bootstrap ## Make the virtual environment .venv
	@mkdir -p build
	@exec 9> build/.venv.lock; flock 9; \
	key=$$( { $(PYTHON) -VV; pwd; cat native/*requirements.txt; $(PYTHON) -c "$$INSTALLED_TABLES"; } | sha256sum ); \
	stamp=.venv/.made-from-$${key:0:16}; \
	if [[ -e $$stamp ]]; then exit; fi; \
	echo "venv: making .venv with $$($(PYTHON) -V)"; \
	$(PYTHON) -m venv --clear .venv; \
	.venv/bin/pip install --quiet --requirement native/build-requirements.txt; \
	.venv/bin/python native/build.py bindings; \
	echo "venv: installing the project's dependencies"; \
	.venv/bin/pip install --quiet --editable '.[dev]'; \
	touch $$stamp

# The parts of pyproject.toml that decide what is installed: other edits need no new environment.
export INSTALLED_TABLES := import tomllib; tables = tomllib.load(open("pyproject.toml", "rb")); \
	print(tables["build-system"], tables["project"], tables["tool"]["setuptools"])

.PHONY: bootstrap
bootstrap: ## Install the Debian packages that are missing (as root or with sudo)
	@command -v dpkg-query > /dev/null || { echo "bootstrap: no Debian system; needed: $(DEBIAN_PACKAGES)"; exit; }; \
	missing=(); \
	for package in $(DEBIAN_PACKAGES); do \
		status=$$(dpkg-query -W -f '$${db:Status-Status}' $$package 2> /dev/null) || true; \
		[[ $$status == installed ]] || missing+=($$package); \
	done; \
	if (( $${#missing[@]} == 0 )); then exit; fi; \
	as_root=(); \
	if (( EUID != 0 )); then as_root=(sudo); fi; \
	echo "bootstrap: installing $${missing[*]}"; \
	"$${as_root[@]}" apt-get update -qq; \
	"$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq --yes --no-install-recommends "$${missing[@]}"

.PHONY: locale
locale: $(CATALOGUES) ## Compile the translations in po/

kylin_gguf/locale/%/LC_MESSAGES/kylin-gguf-engine.mo: po/%.po | bootstrap
	@mkdir -p $(@D)
	@msgfmt --check --output-file=$@ $<

.PHONY: trained
trained: venv ## Learn the examples of the shipped commands
	@.venv/bin/python -m kylin_gguf.actuator.shortlists kylin_gguf/actuator/trained

.PHONY: clean
clean: ## Delete everything that was made here (models and caches outside the checkout stay)
	rm -rf .venv build dist *.egg-info kylin_gguf/locale kylin_gguf/actuator/trained
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
