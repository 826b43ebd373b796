"""TRRG as the engine finds it: the objects that the entry points `trrg_stage1` and `trrg` name.

Model code is imported where it is used, so that settings are read without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revtaf.check_line import CheckLine
from revtaf.comparators.trrg.settings import Stage1Settings, TRRGSettings
from revtaf.engine.system import Declaration
from revtaf.pretrained.needed import Needed, OnRequest
from revtaf.pretrained.sources import MEDKLIP, chexbert, clinical_bert, one_file

if TYPE_CHECKING:
    from accelerate import Accelerator

    from revtaf.comparators.trrg.stage1 import Stage1
    from revtaf.comparators.trrg.system import TRRG

_MISTRAL = OnRequest(
    "the Hugging Face Hub, 14.5 GB: hf download mistralai/Mistral-7B-v0.1 --include '*.safetensors' '*.json' "
    "'tokenizer.model' --local-dir checkpoints/Mistral-7B-v0.1; or a smaller causal model; or llm.folder=null, which "
    "fits a small one on the training reports",
    "Apache-2.0",
)
_OWN = OnRequest("a file of yours: correct image.weights")
log = logging.getLogger("revtaf")


class TRRGStage1(Declaration):
    """Stage 1. See `revtaf.engine.system.Declaration`."""

    settings = Stage1Settings
    title = "TRRG, stage 1"
    beside = ("random scores",)

    def needed(self, settings: Stage1Settings, training: bool | None = None) -> Iterator[Needed]:
        """What both encoders start from."""
        from revtaf.pretrained.bert_folder import absent_paths
        from revtaf.pretrained.imagenet import imagenet_weights

        image, text, knowledge = settings.image, settings.text, settings.knowledge
        yield from chexbert(knowledge)
        if training is False:
            return
        if image.weights == "imagenet":
            yield imagenet_weights(image.encoder)
        elif image.weights is not None:
            yield one_file("image.weights", "the image encoder's start", Path(image.weights), "", _OWN)
        if text.weights is not None:
            folder = text.weights
            source = clinical_bert(folder)
            stand_in = "random weights and a vocabulary fitted on the reports"
            yield Needed(
                "text encoder", "reads sentences and clues", str(folder), absent_paths(folder), stand_in, source, None
            )

    def start(self, settings: Stage1Settings, accelerator: Accelerator) -> Stage1:
        """Encoders as configured, and a vocabulary where none is given."""
        from revtaf.comparators.trrg.clues import read_bank
        from revtaf.comparators.trrg.encoders import SentenceWords, check_bert_sizes, initialise, sentence_tokenizer
        from revtaf.comparators.trrg.stage1 import Stage1
        from revtaf.engine.runtime import seed_everything

        check_bert_sizes(settings.text)
        system = Stage1(settings, accelerator, None, None, read_bank(settings.clue.bank))
        studies, reports = system.training
        system.words = SentenceWords(sentence_tokenizer(settings.text, reports), settings.text.max_tokens)
        system.model = _encoders(settings, system.words)
        system.notes |= initialise(system.model, settings)
        dedupe = "no negatives" if settings.objective.dedupe_negatives else "negatives as any"
        system.notes["training pairs"] = f"{len(studies):,}, a random sentence of each; equal sentences are {dedupe}"
        for what, note in system.notes.items():
            log.info("%s: %s", what, note)
        seed_everything(settings.seed, accelerator.process_index)
        return system

    def open(self, folder: Path, settings: Stage1Settings, accelerator: Accelerator) -> Stage1:
        """From a model's folder, its weights not yet loaded."""
        from revtaf.comparators.trrg.encoders import SentenceWords
        from revtaf.comparators.trrg.stage1 import TOKENIZER, Stage1, read_kept_bank
        from revtaf.engine.checkpoint import META
        from revtaf.files import read_json
        from revtaf.tokenizer import ReportTokenizer

        words = SentenceWords(ReportTokenizer.load(folder / TOKENIZER), settings.text.max_tokens)
        system = Stage1(settings, accelerator, words, _encoders(settings, words), read_kept_bank(folder))
        system.notes = dict(read_json(folder / META, "model")["sources"])
        return system


