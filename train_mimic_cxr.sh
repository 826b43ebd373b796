#!/usr/bin/env bash
# Train REVTAF on MIMIC-CXR as in the paper. Overrides: bash train_mimic_cxr.sh train.batch_size=8
# Before: python -m revtaf fetch --config configs/mimic_cxr.yaml. Without MedKLIP, CheXbert: bash train_mimic_cxr.sh missing=stand-in
set -euo pipefail
cd "$(dirname "$0")"
[ -n "${PYTHON:-}" ] || { [ -x .venv/bin/python ] && PYTHON=.venv/bin/python || PYTHON=python; }
exec "$PYTHON" -m revtaf train --config configs/mimic_cxr.yaml "$@"
