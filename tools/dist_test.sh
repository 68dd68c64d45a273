#!/usr/bin/env bash
# One process per GPU:
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
# Where there is no GPU, so many processes on the CPU (but not with SyncBN).
# More machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "$# arguments are given, expected: $0 CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
    exit 2
fi
tools=$(dirname "$0")
config=$1
checkpoint=$2
gpus=$3
shift 3

PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
