"""What a configuration must have: with `missing: error` nothing is missing in silence, with `stand-in` it is a note."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from bert_files import write_bert_folder
from PIL import Image, ImageOps

from revtaf import check, systems
from revtaf.check import inspect
from revtaf.cli import main
from revtaf.config import DataSettings
from revtaf.config_file import differences, load_settings
from revtaf.data.annotations import Study, load_annotations
from revtaf.data.images import read_image
from revtaf.settings import Settings

CONFIGS = Path(__file__).parents[1] / "configs"
PAPER = {  # as in configs/mimic_cxr.yaml
    "knowledge": {"labeler": "chexbert", "entities": "medklip", "text": "bio_clinicalbert"},
    "encoder": {"weights": "imagenet"},
    "decoder": {"weights": "bert-base-uncased"},
}
KNOWLEDGE = ("CheXbert", "CheXbert's vocabulary", "MedKLIP", "Bio_ClinicalBERT")
STARTS = ("ImageNet weights of resnet18", "decoder weights bert-base-uncased")


@pytest.fixture
def place(tiny_config, tmp_path, monkeypatch) -> Path:
    """A folder without any weights, and in it the tiny configuration with what the paper's asks for."""
    content = yaml.safe_load(tiny_config.read_text()) | {"run": "run", "missing": "error"}
    for section, values in PAPER.items():
        content[section] |= values
    content["data"]["features"] = "features"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return tmp_path


def settings(*overrides: str) -> Settings:
    return load_settings("config.yaml", overrides)


def lines(level: str, *overrides: str, training: bool | None = None) -> list[str]:
    return [line.what for line in inspect(settings(*overrides), training) if line.level == level]


def test_each_configuration_says_what_a_missing_file_means():
    """The paper's settings stop; those that are made to run without files do not. Each says so itself."""
    wanted = {"mimic_cxr": "error", "iu_xray": "error", "released": "error"}
    wanted |= {name: "stand-in" for name in ("phantom", "iu_xray_cpu", "mini")}
    for name, value in wanted.items():
        path = next(path for path in CONFIGS.glob("**/*.yaml") if path.stem == name and "ablations" not in path.parts)
        assert yaml.safe_load(path.read_text())["missing"] == value and load_settings(path).missing == value, name
    for path in (CONFIGS / "ablations" / "data").glob("*.yaml"):
        assert load_settings(path).missing == ("error" if "mimic" in path.stem else "stand-in"), path
    assert Settings().missing == "error"


@pytest.mark.parametrize("command", ["train", "prepare features"])
def test_every_absent_file_is_listed_before_anything_is_written(place, command, capsys):
    """What it is for, how to get it, and the override, in one message with exit code 2; the folder stays as it was."""
    before = sorted(path.name for path in place.iterdir())
    assert main([*command.split(), "--config", "config.yaml", "data.images=nowhere"]) == 2
    told = capsys.readouterr().err
    for what in (*KNOWLEDGE, *STARTS):
        assert f"ERROR  {what} not found: checkpoints/" in told, what
    assert told.count("not found: checkpoints/") == len(KNOWLEDGE) + len(STARTS)
    assert "ERROR  image folder not found: nowhere" in told
    assert "(labels the reports)" in told and "https://github.com/stanfordmlgroup/CheXbert" in told
    assert "checkpoints/Bio_ClinicalBERT/config.json, checkpoints/Bio_ClinicalBERT/vocab.txt" in told
    assert "public (about 440 MB, MIT; trained on MIMIC-III notes): python -m revtaf fetch --config FILE" in told
    assert "missing=stand-in" in told.splitlines()[-1] and "our phrase rules in place of CheXbert" in told
    assert sorted(path.name for path in place.iterdir()) == before


