"""Writing reports for a data set: predict statuses, retrieve, generate, decode."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from revtaf.engine.batches import eval_loader
from revtaf.features.arrays import Features
from revtaf.generate.asked import NOTHING, Asked
from revtaf.labels import CATEGORIES, POSITIVE
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.retrieved import NO_REPORT, QueryRetrieved, fixed_retrieved
from revtaf.model import REVTAF, Generation
from revtaf.settings import GenerationSettings
from revtaf.system.choose import best, disagreements
from revtaf.system.dataset import ReportDataset

if TYPE_CHECKING:
    from revtaf.system.session import Session

EMBED_AT_ONCE = 8192  # rows embedded at once


@dataclass
class Prediction:
    """One written report, and what it was made from. Maps are (N, P) and (75, P), on the CPU, where kept. shares: of
    its batch, how large each source's text is beside the image in Eq. 11 (`revtaf.fvtaf.fusion.Fusion`)."""

    row: int
    text: str
    statuses: list[int]  # of the prompt
    probabilities: Tensor  # (4, K) of the statuses
    retrieved: int  # row of the retrieved training report, -1 for none of them
    distance: float
    global_map: Tensor | None = None
    local_map: Tensor | None = None
    sentences: int = 0  # of the retrieved report: rows of the global map that are not padding
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def positive(self) -> list[float]:
        """P(positive) of each category."""
        return self.probabilities[POSITIVE].tolist()


@torch.no_grad()
def embed_all(model: REVTAF, features: Features, device: torch.device) -> Tensor:
    """Every sample of a split as a point of the retrieval space, (N, D) float32 on the device."""
    inputs = torch.from_numpy(features.retriever_inputs.astype(np.float32))
    parts = [model.embed(inputs[i : i + EMBED_AT_ONCE].to(device)) for i in range(0, len(inputs), EMBED_AT_ONCE)]
    return torch.cat(parts)


def query_retrieved(
    session: Session, dataset: ReportDataset, source: str, index: RetrievalIndex | None = None
) -> QueryRetrieved:
    """Who is given to the samples of a split. `index`: the training set in the retrieval space, where it is at hand."""
    if not session.plain_model.retrieves:
        return QueryRetrieved()
    asked = dataset.features
    if source == "learned":
        return QueryRetrieved(index=index or session.index(), patients=asked.patients)
    train = session.knowledge.train
    statuses, known = (torch.from_numpy(f.statuses.astype(np.int64)) for f in (asked, train))
    seed = session.settings.seed
    return QueryRetrieved(fixed=fixed_retrieved(source, statuses, asked.patients, known, train.patients, seed))


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
    workers: int | None = None,
    title: str = "writing reports",
    asked: Asked = NOTHING,
) -> list[Prediction]:
    """Reports for `rows` (all by default) in their order. Several processes share the work.

    A query never retrieves its own patient; the control `own` gives it its own report. `keep_maps`: rows whose
    attention maps are returned as well; `workers`: processes that read images, by default as in training; `title`: of
    the bar, "" for none; `asked`: what a user decides in the model's place.
    """
    accelerator = session.accelerator
    model = session.plain_model.eval()
    rows = list(range(len(dataset))) if rows is None else rows
    mine = rows[accelerator.process_index :: accelerator.num_processes]
    workers = session.settings.train.workers if workers is None else workers
    loader = eval_loader(dataset, mine, generation.batch_size, workers)
    bank = session.bank_with(dataset.studies) if generation.retrieved == "own" else session.bank
    known = len(session.knowledge.train)
    if asked.retrieved is not None:  # its bank holds this one report, which is no training report
        bank, known = session.bank_of(asked.retrieved), 0
        retrieval = QueryRetrieved(fixed=(torch.zeros(len(dataset)), torch.zeros(len(dataset), dtype=torch.int64)))
    elif not asked.retrieve:
        retrieval = QueryRetrieved()
    else:
        retrieval = query_retrieved(session, dataset, generation.retrieved, index)
    given = asked.numbers(CATEGORIES[: session.categories])
    decide = _overridden(session.decider(generation), given)
    predictions: list[Prediction] = []
    for batch in tqdm(loader, desc=title, leave=False, disable=not (title and accelerator.is_main_process)):
        inputs = batch.retriever_inputs
        distance, retrieved = retrieval.of(batch.rows, lambda inputs=inputs: model.embed(inputs.to(session.device)))
        batch = batch.to(session.device)
        with accelerator.autocast():
            result = model.generate(
                batch.images,
                session.prompts(batch, retrieved, bank),
                generation,
                beams,
                batch.statuses if generation.statuses == "oracle" else None,
                decide,
            )
        statuses, probabilities = result.statuses.tolist(), result.probabilities.cpu()
        told = range(session.categories) if generation.statuses == "oracle" else given
        patients = [dataset.features.patients[row] for row in batch.rows.tolist()]
        texts = _texts(session, result, generation, patients, told)
        shares = {name: float(share) for name, share in result.shares.items()}
        for i, row in enumerate(batch.rows.tolist()):
            count = len(bank.sentence_rows(int(retrieved[i])))
            maps = (None, None)
            if row in keep_maps and result.local_map is not None:
                maps = (result.global_map[i].float().cpu(), result.local_map[i].float().cpu())
            training_row = int(retrieved[i]) if retrieved[i] < known else NO_REPORT
            found = (statuses[i], probabilities[i], training_row, float(distance[i]))
            predictions.append(Prediction(row, texts[i], *found, *maps, count, shares))
    by_row = {p.row: p for p in gather_object(predictions)}
    return [by_row[row] for row in rows]


