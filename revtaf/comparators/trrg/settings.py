"""TRRG's settings: every key of both stages, type, bounds and default; the paper's, where it has any."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from revtaf.config import BackboneName, InputKind, RunSettings, Section, TrainSettings

SwinName = Literal["swin_t", "swin_s", "swin_b"]  # torchvision's
SOURCES = ("stage1", "scorer", "oracle", "random", "none")
IMAGE, STATUSES = "<image>", "<statuses>"  # in the instruction


class SentenceImageSettings(Section):
    """The image encoder of stage 1, and how it sees an image (sizes in pixels).

    weights: "imagenet", a file of the same layout, or null for random ones. resize: the shorter side, whose central
    square of `size` is seen. A Swin's tokens and a backbone's patches are one thing: its last map, in rows.
    """

    encoder: SwinName | BackboneName = "swin_b"
    weights: str | None = "imagenet"
    size: int = Field(224, ge=32)
    resize: int = Field(256, ge=32)
    norm: InputKind = "imagenet"
    augment: Literal["none", "paper", "strong"] = "none"  # paper: REVTAF's crop and rotation; strong: see there
    rotation: float = Field(5.0, ge=0)  # degrees at most, where augmented
    dropout: float = Field(0.0, ge=0, lt=1)  # of the map, in training


class SentenceTextSettings(Section):
    """The text encoder. weights: a BERT's folder, whose sizes and vocabulary then count; null for random ones in the
    sizes given here and a vocabulary fitted on the training reports. max_tokens: of a sentence, both ends included."""

    weights: Path | None = Path("checkpoints/Bio_ClinicalBERT")
    vocabulary_size: int = Field(4000, ge=100)
    layers: int = Field(12, ge=1)
    width: int = Field(768, ge=8)
    heads: int = Field(12, ge=1)
    feed_forward: int = Field(3072, ge=8)
    dropout: float = Field(0.1, ge=0, lt=1)
    max_tokens: int = Field(64, ge=4, le=512)


class SentenceSpaceSettings(Section):
    """The space of both. width: d. temperature: at the start; it is learned. centred: each number of either encoder's
    output is standardised over the batch before vectors get length 1 (BatchNorm without parameters): random encoders
    see all images alike, and few training pairs are not enough to unlearn it."""

    width: int = Field(1024, ge=2)
    temperature: float = Field(0.07, gt=0.01)
    centred: bool = False


class SentenceObjectiveSettings(Section):
    """Eq. 1. reduction: paper, both directions summed, or mean, half of it, as open_clip. dedupe_negatives: samples
    whose sentence is word for word the anchor's are no negatives."""

    reduction: Literal["paper", "mean"] = "mean"
    dedupe_negatives: bool = True


class ClueSettings(Section):
    """The clue bank. bank: a YAML file; null for ours (`clues.yaml`). prefix: before every clue. expanded: all wordings
    of a clue compete, and the best one stands for it; else its first one does."""

    bank: Path | None = None
    prefix: str = "Clue: "
    expanded: bool = False


class Stage1TrainSettings(TrainSettings):
    """Training as of any system; the paper gives no value of this stage."""

    epochs: int = Field(15, ge=1)
    batch_size: int = Field(128, ge=2)
    lr: float = Field(5e-5, gt=0)
    min_lr: float = Field(0.0, ge=0)
    warmup_lr: float = Field(0.0, ge=0)
    weight_decay: float = Field(1e-4, ge=0)
    clip_value: float | None = Field(None, gt=0)


class Stage1Settings(RunSettings):
    """A run of stage 1: sentences and images in one space."""

    architecture: ClassVar[tuple[str, ...]] = ("image", "text", "space")
    beginnings: ClassVar[tuple[str, ...]] = (
        *("image.weights", "image.augment", "image.rotation", "image.dropout"),
        *("text.weights", "space.temperature"),
    )

    system: str = "trrg_stage1"
    image: SentenceImageSettings = SentenceImageSettings()
    text: SentenceTextSettings = SentenceTextSettings()
    space: SentenceSpaceSettings = SentenceSpaceSettings()
    objective: SentenceObjectiveSettings = SentenceObjectiveSettings()
    clue: ClueSettings = ClueSettings()
    train: Stage1TrainSettings = Stage1TrainSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> Stage1Settings:
        _check_reader(self)
        if self.image.size > self.image.resize:
            raise ValueError(f"image.size {self.image.size} exceeds image.resize {self.image.resize}")
        if self.text.width % self.text.heads:
            raise ValueError(f"text.width {self.text.width} does not divide into text.heads {self.text.heads}")
        return self


