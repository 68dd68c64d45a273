# make install   an environment of its own in .venv, mmcv's ops compiled
# make demo      install; train a detector and a segmentor on generated shapes
# make test      install; the tests
# make test-classic, make test-light
#                the same on the other stacks of requirements/stacks, each in an
#                environment of its own: upstream's last releases, and
#                mmpretrain alone beside an mmcv without ops
# make test-hosts
#                install; tests of the host libraries themselves, with KernelDNA
#                for every convolution; HOSTS='...' are arguments of its script
# make test-slow install; whole trainings as well
# make bench     install; how long layers, derivation, building, linking and
#                folding take, beside the times stored last in benchmarks/times
# make coverage  install; the tests, and what lines and branches they reach
# make lint      install; style and types
# make docs      install; the pages of docs as a site, in docs/_build/html

PYTHON ?= $(shell command -v python3.11 || command -v python3)
STACK ?= current
VENV ?= $(if $(filter current,$(STACK)),.venv,.venv-$(STACK))
BIN := $(abspath $(VENV))/bin
PINS := requirements/stacks/$(STACK)
export PATH := $(BIN):$(PATH)

.PHONY: install demo test test-classic test-light test-hosts test-slow bench \
    coverage lint docs

# A build that does not see torch has no ops; pip would keep it for others.
INSTALL_MMCV = $(if $(filter light,$(STACK)),\
    pip install --no-cache-dir -r $(PINS)/mmcv.txt,\
    tools/install_mmcv.sh $(STACK))

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
	$(INSTALL_MMCV)
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

test-classic:
	$(MAKE) test STACK=classic

test-light:
	$(MAKE) test STACK=light

test-hosts: install
	python tests/hosts/run.py $(HOSTS)

test-slow: install
	python -m pytest -n auto $(PYTEST_ARGS)

bench: install
	python -m pytest benchmarks --benchmark-storage=file://benchmarks/times \
	    --benchmark-compare $(PYTEST_ARGS)

# What three commands need besides.
$(addprefix $(VENV)/.,coverage docs lint): $(VENV)/.%: $(VENV)/.installed requirements/%.txt
	pip install -r requirements/$*.txt
	touch $@

coverage: $(VENV)/.coverage
	python -m pytest -n auto -m 'not slow' --cov $(PYTEST_ARGS)

lint: $(VENV)/.lint
	tools/lint.sh

docs: $(VENV)/.docs
	python -m sphinx -q -W --keep-going -c docs . docs/_build/html
