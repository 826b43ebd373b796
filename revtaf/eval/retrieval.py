"""How good is a retriever, apart from what is written afterwards? Neighbours of test images, judged by their labels.

A neighbour's gain is the overlap of its stated findings with the query's (Jaccard over pairs of category and status,
blanks left out; two reports that state nothing agree fully). nDCG (Jarvelin & Kekalainen 2002) compares the order found
with the best order of the whole database. The statuses of the first neighbour, taken as an answer, have a clinical
efficacy of their own (`revtaf.eval.clinical`): what copying it would score.
"""

from __future__ import annotations

import numpy as np

from revtaf.eval import clinical
from revtaf.eval.metric import Metric, mean_metric
from revtaf.labels import BLANK, STATUSES

DEPTH = 5  # neighbours that are looked at
ROUNDING = 1e-6  # of a radius in float32: smaller differences are none
CHUNK = 32  # queries whose gains over the whole database are held at once: 200 MB at MIMIC-CXR's size


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Jaccard of stated findings: statuses a (Q, K), b (N, K) -> (Q, N) in [0, 1]."""
    one, other = _stated(a), _stated(b)
    both = one @ other.T
    either = one.sum(1)[:, None] + other.sum(1)[None] - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


class Database:
    """What queries are judged against: the best that each could have found is computed once."""

    def __init__(
        self,
        known: np.ndarray,
        queries: np.ndarray,
        owners: np.ndarray | None = None,
        query_owners: np.ndarray | None = None,
    ):
        """known (N, K) and queries (Q, K) statuses; owners (N,) and query_owners (Q,) int: a query does not see what is
        its own."""
        self.known, self.queries = known, queries
        ideal, least = [], []
        for start in range(0, len(queries), CHUNK):
            part = slice(start, start + CHUNK)
            table = overlap(queries[part], known)
            apart = (queries[part, None] != known[None]).sum(-1)
            if owners is not None:
                own = owners[None] == query_owners[part, None]
                table[own] = 0
                apart[own] = known.shape[1] + 1  # farther than any other can be
            least.append(apart.min(1))
            depth = min(DEPTH, table.shape[1])
            best = -np.sort(-np.partition(table, -depth, axis=1)[:, -depth:], axis=1)
            ideal.append(np.pad(best, ((0, 0), (0, DEPTH - depth))))
        self.ideal = np.round(np.concatenate(ideal), 6).tolist()
        self.least = np.concatenate(least).tolist()

    def judge(self, rows: np.ndarray) -> dict:
        """rows (Q, DEPTH) of the neighbours found -> plain lists, for a file.

        distance: differing categories of each neighbour (half the Hamming distance of Eq. 6); least: the smallest that
        there is; gain: overlap of each; ideal: the largest gains of the database; statuses: of the first neighbour.
        """
        found = self.known[rows]  # (Q, DEPTH, K)
        gains = [overlap(query[None], theirs)[0] for query, theirs in zip(self.queries, found, strict=True)]
        return {
            "distance": (found != self.queries[:, None]).sum(-1).tolist(),
            "least": self.least,
            "gain": np.round(gains, 6).tolist(),
            "ideal": self.ideal,
            "statuses": ["".join(map(str, line)) for line in found[:, 0].tolist()],
        }


def metrics(content: dict, queries: np.ndarray) -> dict[str, Metric]:
    """Of `Database.judge`'s record and the queries' statuses (Q, 14 or 18): distance@1, distance@5 (lower is better),
    nearest@1 (the share of queries whose first neighbour is as near as any; ties count), overlap@1, nDCG@5, and the
    clinical scores of the first neighbour's statuses."""
    distance = np.array(content["distance"], dtype=float)
    gain, ideal = np.array(content["gain"], dtype=float), np.array(content["ideal"], dtype=float)
    discount = 1 / np.log2(np.arange(gain.shape[1]) + 2)
    best = ideal @ discount
    ndcg = np.divide(gain @ discount, best, out=np.ones(len(gain)), where=best > 0)
    own = np.array([list(map(int, line)) for line in content["statuses"]])
    return {
        "distance@1": mean_metric("distance@1", distance[:, 0], higher_is_better=False),
        f"distance@{DEPTH}": mean_metric(f"distance@{DEPTH}", distance.mean(1), higher_is_better=False),
        "nearest@1": mean_metric("nearest@1", distance[:, 0] <= np.array(content["least"])),
        "overlap@1": mean_metric("overlap@1", gain[:, 0]),
        f"nDCG@{DEPTH}": mean_metric(f"nDCG@{DEPTH}", ndcg),
        **clinical.metrics(queries, own),
    }


def shared(a: np.ndarray, b: np.ndarray) -> float:
    """Share of neighbours that two lists (Q, k) have in common."""
    return float(np.mean([len(set(x) & set(y)) / len(x) for x, y in zip(a.tolist(), b.tolist(), strict=True)]))


def depth(points: np.ndarray, curvature: float, findings: np.ndarray) -> dict:
    """Does the distance from the centre of the ball encode anything? points (N, D), findings (N,) positives each.

    radius = sqrt(c)|h| in [0, 1): quantiles, the share beyond .9 (where float32 distances lose digits), and its rank
    correlation with the number of findings.
    """
    from scipy.stats import spearmanr

    radius = np.sqrt(curvature) * np.linalg.norm(points.astype(np.float64), axis=1)
    varies = np.ptp(radius) > ROUNDING and np.ptp(findings) > 0
    by_count = {int(n): round(float(radius[findings == n].mean()), 6) for n in np.unique(findings)}
    return {
        "quantiles": {str(q): round(float(np.quantile(radius, q)), 6) for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)},
        "share beyond .9": float((radius > 0.9).mean()),
        "rank correlation with the number of findings": float(spearmanr(radius, findings)[0]) if varies else None,
        "mean radius by number of findings": by_count,
    }


def _stated(statuses: np.ndarray) -> np.ndarray:
    """(N, K) -> one-hot of the three stated statuses, (N, 3 K) float64."""
    kinds = [status for status in range(len(STATUSES)) if status != BLANK]
    return np.concatenate([statuses == kind for kind in kinds], axis=1).astype(float)
