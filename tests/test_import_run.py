"""A run on imported artefacts: our own features, written in the field's file formats, imported and trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from revtaf.cli import main
from revtaf.config_file import load_settings
from revtaf.data.annotations import load_annotations
from revtaf.features.build import find_knowledge, find_split, prepare_knowledge, split_features
from revtaf.labels import CATEGORIES
from revtaf.prompts.local import PER_ENTITY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def artefacts(phantom, tiny_config, tmp_path_factory) -> Path:
    """The tiny phantom set's features as PromptMRG's and REVTAF's files."""
    root = tmp_path_factory.mktemp("artefacts")
    settings = load_settings(tiny_config)
    knowledge = prepare_knowledge(settings, CPU)
    texts = knowledge.texts
    annotation = {}
    for split in ("train", "val", "test"):
        made = split_features(knowledge, settings, settings.data, split, CPU) if split != "train" else None
        features, studies = made or (knowledge.train, knowledge.studies)
        annotation[split] = [
            {"id": s.id, "study_id": s.study_id, "subject_id": s.subject_id, "image_path": list(s.image_path)}
            | {"report": s.report, "labels": statuses.tolist()}
            for s, statuses in zip(studies, features.statuses, strict=True)
        ]
        for name, rows in (("scores", features.scores.astype(float)), ("indices", features.memory)):
            (root / f"{name}_{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows.tolist()))
        for i, study in enumerate(studies):
            local = texts.triplets[np.arange(75) * PER_ENTITY + features.codes[i]].astype(np.float32)
            own = texts.sentence_ids[texts.offsets[texts.report_ids[i]] : texts.offsets[texts.report_ids[i] + 1]]
            for folder, array in (("local", local), ("reference", texts.sentences[own].astype(np.float32))):
                if folder == "local" or split == "train":
                    path = root / folder / f"{study.image_path[0]}.npy"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    np.save(path, array)
    (root / "annotation.json").write_text(json.dumps(annotation))
    memory = np.random.default_rng(0).normal(size=(len(knowledge.train), 24))
    (root / "texts.json").write_text(json.dumps(memory.tolist()))
    return root


def test_a_run_on_imported_features(artefacts, phantom, tiny_config, tmp_path, capsys):
    """prepare import, audit, train, test through the command line; the model reads what the files said."""
    out = tmp_path / "imported set"
    options = {
        "--out": out,
        "--annotation": artefacts / "annotation.json",
        "--images": phantom / "images",
        "--scores": artefacts / "scores_{split}.json",
        "--memory-texts": artefacts / "texts.json",
        "--memory-indices": artefacts / "indices_{split}.json",
        "--local": artefacts / "local",
        "--reference": artefacts / "reference",
    }
    assert main(["prepare", "import", *(str(x) for pair in options.items() for x in pair)]) == 0
    run = [str(tiny_config), f"data.annotation={out / 'annotation.json'}", f"data.images={out / 'images'}"]
    run += [f"data.features={out / 'features'}", f"knowledge.imported={out / 'imported'}", f"run={tmp_path / 'run'}"]
    run += ["train.epochs=1"]
    for command in ("check", "train", "test", "audit"):
        assert main([command, "--config", *run]) == 0, command
    assert "no leak found" in capsys.readouterr().out
    assert not (out / "features").exists()  # nothing was fitted
    report = json.loads((tmp_path / "run" / "phantom-test" / "report.json").read_text())
    assert report["run"]["entity scores"].startswith("imported from")

    imported = find_knowledge(load_settings(run[0], run[1:]), CPU)
    own = find_knowledge(load_settings(tiny_config), CPU)
    np.testing.assert_array_equal(imported.train.scores, own.train.scores)
    np.testing.assert_array_equal(imported.train.memory, own.train.memory)
    assert imported.texts.memory_width == 24
    settings = load_settings(run[0], run[1:])
    features, studies = find_split(imported, settings, settings.data, "test")
    assert len(features) == len(load_annotations(out / "annotation.json")["test"]) == len(studies)
    assert features.statuses.shape[1] == len(CATEGORIES)

    # A training image that another run could not read leaves these features whole: they have a row for every study.
    (out / "features").mkdir()
    listed = {load_annotations(out / "annotation.json")["train"][0].image_path[0]: "damaged"}
    (out / "features/unreadable.json").write_text(json.dumps(listed))
    assert len(find_knowledge(load_settings(run[0], run[1:]), CPU).train) == len(imported.train)


def test_imported_features_serve_no_other_set(artefacts, phantom, tiny_config, tmp_path, capsys):
    """Another test set under imported features: one message that says why, no traceback."""
    out = tmp_path / "other"
    assert main(["prepare", "phantom", "--out", str(out), "--images", "12", "--seed", "9", "--size", "72"]) == 0
    run = [f"knowledge.imported={tmp_path / 'nothing'}", f"data.annotation={out / 'annotation.json'}"]
    assert main(["train", "--config", str(tiny_config), *run, f"run={tmp_path / 'run'}"]) == 2
    assert "lacks train and texts" in capsys.readouterr().err
