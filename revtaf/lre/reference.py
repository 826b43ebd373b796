"""Which training report becomes the GRP (paper section 3.3; METHOD section 3).

Training: `batch_labels` takes the batch neighbour nearest by ground-truth statuses, as the paper prints;
`dataset_labels` searches the whole training set by statuses; `learned` asks the retriever itself, as at test.
Inference: always the retriever. A sample never gets its own patient's report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import nearest_by_status

NO_REPORT = -1


class TrainingReferences:
    """Training rows (B,) -> rows of their reference reports (B,), -1 where a batch offers none."""

    def __init__(self, source: str, statuses: Tensor, patients: Sequence[str], nearest: Tensor, seed: int):
        """statuses (N, K), on the CPU, and patients (N,) of the training set; nearest (N,): `nearest_by_status` over
        the whole of it. source "none": no report."""
        self.source, self.statuses, self.patients, self.seed = source, statuses, patients, seed
        self.patient_codes = torch.from_numpy(np.unique(patients, return_inverse=True)[1])
        self.table: Tensor | None = nearest if source == "dataset_labels" else None

    def start_epoch(self, make_index: Callable[[], RetrievalIndex], fixed: bool) -> None:
        """`make_index` embeds the training set as the model is now; called only where it is needed.

        fixed: the space does not learn, so that one search serves the whole run.
        """
        if self.source == "learned" and not (fixed and self.table is not None):
            index = make_index()
            self.table = search_rows(index, index.embeddings, self.patients)

    def rows(self, batch_rows: Tensor, draw: int) -> Tensor:
        """`draw` numbers the step: ties within the batch are broken anew at every step, repeatably."""
        if self.source == "none":
            return torch.full_like(batch_rows, NO_REPORT)
        if self.source != "batch_labels":
            return self.table[batch_rows]
        statuses, patients = self.statuses[batch_rows], self.patient_codes[batch_rows]
        # Samples whose batch holds no other patient have nobody to ask.
        alone = (patients[:, None] == patients[None]).all(1)
        result = torch.full_like(batch_rows, NO_REPORT)
        if not alone.all():
            ask = ~alone
            _, nearest = nearest_by_status(
                statuses[ask],
                statuses,
                1,
                query_groups=patients[ask],
                groups=patients,
                seed=self.seed + draw,
            )
            result[ask] = batch_rows[nearest[:, 0]]
        return result


def search_rows(index: RetrievalIndex, points: Tensor, groups, chunk: int = 512) -> Tensor:
    """(Q, D) -> the nearest row of each (Q,), in chunks; `groups` (Q,) are never asked for themselves."""
    found = [
        index.search(points[i : i + chunk], 1, query_groups=groups[i : i + chunk])[1][:, 0]
        for i in range(0, len(points), chunk)
    ]
    return torch.cat(found).cpu()
