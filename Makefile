# Two commands do everything on a fresh machine: `make compare` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PEERS := .bench-venv
FLOORS := .floors-venv
BESIDE := .beside-venv
# what the tests of `make floors` and `make beside` need; reexpress-sdm asks for numpy 2, which is no floor of ours
TESTS := pytest pytest-xdist hypothesis build hatchling crepes faiss-cpu mapie venn-abers nbclient nbformat ipykernel psutil
QUIET := --disable-pip-version-check -q
# uv does not see the CPU build of torch that some machines carry on disk, pip does; hence pip.
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: compare test check slow bench gpu ray floors beside docs clean

compare: $(VENV)/installed           ## harmful intent, head to head, on the embedded default model
	$(BIN)/theodolite compare harmful-intent

test: $(VENV)/installed check        ## every fast test (tiny models, no network); under 12 minutes
	NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal --ignore tests/guards  # guards: check ran them

check: $(VENV)/installed             ## format, lint, types, guards; under 60 s
	$(BIN)/ruff format --check src tests benchmarks docs/build_api.py
	$(BIN)/ruff check src tests benchmarks docs/build_api.py
	$(BIN)/mypy
	$(BIN)/pytest -n 2 tests/guards

slow: $(VENV)/installed              ## tests on the real default model, simulations, the full tables of steering (days on 2 cores)
	$(BIN)/pytest -m slow
	for name in sentiment past-tense french; do $(BIN)/theodolite compare steer/$$name --full || exit 1; done  # goes on where it was stopped

gpu:                                 ## tests on CUDA; uses the python on PATH, which must have torch with CUDA
	PYTHONPATH=src $(PYTHON) -m pytest -m gpu tests/gpu -s
	PYTHONPATH=src $(PYTHON) benchmarks/gpu.py

ray: $(VENV)/installed               ## tests of the engine ray; installs Ray, which `dev` leaves out, so it needs the network
	$(PIP) -e '.[ray]'
	$(BIN)/pytest tests/study/test_ray_engine.py

floors: $(FLOORS)/installed          ## every fast test on the lowest versions of pyproject.toml; needs the network
	NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 $(FLOORS)/bin/python -m pytest -n 2 --dist worksteal --ignore tests/guards

beside: $(BESIDE)/installed          ## imports and tests beside sae-lens, transformer-lens, nnsight, repeng; needs the network
	$(BESIDE)/bin/python -m pip check
	$(BESIDE)/bin/python -W ignore -c "import theodolite, nnsight, sae_lens, transformer_lens"
	PYTHONPATH=$(BESIDE)/peers NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BESIDE)/bin/python -m pytest -n 2 tests/models tests/dictionaries/formats tests/control/test_exports.py tests/control/test_imports.py

bench: $(VENV)/installed $(PEERS)/installed   ## speed, and other libraries beside ours; hours on 2 cores
	mkdir -p build
	$(BIN)/python benchmarks/readers.py
	$(BIN)/python benchmarks/harvest.py
	$(BIN)/python benchmarks/steer.py
	$(BIN)/python benchmarks/refusal_rate.py
	$(BIN)/python benchmarks/sae_recovery.py --json build/sae_recovery.json
	$(BIN)/python benchmarks/calibration.py --json build/calibration.json
	$(BIN)/python benchmarks/coverage_rates.py --json build/coverage.json
	$(BIN)/python benchmarks/rows.py build/rows.safetensors --rows 500000
	PYTHONPATH=src $(PEERS)/bin/python benchmarks/peer_formats.py
	PYTHONPATH=src $(PEERS)/bin/python benchmarks/stacked.py
	PYTHONPATH=src $(PEERS)/bin/python benchmarks/sae_step.py build/rows.safetensors --json build/sae_step.json
	PYTHONPATH=src $(PEERS)/bin/python benchmarks/sae_quality.py build/rows.safetensors --json build/sae_quality.json

docs:                                ## the API reference, docs/api/*.md, from docstrings; needs no installed package
	$(PYTHON) docs/build_api.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	touch $@

$(PEERS)/installed: benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -q torch==2.13.0
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -q torch==2.13.0 -r benchmarks/requirements.txt
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -q --no-deps dictionary-learning==0.1.0
	touch $@

# torch first and alone, so that the build that a machine carries is taken; then everything in one answer of pip
$(FLOORS)/installed: pyproject.toml constraints-floors.txt
	$(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python -m pip install $(QUIET) torch==2.13.0
	$(FLOORS)/bin/python -m pip install $(QUIET) -c constraints-floors.txt $(TESTS) -e .
	$(FLOORS)/bin/python -m pip install $(QUIET) --no-deps reexpress-sdm
	touch $@

# two peers in a folder of their own: they ask for NumPy 1 and Transformers 4, and run with what is here
$(BESIDE)/installed: pyproject.toml benchmarks/beside.txt
	$(PYTHON) -m venv $(BESIDE)
	$(BESIDE)/bin/python -m pip install $(QUIET) torch==2.13.0
	$(BESIDE)/bin/python -m pip install $(QUIET) torch==2.13.0 $(TESTS) -r benchmarks/beside.txt -e .
	$(BESIDE)/bin/python -m pip install $(QUIET) --no-deps --target $(BESIDE)/peers repeng steering-vectors
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(FLOORS) $(BESIDE) dist build docs/api
