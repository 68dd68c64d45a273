# make install   an environment of its own in .venv, mmcv's ops compiled
# make demo      install; train a detector and a segmentor on generated shapes
# make test      install; the tests
# make test-slow install; whole trainings as well
# make bench     install; how long layers, derivation, building, linking and
#                folding take, beside the times stored last in benchmarks/times
# make lint      install; style and types

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
STACK := requirements/stack
export PATH := $(BIN):$(PATH)

.PHONY: install demo test test-slow bench lint

install: $(VENV)/.installed

# A step leaves a file behind when it is done, so that what was interrupted
# goes on there.
$(VENV)/.made:
	$(PYTHON) requirements/check_machine.py $(VENV)
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.build: $(VENV)/.made $(STACK)/build.txt
	pip install -r $(STACK)/build.txt
	touch $@

$(VENV)/.torch: $(VENV)/.build $(STACK)/torch.txt
	pip install -r $(STACK)/torch.txt
	touch $@

$(VENV)/.mmcv: $(VENV)/.torch $(STACK)/mmcv.txt
	tools/install_mmcv.sh
	touch $@

$(VENV)/.openmmlab: $(VENV)/.mmcv $(STACK)/openmmlab.txt
	pip install --no-build-isolation -r $(STACK)/openmmlab.txt
	touch $@

$(VENV)/.installed: $(VENV)/.openmmlab setup.py $(wildcard requirements/*.txt)
	pip install --no-build-isolation -e '.[deploy,det,lint,pretrain,rotate,seg,tests]'
	# Of the two cv2 that these pull in, the one without a window.
	pip uninstall --yes opencv-python
	pip install --force-reinstall --no-deps -r $(STACK)/opencv.txt
	touch $@

demo: install
	python tools/demo.py

test: install
	python -m pytest -n auto -m 'not slow' $(PYTEST_ARGS)

test-slow: install
	python -m pytest -n auto $(PYTEST_ARGS)

bench: install
	python -m pytest benchmarks --benchmark-storage=file://benchmarks/times \
	    --benchmark-compare $(PYTEST_ARGS)

lint: install
	tools/lint.sh

# make docs      install; the pages of docs as a site, in docs/_build/html
DOCS := $(VENV)/.docs

.PHONY: docs

$(DOCS): $(VENV)/.installed requirements/docs.txt
	pip install -r requirements/docs.txt
	touch $@

docs: $(DOCS)
	python -m sphinx -q -W --keep-going -c docs . docs/_build/html
