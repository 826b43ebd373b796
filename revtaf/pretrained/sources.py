"""Where the models of other groups come from that more than one system names, and under which terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from revtaf.config import KnowledgeSettings
from revtaf.pretrained.needed import HubBert, HubWeights, Needed, OnRequest

MEDKLIP = OnRequest(
    "the link in checkpoints/README.md at https://github.com/MediaBrain-SJTU/MedKLIP",
    "its authors' (we know of no licence file there: ask them); trained on MIMIC-CXR",
)
_CHEXBERT = OnRequest(
    "the link under 'Checkpoint download' at https://github.com/stanfordmlgroup/CheXbert (about 1.3 GB)",
    "that repository's LICENSE.pdf, of Stanford; commercial use needs another licence; trained on MIMIC-CXR reports",
)
_BERT = "google-bert/bert-base-uncased"


def bert(folder: Path) -> HubBert:
    """bert-base-uncased, for `folder`."""
    return HubBert(_BERT, folder, "about 440 MB, Apache-2.0")


def clinical_bert(folder: Path) -> HubBert:
    """Bio_ClinicalBERT, for `folder`."""
    return HubBert("emilyalsentzer/Bio_ClinicalBERT", folder, "about 440 MB, MIT; trained on MIMIC-III notes")


def chexbert(knowledge: KnowledgeSettings, fits: Callable[[], object] | None = None) -> Iterator[Needed]:
    """CheXbert and its word pieces, where it labels the reports. fits: as in `Needed`."""
    if knowledge.labeler != "chexbert":
        return
    yield one_file("CheXbert", "labels the reports", knowledge.chexbert, "our phrase rules", _CHEXBERT, fits)
    vocabulary = knowledge.chexbert_vocabulary
    source: HubBert | OnRequest = OnRequest(f"bert-base-uncased's vocab.txt, of {_BERT} on the Hugging Face Hub")
    if vocabulary.name == "vocab.txt":
        source = HubBert(_BERT, vocabulary.parent, "230 kB, Apache-2.0", ("vocab.txt",), weights=False)
    what, purpose = "CheXbert's vocabulary", "CheXbert's word pieces"
    yield one_file(what, purpose, vocabulary, "", source, part_of=knowledge.chexbert)


def one_file(
    what: str,
    purpose: str,
    path: Path,
    stand_in: str,
    source: HubBert | HubWeights | OnRequest,
    fits: Callable[[], object] | None = None,
    part_of: Path | None = None,
) -> Needed:
    """A file that is there or not; the rest as in `Needed`."""
    absent = () if path.is_file() else (str(path),)
    return Needed(what, purpose, str(path), absent, stand_in, source, fits, part_of)
