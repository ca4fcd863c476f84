# Two commands for a new machine: make demo, make test. Both create an environment in .venv.
PYTHON ?= $(shell command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: env demo map docs viewer test test-all test-random test-peers check fmt lock bench-env bench gpu clean

env: $(VENV)/.ready

$(VENV)/.ready: requirements.txt pyproject.toml lulcbench/_native/_pixels.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || \
	  { echo "lulcbench needs Python >= 3.12, $(PYTHON) is older; install it or call make PYTHON=/path/to/python3.12"; exit 2; }
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet uv; }
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# Simulate and build a release; train a UNet and two baselines; predict, score; write one page of results.
DEMO_RUNS := demo demo-majority demo-forest
DEMO_CONFIGS := $(DEMO_RUNS:%=baselines/configs/%.toml)
demo: env
	@echo "demo: simulated scenes -> release -> UNet (247 steps: about 4 minutes on two idle cores) -> predictions -> scores -> one HTML page"
	$(BIN)/python -m builders build builders/recipes/luisa-sim.toml --out demo/luisa-sim --replace
	$(BIN)/python -m baselines train $(DEMO_CONFIGS) --out demo/runs --renew
	$(BIN)/python -m baselines predict $(DEMO_CONFIGS) --out demo/runs
	@for run in $(DEMO_RUNS); do \
	  $(BIN)/lulcbench score demo/runs/$$run/predictions.zip --root demo/luisa-sim --json demo/runs/$$run/scores.json \
	    || exit $$?; done
	@$(BIN)/python -m baselines page $(DEMO_CONFIGS) --out demo/runs --to demo/index.html >/dev/null
	@echo "demo: the page is $(CURDIR)/demo/index.html"

# After 'make demo': map its whole country, also between the splits, with its UNet.
map: env
	@test -f demo/runs/demo/model.json || { echo "map: run 'make demo' first"; exit 2; }
	$(BIN)/python -m builders build builders/recipes/luisa-sim-map.toml --out demo/luisa-sim-map --replace
	$(BIN)/python -m baselines export demo/runs/demo --out demo/model
	$(BIN)/lulcbench map demo/model --root demo/luisa-sim-map --out demo/map --workers $$(nproc) --cog --replace
	$(BIN)/lulcbench view demo/map --labels demo/luisa-sim --out demo/site
	@echo "map: Zarr and STAC in $(CURDIR)/demo/map, GeoTIFFs for a GIS in $(CURDIR)/demo/map/cog"

# One process per core (at most 4), one thread each; slow files first. Freed memory is kept: fresh pages for every large
# array take a tenth of the processor time; compiled modules too, which the many processes of the tests import.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=268435456 MALLOC_MMAP_THRESHOLD_=33554432 $(BIN)/python -m pytest \
  --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: env
	$(PYTEST) -m "not slow"

# Also the tests marked 'slow': killed builds, real browsers, every tutorial and study. Runs in continuous integration.
test-all: env
	$(PYTEST)

# In random order, with other examples of property-based tests. SEED=n repeats a run.
test-random: SEED := $(or $(SEED),$(shell date +%s))
test-random: env
	@echo "test-random: SEED=$(SEED)"
	$(PYTEST) -p randomly -p no:cacheprovider --randomly-seed=$(SEED) --hypothesis-profile=random --hypothesis-seed=$(SEED)

check: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fmt: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documentation site; open site/index.html, without a server.
docs: export NO_MKDOCS_2_WARNING := 1
docs: env
	$(BIN)/python -m mkdocs build --strict --quiet

# Build the viewer of maps again (lulcbench/maps/viewer/static); requires Node.js 20. The result is committed.
APP := lulcbench/maps/viewer/app
viewer:
	cd $(APP) && npm ci --ignore-scripts && npm run check && npm run build

# The groups hold what the packages outside the wheel, the tests and the documentation need (pyproject.toml).
GROUPS := build baselines leaderboard dev docs
lock: env
	$(BIN)/uv pip compile --quiet --python-version 3.12 --generate-hashes --all-extras $(GROUPS:%=--group %) --no-header --upgrade pyproject.toml --output-file requirements.txt

bench-env: env
	test -x .venv-bench/bin/python || $(BIN)/python -m venv .venv-bench
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > .venv-bench/lib/python3.12/site-packages/project.pth
	$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --no-deps -r benchmarks/requirements.txt

# Other tools with the datasets as they are, in an environment of their own (tests/peers/requirements.txt).
test-peers: env
	test -x .venv-peers/bin/python || $(BIN)/python -m venv .venv-peers
	(echo "$(CURDIR)"; $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') > .venv-peers/lib/python3.12/site-packages/project.pth
	$(BIN)/uv pip install --quiet --python .venv-peers/bin/python --no-deps -r tests/peers/requirements.txt
	$(BIN)/uv pip install --quiet --target .venv-peers/terratorch --no-deps -r tests/peers/terratorch.txt
	OMP_NUM_THREADS=1 .venv-peers/bin/python -m pytest tests/peers

bench: bench-env
	.venv-bench/bin/python benchmarks/loader.py

# Resumable: repeat until nothing is left to do.
GPU_MINUTES ?= 25
gpu: env
	$(BIN)/python benchmarks/training.py
	$(BIN)/python -m benchmarks.segmentation
	$(BIN)/python -m baselines gpu --minutes $(GPU_MINUTES)
	$(BIN)/python benchmarks/device.py

clean:
	rm -rf demo runs site build dist .pytest_cache .mypy_cache .ruff_cache
