#!/usr/bin/env bash
# Writes requirements.txt and requirements-dev.txt from pyproject.toml for every supported Python, and
# checks that each of these installs them from wheels on Linux. Run by `make pins`.
# Versions stay as they are where pyproject.toml allows it; options of `uv pip compile` change that:
#   pins.sh --upgrade
set -euo pipefail
pythons=(3.11 3.12 3.13)
# Published as source alone, all of it Python: they build anywhere.
sources=(openai-whisper antlr4-python3-runtime connection-pool)

# The mirror of pip's configuration, but none of its local wheels: the pins are for everybody.
eval "$(python -m pip config list | python -m workflow.scripts.uv_options)"
unset UV_FIND_LINKS
export UV_CUSTOM_COMPILE_COMMAND="make pins"

compile() {
    uv pip compile --quiet --universal --python-version "${pythons[0]}" --fork-strategy fewest \
        --no-emit-index-url --no-emit-find-links "$@" pyproject.toml >/dev/null
}

compile "$@" --output-file requirements.txt
compile "$@" --output-file requirements-dev.txt --constraint requirements.txt --extra dev

for python in "${pythons[@]}"; do
    uv pip compile --quiet --python-version "$python" --python-platform linux --only-binary :all: \
        "${sources[@]/#/--no-binary=}" requirements-dev.txt >/dev/null || {
        echo "pins: Python $python cannot install requirements-dev.txt from wheels, see above" >&2
        exit 1
    }
done
echo "pins: requirements.txt and requirements-dev.txt are written; Python ${pythons[*]} install them from wheels"
