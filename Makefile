# Each target works alone as the first command on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test bench docs lint clean
export HF_HUB_OFFLINE = 1
# Commands that tests and the demo start are quicker where an earlier one left compiled code, whatever the shell says of that.
export PYTHONDONTWRITEBYTECODE =

# torch comes first and alone, so that its exact pin decides which build is taken.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	rm -rf examples/credit/out
	$(BIN)/affidavit approver new rita-risk --out examples/credit/out/keys/rita-risk.pem
	$(BIN)/affidavit approver new carl-compliance --out examples/credit/out/keys/carl-compliance.pem
	$(BIN)/affidavit run examples/credit/project.yaml

# Two test processes with a thread each are quicker than two that share the cores. Files stay in the order of their folders, which has the
# long ones first, so that both processes end at about the same time.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

# The site goes to site/ and opens from there without a server. What the pages show is run by `make test`.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sdk governance
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) site examples/credit/out
