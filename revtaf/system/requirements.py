"""What REVTAF reads beside the data: every file that a configuration names, what for, and where it comes from.

What an absent one means, `missing` in the settings decides: see `revtaf.check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from revtaf.check_line import CheckLine
from revtaf.errors import UserError
from revtaf.pretrained import efficientnet
from revtaf.pretrained.bert_folder import absent_paths, bert_folder, find_weights
from revtaf.pretrained.imagenet import imagenet_weights
from revtaf.pretrained.needed import Needed, OnRequest
from revtaf.pretrained.sources import MEDKLIP, bert, chexbert, clinical_bert, one_file
from revtaf.settings import Settings

_EXPLANATIONS = OnRequest(
    "PreTrain_MedKLIP/data_file/observation explanation.json at https://github.com/MediaBrain-SJTU/MedKLIP, or null "
    "for our own words",
    "its authors'",
)
_CLIP = OnRequest(
    "any checkpoint of open_clip of this architecture, such as the CLIP trained on MIMIC-CXR that the README of "
    "https://github.com/jhb86253817/PromptMRG links; or set knowledge.memory=entities",
    "the model's own; MIMIC-CXR's data use agreement where it was trained on it",
)
_MEDFUSE = OnRequest(
    "train it first: python -m revtaf train --config configs/medfuse_clip.yaml, medfuse_phantom.yaml or "
    "medfuse_iu_xray_cpu.yaml; or name a finished run with knowledge.medfuse=FOLDER"
)


def needed(settings: Settings, training: bool | None = None) -> list[Needed]:
    """Every file, there or not, that `train` (training=True), `test` (False) or both (None) would read.

    A trained model brings its own encoder and decoder: `test` asks for no weights of theirs.
    """
    weights = _weights(settings) if training is not False else ()
    return [*_knowledge(settings), *_medfuse(settings), *weights]


def requirements(settings: Settings) -> Iterator[CheckLine]:
    """What else must be there: enough patients, imported features, and the packages of networks that others wrote."""
    s = settings.knowledge
    try:
        check_patients(settings)
    except UserError as error:
        yield CheckLine("error", str(error), "each patient by its own subject_id in the annotation, see docs/data.md")
    if efficientnet.NAME in (settings.encoder.backbone, s.scorer_backbone) and not efficientnet.installed():
        yield CheckLine("error", f"the backbone {efficientnet.NAME} needs the package timm", efficientnet.INSTALL)
    if s.imported:
        lacking = [name for name in ("train", "texts") if not (s.imported / name / "manifest.json").is_file()]
        if lacking:
            what = f"knowledge.imported: {s.imported} lacks {' and '.join(lacking)}"
            yield CheckLine("error", what, "make it: python -m revtaf prepare import, see docs/data.md")
        else:
            yield from _tried(lambda: _check_imported(settings), f"imported features: {s.imported}")
    elif settings.reads_texts and s.memory == "clip" and find_spec("open_clip") is None:
        yield CheckLine("error", "knowledge.memory=clip needs open_clip", "pip install 'revtaf[clip]'")
    if settings.reads_medfuse and find_spec("open_clip") is None:
        yield CheckLine("error", "knowledge.medfuse needs open_clip", "pip install 'revtaf[medfuse]'")
    elif settings.reads_medfuse and s.medfuse.is_dir():
        fine = f"MedFuse-CLIP has not seen the held-out studies: {s.medfuse}"
        yield from _tried(lambda: _check_medfuse(settings), fine, str(_MEDFUSE))


def _tried(check: Callable[[], object], fine: str, advice: str = "") -> Iterator[CheckLine]:
    try:
        check()
    except UserError as error:
        yield CheckLine("error", str(error), advice)
    else:
        yield CheckLine("ok", fine)


def _check_imported(settings: Settings) -> None:
    """UserError where the imported features are of other studies."""
    from revtaf.data.annotations import load_annotations
    from revtaf.features.build import select
    from revtaf.features.imported import load_training

    data = settings.training_data
    if Path(data.annotation).is_file():  # else said where the annotation is checked
        load_training(settings.knowledge.imported, select(load_annotations(data.annotation), "train", data))


def _check_medfuse(settings: Settings) -> None:
    """UserError where the run is none of MedFuse-CLIP's, or has learned from patients of the validation or test."""
    from revtaf.data.annotations import load_annotations

    encoder = _layouts().medfuse(settings.knowledge)
    for data in (settings.training_data, settings.data):
        if Path(data.annotation).is_file():
            encoder.check_unseen(data, load_annotations(data.annotation))


