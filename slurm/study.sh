#!/usr/bin/env bash
# The last link of the chain: collect what was scored, analyse it, draw and judge it.
#
#     . slurm/env.sh && sbatch slurm/study.sh
#
# SCALE (default paper) and RUNS (runs) are taken from the environment; rows go to RUNS/results and RUNS/analysis.
#SBATCH --job-name=study
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm/logs/%x-%j.out
# shellcheck source=slurm/launch.sh
. "$SLURM_SUBMIT_DIR/slurm/launch.sh"
set -e
python -m experiments collect --scale "$SCALE" --runs "$RUNS" --into "$RUNS/results" --allow-dirty
python -m analysis --scale "$SCALE" --runs "$RUNS" --results "$RUNS/results" --out "$RUNS/analysis"
python -m paper_figures --scale "$SCALE" --results "$RUNS/results" --analysis "$RUNS/analysis" --out "$RUNS/figures"
