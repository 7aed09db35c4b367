# Needs Python 3.11 or newer, and make. `make demo` shows the main job, `make tasks` the others, and
# `make test` tests all.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := charlm corpora tests benchmarks docs conftest.py

.PHONY: demo tasks test check fmt docs bench corpora clean

demo: .venv/run-time
	$(BIN)/charlm train corpora/sentences.txt --lines --minutes 3 --out runs/demo --force
	$(BIN)/charlm score --format table "the apple and pear salad" "the apple and pair salad"
	$(BIN)/charlm compare --format table "the apple and pear salad" "the apple and pair salad"
	$(BIN)/charlm sample --prime "Cats" -n 5 --seed 1
	$(BIN)/python corpora/report.py runs/demo

# A process for each core, and one thread in each: the networks are small.
test: .venv/development
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

check: .venv/development
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

fmt: .venv/development
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: .venv/run-time
	$(BIN)/python docs/generate.py

# Each task beside language models, a minute each at most.
tasks: .venv/run-time
	$(BIN)/charlm train corpora/labelled.tsv --task classify --minutes 1 --out runs/opinions --force
	$(BIN)/charlm predict --model runs/opinions --format table "The pie was not at all bland" "The pie was not at all tasty"
	$(BIN)/charlm evaluate --model runs/opinions --format table corpora/labelled.heldout.tsv
	$(BIN)/charlm train corpora/tagged.conll --task tag --minutes 1 --out runs/chunks --force
	$(BIN)/charlm predict --model runs/chunks --format table "Eva's cat slept in the kitchen"
	$(BIN)/charlm evaluate --model runs/chunks --format table corpora/tagged.heldout.conll
	$(BIN)/charlm train corpora/opinions.trees --task tree --minutes 1 --out runs/trees --force
	$(BIN)/charlm predict --model runs/trees --format table "(x (x The pie) was (x not at all (x bland)))"
	$(BIN)/charlm evaluate --model runs/trees --format table corpora/opinions.heldout.trees
	$(BIN)/charlm train corpora/numbers.tsv --task seq2seq --target-level word --minutes 1 --out runs/numbers --force
	$(BIN)/charlm predict --model runs/numbers --format table 40312 7 90210
	$(BIN)/charlm evaluate --model runs/numbers --format table corpora/numbers.heldout.tsv

bench: .venv/run-time
	$(BIN)/python -m benchmarks.speed $(ARGS)

corpora: .venv/run-time
	$(BIN)/python corpora/generate.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# torch is pinned here, so that a machine without a GPU gets the build for CPUs where there is one.
.venv/run-time: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "charlm needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/development: .venv/run-time
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
