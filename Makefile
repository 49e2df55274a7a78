# One command each; `make help` lists them.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
SPACE_VENV ?= .venv-space
SPACE_PIP = $(SPACE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(SPACE_VENV)/constraints.txt
WORKERS ?= 2
RESOLUTION ?= lowest-direct
RELEASE_VENV ?= .venv-release
UV = $(RELEASE_VENV)/tools/bin/uv
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo report cards test test-common test-slow test-space test-python lint format clean docs
help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,dev]"
	touch $@

setup: $(BIN)/.installed  ## create .venv and install everything, pinned by constraints.txt

demo: setup  ## merge EfficientNet-Lite0 and MiniLM-L6, train on easy-VQA, save, reload, ask
	$(BIN)/python examples/merge_easy_vqa.py --output_dir runs/easy-vqa

# One torch thread a process: two processes on two cores are faster than one process with two threads.
test: setup  ## the fast tests (CPU, no network)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow"

test-common: setup  ## transformers' common model tests, from its source distribution (PyPI), the built wheel, the stand-in Hub, site and notebook
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests/model/common tests/test_wheel.py tests/hub tests/docs

test-slow: setup  ## the tests marked slow
	$(BIN)/python -m pytest -q -m slow

# gradio wants an older Pillow than the rest is pinned to, hence the second environment.
$(SPACE_VENV)/.installed: pyproject.toml constraints.txt constraints-space.txt
	test -x $(SPACE_VENV)/bin/python || $(PYTHON) -m venv $(SPACE_VENV)
	grep -v '^pillow==' constraints.txt > $(SPACE_VENV)/constraints.txt
	$(SPACE_PIP) torch
	$(SPACE_PIP) -c constraints-space.txt -e ".[demo,space]" pytest
	touch $@

test-space: $(SPACE_VENV)/.installed  ## pages in headless Chromium: examples/space (in .venv-space) and the report
	OMP_NUM_THREADS=1 $(SPACE_VENV)/bin/python -m pytest -q -m slow tests/space tests/analysis/test_report_page.py

# Nothing is pinned, unlike elsewhere: uv takes the lowest, or the highest, release of everything that pyproject.toml names, from
# PyPI alone. The package is imported from where it was installed, as src/ is on no path.
test-python:  ## install wheel and sdist with the lowest or highest releases (some GB), run the fast tests: PYTHON=python3.13 RESOLUTION=highest
	rm -rf $(RELEASE_VENV) && $(PYTHON) -m venv $(RELEASE_VENV) && $(PYTHON) -m venv $(RELEASE_VENV)/tools
	$(RELEASE_VENV)/tools/bin/python -m pip install --quiet --disable-pip-version-check build uv
	git archive --prefix=source/ HEAD | tar -x -C $(RELEASE_VENV)
	$(RELEASE_VENV)/tools/bin/python -m build --outdir $(RELEASE_VENV)/dist $(RELEASE_VENV)/source >/dev/null
	$(UV) pip compile --quiet $(RELEASE_VENV)/source/pyproject.toml --extra demo --extra dev --resolution $(RESOLUTION) --only-binary :all: \
		--python $(RELEASE_VENV)/bin/python -o $(RELEASE_VENV)/pins.txt
	$(UV) pip install --quiet --python $(RELEASE_VENV)/bin/python -r $(RELEASE_VENV)/pins.txt
	for file in $(RELEASE_VENV)/dist/*.tar.gz $(RELEASE_VENV)/dist/*.whl; do \
		$(UV) pip install --quiet --python $(RELEASE_VENV)/bin/python --no-deps --reinstall-package otmerge-hf $$file \
		&& $(RELEASE_VENV)/bin/otmerge --help >/dev/null || exit 1; \
	done
	$(UV) pip check --python $(RELEASE_VENV)/bin/python
	cd $(RELEASE_VENV)/source && OMP_NUM_THREADS=1 ../bin/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow"

report: setup  ## rebuild the benchmarks' tables and plots from their finished cells; runs nothing
	$(BIN)/python -m benchmarks report

cards: setup  ## rebuild model_cards/ from committed results; runs nothing
	$(BIN)/python -m benchmarks cards

docs: setup  ## the site of docs/ into site/; fails on a warning, needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: setup  ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup  ## apply ruff's formatting and safe fixes
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:  ## remove build products (keeps runs/)
	rm -rf build dist site src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
