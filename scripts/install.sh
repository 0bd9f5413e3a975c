#!/bin/sh
# Makes $VENV with moonshelf in it. Quick when nothing changed. Settings, all optional:
#   PYTHON       the interpreter to use (3.11 or newer)
#   VENV         where the environment goes (.venv)
#   TORCH_INDEX  package index for torch; default: PyTorch's CPU wheels where there is no NVIDIA GPU
set -eu
PYTHON="${PYTHON:-python3}"
VENV="${VENV:-.venv}"
stamp="$VENV/.moonshelf-installed"

say() { printf 'install: %s\n' "$*"; }

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "Python 3.11 or newer is needed; '$PYTHON' is not. Set PYTHON=/path/to/python3.11"
    exit 1
}
if [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt scripts/install.sh ]; then
    say "$VENV is up to date"
    exit 0
fi
[ -x "$VENV/bin/python" ] || { say "making $VENV"; "$PYTHON" -m venv "$VENV"; }

torch='torch>=2.6,<2.14'
if "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    say "torch is here already"
elif [ -n "${TORCH_INDEX:-}" ]; then
    say "installing torch from TORCH_INDEX"
    "$VENV/bin/pip" install --quiet "$torch" --index-url "$TORCH_INDEX"
elif command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then
    say "an NVIDIA GPU is here: installing torch with CUDA"
    "$VENV/bin/pip" install --quiet "$torch"
else
    say "no GPU: installing the CPU build of torch (about 200 MB)"
    # an extra index: a +cpu version wins over the plain one of the same number
    "$VENV/bin/pip" install --quiet "$torch" --extra-index-url https://download.pytorch.org/whl/cpu
    if "$VENV/bin/pip" list 2>/dev/null | grep -q '^nvidia-'; then
        say "a CUDA build arrived although there is no GPU."
        say "remove $VENV and run again with TORCH_INDEX=https://download.pytorch.org/whl/cpu"
        exit 1
    fi
fi
say "installing moonshelf and its tools"
"$VENV/bin/pip" install --quiet --editable '.[dev]'
"$VENV/bin/moonshelf" doctor
touch "$stamp"
say "done"
