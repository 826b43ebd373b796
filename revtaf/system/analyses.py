"""What a trained REVTAF's scores do not say: where its maps look, and what its retriever finds (`revtaf analyse`).

Into the folder of the tested split go `alignment.json` (where the split has boxes and the model has maps), and
`retrieval.json` and `ball.png` (where anything is retrieved). Statistics are kept by sample, so that several runs are
compared and resampled without opening a model again; neither file holds a word of a report.
"""

from __future__ import annotations

import logging
import math
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from revtaf.data.annotations import Study, load_annotations
from revtaf.data.images import crop_box, image_size
from revtaf.data.text import clean_for, sentences
from revtaf.engine.batches import eval_loader
from revtaf.engine.folder import BEST, model_identity
from revtaf.eval import alignment, retrieval
from revtaf.eval.alignment import FINDINGS, Tally
from revtaf.features.build import select
from revtaf.files import sha256, write_json
from revtaf.labels import CATEGORIES, ENTITIES, POSITIVE
from revtaf.lre.ball import METRICS
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import nearest_by_status
from revtaf.lre.retrieved import fixed_retrieved
from revtaf.system.dataset import ReportDataset
from revtaf.system.write import embed_all

if TYPE_CHECKING:
    from revtaf.system.session import Session

ALIGNMENT, RETRIEVAL, BALL = "alignment.json", "retrieval.json", "ball.png"
MADE_OF = "made of"  # of these files: of which model, and of which annotation
VERSION = 3  # of these files; a grid makes those of another version anew
MODEL_ROW, UNIFORM, MEAN_BOX = "model", "uniform map", "mean box of the training set"
SCORES, EMBEDDINGS = "entity scores", "MedFuse-CLIP"  # of rows that learn nothing
ORACLE_ROW = "nearest by true statuses (oracle)"
log = logging.getLogger("revtaf")


def analyse(session: Session, folder: Path) -> list[Path]:
    """Both analyses of a trained model on its tested split, into `folder`; returns the files written. Earlier ones are
    gone first: those of another test set need not all be written anew."""
    written = []
    for name in (RETRIEVAL, ALIGNMENT):
        (folder / name).unlink(missing_ok=True)
    settings = session.settings
    made_of = {"model": model_identity(Path(settings.run) / BEST), "annotation": sha256(settings.data.annotation)}
    if session.settings.controls.scores == "report":
        log.info("no alignment: entities are chosen by their scores, which controls.scores replaces")
    elif session.model.fvtaf is not None:
        if content := align(session):
            written.append(folder / ALIGNMENT)
            write_json(written[-1], content | {MADE_OF: made_of}, indent=None)
        else:
            log.info("no alignment: no study of %s has boxes", session.settings.data.name)
    if session.model.retrieves:
        content, points = judge_retrieval(session)
        if points is not None:
            written.append(folder / BALL)
            draw_ball(points, session, written[-1])
        written.append(folder / RETRIEVAL)  # last: where it is, the others are
        write_json(written[-1], content | {MADE_OF: made_of}, indent=None)
    return written


def _identity(dataset: ReportDataset) -> dict:
    studies = dataset.studies
    return {"version": VERSION, "ids": [s.id for s in studies], "subjects": list(dataset.features.patients)}


