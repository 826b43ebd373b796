"""A command as a user gives it, and its pages as they were asked for."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

import pytest

from revtaf.data.annotations import load_annotations


@pytest.fixture
def pages(monkeypatch):
    """What pages were written of: (reports, path, title, facts) of each."""
    written = []
    name = "revtaf.generate.page"
    module = ModuleType(name) if find_spec(name) is None else __import__(name, fromlist=["write_page"])

    def write_page(reports, path, title, facts):
        written.append((reports, path, title, facts))
        path.write_text("page")

    monkeypatch.setattr(module, "write_page", write_page, raising=False)
    monkeypatch.setitem(sys.modules, name, module)
    return written


@pytest.fixture
def call(called, pages):
    """Run a command, whose pages are not drawn."""
    return called


@pytest.fixture
def images(world):
    """The tested images of the world's set."""
    data = world[0]
    return [data / "images" / study.image_path[0] for study in load_annotations(data / "annotation.json")["test"]]
