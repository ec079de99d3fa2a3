# The two commands: `make book` and `make test`. Both set up .venv first.
PYTHON ?= python3
WORKERS ?= 2
PY := .venv/bin/python
READY := .venv/complete

.DEFAULT_GOAL := help
.PHONY: help book test test-units test-notebooks test-book lab execute address clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

# `complete` is written last, so that an interrupted set-up goes on where it stopped.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'cnnlib needs Python 3.11 or later; name one: make PYTHON=python3.12'; exit 1; }
	@$(PY) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv .venv || \
	  { echo 'No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv'; exit 1; }
	$(PY) -m pip install --disable-pip-version-check --requirement requirements.txt
	$(PY) -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps --editable .
	@touch $@

# A page that gave a warning must give it again, so the cache of a failed build is dropped.
# One thread: two on cores that are in use wait for each other, and claims took ten times as long to compute.
book: $(READY)  ## build the HTML; shows the committed outputs, trains nothing
	@OMP_NUM_THREADS=1 $(PY) -c 'from jupyter_book.cli.main import main; main()' build . -W -n --keep-going --quiet || \
	  { rm -rf _build/.doctrees; exit 1; }

# One thread a process: so two processes on two cores are fastest.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS)

test: test-units test-notebooks test-book  ## run everything: unit tests, all notebooks, the built pages

test-units: $(READY)
	$(PYTEST) tests --ignore tests/book

# CIFAR-10 once and beforehand: a download of 170 MB is no part of a cell that may take two minutes.
test-notebooks: $(READY)
	@[ -n "$$CNNLIB_DATA" ] || $(PY) -m cnnlib data fetch cifar10 || \
	  echo 'Without CIFAR-10 the notebooks run on its stand-in, Shapes-10.'
	CNNLIB_BUDGET=smoke CNNLIB_STATIC=1 $(PYTEST) notebooks --dist loadscope --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=120 --nbval-sanitize-with tests/nbval.cfg

test-book: book
	$(PYTEST) tests/book

lab: $(READY)  ## JupyterLab on the notebooks
	@$(PY) -m jupyterlab notebooks

execute: $(READY)  ## re-run notebooks (all, or NOTEBOOK=01) and store their outputs
	@PYTHONPATH=book/_ext $(PY) -m cnnbook.execute $(NOTEBOOK)

address: $(READY)  ## write the address in _config.yml wherever a file spells it out
	@PYTHONPATH=book/_ext $(PY) -m cnnbook.address

clean:  ## remove what was built, but not .venv
	rm -rf _build build dist .pytest_cache .hypothesis .ruff_cache
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