@torch.no_grad()
def align(session: Session) -> dict | None:
    """Scores of local maps (entities) and global maps (sentences) against the boxes; None where there are none.

    The retrieved reports are those nearest by the true statuses, the same for every model: who is retrieved is another
    question. A sentence stands for a finding where the labeler reads it as positive.
    """
    dataset = session.tested_set
    rows = [i for i, study in enumerate(dataset.studies) if study.findings_boxes]
    if not rows:
        return None
    grid = math.ceil(session.settings.encoder.image_size / 32)  # as the backbone's strides round
    train = session.knowledge.train
    known = torch.from_numpy(train.statuses.astype(np.int64))
    asked = torch.from_numpy(dataset.features.statuses.astype(np.int64))
    _, retrieved = fixed_retrieved("oracle", asked, dataset.features.patients, known, train.patients, 0)
    stated = _stated_findings(session, sorted(set(retrieved[rows].tolist())))
    constants = {UNIFORM: dict.fromkeys(FINDINGS, np.ones(grid**2)), MEAN_BOX: _mean_boxes(session, grid)}
    local = {name: Tally(len(dataset)) for name in (MODEL_ROW, *constants)}
    sentence = {name: Tally(len(dataset)) for name in (MODEL_ROW, *constants)}
    agreed = {name: Tally(len(dataset)) for name in (MODEL_ROW,)}
    examples: dict[str, dict] = {}  # the first image of each finding, whatever its map looks like

    model = session.plain_model.eval()
    loader = eval_loader(dataset, rows, session.settings.generation.batch_size, session.settings.train.workers)
    for batch in tqdm(loader, desc="alignment", leave=False):
        chosen = retrieved[batch.rows]
        batch = batch.to(session.device)
        with session.accelerator.autocast():
            fusion = model.features(batch.images, session.prompts(batch, chosen)).fusion
        global_map, local_map = (m.float().cpu().numpy() for m in (fusion.global_map, fusion.local_map))
        for i, row in enumerate(batch.rows.tolist()):
            for finding, (boxes, cover, hit) in _targets(session, row, grid).items():
                entity = alignment.entity_of(finding, dataset.features.scores[row])
                local[MODEL_ROW].add(row, finding, alignment.score_map(local_map[i, entity], cover, hit))
                if finding not in examples:
                    examples[finding] = {
                        "id": dataset.studies[row].id,
                        "entity": ENTITIES[entity],
                        "boxes": boxes,
                        "map": np.round(local_map[i, entity], 7).tolist(),
                    }
                at = stated[int(chosen[i])].get(finding)
                if at:
                    seen = global_map[i, at].mean(0)
                    sentence[MODEL_ROW].add(row, finding, alignment.score_map(seen, cover, hit))
                    agreed[MODEL_ROW].add(row, finding, (0, alignment.agreement(seen, local_map[i, entity]), 0))
                for name, maps in constants.items():
                    if finding in maps:
                        scores = alignment.score_map(maps[finding], cover, hit)
                        local[name].add(row, finding, scores)
                        if at:
                            sentence[name].add(row, finding, scores)
    return {
        **_identity(dataset),
        "grid": grid,
        "findings": list(FINDINGS),
        "local": {name: tally.content() for name, tally in local.items()},
        "global": {name: tally.content() for name, tally in sentence.items()},
        "agreement": {name: tally.content() for name, tally in agreed.items()},
        "examples": examples,
    }


class Target(NamedTuple):
    """A finding of an image: its boxes in fractions of the crop that the model sees, their cover (P,), and the patches
    that hit one of them (P,)."""

    boxes: list[tuple[float, ...]]
    cover: np.ndarray
    hit: np.ndarray


def _targets(session: Session, row: int, grid: int) -> dict[str, Target]:
    """Of the positive findings of FINDINGS that have a box within the crop, in a row of the tested split."""
    dataset = session.tested_set
    return _boxed(session, dataset.studies[row], dataset.features.statuses[row], dataset.images, grid)


def _boxed(session: Session, study: Study, statuses: np.ndarray, images: Path, grid: int) -> dict[str, Target]:
    encoder = session.settings.encoder
    size = image_size(images / study.image_path[0])
    found: dict[str, list] = {}
    for box in study.findings_boxes:
        column = CATEGORIES.index(box.category)
        known = column < len(statuses)
        if box.category in FINDINGS and (not known or statuses[column] == POSITIVE):
            found.setdefault(box.category, []).append(crop_box(box.xyxy, size, encoder.resize, encoder.image_size))
    targets = {}
    for finding, boxes in found.items():
        cover = alignment.coverage(boxes, grid)
        if cover.any():
            hit = alignment.hits([alignment.coverage([box], grid) for box in boxes])
            targets[finding] = Target(boxes, cover, hit)
    return targets


