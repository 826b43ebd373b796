"""The retrieval index: which database study is nearest in the learned space (paper section 3.3, inference).

Embeddings are computed once and kept; a query never re-encodes the database. One float32 matrix product
bounds every distance from both sides; the few rows that may be among the k nearest are then measured in
float64.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from revtaf.lre.ball import METRICS, NORM_FLOOR, edge_factor, pairwise
from revtaf.lre.labels import Grouping, Groups

# Error of a float32 inner product, relative to |x|^2 + |y|^2: 8e-6 is allowed, far more than is seen at width
# 512 (a test measures it). A larger value only costs rescoring; a smaller one could lose a true neighbour.
# The second is for TensorFloat-32.
PRODUCT_ERROR = 2**-17
PRODUCT_ERROR_TF32 = 2**-9
# Scores held at once (64 MB in float32), and rows held at once in float64 (16 MB at width 512).
SCORES_AT_ONCE = 2**24
DOUBLES_AT_ONCE = 4096


class RetrievalIndex:
    """Exact nearest neighbours among `embeddings` (N, D), which lie in the ball of curvature -c.

    groups (N,), numbers or strings: the image, study or patient of each row. A query of the same group
    never gets it. `metric` as in `ball.pairwise`. Memory: the embeddings, and one centred float32 copy
    (555 MB at 270,790 x 512).

    For one query x the order of distances is the order of s(y) = |x - y|^2 / (1 - c|y|^2), since asinh and
    division by 1 - c|x|^2 keep it; both sides are shifted by the database mean first, which leaves |x - y|
    as it is and removes most of the rounding error (the embeddings lie in the positive orthant, far from 0).
    """

    @torch.no_grad()
    def __init__(
        self,
        embeddings: Tensor,
        c: float | Tensor,
        groups: Groups | None = None,
        metric: str = "hyperbolic",
        chunk: int = 65536,
    ):
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {METRICS}, got {metric!r}")
        self.embeddings = embeddings.detach()
        self.c = float(c)
        self.metric = metric
        self.groups = Grouping(groups, len(embeddings))
        self.chunk = chunk
        device = embeddings.device
        self.centre = torch.zeros(embeddings.shape[1], device=device)
        if metric != "cosine" and len(embeddings):
            parts = self.embeddings.split(DOUBLES_AT_ONCE)
            self.centre = (sum(part.double().sum(0) for part in parts) / len(embeddings)).float()
        self.points = torch.empty(embeddings.shape, device=device)
        self.squares = torch.empty(len(embeddings), device=device)
        self.stretch = torch.empty(len(embeddings), device=device)
        for start in range(0, len(embeddings), DOUBLES_AT_ONCE):
            part = slice(start, start + DOUBLES_AT_ONCE)
            self.points[part], self.squares[part], self.stretch[part] = self._prepare(embeddings[part])

    def __len__(self) -> int:
        return len(self.embeddings)

    @torch.no_grad()
    def search(self, queries: Tensor, k: int, query_groups: Groups | None = None) -> tuple[Tensor, Tensor]:
        """The k nearest rows of each query (Q, D): distance (Q, k) float64 ascending, row (Q, k) int64.

        Rows of the query's own group are never returned; a query group that the database does not know
        excludes nothing. Equal distances are ordered by row, so the answer is deterministic. The answer is
        that of a float64 scan of the whole database, also near the edge and among near-duplicates.
        """
        if queries.shape[1] != self.embeddings.shape[1]:
            raise ValueError(f"queries are {queries.shape[1]} wide, the index {self.embeddings.shape[1]}")
        own = self.groups.codes(query_groups, len(queries))
        self.groups.check_enough(own, k)
        device = self.embeddings.device
        queries = queries.detach().to(device)
        distance = torch.empty(len(queries), k, dtype=torch.float64, device=device)
        row = torch.empty(len(queries), k, dtype=torch.int64, device=device)
        block = max(1, SCORES_AT_ONCE // max(1, len(self)))
        for start in range(0, len(queries), block):
            lower, upper = self._bounds(queries[start : start + block])
            for offset, q in enumerate(range(start, min(start + block, len(queries)))):
                if own[q] >= 0:
                    mine = torch.from_numpy(self.groups.rows(own[q])).to(device)
                    lower[offset, mine] = upper[offset, mine] = torch.inf
            # At least k rows are no farther than the k-th smallest upper bound; whoever may be nearer is a
            # candidate.
            limit = upper.topk(k, largest=False).values[:, -1:]
            candidates = lower <= limit
            for offset, q in enumerate(range(start, min(start + block, len(queries)))):
                distance[q], row[q] = self._rescore(queries[q], candidates[offset].nonzero()[:, 0], k)
        return distance, row

    def _prepare(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Centred points (N, D), their squared norms and 1 / (1 - c|y|^2), both (N,), summed in float64."""
        if self.metric == "cosine":
            # 1 - cos = 1/2 + 1/2 - 2 (x/|x| sqrt(1/2)) . (y/|y| sqrt(1/2)): the same arithmetic as a
            # distance.
            flat = F.normalize(points.double(), dim=-1, eps=NORM_FLOOR).float() * 0.5**0.5
            return flat, flat.new_full((len(flat),), 0.5), flat.new_ones(len(flat))
        centred = (points - self.centre).float()
        squares = centred.double().square().sum(-1).float()
        if self.metric == "euclidean":
            return centred, squares, torch.ones_like(squares)
        return centred, squares, (1 / edge_factor(points.double(), self.c)).float()

    def _bounds(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """A lower and an upper bound of s, each (Q, N)."""
        points, squares, _ = self._prepare(queries)
        error = PRODUCT_ERROR
        if points.is_cuda and torch.get_float32_matmul_precision() != "highest":
            error = PRODUCT_ERROR_TF32
        lower = points.new_empty(len(queries), len(self))
        upper = points.new_empty(len(queries), len(self))
        with torch.autocast(points.device.type, enabled=False):
            for start in range(0, len(self), self.chunk):
                part = slice(start, start + self.chunk)
                sizes = squares[:, None] + self.squares[part]
                score = sizes - 2 * (points @ self.points[part].T)
                sizes *= error
                torch.mul(score - sizes, self.stretch[part], out=lower[:, part])
                torch.mul(score + sizes, self.stretch[part], out=upper[:, part])
        return lower, upper

    def _rescore(self, query: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest of `rows` (ascending) to one query, by the exact distance in float64."""
        query = query[None].double()
        exact = torch.cat(
            [
                pairwise(self.metric, query, self.embeddings[part].double(), self.c)[0]
                for part in rows.split(DOUBLES_AT_ONCE)
            ]
        )
        best = exact.sort(stable=True).indices[:k]
        return exact[best], rows[best]