def test_stand_ins_make_notes_of_the_same_files(place, capsys):
    """`check` says either, and its exit code with it."""
    assert main(["check", "--config", "config.yaml"]) == 2
    strict = capsys.readouterr().out
    assert main(["check", "--config", "config.yaml", "missing=stand-in"]) == 0
    lenient = capsys.readouterr().out
    for what in ("CheXbert", "MedKLIP", "Bio_ClinicalBERT", *STARTS):
        assert f"ERROR  {what} not found" in strict and f"note   {what} not found" in lenient, what
    assert "vocabulary not found" not in lenient  # of a CheXbert that is not used
    assert "everything that is needed is there" in lenient


def test_a_trained_model_needs_no_start(place):
    """`test` reads neither ImageNet weights nor BERT's for the decoder; `train` does."""
    assert all(any(what in line for line in lines("error", training=True)) for what in STARTS)
    assert not any(what in line for line in lines("error", training=False) for what in STARTS)


def test_half_of_a_thing_has_no_stand_in(place):
    """Weights without their vocabulary are an error with either setting: loading them would fail."""
    for folder in ("Bio_ClinicalBERT", "bert-base-uncased"):
        (write_bert_folder(place / "checkpoints" / folder) / "vocab.txt").unlink()
    for missing in ("error", "stand-in"):
        told = lines("error", f"missing={missing}")
        assert any("Bio_ClinicalBERT not found: checkpoints/Bio_ClinicalBERT/vocab.txt" in line for line in told)
        assert any("checkpoints/bert-base-uncased/vocab.txt (the report decoder's" in line for line in told)


def test_what_the_settings_name_themselves_must_be_there(place):
    """A file of one's own has no stand-in: encoder weights, a vocabulary, explanations, CLIP, another BERT."""
    told = lines(
        "error",
        "missing=stand-in",
        "encoder.weights=mine.pth",
        "decoder.vocabulary=words.txt",
        "knowledge.explanations=own.yaml",
        "knowledge.memory=clip",
    )
    for name in ("mine.pth", "words.txt", "own.yaml", "checkpoints/clip/open_clip_model.safetensors"):
        assert any(f"not found: {name}" in line for line in told), name


def test_metrics_that_are_asked_for_are_looked_up_before_the_test(place):
    """Both models' folders at once, for `test` alone; they are no matter of `missing`."""
    asked = ["missing=stand-in", "eval.radgraph_model=radgraph", "eval.bertscore_model=roberta"]
    told = lines("error", *asked, training=False)
    assert any("radgraph" in line for line in told) and any("roberta" in line for line in told)
    assert lines("error", *asked, training=True) == []


def test_imported_features_replace_the_files_of_what_made_them(place):
    """Only CheXbert is left of the paper's components, for the reports that the model writes."""
    told = lines("error", "knowledge.imported=imported", training=False)
    assert any("knowledge.imported: imported lacks train and texts" in line for line in told)
    assert [line for line in told if "MedKLIP" in line or "Bio_ClinicalBERT" in line] == []
    assert any(line.startswith("CheXbert not found") for line in told)


def test_what_missing_means_may_change_between_two_halves_of_a_run(place):
    """Neither it nor where files come from touches what a run computes."""
    other = settings("missing=stand-in", "fetch.hub=http://mirror", "fetch.patience=9")
    assert differences(settings().model_dump(), other.model_dump(), Settings.free) == []
    assert differences(settings().model_dump(), settings("seed=3").model_dump(), Settings.free) == [("seed", 0, 3)]


def test_a_grid_can_be_told_to_run_on_stand_ins(place):
    """The override that the message names works for `ablate` as well."""
    from revtaf.ablation.command import GridRequest

    assert GridRequest.parse(["data=phantom", "missing=stand-in"]).overrides == ["missing=stand-in"]


def test_a_run_of_stand_ins_is_tested_on_them_only_when_asked(place, capsys):
    """Trained with stand-ins, then tested with all files asked for: exit code 2, every file that a test reads, no start
    of the model's, and nothing written. The finished run itself is not refused."""
    config = ["--config", "config.yaml", "data.max_samples=8", "train.epochs=1"]
    assert main(["train", *config, "missing=stand-in"]) == 0
    before = sorted(place.rglob("*"))
    capsys.readouterr()
    assert main(["test", *config]) == 2
    told = capsys.readouterr().err
    assert [line.split(" not found")[0] for line in told.splitlines() if "not found" in line] == [
        f"ERROR  {what}" for what in KNOWLEDGE
    ]
    assert "missing=stand-in" in told
    assert main(["train", *config]) == 0 and sorted(place.rglob("*")) == before
    assert yaml.safe_load((place / "run" / "config.yaml").read_text())["missing"] == "stand-in"