class TRRGStage2(Declaration):
    """Stage 2, which writes. See `revtaf.engine.system.Declaration`."""

    settings = TRRGSettings
    title = "TRRG"

    def needed(self, settings: TRRGSettings, training: bool | None = None) -> Iterator[Needed]:
        """Stage 1 and the language model; a trained model has the former, and a fitted latter, in its folder."""
        knowledge, llm = settings.knowledge, settings.llm
        yield from chexbert(knowledge)
        if "scorer" in (settings.clue.source, settings.tested_source) and knowledge.entities == "medklip":
            yield one_file("MedKLIP", "chooses the clues", knowledge.medklip, "a network fitted now", MEDKLIP)
        if training is not False:
            there = _stage1_folder(settings.stage1) is not None
            how = "python -m revtaf train with a configuration of system: trrg_stage1 (configs/trrg_stage1.yaml)"
            absent = () if there else (f"no finished run of stage 1 in {settings.stage1}",)
            where, source = str(settings.stage1), OnRequest(f"train it first: {how}; or name it with stage1=FOLDER")
            yield Needed("stage 1", "its encoders are what stage 2 sees with", where, absent, "", source, None)
        if llm.folder is not None:
            absent = () if (llm.folder / "config.json").is_file() else (str(llm.folder),)
            yield Needed("language model", "writes the reports", str(llm.folder), absent, "", _MISTRAL, None)

    def requirements(self, settings: TRRGSettings) -> Iterator[CheckLine]:
        """The package of adapters, and a language model that can be one: before anything is loaded."""
        from revtaf.comparators.trrg.clues import read_bank
        from revtaf.errors import UserError

        llm = settings.llm
        if llm.tuning == "lora" and find_spec("peft") is None:
            yield CheckLine("error", "llm.tuning=lora needs peft", "pip install 'revtaf[llm]'")
        try:
            _check_count(settings, len(read_bank(settings.clue.bank)))
            if (folder := _stage1_folder(settings.stage1)) is not None:
                _check_heads(settings, folder)
        except UserError as error:
            yield CheckLine("error", str(error))
        if llm.folder is not None and (llm.folder / "config.json").is_file():
            from revtaf.comparators.trrg.language import read_causal_config

            try:
                read_causal_config(llm.folder)
            except UserError as error:
                yield CheckLine("error", str(error))

    def start(self, settings: TRRGSettings, accelerator: Accelerator) -> TRRG:
        """Encoders of stage 1, the language model (fitted now, where there is none), and what trains between them."""
        from revtaf.comparators.trrg.clues import read_bank
        from revtaf.comparators.trrg.given import entity_scores
        from revtaf.engine.runtime import seed_everything
        from revtaf.errors import UserError

        folder = _stage1_folder(settings.stage1)
        if folder is None:
            raise UserError(
                f"stage1: there is no finished run of stage 1 in {settings.stage1}; train it first: python -m revtaf "
                "train with a configuration of system: trrg_stage1, or name it with stage1=FOLDER"
            )
        bank = read_bank(settings.clue.bank)
        _check_count(settings, len(bank))
        _check_heads(settings, folder)
        with accelerator.main_process_first():
            language, language_folder, about = _language(settings, accelerator)
        system = _assemble(settings, accelerator, folder, bank, language, language_folder)
        system.notes |= {
            "language model": f"{about}; {_TUNED[settings.llm.tuning]}",
            "encoders": f"stage 1, {_about_stage1(folder)}",
            "clues": f"{len(bank)} diseases, {len(system.clue_texts)} wordings; source: {settings.clue.source}",
        }
        _note_memory(system)
        for what, note in system.notes.items():
            log.info("%s: %s", what, note)
        if "scorer" in (settings.clue.source, settings.tested_source):  # it is fitted on what all other splits need
            entity_scores(system, system.training, settings.training_data, train=True)
        _ = system.validation_set  # what it needs is made before the first epoch, not after it
        _ = system.training_clues  # and what one process alone is asked for later
        seed_everything(settings.seed, accelerator.process_index)
        return system

    def open(self, folder: Path, settings: TRRGSettings, accelerator: Accelerator) -> TRRG:
        """From a model's folder, its weights not yet loaded; UserError where a language model outside is missing."""
        import numpy as np

        from revtaf.comparators.trrg.clues import NEVER
        from revtaf.comparators.trrg.fit import FOLDER
        from revtaf.comparators.trrg.stage1 import read_kept_bank
        from revtaf.comparators.trrg.system import ABOUT, ENCODERS, REPORTS, SCORER
        from revtaf.engine.checkpoint import META
        from revtaf.engine.runtime import read_jsonl
        from revtaf.files import read_json
        from revtaf.knowledge.entity_scorer import EntityScorer

        kept = folder / FOLDER if (folder / FOLDER).is_dir() else None
        language = _open_language(settings, accelerator, kept)
        bank = read_kept_bank(folder)
        system = _assemble(settings, accelerator, folder / ENCODERS, bank, language, kept)
        about = read_json(folder / ABOUT, "model")
        clues = [[NEVER if value is None else value for value in row] for row in about["training_clues"]]
        system.kept_clues, system.scorer_mark = np.array(clues, np.float32), about["scorer_mark"]
        system.kept_patients = about.get("training_patients")
        system.kept_reports = [record["report"] for record in read_jsonl(folder / REPORTS)]
        if (folder / SCORER).is_dir():  # whatever has been put into checkpoints/ since: the model knows these scores
            system.scorer = EntityScorer.load(folder / SCORER)
        system.notes = dict(read_json(folder / META, "model")["sources"])
        return system


_TUNED = {"none": "frozen", "lora": "frozen, with adapters (LoRA)", "full": "tuned whole"}


