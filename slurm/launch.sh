# Sourced by the scripts of this folder: where the ranks meet, and what becomes of the job when the step has ended.
# shellcheck shell=bash
cd "${SLURM_SUBMIT_DIR:?submit with sbatch, from the root of the repository}" || exit
# shellcheck source=slurm/env.sh
. slurm/env.sh
export SCALE="${SCALE:-paper}" SEEDS="${SEEDS:-1}" RUNS="${RUNS:-runs}" PYTHONUNBUFFERED=1
# Names of nodes need not resolve: the address comes from Slurm. Jobs that share a node differ in their port.
MASTER_ADDR=$(scontrol show node -o "$SLURMD_NODENAME" | grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 30000))
ranks=${SLURM_GPUS_ON_NODE:-1} # on each node
cpus=$((SLURM_CPUS_ON_NODE > ranks ? SLURM_CPUS_ON_NODE / ranks : 1)) # for each rank
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$cpus}"

# A step that leaves early (exit status 75) has saved its state: the job goes back into the queue and continues there.
# One that was cancelled, or that Slurm puts back itself, is no longer RUNNING and is left alone.
# SIGTERM comes to this shell too, which must outlive the step. When a rank ends, the others have a minute to follow:
# time to write down why, and no hanging in a collective for ever.
step() {
    srun --kill-on-bad-exit=0 --wait=60 "$@" &
    local child=$!
    trap : TERM
    while kill -0 "$child" 2>/dev/null; do wait "$child"; done
    wait "$child" # again: a trap may have cut the one before short
    local status=$?
    if [ "$status" = 75 ] && scontrol show job -o "$SLURM_JOB_ID" | grep -q 'JobState=RUNNING'; then
        exec scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$status"
}

everywhere() { step --ntasks-per-node="$ranks" --cpus-per-task="$cpus" "$@"; }
