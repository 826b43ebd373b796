"""Files and folders that the system refuses to open, for whoever runs the tests (root may open everything)."""

from __future__ import annotations

import builtins
import errno
import io
import os
from pathlib import Path

import pytest


def refuse(patch: pytest.MonkeyPatch, path: Path, code: int = errno.EACCES) -> None:
    """Opening or listing `path` fails from now on with this error of the system."""

    def refusing(function):
        def call(name=".", *arguments, **options):
            if isinstance(name, str | os.PathLike) and Path(name) == path:
                raise OSError(code, os.strerror(code), str(name))
            return function(name, *arguments, **options)

        return call

    for module, name in ((builtins, "open"), (io, "open"), (os, "listdir"), (os, "scandir")):
        patch.setattr(module, name, refusing(getattr(module, name)))
