#!/usr/bin/env bash
# Instruction tuning by full fine-tuning: one array task for each number of epochs.
#
#     . slurm/env.sh && sbatch slurm/ift_full.sh
#
# SETTING (default ift_code), SCALE (paper), SEEDS (1) and RUNS (runs) are taken from the environment; another scale
# or more seeds have another number of grid points, and --array says which. Logs lie in each run's own folder.
#SBATCH --job-name=ift_full
#SBATCH --array=0-4
#SBATCH --nodes=2
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
#SBATCH --output=slurm/logs/%x-%A_%a.out
# shellcheck source=slurm/launch.sh
. "$SLURM_SUBMIT_DIR/slurm/launch.sh"
everywhere python -m experiments run "${SETTING:-ift_code}" --scale "$SCALE" --seeds "$SEEDS" --runs "$RUNS" \
    --method full --index "$SLURM_ARRAY_TASK_ID" --no-eval
