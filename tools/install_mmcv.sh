#!/usr/bin/env bash
# Compiles the mmcv of a stack with its ops, against the torch that is
# installed.
#
# Its source stays, with the objects, in a folder of the environment that is
# named after the torch: what was interrupted goes on there, and a wheel that
# pip keeps, built against another torch or without ops, is never taken. A
# build that does not see torch has no ops and says nothing, so they are loaded
# to see.
set -euo pipefail
cd "$(dirname "$0")/.."

stack="$1"
requirements="requirements/stacks/$stack/mmcv.txt"
python requirements/check_machine.py "$stack"
pinned="$(sed -n 's/^[a-z-]*==//p' "$requirements")"
torch="$(python -c 'import torch; print(torch.__version__)')"
prefix="$(python -c 'import sys; print(sys.prefix)')"
folder="$prefix/mmcv-$pinned-torch-$torch"

if [ ! -d "$folder/source" ]; then
    rm -rf "$folder"
    pip download --no-build-isolation --no-deps --no-binary :all: \
        --dest "$folder" -r "$requirements"
    mkdir "$folder/part"
    tar --extract --strip-components 1 --directory "$folder/part" \
        --file "$folder"/*.tar.gz
    mv "$folder/part" "$folder/source"
fi
# pip compiles a folder in place, where ninja finds its objects again. Of the
# commands that this takes, the number and the object are of interest.
short='s|^ *(\[[0-9]+/[0-9]+\]) .*/([^ /]+\.o) .*|\1 \2|'
export MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(nproc)}"
pip install --verbose --no-build-isolation --force-reinstall --no-deps \
    "$folder/source" 2>&1 | sed --unbuffered --regexp-extended \
    "$short; /^ *(adding|copying|creating|hard linking) /d"
pip install --no-build-isolation -r "$requirements"
python -c 'import torch, mmcv._ext'
rm -rf "$folder"
