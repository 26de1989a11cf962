#!/usr/bin/env bash
# Score what a training script has trained: the same grid, point by point, on one node.
#
#     . slurm/env.sh && METHOD=lora sbatch --array=0-2 slurm/eval.sh
#
# SETTING (default cpt_code), METHOD (lora, full; default both), SCALE (paper), SEEDS (1) and RUNS (runs) are taken
# from the environment. Point 0 scores the base too. What is scored already is not asked again.
#SBATCH --job-name=eval
#SBATCH --array=0-3
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
#SBATCH --output=slurm/logs/%x-%A_%a.out
# shellcheck source=slurm/launch.sh
. "$SLURM_SUBMIT_DIR/slurm/launch.sh"
step --ntasks=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" python -m experiments evaluate "${SETTING:-cpt_code}" \
    --scale "$SCALE" --seeds "$SEEDS" --runs "$RUNS" ${METHOD:+--method "$METHOD"} --index "$SLURM_ARRAY_TASK_ID"
