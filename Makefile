# make search: set up and run the main job.   make test: set up and run all checks, but for those of torchvision's networks,
# which bring 5.6 GB: make vision.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/ready
VISION := .venv-vision

.PHONY: search test vision lint types pytest docs benchmark clean

search: $(READY)
	$(BIN)/autoad search

test: lint types pytest

vision: $(VISION)/ready
	$(VISION)/bin/python -m pytest tests/vision

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

pytest: $(READY)
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

docs: $(READY)
	$(BIN)/python docs/generate.py

benchmark: $(READY)
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/pixels.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "AutoAD needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	    || { echo "cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $(READY)

$(VISION)/ready: pyproject.toml constraints.txt constraints-vision.txt
	$(PYTHON) -m venv $(VISION)
	grep -v '^torch==' constraints.txt | cat - constraints-vision.txt > $(VISION)/constraints.txt
	$(VISION)/bin/python -m pip install --quiet --constraint $(VISION)/constraints.txt --editable '.[vision]' pytest
	@touch $(VISION)/ready

clean:
	rm -rf $(VENV) $(VISION) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
