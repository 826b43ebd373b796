"""TRRG (MICCAI 2025, arXiv 2408.12141) as two systems of the engine: aligned encoders, a language model with clues.

docs/trrg.md says what the paper says, where it contradicts itself, and what was read into it.
"""

from revtaf.comparators.trrg.declaration import STAGE1, SYSTEM

__all__ = ["STAGE1", "SYSTEM"]
