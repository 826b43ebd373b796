"""Which component supplies what: the paper's own where its files are, else the one fitted on the training set.

CheXbert labels, MedKLIP looks at the image, Bio_ClinicalBERT embeds texts; each has a stand-in that needs no file (with
`missing: error` a run without the file has stopped before: `revtaf.check`).
Nothing is loaded before it is used: a component is known by the digests of its files, so that features made with
other weights are other features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from revtaf import systems
from revtaf.config import KnowledgeSettings
from revtaf.errors import UserError
from revtaf.files import sha256
from revtaf.knowledge.base import EntityModel, ImageTextPair, Labeler, StudyEncoder, TextEncoder
from revtaf.knowledge.entity_scorer import EntityScorer
from revtaf.knowledge.rules import RuleLabeler
from revtaf.knowledge.text_encoder import TfidfEncoder
from revtaf.pretrained.bert_folder import bert_files, find_weights

MEDFUSE = "medfuse"  # the system of `knowledge.medfuse`
EXPLANATIONS = Path(__file__).parent / "phrases" / "explanations.yaml"


@dataclass
class Components:
    """The chosen components of a run. `identity` goes into the features' key, `notes` into the run's report."""

    settings: KnowledgeSettings
    device: torch.device

    @cached_property
    def chexbert(self) -> bool:
        """Whether CheXbert labels: it is asked for and its file is there."""
        return self.settings.labeler == "chexbert" and self.settings.chexbert.is_file()

    @cached_property
    def medklip(self) -> bool:
        """Whether MedKLIP scores the entities: it is asked for and its file is there."""
        return self.settings.entities == "medklip" and self.settings.medklip.is_file()

    @cached_property
    def clinical_bert(self) -> bool:
        """Whether Bio_ClinicalBERT embeds the texts: it is asked for and its files are there."""
        return self.settings.text == "bio_clinicalbert" and find_weights(self.settings.bio_clinicalbert) is not None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Names of the components and digests of their files."""
        s = self.settings
        result: dict[str, Any] = {
            "labeler": [RuleLabeler.name if s.reads_reports else s.labeler],
            "entities": EntityScorer.name,
            "text": _digests(*bert_files(s.bio_clinicalbert)) if self.clinical_bert else TfidfEncoder.name,
        }
        if self.chexbert:
            result["labeler"] += _digests(s.chexbert, s.chexbert_vocabulary)
        if self.medklip:
            if find_weights(s.bio_clinicalbert) is None:
                raise UserError(
                    f"{s.medklip} is there, but its text encoder is not: put Bio_ClinicalBERT into "
                    f"{s.bio_clinicalbert}, or set knowledge.entities=scorer"
                )
            books = (*bert_files(s.bio_clinicalbert), s.explanations or EXPLANATIONS)
            result["entities"] = _digests(s.medklip, *books)
        if s.memory == "clip":
            result["clip"] = [s.clip_model, *_digests(s.clip)]
        return result

    @property
    def files(self) -> dict[str, list[Path]]:
        """The files of the experts in use, by the key that says where they are; those that label or look at images,
        which an opened model still needs."""
        s, found = self.settings, {}
        if s.labeler == "chexbert":
            found |= {"knowledge.chexbert": [s.chexbert], "knowledge.chexbert_vocabulary": [s.chexbert_vocabulary]}
        if s.entities == "medklip":
            found |= {"knowledge.medklip": [s.medklip], "knowledge.bio_clinicalbert": [*bert_files(s.bio_clinicalbert)]}
            found |= {"knowledge.explanations": [s.explanations]} if s.explanations else {}
        if s.memory == "clip":
            found["knowledge.clip"] = [s.clip]
        return {key: [path for path in paths if path.is_file()] for key, paths in found.items()}

    @property
    def notes(self) -> dict[str, str]:
        """What was used for each part, what was asked for and not found: lines of the run's report."""
        s = self.settings
        words = "the given explanations" if s.explanations else "our own explanations, not those it was trained with"
        read = {"annotation": "none: statuses of the annotation, no clinical scores", "none": "none: no statuses"}
        return {
            "report labeler": read.get(s.labeler)
            or _choice(
                self.chexbert,
                f"CheXbert; auxiliary categories by {RuleLabeler.name}",
                f"{RuleLabeler.name} (own phrase rules, not CheXbert)",
                s.labeler == "chexbert",
                s.chexbert,
            ),
            "entity scores": _choice(
                self.medklip,
                f"MedKLIP with {words}",
                f"{EntityScorer.name} (fitted on the training set; MedKLIP not used)",
                s.entities == "medklip",
                s.medklip,
            ),
            "text embeddings": _choice(
                self.clinical_bert,
                "Bio_ClinicalBERT [CLS]",
                f"{TfidfEncoder.name} (fitted on the training set; Bio_ClinicalBERT not used)",
                s.text == "bio_clinicalbert",
                s.bio_clinicalbert,
            ),
            "classifier memory": "nearest by "
            + {"entities": "entity scores", "clip": s.clip_model, "medfuse": "MedFuse-CLIP"}[s.memory],
        }

    @cached_property
    def labeler(self) -> Labeler:
        """CheXbert where `chexbert` is true (UserError where its file does not fit), else the phrase rules."""
        rules = RuleLabeler()
        if not self.chexbert:
            return rules
        from revtaf.knowledge.chexbert import CheXbertLabeler

        return CheXbertLabeler.load(self.settings.chexbert, self.settings.chexbert_vocabulary, rules, self.device)

    @cached_property
    def text(self) -> TextEncoder:
        """Bio_ClinicalBERT; only where `clinical_bert` is true."""
        from revtaf.knowledge.clinical_bert import ClinicalBertEncoder

        return ClinicalBertEncoder.load(self.settings.bio_clinicalbert, self.device)

    @cached_property
    def image_model(self) -> EntityModel:
        """MedKLIP; only where `medklip` is true."""
        from revtaf.knowledge.clinical_bert import ClinicalBertEncoder
        from revtaf.knowledge.medklip import MedKLIP, make_books

        encoder = (
            self.text if self.clinical_bert else ClinicalBertEncoder.load(self.settings.bio_clinicalbert, self.device)
        )
        return MedKLIP.load(self.settings.medklip, make_books(encoder, self.settings.explanations))

    @cached_property
    def pair(self) -> ImageTextPair:
        """CLIP; only where `knowledge.memory` is clip."""
        from revtaf.knowledge.clip import ClipPair

        return ClipPair.load(self.settings.clip_model, self.settings.clip, self.device)

    @cached_property
    def study_encoder(self) -> StudyEncoder:
        """MedFuse-CLIP, where a setting asks for it. UserError where `knowledge.medfuse` is no finished run of it."""
        try:
            return systems.find(MEDFUSE).study_encoder(self.settings.medfuse, self.device)
        except UserError as error:
            raise UserError(
                f"knowledge.medfuse: {error}; name a finished run of system={MEDFUSE} with knowledge.medfuse=FOLDER "
                "(docs/medfuse.md)"
            ) from None

    @property
    def medfuse_files(self) -> list[Path]:
        """What says which model `knowledge.medfuse` is; empty where it is not there."""
        try:
            return self.study_encoder.files
        except UserError:
            return []


def _digests(*paths: Path) -> list[str]:
    for path in paths:
        if not path.is_file():
            raise UserError(f"no such file: {path}; see checkpoints/README.md, or change the knowledge settings")
    return [sha256(path)[:16] for path in paths]


def _choice(used: bool, paper: str, own: str, wanted: bool, path: Path) -> str:
    if used:
        return paper
    return f"{own}: {path} not found" if wanted else own
