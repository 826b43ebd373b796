"""Typed settings: every key of a configuration file, its type, bounds and default.

One file describes one run. Ablations are flags here; no module has settings of its own. Reading and writing them:
`revtaf.config_file`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
POSITIONS_OF_BERT = 512  # the decoder's longest input, the prompt's 19 tokens included


class Section(BaseModel):
    """A part of the settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DataSettings(Section):
    name: str = "phantom"
    annotation: Path = Path("data/phantom/annotation.json")
    images: Path = Path("data/phantom/images")
    features: Path = Path("data/phantom/features")  # where extracted features are kept and found again
    validation_split: str = "val"
    test_split: str = "test"  # or a list joined by "+", "train+val+test" for a whole set
    max_words: int = Field(100, ge=1)  # of a training report; scoring follows its protocol
    max_samples: int | None = Field(None, ge=1)  # of each split: for quick trials
    packed: bool = False  # keep the resized images in one file: read once, then no decoding


class KnowledgeSettings(Section):
    """Where entity scores, text embeddings and report statuses come from.

    The paper's components are used where their files are; without them a run uses the stand-ins and says so.
    """

    labeler: Literal["rules", "chexbert"] = "rules"
    entities: Literal["scorer", "medklip"] = "scorer"
    text: Literal["tfidf", "bio_clinicalbert"] = "tfidf"
    memory: Literal["entities", "clip"] = "entities"  # how the classifier's reports are found and embedded
    chexbert: Path = Path("checkpoints/chexbert/chexbert.pth")
    chexbert_vocabulary: Path = Path("checkpoints/bert-base-uncased/vocab.txt")
    medklip: Path = Path("checkpoints/medklip/checkpoint_final.pth")
    explanations: Path | None = None  # MedKLIP's "observation explanation.json"; null: our own words
    bio_clinicalbert: Path = Path("checkpoints/Bio_ClinicalBERT")
    clip_model: str = "ViT-B-32"  # of open_clip
    clip: Path = Path("checkpoints/clip/open_clip_model.safetensors")
    imported: Path | None = None  # features that `prepare import` made from others' artefacts
    text_width: int = Field(768, ge=8)
    folds: int = Field(3, ge=2)  # cross-fitting of the scores of training images, by patient
    scorer_backbone: BackboneName = "resnet18"
    scorer_image_size: int = Field(128, ge=64)
    scorer_epochs: int = Field(8, ge=1)
    scorer_batch_size: int = Field(32, ge=2)
    scorer_lr: float = Field(1e-3, gt=0)
    min_mentions: int = Field(10, ge=1)  # an entity mentioned present less often is scored by its frequency
    report_labels: bool = True  # take the statuses from the annotation; False labels every report anew


class EncoderSettings(Section):
    backbone: BackboneName = "resnet101"
    weights: str | None = "imagenet"  # "imagenet", a file of a torchvision state dict, "scorer", or null
    image_size: int = Field(224, ge=64)
    resize: int = Field(256, ge=64)
    rotation: float = Field(5.0, ge=0)  # degrees, training only
    blind: bool = False  # a control: every image is the same mean grey, and what is left is the language


class ClassifierSettings(Section):
    memory: bool = True
    memory_size: int = Field(21, ge=1)
    width: int = Field(512, ge=8)
    heads: int = Field(8, ge=1)
    layers: int = Field(2, ge=1)
    feed_forward: int = Field(2048, ge=8)
    dropout: float = Field(0.1, ge=0, lt=1)
    balanced_logits: bool = True  # self-adaptive disease-balanced learning


class LRESettings(Section):
    enabled: bool = True
    metric: Literal["hyperbolic", "euclidean", "cosine"] = "hyperbolic"
    width: int = Field(512, ge=2)
    curvature: float = Field(0.01, gt=0)
    learnable_curvature: bool = False
    score_space: Literal["prob", "logit"] = "prob"
    temperature: float = Field(1.0, gt=0)
    ties: Literal["soft", "first"] = "soft"
    grp_source: Literal["batch_labels", "dataset_labels", "learned"] = "batch_labels"
    max_sentences: int = Field(20, ge=1)


class FVTAFSettings(Section):
    enabled: bool = True
    attention: Literal["mpsa", "softmax"] = "mpsa"
    axis: Literal["joint", "per_text"] = "joint"
    shared: bool = False
    projection: Literal["linear", "feed_forward"] = "linear"
    width: int = Field(1024, ge=8)
    heads: int = Field(8, ge=1)
    epsilon: float = Field(0.05, gt=0)
    max_iterations: int = Field(200, ge=1)
    tolerance: float = Field(1e-4, gt=0)
    iou: Literal["soft", "hard"] = "soft"
    upsample: int | None = Field(None, ge=7)
    mask_sentences: bool = True


