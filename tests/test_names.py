"""Names that do not lie: one name, one thing."""

import ast
from collections import defaultdict

from tiny import ROOT


def test_no_two_public_classes_have_one_name():
    """Who reads `Features` in one module must not have to look which of two it is."""
    found = defaultdict(list)
    for path in sorted((ROOT / "revtaf").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in found.items() if len(paths) > 1}
