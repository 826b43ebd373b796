"""Which report becomes the GRP (paper section 3.3; docs/method.md section 3.7). Decided here and nowhere else.

Training, `lre.grp_source`: `batch_labels` takes the batch neighbour nearest by ground-truth statuses, as the paper
prints; `dataset_labels` searches the whole training set by statuses; `learned` asks the retriever itself, as at test.
`lre.enabled` is another switch: it says in which space the retriever looks, not who is asked in training.
Inference: the retriever, but for the controls of `fixed_retrieved`. A sample never gets a report of its own patient,
but for the control `own`, which gives it its own report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import Grouping, nearest_by_status, random_others

NO_REPORT = -1
TRAINING_DRAW, TEST_DRAW, DROPOUT_DRAW = 1, 2, 3  # what random numbers are for: none of them moves the others


class TrainingRetrieved:
    """Training rows (B,) -> rows of their retrieved reports (B,), -1 where there is none."""

    def __init__(
        self,
        source: str | None,
        statuses: Tensor,
        patients: Sequence[str],
        nearest: Tensor,
        seed: int,
        space_learns: bool = True,
        dropout: float = 0.0,
    ):
        """source: `lre.grp_source`; None: no report enters. statuses (N, K), on the CPU, and patients (N,) of the
        training set; nearest (N,): `nearest_by_status` over the whole of it. space_learns: whether the retrieval space
        changes from epoch to epoch. dropout: the share of samples that get no report."""
        self.source, self.statuses, self.patients, self.seed = source, statuses, patients, seed
        self.space_learns, self.dropout = space_learns, dropout
        self.patient_codes = torch.from_numpy(np.unique(patients, return_inverse=True)[1])
        self.grouping = Grouping(self.patient_codes, len(self.patient_codes))
        self.table: Tensor | None = nearest if source == "dataset_labels" else None

    def start_epoch(self, make_index: Callable[[], RetrievalIndex]) -> None:
        """`make_index` embeds the training set as the model is now; called only where it is needed. In a space that
        does not learn one search serves the whole run."""
        if self.source == "learned" and (self.space_learns or self.table is None):
            index = make_index()
            self.table = search_rows(index, index.embeddings, self.patients)

    def rows(self, batch_rows: Tensor, draw: int) -> Tensor:
        """`draw` numbers the step: ties within the batch are broken, random reports drawn and reports left out anew at
        every step, repeatably."""
        if self.source is None:
            return torch.full_like(batch_rows, NO_REPORT)
        found = self._found(batch_rows, draw)
        if self.dropout:
            rng = np.random.default_rng((self.seed, draw, DROPOUT_DRAW))
            found = found.masked_fill(torch.from_numpy(rng.random(len(found)) < self.dropout), NO_REPORT)
        return found

    def _found(self, batch_rows: Tensor, draw: int) -> Tensor:
        if self.source == "own":
            return batch_rows.clone()
        if self.source == "random":
            rng = np.random.default_rng((self.seed, draw, TRAINING_DRAW))
            own = self.patient_codes[batch_rows]
            return torch.from_numpy(random_others(own, self.grouping, rng, len(batch_rows)))
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


class QueryRetrieved:
    """Rows of a split -> the report of each, and its distance: the retriever's, or one of the controls'."""

    def __init__(self, *, index: RetrievalIndex | None = None, fixed: tuple[Tensor, Tensor] | None = None, patients=()):
        """index: where the retriever is asked; patients (S,) of the split. fixed: `fixed_retrieved` of the whole
        split. Neither: no report enters."""
        self.index, self.fixed, self.patients = index, fixed, patients

    def of(self, rows: Tensor, points: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """rows (B,) of the split -> distance (B,) and row of the bank (B,), -1 for none; on the CPU. `points()` gives
        the queries in the retrieval space (B, D), where they are needed."""
        if self.fixed is not None:
            distance, retrieved = (values[rows] for values in self.fixed)
            return distance, retrieved
        if self.index is None:
            return torch.zeros(len(rows)), torch.full((len(rows),), NO_REPORT)
        found = self.index.search(points(), 1, query_groups=[self.patients[row] for row in rows.tolist()])
        return found[0][:, 0].cpu(), found[1][:, 0].cpu()


def fixed_retrieved(
    source: str, statuses: Tensor, patients: Sequence[str], train: Tensor, train_patients: Sequence[str], seed: int
) -> tuple[Tensor, Tensor]:
    """Reports that no retriever chose, for the controls: status distance (Q,) and row (Q,), int64.

    statuses (Q, K) and patients (Q,) of the queries, train (N, K) and train_patients (N,). source "oracle": nearest by
    the queries' own statuses, which a test image does not show; ties are drawn with `seed`. "random": any other
    patient's report. Never the query's own patient, either way. "own": the query's own report, which is no training
    report: row N + q, where `revtaf.features.stages.further_reports` puts it.
    """
    if source == "own":
        return torch.zeros(len(statuses), dtype=torch.int64), len(train) + torch.arange(len(statuses))
    if source == "oracle":
        nearest = nearest_by_status(statuses, train, 1, query_groups=patients, groups=train_patients, seed=seed)
        return nearest[0][:, 0], nearest[1][:, 0]
    if source != "random":
        raise ValueError(f"expected oracle, own or random, got {source!r}")
    rng = np.random.default_rng((seed, TEST_DRAW))
    rows = torch.from_numpy(random_others(patients, train_patients, rng, len(statuses)))
    return 2 * (train[rows] != statuses).sum(1), rows


def search_rows(index: RetrievalIndex, points: Tensor, groups, chunk: int = 512) -> Tensor:
    """(Q, D) -> the nearest row of each (Q,), in chunks; `groups` (Q,) are never asked for themselves."""
    found = [
        index.search(points[i : i + chunk], 1, query_groups=groups[i : i + chunk])[1][:, 0]
        for i in range(0, len(points), chunk)
    ]
    return torch.cat(found).cpu()
