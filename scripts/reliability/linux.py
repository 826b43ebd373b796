"""These commands look at processes in /proc, fork them and kill them: Linux alone."""

import sys


def require_linux() -> None:
    """SystemExit on another system, before anything is written."""
    if not sys.platform.startswith("linux"):
        raise SystemExit(f"this command injects faults by Linux's own means; here is {sys.platform}")
