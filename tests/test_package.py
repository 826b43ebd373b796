"""What an installed `revtaf` has: every file it reads, every package it imports, declared and in the wheel."""

import shutil
import subprocess
import sys
import zipfile

import pytest
from tiny import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """A wheel of the source tree as it is, built without network from a copy that has no earlier build's lists."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "revtaf", source / "revtaf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(source / done.stdout.split()[-1]) as archive:
        yield archive


def test_the_wheel_holds_every_file_of_the_package(wheel):
    """Phrases, templates, prompts and printed figures are read at run time: what stays behind is missed in silence."""
    paths = [path.relative_to(ROOT) for path in (ROOT / "revtaf").rglob("*")]
    kept = {path.as_posix() for path in paths if (ROOT / path).is_file() and "__pycache__" not in path.parts}
    needed = {"revtaf/eval/published.yaml", "revtaf/llm/prompt.txt", "revtaf/knowledge/phrases/scope.yaml"}
    assert needed < kept
    assert not kept - set(wheel.namelist())


def test_the_wheel_is_the_package_alone(wheel):
    """No test, no script, nothing of a working folder goes to site-packages."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert "revtaf" in tops and all(top == "revtaf" or top.endswith(".dist-info") for top in tops)
