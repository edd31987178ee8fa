# Harmony in Practice.  `make` lists the commands; README.md says more.
# Needs GNU make 3.81 or later, Python 3.11, 3.12 or 3.13, and a package index that pip can reach.

PYTHON ?= python3
# a cell that takes longer has failed; more on a busy machine: make book CELL_SECONDS=600
CELL_SECONDS ?= 120
PY     := .venv/bin/python
PYTEST := $(PY) -m pytest -p tools.grammar
# Two lessons run side by side: one thread each keeps two cores busy and not more. And the last
# digits of a PCA depend on the number of threads, which the hard case of lesson 10 shows.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
# Python keeps what it compiles of the packages, the first time that it imports them
unexport PYTHONDONTWRITEBYTECODE
# written last, when the environment is whole; a learner's has what the lessons need and no more
READY  := .venv/installed
LAB    := $(if $(wildcard $(READY))$(filter-out help clean check my lab bundle,$(MAKECMDGOALS)),$(READY),.venv/lab)
# `make PYTHON=python3.13` beside an environment of another Python makes it anew
VERSION = import sys; print(sys.version_info[:2])
ifneq ($(origin PYTHON),file)
  ifneq ($(wildcard $(PY)),)
    OTHER := $(filter-out $(shell $(PY) -c '$(VERSION)'),$(shell $(PYTHON) -c '$(VERSION)' 2>/dev/null || echo none))
  endif
endif

# An unpacked bundle (make bundle) brings the packages along: no index is asked for them.
FOR := wheels/made_for.txt
ifneq ($(wildcard $(FOR)),)
  export PIP_NO_INDEX := 1
  export PIP_FIND_LINKS := wheels
  export UV_NO_INDEX := 1
  export UV_FIND_LINKS := wheels
endif
SYSTEM = import platform as p, sys; \
    print("Python %d.%d" % sys.version_info[:2], "on", p.system(), p.machine())

