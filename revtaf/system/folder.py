"""What REVTAF keeps in a model's folder, so that it is opened without the set that it was trained on.

    tokenizer.json
    knowledge/train, texts     features of the training samples; sentences, triplets, reports for the classifier
    knowledge/scorer, tfidf    the fitted experts, where they were fitted
    knowledge/about.json       what the features were made of
    points.safetensors         the training set in the retrieval space (N, D): 555 MB at MIMIC-CXR's size
    thresholds.json            of generation.statuses=calibrated, where held-out predictions were at hand
    reports.jsonl              the training reports. Optional: without it retrieved reports are known by id only, and
                               no candidate is chosen

External weights (MedKLIP, CheXbert, ...) stay where they are; `model.json` names them by hash.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from revtaf.config_file import load_settings
from revtaf.engine.checkpoint import SETTINGS
from revtaf.errors import UserError
from revtaf.features.arrays import Features, TextTables, load_arrays, save_arrays
from revtaf.features.build import Knowledge, imported_key, no_encoder
from revtaf.files import atomic_folder, atomic_write, read_json, write_json
from revtaf.knowledge.base import TextEncoder
from revtaf.knowledge.components import Components
from revtaf.knowledge.entity_scorer import EntityScorer
from revtaf.knowledge.text_encoder import TfidfEncoder
from revtaf.prompts.local import triplet_texts
from revtaf.settings import Settings
from revtaf.system.thresholds import write_thresholds
from revtaf.system.write import embed_all

if TYPE_CHECKING:
    from revtaf.system.session import Session

log = logging.getLogger("revtaf")

TOKENIZER, KNOWLEDGE, POINTS, REPORTS = "tokenizer.json", "knowledge", "points.safetensors", "reports.jsonl"
THRESHOLDS = "thresholds.json"


def write_parts(session: Session, folder: Path) -> None:
    """Everything beside the tokenizer, of a session whose model has its final weights."""
    knowledge, settings = session.knowledge, session.settings
    about = {name: getattr(knowledge, name) for name in ("key", "fingerprint", "scorer_mark")}
    about["triplets"] = knowledge.triplets is not None  # in words: ours are known, imported ones are vectors
    made = {"of": knowledge.key}
    with atomic_folder(folder / KNOWLEDGE) as partial:
        save_arrays(partial / "train", knowledge.seen, made)
        save_arrays(partial / "texts", knowledge.texts, made)
        if knowledge.scorer is not None:
            (partial / "scorer").mkdir()
            knowledge.scorer.save(partial / "scorer")
        if settings.reads_texts and not (settings.knowledge.imported or knowledge.components.clinical_bert):
            knowledge.text_encoder.save(partial / "tfidf")
        write_json(partial / "about.json", about)
    if session.plain_model.retrieves:
        points = embed_all(session.plain_model.eval(), knowledge.train, session.device)
        with atomic_write(folder / POINTS) as partial:
            save_file({"points": points.contiguous().cpu()}, partial)
    if (thresholds := session.fitted_thresholds()) is not None:
        write_thresholds(folder / THRESHOLDS, thresholds)
    with atomic_write(folder / REPORTS) as partial, open(partial, "w", encoding="utf-8") as file:
        for sample, report in zip(knowledge.train.ids, knowledge.reports, strict=True):
            file.write(json.dumps({"id": sample, "report": report}, ensure_ascii=False) + "\n")


def read_knowledge(folder: Path, settings: Settings, device: torch.device) -> Knowledge:
    """The knowledge that `write_parts` kept. UserError where the settings are of another."""
    key, longest = "trained_on.max_words" if settings.trained_on else "data.max_words", settings.training_data.max_words
    trained = load_settings(folder / SETTINGS, bases=False).training_data.max_words
    if longest != trained:
        raise UserError(
            f"{key}={longest}, but {folder} knows the sentences of its training reports' first {trained} words; set "
            f"{key}={trained}"
        )
    place = folder / KNOWLEDGE
    about = read_json(place / "about.json", "model")
    scorer = EntityScorer.load(place / "scorer") if (place / "scorer").is_dir() else None
    options = settings.knowledge
    if options.imported and about["key"] != imported_key(options.imported):
        raise UserError(
            f"knowledge.imported: {options.imported} holds other features than {folder} was trained with; name the "
            "right folder"
        )
    if scorer is not None:  # whatever has been put into checkpoints/ since: the model knows these scores
        options = options.model_copy(update={"entities": "scorer"})
    components = Components(options, device)
    reads = settings.generation.candidates and settings.generation.agreement and options.labeler == "chexbert"
    if reads and not components.chexbert and settings.missing == "error":
        raise UserError(
            f"knowledge.chexbert: {options.chexbert} is not there; of the candidates the model takes one that CheXbert "
            "reads as its prompt: put the file there, name its place with knowledge.chexbert=PATH, or set "
            "generation.agreement=0 or missing=stand-in"
        )
    if settings.generation.candidates and not (folder / REPORTS).is_file():
        log.warning(
            "%s holds no training reports, by which one of several candidates is chosen: an image gets the likeliest "
            "beam, which is another text. `revtaf export %s NEW --reports ANNOTATION` attaches them",
            folder,
            folder,
        )
    kept = place / "tfidf"
    knowledge = Knowledge(
        components=components,
        scorer=scorer,
        scorer_mark=about["scorer_mark"],
        train=load_arrays(place / "train", Features),
        texts=load_arrays(place / "texts", TextTables),
        triplets=triplet_texts() if about["triplets"] else None,
        studies=None,
        remembered=Path(settings.data.features) / "labels.sqlite",
        key=about["key"],
        fingerprint=about["fingerprint"],
        trunk_fingerprint=about["fingerprint"],  # no trunk is fitted to an opened model
        notes=components.notes,
        find_encoder=no_encoder if options.imported else lambda: _encoder(components, kept),
        kept_reports=folder / REPORTS,
    )
    return knowledge.under(settings)


def _encoder(components: Components, kept: Path) -> TextEncoder:
    """What was fitted with the model, else Bio_ClinicalBERT from where it lies."""
    if kept.is_dir():
        return TfidfEncoder.load(kept)
    if not components.clinical_bert:
        raise UserError(
            f"knowledge.bio_clinicalbert: {components.settings.bio_clinicalbert} is not there; the model knows texts "
            "by it: put the files there, or name their place with knowledge.bio_clinicalbert=PATH"
        )
    return components.text


def read_points(folder: Path, device: torch.device) -> Tensor:
    """The training set in the retrieval space (N, D)."""
    try:
        return load_file(folder / POINTS)["points"].to(device)
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder / POINTS} is damaged: {error}; copy the folder again") from None
