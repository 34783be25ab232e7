PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Three files at a time, on two cores too: most tests wait for audio at the pace of time.
PARALLEL := --numprocesses 3 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo run test test-long lint types check bench docs deb test-deb system-packages clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## Make .venv and prepare the models
	@$(BIN)/edged models build --precision int8 --if-missing

demo: install  ## Let the daemon hear a recording, with live captions
	@$(BIN)/edged demo

run: install  ## Start the daemon on the microphone
	@$(BIN)/edged run

test: install  ## Run the test suite
	$(BIN)/python -m pytest -m "not long" $(PARALLEL)

test-long: install  ## Run the tests that take minutes
	$(BIN)/python -m pytest -m long --timeout 3600

lint: install  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## Check types
	$(BIN)/mypy

check: test lint types  ## Everything that must hold

bench: install  ## Measure: see bench/README.md
	$(BIN)/python -m bench.accuracy
	$(BIN)/python -m bench.streaming
	$(BIN)/python -m bench.footprint

deb:  ## Build a Debian package (docs/service.md)
	python3 package/build.py

test-deb: install deb  ## Try the package on a Debian of its own, with systemd (root)
	EDGED_TRANSCRIPT=docs/service-test.txt $(BIN)/python -m pytest -m long tests/debian

docs: install  ## Write the reference from the code
	$(BIN)/python docs/generate.py

system-packages:  ## Install the system libraries that a microphone and tests use (root)
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends \
		libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils mosquitto \
		chromium fonts-dejavu-core strace

clean:  ## Remove .venv and caches of tools
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "edged needs Python 3.11 to 3.13. Choose one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing. Run: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[test]'
	@touch $@