class InjectedClueSettings(ClueSettings):
    """Which clues are injected. k: how many. source: by stage 1's similarity; by the entity scorer (or MedKLIP) of
    `knowledge`; oracle, those that the sample's own report states (a control); random, those that another patient's
    report states; none."""

    k: int = Field(3, ge=1)
    source: Literal["stage1", "scorer", "oracle", "random", "none"] = "stage1"


class InteractionSettings(Section):
    """Cross-modal clue interaction (Eq. 2 and 3). queries: L, the learnable tokens. attention: of the queries to each
    stream; sinkhorn is REVTAF's MPSA with `epsilon`. feed_forward: as a multiple of the width."""

    enabled: bool = True
    queries: int = Field(32, ge=1)
    heads: int = Field(8, ge=1)
    feed_forward: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    attention: Literal["softmax", "sinkhorn"] = "softmax"
    epsilon: float = Field(0.05, gt=0)


class ConsistencySettings(Section):
    """Eq. 4 and 5. dc: weight of the consistency loss, 0 leaves it out. dc_stopgrad: clue holds the clue stream fixed
    in it, so that the visual tokens move to the clues and not both to a constant."""

    dc: float = Field(1.0, ge=0)
    dc_stopgrad: Literal["none", "clue"] = "none"


class CausalLanguageSettings(Section):
    """The language model. folder: of any causal model of `transformers` (safetensors and tokenizer); null fits a small
    one of Mistral's architecture on the training reports, in the sizes below, before anything else; hinted is the share
    of its texts that have some of their own words before them.

    tuning: none (frozen), lora (of queries and values, with lora_rank to lora_dropout), full. dtype: of a frozen
    model's weights; auto: bfloat16 where training computes in it. checkpointing: activations are made again in the
    backward pass. max_tokens: of a report, end token included.
    """

    folder: Path | None = Path("checkpoints/Mistral-7B-v0.1")
    tuning: Literal["none", "lora", "full"] = "none"
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(16, ge=1)
    lora_dropout: float = Field(0.1, ge=0, lt=1)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpointing: bool = False
    max_tokens: int = Field(120, ge=8)
    vocabulary_size: int = Field(2048, ge=100)
    layers: int = Field(4, ge=1)
    width: int = Field(256, ge=8)
    heads: int = Field(4, ge=1)
    key_value_heads: int = Field(2, ge=1)
    feed_forward: int = Field(512, ge=8)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(2e-3, gt=0)
    hinted: float = Field(0.7, ge=0, le=1)


class InstructionSettings(Section):
    """What the language model reads beside the image. template: with <image> once, and <statuses> where the statuses of
    REVTAF's prompt stand, in words, if they are asked for.

    statuses: none; truth, the report's own (a control); predicted, the report's own in training, and in validation and
    test those of `predictions` (predictions.jsonl of a REVTAF test on those splits).
    """

    template: str = (
        "Human: <Img><image></Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. "
        "<statuses>\nAssistant:"
    )
    statuses: Literal["none", "truth", "predicted"] = "none"
    predictions: list[Path] = []


class VisionSettings(Section):
    """The frozen image encoder in stage 2. cached: every image is encoded once and its tokens stay in memory. blind: a
    control, every image is the same grey."""

    cached: bool = False
    blind: bool = False


class CausalGenerationSettings(Section):
    """Beam search; lengths in tokens of the report. clues: trained, those of `clue.source`, or another source in the
    test alone."""

    beams: int = Field(3, ge=1)
    min_new_tokens: int = Field(80, ge=0)
    max_new_tokens: int = Field(120, ge=1)
    length_penalty: float = 2.0
    repetition_penalty: float = Field(2.0, gt=0)
    no_repeat_ngram: int = Field(0, ge=0)
    batch_size: int = Field(16, ge=1)
    clues: Literal["trained", "stage1", "scorer", "oracle", "random"] = "trained"


class TRRGTrainSettings(TrainSettings):
    """Training as of any system, with the paper's values. select: the validation score that chooses the epoch."""

    epochs: int = Field(5, ge=1)
    batch_size: int = Field(8, ge=2)
    lr: float = Field(1e-4, gt=0)
    min_lr: float = Field(1e-6, ge=0)
    warmup_steps: int = Field(0, ge=0)
    warmup_lr: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip_value: float | None = Field(1.0, gt=0)
    select: Literal["example_f1", "micro_f1_positive", "macro_f1", "cider"] = "example_f1"


