# One word per task. Every task makes the environment it needs; PYTHON chooses the interpreter.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

.PHONY: run test simulate lint bench etcd3-environment clean

# A member on the standard ports, in ./default.etcd.
run: $(VENV)/ready
	exec $(BIN)/etcd

# The whole suite. What needs Go etcd or old clients says so where it is skipped.
test: $(VENV)/tested etcd3-environment
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# Clusters of five on virtual time: random faults, every checker. SEEDS=50000 START=1000000 for a long night.
SEEDS  ?= 2000
START  ?= 0
simulate: $(VENV)/tested
	$(BIN)/python -m tests.simulation --cluster --members 5 --seeds $(SEEDS) --start $(START) --jobs $(JOBS)

lint: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# petcd beside Go etcd: speed needs the machine for itself.
bench: $(VENV)/tested
	$(BIN)/python benchmarks/scale.py --a go --b petcd

# PyPI's etcd3 can be imported only beside an old protobuf. Its test is skipped where this does not work.
etcd3-environment:
	@test -x .venv-etcd3/bin/python || { \
	    $(PYTHON) -m venv .venv-etcd3 && \
	    .venv-etcd3/bin/pip install --quiet 'etcd3>=0.12' 'protobuf<3.21' 'tenacity<7' setuptools; \
	} || { rm -rf .venv-etcd3; echo "no environment for etcd3: its test will be skipped"; }

$(VENV)/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	$(BIN)/python -m compileall -q src
	touch $@

$(VENV)/tested: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test,lint]'
	touch $@ $(VENV)/ready

clean:
	rm -rf $(VENV) .venv-etcd3 build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
