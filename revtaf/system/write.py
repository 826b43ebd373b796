"""Writing reports for a data set: predict statuses, retrieve, generate, decode."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from revtaf.config import GenerationSettings
from revtaf.features.arrays import Features
from revtaf.files import atomic_write
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.reference import NO_REPORT, fixed_references
from revtaf.model import REVTAF
from revtaf.system.dataset import ReportDataset, eval_loader
from revtaf.system.session import Session

EMBED_AT_ONCE = 8192  # rows of entity scores embedded at once

log = logging.getLogger("revtaf")


@dataclass
class Prediction:
    """One written report, and what it was made from. Maps are (N, P) and (75, P), on the CPU, where kept."""

    row: int
    text: str
    statuses: list[int]
    positive: list[float]  # P(positive) per category
    reference: int  # row of the retrieved training report, -1 for none
    distance: float
    global_map: Tensor | None = None
    local_map: Tensor | None = None


@torch.no_grad()
def embed_all(model: REVTAF, features: Features, device: torch.device) -> Tensor:
    """Every sample of a split as a point of the retrieval space, (N, D) float32 on the device."""
    scores = torch.from_numpy(features.scores.astype(np.float32))
    parts = [model.embed(scores[i : i + EMBED_AT_ONCE].to(device)) for i in range(0, len(scores), EMBED_AT_ONCE)]
    return torch.cat(parts)


def retrieval_index(session: Session, cache=None) -> RetrievalIndex:
    """The training set as the model embeds it; `cache` (a file) keeps the points beside a checkpoint."""
    model = session.accelerator.unwrap_model(session.model)
    if cache is not None and cache.exists():
        points = load_file(cache)["points"].to(session.device)
    else:
        points = embed_all(model, session.knowledge.train, session.device)
        if cache is not None and session.accelerator.is_main_process:
            with atomic_write(cache) as partial:
                save_file({"points": points.contiguous().cpu()}, partial)
    return RetrievalIndex(points, model.curvature, groups=session.knowledge.train.patients, metric=model.metric)


@torch.no_grad()
def predict(
    session: Session,
    dataset: ReportDataset,
    generation: GenerationSettings,
    *,
    beams: int | None = None,
    index: RetrievalIndex | None = None,
    rows: list[int] | None = None,
    keep_maps: frozenset[int] = frozenset(),
    title: str = "writing reports",
) -> list[Prediction]:
    """Reports for `rows` (all by default) in their order. Several processes share the work.

    A query never retrieves its own patient. `keep_maps`: rows whose attention maps are returned as well.
    """
    accelerator = session.accelerator
    model = accelerator.unwrap_model(session.model).eval()
    rows = list(range(len(dataset))) if rows is None else rows
    mine = rows[accelerator.process_index :: accelerator.num_processes]
    loader = eval_loader(dataset, mine, generation.batch_size, session.settings.train.workers)
    fixed = None
    if model.needs_reference and generation.references != "retrieved":
        fixed = _fixed_references(session, dataset, generation.references)
    elif index is None and model.needs_reference:
        index = retrieval_index(session)
    predictions: list[Prediction] = []
    for batch in tqdm(loader, desc=title, leave=False, disable=not accelerator.is_main_process):
        reference = torch.full((len(batch),), NO_REPORT)
        distance = torch.zeros(len(batch))
        if fixed is not None:
            distance, reference = (values[batch.rows] for values in fixed)
        elif model.needs_reference:
            patients = [dataset.features.patients[row] for row in batch.rows.tolist()]
            points = model.embed(batch.scores.to(session.device))
            found = index.search(points, 1, query_groups=patients)
            distance, reference = found[0][:, 0].cpu(), found[1][:, 0].cpu()
        batch = batch.to(session.device)
        with accelerator.autocast():
            result = model.generate(
                batch.images,
                session.prompts(batch, reference),
                generation,
                beams,
                batch.statuses if generation.prompts == "oracle" else None,
            )
        tokens, statuses = result.tokens.tolist(), result.statuses.tolist()
        positive = result.probabilities[:, 1].tolist()
        for i, row in enumerate(batch.rows.tolist()):
            maps = (None, None)
            if row in keep_maps and result.local_map is not None:
                maps = (result.global_map[i].float().cpu(), result.local_map[i].float().cpu())
            text = session.tokenizer.decode(tokens[i])
            predictions.append(
                Prediction(row, text, statuses[i], positive[i], int(reference[i]), float(distance[i]), *maps)
            )
    by_row = {p.row: p for p in gather_object(predictions)}
    return [by_row[row] for row in rows]


def _fixed_references(session: Session, dataset: ReportDataset, source: str) -> tuple[Tensor, Tensor]:
    """Of every row of the split, whichever rows are asked for: (S,) status distance and training row."""
    train, asked = session.knowledge.train, dataset.features
    statuses, known = (torch.from_numpy(f.statuses.astype(np.int64)) for f in (asked, train))
    return fixed_references(source, statuses, asked.patients, known, train.patients, session.settings.seed)


@torch.no_grad()
def predict_probabilities(session: Session, dataset: ReportDataset) -> Tensor:
    """P(status) of every sample without writing reports: (S, 4, K), on the CPU."""
    accelerator = session.accelerator
    model = accelerator.unwrap_model(session.model).eval()
    rows = list(range(len(dataset)))[accelerator.process_index :: accelerator.num_processes]
    loader = eval_loader(dataset, rows, session.settings.generation.batch_size, session.settings.train.workers)
    pairs = []
    for batch in loader:
        batch = batch.to(session.device)
        memory = session.bank.memory(batch.memory) if session.settings.classifier.memory else None
        logits = model.classifier(model.encoder(batch.images).pooled, memory)
        pairs += list(zip(batch.rows.tolist(), logits.float().softmax(1).cpu(), strict=True))
    by_row = dict(gather_object(pairs))
    return torch.stack([by_row[row] for row in range(len(dataset))])
