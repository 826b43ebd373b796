"""Time of the intervals and the paired tests, and how often the intervals hold the truth. All content is invented.

    python scripts/benchmark/resampling.py              10,000 resamples of all metrics of 3,858 reports
    python scripts/benchmark/resampling.py --coverage 1000     as many simulated test sets of 289 patients

The statistics have the widths of the real ones (10 for BLEU, 23 for METEOR, 46 for clinical efficacy) and cost as much.
The coverage run also shows the plain percentile interval, which the BCa interval is to improve on.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
from scipy.stats import norm
from tqdm import tqdm

from revtaf.eval import clinical, statistics
from revtaf.eval.metric import Metric, mean_metric

IMAGES, PATIENTS = 3858, 289  # of MIMIC-CXR's official test set, where findings are given
# Share of positive reports in that set (supplement, Table 4), in the order of CHEXPERT_CATEGORIES.
PREVALENCE = np.array([730, 1271, 1392, 199, 841, 176, 165, 1056, 75, 1345, 122, 148, 563, 323]) / IMAGES
MEANS = (
    "ROUGE_L",
    "CIDEr",
    "entity",
    "relation",
    "combined",
    "simple",
    "partial",
    "complete",
    "BERTScore",
    "SembScore",
)
SHOWN = ("example_f1", "micro_f1", "macro_f1", "tail_f1")


def patients(count: int, generator: np.random.Generator) -> np.ndarray:
    """Codes (N,): a few patients have many images, most have few; 13 on average."""
    return np.repeat(np.arange(count), 1 + generator.negative_binomial(1, 0.077, count))


def statuses(codes: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Reference and predicted statuses (N, 14), alike within a patient and between the two."""
    count, noise = codes.max() + 1, generator.normal
    latent = 0.8 * noise(size=(count, 14))[codes] + 0.6 * noise(size=(len(codes), 14))
    skill = 0.15 * noise(size=(count, 1))[codes]
    seen = 0.8 * latent + skill + 0.6 * noise(size=latent.shape)
    threshold = norm.ppf(1 - PREVALENCE)
    return (latent > threshold).astype(int), (seen > threshold).astype(int)


def all_metrics(codes: np.ndarray, generator: np.random.Generator) -> dict[str, Metric]:
    n = len(codes)
    bleu, meteor = generator.integers(1, 90, (n, 10)).astype(float), generator.random((n, 23))
    result = clinical.metrics(*statuses(codes, generator))
    for order in range(1, 5):
        result[f"BLEU_{order}"] = Metric(f"BLEU_{order}", bleu, lambda s, k=order: _bleu(s, k))
    result["METEOR"] = Metric("METEOR", meteor, lambda s: (s[..., :11].sum(-1) / s[..., 11:].sum(-1)) ** 0.2)
    for name in MEANS:
        result[name] = mean_metric(name, generator.random(n))
    radcliq = mean_metric("RadCliQ-v1", 1 + generator.random(n))
    result["RadCliQ-v1"] = radcliq
    result["1/RadCliQ-v1"] = Metric("1/RadCliQ-v1", radcliq.statistics, lambda s: s[..., 1] / s[..., 0])
    return result


def _bleu(sums: np.ndarray, order: int) -> np.ndarray:
    ratio = np.minimum(sums[..., 2 : 2 + order], sums[..., 6 : 6 + order]) / sums[..., 6 : 6 + order]
    return np.exp(np.log(ratio).mean(-1) + np.minimum(0, 1 - sums[..., 1] / sums[..., 0]))


def speed() -> None:
    generator = np.random.default_rng(0)
    share = generator.exponential(size=PATIENTS)
    codes = np.r_[np.arange(PATIENTS), generator.choice(PATIENTS, IMAGES - PATIENTS, p=share / share.sum())]
    first, second = all_metrics(codes, generator), all_metrics(codes, generator)
    print(f"{len(first)} metrics of {IMAGES} reports, 10,000 resamples or swaps")
    for name, groups in ((f"{len(set(codes))} patients", codes), (f"{IMAGES} rows", np.arange(IMAGES))):
        for what, action in (
            ("intervals of one system", lambda g=groups: statistics.intervals(first, g)),
            ("intervals and tests of two", lambda g=groups: statistics.compare(first, second, g)),
        ):
            start = time.perf_counter()
            action()
            print(f"{name:13s} {what:27s} {time.perf_counter() - start:5.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kilobytes, macOS in bytes.
    print(f"peak memory {peak / (2**20 if sys.platform == 'darwin' else 2**10):.0f} MB")


def coverage(trials: int, population: int, resamples: int = 1000) -> None:
    generator = np.random.default_rng(0)
    everybody = statuses(patients(population, generator), generator)
    truth = {name: m.corpus for name, m in clinical.metrics(*everybody).items()}
    hits = {name: np.zeros(2) for name in SHOWN}
    for trial in tqdm(range(trials)):
        codes = patients(PATIENTS, generator)
        metrics = {n: m for n, m in clinical.metrics(*statuses(codes, generator)).items() if n in SHOWN}
        bca = statistics.intervals(metrics, codes, resamples, seed=trial)
        weights = generator.multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), resamples)
        first = np.flatnonzero(np.diff(codes, prepend=-1))  # row of each patient
        for name, metric in metrics.items():
            low, high = np.quantile(metric.value(weights @ np.add.reduceat(metric.statistics, first)), [0.025, 0.975])
            hits[name] += low <= truth[name] <= high, bca[name].low <= truth[name] <= bca[name].high
    print(f"nominal 95 % intervals, {trials} sets of {PATIENTS} patients\n            percentile   BCa")
    for name in SHOWN:
        print(f"{name:12s}{100 * hits[name][0] / trials:8.1f} % {100 * hits[name][1] / trials:6.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coverage", type=int, metavar="TRIALS", help="simulate coverage instead of measuring time")
    parser.add_argument("--population", type=int, default=50_000, help="patients that the true values are of")
    arguments = parser.parse_args()
    if arguments.coverage:
        coverage(arguments.coverage, arguments.population)
    else:
        speed()


if __name__ == "__main__":
    main()
