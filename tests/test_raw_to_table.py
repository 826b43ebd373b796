"""From PhysioNet's files to the metric table, by the commands of docs/data.md, on the miniature; with the paper's
components (files of their real layout, invented numbers) and without them."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from bert_files import small_vocabulary, write_bert_folder, write_chexbert
from medklip_files import write_medklip
from mimic_files import write_mimic

import revtaf
from revtaf.cli import main
from revtaf.config_file import load_settings
from revtaf.data.blocks import Blocks
from revtaf.errors import UserError
from revtaf.features.build import find_knowledge
from revtaf.files import sha256
from revtaf.knowledge.components import EXPLANATIONS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """The miniature prepared, and a configuration like configs/mini.yaml that reads it."""
    folder = tmp_path_factory.mktemp("mimic")
    files = write_mimic(folder / "raw")
    out = folder / "mini"
    assert (
        main(["prepare", "mimic_cxr", "--jpg", str(files.jpg), "--reports", str(files.reports_zip), "--out", str(out)])
        == 0
    )
    places = {"annotation": out / "annotation.json", "images": out / "images", "features": out / "features"}
    config = {
        "base": str(ROOT / "configs" / "mini.yaml"),
        "run": str(folder / "run"),
        "device": "cpu",
        "data": {name: str(path) for name, path in places.items()},
        "train": {"epochs": 1, "precision": "no"},  # as other models that this process opens
        "eval": {"samples": 2},
    }
    (folder / "mini.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Overrides that name a CheXbert, a MedKLIP and a Bio_ClinicalBERT."""
    folder = tmp_path_factory.mktemp("checkpoints")
    words = small_vocabulary()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return [
        f"knowledge.chexbert={write_chexbert(folder / 'chexbert.pth', len(words))}",
        f"knowledge.chexbert_vocabulary={folder / 'vocab.txt'}",
        f"knowledge.medklip={write_medklip(folder / 'medklip.pth')}",
        f"knowledge.bio_clinicalbert={write_bert_folder(folder / 'bert', width=768, layers=1, heads=12)}",
    ]


def run(mini, command, *overrides):
    return main([*command.split(), "--config", str(mini / "mini.yaml"), *overrides])


def test_from_raw_files_to_the_table(mini, weights, capsys):
    """check, features, audit, train, test with all three components; the run's report names them."""
    run_folder = f"run={mini / 'paper'}"
    for command in ("check", "prepare features", "audit", "train", "test", "audit"):
        assert run(mini, command, *weights, run_folder) == 0, command
    told = capsys.readouterr().out
    assert "no leak found" in told and "retrieved report         mini-test" in told
    report = json.loads((mini / "paper" / "mini-test" / "report.json").read_text())
    assert "ce:chexbert-" in report["signature"]
    assert report["run"]["report labeler"].startswith("CheXbert")
    assert report["run"]["entity scores"].startswith("MedKLIP with our own explanations")
    assert report["run"]["text embeddings"] == "Bio_ClinicalBERT [CLS]"


def test_a_model_names_external_weights_by_hash(mini, weights, tmp_path):
    """Opened where MedKLIP lies elsewhere it writes the same; another file is refused, a missing one is asked for."""
    if not (mini / "paper/checkpoints/best/model.json").is_file():
        assert run(mini, "train", *weights, f"run={mini / 'paper'}") == 0
    manifest = json.loads((mini / "paper/checkpoints/best/model.json").read_text())
    files = ("chexbert", "chexbert_vocabulary", "medklip", "bio_clinicalbert")
    assert set(manifest["external"]) == {f"knowledge.{name}" for name in files}
    medklip = weights[2].split("=")[1]
    assert manifest["external"]["knowledge.medklip"] == {"medklip.pth": sha256(medklip)}
    image = next((mini / "mini/images").rglob("*.jpg"))
    (tmp_path / "moved").mkdir()
    moved = shutil.copy(medklip, tmp_path / "moved/medklip.pth")
    first, again = (
        revtaf.load(mini / "paper", [*weights, *other], device="cpu").report(image)
        for other in ([], [f"knowledge.medklip={moved}"])
    )
    assert first.record() == again.record()
    write_medklip(moved, seed=1)
    with pytest.raises(UserError, match="knowledge.medklip: .* is another file than"):
        revtaf.load(mini / "paper", [*weights, f"knowledge.medklip={moved}"], device="cpu")
    moved.unlink()
    with pytest.raises(UserError, match="name its place with knowledge.medklip=PATH"):
        revtaf.load(mini / "paper", [*weights, f"knowledge.medklip={moved}"], device="cpu").report(image)


def stages(mini, name):
    return set((mini / "mini" / "features").glob(f"{name}-*"))


def test_missing_components_have_stand_ins_that_the_report_names(mini, capsys):
    """Without the three files the same command runs; check says so beforehand, the features are other ones."""
    assert run(mini, "check") == 0
    assert "note   CheXbert not found" in capsys.readouterr().out
    before = {name: stages(mini, name) for name in ("statuses", "entities", "texts")}
    assert run(mini, "prepare features") == 0
    for name, known in before.items():
        assert stages(mini, name) - known, name
    assert sum((folder / "scorer.safetensors").exists() for folder in stages(mini, "entities")) == 1


