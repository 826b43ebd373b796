"""MedFuse-CLIP as the engine finds it: the object that the entry point `medfuse` of the group `revtaf.systems` names.

Model code is imported where it is used, so that settings are read without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from revtaf.check_line import CheckLine
from revtaf.comparators.medfuse.rows import BESIDE, OWN
from revtaf.comparators.medfuse.settings import MedFuseSettings
from revtaf.engine.system import Declaration
from revtaf.pretrained.needed import HubWeights, Needed, OnRequest
from revtaf.pretrained.sources import chexbert, clinical_bert, one_file

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from revtaf.comparators.medfuse.expert import MedFuseExpert
    from revtaf.comparators.medfuse.system import MedFuse

INSTALL = "pip install 'revtaf[medfuse]'"
_CLIP = OnRequest("open_clip's weights of that model, or space.weights=null for random ones", "the model's own")
_HUB_CLIP = {  # of open_clip's models, where its file is called open_clip_model.safetensors
    "ViT-B-32": ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "about 600 MB, MIT"),
}
log = logging.getLogger("revtaf")


class MedFuseSystem(Declaration):
    """See `revtaf.engine.system.Declaration`."""

    settings = MedFuseSettings
    title = OWN
    beside = BESIDE

    def needed(self, settings: MedFuseSettings, training: bool | None = None) -> Iterator[Needed]:
        """The starting weights and, for hard negatives, the text encoder that compares them."""
        from revtaf.pretrained.bert_folder import absent_paths
        from revtaf.pretrained.imagenet import imagenet_weights

        space, image, knowledge = settings.space, settings.image, settings.knowledge
        yield from chexbert(knowledge)
        if training is False:
            return
        if space.weights is not None:
            source = _CLIP
            if space.name in _HUB_CLIP and space.weights.name == "open_clip_model.safetensors":
                repository, terms = _HUB_CLIP[space.name]
                source = HubWeights(repository, space.weights, terms)
            yield one_file(f"weights of {space.name}", "the encoders' start", space.weights, "random weights", source)
        if image.weights == "imagenet":
            yield imagenet_weights(image.tower)
        elif image.weights is not None:
            own = OnRequest("a file of yours: correct image.weights")
            yield one_file("image.weights", "the image encoder's start", Path(image.weights), "", own)
        if settings.negatives.hard and knowledge.text == "bio_clinicalbert":
            folder = knowledge.bio_clinicalbert
            yield Needed(
                "Bio_ClinicalBERT",
                "weighs hard negatives",
                str(folder),
                absent_paths(folder),
                "TF-IDF and SVD",
                clinical_bert(folder),
                None,
            )

    def requirements(self, settings: MedFuseSettings) -> Iterator[CheckLine]:
        """The packages."""
        if find_spec("open_clip") is None:
            yield CheckLine("error", "system=medfuse needs open_clip", INSTALL)
        if settings.image.tower == "efficientnet_lite0" and settings.space.name is None and find_spec("timm") is None:
            yield CheckLine("error", "image.tower=efficientnet_lite0 needs timm", "pip install 'revtaf[pretrained]'")
        if settings.negatives.hard and Path(settings.training_data.annotation).is_file():
            yield from self._negatives(settings)

    def _negatives(self, settings: MedFuseSettings) -> Iterator[CheckLine]:
        """Whether the training pairs can have the hard negatives that are asked for."""
        from revtaf.comparators.medfuse.negatives import check_negatives
        from revtaf.data.annotations import load_annotations
        from revtaf.errors import UserError

        data = settings.training_data
        try:
            annotations = settings.splits(load_annotations(data.annotation))
        except UserError:  # said where the annotation is checked
            return
        try:
            if studies := annotations.get("train", [])[: data.max_samples]:
                check_negatives(settings, studies)
        except UserError as error:
            yield CheckLine("error", str(error))

    def start(self, settings: MedFuseSettings, accelerator: Accelerator) -> MedFuse:
        """The encoders as configured, the vocabulary and the hard negatives of the training set."""
        from revtaf.comparators.medfuse.system import MedFuse
        from revtaf.comparators.medfuse.text import TextTokens
        from revtaf.comparators.medfuse.towers import initialise
        from revtaf.engine.runtime import seed_everything

        system = MedFuse(settings, accelerator, None, None)
        studies, texts = system.training
        system.tokens = TextTokens.fit(settings.text, texts, settings.training_data.language)
        self._build(system)
        negatives = system.hard
        encoder = "Bio_ClinicalBERT" if system.components.clinical_bert else "TF-IDF and SVD"
        said = f"{negatives}, compared by {encoder}" if settings.negatives.hard else "not asked for"
        system.notes |= {
            "encoders": initialise(system.model, settings),
            "training pairs": f"{len(studies):,}; {system.truncation(texts)}",
            "hard negatives": said,
        }
        for what, note in system.notes.items():
            log.info("%s: %s", what, note)
        if settings.negatives.hard and not (negatives.rows >= 0).any():
            log.warning("negatives.hard=true changes nothing here: %s", negatives)
        seed_everything(settings.seed, accelerator.process_index)
        return system

    def open(self, folder: Path, settings: MedFuseSettings, accelerator: Accelerator) -> MedFuse:
        """From a model's folder, its weights not yet loaded."""
        from revtaf.comparators.medfuse.system import MedFuse
        from revtaf.comparators.medfuse.text import TextTokens
        from revtaf.engine.checkpoint import META
        from revtaf.files import read_json

        system = MedFuse(settings, accelerator, TextTokens.open(folder, settings.text), None, folder=folder)
        self._build(system)
        system.notes = dict(read_json(folder / META, "model")["sources"])
        return system

    def study_encoder(self, folder: Path, device: torch.device) -> MedFuseExpert:
        """For `knowledge.medfuse` of REVTAF."""
        from revtaf.comparators.medfuse.expert import MedFuseExpert

        return MedFuseExpert(folder, device)

    @staticmethod
    def _build(system: MedFuse) -> None:
        from revtaf.comparators.medfuse.towers import make_encoder

        system.model = make_encoder(system.settings, system.tokens)


SYSTEM = MedFuseSystem()
