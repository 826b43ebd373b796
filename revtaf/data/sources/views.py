"""From where an image was taken, read from what tables call it."""

from __future__ import annotations

import re

FRONTAL, UNKNOWN, LATERAL = 0, 1, 2  # in the order in which images are listed
# AP, PA, "AP AXIAL", "AP_horizontal", and the decubitus views ("PA LLD"): the beam runs front to back in all of them.
_FRONTAL = re.compile(r"(?:AP|PA|FRONTAL|ANTERO_?-?POSTERIOR|POSTERO_?-?ANTERIOR)(?![A-Z])")
_LATERAL = re.compile(r"(?:L|LL|RL|LAT|(?:LEFT |RIGHT )?LATERAL)(?![A-Z])")


def view_of(name: str) -> int:
    """FRONTAL, UNKNOWN or LATERAL, whatever the case of the letters."""
    name = name.strip().upper()
    return FRONTAL if _FRONTAL.match(name) else LATERAL if _LATERAL.match(name) else UNKNOWN
