#!/usr/bin/env bash
# Brings the run that dvc.lock describes from the DVC remote, and tells Snakemake that it is complete.
# Snakemake compares times, and pulled files have arbitrary ones; touching is right only when
# settings, code and outputs are those of dvc.lock, which `dvc status` says.
set -euo pipefail
if [ ! -f dvc.lock ] || ! dvc remote list | grep -q .; then
    echo "pull: there is no run to bring: dvc.lock, which 'dvc repro' writes and a run's owner commits," >&2
    echo "pull: or the DVC remote is missing (docs/workflow.md#remotes). 'make run' makes a run here." >&2
    exit 1
fi
if ! dvc pull; then
    dvc status --cloud || true
    echo "pull: not every file of dvc.lock came. What is called deleted or missing above is not on" >&2
    echo "pull: the remote (docs/workflow.md); 'snakemake --cores all' makes it here." >&2
    exit 1
fi
if ! dvc status -q; then
    dvc status
    # Key files older than what was pulled would vouch for it.
    find results -path 'results/*/params/*.yaml' -exec touch {} +
    echo "pull: settings or code differ from dvc.lock, so what was pulled is not touched." >&2
    echo "pull: run 'dvc repro' (or 'snakemake --cores all') to make what has changed." >&2
    exit 1
fi
snakemake --touch --cores 1 --quiet all -- all phase_policy phase_eval
