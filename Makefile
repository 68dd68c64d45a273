# make install   an environment of its own in .venv, mmcv's ops compiled
# make demo      install; train a detector and a segmentor on generated shapes
# make test      install; the tests
# make test-classic, make test-light
#                the same on the other stacks of requirements/stacks, each in an
#                environment of its own: upstream's last releases, and
#                mmpretrain alone beside an mmcv without ops
# make test-slow install; whole trainings as well
# make bench     install; how long layers, derivation, building, linking and
#                folding take, beside the times stored last in benchmarks/times
# make lint      install; style and types
# make docs      install; the pages of docs as a site, in docs/_build/html

PYTHON ?= $(shell command -v python3.11 || command -v python3)
STACK ?= current
VENV ?= $(if $(filter current,$(STACK)),.venv,.venv-$(STACK))
BIN := $(abspath $(VENV))/bin
PINS := requirements/stacks/$(STACK)
export PATH := $(BIN):$(PATH)
# As mmcv's own set-up reads it.
export MMCV_WITH_OPS := $(if $(filter light,$(STACK)),0,1)

.PHONY: install demo test test-classic test-light test-slow bench lint docs

install: $(VENV)/.installed

# What a stack pins holds in every step.
$(VENV)/.%: export PIP_CONSTRAINT = $(abspath $(wildcard $(PINS)/*.txt))

# A step leaves a file behind when it is done, so that what was interrupted
# goes on there.
$(VENV)/.made:
	$(PYTHON) requirements/check_machine.py $(STACK) $(VENV)
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.build: $(VENV)/.made $(PINS)/build.txt
	pip install -r $(PINS)/build.txt
	touch $@

$(VENV)/.torch: $(VENV)/.build $(PINS)/torch.txt
	pip install -r $(PINS)/torch.txt
	touch $@

$(VENV)/.mmcv: $(VENV)/.torch $(PINS)/mmcv.txt
	tools/install_mmcv.sh $(STACK)
	touch $@

$(VENV)/.openmmlab: $(VENV)/.mmcv $(PINS)/openmmlab.txt
	pip install --no-build-isolation -r $(PINS)/openmmlab.txt
	touch $@

$(VENV)/.installed: $(VENV)/.openmmlab setup.py $(wildcard requirements/*.txt)
	pip install --no-build-isolation -e '.[deploy,tests]'
	# Of the two cv2 that these pull in, the one without a window.
	pip uninstall --yes opencv-python
	pip install --force-reinstall --no-deps -r $(PINS)/opencv.txt
	touch $@

demo: install
	python tools/demo.py

test: install
	python -m pytest -n auto -m 'not slow' $(PYTEST_ARGS)

test-classic test-light: test-%:
	$(MAKE) test STACK=$*

test-slow: install
	python -m pytest -n auto $(PYTEST_ARGS)

bench: install
	python -m pytest benchmarks --benchmark-storage=file://benchmarks/times \
	    --benchmark-compare $(PYTEST_ARGS)

# What two commands need besides.
$(VENV)/.docs $(VENV)/.lint: $(VENV)/.%: $(VENV)/.installed requirements/%.txt
	pip install -r requirements/$*.txt
	touch $@

lint: $(VENV)/.lint
	tools/lint.sh

docs: $(VENV)/.docs
	python -m sphinx -q -W --keep-going -c docs . docs/_build/html
