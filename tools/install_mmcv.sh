#!/usr/bin/env bash
# Compiles mmcv with its ops against the torch that is installed.
#
# A build that does not see torch has no ops and says nothing; pip keeps that
# wheel, and one built against another torch, in its cache. So the ops are
# loaded to see, and a cached wheel that fails is built anew.
set -euo pipefail
cd "$(dirname "$0")/.."

ops_work() { python -c 'import torch, mmcv._ext'; }

export MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(nproc)}"
pip install --no-build-isolation -r requirements/stack/mmcv.txt
if ! ops_work; then
    pip install --no-build-isolation --no-cache-dir --force-reinstall \
        --no-deps -r requirements/stack/mmcv.txt
    ops_work
fi
