"""A study of LRE by itself: what each of its choices does to the reports that are found (docs/method.md section 3).

The network's inputs are known before any model is trained, so that one factor at a time can be varied over many seeds
in minutes. All seeds of a variant are trained at once; a seed has the same initial weights (where the shapes are the
same) and the same batches in every variant, so that differences are paired. Beside the variants stand rows that learn
nothing, and one control: statuses in place of scores have to find the nearest by statuses, or no row means anything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from revtaf import __version__
from revtaf.engine.runtime import make_accelerator
from revtaf.errors import UserError
from revtaf.eval import retrieval
from revtaf.eval.metric import mean_metric
from revtaf.eval.statistics import compare
from revtaf.features.arrays import Features
from revtaf.features.build import Knowledge, prepare_knowledge, split_features
from revtaf.features.stages import array_hash
from revtaf.files import atomic_write, digest, read_json, write_json
from revtaf.labels import BLANK, STATUSES
from revtaf.lre.fit import fit
from revtaf.lre.hnn import HNN, to_space
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import nearest_by_status
from revtaf.lre.retrieved import fixed_retrieved
from revtaf.pages.parts import without_zero
from revtaf.settings import Settings

VERSION = 1  # raised whenever the same settings would give other numbers
CONTROL, REFERENCE = "control", "reference"
ENOUGH = 0.9  # of the control's queries have to be given one of the nearest by statuses
CURVATURES = (1e-3, 0.01, 0.1, 1.0)
WIDTHS = (32, 128, 512)
STEPS = 2000  # where the configuration trains LRE with the rest, and names none
MEASURES = {"distance@1": "status distance, first ↓", "overlap@1": "overlap, first", "nearest": "a nearest one"}
log = logging.getLogger("revtaf")


@dataclass(frozen=True)
class Variant:
    """One choice of LRE's settings. features: scores, or the embeddings of `lre.features`; positions, the scores and
    the entity's likeliest position; statuses, the true ones (the control)."""

    name: str
    label: str
    metric: str
    curvature: float
    width: int
    score_space: str
    steps: int
    features: str = "scores"


def variants(settings: Settings, steps: int) -> list[Variant]:
    """The control, the reference (hyperbolic, as configured), and what differs from it in one thing."""
    lre = settings.lre
    c = lre.curvature
    base = Variant(REFERENCE, f"hyperbolic, c = {c:g}", "hyperbolic", c, lre.width, lre.score_space, steps)
    space = "logit" if lre.score_space == "prob" else "prob"
    of_scores = [
        replace(base, name=space, label={"logit": "logits", "prob": "probabilities"}[space], score_space=space),
        replace(base, name="positions", label="scores and positions", features="positions"),
    ]
    return [
        replace(base, name=CONTROL, label="control: true statuses as scores", features="statuses", score_space="prob"),
        base,
        replace(base, name="untrained", label="untrained", steps=0),
        *(replace(base, name=name, label=name, metric=name) for name in ("euclidean", "cosine")),
        *(replace(base, name=f"c{v:g}", label=f"c = {v:g}", curvature=v) for v in CURVATURES if v != c),
        *(replace(base, name=f"width{w}", label=f"width {w}", width=w) for w in WIDTHS if w != lre.width),
        *(of_scores if lre.features == "scores" else ()),
    ]


