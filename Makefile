# make demo: fit the published tables and print three patients' risks.  make test: lint, types, all but slow tests.
# Everything is installed into .venv, with the versions in constraints.txt.

PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
VENV := .venv
PY := $(VENV)/bin/python
AEMODEL := $(VENV)/bin/aemodel
comma := ,
# Tests marked as one group share a process, and what it has compiled.
PYTEST := $(PY) -m pytest -q -n 2 --dist loadgroup
# Where Python may not write bytecode, every process compiles all that it imports anew: ten seconds for a fit.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test slow durations lint fit notebooks docs examples validate bench clean
.NOTPARALLEL:

demo: $(VENV)/.installed-fit
	$(AEMODEL) tables aall1331
	$(AEMODEL) fit aall1331 --out build/aall1331 --seed 1
	$(AEMODEL) check build/aall1331
	$(AEMODEL) score build/aall1331 notebooks/patients.csv

test: lint
	$(PYTEST) -m "not slow"

# What `make test` leaves out: fits, a thousand attacks, pages and notebooks that fit.
slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow

# How long tests take: what is to be marked slow next.
durations: $(VENV)/.installed-dev
	$(PYTEST) --durations=100 | sed -n '/slowest/,$$p' > tests/durations.txt

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check --quiet .
	$(PY) -m ruff format --check --quiet .
	$(PY) -m mypy

# The shipped model, made again.
fit: $(VENV)/.installed-fit
	$(AEMODEL) fit aall1331 --out models/aall1331 --seed 1 --refits 40

# Every notebook run again, in place.
notebooks: $(VENV)/.installed-dev
	$(PY) notebooks/build.py

# The documentation, into build/docs; a warning is an error.
docs: $(VENV)/.installed-docs
	$(PY) -m sphinx -q -W --keep-going -d build/doctrees docs build/docs

# All output shown in notebooks, README and docs, renewed: after the shipped model has been fitted again.
examples: notebooks
	$(PY) -m tests.pages

# The tests of the experiments in validation/, slow ones too; docs/validation.md says how the experiments themselves are run.
validate: $(VENV)/.installed-dev
	$(PYTEST) validation

# Every figure that pages quote, into benchmarks/RESULTS.md: on a machine with nothing else to do.
bench: $(VENV)/.installed-bench
	$(PY) -m benchmarks

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find aemodel tests validation benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A half-made environment would pass for a whole one the next time.
$(PY):
	@echo "Creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# $(call install,extras): uv is several times faster than pip, which serves where uv is not to be had.
define install
@echo "Installing aemodel[$(1)] into $(VENV)"
@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt uv || true
@if $(PY) -m uv --version >/dev/null 2>&1 \
	&& $(PY) -m uv pip install --quiet --python $(PY) -c constraints.txt -b constraints.txt -e '.[$(1)]'; then :; \
else \
	echo "Installing with pip"; \
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(1)]'; \
fi
endef

$(VENV)/.installed-fit: pyproject.toml constraints.txt | $(PY)
	$(call install,fit)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(PY)
	$(call install,fit$(comma)dev)
	@touch $@ $(VENV)/.installed-fit

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(PY)
	$(call install,fit$(comma)docs)
	@touch $@ $(VENV)/.installed-fit

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(PY)
	$(call install,fit$(comma)bench)
	@touch $@ $(VENV)/.installed-fit
