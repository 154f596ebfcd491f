# Two commands do everything on a fresh machine: `make compare` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# uv does not see the CPU build of torch that some machines carry on disk, pip does; hence pip.
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: compare test check slow bench gpu clean

compare: $(VENV)/installed           ## harmful intent, head to head, on the embedded default model
	$(BIN)/theodolite compare harmful-intent

test: $(VENV)/installed check        ## every fast test (tiny models, no network); under 12 minutes
	NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

check: $(VENV)/installed             ## format, lint, types, guards; under 30 s
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/pytest tests/guards

slow: $(VENV)/installed              ## tests on the real default model and simulations
	$(BIN)/pytest -m slow

gpu:                                 ## tests on CUDA; uses the python on PATH, which must have torch with CUDA
	PYTHONPATH=src $(PYTHON) -m pytest -m gpu tests/gpu -s

bench: $(VENV)/installed             ## speed: each reader, a dictionary step, reading against plain transformers
	$(BIN)/python benchmarks/readers.py
	$(BIN)/python benchmarks/dictionary_step.py
	$(BIN)/python benchmarks/harvest.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) dist build
