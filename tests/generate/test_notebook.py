"""The example notebook runs, cell by cell, on a trained model; what a cell ends with can be shown."""

import ast
import json

from tiny import ROOT

NOTEBOOK = ROOT / "examples/own_image.ipynb"


def test_the_example_notebook_runs(world, images):
    """Its places are replaced, nothing else. No output is kept in the file."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    places, *others = ["".join(cell["source"]) for cell in cells]
    known = {node.targets[0].id for node in ast.parse(places).body}
    assert known == {"folder", "image"}
    names = {"folder": world[1], "image": images[0]}
    shown = []
    for source in others:
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(NOTEBOOK), "exec"), names)  # noqa: S102 (our own file)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names))  # noqa: S307
    assert "<img" in shown[0]._repr_html_() and shown[-1] == names["what_if"].report
