"""TRRG on a split: the validation after an epoch, the reports of a test, and which clues they were written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from markupsafe import Markup
from tqdm import tqdm

from revtaf.comparators.trrg.data import ClueDataset
from revtaf.comparators.trrg.interaction import alikeness
from revtaf.comparators.trrg.settings import TRRGSettings
from revtaf.config import ADVANCED_MODELS
from revtaf.data.annotations import Study, load_annotations
from revtaf.data.images import resize_crop
from revtaf.engine.batches import eval_loader
from revtaf.engine.system import Written
from revtaf.errors import UserError
from revtaf.eval import advanced
from revtaf.eval.advanced import AdvancedSources
from revtaf.eval.texts import validation_scores
from revtaf.features.build import select
from revtaf.generate.asked import Asked
from revtaf.generate.pictures import look
from revtaf.generate.result import ImageReport
from revtaf.labels import POSITIVE
from revtaf.pages.cards import Card
from revtaf.pages.images import pixel_data
from revtaf.pages.section import PageSection

if TYPE_CHECKING:
    from revtaf.comparators.trrg.system import TRRG

THUMB = 96  # pixels of a picture beside its clues


@dataclass
class InjectedClue:
    """One clue of one report. weight: w, over all clues of the bank."""

    category: str
    text: str
    weight: float


@dataclass
class ClueReport:
    """A written report, the clues that it was written from, and the gauge of its batch (nan without CMCI)."""

    row: int
    text: str
    clues: list[InjectedClue]
    alike: float


@torch.no_grad()
def write_reports(
    system: TRRG,
    dataset: ClueDataset,
    rows: Sequence[int],
    beams: int | None = None,
    workers: int | None = None,
    title: str = "writing reports",
) -> list[ClueReport]:
    """Reports of `rows` in their order; several processes share the work. title: of the bar, "" for none."""
    accelerator, settings = system.accelerator, system.settings
    model, generation = system.plain.eval(), settings.generation
    mine = list(rows)[accelerator.process_index :: accelerator.num_processes]
    workers = settings.train.workers if workers is None else workers
    loader = eval_loader(dataset, mine, generation.batch_size, workers)
    written: list[ClueReport] = []
    for batch in tqdm(loader, desc=title, leave=False, disable=not (title and accelerator.is_main_process)):
        batch = batch.to(system.device)
        with accelerator.autocast():
            tokens, found = model.generate(batch, generation, beams)
        alike = float("nan") if found.visual is None else float(alikeness(found.visual))
        for i, row in enumerate(batch.rows.tolist()):
            text = model.language.decode(tokens[i].tolist())
            written.append(ClueReport(row, text, _clues(system, found.chosen, i), alike))
    by_row = {report.row: report for report in gather_object(written)}
    return [by_row[row] for row in rows]


def _clues(system: TRRG, chosen: Any, i: int) -> list[InjectedClue]:
    if chosen is None:
        return []
    texts, found = system.clue_texts, []
    for place, clue in enumerate(chosen.clues[i].tolist()):
        if chosen.valid[i, place]:
            text, weight = texts[int(chosen.rows[i, place])], float(chosen.weights[i, clue])
            found.append(InjectedClue(system.bank[clue].name, text, round(weight, 6)))
    return found


def validate(system: TRRG, dataset: ClueDataset) -> dict[str, Any]:
    """Scores of the validation reports; "score" is what `train.select` names, the other of CE F1 and CIDEr decides
    between equal ones."""
    train = system.settings.train
    rows = list(range(len(dataset)))[: train.validation_samples]
    written = write_reports(system, dataset, rows, train.validation_beams)
    references = [dataset.studies[row].report for row in rows]
    scores = validation_scores(references, [report.text for report in written], system.labeler)
    first, second = (train.select, "CIDEr") if train.select != "cider" else ("CIDEr", "example_f1")
    alike = {} if system.plain.interaction is None else {"alike_visual": float(np.mean([r.alike for r in written]))}
    return {"score": scores[first], "tie": scores[second], **scores, **alike}


def evaluate(system: TRRG) -> Written:
    """Reports of the tested split; some of them with image and clues on the page."""
    settings, data = system.settings, system.settings.data
    studies = select(load_annotations(data.annotation), data.test_split, data)
    dataset = system.dataset(studies, data, settings.tested_source)
    written = write_reports(system, dataset, range(len(dataset)))
    main = system.accelerator.is_main_process
    statuses = system.statuses(studies, data)  # in all processes: they wait for each other in it
    shown = _shown(statuses, settings.eval.samples) if main else []
    images = {row: np.asarray(_crop(system, dataset, row)) for row in shown}
    return Written(
        records=[_record(studies[report.row], report) for report in written],
        labeler=system.labeler,
        train_reports=system.train_reports,
        sources=_advanced_sources(system) if main else None,
        cards=[Card(studies[r].id, images[r], studies[r].report, written[r].text) for r in shown],
        sections=[_page(images, written, studies)] if shown and settings.clue.source != "none" else [],
        facts={"ablation flags": _flags(settings)} | _control(settings),
    )


def write(system: TRRG, images: Sequence[Path], asked: Asked) -> list[ImageReport]:
    """The report of each image, and the clues that it was written from, with their weights."""
    settings = system.settings
    asked.refuse("TRRG", statuses=True, retrieval=True)
    if settings.reads_answer or settings.prompt.statuses != "none":
        raise UserError(
            "this model reads what a sample's report, or REVTAF, says of it, and an image alone has neither"
        )
    if settings.tested_source == "random":
        raise UserError("generation.clues=random is a control on a data set; take another source for single images")
    if not images:
        return []
    studies = [Study(str(path), (str(Path(path).resolve()),), "") for path in images]
    data = settings.data.model_copy(update={"images": Path("/"), "packed": False})
    if settings.tested_source == "scorer":
        raise UserError(
            "clues of the entity scorer are for data sets, whose scores are features; take generation.clues"
        )
    dataset = system.dataset(studies, data, settings.tested_source, alone=True)
    written = write_reports(system, dataset, range(len(dataset)), workers=0, title="")
    return [_image_report(system, Path(path), found) for path, found in zip(images, written, strict=True)]


def _image_report(system: TRRG, path: Path, found: ClueReport) -> ImageReport:
    picture, warnings = look(path, system.stage1.image.resize, system.stage1.image.size)
    clues = tuple((f"{clue.category}: {clue.text}", clue.weight) for clue in found.clues)
    return ImageReport(path, picture, found.text, clues=clues, warnings=warnings)


def _record(study: Study, report: ClueReport) -> dict[str, Any]:
    """One line of predictions.jsonl."""
    return {
        "id": study.id,
        "subject_id": study.subject_id,
        "study_id": study.study_id,
        "reference": study.report,
        "prediction": report.text,
        "clues": [vars(clue) for clue in report.clues],
    }


def _shown(statuses: np.ndarray, count: int) -> list[int]:
    """Rows of the page: spread over the split, every second one with a positive finding if it can be."""
    positive = np.flatnonzero((statuses[:, :13] == POSITIVE).any(1)).tolist()
    chosen: list[int] = []
    for i in range(min(count, len(statuses))):
        pool = [r for r in (positive if i % 2 else range(len(statuses))) if r not in chosen]
        pool = pool or [r for r in range(len(statuses)) if r not in chosen]
        chosen.append(pool[i * len(pool) // max(count, 1)])
    return chosen


def _crop(system: TRRG, dataset: ClueDataset, row: int):
    image = system.stage1.image
    return resize_crop(dataset.reader.read(dataset.studies[row], row), image.resize, image.size)


def _page(images: dict[int, np.ndarray], written: Sequence[ClueReport], studies: Sequence[Study]) -> PageSection:
    """The top clues of each shown image with their weights, as the paper's Figure 4."""
    lines = []
    for row, image in images.items():
        step = max(1, len(image) // THUMB)
        bars = Markup("").join(
            Markup("<div><meter min='0' max='1' value='{:.3f}'></meter> {:.3f} {} <em>{}</em></div>").format(
                clue.weight, clue.weight, clue.category, clue.text
            )
            for clue in written[row].clues
        )
        source = pixel_data(np.ascontiguousarray(image[::step, ::step]))
        lines.append(
            Markup("<tr><td><img src='{}' alt='' width='{}'></td><td class='words'>{}<br>{}</td></tr>").format(
                source, THUMB, studies[row].id, bars or "no clue"
            )
        )
    return PageSection("Injected clues and their weights", Markup("<table>{}</table>").format(Markup("").join(lines)))


def _advanced_sources(system: TRRG) -> AdvancedSources | None:
    """The models of the advanced metrics that are configured."""
    given = {name: getattr(system.settings.eval, name) for name in ADVANCED_MODELS}
    if not any(given.values()):
        return None
    components = system.components
    sources = AdvancedSources(**given, chexbert=components.labeler if components.chexbert else None)
    advanced.check(sources)
    return sources


def _control(settings: TRRGSettings) -> dict[str, str]:
    return {"control": f"reads the answer: {', '.join(settings.reads_answer)}"} if settings.reads_answer else {}


def _flags(settings: TRRGSettings) -> str:
    cmci, loss = settings.cmci, settings.loss
    return (
        f"clues {settings.clue.source} (k {settings.clue.k}), tested with {settings.tested_source}, "
        f"cmci {f'on ({cmci.attention}, {cmci.queries} queries)' if cmci.enabled else 'off'}, "
        f"dc {loss.dc} (stop-gradient {loss.dc_stopgrad}), language model {settings.llm.tuning}, "
        f"statuses {settings.prompt.statuses}, image {'hidden' if settings.vision.blind else 'seen'}"
    )