class DecoderSettings(Section):
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


class GenerationSettings(Section):
    beams: int = Field(3, ge=1)
    min_new_tokens: int = Field(81, ge=0)
    max_new_tokens: int = Field(150, ge=1)
    length_penalty: float = 1.0
    repetition_penalty: float = Field(1.0, gt=0)
    no_repeat_ngram: int = Field(0, ge=0)
    batch_size: int = Field(16, ge=1)
    prompts: Literal["predicted", "oracle"] = "predicted"  # oracle: the reference's statuses
    references: Literal["retrieved", "oracle", "random"] = "retrieved"  # oracle: nearest by the true statuses


class LossSettings(Section):
    classification: float = Field(4.0, ge=0)
    alpha: float = Field(2.0, ge=0)  # rank loss
    beta: float = Field(0.5, ge=0)  # fine-grained cross-modal consistency


class TrainSettings(Section):
    epochs: int = Field(6, ge=1)
    batch_size: int = Field(18, ge=1)
    accumulation: int = Field(1, ge=1)
    lr: float = Field(5e-5, gt=0)
    encoder_lr: float | None = Field(None, gt=0)  # of the image encoder, where it differs
    min_lr: float = Field(5e-6, ge=0)
    warmup_steps: int = Field(2000, ge=0)
    warmup_lr: float = Field(5e-7, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_value: float | None = Field(0.1, gt=0)
    precision: Literal["no", "fp16", "bf16"] = "no"
    workers: int = Field(4, ge=0)
    validate_every: int = Field(1, ge=1)  # epochs
    validation_beams: int = Field(1, ge=1)
    validation_samples: int | None = Field(None, ge=1)
    checkpoint_minutes: float = Field(10.0, gt=0)

    @field_validator("precision", mode="before")
    @classmethod
    def _yaml_no(cls, value: object) -> object:
        """YAML reads a bare `no` as false."""
        return "no" if value is False else value


class EvalSettings(Section):
    radgraph_model: Path | None = None  # folders of the models of the advanced metrics, see docs/evaluation.md
    bertscore_model: Path | None = None
    java: str | None = None
    samples: int = Field(8, ge=0)  # shown in report.html
    resamples: int = Field(10_000, ge=0)  # for intervals and paired tests; 0 leaves them out


class Settings(Section):
    name: str = "phantom"
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    threads: int | None = Field(None, ge=1)
    run: Path = Path("results/phantom")
    memory: DataSettings | None = None  # the set whose train split is retrieved from; null: `data`
    data: DataSettings = DataSettings()
    knowledge: KnowledgeSettings = KnowledgeSettings()
    encoder: EncoderSettings = EncoderSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    lre: LRESettings = LRESettings()
    fvtaf: FVTAFSettings = FVTAFSettings()
    decoder: DecoderSettings = DecoderSettings()
    generation: GenerationSettings = GenerationSettings()
    loss: LossSettings = LossSettings()
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()

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
        if self.encoder.blind and (self.retrieves or self.classifier.memory):
            raise ValueError(
                "encoder.blind hides the image, but retrieved reports and entity prompts come from it too: it needs "
                "lre.enabled=false fvtaf.enabled=false classifier.memory=false"
            )
        if self.generation.references != "retrieved" and not self.retrieves:
            raise ValueError(
                f"generation.references={self.generation.references}, but without lre and fvtaf no report is retrieved"
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
    def training_data(self) -> DataSettings:
        """The set that the model, its knowledge and its retrieval memory are fitted on."""
        return self.memory or self.data

    @property
    def retrieves(self) -> bool:
        """Whether a retrieved report enters the model at all."""
        return self.lre.enabled or self.fvtaf.enabled

    @property
    def tests_on_validation(self) -> bool:
        """Whether the tested split is the one that chooses the checkpoint."""
        data, own = self.data, self.training_data
        return data.annotation == own.annotation and own.validation_split in data.test_split.split("+")


# What a checkpoint's weights depend on: a test run must agree with the run it loads.
ARCHITECTURE = ("knowledge", "encoder", "classifier", "lre", "fvtaf", "decoder")
# Settings that may change between the two halves of a run: they do not touch what it computes.
FREE = ("name", "run", "eval.", "device", "threads", "data.test_split", "train.workers", "train.checkpoint_minutes")
ADVANCED_MODELS = ("radgraph_model", "bertscore_model")  # keys of `eval`