def _texts(
    session: Session, result: Generation, generation: GenerationSettings, patients: list[str], told: Collection[int]
) -> list[str]:
    """The written reports; of candidates the best (`revtaf.system.choose`). told: categories whose status was given."""
    if result.candidates is None:
        return [session.tokenizer.decode(tokens) for tokens in result.tokens.tolist()]
    texts = [[session.tokenizer.decode(tokens) for tokens in each] for each in result.candidates.tolist()]
    statuses, positive = result.statuses.cpu().numpy(), result.probabilities[:, POSITIVE].cpu().numpy()
    scores = session.consensus.expected(texts, session.evidence(positive, statuses, told), patients)
    if generation.agreement:
        labeler = session.knowledge.components.labeler  # not the one that remembers: no sampled report comes again
        scores -= generation.agreement * disagreements(texts, statuses, labeler)
    return [each[number] for each, number in zip(texts, best(scores), strict=True)]


def _overridden(decide: Callable[[Tensor], Tensor], given: dict[int, int]) -> Callable[[Tensor], Tensor]:
    """As `decide`, but for the categories in `given`: their status is what it says."""
    if not given:
        return decide

    def decided(probabilities: Tensor) -> Tensor:
        statuses = decide(probabilities).clone()
        for category, status in given.items():
            statuses[:, category] = status
        return statuses

    return decided


@torch.no_grad()
def predict_probabilities(session: Session, dataset: ReportDataset, rows: list[int], shared: bool = True) -> Tensor:
    """P(status) of `rows` without writing reports: (S, 4, K), on the CPU. shared: by all processes, which then have
    to call it together."""
    accelerator = session.accelerator
    model = session.plain_model.eval()
    mine = rows[accelerator.process_index :: accelerator.num_processes] if shared else rows
    loader = eval_loader(dataset, mine, session.settings.generation.batch_size, session.settings.train.workers)
    pairs = []
    for batch in loader:
        batch = batch.to(session.device)
        logits = model.diagnose(batch.images, session.memory(batch))[1]
        pairs += list(zip(batch.rows.tolist(), logits.float().softmax(1).cpu(), strict=True))
    by_row = dict(gather_object(pairs) if shared else pairs)
    return torch.stack([by_row[row] for row in rows])
