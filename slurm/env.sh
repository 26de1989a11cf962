# shellcheck shell=bash
# What differs from one cluster to the next, and nothing else. Fill in what yours asks for; every line is optional.
# Read twice: before `sbatch`, which takes the SBATCH_* variables as if they were options (they win over the #SBATCH
# lines of a script, options on the command line win over both), and inside each job, for the software.
#
#     . slurm/env.sh && sbatch slurm/cpt_lora.sh        or        python -m experiments submit study --scale paper
#
# A value that is set already stands, so that one submission can differ: SBATCH_TIMELIMIT=2:00:00 sbatch ...

# --- where and for whom -----------------------------------------------------------------------------------------------
# export SBATCH_PARTITION="${SBATCH_PARTITION:-gpu}"
# export SBATCH_ACCOUNT="${SBATCH_ACCOUNT:-my_project}"
# export SBATCH_QOS="${SBATCH_QOS:-normal}"
# export SBATCH_CONSTRAINT="${SBATCH_CONSTRAINT:-h100}"
# Two minutes before the limit a job saves its state and goes back into the queue: a short limit costs little.
# export SBATCH_TIMELIMIT="${SBATCH_TIMELIMIT:-24:00:00}"

# --- GPUs -------------------------------------------------------------------------------------------------------------
# Jobs take whole nodes, with all their memory and GPUs, and start one process for each GPU; where there is none, one a
# node, on its processors. Say the number only if your site wants it said. How many nodes is an option:
# `sbatch --nodes=4 ...`, `submit --nodes 4`. The global batch stays what it is, on any number of GPUs that divides it.
# export SBATCH_GPUS_PER_NODE="${SBATCH_GPUS_PER_NODE:-8}"

# --- software, inside the job -----------------------------------------------------------------------------------------
# module load cuda/12.8
# export HF_HOME=/scratch/me/hub HF_HUB_OFFLINE=1
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0
if [ -x .venv/bin/python ]; then export PATH="$PWD/.venv/bin:$PATH"; fi
