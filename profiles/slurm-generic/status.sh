#!/usr/bin/env bash
# What has become of a job, in the words of Snakemake's generic cluster executor.
set -euo pipefail
state=$(squeue --noheader --states=all --jobs="$1" --format=%T 2>/dev/null || true)
if [ -z "$state" ]; then  # squeue has forgotten it
    state=$(sacct --noheader --parsable2 --allocations --jobs="$1" --format=State 2>/dev/null || true)
fi
case $state in
    COMPLETED*) echo success ;;
    PENDING* | CONFIGURING* | RUNNING* | COMPLETING* | SUSPENDED* | REQUEUE* | PREEMPTED* | RESIZING* | STAGE_OUT* | SIGNALING*) echo running ;;
    *) echo failed ;;
esac
