# Everything a fresh clone needs is Python 3.11+ and make. `make run` and `make test` each do their
# own set-up. VENV can point elsewhere: `make test VENV=~/envs/rocompare`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.installed

.PHONY: run test quick lint docs site check fuzz clean

run: $(READY)  ## train Max of Three and print its table
	$(BIN)/rocompare run max_of_three --results results
	$(BIN)/rocompare table results/max_of_three --reference paper_table1

test: $(READY)  ## all tests, on two processes
	$(BIN)/python -m pytest -n 2

quick: $(READY)  ## the tests that take no time: under a minute
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)  ## make the pages that come from the program and the results, then the site
	$(BIN)/python -m rocompare.cli.pages docs results/reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

site: $(READY)  ## the site as its pages are
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

check: lint test  ## what a change must pass

fuzz: $(READY)  ## thousands of hostile inputs instead of hundreds
	ROCOMPARE_FUZZ=thorough $(BIN)/python -m pytest -n 2 -m fuzz

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info