class TRRGSettings(RunSettings):
    """A run of stage 2. stage1: a finished run of stage 1, or its model's folder."""

    free: ClassVar[tuple[str, ...]] = (*RunSettings.free, "vision.cached", "llm.checkpointing")
    architecture: ClassVar[tuple[str, ...]] = ("clue", "cmci", "llm", "prompt", "vision")
    beginnings: ClassVar[tuple[str, ...]] = ("clue.bank", "vision.cached", "llm.checkpointing", "prompt.predictions")

    system: str = "trrg"
    stage1: Path = Path("results/trrg_stage1")
    clue: InjectedClueSettings = InjectedClueSettings()
    cmci: InteractionSettings = InteractionSettings()
    loss: ConsistencySettings = ConsistencySettings()
    llm: CausalLanguageSettings = CausalLanguageSettings()
    prompt: InstructionSettings = InstructionSettings()
    vision: VisionSettings = VisionSettings()
    generation: CausalGenerationSettings = CausalGenerationSettings()
    train: TRRGTrainSettings = TRRGTrainSettings()

    @property
    def tested_source(self) -> str:
        """Where the clues of validation and test come from."""
        return self.clue.source if self.generation.clues == "trained" else self.generation.clues

    @property
    def trained_on_answers(self) -> tuple[str, ...]:
        """The settings by which the model itself is a control."""
        given = ["clue.source=oracle"] * (self.clue.source == "oracle")
        return (*given, *["prompt.statuses=truth"] * (self.prompt.statuses == "truth"))

    @property
    def reads_answer(self) -> tuple[str, ...]:
        """These, and what the tested samples are given of their own reports."""
        return (*self.trained_on_answers, *["generation.clues=oracle"] * (self.generation.clues == "oracle"))

    @property
    def variant(self) -> str:
        """A model that is a control gives "-control", clues of another source in the test "-oracle_clues" and so on."""
        clues = self.generation.clues
        return "-control" * bool(self.trained_on_answers) + ("" if clues == "trained" else f"-{clues}_clues")

    @model_validator(mode="after")
    def _parts_fit(self) -> TRRGSettings:
        _check_reader(self)
        clueless, llm = self.clue.source == "none", self.llm
        if self.loss.dc and (clueless or not self.cmci.enabled):
            raise ValueError(
                "loss.dc: the consistency loss is between the two streams of CMCI; set loss.dc=0, or cmci.enabled=true "
                "and a clue.source"
            )
        if clueless and self.generation.clues != "trained":
            raise ValueError(
                f"generation.clues={self.generation.clues}, but the model of clue.source=none knows no clues"
            )
        if self.prompt.template.count(IMAGE) != 1 or self.prompt.template.count(STATUSES) > 1:
            raise ValueError(f"prompt.template has to hold {IMAGE} once, and {STATUSES} once at most")
        if self.prompt.statuses != "none" and STATUSES not in self.prompt.template:
            raise ValueError(f"prompt.statuses={self.prompt.statuses}, but prompt.template has no {STATUSES}")
        if self.prompt.statuses == "predicted" and not self.prompt.predictions:
            raise ValueError(
                "prompt.statuses=predicted needs prompt.predictions: predictions.jsonl of a REVTAF test on the "
                "validation split, and of one on the tested split"
            )
        if self.vision.blind and "scorer" in (self.clue.source, self.generation.clues):
            raise ValueError("vision.blind hides the image, but the scorer's clues come from it: take another source")
        if llm.folder is None:
            for whole, part in (("width", "heads"), ("heads", "key_value_heads")):
                if getattr(llm, whole) % getattr(llm, part):
                    raise ValueError(
                        f"llm.{whole} {getattr(llm, whole)} does not divide into llm.{part} {getattr(llm, part)}"
                    )
            of_each = llm.width // llm.heads
            if of_each % 2:  # rotary positions turn pairs of numbers
                raise ValueError(
                    f"llm.width {llm.width} gives each of llm.heads {llm.heads} the odd width {of_each}; "
                    "it has to be even"
                )
        if self.generation.min_new_tokens > self.generation.max_new_tokens:
            raise ValueError("generation.min_new_tokens exceeds generation.max_new_tokens")
        return self


def _check_reader(settings: RunSettings) -> None:
    """ValueError where the reports are not read, or are not English: the clues are English sentences of what the
    labeler finds."""
    for key, value, wanted in (
        ("knowledge.labeler", settings.knowledge.labeler, ("rules", "chexbert")),
        ("data.language", settings.training_data.language, ("en",)),
    ):
        if value not in wanted:
            raise ValueError(
                f"{key}={value}: TRRG's clues are English sentences, chosen by what a labeler reads; it needs "
                f"{' or '.join(wanted)}. Without a labeler train system=revtaf or system=medfuse"
            )
