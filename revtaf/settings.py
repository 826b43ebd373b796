"""REVTAF's settings: every key of its modules, type, bounds and default. What all systems share: `revtaf.config`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from revtaf.config import BackboneName, InputKind, RunSettings, Section, TrainSettings

POSITIONS_OF_BERT = 512  # the decoder's longest input, the prompt's 19 tokens included
log = logging.getLogger("revtaf")


def inputs_of(backbone: str, weights: str | None) -> InputKind:
    """How grey images become tensors for a backbone that starts from `weights`: as these saw them when they were made.

    The entity scorer's network saw each image with its own mean and deviation; ImageNet's networks saw ImageNet's, or,
    EfficientNet-Lite0, a fixed scale. Random weights and a file of one's own: as the backbone's ImageNet weights.
    """
    if weights == "scorer":
        return "image"
    return "lite" if backbone == "efficientnet_lite0" else "imagenet"


class EncoderSettings(Section):
    """Image encoder and transforms (docs/method.md section 1). Sizes in pixels.

    inputs: how grey levels are scaled. "weights", or nothing, is read as what `inputs_of` says of the starting weights,
    and saved as that: a trained model keeps it, whatever its weights began as.
    """

    backbone: BackboneName = "resnet101"
    weights: str | None = "imagenet"  # "imagenet", a file of the same layout, "scorer", or null
    inputs: InputKind = Field("weights", validate_default=True)  # or "weights", see above
    image_size: int = Field(224, ge=64)
    resize: int = Field(256, ge=64)
    augment: Literal["paper", "strong"] = "paper"  # crop and rotation; strong: shift, zoom, brightness, contrast too
    rotation: float = Field(5.0, ge=0)  # degrees at most, training only
    dropout: float = Field(0.0, ge=0, lt=1)  # of the features that fusion and decoder see, in training
    blind: bool = False  # a control: every image is the same mean grey, and what is left is the language

    @field_validator("inputs", mode="before")
    @classmethod
    def _inputs_of_the_weights(cls, value: object, info: ValidationInfo) -> object:
        if value != "weights" or not {"backbone", "weights"} <= info.data.keys():
            return value
        return inputs_of(info.data["backbone"], info.data["weights"])


class ClassifierSettings(Section):
    """Disease classifier (docs/method.md section 2). width to dropout: of the transformer that asks the memory."""

    memory: bool = True
    memory_size: int = Field(21, ge=1)
    width: int = Field(512, ge=8)
    heads: int = Field(8, ge=1)
    layers: int = Field(2, ge=1)
    feed_forward: int = Field(2048, ge=8)
    dropout: float = Field(0.1, ge=0, lt=1)
    balanced_logits: bool = True  # self-adaptive disease-balanced learning
    # What generation.statuses=calibrated and generation.candidates are fitted on: the validation split, which then may
    # not be the reported one, or patients of the training split that were held out of it.
    calibration: Literal["validation", "holdout"] = "validation"


class LRESettings(Section):
    """Learnable retrieval enhancer (docs/method.md sections 3 and 4.2). width: of both layers of the HNN.

    features: what an image is retrieved by, learned or not: the 75 entity scores, or the image embedding of the dual
    encoder in `knowledge.medfuse`.
    grp_source: whose report a training sample gets (`revtaf.lre.retrieved`), whether the space is learned or not; own
    and random are controls. grp_dropout: the share of training samples that get none. steps: 0 trains LRE with the
    rest, as the paper does; N trains it alone for N updates before the first epoch, with `lr` and `batch_size`, and
    keeps it as it is then (`revtaf.lre.fit`).
    """

    enabled: bool = True
    features: Literal["scores", "medfuse"] = "scores"
    metric: Literal["hyperbolic", "euclidean", "cosine"] = "hyperbolic"
    width: int = Field(512, ge=2)
    curvature: float = Field(0.01, gt=0)
    learnable_curvature: bool = False
    score_space: Literal["prob", "logit"] = "prob"
    temperature: float = Field(1.0, gt=0)
    ties: Literal["soft", "first"] = "soft"
    grp_source: Literal["batch_labels", "dataset_labels", "learned", "own", "random"] = "batch_labels"
    grp_dropout: float = Field(0.0, ge=0, lt=1)
    steps: int = Field(0, ge=0)
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(64, ge=2)
    max_sentences: int = Field(20, ge=1)


class FVTAFSettings(Section):
    """Alignment and fusion (docs/method.md section 5). width: of each of the two sources; the decoder gets both.
    consistency: the loss on the maps; iou, upsample: of its overlap; consistency_temperature: of "difference", in
    standard deviations of a cosine. text_mass: how much each text has to say in the transport; relaxation: rho of
    "unbalanced", where a text that is cheaper everywhere by rho + epsilon has e times the mass."""

    enabled: bool = True
    attention: Literal["mpsa", "softmax"] = "mpsa"
    axis: Literal["joint", "per_text"] = "joint"
    text_mass: Literal["uniform", "presence", "learned", "unbalanced"] = "uniform"
    relaxation: float = Field(0.1, gt=0)
    shared: bool = False
    projection: Literal["linear", "feed_forward"] = "linear"
    residual: Literal["plain", "normalised"] = "plain"  # the two summands of Eq. 11, as they are or at one scale
    width: int = Field(1024, ge=8)
    heads: int = Field(8, ge=1)
    epsilon: float = Field(0.05, gt=0)
    max_iterations: int = Field(200, ge=1)
    tolerance: float = Field(1e-4, gt=0)
    consistency: Literal["product", "difference", "none"] = "product"
    consistency_temperature: float = Field(0.5, gt=0)
    iou: Literal["soft", "hard"] = "soft"
    upsample: int | None = Field(None, ge=7)
    mask_sentences: bool = True


class DecoderSettings(Section):
    """Report decoder (docs/method.md section 6.2). Where `weights` are found, the sizes have to be theirs."""

    weights: str | None = "bert-base-uncased"  # a folder with that model's files; null: random
    vocabulary: str = "train"  # "train" fits a WordPiece vocabulary on the training reports, or a vocab.txt
    vocabulary_size: int = Field(4000, ge=100)
    layers: int = Field(12, ge=1)
    width: int = Field(768, ge=8)
    heads: int = Field(12, ge=1)
    feed_forward: int = Field(3072, ge=8)
    dropout: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    max_tokens: int = Field(150, ge=8)  # of a training report, end token included
    prompt_dropout: float = Field(0.0, ge=0, lt=1)  # share of the training samples whose prompt says nothing
    image_dropout: float = Field(0.0, ge=0, lt=1)  # share of those whose image it does not see: text and prompt alone
    recombined: float = Field(0.0, ge=0, lt=1)  # share whose report is put together from several: the prompt alone


class GenerationSettings(Section):
    """Beam search (docs/method.md section 6.3), the controls of section 9.2. Lengths in tokens, without the prompt."""

    gone: ClassVar[dict[str, object]] = {"guidance": 1}

    beams: int = Field(3, ge=1)
    min_new_tokens: int = Field(81, ge=0)
    max_new_tokens: int = Field(150, ge=1)
    length_penalty: float = 1.0
    repetition_penalty: float = Field(1.0, gt=0)
    no_repeat_ngram: int = Field(0, ge=0)
    # Reports that are sampled beside the beam's; the one that is most like the reports of such images is taken, where a
    # finding more or less than its prompt has costs so much of the CIDEr expected (docs/method.md section 6.3).
    candidates: int = Field(0, ge=0)
    temperature: float = Field(0.6, ge=0.01)  # of the sampling
    agreement: float = Field(0.0, ge=0)
    batch_size: int = Field(16, ge=1)
    # By the retriever; controls: nearest by the true statuses, the sample's own report, any other patient's.
    retrieved: Literal["learned", "oracle", "own", "random"] = "learned"
    # Of the prompt: the likeliest, positive above fitted thresholds (method.md section 2.4), or the reference's.
    statuses: Literal["argmax", "calibrated", "oracle"] = "argmax"

    @field_validator("retrieved", mode="before")
    @classmethod
    def _earlier_name(cls, value: object) -> object:
        """`generation.references: retrieved` was the name of an earlier version."""
        return "learned" if value == "retrieved" else value

    @field_validator("statuses", mode="before")
    @classmethod
    def _before_there_were_thresholds(cls, value: object) -> object:
        """`generation.statuses: predicted` was the name of the likeliest."""
        return "argmax" if value == "predicted" else value


class LossSettings(Section):
    """Weights of the losses in the objective, in which L_lm has weight 1 (paper Eq. 15; docs/method.md section 7.1)."""

    classification: float = Field(4.0, ge=0)
    alpha: float = Field(2.0, ge=0)  # rank loss
    beta: float = Field(0.5, ge=0)  # fine-grained cross-modal consistency


class ControlSettings(Section):
    """Positive controls (docs/evaluation.md#controls): a path is given what the sample's own report says, in training
    and in every test, instead of what its image shows. Deliberate leaks: they prove that a path works, nothing else."""

    local: Literal["image", "report"] = "image"  # local prompts: the entities that the report mentions, and where
    memory: Literal["image", "report"] = "image"  # the classifier's reports: nearest by the true statuses
    scores: Literal["image", "report"] = "image"  # the retriever's input: the true statuses, one-hot


class TrunkSettings(Section):
    """What the staged schedule trains first (docs/method.md section 7.4): encoder and classifier, on the statuses.

    lr: of the encoder, head_lr: of the classifier, at their peaks. holdout: the share of the training patients kept
    apart, which choose the epoch and the thresholds. dropout: of the pooled image.
    """

    epochs: int = Field(8, ge=1)
    batch_size: int = Field(32, ge=2)
    lr: float = Field(4e-4, gt=0)
    head_lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    holdout: float = Field(0.1, ge=0, le=0.5)


class REVTAFTrainSettings(TrainSettings):
    """Training as of any system. schedule: all parts together (the paper), or the trunk first, then the rest on its
    features. statuses: what the decoder's prompt says in training. select: the validation score that chooses the
    checkpoint; micro_f1_positive is over the 13 findings without "no finding"."""

    schedule: Literal["joint", "staged"] = "joint"
    statuses: Literal["truth", "predicted", "mixed"] = "truth"  # mixed: a coin for each sample
    encoder_lr: float | None = Field(None, gt=0)  # of the image encoder, at its peak, where it differs
    select: Literal["example_f1", "micro_f1_positive", "macro_f1", "cider"] = "example_f1"


class Settings(RunSettings):
    """A run of REVTAF."""

    renamed: ClassVar[dict[str, str]] = RunSettings.renamed | {
        "generation.prompts": "generation.statuses",
        "generation.references": "generation.retrieved",
    }
    architecture: ClassVar[tuple[str, ...]] = (
        *("knowledge", "encoder", "classifier", "lre", "fvtaf", "decoder"),
        "controls",
    )
    unsaid: ClassVar[dict[str, dict[str, object]]] = {"encoder": {"inputs": "imagenet"}}
    beginnings: ClassVar[tuple[str, ...]] = ("encoder.weights", "decoder.weights", "decoder.vocabulary")

    encoder: EncoderSettings = EncoderSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    lre: LRESettings = LRESettings()
    fvtaf: FVTAFSettings = FVTAFSettings()
    decoder: DecoderSettings = DecoderSettings()
    generation: GenerationSettings = GenerationSettings()
    loss: LossSettings = LossSettings()
    trunk: TrunkSettings = TrunkSettings()
    train: REVTAFTrainSettings = REVTAFTrainSettings()
    controls: ControlSettings = ControlSettings()

    @model_validator(mode="after")
    def _without_a_labeler(self) -> Settings:
        """Where nobody reads the reports, what needs it is off; what was asked for by name and needs it is refused."""
        if not self.knowledge.reads_reports:
            wrong = {key: wanted for key, wanted in _needs_labels(self).items() if get_key(self, key) != wanted}
            if wrong:
                named = ", ".join(f"{key}={get_key(self, key)}" for key in wrong)
                fix = " ".join(f"{key}={'null' if wanted is None else wanted}" for key, wanted in wrong.items())
                raise ValueError(
                    f"{named}: not with knowledge.labeler={self.knowledge.labeler}, where nobody reads the reports; "
                    f"set {fix}, or take a labeler that reads them"
                )
            changed = {key: value for key, value in _off(self).items() if get_key(self, key) != value}
            for key, value in changed.items():
                section, name = key.split(".")
                setattr(getattr(self, section), name, value)
            if changed:
                told = ", ".join(f"{key}={str(value).lower()}" for key, value in changed.items())
                log.warning("knowledge.labeler=%s: nobody reads the reports, so %s", self.knowledge.labeler, told)
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Settings:
        for name in ("classifier", "fvtaf", "decoder"):
            part = getattr(self, name)
            if part.width % part.heads:
                raise ValueError(f"{name}.width {part.width} does not divide into {name}.heads {part.heads}")
        if self.encoder.image_size > self.encoder.resize:
            raise ValueError(
                f"encoder.image_size {self.encoder.image_size} exceeds encoder.resize {self.encoder.resize}"
            )
        fvtaf = self.fvtaf
        if fvtaf.text_mass != "uniform" and (fvtaf.attention, fvtaf.axis) != ("mpsa", "joint"):
            raise ValueError(
                f"fvtaf.text_mass={fvtaf.text_mass} is a marginal of the transport of all patches to all texts: it "
                f"needs fvtaf.attention=mpsa fvtaf.axis=joint, got {fvtaf.attention}, {fvtaf.axis}; with softmax "
                "attention a text gets any mass as it is"
            )
        if self.encoder.blind and (self.retrieves or self.classifier.memory):
            raise ValueError(
                "encoder.blind hides the image, but retrieved reports and entity prompts come from it too: it needs "
                "lre.enabled=false fvtaf.enabled=false classifier.memory=false"
            )
        if self.generation.retrieved != "learned" and not self.retrieves:
            raise ValueError(
                f"generation.retrieved={self.generation.retrieved}, but without lre and fvtaf no report is retrieved"
            )
        fitted_on = self.classifier.calibration
        reading = [key for key, reads in self._read_calibrations.items() if reads]
        if reading and fitted_on == "validation" and self.tests_on_validation:
            raise ValueError(
                f"{reading[0]} would report the split that its thresholds were fitted on "
                f"(data.test_split={self.data.test_split}); take classifier.calibration=holdout, another "
                "data.test_split, or generation.statuses=argmax with generation.candidates=0"
            )
        kept = self.train.schedule == "staged" and self.trunk.holdout > 0
        if reading and fitted_on == "holdout" and not kept:
            raise ValueError(
                f"{reading[0]} with classifier.calibration=holdout needs patients kept apart: "
                "train.schedule=staged and trunk.holdout above 0; or take classifier.calibration=validation"
            )
        if self.lre.features == "medfuse":
            if self.knowledge.imported:
                raise ValueError(
                    "lre.features=medfuse embeds images, knowledge.imported has none; set one of them back"
                )
            if self.lre.score_space != "prob":
                raise ValueError("lre.score_space=logit is of probabilities; lre.features=medfuse gives embeddings")
            if self.controls.scores == "report":
                raise ValueError(
                    "controls.scores=report replaces entity scores, which lre.features=medfuse does not ask"
                )
        if self.controls.scores == "report" and fvtaf.text_mass == "presence":
            raise ValueError(
                "controls.scores=report puts statuses in the place of the entities' scores, which "
                "fvtaf.text_mass=presence reads as masses; take fvtaf.text_mass=uniform"
            )
        for key, needs, there in (
            ("local", "fvtaf.enabled=true", self.fvtaf.enabled),
            ("memory", "classifier.memory=true", self.classifier.memory),
            ("scores", "lre.enabled=true", self.lre.enabled),
        ):
            if getattr(self.controls, key) == "report" and not there:
                raise ValueError(f"controls.{key}=report reaches nothing: it needs {needs}")
            if getattr(self.controls, key) == "report" and self.knowledge.imported:
                raise ValueError(
                    f"controls.{key}=report replaces features of our own, knowledge.imported has others'; set one of "
                    "them back"
                )
        scorer = self.knowledge.entities == "scorer" and self.knowledge.imported is None
        if self.encoder.weights == "scorer" and not scorer:
            raise ValueError("encoder.weights=scorer needs knowledge.entities=scorer, whose network it takes")
        if self.encoder.weights == "scorer" and self.encoder.backbone != self.knowledge.scorer_backbone:
            raise ValueError(
                f"encoder.weights: scorer is a {self.knowledge.scorer_backbone}, encoder.backbone is "
                f"{self.encoder.backbone}; make knowledge.scorer_backbone equal"
            )
        room = POSITIONS_OF_BERT - 19
        for name, tokens in (
            ("decoder.max_tokens", self.decoder.max_tokens),
            ("generation.max_new_tokens", self.generation.max_new_tokens),
        ):
            if tokens > room:
                raise ValueError(f"{name} is {tokens}, the decoder has room for {room}")
        if self.generation.min_new_tokens > self.generation.max_new_tokens:
            raise ValueError("generation.min_new_tokens exceeds generation.max_new_tokens")
        return self

    @property
    def retrieves(self) -> bool:
        """Whether a retrieved report enters the model at all."""
        return self.lre.enabled or self.fvtaf.enabled

    @property
    def reads_entities(self) -> bool:
        """Whether entity scores enter the model. Where a labeler reads the reports they are always made."""
        by_scores = self.retrieves and self.lre.features == "scores"
        memory = self.classifier.memory and self.knowledge.memory == "entities"
        return self.knowledge.reads_reports or by_scores or self.fvtaf.enabled or memory

    @property
    def reads_texts(self) -> bool:
        """Whether vectors of the training reports enter the model; as `reads_entities`."""
        return self.knowledge.reads_reports or self.retrieves or self.classifier.memory

    @property
    def retrieves_by_medfuse(self) -> bool:
        """Whether a report is retrieved by the image embeddings of MedFuse-CLIP."""
        return self.retrieves and self.lre.features == "medfuse"

    @property
    def _read_calibrations(self) -> dict[str, bool]:
        """What reads calibrated probabilities, and whether it does."""
        chooses = self.generation.candidates > 0 and self.knowledge.labeler != "none"
        calibrated = self.generation.statuses == "calibrated"
        return {"generation.statuses=calibrated": calibrated, "generation.candidates": chooses}

    @property
    def reads_medfuse(self) -> bool:
        """Whether MedFuse-CLIP is asked at all; features that were imported bring their own memory."""
        remembers = self.knowledge.memory == "medfuse" and self.reads_texts
        return self.knowledge.imported is None and (remembers or self.retrieves_by_medfuse)

    @property
    def other_models(self) -> dict[str, Path]:
        """As `RunSettings.other_models`."""
        return {"knowledge.medfuse": self.knowledge.medfuse} if self.reads_medfuse else {}

    @property
    def trained_on_answers(self) -> tuple[str, ...]:
        """The settings by which the model itself is a control: what it was trained on was the sample's own report."""
        given = [f"controls.{name}=report" for name, value in self.controls if value == "report"]
        return (*given, *["lre.grp_source=own"] * (self.retrieves and self.lre.grp_source == "own"))

    @property
    def reads_answer(self) -> tuple[str, ...]:
        """These, and those of a test that are given the tested sample's own report or its statuses."""
        given = [("statuses", ("oracle",)), ("retrieved", ("oracle", "own"))]
        found = {name: getattr(self.generation, name) for name, answers in given}
        tested = [f"generation.{name}={found[name]}" for name, answers in given if found[name] in answers]
        return (*self.trained_on_answers, *tested)

    @property
    def variant(self) -> str:
        """A model that is a control gives "-control", statuses that are not the likeliest "-calibrated" or "-oracle",
        a choice among candidates "-among16" or "-among16_t0.8_a0.1", reports that no retriever chose
        "-oracle_retrieved", "-own_retrieved" or "-random_retrieved"."""
        chosen = self.generation.retrieved
        statuses = "" if self.generation.statuses == "argmax" else f"-{self.generation.statuses}"
        control = "-control" if self.trained_on_answers else ""
        count, temperature = self.generation.candidates, self.generation.temperature
        usual = temperature == GenerationSettings.model_fields["temperature"].default
        agreement = self.generation.agreement
        how = ("" if usual else f"_t{temperature:g}") + (f"_a{agreement:g}" if agreement else "")
        among = f"-among{count}{how}" if count else ""
        return control + statuses + among + (f"-{chosen}_retrieved" if chosen != "learned" else "")


def get_key(settings: RunSettings, key: str) -> Any:
    """The value of a key such as "lre.enabled"."""
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _needs_labels(settings: Settings) -> dict[str, Any]:
    """key -> the one value that it can have where nobody reads the reports: whoever sets another means it."""
    found: dict[str, Any] = {"knowledge.imported": None, "controls.local": "image", "generation.agreement": 0}
    if settings.knowledge.labeler == "none":
        found |= {
            "generation.statuses": "argmax",
            "generation.retrieved": "learned",
            "train.statuses": "truth",
            "controls.memory": "image",
            "controls.scores": "image",
        }
    elif not settings.knowledge.report_labels:
        found["knowledge.report_labels"] = True
    return found


def _off(settings: Settings) -> dict[str, Any]:
    """key -> what it is read as where nobody reads the reports: without statuses the image encoder and the decoder are
    left. With those of the annotation it is only what the fitted entity scorer, which knows English words, gives."""
    found: dict[str, Any] = {"train.select": "cider", "decoder.recombined": 0.0}
    fitted = settings.knowledge.entities == "scorer"
    if settings.knowledge.labeler == "none":
        found |= {"train.schedule": "joint", "decoder.prompt_dropout": 0.0, "decoder.image_dropout": 0.0}
    if settings.knowledge.labeler == "none" or fitted:
        found |= {"lre.enabled": False, "fvtaf.enabled": False}
    if settings.knowledge.labeler == "none" or (fitted and settings.knowledge.memory == "entities"):
        found["classifier.memory"] = False
    if settings.encoder.weights == "scorer":
        found |= {"encoder.weights": "imagenet", "encoder.inputs": inputs_of(settings.encoder.backbone, "imagenet")}
    return found
