#!/usr/bin/env bash
# What has become of a job, in the words of Snakemake's generic cluster executor. A question that SLURM
# does not answer says nothing of the job: it counts as running, and is asked again.
set -euo pipefail
state=$(squeue --noheader --states=all --jobs="$1" --format=%T 2>&1 | tail -n 1) || case $state in
    *"Invalid job id"*) state= ;;  # squeue has forgotten it
    *) echo running && exit ;;
esac
if [ -z "$state" ]; then
    state=$(sacct --noheader --parsable2 --allocations --jobs="$1" --format=State 2>&1 | tail -n 1) || case $state in
        *"storage is disabled"* | *"not found"*) state= ;;  # no accounting
        *) echo running && exit ;;
    esac
fi
case $state in
    COMPLETED*) echo success ;;
    PENDING* | CONFIGURING* | RUNNING* | COMPLETING* | SUSPENDED* | REQUEUE* | PREEMPTED* | RESIZING* | STAGE_OUT* | SIGNALING*) echo running ;;
    *) echo failed ;;
esac
