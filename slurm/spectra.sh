#!/usr/bin/env bash
# Rank and singular values of what training changed, of every scored run.
#
#     . slurm/env.sh && sbatch slurm/spectra.sh
#
# SCALE (default paper) and RUNS (runs) are taken from the environment; rows go to RUNS/results and RUNS/analysis.
#SBATCH --job-name=spectra
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
python -m analysis.spectra --scale "$SCALE" --runs "$RUNS" --results "$RUNS/results" --out "$RUNS/analysis"
