#!/usr/bin/env bash
# The last link of the chain: collect what was scored, analyse it, draw and judge it; or a whole side study, by its name.
#
#     . slurm/env.sh && sbatch slurm/study.sh
#     . slurm/env.sh && SCALE=desk SEEDS=3 sbatch slurm/study.sh whisper
#
# SCALE (default paper), RUNS (runs) and SEEDS (1) come from the environment; rows go to RUNS/results and RUNS/analysis.
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
side=${1:-}
[ -z "$side" ] || python -m experiments run "$side" --scale "$SCALE" --runs "$RUNS" --seeds "$SEEDS"
python -m experiments collect ${side:+"$side"} --scale "$SCALE" --runs "$RUNS" --into "$RUNS/results" --allow-dirty
judge=(-m analysis)
[ -z "$side" ] || judge=(analysis/sides.py)
python "${judge[@]}" --scale "$SCALE" --runs "$RUNS" --results "$RUNS/results" --out "$RUNS/analysis"
python -m paper_figures ${side:+"side_$side"} --scale "$SCALE" --results "$RUNS/results" --analysis "$RUNS/analysis" --out "$RUNS/figures"
