#!/usr/bin/env bash
# Install with the dev extra into .venv and run the tests; arguments go to pytest. `--setup` only installs.
# Another interpreter: PYTHON=python3.12 bash scripts/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "error: $*" >&2; exit 2; }

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  base=${PYTHON:-python3}
  command -v "$base" >/dev/null || fail "$base not found; install Python 3.10 or newer, or set PYTHON"
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "Python 3.10 or newer is needed, $base is $("$base" -V 2>&1); set PYTHON to a newer one"
  echo "== creating .venv with $("$base" -V 2>&1)"
  "$base" -m venv .venv || fail "could not create .venv; on Debian and Ubuntu install python3-venv first"
fi

# Installed once, and again whenever pyproject.toml changes.
if [ ! .venv/.revtaf-dev -nt pyproject.toml ]; then
  echo "== installing REVTAF and its test tools into .venv (the first time takes minutes)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
  touch .venv/.revtaf-dev
fi
[ "${1:-}" != "--setup" ] || exit 0

echo "== running the tests"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # for each of the two
exec .venv/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
