"""REVTAF as a system of the engine."""

from revtaf.system.declaration import SYSTEM

__all__ = ["SYSTEM"]
