"""MedFuse-CLIP's settings: every key of its own sections, type, bounds and default. The defaults are the paper's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from revtaf.config import BackboneName, InputKind, RunSettings, Section, TrainSettings

if TYPE_CHECKING:
    from revtaf.data.annotations import Annotations

CLIP_TOKENS = 49_408  # CLIP's byte-pair encoding
log = logging.getLogger("revtaf")


class PairSettings(Section):
    """Which studies are trained on: the annotation's own splits, or all of them split anew by patient, 70/10/20."""

    split: Literal["patients", "official"] = "patients"
    split_seed: int = 0


class ImageTowerSettings(Section):
    """The image encoder, and how it sees an image (sizes in pixels).

    tower: open_clip's ViT or its ResNet, or one of REVTAF's backbones with a linear map behind its mean patch. weights:
    of a backbone, "imagenet" or a file; null for random ones. patch to heads: of ViT and ResNet; a ResNet has `layers`
    blocks in each of its four stages. resize: the shorter side, whose central square of `size` is seen.
    """

    tower: Literal["vit", "modified_resnet"] | BackboneName = "vit"
    weights: str | None = None
    size: int = Field(224, ge=32)
    resize: int = Field(224, ge=32)
    norm: InputKind = "imagenet"
    augment: Literal["none", "paper", "strong"] = "none"  # paper: REVTAF's crop and rotation; strong: see there
    rotation: float = Field(5.0, ge=0)  # degrees at most, where augmented
    patch: int = Field(32, ge=4)
    layers: int = Field(12, ge=1)
    width: int = Field(768, ge=8)
    heads: int = Field(12, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)  # of a backbone's pooled image, in training


class TextTowerSettings(Section):
    """The text encoder, and what of a report it reads.

    sections: the annotation's `report`, and before or behind it its `impression`, where it has one of its own. tokens:
    CLIP's, or a vocabulary fitted on the training texts. context: tokens at most, both ends included. augment: in
    training, a text stays whole with probability `whole`; else some of its sentences, one to all, in any order.
    """

    sections: Literal["report", "report+impression", "impression+report"] = "report+impression"
    tokens: Literal["clip", "train"] = "clip"
    vocabulary_size: int = Field(4000, ge=100)
    context: int = Field(77, ge=4)
    layers: int = Field(12, ge=1)
    width: int = Field(512, ge=8)
    heads: int = Field(8, ge=1)
    augment: Literal["none", "sentences"] = "none"
    whole: float = Field(0.5, ge=0, lt=1)


class SpaceSettings(Section):
    """The two encoders together.

    name: a model of open_clip, whose sizes then count, not those of `image` and `text`; null: open_clip's classes in
    the sizes given there. weights: a local file that fits it exactly; null for random ones. width: of the space.
    temperature: at the start; it is learned. centred: each number of either encoder's output is standardised over the
    batch before vectors get length 1 (BatchNorm without parameters), with name=null only: random encoders see all
    images alike, and few training pairs are not enough to unlearn it.
    """

    name: str | None = "ViT-B-32"
    weights: Path | None = Path("checkpoints/clip/open_clip_model.safetensors")
    width: int = Field(512, ge=2)
    temperature: float = Field(0.07, gt=0.01)
    centred: bool = False


class NegativeSettings(Section):
    """Reports of the anchor's own patient with other labels (Eq. 7), and what each of them weighs (Eq. 8).

    k: for each anchor, the most similar where there are more. weighted: by softmax of the similarity / weight_tau; else
    all alike. min_label_hamming: how many of CheXpert's 14 statuses have to differ. mask_same_text: in-batch samples
    with the anchor's very text are no negatives.
    """

    hard: bool = True
    k: int = Field(4, ge=1)
    weighted: bool = True
    weight_tau: float = Field(1.0, gt=0)
    min_label_hamming: int = Field(1, ge=1)
    mask_same_text: bool = False


class ObjectiveSettings(Section):
    """Eq. 9 to 11. reduction: paper, both directions summed, or mean, half of it, as open_clip. margin: m of Eq. 10.
    margin_weight: lambda; 0 leaves the margin out. margin_over: the hardest negative, or all by their weights."""

    reduction: Literal["paper", "mean"] = "paper"
    margin: float = Field(0.2, ge=0)
    margin_weight: float = Field(0.5, ge=0)
    margin_over: Literal["max", "weighted"] = "max"