def _stage1_folder(path: Path) -> Path | None:
    """The model's folder of a finished run of stage 1; None where there is none."""
    from revtaf.engine.folder import find_model, read_manifest
    from revtaf.errors import UserError

    try:
        folder = find_model(path)
        return folder if read_manifest(folder).get("system") == "trrg_stage1" else None
    except UserError:
        return None


def _about_stage1(folder: Path) -> str:
    from revtaf.config_file import load_settings
    from revtaf.engine.checkpoint import META, SETTINGS
    from revtaf.files import read_json

    meta, own = read_json(folder / META, "checkpoint"), load_settings(folder / SETTINGS, bases=False)
    auroc = meta["validation"]["zero_shot_auroc"]
    return f"trained on {own.training_data.name}, zero-shot AUROC of its clues {auroc:.3f} (validation)"


def _encoders(settings: Stage1Settings, words: Any):
    from revtaf.comparators.trrg.encoders import AlignedEncoders, bert_config

    return AlignedEncoders(settings, bert_config(settings.text, words.tokenizer.size))


def _language(settings: TRRGSettings, accelerator: Accelerator):
    """(model, folder of a fitted one or None, what it is)."""
    from revtaf.comparators.trrg.fit import fitted_language
    from revtaf.data.annotations import clean_reports, load_annotations
    from revtaf.features.build import select
    from revtaf.features.store import FeatureStore

    if settings.llm.folder is not None:
        language = _open_language(settings, accelerator, None)
        return language, None, language.about
    data, halves = settings.training_data, accelerator.mixed_precision == "bf16"
    annotations = load_annotations(data.annotation)
    own, others = (
        clean_reports(select(annotations, split, data), data.max_words) for split in ("train", data.validation_split)
    )
    store = FeatureStore(Path(data.features))
    options = (settings.llm, own, others, settings.seed, accelerator.device, halves)
    folder, perplexity = fitted_language(store, *options)
    language = _open_language(settings, accelerator, folder)
    count = sum(p.numel() for p in language.lm.parameters())
    about = (
        f"small Mistral ({count / 1e6:.1f} M parameters), fitted on the {len(own):,} training reports first: "
        f"perplexity {perplexity:.2f} on the {len(others):,} of {data.validation_split}"
    )
    return language, folder, about


def _open_language(settings: TRRGSettings, accelerator: Accelerator, kept: Path | None):
    from revtaf.comparators.trrg.language import open_language

    llm = settings.llm if kept is None else settings.llm.model_copy(update={"folder": kept})
    return open_language(llm, accelerator.device, accelerator.mixed_precision == "bf16")


def _assemble(settings, accelerator, stage1: Path, bank, language, language_folder) -> TRRG:
    """The system on its frozen parts."""
    from revtaf.comparators.trrg.clues import texts_of
    from revtaf.comparators.trrg.encoders import SentenceWords, encode_clues
    from revtaf.comparators.trrg.network import ClueInjector
    from revtaf.comparators.trrg.stage1 import TOKENIZER
    from revtaf.comparators.trrg.system import TRRG
    from revtaf.config_file import load_settings
    from revtaf.engine.checkpoint import SETTINGS, WEIGHTS, load_weights
    from revtaf.tokenizer import ReportTokenizer

    own = load_settings(stage1 / SETTINGS, bases=False)
    words = SentenceWords(ReportTokenizer.load(stage1 / TOKENIZER), own.text.max_tokens)
    encoders = _encoders(own, words)
    load_weights(stage1 / WEIGHTS, encoders)
    encoders.to(accelerator.device)
    texts, owner = texts_of(bank, settings.clue.prefix, settings.clue.expanded)
    clues = encode_clues(encoders, words, texts, owner, accelerator.device)
    model = ClueInjector(settings, encoders, clues, language)
    return TRRG(settings, accelerator, own, stage1, bank, model, language_folder, texts)


def _check_count(settings: TRRGSettings, count: int) -> None:
    from revtaf.errors import UserError

    if settings.clue.k > count:
        raise UserError(f"clue.k is {settings.clue.k}, but the bank has {count} clues")


def _check_heads(settings: TRRGSettings, stage1: Path) -> None:
    from revtaf.config_file import load_settings
    from revtaf.engine.checkpoint import SETTINGS
    from revtaf.errors import UserError

    width, heads = load_settings(stage1 / SETTINGS, bases=False).space.width, settings.cmci.heads
    if settings.cmci.enabled and width % heads:
        raise UserError(f"cmci.heads {heads} does not divide space.width {width} of stage 1 ({stage1})")


def _note_memory(system: TRRG) -> None:
    """What trains, beside what does not."""
    model = system.model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.language.lm.parameters() if not p.requires_grad)
    frozen += sum(p.numel() for p in model.encoders.parameters())
    system.notes["parameters"] = f"{trained / 1e6:.2f} M trained, {frozen / 1e6:.2f} M frozen and in no checkpoint"


STAGE1, SYSTEM = TRRGStage1(), TRRGStage2()
