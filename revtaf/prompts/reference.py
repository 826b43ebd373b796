"""Global reference prompts (paper section 3.3; METHOD section 4) and the other texts of the retrieval memory.

The tables live on the model's device where they are small; a batch gathers rows from them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from revtaf.data.store import ReferenceTexts

DEVICE_TABLE_BYTES = 512 * 2**20  # larger tables stay in host memory and are gathered there


class PromptBank:
    """Rows of the retrieval memory -> embeddings."""

    def __init__(self, texts: ReferenceTexts, max_sentences: int, device: torch.device):
        self.device = device
        self.max_sentences = max_sentences
        self.sentence_ids, self.offsets = texts.sentence_ids, texts.offsets
        self.sentences = self._table(texts.sentences)
        self.reports = self._table(texts.reports)
        self.triplets = self._table(texts.triplets)
        self.width = texts.triplets.shape[1]

    def reference(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Report rows (B,), -1 for "none" -> sentence embeddings (B, N, W) and their mask (B, N).

        N is the largest sentence count of the batch, at least 1; padded sentences are zero and masked.
        """
        groups = [self.sentence_rows(int(row)) for row in rows.tolist()]
        length = max(1, *(len(g) for g in groups))
        index = np.zeros((len(groups), length), dtype=np.int64)
        mask = np.zeros((len(groups), length), dtype=bool)
        for i, group in enumerate(groups):
            index[i, : len(group)] = group
            mask[i, : len(group)] = True
        valid = torch.from_numpy(mask).to(self.device)
        text = self._gather(self.sentences, torch.from_numpy(index))
        return text * valid.unsqueeze(-1), valid

    def sentence_rows(self, row: int) -> np.ndarray:
        """Rows of the sentence table that make up report `row`, at most `max_sentences`."""
        if row < 0:
            return np.zeros(0, dtype=np.int64)
        start, end = self.offsets[row], self.offsets[row + 1]
        return self.sentence_ids[start : min(end, start + self.max_sentences)]

    def memory(self, rows: Tensor) -> Tensor:
        """(B, K_m) report rows -> (B, K_m, W)."""
        return self._gather(self.reports, rows)

    def local(self, codes: Tensor) -> Tensor:
        """(B, 75) triplet rows -> (B, 75, W)."""
        return self._gather(self.triplets, codes)

    def _table(self, array: np.ndarray) -> Tensor:
        table = torch.from_numpy(array)
        return table.to(self.device) if table.nbytes <= DEVICE_TABLE_BYTES else table

    def _gather(self, table: Tensor, rows: Tensor) -> Tensor:
        return table[rows.to(table.device, torch.long)].to(self.device, non_blocking=True)
