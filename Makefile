# Each target sets up what it needs in .venv; nothing is installed outside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# On all cores, up to eight; tests of one xdist_group stay together.
PARALLEL := -n logical --maxprocesses 8 --dist loadgroup
READY := $(VENV)/.ready

.PHONY: setup demo test test-distributed test-faults test-all fuzz lint generate generate-check docs targets bench \
	bench-gpu clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $$(grep '^torch==' constraints.txt)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/first-run/demo.sh

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)

# Damaged inputs and random configs, 25 times as many as in the tests. Minutes.
fuzz: $(READY)
	SILOGEN_FUZZ=50000 $(BIN)/python -m pytest $(PARALLEL) tests/compiler/test_fuzz.py tests/compiler/test_targets.py

# Kills a run at twenty random moments, where the tests do so three times. Minutes.
test-faults: $(READY)
	SILOGEN_KILLS=20 $(BIN)/python -m pytest tests/faults

# Runs of several processes, with DeepSpeed: minutes, on two cores. Two at a time: each also waits.
test-distributed: $(VENV)/.deepspeed
	$(BIN)/python -m pytest tests/distributed -n 2 --dist loadgroup

# Every method with every adapter, quantization, template and strategy. Minutes, on two cores.
test-all: $(VENV)/.deepspeed
	$(BIN)/python -m pytest tests/matrix --wide

$(VENV)/.deepspeed: $(READY)
	$(BIN)/pip install -q -c constraints.txt -e '.[deepspeed]'
	touch $@

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

generate docs: $(READY)
	$(BIN)/python -m silogen_docs

generate-check: $(READY)
	$(BIN)/python -m silogen_docs --check

# Rebuilds each target's facts in an environment of its own and fails where they differ from schema/targets.
targets: $(READY)
	$(BIN)/python -m silogen_runtime.check_targets

bench: $(READY)
	$(BIN)/python benchmarks/compile_speed.py
	$(BIN)/python benchmarks/train_speed.py

# Needs a GPU, and says so where there is none; saves its table in benchmarks/results.
bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu_speed.py

clean:
	rm -rf build $(VENV)