def _mean_boxes(session: Session, grid: int) -> dict[str, np.ndarray]:
    """The best map that looks at no image: the mean cover of each finding in the training set; empty where that set is
    not there."""
    data = session.settings.training_data
    if not Path(data.annotation).is_file():
        log.warning("no row '%s': %s is not there", MEAN_BOX, data.annotation)
        return {}
    by_id = {study.id: study for study in select(load_annotations(data.annotation), "train", data)}
    train = session.knowledge.train
    sums: dict[str, list[np.ndarray]] = {}
    for row, sample in enumerate(train.ids):
        study = by_id.get(sample)
        if study is not None and study.findings_boxes:
            for finding, target in _boxed(session, study, train.statuses[row], Path(data.images), grid).items():
                sums.setdefault(finding, []).append(target.cover)
    return {finding: np.mean(covers, axis=0) for finding, covers in sums.items()}


def _stated_findings(session: Session, rows: list[int]) -> dict[int, dict[str, list[int]]]:
    """Training row -> finding -> the numbers of the sentences that state it, as the prompts hold them."""
    data, longest = session.settings.training_data, session.settings.lre.max_sentences
    reports = session.knowledge.reports
    if reports is None:
        log.warning("no alignment of sentences: the model came without its training reports")
        return {row: {} for row in rows}
    split = {row: sentences(clean_for(data.language, reports[row], data.max_words))[:longest] for row in rows}
    texts = sorted({text for parts in split.values() for text in parts})
    statuses = dict(zip(texts, np.asarray(session.knowledge.labeler.label(texts)), strict=True))
    result: dict[int, dict[str, list[int]]] = {}
    for row, parts in split.items():
        found = result.setdefault(row, {})
        for number, text in enumerate(parts):
            for column in np.flatnonzero(statuses[text] == POSITIVE):
                found.setdefault(CATEGORIES[column], []).append(number)
    return result


@torch.no_grad()
def judge_retrieval(session: Session) -> tuple[dict, np.ndarray | None]:
    """The first neighbours of every test image under each distance, in the learned space, by raw entity scores and,
    where images are retrieved by MedFuse-CLIP, by its raw embeddings.

    Returns the record and the training points (N, D) where the space is hyperbolic.
    """
    dataset = session.tested_set
    model = session.plain_model.eval()
    train, asked = session.knowledge.train, dataset.features
    scores = [torch.from_numpy(f.scores.astype(np.float32)).to(session.device) for f in (train, asked)]
    spaces: dict[str, tuple[Tensor, Tensor, str]] = {
        f"{SCORES}, {metric}": (*scores, metric) for metric in ("euclidean", "cosine")
    }
    if asked.image_vectors is not None:
        raw = [torch.from_numpy(f.image_vectors.astype(np.float32)).to(session.device) for f in (train, asked)]
        spaces |= {f"{EMBEDDINGS}, {metric}": (*raw, metric) for metric in ("euclidean", "cosine")}
    learned = None
    if model.hnn is not None:
        learned = (embed_all(model, train, session.device), embed_all(model, asked, session.device))
        metrics = METRICS if model.metric == "hyperbolic" else [m for m in METRICS if m != "hyperbolic"]
        spaces |= {f"learned ({model.metric}), {metric}": (*learned, metric) for metric in metrics}
    truth, known = asked.statuses.astype(int), train.statuses.astype(int)
    codes = np.unique([*train.patients, *asked.patients], return_inverse=True)[1]
    database = retrieval.Database(known, truth, *np.split(codes, [len(known)]))
    found, record = {}, {}
    for name, (points, queries, metric) in tqdm(spaces.items(), desc="retrieval", leave=False):
        index = RetrievalIndex(points, model.curvature, groups=train.patients, metric=metric)
        found[name] = index.search(queries, retrieval.DEPTH, query_groups=asked.patients)[1].cpu().numpy()
        record[name] = database.judge(found[name])
    statuses = (torch.from_numpy(truth), torch.from_numpy(known))
    own = {"query_groups": asked.patients, "groups": train.patients, "seed": session.settings.seed}
    best = nearest_by_status(*statuses, retrieval.DEPTH, **own)[1].numpy()
    record[ORACLE_ROW] = database.judge(best)
    drawn = [
        fixed_retrieved("random", statuses[0], asked.patients, statuses[1], train.patients, seed)[1]
        for seed in range(own["seed"], own["seed"] + retrieval.DEPTH)
    ]
    record["random"] = database.judge(torch.stack(drawn, 1).numpy())
    content = {**_identity(dataset), "statuses": ["".join(map(str, line)) for line in truth.tolist()], "rows": record}
    content["shared neighbours"] = {
        f"{a} | {b}": {f"top {k}": retrieval.shared(found[a][:, :k], found[b][:, :k]) for k in (1, retrieval.DEPTH)}
        for a, b in combinations(found, 2)
        if b.startswith("learned")
    }
    points = None
    if learned is not None and model.metric == "hyperbolic":
        points = learned[0].cpu().numpy()
        content["ball"] = retrieval.depth(points, model.curvature, _findings(known))
        content["ball"]["curvature"] = model.curvature
    return content, points


