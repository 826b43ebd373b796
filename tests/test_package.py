"""What an installed `revtaf` has: every file it reads, every package it imports, declared and in the wheel."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny import ROOT


def built(source: Path, what: str) -> Path:
    """The wheel or the sdist of a source tree, built without network."""
    build = f"from setuptools import build_meta; print(build_meta.build_{what}('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return source / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """Of the source tree as it is, from a copy that has no earlier build's lists; unpacked."""
    source, unpacked = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("unpacked")
    shutil.copytree(ROOT / "revtaf", source / "revtaf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.unpack_archive(built(source, "sdist"), unpacked)
    (folder,) = unpacked.iterdir()
    return folder


@pytest.fixture(scope="module")
def wheel(sdist) -> zipfile.ZipFile:
    """Built from the sdist, as pip does: what the sdist lacks, the wheel lacks, too."""
    with zipfile.ZipFile(built(sdist, "wheel")) as archive:
        yield archive


def test_the_sdist_and_its_wheel_hold_every_file_of_the_package(sdist, wheel):
    """Phrases, templates, prompts and printed figures are read at run time: what stays behind is missed in silence."""
    paths = [path.relative_to(ROOT) for path in (ROOT / "revtaf").rglob("*")]
    kept = {path.as_posix() for path in paths if (ROOT / path).is_file() and "__pycache__" not in path.parts}
    needed = {"revtaf/eval/published.yaml", "revtaf/llm/prompt.txt", "revtaf/knowledge/phrases/scope.yaml"}
    assert needed < kept
    assert not {name for name in kept if not (sdist / name).is_file()}
    assert not kept - set(wheel.namelist())
    assert (sdist / "LICENSE").is_file() and any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_the_wheel_is_the_package_alone(wheel):
    """No test, no script, nothing of a working folder goes to site-packages."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert "revtaf" in tops and all(top == "revtaf" or top.endswith(".dist-info") for top in tops)


# What is imported under another name than it is installed by.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "gdcm": "python-gdcm",
    "open_clip": "open-clip-torch",
    "ot": "pot",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "bert_score": "bert-score",
}


def declared() -> dict[str, set[str]]:
    """Extra ("" without one) -> the packages that pyproject.toml asks for."""
    project = read_pyproject()
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: {name_of(requirement) for requirement in group} for extra, group in groups.items()}


def read_pyproject() -> dict:
    """The table [project]; tomllib is there from Python 3.11 on, and so is all that is needed here in setuptools."""
    try:
        import tomllib
    except ImportError:
        from setuptools.compat.py310 import tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=~!; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported(folder: str) -> dict[str, str]:
    """Package -> a file that imports it, within functions too, or asks pytest for it."""
    beside = {"revtaf": ["revtaf"]}.get(folder, ["tests", "scripts"])  # these import from each other
    modules = [path.relative_to(ROOT) for part in beside for path in (ROOT / part).rglob("*.py")]
    own = {name for path in modules for name in (path.stem, *(path.parts[1:-1] if folder != "revtaf" else ()))} | {
        "revtaf"
    }
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                names = [node.args[0].value]
            for name in {name.split(".")[0] for name in names} - own - set(sys.stdlib_module_names):
                found[DISTRIBUTIONS.get(name, name).lower().replace("_", "-")] = str(path.relative_to(ROOT))
    return found


def test_every_package_that_is_imported_is_declared():
    """Also those that came along with another one so far: the other one may drop them."""
    known = set().union(*(group for extra, group in declared().items() if extra != "dev"))
    assert not {name: path for name, path in imported("revtaf").items() if name not in known}


def test_the_dev_extra_brings_every_package_that_a_test_needs():
    groups = declared()
    extras = re.search(r"revtaf\[([\w,]+)\]", str(read_pyproject()["optional-dependencies"]["dev"]))[1].split(",")
    known = set().union(groups[""], groups["dev"], *(groups[extra] for extra in extras))
    needed = imported("tests") | imported("scripts")
    assert not {name: path for name, path in needed.items() if name not in known}
