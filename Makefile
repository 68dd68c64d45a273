# make install   an environment of its own in .venv, mmcv's ops compiled
# make demo      install; train a detector and a segmentor on generated shapes
# make test      install; the tests
# make test-slow install; whole trainings as well
# make lint      install; style

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/.installed
export PATH := $(BIN):$(PATH)

.PHONY: install demo test test-slow lint

install: $(INSTALLED)

$(INSTALLED): setup.py $(wildcard requirements/*.txt requirements/stack/*.txt)
	$(PYTHON) -m venv $(VENV)
	pip install -r requirements/stack/build.txt
	pip install -r requirements/stack/torch.txt
	tools/install_mmcv.sh
	pip install --no-build-isolation -r requirements/stack/openmmlab.txt
	pip install --no-build-isolation -e '.[deploy,det,lint,pretrain,seg,tests]'
	# Of the two cv2 that these pull in, the one without a window.
	pip uninstall --yes opencv-python
	pip install --force-reinstall --no-deps opencv-python-headless==4.12.0.88
	touch $@

demo: install
	python tools/demo.py

test: install
	python -m pytest -m 'not slow' $(PYTEST_ARGS)

test-slow: install
	python -m pytest $(PYTEST_ARGS)

lint: install
	tools/lint.sh
