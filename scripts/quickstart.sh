#!/usr/bin/env bash
# From a fresh clone to a scored model on a laptop CPU, without data or checkpoints. Safe to run again:
# what is finished is not done twice. Overrides: bash scripts/quickstart.sh train.epochs=2
# Another interpreter: PYTHON=python3.12 bash scripts/quickstart.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "error: $*" >&2; exit 2; }
step() { printf '\n== %s\n' "$*"; }

step "1/5 Python environment (.venv)"
if .venv/bin/python -m pip --version >/dev/null 2>&1; then
  echo "already there: $(.venv/bin/python -V)"
else
  base=${PYTHON:-python3}
  command -v "$base" >/dev/null || fail "$base not found; install Python 3.10 or newer, or set PYTHON"
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "Python 3.10 or newer is needed, $base is $("$base" -V 2>&1); set PYTHON to a newer one"
  "$base" -m venv .venv || fail "could not create .venv; on Debian and Ubuntu install python3-venv first"
fi

step "2/5 Installing REVTAF"
if [ .venv/.revtaf -nt pyproject.toml ] || [ .venv/.revtaf-dev -nt pyproject.toml ]; then
  echo "already installed"
else
  echo "the first time takes minutes"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e .
  touch .venv/.revtaf
fi

step "3/5 Drawing the phantom data set"
if [ -f data/phantom/annotation.json ]; then
  echo "already there: data/phantom (delete the folder to draw it anew)"
else
  .venv/bin/python -m revtaf prepare phantom --out data/phantom --images 1500 --seed 0
fi

step "4/5 Training (continues an interrupted run)"
.venv/bin/python -m revtaf train --config configs/phantom.yaml "$@"

step "5/5 Testing"
.venv/bin/python -m revtaf test --config configs/phantom.yaml "$@"