def test_networks_are_not_asked_again_for_what_they_said(mini, weights):
    """Another seed or memory size keeps MedKLIP's scores, CheXbert's statuses and Bio_ClinicalBERT's vectors."""
    assert run(mini, "prepare features", *weights) == 0
    before = {name: stages(mini, name) for name in ("statuses", "entities", "texts")}
    assert run(mini, "prepare features", *weights, "seed=7", "classifier.memory_size=4", "knowledge.text_width=64") == 0
    assert {name: stages(mini, name) for name in before} == before


def test_a_test_run_needs_no_feature_of_the_training_set(mini):
    """A finished run is a model: with the training set's features gone it writes the same, and fits nothing."""
    overrides = [f"run={mini / 'short'}", f"data.features={mini / 'own'}"]
    assert run(mini, "train", *overrides) == 0
    assert run(mini, "test", *overrides) == 0
    written = mini / "short/mini-test/predictions.jsonl"
    before = written.read_bytes()
    shutil.rmtree(mini / "own")
    written.unlink()
    assert run(mini, "test", *overrides) == 0
    assert written.read_bytes() == before
    made = {path.name.rsplit("-", 1)[0] for path in (mini / "own").iterdir()}
    assert made == {"statuses", "entities", "memory"}
    assert not any((path / "scorer.json").exists() for path in (mini / "own").iterdir())


def test_other_weights_make_other_features(mini, weights, tmp_path):
    """Features are known by the bytes of the files that made them, not by their names."""

    def found(*overrides):
        return find_knowledge(load_settings(mini / "mini.yaml", overrides), torch.device("cpu"))

    copy = shutil.copy(weights[2].split("=")[1], tmp_path / "copy.pth")
    assert found(*weights) is not None
    assert found(*weights, f"knowledge.medklip={copy}") is not None
    assert found(*weights, f"knowledge.medklip={write_medklip(tmp_path / 'other.pth', seed=1)}") is None
    assert found(*weights, f"knowledge.explanations={_changed_explanations(tmp_path)}") is None


def _changed_explanations(folder):
    path = folder / "explanations.yaml"
    path.write_text(EXPLANATIONS.read_text().replace("clear", "bright", 1))
    return path


def test_half_of_medklip_is_an_error_before_anything_starts(mini, weights, capsys):
    """MedKLIP without its text encoder, CheXbert without its vocabulary: named, with the fix."""
    assert run(mini, "prepare features", weights[0], weights[2]) == 2
    told = capsys.readouterr().err
    assert (
        "CheXbert's vocabulary not found" in told and "Bio_ClinicalBERT not found" in told and "MedKLIP's text" in told
    )


def test_a_damaged_store_is_refused_and_made_again(mini, capsys):
    """One changed byte: exit code 2, the file is named; after deleting the folder the same bytes come back."""
    assert run(mini, "prepare features") == 0
    folder = next((mini / "mini" / "features").glob("*/scorer.json")).parent
    file = folder / "scores.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(mini, "prepare features") == 2
    assert f"{file} is damaged" in capsys.readouterr().err
    shutil.rmtree(folder)
    assert run(mini, "prepare features") == 0
    assert file.read_bytes() == content


def test_a_full_disk_is_one_message_and_the_work_goes_on_afterwards(mini, monkeypatch, capsys, tmp_path):
    """ENOSPC while a block is written: exit code 2; the next call continues and gives the same features."""
    places = [f"data.features={tmp_path / name}" for name in ("one", "two")]

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Blocks, "_save", full)
        assert run(mini, "prepare features", places[0]) == 2
    assert "no space left to write" in capsys.readouterr().err
    for place in places:
        assert run(mini, "prepare features", place) == 0
    one, two = (sorted(p for p in (tmp_path / n).rglob("*") if p.is_file()) for n in ("one", "two"))
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two] and len(one) > 10


def test_the_labels_of_physionet_reach_the_training(mini, tmp_path, capsys):
    """--labels chexpert: 14 statuses per study instead of the labeler's 18."""
    raw = mini / "raw"
    out = tmp_path / "labelled"
    options = ["--jpg", str(raw / "mimic-cxr-jpg"), "--reports", str(raw / "mimic-cxr-reports.zip"), "--out", str(out)]
    assert main(["prepare", "mimic_cxr", *options, "--labels", "chexpert"]) == 0
    places = [
        f"data.{name}={out / file}" for name, file in (("annotation", "annotation.json"), ("features", "features"))
    ]
    assert run(mini, "prepare features", *places) == 0
    settings = load_settings(mini / "mini.yaml", places)
    statuses = find_knowledge(settings, torch.device("cpu")).train.statuses
    studies = json.loads((out / "annotation.json").read_text())["train"]
    assert statuses.shape == (len(studies), 14)
    assert statuses.tolist() == [study["labels"] for study in studies]