def test_images_that_look_wrong_are_counted_and_named(place):
    """A negative, a blank image and one in colour among the training images: one counted note each; no error."""
    folder = place / "odd"
    shutil.copytree(Path(settings().data.images), folder)
    studies = load_annotations(settings().data.annotation)["train"]
    first, second, third = (folder / study.image_path[0] for study in studies[:3])
    ImageOps.invert(read_image(first)).save(first)
    Image.new("L", (72, 72), 40).save(second)
    Image.merge("RGB", [read_image(third), Image.new("L", (72, 72)), read_image(third)]).save(third)
    told = [line for line in inspect(settings(f"data.images={folder}"), True) if "images opened: " in line.what]
    counted = {line.what.split("opened: ")[1]: line for line in told}
    for kind, path in (("looks inverted", first), ("nearly constant", second), ("in colour", third)):
        assert counted[kind].level == "note" and str(path) in counted[kind].advice
        assert counted[kind].what.startswith("1 of ")


def changed(place, change):
    """The tiny annotation with `change(split, number, study)` done to every study, as an override."""
    content = json.loads(Path(settings().data.annotation).read_text())
    for split, studies in content.items():
        for number, study in enumerate(studies):
            change(split, number, study)
    (place / "changed.json").write_text(json.dumps(content))
    return ["missing=stand-in", f"data.annotation={place / 'changed.json'}"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda split, n, study: n % 2 and study.pop("labels", None), "labels: the studies have .0, 18. statuses"),
        (lambda split, n, study: study.update(subject_id=split, study_id=""), "a single patient; retrieval needs"),
        (lambda split, n, study: study.update(subject_id=f"{split}{n % 2}"), "knowledge.folds is 3, .* only 2 patient"),
    ],
)
def test_check_finds_in_the_annotation_what_train_refuses(place, change, says):
    """Statuses in part of the studies, one patient, fewer patients than folds: before any feature is made."""
    wrong = lines("error", *changed(place, change), "knowledge.folds=3", training=True)
    assert any(re.search(says, line) for line in wrong), wrong


@pytest.mark.parametrize(("asked", "level", "code"), [(False, "note", 0), (True, "ERROR", 2)])
def test_check_runs_meteor_and_train_does_not(place, monkeypatch, capsys, asked, level, code):
    """A Java that is there and does not work: said by `check`, an error where that Java was asked for."""
    java = place / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'no paraphrases here' >&2; exit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(place))
    named = [f"eval.java={java}"] if asked else []
    assert main(["check", "--config", "config.yaml", "missing=stand-in", *named]) == code
    told = capsys.readouterr().out
    assert f"{level}  METEOR will be n/a" in told.replace("note   ", "note  ") and "no paraphrases here" in told
    assert not [line for line in inspect(settings("missing=stand-in", *named), True) if "n/a" in line.what]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data.max_samples=1"], "training needs at least two samples, there is 1"),
        (["device=cuda:99"], "device: cuda:99"),
        (["device=gpu"], "device: expected auto, cpu"),
        (["run=config.yaml/run"], "run: config.yaml/run: .*config.yaml is no folder"),
        (["data.features=config.yaml"], "data.features: config.yaml: .* is no folder"),
        (["data.validation_split=dev"], "split 'dev': expected train, val, test"),
        (["data.validation_split=val+tset"], "split 'tset'"),
        (["decoder.vocabulary=words.txt", "decoder.weights=null"], "decoder.vocabulary: words.txt lacks the tokens"),
    ],
)
def test_check_finds_in_the_settings_what_train_refuses(place, overrides, says, capsys):
    """And both say the same, before anything is written."""
    (place / "words.txt").write_text("a\nb\n", encoding="utf-8")
    before = sorted(place.rglob("*"))
    assert main(["check", "--config", "config.yaml", "missing=stand-in", *overrides]) == 2
    assert re.search(f"ERROR  .*{says}", capsys.readouterr().out)
    if "decoder.vocabulary=words.txt" not in overrides:  # which train reads when its features are made
        assert main(["train", "--config", "config.yaml", "missing=stand-in", *overrides]) == 2
        assert re.search(says, capsys.readouterr().err)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda split, n, study: study.update(report="..."), "no training report has a word in it"),
        (lambda split, n, study: study.update(id="same"), "duplicate id"),
        (lambda split, n, study: n == 3 and study.update(image_path=["none.png"]), "images are missing: .*none.png"),
        (lambda split, n, study: study.update(labels=[9] * 18), "unknown status 9"),
        (lambda split, n, study: n == 1 and study.pop("report"), "'report' is missing"),
    ],
)
def test_check_finds_in_the_studies_what_train_refuses(place, change, says):
    wrong = lines("error", *changed(place, change), training=None)
    assert any(re.search(says, line) for line in wrong), wrong


