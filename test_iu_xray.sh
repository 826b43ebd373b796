#!/usr/bin/env bash
# Score the model trained on MIMIC-CXR on the entire IU X-Ray set, as in Table 2 of the paper.
set -euo pipefail
cd "$(dirname "$0")"
[ -n "${PYTHON:-}" ] || { [ -x .venv/bin/python ] && PYTHON=.venv/bin/python || PYTHON=python; }
exec "$PYTHON" -m revtaf test --config configs/iu_xray.yaml "$@"