class RankingSettings(Section):
    """How the test ranks. ties: what an equal score counts, half a place or a whole one. dedupe: none, right is the
    query's own report or one of its images; exact_text, equal texts are one. dimensions: to how many numbers both
    vectors are reduced, by an SVD of the training vectors, with their mean taken off where svd_centred; null: all."""

    ties: Literal["half", "pessimistic"] = "half"
    dedupe: Literal["none", "exact_text"] = "none"
    dimensions: int | None = Field(None, ge=1)
    svd_centred: bool = False


class MedFuseTrainSettings(TrainSettings):
    """Training as of any system, with the paper's values."""

    epochs: int = Field(15, ge=1)
    batch_size: int = Field(128, ge=2)
    lr: float = Field(5e-6, gt=0)
    min_lr: float = Field(0.0, ge=0)
    warmup_steps: int = Field(500, ge=0)
    warmup_lr: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip_value: float | None = Field(None, gt=0)


class MedFuseSettings(RunSettings):
    """A run of MedFuse-CLIP."""

    free: ClassVar[tuple[str, ...]] = (*RunSettings.free, "ranking.")
    of_the_test: ClassVar[tuple[str, ...]] = (*RunSettings.of_the_test, "ranking.")
    architecture: ClassVar[tuple[str, ...]] = (
        "pairs",
        "image",
        "text",
        "space",
    )  # another split would test on training
    beginnings: ClassVar[tuple[str, ...]] = (
        *("space.weights", "space.temperature", "image.weights", "image.augment", "image.rotation", "image.dropout"),
        *("text.augment", "text.whole"),
    )

    system: str = "medfuse"
    pairs: PairSettings = PairSettings()
    image: ImageTowerSettings = ImageTowerSettings()
    text: TextTowerSettings = TextTowerSettings()
    space: SpaceSettings = SpaceSettings()
    negatives: NegativeSettings = NegativeSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    ranking: RankingSettings = RankingSettings()
    train: MedFuseTrainSettings = MedFuseTrainSettings()

    def splits(self, annotations: Annotations) -> Annotations:
        """By patient, or as the annotation has them (`pairs.split`)."""
        if self.pairs.split == "official":
            return annotations
        from revtaf.comparators.medfuse.splits import split_by_patient

        return split_by_patient(annotations, self.pairs.split_seed)

    @model_validator(mode="after")
    def _without_labels(self) -> MedFuseSettings:
        """Without statuses there are no hard negatives, which differ in them, and no margin over these."""
        if self.knowledge.labeler == "none" and (self.negatives.hard or self.objective.margin_weight):
            self.negatives.hard, self.objective.margin_weight = False, 0.0
            log.warning("knowledge.labeler=none: no statuses, so negatives.hard=false, objective.margin_weight=0")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> MedFuseSettings:
        image, text, space = self.image, self.text, self.space
        if image.size > image.resize:
            raise ValueError(f"image.size {image.size} exceeds image.resize {image.resize}")
        if space.name is not None:
            if space.centred:
                raise ValueError("space.centred=true is for encoders of one's own: set space.name=null")
            if text.tokens != "clip":
                raise ValueError(
                    f"space.name={space.name} reads CLIP's tokens: set text.tokens=clip, or space.name=null"
                )
        else:
            for name, part in (("text", text), *((("image", image),) if image.tower == "vit" else ())):
                if part.width % part.heads:
                    raise ValueError(f"{name}.width {part.width} does not divide into {name}.heads {part.heads}")
            if image.tower == "vit" and image.size % image.patch:
                raise ValueError(f"image.size {image.size} is no multiple of image.patch {image.patch}")
            if space.weights is not None:
                raise ValueError("space.weights is a file of a model that space.name names; set one of them")
        if image.weights is not None and (space.name or image.tower in ("vit", "modified_resnet")):
            raise ValueError("image.weights is for a backbone (image.tower) with space.name=null")
        if self.space.name is None and (self.ranking.dimensions or 0) > self.space.width:
            raise ValueError(
                f"ranking.dimensions {self.ranking.dimensions} exceeds space.width {self.space.width}: it keeps a part"
            )
        if self.objective.margin_weight and not self.negatives.hard:
            raise ValueError(
                "objective.margin_weight: the margin is over hard negatives, and negatives.hard=false has none; set "
                "objective.margin_weight=0"
            )
        return self

    @property
    def variant(self) -> str:
        """Searched with fewer numbers: "-64d", "-64d-centred"."""
        kept = self.ranking.dimensions
        return "" if kept is None else f"-{kept}d" + "-centred" * self.ranking.svd_centred