def _knowledge(settings: Settings) -> Iterator[Needed]:
    """The paper's components. Of an imported set only the reports that the model writes are labelled."""
    s = settings.knowledge
    own = s.imported is None
    yield from chexbert(s, lambda: _layouts().chexbert(s))
    asked, embedded = settings.reads_entities, settings.reads_texts
    fitted = "a network fitted now" if s.reads_reports else ""  # on what English reports mention
    if own and asked and s.entities == "medklip":
        yield one_file("MedKLIP", "scores the entities", s.medklip, fitted, MEDKLIP, lambda: _layouts().medklip(s))
    embeds, encodes = embedded and s.text == "bio_clinicalbert", asked and s.entities == "medklip"
    if own and (embeds or encodes):
        folder, absent = s.bio_clinicalbert, absent_paths(s.bio_clinicalbert)
        half = len(absent) > 0 and find_weights(folder) is not None
        replaceable = embeds and not half and not (encodes and s.medklip.is_file())  # MedKLIP cannot do without
        yield Needed(
            "Bio_ClinicalBERT",
            " and ".join(["embeds sentences and triplets"] * embeds + ["MedKLIP's text encoder"] * encodes),
            str(folder),
            absent,
            "TF-IDF and SVD" if replaceable else "",
            clinical_bert(folder),
            lambda: _layouts().clinical_bert(s),
            None if embeds else s.medklip,
        )
    if own and asked and s.explanations:
        yield one_file(
            "explanations", "MedKLIP's queries", s.explanations, "", _EXPLANATIONS, lambda: _layouts().explanations(s)
        )
    if own and embedded and s.memory == "clip":
        yield one_file("CLIP", "finds the classifier's reports", s.clip, "", _CLIP, lambda: _layouts().clip(s))


def _medfuse(settings: Settings) -> Iterator[Needed]:
    """A model that this project trains itself."""
    if settings.reads_medfuse:
        folder, s = settings.knowledge.medfuse, settings.knowledge
        finds = ["the classifier's reports"] * (s.memory == "medfuse")
        finds += ["the retrieved report"] * settings.retrieves_by_medfuse
        absent = () if folder.is_dir() else (str(folder),)
        purpose = f"finds {' and '.join(finds)}"
        yield Needed("MedFuse-CLIP", purpose, str(folder), absent, "", _MEDFUSE, lambda: _layouts().medfuse(s))


def _weights(settings: Settings) -> Iterator[Needed]:
    """What the image encoder and the report decoder start from."""
    encoder, decoder = settings.encoder, settings.decoder
    start = "the image encoder's start"
    if encoder.weights == "imagenet":
        yield imagenet_weights(encoder.backbone, lambda path: _layouts().imagenet(encoder.backbone, path))
    elif encoder.weights not in (None, "scorer"):
        path = Path(encoder.weights)
        source = OnRequest("a file of yours: correct encoder.weights")
        yield one_file("encoder.weights", start, path, "", source, lambda: _layouts().imagenet(encoder.backbone, path))
    if decoder.weights:
        folder = bert_folder(decoder.weights)
        beside = ("vocab.txt",) if decoder.vocabulary == "train" else ()
        absent = absent_paths(folder, beside)
        half = len(absent) > 0 and find_weights(folder) is not None
        named = Path(decoder.weights).name == "bert-base-uncased"
        yield Needed(
            f"decoder weights {decoder.weights}",
            "the report decoder's start" + (" and vocabulary" if beside else ""),
            str(folder),
            absent,
            "" if half else "random weights" + (" and a vocabulary fitted on the reports" if beside else ""),
            bert(folder) if named else OnRequest("a folder of yours: correct decoder.weights"),
            lambda: _layouts().decoder(settings),
        )
    if decoder.vocabulary != "train":
        words = Path(decoder.vocabulary)
        source = OnRequest("give a BERT vocab.txt, or decoder.vocabulary=train")
        what = "the decoder's word pieces"
        yield one_file("decoder.vocabulary", what, words, "", source, lambda: _layouts().vocabulary(words))


def _layouts() -> ModuleType:
    """What tries a file, loaded when one is tried: the models' code takes seconds."""
    import revtaf.system.layouts as layouts

    return layouts


def check_patients(settings: Settings) -> None:
    """UserError where the training split has too few patients for what training does by patient: retrieval, the folds
    of the entity scorer, the patients that the staged schedule keeps apart. A split that is not there is not judged."""
    from revtaf.data.annotations import load_annotations
    from revtaf.knowledge.entity_scorer import check_folds
    from revtaf.system.trunk import held_out

    data, knowledge = settings.training_data, settings.knowledge
    try:
        studies = load_annotations(data.annotation).get("train", [])[: data.max_samples]
    except UserError:  # said where the annotation is checked
        return
    patients = [study.patient for study in studies]
    if len(set(patients)) == 1 and settings.reads_texts:
        raise UserError(f"{data.annotation}: the training split has a single patient; retrieval needs at least two")
    if not patients or knowledge.imported:
        return
    if settings.reads_entities and (knowledge.entities == "scorer" or not knowledge.medklip.is_file()):
        check_folds(patients, knowledge.folds)
    if settings.train.schedule == "staged":
        held_out(patients, settings.trunk.holdout, settings.seed)
