#!/usr/bin/env bash
# Continued pretraining by LoRA: each rank's trunk and its cooldown branches, one array task a rank.
#
#     . slurm/env.sh && sbatch slurm/cpt_lora.sh
#
# SETTING (default cpt_code), SCALE (paper), SEEDS (1) and RUNS (runs) are taken from the environment; another scale
# or more seeds have another number of grid points, and --array says which. Logs lie in each run's own folder.
#SBATCH --job-name=cpt_lora
#SBATCH --array=0-2
#SBATCH --nodes=2
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
#SBATCH --output=slurm/logs/%x-%A_%a.out
# shellcheck source=slurm/launch.sh
. "$SLURM_SUBMIT_DIR/slurm/launch.sh"
everywhere python -m experiments run "${SETTING:-cpt_code}" --scale "$SCALE" --seeds "$SEEDS" --runs "$RUNS" \
    --method lora --index "$SLURM_ARRAY_TASK_ID" --no-eval
