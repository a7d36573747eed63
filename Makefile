# Every task of the project. `make help` lists them; CI calls the same ones.
# With a virtual environment active that one is used, otherwise .venv is made and used.

PYTHON ?= python3
WORKERS ?= 2
SEEDS ?= 1
SECONDS ?= 3600
DATASET ?= video-games
BUNDLE ?= runs/video-games/bundle
RUNTIME_EXTRAS := train,text,serve,demo
EXTRAS := $(RUNTIME_EXTRAS),image,report,tune,track,qdrant,milvus,pgvector,bench,docs,dev
VENV := $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.twotower-installed
RUNTIME := $(VENV)/.twotower-runtime

SHELL := bash  # braces in the recipe of bench

# One thread per process where the work is small: parallel tests do not compete, threads do not
# spin waiting for each other on a busy machine, and sums keep their order.
test environments docs: export OMP_NUM_THREADS := 1

.PHONY: help install install-runtime quickstart check test environments cluster bench bench-datasets bench-peers bench-serving soak docs package sbom audit clean
.DEFAULT_GOAL := help

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

install: $(INSTALLED) ## Install the package with all it needs for development (once)

# Half of that; where all is installed, nothing more is.
install-runtime: $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(RUNTIME)) ## Install what training, evaluating, serving and the demo need

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, got {v[0]}.{v[1]}; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# A pip of today first: the one that Python brings takes minutes to choose among all wheels.
$(INSTALLED): extras := $(EXTRAS)
$(RUNTIME): extras := $(RUNTIME_EXTRAS)
$(INSTALLED) $(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(extras)]'
	@touch $@

quickstart: install-runtime ## Train, evaluate and recommend on the bundled sample
	$(BIN)/twotower run sample --out runs/sample

check: install ## Lint, format, types, the import contract, tables against results files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m twotower.reporting.markdown --check

test: install ## Run the tests and the doctests
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

environments: install ## Run every command in real environments of the base and of 'serve'
	TWOTOWER_ENVIRONMENTS=1 $(BIN)/pytest tests/extras -k really

cluster: install ## Run the tests on a Ray cluster of two nodes on this machine; installs Ray
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[scale]'
	TWOTOWER_CLUSTER=1 $(BIN)/pytest tests/test_cluster.py