def _findings(statuses: np.ndarray) -> np.ndarray:
    """Positive findings of each study, "no finding" not counted."""
    columns = [i for i, name in enumerate(CATEGORIES[: statuses.shape[1]]) if name != "no finding"]
    return (statuses[:, columns] == POSITIVE).sum(1)


def draw_ball(points: np.ndarray, session: Session, path: Path) -> None:
    """The training embeddings as a disc: direction by their two main components, radius the true one (sqrt(c)|h|)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from revtaf.files import atomic_write

    statuses = session.knowledge.train.statuses
    model = session.plain_model
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[:2].T
    radius = np.sqrt(model.curvature) * np.linalg.norm(points, axis=1)
    disc = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12) * radius[:, None]
    count = _findings(statuses)
    shown = ("no finding", "support devices", "pleural effusion", "cardiomegaly", "lung opacity")
    figure, panels = plt.subplots(1, 3, figsize=(15, 5.2), gridspec_kw={"width_ratios": [1.25, 1.25, 1]})
    dots = panels[0].scatter(*disc.T, c=np.minimum(count, 6), cmap="viridis", s=7)
    figure.colorbar(dots, ax=panels[0], label="positive findings (6: six or more)")
    free = np.ones(len(points), dtype=bool)
    for name, colour in zip(shown, ("#1b9e77", "#666666", "#1f78b4", "#d95f02", "#e7298a"), strict=True):
        chosen = free & (statuses[:, CATEGORIES.index(name)] == POSITIVE)
        free &= ~chosen
        panels[1].scatter(*disc[chosen].T, s=7, color=colour, label=name)
    panels[1].scatter(*disc[free].T, s=7, color="#dddddd", label="others", zorder=0)
    panels[1].legend(fontsize=8, loc="upper left", markerscale=2)
    limit = max(1.05 * radius.max(), 1e-6)
    for panel, title in zip(panels[:2], ("by number of findings", "by finding, the first that applies"), strict=True):
        panel.add_patch(plt.Circle((0, 0), 1, fill=False, color="#444444"))
        panel.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    groups = [radius[count == n] for n in np.unique(count)]
    panels[2].boxplot(groups, showfliers=False)
    panels[2].set_xticks(range(1, len(groups) + 1), [str(n) for n in np.unique(count)])
    panels[2].set(
        xlabel="positive findings", ylabel="radius, 1 = edge of the ball", title="does depth encode how much?"
    )
    figure.suptitle(f"{len(points)} training embeddings, {session.settings.data.name}; c = {model.curvature:g}")
    figure.tight_layout()
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
    plt.close(figure)
