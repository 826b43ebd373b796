"""What a process of the program sets before anything else, and how it ends. Used by the command line and by each run of
a grid, which is a process of its own."""

from __future__ import annotations

import logging
import os
import sys

USER_ERROR = 2  # bad input: one message
INTERRUPTED = 130
_NO_MEMORY = (  # how the libraries say it on the CPU; on a GPU it is an exception of its own
    "can't allocate memory",
    "not enough memory",
    "could not create a primitive",
    "could not create a memory object",
    "bad allocation",
    "failed to map segment from shared object",  # a library that is loaded only now
    "std::bad_alloc",
)


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


def memory_ran_out(error: BaseException) -> str | None:
    """What to tell the user where this error is a library's way to say that the memory of the GPU or of the machine is
    used up; None where it is another error."""
    words = str(error).strip()
    on_gpu = type(error).__name__ == "OutOfMemoryError"
    if not (isinstance(error, MemoryError) or on_gpu or any(each in words for each in _NO_MEMORY)):
        return None
    first = words.splitlines()[0] if words else type(error).__name__
    return (
        f"memory ran out ({first}). Training needs less with a smaller train.batch_size and train.accumulation as many "
        "times larger (the same size of an update, but a new run) or with train.precision=bf16; writing reports with a "
        "smaller generation.batch_size, or fewer generation.beams or generation.candidates. What was saved is whole: "
        "where something else had taken the memory, the same command continues"
    )