bench: install ## Repeat the committed measurements; TWOTOWER_DATA names the real data
	$(BIN)/python benchmarks/evaluation_speed.py
	$(BIN)/python benchmarks/lightgcn_speed.py
	$(BIN)/python benchmarks/mf_speed.py
	$(BIN)/python benchmarks/prepare_memory.py
	$(BIN)/python benchmarks/gowalla.py
	$(BIN)/python benchmarks/gowalla.py --models graph-filter random-walk "graph-filter chosen" --out benchmarks/results/gowalla-baselines.json
	$(BIN)/python benchmarks/implicit_bpr.py
	$(BIN)/twotower run video-games --seeds 2 --out runs/video-games --json benchmarks/results/video-games-2023.json
	$(BIN)/python benchmarks/trials.py
	$(BIN)/twotower run video-games --model v9 --seeds 3 --out runs/video-games
	$(BIN)/twotower evaluate --data runs/video-games/dataset runs/video-games/models/v9/seed-0 runs/video-games/models/v9/seed-1 runs/video-games/models/v9/seed-2 --rerank --baseline popularity --baseline item-knn --baseline als --protocol full --protocol sampled-100 --json benchmarks/results/v9-video-games-2023.json
	$(BIN)/python benchmarks/v9_trials.py --model runs/video-games/models/v9/seed-0
	$(BIN)/twotower index runs/video-games/models/v9/seed-0 --data runs/video-games/dataset --out runs/video-games/bundle-v9
	OMP_NUM_THREADS=1 $(BIN)/twotower bench index --bundle runs/video-games/bundle-v9 --k 10 --k 1000 --sizes 26354 --sizes 100000 --build-limit 60 --reference benchmarks/results/reference.json --json benchmarks/results/index-v9.json
	$(BIN)/twotower index runs/video-games/models/v5/seed-0 --data runs/video-games/dataset --out runs/video-games/bundle-v5
	OMP_NUM_THREADS=1 $(BIN)/twotower bench index --bundle runs/video-games/bundle-v5 --k 10 --k 1000 --sizes 26354 --sizes 100000 --sizes 1000000 --build-limit 600 --reference benchmarks/results/reference.json --json benchmarks/results/index-v5.json
	OMP_NUM_THREADS=1 $(BIN)/twotower bench index --bundle runs/video-games/bundle-v5 --k 10 --k 1000 --sizes 10000000 --kind exact --kind flat --kind brute-force --kind pq --kind ivf --kind hnsw --build-limit 6000 --json benchmarks/results/index-v5-10m.json
	$(BIN)/python benchmarks/bpr_collapse.py
	$(BIN)/twotower ablate --dataset video-games --out runs/video-games --variant={popularity,item-knn,ease,als,mf,lightgcn} --variant={v1,v4,v5,v8,v9}=3 --variant={v2,v3,v4b,v4c,v4-bpr,v4-bpr-fixed,v5b,v5c,v6,v7} --protocol={full,full-unmasked,sampled-100,cold-start,by-activity,beyond-accuracy} --json benchmarks/results/ablation-video-games-2023.json
	$(BIN)/twotower hold-out --data runs/video-games/dataset --out runs/video-games-new/data
	$(BIN)/twotower ablate --dataset runs/video-games-new/data --out runs/video-games-new --variant={popularity,item-knn,content,als,ease,mf,lightgcn,v5,v9} --protocol=hold-outs --json benchmarks/results/hold-outs-video-games-2023.json
	$(BIN)/twotower ablate --dataset ml-100k --out runs/ml-100k --variant={popularity,item-knn,ease,als,content,mf,lightgcn,v5} --variant=v9=3 --protocol={full,sampled-100,cold-start} --json benchmarks/results/ml-100k.json
	$(BIN)/twotower run ml-100k --split global-time --out runs/ml-100k-global-time --json benchmarks/results/global-time-ml-100k.json
	$(BIN)/twotower prepare ml-100k --out runs/ml-100k-refit/data
	$(BIN)/python benchmarks/refit_worth.py --data runs/ml-100k-refit/data --out runs/ml-100k-refit
	$(BIN)/twotower report benchmarks/results/ablation-video-games-2023.json benchmarks/results/hold-outs-video-games-2023.json --reference benchmarks/results/reference.json --out runs/report.html --picture docs/ablation.svg
	$(BIN)/python -m twotower.reporting.markdown

bench-datasets: install ## The default model on every data set in TWOTOWER_DATA; SEEDS=3 for intervals over seeds
	$(BIN)/python benchmarks/datasets.py --out runs/datasets --seeds $(SEEDS)
	$(BIN)/python -m twotower.reporting.markdown

bench-peers: install ## Other libraries' models on the same split; DATASET=ml-100k for another
	$(BIN)/python benchmarks/peers/run.py --dataset $(DATASET)

bench-serving: install ## The service's speed, load, memory and new items; BUNDLE names the bundle
	$(BIN)/python benchmarks/serving_latency.py --bundle $(BUNDLE)
	$(BIN)/python benchmarks/serving_load.py --bundle $(BUNDLE) --processes 2
	$(BIN)/python benchmarks/serving_large.py --bundle $(BUNDLE)
	$(BIN)/python benchmarks/serving_batch.py --bundle $(BUNDLE)
	$(BIN)/python benchmarks/serving_start.py --bundle $(BUNDLE)
	$(BIN)/python benchmarks/serving_new_items.py --bundle $(BUNDLE)
	$(BIN)/python benchmarks/state_growth.py
	$(BIN)/python benchmarks/demo_speed.py --bundle $(BUNDLE)

soak: install ## A day of the service in an hour, with what goes wrong; SECONDS=60 for the short form
	$(BIN)/python benchmarks/soak.py --seconds $(SECONDS)

docs: install ## Build the site into build/site; check links, doctests, and tables against the results files
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/pytest src tests/test_docs.py
	$(BIN)/python -m twotower.reporting.markdown --check

package: install ## Build the source distribution and the wheel into dist/, and check them
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

build/tools/bin/%: | $(BIN)/python
	$(BIN)/python -m venv build/tools
	build/tools/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom pip-audit

sbom: install build/tools/bin/cyclonedx-py ## Write the software bill of materials into dist/twotower.cdx.json
	mkdir -p dist
	build/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file dist/twotower.cdx.json $(BIN)/python

audit: build/tools/bin/pip-audit ## Look for known vulnerabilities in the pinned packages; needs a vulnerability service
	build/tools/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean: ## Remove caches and build products; .venv and runs stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
