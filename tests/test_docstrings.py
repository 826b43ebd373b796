"""Every public function, class and method of the package says what it does: shapes, units, errors, source."""

import ast

import pytest
from tiny import ROOT

PACKAGE = ROOT / "revtaf"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def undocumented(source: str) -> list[str]:
    """Public names without a docstring: of the module, and of its public classes. What a function defines is its own
    affair; names that begin with an underscore, __init__ among them, are not public."""
    found = []

    def look(body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    found.append(owner + node.name)
                if isinstance(node, ast.ClassDef):
                    look(node.body, f"{owner}{node.name}.")

    look(ast.parse(source).body, "")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_public_names_have_docstrings(module):
    """Nobody has to read a body to learn what a public name gives."""
    assert undocumented((PACKAGE / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", MODULES)
def test_modules_say_what_they_are(module):
    """The first line of every module; an empty __init__.py has nothing to say."""
    source = (PACKAGE / module).read_text(encoding="utf-8")
    assert not source or ast.get_docstring(ast.parse(source))


def test_what_is_undocumented_is_found():
    """Functions, methods, properties and classes; not dunders, private names or what a function defines."""
    source = '''
class Open:
    def __init__(self): ...
    def said(self):
        """Yes."""
    def unsaid(self): ...
    @property
    def size(self): ...
    class Inner: ...
class _Closed:
    def method(self): ...
def bare():
    def inner(): ...
async def later(): ...
def _own(): ...
'''
    assert undocumented(source) == ["Open", "Open.unsaid", "Open.size", "Open.Inner", "bare", "later"]
