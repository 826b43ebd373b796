"""Typed settings that every system shares: the run, its data, knowledge, training, evaluation, and what is fetched.

One file describes one run; ablations are flags in it, no module has settings of its own. A system adds its sections in
a subclass of `RunSettings` (REVTAF's: `revtaf.settings`). Reading and writing: `revtaf.config_file`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from revtaf.files import windows_refuses

if TYPE_CHECKING:
    from revtaf.data.annotations import Annotations

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"]
# How grey levels become a network's input, see `revtaf.data.images.normalise`.
InputKind = Literal["imagenet", "clip", "lite", "image"]


class Section(BaseModel):
    """A part of the settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)
    gone: ClassVar[dict[str, object]] = {}  # keys of earlier versions, each with the value at which it did nothing


SPLITS = ("train", "val", "test")
WHOLE_SET = "whole"  # in place of a split: every study of the annotation


class DataSettings(Section):
    """A data set: where its files are, how much of them is read, which splits choose the checkpoint and are tested."""

    name: str = "phantom"
    # Of the reports: how they are cleaned, tokenised and scored (docs/data.md). auto: other where no labeler reads them
    # (knowledge.labeler is none or annotation), else en; read, and saved, as one of the two.
    language: Literal["auto", "en", "other"] = "auto"
    annotation: Path = Path("data/phantom/annotation.json")
    images: Path = Path("data/phantom/images")
    features: Path = Path("data/phantom/features")  # where extracted features are kept and found again
    validation_split: str = "val"
    test_split: str = "test"  # or several joined by "+", such as val+test; or whole: every study, whatever its split
    max_words: int = Field(100, ge=1)  # of a training report; scoring follows its protocol
    max_samples: int | None = Field(None, ge=1)  # of each split: for quick trials
    packed: bool = False  # keep the resized images in one file: read once, then no decoding
    # A training image that cannot be read: skip (the next sample in its place, noted and counted), or stop. Validation
    # and test always stop.
    on_error: Literal["skip", "stop"] = "skip"
    max_bad_share: float = Field(0.01, ge=0, le=1)  # of the training images; more than that stops a run that skips

    @field_validator("name")
    @classmethod
    def _folder_name(cls, value: str) -> str:
        """Results are folders of that name."""
        why = "it is empty" if not value.strip(". ") else windows_refuses(PurePosixPath(value))
        if why or "/" in value:
            raise ValueError(f"results are folders of that name: {why or 'it holds /'}; choose another")
        return value


class KnowledgeSettings(Section):
    """Where report statuses, entity scores and text embeddings come from.

    The paper's components are used where their files are; without them a run stops, or with `missing: stand-in` uses
    the stand-ins and says so.

    labeler: who reads the reports. rules and chexbert know English alone. annotation: nobody, the annotation has the
    statuses; none: nobody, and there are none. Without a reader there is no clinical efficacy, and CIDEr chooses.
    """

    labeler: Literal["rules", "chexbert", "annotation", "none"] = "rules"
    entities: Literal["scorer", "medklip"] = "scorer"
    text: Literal["tfidf", "bio_clinicalbert"] = "tfidf"
    memory: Literal["entities", "clip", "medfuse"] = "entities"  # how the classifier's reports are found and embedded
    chexbert: Path = Path("checkpoints/chexbert/chexbert.pth")
    chexbert_vocabulary: Path = Path("checkpoints/bert-base-uncased/vocab.txt")
    medklip: Path = Path("checkpoints/medklip/checkpoint_final.pth")
    explanations: Path | None = None  # MedKLIP's "observation explanation.json"; null: our own words
    bio_clinicalbert: Path = Path("checkpoints/Bio_ClinicalBERT")
    clip_model: str = "ViT-B-32"  # of open_clip
    clip: Path = Path("checkpoints/clip/open_clip_model.safetensors")
    medfuse: Path = Path("results/medfuse_clip")  # a finished run of system=medfuse, for memory and lre.features
    imported: Path | None = None  # features that `prepare import` made from others' artefacts
    text_width: int = Field(768, ge=8)
    folds: int = Field(3, ge=2)  # cross-fitting of the scores of training images, by patient
    scorer_backbone: BackboneName = "resnet18"
    scorer_image_size: int = Field(128, ge=64)
    scorer_epochs: int = Field(8, ge=1)
    scorer_batch_size: int = Field(32, ge=2)
    scorer_lr: float = Field(1e-3, gt=0)
    scorer_precision: Literal["auto", "no", "bf16"] = "auto"  # of its fit, as train.precision
    min_mentions: int = Field(10, ge=1)  # an entity mentioned present less often is scored by its frequency
    report_labels: bool = True  # take the statuses from the annotation; False labels every report anew

    @property
    def reads_reports(self) -> bool:
        """Whether a labeler reads the reports; then they have to be English."""
        return self.labeler in ("rules", "chexbert")

    @field_validator("scorer_precision", mode="before")
    @classmethod
    def _yaml_no(cls, value: object) -> object:
        """YAML reads a bare `no` as false."""
        return "no" if value is False else value


