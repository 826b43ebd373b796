"""Local reference prompts (paper Eq. 8-9; docs/method.md section 4.3): one triplet text per entity.

Only 75 x 51 triplets of present entities and 75 of absent ones exist, so an image needs one small integer per
entity and the texts are embedded once, as a table of 3,900 rows.

# DIFFERS: Eq. 8 speaks of the report's triplets. At test that would be the answer; ours come from the image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from revtaf.labels import ENTITIES, POSITIONS

PER_ENTITY = len(POSITIONS) + 1  # every position where present, and "not exist"


def triplet_texts() -> list[str]:
    """The 3,900 texts in the order of `table_rows`."""
    texts = []
    for entity in ENTITIES:
        name = entity.replace("_", " ")
        texts += [f"{name} , {position.replace('_', ' ')} , exist" for position in POSITIONS]
        texts.append(f"{name} , unspecified , not exist")
    return texts


def triplet_codes(present: np.ndarray, position: np.ndarray) -> np.ndarray:
    """present (N, 75) bool, position (N, 75) -> rows within each entity's part of the table (N, 75) uint8."""
    return np.where(present, position, PER_ENTITY - 1).astype(np.uint8)


def table_rows(codes: Tensor, table_size: int) -> Tensor:
    """codes (..., 75) -> rows of a table whose `table_size` texts belong to the 75 entities in turn (..., 75)."""
    return codes.long() + torch.arange(len(ENTITIES), device=codes.device) * (table_size // len(ENTITIES))
