PYTHON ?= python3
PORT ?= 8001

VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATASETTE_1 := $(VENV)/datasette-1
# Which tests to run, such as ARGS="tests/web -k upload"; empty means all.
ARGS =
# Two files of tests at a time: a test often waits for what it has started.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
LOWEST := .venvs/lowest
# The tests that use Datasette, which run on both of its release lines.
WITH_DATASETTE := tests/web tests/database/test_hostile_programs.py \
    tests/publish/test_published_pages.py
# Pages with generated parts: tests/support/readme.py makes them.
DOCS := README.md $(wildcard docs/*.md)
COG := $(BIN)/cog -I tests -p "from support import readme"
DEMO_SQL := select rank, path, round(score, 3) as score from clip_search('dog on beach', 5)

.DELETE_ON_ERROR:
.PHONY: demo test test-stable test-alpha quick lowest lint format docs check-python

# From a fresh clone to a search page: install, embed the demo's pictures, search, serve.
demo: $(VENV)/.installed
	$(BIN)/sqlite-utils embed-images demo/demo.db demo/pictures --model demo --pretrained demo/model
	$(BIN)/sqlite-utils demo/demo.db "$(DEMO_SQL)" --table
	@echo
	@echo "The search page: http://127.0.0.1:$(PORT)/-/clip-search/demo?q=dog+on+beach"
	$(BIN)/datasette demo/demo.db --port $(PORT)

# Test the whole project from a fresh clone, on both lines of Datasette. With ARGS, run only those
# tests, on the stable line.
ifeq ($(strip $(ARGS)),)
test: lint test-stable test-alpha
else
test: $(VENV)/.installed-test $(VENV)/.browser
	$(BIN)/python -m pytest $(ARGS)
endif

test-stable: $(VENV)/.installed-test $(VENV)/.browser
	$(PYTEST)

test-alpha: $(DATASETTE_1)/.installed $(VENV)/.browser
	PYTHONPATH=$(DATASETTE_1) $(PYTEST) $(WITH_DATASETTE)

# The fast tests that need neither PyTorch nor a browser, to run after every change.
quick: $(VENV)/.installed-quick
	$(BIN)/python -m pytest --quick --numprocesses 2 --dist loadscope $(ARGS)

# Run the suite on the lowest versions that pyproject.toml allows, in an environment of its own.
lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(COG) --check $(DOCS)

format: $(VENV)/.installed-quick
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Regenerate the generated parts of the documentation.
docs: $(VENV)/.installed-test
	$(COG) -r $(DOCS)

$(BIN)/python: | check-python
	@$(PYTHON) -m venv $(VENV)

check-python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	    { echo "Python 3.11 or later is needed; name one with: make PYTHON=python3.13 demo"; exit 1; }

# Install without PyTorch, which the demo's model does not need.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV), with PyTorch and what the tests need: this takes some minutes"
	@$(PIP) --editable '.[embed,test]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-quick

$(VENV)/.installed-quick: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) what the quick tests need, which is not PyTorch"
	@$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(LOWEST)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing the lowest versions into $(LOWEST), an old PyTorch among them"
	@$(PIP) uv
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	@$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
	    --editable '.[embed,test]'
	@touch $@

# Install the alpha of Datasette 1.0 beside the environment's stable release.
$(DATASETTE_1)/.installed: $(VENV)/.installed-test
	@echo "Installing Datasette 1.0's alpha beside it"
	@rm -rf $(DATASETTE_1)
	@$(PIP) --target $(DATASETTE_1) datasette==1.0a41
	@touch $@

# Use the system's Chromium, else Debian's package, else playwright's own.
$(VENV)/.browser: $(VENV)/.installed-test
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	    { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	    $(BIN)/playwright install chromium
	@touch $@