class TrainSettings(Section):
    """Optimiser, schedule, validation (docs/method.md section 7).

    batch_size: of one process; an update takes `accumulation` such batches of each. lr: at its peak. warmup_steps: in
    updates. clip_value: the bound of every entry of a gradient; null for none. validation_samples: for how many a
    report is written; null for all. bucketed: batches of reports of like length, so that less of them is padding.
    """

    epochs: int = Field(6, ge=1)
    batch_size: int = Field(18, ge=1)
    accumulation: int = Field(1, ge=1)
    lr: float = Field(5e-5, gt=0)
    min_lr: float = Field(5e-6, ge=0)
    warmup_steps: int = Field(2000, ge=0)
    warmup_lr: float = Field(5e-7, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_value: float | None = Field(0.1, gt=0)
    precision: Literal["auto", "no", "fp16", "bf16"] = "auto"  # auto: bf16 where the device computes in it, else no
    bucketed: bool = False
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
    """What a test is scored and shown with. java: the program that runs METEOR; null for the one that is found."""

    radgraph_model: Path | None = None  # folders of the models of the advanced metrics, see docs/evaluation.md
    bertscore_model: Path | None = None
    java: str | None = None
    samples: int = Field(8, ge=0)  # shown in report.html
    resamples: int = Field(10_000, ge=0)  # for intervals and paired tests; 0 leaves them out


class FetchSettings(Section):
    """Where `revtaf fetch` looks."""

    hub: str | None = None  # a mirror of the Hugging Face Hub; null: HF_ENDPOINT, or huggingface.co
    torchvision: str = "https://download.pytorch.org/models"
    patience: float = Field(4.0, gt=0)  # seconds for the first answer of a server


class RunSettings(Section):
    """What the engine, the evaluation and the grids read; a system's own sections are fields of a subclass."""

    # Keys of earlier versions -> today's. They are read as what they meant, and a note says so.
    renamed: ClassVar[dict[str, str]] = {"memory": "trained_on"}
    # Settings that may change between the two halves of a run: they do not touch what it computes. With a dot at the
    # end, a whole section.
    free: ClassVar[tuple[str, ...]] = (
        *("name", "run", "eval.", "device", "threads", "data.test_split"),
        *("train.workers", "train.checkpoint_minutes", "missing", "fetch."),
        *(f"{data}.{key}" for data in ("data", "trained_on") for key in ("on_error", "max_bad_share")),
    )
    # Those of them that the results of a test depend on.
    of_the_test: ClassVar[tuple[str, ...]] = ("data.test_split",)
    # Sections that trained weights depend on: whoever opens a checkpoint must agree with it, but for `beginnings`,
    # which say where training starts from.
    architecture: ClassVar[tuple[str, ...]] = ()
    # section -> key -> value: what saved settings of earlier versions meant by not having a key that has since come.
    unsaid: ClassVar[dict[str, dict[str, object]]] = {}
    beginnings: ClassVar[tuple[str, ...]] = ()

    system: str = "revtaf"  # the name of an entry point in the group `revtaf.systems`
    name: str = "phantom"
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    threads: int | None = Field(None, ge=1)
    run: Path = Path("results/phantom")
    missing: Literal["error", "stand-in"] = "error"  # what a file that is configured and not there means
    trained_on: DataSettings | None = None  # the set that was trained on, where it is not the tested one; null: `data`
    data: DataSettings = DataSettings()
    knowledge: KnowledgeSettings = KnowledgeSettings()
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()
    fetch: FetchSettings = FetchSettings()

    def splits(self, annotations: Annotations) -> Annotations:
        """The studies of a set as this run splits them: as the annotation does, unless a system draws its own."""
        return annotations

    @model_validator(mode="after")
    def _language(self) -> RunSettings:
        for data in (self.data, self.trained_on):
            if data is not None and data.language == "auto":
                data.language = "en" if self.knowledge.reads_reports else "other"
        return self

    @property
    def training_data(self) -> DataSettings:
        """The set that the model and its knowledge are fitted on."""
        return self.trained_on or self.data

    @property
    def retrieves(self) -> bool:
        """Whether a retrieved report enters the model at all."""
        return False

    @property
    def other_models(self) -> dict[str, Path]:
        """The runs of other systems whose models this one reads, by the setting that names them."""
        return {}

    @property
    def reads_answer(self) -> tuple[str, ...]:
        """The settings by which this run is given what the tested samples' own reports say; every page names them."""
        return ()

    @property
    def variant(self) -> str:
        """What sets the results of a test apart from the plain ones of the same model ("-oracle"); part of a folder's
        name."""
        return ""

    @property
    def tests_on_validation(self) -> bool:
        """Whether the tested split is the one that chooses the checkpoint."""
        data, own = self.data, self.training_data
        return data.annotation == own.annotation and own.validation_split in (
            SPLITS if data.test_split == WHOLE_SET else data.test_split.split("+")
        )

    @property
    def output(self) -> Path:
        """The folder of this test's results. Trials and variants get folders of their own and never replace the real
        result."""
        name = f"{self.data.name}-{self.data.test_split.replace('+', '-')}"
        name += f"-first{self.data.max_samples}" if self.data.max_samples else ""
        return Path(self.run) / (name + self.variant)


def places(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Keys that say where a file lies: every field that holds a path. Moving a file changes nothing of a run."""
    found = []
    for key, field in model.model_fields.items():
        kinds = {field.annotation, *getattr(field.annotation, "__args__", ())}
        if Path in kinds:
            found.append(prefix + key)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, Section):
                found += places(kind, f"{prefix}{key}.")
    return found


ADVANCED_MODELS = ("radgraph_model", "bertscore_model")  # keys of `eval`
