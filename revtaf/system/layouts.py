"""Whether a pretrained file has the layout that its loader wants: every tensor there, every shape right, none unknown.

By the loaders of the run itself, on a CPU. They read tensors and nothing that could run, and no network is used on
anything. Each function raises a UserError that names both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from revtaf.config import KnowledgeSettings
from revtaf.decoder import Decoder
from revtaf.knowledge.base import StudyEncoder
from revtaf.knowledge.chexbert import CheXbertLabeler
from revtaf.knowledge.clinical_bert import ClinicalBertEncoder
from revtaf.knowledge.clip import ClipPair
from revtaf.knowledge.components import Components
from revtaf.knowledge.medklip import MedKLIP, make_books
from revtaf.knowledge.medklip_net import BOOK_WIDTH
from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES
from revtaf.pretrained.backbone import Backbone, load_imagenet
from revtaf.settings import Settings
from revtaf.system.initialise import bert_file, bert_vocabulary, load_bert
from revtaf.tokenizer import ReportTokenizer


def chexbert(settings: KnowledgeSettings) -> None:
    """CheXbert's 227 tensors, and a vocabulary of as many words."""
    CheXbertLabeler.load(settings.chexbert, settings.chexbert_vocabulary, RuleLabeler())


def medklip(settings: KnowledgeSettings) -> None:
    """MedKLIP's 342 tensors; its books are not in the file."""
    MedKLIP.load(settings.medklip, make_books(_Zeros()))


def explanations(settings: KnowledgeSettings) -> None:
    """75 texts in MedKLIP's order."""
    make_books(_Zeros(), settings.explanations)


def clinical_bert(settings: KnowledgeSettings) -> None:
    """Bio_ClinicalBERT's encoder, and a vocabulary of as many words."""
    ClinicalBertEncoder.load(settings.bio_clinicalbert)


def clip(settings: KnowledgeSettings) -> None:
    """The open_clip model that `knowledge.clip_model` names."""
    ClipPair.load(settings.clip_model, settings.clip, torch.device("cpu"))


def medfuse(settings: KnowledgeSettings) -> StudyEncoder:
    """A finished run of that system."""
    return Components(settings, torch.device("cpu")).study_encoder


def vocabulary(path: Path) -> None:
    """Word pieces, as the decoder's tokenizer takes them in."""
    ReportTokenizer.from_vocabulary(path)


def imagenet(backbone: str, path: Path) -> None:
    """An ImageNet classifier of this backbone."""
    load_imagenet(Backbone(backbone), path)


def decoder(settings: Settings) -> None:
    """BERT's encoder and language head, as the configured decoder takes them in."""
    tokenizer = ReportTokenizer.from_vocabulary(bert_vocabulary(settings))
    load_bert(
        Decoder(settings.decoder, tokenizer, settings.fvtaf.width, len(CATEGORIES)), bert_file(settings.decoder.weights)
    )


class _Zeros:
    """In Bio_ClinicalBERT's place, where only the texts count, or nothing does."""

    name = ""

    def encode(self, texts: Sequence[str], separator: bool = True, max_length: int = 128) -> np.ndarray:
        """(N,) texts -> (N, 768) zeros."""
        return np.zeros((len(texts), BOOK_WIDTH), np.float32)
