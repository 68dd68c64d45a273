#!/usr/bin/env bash
# A job of GPUS (8) processes with a GPU each, under slurm:
#   tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments of train.py]
# GPUS_PER_NODE (at most 8), CPUS_PER_TASK (5), SRUN_ARGS in the environment.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "$# arguments are given, expected: $0 PARTITION JOB CONFIG WORK_DIR [arguments of train.py]" >&2
    exit 2
fi
tools=$(dirname "$0")
partition=$1
job=$2
config=$3
work_dir=$4
shift 4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}

# SRUN_ARGS are several words.
# shellcheck disable=SC2086
PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec srun \
    --partition="$partition" \
    --job-name="$job" \
    --ntasks="$gpus" \
    --ntasks-per-node="$per_node" \
    --gres="gpu:$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$tools/train.py" "$config" --work-dir "$work_dir" --launcher slurm "$@"
