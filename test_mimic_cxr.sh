#!/usr/bin/env bash
# Score the trained model on the MIMIC-CXR test set. Overrides: bash test_mimic_cxr.sh generation.beams=1
set -euo pipefail
cd "$(dirname "$0")"
[ -n "${PYTHON:-}" ] || { [ -x .venv/bin/python ] && PYTHON=.venv/bin/python || PYTHON=python; }
exec "$PYTHON" -m revtaf test --config configs/mimic_cxr.yaml "$@"
