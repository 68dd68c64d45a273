#!/usr/bin/env bash
# One process per GPU:
#   tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# Where there is no GPU, so many processes on the CPU (but not with SyncBN).
# More machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "$# arguments are given, expected: $0 CONFIG GPUS [arguments of train.py]" >&2
    exit 2
fi
tools=$(dirname "$0")
config=$1
gpus=$2
shift 2

PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$tools/train.py" "$config" --launcher pytorch "$@"
