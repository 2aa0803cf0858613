#!/bin/bash
# Training on a cluster of GPUs under SLURM, a task for each GPU:
#
#     sbatch deploy/slurm.sh --config configs/base_512.py:base --workdir /shared/runs/base_512 --config.mesh.fsdp=16
#
# The tasks find each other by SLURM's own variables. Run it from the checkout, on a file system that all nodes share.
#SBATCH --job-name=dalle3-jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

# Five minutes before the time is up every task gets SIGTERM: all save the same step and exit with 75.
srun --kill-on-bad-exit=1 python -u train.py "$@"
code=$?

# Stopped in order (75), a lost task (69, 134, 137) or a hang (70): the job goes back into the queue, 20 times at most.
case $code in
    69 | 70 | 75 | 134 | 137)
        if [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
            scontrol requeue "$SLURM_JOB_ID"
        fi
        ;;
esac
exit "$code"
