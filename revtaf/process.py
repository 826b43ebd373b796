"""What a process of the program sets before anything else, and how it ends. Used by the command line and by each run of
a grid, which is a process of its own."""

from __future__ import annotations

import logging
import os
import sys

USER_ERROR = 2  # bad input: one message
INTERRUPTED = 130


def print_anything() -> None:
    """Make `print` show what the terminal's encoding lacks as an escape (`\\u2193`) in place of failing: a Windows
    console, a pipe in the C locale, a file name that is no text."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def configure(offline: bool = True) -> None:
    """What every process of the program sets before anything else: no hub, and a log of plain lines."""
    print_anything()
    if offline:  # no command but `fetch` may reach for a model hub: weights come from files that the user names
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # a request of its own, whatever hub is configured
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    for noisy in ("transformers", "httpx", "httpx2", "faiss"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("accelerate").setLevel(logging.ERROR)  # it warns of tied weights at every checkpoint
