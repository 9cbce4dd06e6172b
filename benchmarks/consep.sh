#!/bin/sh
# OSAL-ND against Random and COUNT_ALL on CoNSeP, seeds 0 1 2; benchmarks/README.md says how to prepare the data.
#   benchmarks/consep.sh [JOBS [OPTIONS OF train_al.py]]     e.g. benchmarks/consep.sh 2 MODEL.DEVICE cpu
# Every cell resumes where it stopped, so the same command goes on another day.
set -eu
export MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_THRESHOLD_=4000000000 # fewer page faults on a CPU
jobs=${1:-1}
[ $# -gt 0 ] && shift
for seed in 0 1 2; do
  for strategy in osal_nd count_all random; do
    echo "$seed $strategy"
  done
done | xargs -P "$jobs" -L 1 sh -c '
  seed=$1 strategy=$2
  shift 2
  out=output/consep/${strategy}_seed$seed
  mkdir -p "$out"
  python tools/train_al.py --config-file configs/CoNSeP/$strategy.yaml --resume \
    OUTPUT_DIR "$out" OSAL.SEED "$seed" '"$*"' > "$out/console.txt" 2>&1 && echo "done: $out"
' sh