class LREStudy:
    """The data of a study and its options. Training split to train and search, `split` to ask."""

    def __init__(self, settings: Settings, split: str, seeds: int, steps: int):
        self.settings, self.split, self.seeds, self.steps = settings, split, list(range(seeds)), steps
        self.device = make_accelerator(settings).device
        self.knowledge: Knowledge = prepare_knowledge(settings, self.device)
        data = settings.training_data
        self.train: Features = self.knowledge.train
        self.asked: Features = split_features(self.knowledge, settings, data, split, self.device)[0]
        patients = [*self.train.patients, *self.asked.patients]
        codes = np.unique(patients, return_inverse=True)[1]
        owners, self.units = np.split(codes, [len(self.train)])
        self.known, self.truth = self.train.statuses.astype(int), self.asked.statuses.astype(int)
        self.database = retrieval.Database(self.known, self.truth, owners, self.units)
        statuses = (torch.from_numpy(self.truth), torch.from_numpy(self.known))
        found = nearest_by_status(*statuses, retrieval.DEPTH, self.asked.patients, self.train.patients)
        self.best, self.best_rows = found[0][:, 0].numpy() // 2, found[1].numpy()
        # As they are given: controls replace inputs, and an annotation may be corrected under the same ids.
        sides = [(f.ids, f.patients, *map(array_hash, _arrays(f))) for f in (self.train, self.asked)]
        self.data = digest(*sides, settings.controls.model_dump())

    def inputs(self, variant: Variant) -> tuple[Tensor, Tensor]:
        """What the network is given for the training samples (N, F) and the queries (Q, F)."""
        if variant.features == "statuses":
            pair = [_one_hot(known, self.train.scores.shape[1]) for known in (self.known, self.truth)]
        else:
            given = (torch.from_numpy(f.retriever_inputs.astype(np.float32)) for f in (self.train, self.asked))
            pair = [to_space(values, variant.score_space) for values in given]
        if variant.features == "positions":
            codes = [torch.from_numpy(f.codes.astype(np.int64)) for f in (self.train, self.asked)]
            kinds = int(max(c.max() for c in codes)) + 1
            stated = [torch.nn.functional.one_hot(c, kinds).flatten(1).float() for c in codes]
            occurs = stated[0].any(0)  # columns that no training sample has would teach nothing
            pair = [torch.cat([values, s[:, occurs]], 1) for values, s in zip(pair, stated, strict=True)]
        return pair[0].to(self.device), pair[1].to(self.device)

    def run(self, variant: Variant) -> dict[str, Any]:
        """Train a variant with every seed, and find each query's first neighbours."""
        lre = self.settings.lre
        inputs, queries = self.inputs(variant)
        nets = [self._net(variant, inputs.shape[1], seed) for seed in self.seeds]
        losses = torch.zeros(len(nets), 0)
        if variant.steps:
            losses = fit(
                nets,
                inputs,
                torch.from_numpy(self.known).to(self.device),
                seeds=self.seeds,
                steps=variant.steps,
                batch_size=lre.batch_size,
                lr=lre.lr,
                weight_decay=self.settings.train.weight_decay,
                ties=lre.ties,
                temperature=lre.temperature,
                title=variant.label,
            ).cpu()
        shown = max(1, variant.steps // 20)
        rows = [self._search(net, inputs, queries) for net in nets]
        with torch.no_grad():
            radius = [float((net.c.sqrt() * net(queries).norm(dim=1)).median()) for net in nets]
        return {
            **self.judge(rows),
            "loss": [round(float(line[-shown:].mean()), 5) for line in losses] if variant.steps else None,
            "radius": radius if variant.metric == "hyperbolic" else None,
        }

    def judge(self, rows: list[np.ndarray]) -> dict[str, Any]:
        """rows: for each seed the neighbours found (Q, DEPTH) -> each query's measures, a list for each seed."""
        found = [self.database.judge(each) for each in rows]
        distance = np.array([f["distance"] for f in found])[:, :, 0]
        return {
            "distance@1": distance.tolist(),
            "overlap@1": np.array([f["gain"] for f in found])[:, :, 0].tolist(),
            "nearest": (distance == self.best).astype(int).tolist(),
            "first": np.stack(rows)[:, :, 0].tolist(),
        }

    def without_learning(self) -> dict[str, dict[str, Any]]:
        """Rows that have no seed: raw scores (or embeddings), chance, and the best that there is."""
        raw = [torch.from_numpy(f.retriever_inputs.astype(np.float32)) for f in (self.train, self.asked)]
        what, rows = {"scores": "raw scores", "medfuse": "raw embeddings"}[self.settings.lre.features], {}
        for metric in ("euclidean", "cosine"):
            index = RetrievalIndex(raw[0], 1.0, groups=self.train.patients, metric=metric)
            rows[f"{what}, {metric}"] = index.search(raw[1], retrieval.DEPTH, self.asked.patients)[1].numpy()
        own = (torch.from_numpy(self.truth), self.asked.patients, torch.from_numpy(self.known), self.train.patients)
        drawn = [fixed_retrieved("random", *own, seed)[1] for seed in range(retrieval.DEPTH)]
        rows["random"] = torch.stack(drawn, 1).numpy()
        rows["nearest by true statuses (oracle)"] = self.best_rows
        return {name: self.judge([found]) for name, found in rows.items()}

    def identity(self, variant: Variant) -> str:
        """Changes with whatever the numbers of a variant depend on."""
        lre, train = self.settings.lre, self.settings.train
        options = (lre.batch_size, lre.lr, lre.ties, lre.temperature, train.weight_decay)
        return digest(VERSION, asdict(variant), self.seeds, options, self.knowledge.fingerprint, self.data)

    def _net(self, variant: Variant, width: int, seed: int) -> HNN:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return HNN(width, (variant.width,) * 2, variant.curvature, metric=variant.metric).to(self.device)

    @torch.no_grad()
    def _search(self, net: HNN, inputs: Tensor, queries: Tensor) -> np.ndarray:
        index = RetrievalIndex(net(inputs), net.c, groups=self.train.patients, metric=net.metric)
        return index.search(net(queries), retrieval.DEPTH, self.asked.patients)[1].cpu().numpy()


def study(settings: Settings, out: Path, split: str | None = None, seeds: int = 30, steps: int | None = None) -> Path:
    """Run what is missing of the study, and write `table.md` and `summary.json` into `out`.

    Every variant is a file of `out`/rows as soon as it is done, and is found again where nothing that it depends on has
    changed. UserError for fewer than two seeds, of which no interval can be made, and for rows of another study.
    """
    if seeds < 2:
        raise UserError(f"--seeds {seeds}: an interval over seeds needs two or more")
    steps = steps or settings.lre.steps or STEPS
    work = LREStudy(settings, split or settings.training_data.validation_split, seeds, steps)
    found: dict[str, dict[str, Any]] = {}
    chosen = variants(settings, steps)
    for variant in chosen:
        if kept := _kept(work, out, variant):
            found[variant.name] = kept
    for variant in tqdm(chosen, desc="LRE study", unit="variant"):
        if variant.name not in found:
            made = {"identity": work.identity(variant), "variant": asdict(variant), **work.run(variant)}
            write_json(_row(out, variant), made, indent=None)
            found[variant.name] = made
        if variant.name == CONTROL:
            log.info("%s", control_sentence(np.mean(found[CONTROL]["nearest"])))
    content = summarise(work, {v.name: v for v in chosen}, {v.name: found[v.name] for v in chosen})
    write_json(out / "summary.json", content)
    with atomic_write(out / "table.md") as partial:
        partial.write_text(markdown(content), encoding="utf-8")
    return out


def _row(out: Path, variant: Variant) -> Path:
    return out / "rows" / f"{variant.name}.json"


def _kept(work: LREStudy, out: Path, variant: Variant) -> dict[str, Any]:
    """The row of a variant that was made before; empty where there is none. UserError where it is another study's."""
    path = _row(out, variant)
    kept = read_json(path, "row of a study") if path.is_file() else {}
    if kept and kept.get("identity") != work.identity(variant):
        raise UserError(
            f"{path} is a row of another study: other seeds, steps, settings or controls, another split, or statuses, "
            "patients or features that have changed since; give this one another place with --out FOLDER, or delete "
            "that one"
        )
    return kept


def study_title(settings: Settings) -> str:
    """What the table is of; it names the settings by which a study is itself a control."""
    answers = settings.trained_on_answers
    return "LRE by itself" + (f", a control: {', '.join(answers)}" if answers else "")


def control_sentence(share: float) -> str:
    """What the control says, first of all."""
    verdict = "passed" if share >= ENOUGH else "FAILED: no row below is evidence of anything"
    return (
        f"positive control, true statuses in place of the scores: {100 * share:.1f} % of the queries get one of the "
        f"nearest by statuses ({100 * ENOUGH:.0f} % asked for): {verdict}"
    )


def summarise(work: LREStudy, chosen: Mapping[str, Variant], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means and intervals over seeds, paired differences to the reference over seeds and over patients."""
    rows: dict[str, Any] = {}
    reference = found[REFERENCE]
    for name, content in found.items():
        row: dict[str, Any] = {"label": chosen[name].label, "variant": asdict(chosen[name]), "measures": {}}
        for measure in MEASURES:
            values = np.array(content[measure], dtype=float)
            row["measures"][measure] = _over_seeds(values.mean(1))
            if name not in (REFERENCE, CONTROL):
                row["measures"][measure]["difference"] = _difference(
                    measure, values, np.array(reference[measure], dtype=float), work.units
                )
        row["loss"] = None if content["loss"] is None else float(np.mean(content["loss"]))
        row["radius"] = None if content["radius"] is None else float(np.mean(content["radius"]))
        same = np.array(content["first"]) == np.array(reference["first"])
        row["same first neighbour"] = None if name == CONTROL else float(same.mean())
        rows[name] = row
    fixed = {
        name: {measure: float(np.mean(content[measure])) for measure in MEASURES}
        for name, content in work.without_learning().items()
    }
    control = float(np.mean(found[CONTROL]["nearest"]))
    others = min(work.settings.lre.batch_size, len(work.train)) - 1
    return {
        "title": study_title(work.settings),
        "version": __version__,
        "data": work.settings.training_data.name,
        "split": work.split,
        "samples": len(work.asked),
        "patients": len(set(work.asked.patients)),
        "training samples": len(work.train),
        "features": work.knowledge.fingerprint,
        "seeds": len(work.seeds),
        "steps": work.steps,
        "batch": work.settings.lre.batch_size,
        "loss at equal distances": float(np.log(others)),
        "control": {"share": control, "asked for": ENOUGH, "passed": control >= ENOUGH},
        "rows": rows,
        "without learning": fixed,
    }


def markdown(content: Mapping[str, Any]) -> str:
    """The table, printed from the summary alone."""
    lines = [
        f"# {content['title']}",
        "",
        f"{content['data']}, {content['split']}: {content['samples']} images of {content['patients']} patients, asked "
        f"among {content['training samples']} training images. {content['steps']} updates of {content['batch']}, "
        f"{content['seeds']} seeds; rank loss at equal distances {content['loss at equal distances']:.3f}.",
        "",
        f"**{control_sentence(content['control']['share']).capitalize()}.**",
        "",
        "| | " + " | ".join(MEASURES.values()) + " | rank loss | median radius | same first neighbour |",
        "| --- |" + " ---: |" * (len(MEASURES) + 3),
    ]
    for row in content["rows"].values():
        cells = [_mean(row["measures"][measure]) for measure in MEASURES]
        others = (row["loss"], row["radius"], row["same first neighbour"])
        cells += ["" if value is None else without_zero(value) for value in others]
        lines.append(f"| {row['label']} | " + " | ".join(cells) + " |")
    for name, values in content["without learning"].items():
        cells = [without_zero(values[measure]) for measure in MEASURES]
        lines.append(f"| *{name}* | " + " | ".join(cells) + " | | | |")
    lines += [
        "",
        "| minus the reference | " + " | ".join(MEASURES.values()) + " |",
        "| --- |" + " ---: |" * len(MEASURES),
    ]
    for row in content["rows"].values():
        apart = [row["measures"][measure].get("difference") for measure in MEASURES]
        if apart[0] is not None:
            lines.append(f"| {row['label']} | " + " | ".join(map(_apart, apart)) + " |")
    lines += [
        "",
        f"The reference is {content['rows'][REFERENCE]['label']}; every other variant differs from it in one "
        "thing. Status distance: categories that differ. Overlap: Jaccard of stated findings. A nearest one: the first "
        "neighbour has the smallest status distance that there is. Same first neighbour: as the reference's, seed by "
        "seed. Radius: 1 is the edge of the ball. Small print: ± half of the 95 % interval of the mean over seeds (t); "
        "of a difference, paired by seed, its 95 % interval over seeds, then over patients (BCa, mean of the seeds). "
        "**Bold**: both leave 0 out. Image features are not among the inputs: they are not kept with the others.",
        "",
    ]
    return "\n".join(lines)


def _over_seeds(values: np.ndarray) -> dict[str, Any]:
    """Mean of one value a seed (S,), half of its 95 % interval (t), and the values."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": float(values.mean()), "half": float(half), "per seed": np.round(values, 6).tolist()}


def _difference(measure: str, values: np.ndarray, reference: np.ndarray, units: np.ndarray) -> dict[str, Any]:
    """Of (S, Q) and (S, Q): mean, 95 % interval over seeds and over patients."""
    apart = (values - reference).mean(1)
    over = _over_seeds(apart)
    pair = [{measure: mean_metric(measure, each.mean(0))} for each in (values, reference)]
    patients = compare(*pair, units, permutations=1, resamples=2000)[measure]
    seeds = (over["mean"] - over["half"], over["mean"] + over["half"])
    bounds = {"seeds": seeds, "patients": (float(patients.low), float(patients.high))}
    shown = all(np.isfinite(pair).all() and (pair[0] > 0 or pair[1] < 0) for pair in bounds.values())
    return {"mean": over["mean"], **bounds, "shown": bool(shown)}


def _mean(found: Mapping[str, Any]) -> str:
    return without_zero(found["mean"]) + (f" <sub>±{without_zero(found['half'])}</sub>" if found["half"] > 0 else "")


def _apart(found: Mapping[str, Any]) -> str:
    value, *bounds = (
        ("+" if v > 0 else "") + without_zero(v) for v in (found["mean"], *found["seeds"], *found["patients"])
    )
    value = f"**{value}**" if found["shown"] else value
    return f"{value} <sub>[{bounds[0]}, {bounds[1]}]; [{bounds[2]}, {bounds[3]}]</sub>"


def _arrays(features: Features) -> tuple[np.ndarray, ...]:
    """What a study reads of a split."""
    return features.retriever_inputs, features.codes, features.statuses


def _one_hot(statuses: np.ndarray, width: int) -> Tensor:
    """(N, K) -> (N, width) float32: the stated statuses one-hot, where they fit within `width`, and zeros behind."""
    kinds = [kind for kind in range(len(STATUSES)) if kind != BLANK]
    stated = np.concatenate([statuses == kind for kind in kinds], axis=1).astype(np.float32)
    return torch.nn.functional.pad(torch.from_numpy(stated), (0, width - stated.shape[1]))
