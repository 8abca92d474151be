#!/usr/bin/env bash
# Sets up the virtual environment: the packages of a lock file, `hpro` itself, and the weights that
# it takes as data. Run by `make`, again only when the lock, pyproject.toml or the list of weights
# changed.
#
#   setup.sh [VENV [LOCK]]      .venv and requirements.txt, unless said otherwise
#   PYTHON=python3.12           the Python of a new environment
#   INSTALLER=uv|pip            uv: the one on the PATH, or the pinned one, which pip installs first
#   TORCH=default|cpu           default: what the index has, on Linux with CUDA; cpu: without CUDA
set -euo pipefail
venv=${1:-.venv}
lock=${2:-requirements.txt}
installer=${INSTALLER:-uv}
torch=${TORCH:-default}
oldest_uv=0.9.0   # the oldest that was tried; it has --torch-backend
import_all='import importlib, pkgutil, hpro_core
for module in pkgutil.walk_packages(hpro_core.__path__, "hpro_core."):
    importlib.import_module(module.name)'

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

case $PWD in *:*) fail "the path of this folder has a ':', at which PATH is split: rename it ($PWD)" ;; esac

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

pinned() { # version of a direct dependency: pinned torch
    sed -n "s/^ *\"$1==\([0-9.]*\)\".*/\1/p" pyproject.toml
}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

uv_install() {
    "$uv" pip install --quiet --python "$venv/bin/python" "$@"
}

install_packages() {
    "${installer}_install" "$@"
}

set_up_with() { # TORCH of what is there already; ours where nothing is
    if [ -f "$venv/.torch" ]; then
        cat "$venv/.torch"
    elif compgen -G "$venv/lib/python*/site-packages/torch" >/dev/null; then
        echo default
    else
        echo "$torch"
    fi
}

find_uv() {
    local version
    uv=$(command -v uv || true)
    version=$([ -z "$uv" ] || "$uv" --version 2>/dev/null | cut -d ' ' -f 2)
    if [ "$(printf '%s\n' "$oldest_uv" "${version:-0}" | sort -V | head -1)" != "$oldest_uv" ]; then
        pip_install "uv==$(pinned uv)" || fail "pip cannot install uv: make INSTALLER=pip does without"
        uv=$venv/bin/uv
    fi
    # uv does not read pip's configuration: mirror, certificates, proxy.
    eval "$("$venv/bin/python" -m pip config list | "$venv/bin/python" -m workflow.scripts.uv_options)"
}

# Without CUDA: `+cpu` builds where the user's index has them; else, with uv, from PyTorch's own index.
# Everything else is the lock's, less what only CUDA needs. The lock is complete, so --no-deps.
install_cpu() {
    local builds from=() rest said advice="or run make TORCH=default"
    # An index with torch may have old versions of other packages, at which uv would stop.
    export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match}
    builds=("torch==$(pinned torch)" "torchaudio==$(pinned torchaudio)")
    if said=$(install_packages --dry-run --no-deps "${builds[@]/%/+cpu}" 2>&1); then
        builds=("${builds[@]/%/+cpu}")
    elif [ "$installer" = pip ]; then
        fail "TORCH=cpu: the package index does not give ${builds[*]/%/+cpu}. Name one that does" \
            "(PIP_EXTRA_INDEX_URL=...), $advice. $(tail -1 <<<"$said")"
    elif said=$(uv_install --dry-run --no-deps --torch-backend cpu "${builds[@]}" 2>&1); then
        from=(--torch-backend cpu)
    else
        fail "TORCH=cpu: neither the package index nor PyTorch's own, which uv knows, gives" \
            "${builds[*]/%/+cpu}. Name one that does (UV_INDEX=...), $advice. $(tail -1 <<<"$said")"
    fi
    echo cpu >"$venv/.torch"
    rest=$(mktemp)
    grep -Ev '^(nvidia-|cuda-|triton==|torch==|torchaudio==)' "$lock" >"$rest"
    install_packages --no-deps "${from[@]}" "${builds[@]}" -r "$rest" -e .
    rm -f "$rest"
    said=$("$venv/bin/python" -c 'import torch, torchaudio; print(torch.version.cuda)' 2>&1) || true
    [ "$said" = None ] || fail "TORCH=cpu: the torch or torchaudio that came needs CUDA" \
        "($(tail -1 <<<"$said")). Delete $venv and run make TORCH=default"
}

case $installer in uv | pip) ;; *) fail "INSTALLER is $installer, but may be uv or pip" ;; esac
case $torch in default | cpu) ;; *) fail "TORCH is $torch, but may be default or cpu" ;; esac

if [ ! -x "$venv/bin/python" ]; then
    python=
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if fits "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || fail "Python 3.11, 3.12 or 3.13 is needed. Debian 12 and Ubuntu 24.04 have it:" \
        "apt-get install python3-venv. Where the system's is newer, install one beside it (uv, pyenv," \
        "conda) and name it: make PYTHON=/path/to/python3.12"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module." \
        "Install it: apt-get install $(basename "$python")-venv"
    "$python" -m venv "$venv"
fi
fits "$venv/bin/python" || fail "$venv is not Python 3.11 to 3.13: delete it and run make again"
was=$(set_up_with)
[ "$was" = "$torch" ] || fail "$venv was set up with TORCH=$was: delete it and run make TORCH=$torch"

echo "setup: $lock by $installer into $venv, the judges' weights into weights (uv: 2 minutes, pip: 4;" \
    "6 GB, with TORCH=cpu 2 GB)"
[ "$installer" = pip ] || find_uv
if [ "$torch" = cpu ]; then
    install_cpu
else
    echo default >"$venv/.torch"
    install_packages -r "$lock" -e .
fi
# Weights come from packages of their own. What fails here is tried again, and said, at the end.
"$venv/bin/hpro" weights fetch >/dev/null 2>&1 &
weights=$!
trap 'kill "$weights" 2>/dev/null || true' EXIT
# uv leaves no bytecode. Here everything is imported once, so that it is there before many jobs start,
# also where PYTHONDONTWRITEBYTECODE would have each of them compile for itself; pip compiles all.
if [ "$installer" = uv ]; then
    (unset PYTHONDONTWRITEBYTECODE && "$venv/bin/snakemake" --version && "$venv/bin/dvc" --version) >/dev/null &
    tools=$!
    (unset PYTHONDONTWRITEBYTECODE && "$venv/bin/python" -c "$import_all")
    wait "$tools"
fi
wait "$weights" || true
trap - EXIT
"$venv/bin/hpro" weights fetch
