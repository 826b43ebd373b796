"""Every script runs: its imports are there, it says how it is called, and at toy size it gets to its end."""

import ast
import importlib
import runpy
import sys

import pytest
import torch
from tiny import ROOT

SOURCES = sorted((ROOT / "scripts").rglob("*.py"))
SCRIPTS = [path for path in SOURCES if "__main__" in path.read_text(encoding="utf-8")]  # the others are their parts
TOYS = {  # arguments at toy size, for one process; the others need data, minutes or a second process
    "backbones.py": ["--cases", "resnet18:64", "--batch", "2"],
    "fcc.py": ["--case", "soft", "--batch", "2", "--sentences", "2", "--entities", "3"],
    "retrieval.py": ["--case", "index", "--rows", "40", "--queries", "2", "-k", "3"],
    "search.py": ["--rows", "60", "--width", "8", "--engines", "exact"],
    "store.py": ["--rows", "60", "--width", "8"],
}


def named(script):
    return str(script.relative_to(ROOT / "scripts"))


@pytest.mark.parametrize("script", SOURCES, ids=named)
def test_what_a_script_imports_is_there(script):
    """Names too, and within functions: what was renamed is found before somebody runs it."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "revtaf":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def call(script, arguments, patch):
    patch.setattr(sys, "argv", [str(script), *arguments])
    patch.syspath_prepend(str(script.parent))  # as python does with a script's folder
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_a_script_says_how_it_is_called(script, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(script, ["--help"], monkeypatch)
    assert not stopped.value.code and "usage: " in capsys.readouterr().out


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.name in TOYS], ids=named)
def test_a_benchmark_runs_at_toy_size(script, monkeypatch, capsys):
    threads = torch.get_num_threads()
    try:
        call(script, TOYS[script.name], monkeypatch)
    except SystemExit as stopped:
        assert stopped.code in (None, 0, 1)  # 1: the target of the full size is missed
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().out.strip()
