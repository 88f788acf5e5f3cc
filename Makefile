# Everything a fresh clone needs is Python 3.11+ and make. `make run` and `make test` each do their
# own set-up. VENV can point elsewhere: `make test VENV=~/envs/rocompare`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.installed

.PHONY: run test check clean

run: $(READY)
	$(BIN)/rocompare run suites/max_of_three.yaml --results results
	$(BIN)/rocompare table results/max_of_three

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info