# the lessons of the book, so that a copy which lies about is none
LESSONS  := $(sort $(shell sed -n 's|.*file: \(notebooks/[0-9].*\)|\1.ipynb|p' _toc.yml))
EXECUTED := $(patsubst notebooks/%,_build/executed/%,$(LESSONS))
# read by lesson 13 alone
METHODS  := $(wildcard data/methods_*)
# what a lesson's output depends on besides its own text; Jupyter's cache knows none of these
READ     := $(filter-out data/version_matrix.json data/claims_carry.json data/audit_truth.json data/hub_recorded.json data/scale_recorded.json $(METHODS),$(wildcard data/*.h5ad data/*.csv data/*.json))
CAUSES   := notebooks/conftest.py tools/trials.py $(wildcard helpers/*.py helpers/audit/*.py helpers/audit/*.json helpers/audit/templates/*) $(READ) requirements.lock
BOOK     := _build/html/index.html
PAGES    := _config.yml _toc.yml SKILL.md tools/front.py tools/cheatsheet.py $(shell find book data/README.md notebooks/quiz -type f -not -path '*/__pycache__/*' 2>/dev/null)

# two lessons at a time; where make can, the lines of the two do not mix
TWO := -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: help book test lab check my lessons accept exercises tables catalogue teach slides carry truth scale matrix ends format lock bench bundle cheatsheet clean run-lessons
.DELETE_ON_ERROR:

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

book: lessons  ## execute what has changed, build the book, say where it is
	@$(MAKE) --no-print-directory $(BOOK)
	@echo "The book is ready: $(BOOK)"

test: $(READY)  ## everything that must pass: ruff, unit tests, lessons, book
	$(PYTEST) tests -n 2 --dist loadfile --ignore-glob='tests/test_book*'
	@$(MAKE) --no-print-directory book
	$(PYTEST) tests/test_book*.py -n 2
	@echo "Passed: ruff, unit tests, $(words $(LESSONS)) lessons, the book and its pages."

check: $(LAB)  ## a minute: versions, data, Harmony, a figure, "Ready"
	$(PY) -m tools.check

my:  ## copy the lessons without solutions to my/, where git leaves your work alone
	@mkdir -p my
	@for file in notebooks/exercises/*.ipynb; do \
	    test -e my/$${file##*/} || sed 's#](\.\./\.\./#](../#g' $$file > my/$${file##*/} || exit 1; done
	@echo "Your copies are in my/; what was there already is as you left it."

# the lessons themselves, for an author, are one folder up from there, in notebooks/
lab: $(LAB) my  ## open JupyterLab on your copies in my/ (ARGS=... goes to JupyterLab)
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/my $(ARGS)

lessons: $(READY)  ## execute and check every lesson that changed, two at a time
	@$(if $(STALE),rm -f $(STALE))
	@$(MAKE) --no-print-directory -k $(TWO) run-lessons

accept: $(READY)  ## store in notebooks/ the text that the lessons printed last
	$(PY) -m tools.notebooks accept

exercises: $(READY)  ## write notebooks/exercises/ from the lessons
	$(PY) -m tools.notebooks exercises

tables: $(READY)  ## write the tables of book/parameters.md and book/parity.md, the links of book/before_the_day.md, book/carry.md, book/audit_truth.md
	$(PY) -m tools.parameters
	$(PY) -m tools.parity
	$(PY) -m tools.carry page
	$(PY) -m tools.audit_truth page
	$(PY) -m tools.one_minute
	$(PY) -m tools.launch

catalogue: $(READY)  ## write book/troubleshooting.md from lesson 11 and tools/troubleshooting.md
	$(PY) -m tools.troubleshooting

teach: lessons  ## write plans and tables of book/teach.md from tools/workshop.yml and the lessons
	$(PY) -m tools.teach

slides: lessons  ## the slides of a workshop from the executed lessons: _build/slides/index.html
	$(PY) -m tools.slides

carry: $(READY)  ## measure how far the general claims carry, half an hour, and write book/carry.md
	$(PY) -m tools.carry

truth: $(READY)  ## measure how often the audit is right, half an hour, and write book/audit_truth.md
	$(PY) -m tools.audit_truth

scale: $(READY)  ## measure seconds and memory of 100,000 to 1,000,000 cells, half an hour, and write data/scale_recorded.json
	$(PY) -m tools.scale

matrix: $(READY)  ## try other versions of harmonypy and scanpy, write book/versions.md (PAIRS=2.1.0+1.12.4)
	$(PY) -m tools.matrix $(PAIRS) $(if $(JOBS),--jobs $(JOBS))

ends: $(READY)  ## try the oldest and the newest of these pairs, and change nothing
	$(PY) -m tools.matrix --ends $(if $(JOBS),--jobs $(JOBS))

format: $(READY)  ## format Python and notebooks
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bundle: $(LAB)  ## the course with all its packages in one ZIP file, to install without a network
	$(PY) -m tools.bundle

cheatsheet: $(READY)  ## two pages for the wall: _build/cheatsheet.pdf
	$(PY) -m tools.cheatsheet

lock: $(READY)  ## resolve pyproject.toml again (UPGRADE=--upgrade for the newest versions)
	@$(call RESOLVE,course,requirements.lock) $(UPGRADE)
	@$(call RESOLVE,lab,requirements-lab.lock) --constraint requirements.lock
	$(PY) -m tools.environment

# an extra of pyproject.toml, and the file that locks it
RESOLVE = .venv/bin/uv pip compile pyproject.toml --extra $(1) --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
    --quiet --output-file $(2)

bench: $(READY)  ## time the helpers against other implementations
	@for file in tools/bench/*.py; do $(PY) -m tools.bench.$$(basename $$file .py) || exit 1; done

clean:  ## remove all that make has made
	rm -rf _build .venv *.egg-info

# Executed copies of lessons that are gone would find no place in the book; and a copy of a lesson
# that was skipped, in whole or in part, for want of R or of files is made again once these are there.
STALE := $(filter-out $(EXECUTED),$(wildcard _build/executed/*.ipynb)) \
         $(if $(shell command -v Rscript 2>/dev/null),$(shell grep -ls '"not-executed"' _build/executed/*.ipynb)) \
         $(if $(HARMONY_COURSE_DATA),$(shell grep -ls '"partly-executed"' _build/executed/*.ipynb))

run-lessons: $(EXECUTED)
	@echo "$(words $(LESSONS)) lessons are executed and checked: _build/executed/"
	@grep -ls '"not-executed"' $(EXECUTED) | sed 's/$$/ is not: R with Seurat is not installed/'
	@grep -ls '"partly-executed"' $(EXECUTED) | sed 's/$$/ is in part: its files were not fetched/'

# One run serves the tests and the book: nbval compares, notebooks/conftest.py keeps.  Other plugins
# of pytest, some of which come with the packages, would cost each lesson seconds.
_build/executed/%.ipynb: notebooks/%.ipynb tests/exercises/%.py $(CAUSES) $(READY)
	@PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(PYTEST) -p nbval.plugin --nbval --nbval-current-env \
	    --nbval-cell-timeout=$(CELL_SECONDS) -q -rfs -p no:cacheprovider $<

_build/executed/13_choose_a_method.ipynb: $(METHODS)
_build/executed/15_scale_up.ipynb: data/scale_recorded.json

$(BOOK): $(EXECUTED) $(PAGES) $(READY)
	$(PY) book/build.py

# The environment is made from nothing whenever the lock changes: ten seconds once the packages
# are cached, and never a leftover.  uv is several times faster than pip; where uv cannot reach
# the package index (it does not read pip's settings), pip installs the same files.
$(READY): requirements.lock $(if $(OTHER),other-python)
	@$(call INSTALL,requirements.lock)
	@touch $@

.venv/lab: requirements-lab.lock $(if $(OTHER),other-python)
	@$(call INSTALL,requirements-lab.lock)
	@touch $@

.PHONY: other-python
other-python:

define INSTALL
$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
    version=$$($(PYTHON) --version 2>&1) || version="not there"; \
    echo "This course needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is $$version:" \
         "name another one, as in 'make $(or $(MAKECMDGOALS),book) PYTHON=python3.12'." >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
    echo "'$(PYTHON)' lacks the module venv: install it (on Debian and Ubuntu the package python3-venv)" \
         "or name another Python, as in 'make $(or $(MAKECMDGOALS),book) PYTHON=python3.12'." >&2; exit 1; }; \
test ! -e $(FOR) || test "$$($(PYTHON) -c '$(SYSTEM)')" = "$$(cat $(FOR))" || { \
    echo "The packages in wheels/ are for $$(cat $(FOR)), and '$(PYTHON)' is $$($(PYTHON) -c '$(SYSTEM)'):" \
         "name that Python, as in 'make check PYTHON=python3.12', or delete wheels/ to use a network." >&2; exit 1; }; \
$(if $(OTHER),echo "The environment in .venv is of another Python than '$(PYTHON)': it is made anew."; )\
echo "Setting up .venv, once: some $(if $(filter requirements-lab.lock,$(1)),170,230) packages. This takes a minute or more and says little ..."; \
set -e; \
$(PYTHON) -m venv --clear .venv; \
awk '/^uv==/ { on = 1 } on { print } on && !/\\$$/ { exit }' $(1) > .venv/uv.txt; \
$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt; \
.venv/bin/uv pip sync --quiet --python $(PY) --require-hashes $(1) \
    || { echo "uv could not; pip takes over."; \
         $(PY) -m pip install --disable-pip-version-check --require-hashes \
            --progress-bar off -r $(1); }; \
.venv/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
endef
