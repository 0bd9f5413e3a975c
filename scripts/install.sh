#!/bin/sh
# Makes $VENV with moonshelf in it. Quick when nothing changed. Settings, all optional:
#   PYTHON       the interpreter to use (3.11 or newer); default: the first of python3, python3.11 ... that is
#   VENV         where the environment goes (.venv)
#   TORCH_INDEX  package index for torch; default: PyTorch's CPU wheels where there is no NVIDIA GPU
set -eu
VENV="${VENV:-.venv}"
stamp="$VENV/.moonshelf-installed"

say() { printf 'install: %s\n' "$*"; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
python=''
for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
    if new_enough "$candidate"; then python="$candidate"; break; fi
done
[ -n "$python" ] || {
    say "Python 3.11 or newer was not found (${PYTHON:-python3}). Set PYTHON=/path/to/python3.11"
    exit 1
}
if [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt scripts/install.sh ]; then
    say "$VENV is up to date"
    exit 0
fi
if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making $VENV"
    "$python" -m venv --clear "$VENV" || {
        say "$python cannot make environments with pip (Debian, Ubuntu: apt install python3-venv)"
        exit 1
    }
fi

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
    cpu='--retries 1 --extra-index-url https://download.pytorch.org/whl/cpu'
    # shellcheck disable=SC2086  # several words on purpose
    plan=$("$VENV/bin/pip" install --dry-run --no-deps "$torch" $cpu 2>/dev/null | grep '^Would install' || true)
    case "$(uname -sm) $plan" in
        "Linux x86_64"*+cpu*) ;;
        "Linux x86_64"*)
            say "pip would take a CUDA build (${plan:-no torch found}): the CPU index cannot be reached"
            say "nothing was installed; run again with TORCH_INDEX=<an index with CPU wheels of torch>"
            exit 1 ;;
    esac
    # shellcheck disable=SC2086
    "$VENV/bin/pip" install --quiet "$torch" $cpu
fi
say "installing moonshelf and its tools"
"$VENV/bin/pip" install --quiet --editable '.[dev]'
"$VENV/bin/moonshelf" doctor || say "see above: it is installed, but may not run well here"
touch "$stamp"
say "done"
