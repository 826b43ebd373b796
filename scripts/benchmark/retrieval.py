"""Time and memory of the nearest-neighbour search in the learned space.

    python scripts/benchmark/retrieval.py                       a database of MIMIC-CXR's size, 16 queries
    python scripts/benchmark/retrieval.py --rows 20000

Each case runs in a process of its own; memory is the peak beyond the database and its queries. The broadcast
distance of geoopt, the way the formula is printed, is measured with one query (its memory grows with queries).
"""

import argparse
import resource
import subprocess
import sys
import time

import torch

CASES = ("index", "broadcast", "status")


def measure(action, repeat: int = 3) -> tuple[float, float, object]:
    """(seconds of the fastest run, megabytes of peak memory beyond what was there before, the result)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kilobytes, macOS in bytes.
    return min(seconds), (peak - before) / (2**20 if sys.platform == "darwin" else 2**10), result


def in_own_process(case: str, arguments: list[str]) -> str:
    command = [sys.executable, __file__ if not arguments else arguments[0], *arguments[1:], "--case", case]
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def embed(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    from revtaf.lre.hnn import HNN

    torch.manual_seed(0)
    hnn = HNN()
    generator = torch.Generator().manual_seed(seed)
    points = torch.empty(rows, 512)  # filled in place: a second copy would hide the peak that is measured later
    with torch.no_grad():
        for part in points.split(2048):
            part.copy_(hnn(torch.rand(len(part), hnn.in_features, generator=generator).pow_(4)))
        return points, hnn.c


def run_index(rows: int, queries: int, k: int) -> None:
    from revtaf.lre.ball import pairwise_distance
    from revtaf.lre.index import RetrievalIndex

    database, c = embed(rows, 1)
    asked, _ = embed(queries, 2)
    build, build_memory, index = measure(lambda: RetrievalIndex(database, c), repeat=1)
    search, search_memory, (_, row) = measure(lambda: index.search(asked, k))
    print(f"index build                {build * 1e3:9.0f} ms {build_memory:8.0f} MB")
    print(f"index search, {queries:3d} queries  {search * 1e3:9.1f} ms {search_memory:8.0f} MB", end="")
    print(f"   {search / queries * 1e3:.2f} ms a query")
    exact = torch.cat(
        [pairwise_distance(asked.double(), part.double(), c.double()) for part in database.split(2048)], dim=1
    )
    agree = (exact.sort(dim=1, stable=True).indices[:, :k] == row).float().mean().item()
    print(f"agreement with a float64 scan, top {k}: {agree:.4f}")


def run_broadcast(rows: int, queries: int, k: int) -> None:
    database, c = embed(rows, 1)
    from geoopt import PoincareBall  # after revtaf, which silences its 73 warnings on import

    asked, _ = embed(1, 2)
    ball = PoincareBall(c=c.item())
    with torch.no_grad():
        seconds, memory, _ = measure(lambda: ball.dist(asked[:, None], database[None]).topk(k, largest=False))
    print(f"geoopt broadcast, 1 query  {seconds * 1e3:9.1f} ms {memory:8.0f} MB   {seconds * 1e3:.2f} ms a query")


def run_status(rows: int, queries: int, k: int) -> None:
    from revtaf.lre.labels import nearest_by_status

    # Labels as skewed as real ones: most categories blank, so that many studies share a status vector.
    generator = torch.Generator().manual_seed(3)
    odds = torch.tensor([0.86, 0.08, 0.04, 0.02])
    statuses = torch.multinomial(odds, rows * 18, True, generator=generator).view(rows, 18)
    patients = torch.arange(rows) // 4
    seconds, memory, _ = measure(lambda: nearest_by_status(statuses, statuses, 1, patients, patients), repeat=1)
    distinct = len(torch.unique(statuses, dim=0))
    print(f"status neighbours, all x all {seconds:7.1f} s  {memory:8.0f} MB   {distinct:,} distinct vectors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=270_790)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case:
        globals()[f"run_{options.case}"](options.rows, options.queries, options.k)
        return
    print(f"{options.rows:,} rows of width 512, {options.threads} threads")
    texts = {case: in_own_process(case, sys.argv) for case in CASES}
    print("".join(texts.values()), end="")
    per_query = {
        case: float(line.rsplit(" ms a query", 1)[0].rsplit(" ", 1)[1])
        for case, text in texts.items()
        for line in text.splitlines()
        if line.endswith("ms a query")
    }
    print(f"broadcast / index, per query: {per_query['broadcast'] / per_query['index']:.0f}x")


if __name__ == "__main__":
    main()
