"""The systems that can be trained, written with and scored here, found by name.

A system is an installed package with an entry point in the group `revtaf.systems`; its object is a declaration
(`revtaf.engine.system.Declaration`). Nothing is ever loaded from a path that a configuration or a folder names.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import distributions
from typing import TYPE_CHECKING

from revtaf.errors import UserError, nearest

if TYPE_CHECKING:
    from revtaf.engine.system import Declaration

GROUP = "revtaf.systems"


@lru_cache
def find(name: str) -> Declaration:
    """The declaration of an installed system; UserError, with the nearest name, where there is none."""
    # Not `entry_points()`, which asks only the first of several records of one package: what an earlier installation
    # left in a working folder would hide today's.
    points = [point for package in distributions() for point in package.entry_points if point.group == GROUP]
    found = {point.name: point for point in points}
    if name not in found:
        raise UserError(f"system: there is no '{name}'; {nearest(name, sorted(found))}")
    return found[name].load()