def test_an_empty_split_is_found(place):
    content = json.loads(Path(settings().data.annotation).read_text(encoding="utf-8"))
    (place / "changed.json").write_text(json.dumps(content | {"val": []}), encoding="utf-8")
    wrong = lines("error", "missing=stand-in", f"data.annotation={place / 'changed.json'}")
    assert any("no study in split 'val'" in line for line in wrong)


def test_a_file_that_does_not_fit_is_found_by_check(place):
    """Weights of another layout: `train` would end with them, minutes later."""
    (place / "checkpoints/chexbert").mkdir(parents=True)
    (place / "checkpoints/chexbert/chexbert.pth").write_bytes(b"no weights")
    wrong = lines("error", "missing=stand-in", training=None)
    assert any(line.startswith("CheXbert does not fit: ") for line in wrong), wrong


def test_a_folder_of_another_run_is_told(place):
    """A note, as the configuration may be meant to test that run's model on another set."""
    short = ["missing=stand-in", "data.max_samples=6", "train.epochs=1"]
    assert main(["train", "--config", "config.yaml", *short]) == 0
    (told,) = [line for line in lines("note", *short, "lre.width=8") if "train would refuse" in line]
    assert "holds a run with other settings (lre.width: 16 -> 8)" in told
    assert not [line for line in lines("note", *short) if "train would refuse" in line]


def test_reports_that_say_nothing_are_a_note(place):
    """An annotation that was made elsewhere: how many, which, and what they do."""

    def spoil(split, number, study):
        if split == "train" and number < 2:
            study["report"] = ("None.", "See impression.")[number]

    told = lines("note", *changed(place, spoil), training=True)
    assert any(re.search(r"^2 of \d+ reports say nothing .*: \S+, \S+$", line) for line in told), told


@pytest.mark.parametrize("name", ["mimic_cxr", "medfuse_clip", "trrg_stage1", "trrg"])
def test_every_system_names_all_that_chexbert_reads(name):
    """Whichever system asks for the labeler: its weights and its word pieces are looked for and fetched."""
    settings = load_settings(CONFIGS / f"{name}.yaml")
    named = {item.what: item for item in systems.find(settings.system).needed(settings)}
    assert named["CheXbert's vocabulary"].source.beside == ("vocab.txt",)
    assert named["CheXbert's vocabulary"].part_of == settings.knowledge.chexbert
    assert "stanfordmlgroup/CheXbert" in str(named["CheXbert"].source)


def test_an_absolute_name_that_the_disk_spells_otherwise_is_a_note(tmp_path):
    """Of an image outside of data.images."""
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "images").mkdir()
    study = Study(id="1", image_path=(str(tmp_path / "A.PNG"),), report="Normal.")
    data = DataSettings(annotation=tmp_path / "a.json", images=tmp_path / "images")
    assert any("named otherwise" in line.what for line in check._images(data, {"test": [study]}, ["test"], ""))
