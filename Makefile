# make demo   install into .venv and train on generated pictures
# make test   install the test extras too, check the style and run every test
# make quick  the same without the tests that are marked slow: some minutes
# make demo PYTHON=python3.13 chooses another Python, VENV=folder another virtual environment.

SHELL := bash
.SHELLFLAGS := -o pipefail -ec
.PHONY: demo test quick install install-test
.DELETE_ON_ERROR:

VENV ?= .venv
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3.10 python3; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

# pip, with only its downloads and what it installs shown
PIP := "$(VENV)/bin/python" -m pip install --disable-pip-version-check --progress-bar off
SHORTER := sed -un '/Downloading .*whl \|Building wheel.*started\|Successfully installed\|Installing collected/{s/^ *//;s/\(.\{100\}\).*/\1…/;p}'

# From Python 3.13 on there is no NumPy of the age that Jittor asks for, and pip would refuse it: see pyproject.toml.
JITTOR := "$(VENV)/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 13))' || exit 0; \
	$(PIP) --no-deps "$$(sed -n 's/^ *"\(jittor==[0-9.]*\);.*/\1/p' pyproject.toml)" | $(SHORTER)

# The first import compiles Jittor's core; that belongs to the installation, and so does knowing that it works here.
CHECK := echo "Compiling Jittor's core, about three minutes, and checking this machine."; "$(VENV)/bin/detr-jittor" doctor

# Two at once, each with the tests of whole files: much of a test is one thread that starts, reads or compiles. The files
# come in the order of tests/conftest.py, the longest first.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

demo: install
	@"$(VENV)/bin/detr-jittor" demo

test: install-test
	@"$(VENV)/bin/ruff" check .
	@"$(VENV)/bin/python" -m pytest $(WORKERS)

quick: install-test
	@"$(VENV)/bin/ruff" check .
	@"$(VENV)/bin/python" -m pytest $(WORKERS) -m "not slow"

install: $(VENV)/installed
install-test: $(VENV)/installed-test

$(VENV)/installed: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing into $(VENV); this takes some minutes."
	@$(PIP) -e . | $(SHORTER)
	@$(JITTOR)
	@$(CHECK)
	@touch "$@"

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing with the test extras into $(VENV); this takes some minutes."
	@$(PIP) -e '.[test]' | $(SHORTER)
	@$(JITTOR)
	@$(CHECK)
	@touch "$@" "$(VENV)/installed"

$(VENV)/bin/pip:
	@fail() { echo "error: $$1" >&2; exit 1; }; \
	chosen="$(PYTHON)"; test -n "$$chosen" || chosen=python3; \
	version=$$("$$chosen" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || \
		fail "$$chosen not found. Run: sudo apt install python3 python3-venv python3-dev"; \
	"$$chosen" -c '$(SUPPORTED)' || fail "$$chosen is Python $$version; Python 3.10 to 3.14 are supported. If this system has \
none of these, run: sudo apt install pipx && pipx run uv python install 3.14, then: make demo PYTHON=\$$(pipx run uv python find 3.14)"; \
	case "$$(realpath -m "$(VENV)")" in *[[:space:]]*) \
		fail "Jittor cannot work in a folder with a space in its path. Use another: make … VENV=$$HOME/detr-venv";; esac; \
	name=python$$version; \
	missing=; \
	command -v g++ >/dev/null || missing="$$missing g++"; \
	"$$chosen" -c 'import venv, ensurepip' 2>/dev/null || missing="$$missing $$name-venv"; \
	"$$chosen" -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(sysconfig.get_path("include") + "/Python.h"))' \
		|| missing="$$missing $$name-dev"; \
	test -z "$$missing" || fail "this machine lacks$$missing. Run: sudo apt install$$missing"; \
	"$$chosen" -m venv "$(VENV)"
