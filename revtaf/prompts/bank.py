"""Global reference prompts (paper section 3.3; docs/method.md section 4.2) and the other texts of the training set.

The tables live on the model's device where they are small; a batch gathers rows from them. Whatever encoder made them,
texts enter the model at unit RMS: those of TF-IDF lie at .036, those of a BERT near .5, image features above 1.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from revtaf.prompts.local import table_rows

if TYPE_CHECKING:
    from revtaf.features.arrays import TextTables

DEVICE_TABLE_BYTES = 512 * 2**20  # larger tables stay on disk and are gathered there


class PromptBank:
    """Rows of the training set -> embeddings of their texts."""

    def __init__(self, texts: TextTables, max_sentences: int, device: torch.device):
        self.device = device
        self.max_sentences = max_sentences
        self.sentence_ids, self.offsets, self.report_ids = texts.sentence_ids, texts.offsets, texts.report_ids
        self.sentences = self._table(texts.sentences)
        self.reports = self._table(texts.reports) if len(texts.reports) else None
        self.triplets = self._table(texts.triplets)
        self.width = texts.triplets.shape[1]

    def retrieved(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Training rows (B,), -1 for "none" -> sentence embeddings of their reports (B, N, W) and their mask (B, N).

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
        """Rows of the sentence table that make up the report of training row `row`, at most `max_sentences`."""
        if row < 0:
            return np.zeros(0, dtype=np.int64)
        report = self.report_ids[row]
        start, end = self.offsets[report], self.offsets[report + 1]
        return self.sentence_ids[start : min(end, start + self.max_sentences)]

    def memory(self, rows: Tensor) -> Tensor:
        """(B, K_m) training rows -> embeddings of their reports (B, K_m, V); zero for one without a word."""
        reports = self.report_ids[rows.cpu().numpy()].astype(np.int64)
        if self.reports is not None:
            return self._gather(self.reports, torch.from_numpy(reports))
        # DIFFERS: a report is the mean of its sentences. A vector of the whole report would double the tables, cost
        # half a day of CPU at MIMIC-CXR's size, and lose what lies beyond the encoder's longest text.
        first = self.offsets[reports.ravel()]
        lengths = self.offsets[reports.ravel() + 1] - first
        starts = np.cumsum(lengths) - lengths
        places = np.repeat(first - starts, lengths) + np.arange(lengths.sum())
        bags = (self.sentence_ids[places].astype(np.int64), starts)
        index, starts = (torch.from_numpy(array).to(self.sentences.device) for array in bags)
        mean = F.embedding_bag(index, self.sentences, starts, mode="mean")
        return unit_rms(mean.to(self.device, torch.float32)).view(*reports.shape, -1)

    def local(self, codes: Tensor) -> Tensor:
        """(B, 75) codes -> (B, 75, W)."""
        return self._gather(self.triplets, table_rows(codes, len(self.triplets)))

    def _table(self, array: np.ndarray) -> Tensor:
        # Mapped files are read-only, which a tensor cannot be: a small table is copied, a large one stays on disk
        # and is never written to.
        if array.nbytes <= DEVICE_TABLE_BYTES:
            return torch.from_numpy(np.array(array)).to(self.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(array)

    def _gather(self, table: Tensor, rows: Tensor) -> Tensor:
        return unit_rms(table[rows.to(table.device, torch.long)].to(self.device, torch.float32, non_blocking=True))


def unit_rms(vectors: Tensor) -> Tensor:
    """(..., W) -> the same directions with a root mean square of 1; a vector of zeros, a text without a known word,
    stays as it is."""
    rms = vectors.square().mean(-1, keepdim=True).sqrt()
    return vectors / torch.where(rms > 0, rms, 1)
