"""MedFuse-CLIP (ETASR 2026, doi 10.48084/etasr.17163) as a system of the engine: images and reports in one space.

docs/medfuse.md says what the paper says, what in it cannot be true, and what was read into it.
"""

from revtaf.comparators.medfuse.declaration import SYSTEM

__all__ = ["SYSTEM"]
