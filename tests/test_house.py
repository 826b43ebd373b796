"""The house: which room may look into which. No arrow upward between rooms, no circle of modules."""

import ast
from graphlib import TopologicalSorter

from tiny import ROOT

# From the ground up. A room imports rooms below its own floor, and itself; rooms on one floor do not know each other.
FLOORS = (
    {"errors", "rng", "precision"},
    {"files", "labels", "locks", "process", "check_line"},
    {"config", "systems"},
    {"settings", "config_file"},
    {"data"},
    {"tokenizer"},
    {"pretrained"},
    {"knowledge", "lre", "prompts", "fvtaf"},
    {"features", "encoder", "classifier", "decoder"},
    {"model", "engine", "eval"},
    {"pages", "llm", "sources"},
    {"search", "generate"},
    {"system", "comparators", "audit"},
    {"check"},
    {"commands"},
    {"ablation"},
    {"cli"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports(tree: ast.Module, modules) -> set[str]:
    """Those of `modules` that are imported, within functions too; not those for type checkers alone."""
    found, waiting = set(), [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & modules) or {node.module}
        waiting += ast.iter_child_nodes(node)
    return found & modules


def graph() -> dict[str, set[str]]:
    """module -> modules that it imports."""
    paths = {}
    for path in sorted((ROOT / "revtaf").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    paths.pop("revtaf")  # the door, which leads to every room
    return {name: imports(ast.parse(path.read_text()), paths.keys()) - {name} for name, path in paths.items()}


def room(module: str) -> str:
    """The top-level name; what makes data sets stands above what they are read by."""
    return "sources" if module.startswith("revtaf.data.sources") else module.split(".")[1]


def test_every_room_has_a_floor():
    """A new top-level name is given its place here."""
    rooms = {room(name) for name in graph() if "." in name} - {"__main__"}
    assert rooms == FLOOR.keys(), rooms ^ FLOOR.keys()


def test_no_arrow_goes_upward():
    """Between rooms, imports point down; the same floor is not below."""
    upward = [
        f"{name} -> {other}"
        for name, others in graph().items()
        for other in others
        if name.count(".") and name != "revtaf.__main__"
        for a, b in [(room(name), room(other))]
        if a != b and FLOOR[b] >= FLOOR[a]
    ]
    assert not upward, "\n".join(upward)


def test_no_modules_stand_in_a_circle():
    """Each module can be read after those that it imports."""
    order = list(TopologicalSorter(graph()).static_order())  # CycleError names the circle
    assert "revtaf.cli" in order
