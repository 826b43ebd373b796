"""The audit: a clean set has no leak, and each kind of leak turns exactly its own line to LEAK."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from revtaf.audit import audit as audit_module
from revtaf.audit.audit import audit, conclusion, table
from revtaf.audit.checks import LEAK, NOT_CHECKED, NOTE, OK, Line, references
from revtaf.audit.labels import _auc, memory_by_labels, prompts_from_report, scores_in_sample
from revtaf.config import DataSettings
from revtaf.config_file import save_settings
from revtaf.data.annotations import Study, save_annotations
from revtaf.features.arrays import Features
from revtaf.knowledge.mentions import PRESENT, entity_mentions
from revtaf.labels import ENTITIES
from revtaf.lre.index import RetrievalIndex
from revtaf.lre.labels import nearest_by_status
from revtaf.prompts.local import PER_ENTITY
from revtaf.settings import Settings

SIZES = {"train": 300, "val": 90, "test": 90}
K_M = 7
FINDINGS = ("effusion", "opacity", "edema", "pneumothorax", "atelectasis", "consolidation", "cardiomegaly", "fracture")
COLUMNS = [ENTITIES.index(name) for name in FINDINGS]


class World:
    """A small set of three splits, two samples per patient, whose image features carry half of the labels."""

    def __init__(self, folder: Path):
        self.folder = folder
        rng = np.random.default_rng(5)
        self.studies: dict[str, list[Study]] = {}
        self.features: dict[str, Features] = {}
        for split, n in SIZES.items():
            findings = rng.random((n, len(FINDINGS))) < 0.35
            # The image shows categories 0-7; 8-16 are known from the report only; 17 is blank.
            statuses = np.zeros((n, 18), np.uint8)
            statuses[:, :8] = np.where(findings, 1, 2)
            statuses[:, 8:17] = rng.integers(0, 3, (n, 9))
            self.studies[split] = [
                Study(
                    id=f"{split}{i}",
                    image_path=(f"{split}/{i}.png",),
                    report=_report(findings[i], f"{split} examination number {i}"),
                    labels=tuple(int(s) for s in statuses[i]),
                    subject_id=f"{split}-p{i // 2}",
                    study_id=f"{split}-s{i}",
                )
                for i in range(n)
            ]
            scores = rng.random((n, 75)) * 0.2
            scores[:, COLUMNS] = 1 / (1 + np.exp(-(3.0 * findings - 1.5 + rng.normal(0, 2.5, findings.shape))))
            codes = np.where(scores > 0.5, 3, PER_ENTITY - 1).astype(np.uint8)
            self.features[split] = Features(
                ids=[s.id for s in self.studies[split]],
                patients=[s.patient for s in self.studies[split]],
                statuses=statuses,
                scores=scores.astype(np.float16),
                codes=codes,
                memory=np.zeros((n, K_M), np.int32),
            )
        self.choose_by_scores()
        train = torch.from_numpy(self.features["train"].statuses)
        patients = self.features["train"].patients
        self.nearest = nearest_by_status(train, train, 1, patients, patients)[1][:, 0].numpy().astype(np.int32)
        self.found = True

    def choose_by_scores(self) -> None:
        train = self.features["train"]
        index = RetrievalIndex(_tensor(train.scores), 1.0, groups=train.patients, metric="euclidean")
        for features in self.features.values():
            features.memory = index.search(_tensor(features.scores), K_M, features.patients)[1].numpy().astype(np.int32)

    def choose_by_labels(self, split: str) -> None:
        train, queries = self.features["train"], self.features[split]
        a, b = torch.from_numpy(queries.statuses), torch.from_numpy(train.statuses)
        rows = nearest_by_status(a, b, K_M, queries.patients, train.patients)[1]
        queries.memory = rows.numpy().astype(np.int32)

    def unrelated(self, split: str, row: int) -> Study:
        """A training sample that this sample's memory does not hold, nor its patient."""
        taken = {self.studies["train"][r].patient for r in self.features[split].memory[row]}
        return next(s for s in self.studies["train"] if s.patient not in taken)

    def change(self, split: str, row: int, **fields) -> None:
        self.studies[split][row] = replace(self.studies[split][row], **fields)

    def settings(self, **changes) -> Settings:
        annotation = self.folder / "annotation.json"
        save_annotations(annotation, self.studies)
        data = DataSettings(name="invented", annotation=annotation, images=self.folder / "images", **changes)
        return Settings(run=self.folder / "run", data=data)

    def predictions(self, records: list[dict], name: str = "invented-test") -> None:
        path = self.folder / "run" / name / "predictions.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(r) + "\n" for r in records))

    def images(self) -> None:
        for split, studies in self.studies.items():
            for study in studies:
                path = self.folder / "images" / study.image_path[0]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"pixels of {split} {study.id}")


def _report(findings: np.ndarray, ending: str) -> str:
    stated = [f"There is {name}." if there else f"No {name}." for name, there in zip(FINDINGS, findings, strict=True)]
    return " ".join([*stated, ending + "."])


def _tensor(scores: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(scores.astype(np.float32))


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    """The clean set, standing where the audit looks for annotation and features."""
    world = World(tmp_path)

    def find_knowledge(settings, device):
        if not world.found:
            return None
        texts = SimpleNamespace(nearest=world.nearest)
        train, studies = world.features["train"], world.studies["train"]
        return SimpleNamespace(train=train, texts=texts, studies=studies, scorer=object(), triplets=["a text"])

    def find_split(knowledge, settings, data, split):
        return (world.features[split], world.studies[split]) if split in world.features else None

    monkeypatch.setattr(audit_module.build, "find_knowledge", find_knowledge)
    monkeypatch.setattr(audit_module.build, "find_split", find_split)
    return world


def leaks(lines: list[Line]) -> list[tuple[str, str]]:
    return [(line.check, line.split) for line in lines if line.verdict == LEAK]


def verdict(lines: list[Line], check: str, split: str) -> str:
    return next(line.verdict for line in lines if (line.check, line.split) == (check, split))


def test_clean_set_has_no_leak_and_everything_is_checked(world):
    world.images()
    world.predictions([{"id": "test0", "retrieved_id": "train5"}, {"id": "test1", "retrieved_id": "train9"}])
    lines = audit(world.settings(), hash_images=True)
    assert leaks(lines) == []
    assert [line for line in lines if line.verdict == NOT_CHECKED] == []
    assert conclusion(lines) == f"no leak found in {len(lines)} checks, 0 not checked"


def _same_image(world):
    world.change("test", 3, image_path=("train/../train/8.png",))


def _same_study(world):
    """The same examination under two ids, in a set that does not name its patients."""
    twin = world.studies["train"].index(world.unrelated("val", 3))
    world.change("train", twin, subject_id="", study_id="s1")
    world.change("val", 3, subject_id="", study_id="s1")


def _same_patient(world):
    world.change("test", 4, subject_id=world.unrelated("test", 4).subject_id)


def _patient_of_validation(world):
    world.change("test", 4, subject_id="val-p0")


def _sees_itself(world):
    world.features["train"].memory[6, 2] = 6


def _sees_sister(world):
    world.features["train"].memory[6, 2] = 7


def _row_of_another_split(world):
    world.features["test"].memory[0, 1] = SIZES["train"]  # memory_by_labels cannot run, and says so


def _reference_is_itself(world):
    world.nearest[11] = 11


def _reference_is_sister(world):
    world.nearest[11] = 10


def _retrieves_sister(world):
    world.predictions([{"id": "train0", "retrieved_id": "train1"}], "invented-train")


def _retrieves_from_outside(world):
    world.predictions([{"id": "test0", "retrieved_id": "val3"}], "invented-test")


def _memory_by_labels(split):
    def inject(world):
        world.choose_by_labels(split)

    inject.__name__ = f"memory_by_labels_{split}"
    return inject


def _scorer_saw_its_images(world):
    train = world.features["train"]
    train.scores[:, COLUMNS] = 0.9 * (train.statuses[:, :8] == 1) + train.scores[:, COLUMNS] / 20
    world.choose_by_scores()


def _prompts_from_reports(split):
    def inject(world):
        said = entity_mentions([s.report for s in world.studies[split]]).presence == PRESENT
        world.features[split].codes[:] = np.where(said, 0, PER_ENTITY - 1)

    inject.__name__ = f"prompts_from_reports_{split}"
    return inject


@pytest.mark.parametrize(
    ("inject", "expected"),
    [
        (_same_image, ("image file", "train/test")),
        (_same_study, ("study", "train/val")),
        (_same_patient, ("patient", "train/test")),
        (_patient_of_validation, ("patient", "val/test")),
        (_sees_itself, ("classifier memory", "train")),
        (_sees_sister, ("classifier memory", "train")),
        (_row_of_another_split, ("classifier memory", "test")),
        (_reference_is_itself, ("training reference", "train")),
        (_reference_is_sister, ("training reference", "train")),
        (_retrieves_sister, ("retrieved report", "invented-train")),
        (_retrieves_from_outside, ("retrieved report", "invented-test")),
        (_memory_by_labels("train"), ("memory chosen by labels", "train")),
        (_memory_by_labels("val"), ("memory chosen by labels", "val")),
        (_memory_by_labels("test"), ("memory chosen by labels", "test")),
        (_scorer_saw_its_images, ("scores of own images", "train/val")),
        (_prompts_from_reports("train"), ("local prompts", "train")),
        (_prompts_from_reports("test"), ("local prompts", "test")),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else None,
)
def test_each_leak_turns_its_own_line(world, inject, expected):
    inject(world)
    found = leaks(audit(world.settings()))
    if inject is _scorer_saw_its_images:  # every held-out split shows it
        assert found == [expected, ("scores of own images", "train/test")]
    else:
        assert found == [expected]


def test_same_pixels_under_another_name_are_found_by_hashing(world):
    world.images()
    images = world.folder / "images"
    (images / "test/0.png").write_bytes((images / "train/5.png").read_bytes())
    assert leaks(audit(world.settings(), hash_images=True)) == [("image content", "train/test")]
    lines = audit(world.settings())
    assert leaks(lines) == [] and verdict(lines, "image content", "all") == NOT_CHECKED


def test_selecting_on_the_test_split_is_a_leak(world):
    """The checkpoint is selected on it. Reporting validation figures, as where the test split is withheld, is none."""
    found = leaks(audit(world.settings(validation_split="test")))
    assert found == [("image file", "val/test"), ("study", "val/test"), ("patient", "val/test")]
    lines = audit(world.settings(test_split="val"))
    assert leaks(lines) == [] and verdict(lines, "samples", "val/test") == "note"


def test_a_control_is_named_as_what_it_is(world):
    """Clean features or not: settings that are given the answer are a leak, and the audit names them."""
    settings = world.settings()
    changed = Settings.model_validate(
        settings.model_dump() | {"controls": {"scores": "report"}, "generation": {"statuses": "oracle"}}
    )
    lines = audit(changed, hash_images=False)
    found = next(line for line in lines if line.check == "control")
    assert found.verdict == LEAK and found.count == sum(SIZES.values())
    assert found.detail == "reads the answer: controls.scores=report, generation.statuses=oracle"
    assert "LEAK in control (all)" in conclusion(lines)
    assert not [line for line in audit(settings) if line.check == "control"]


def test_memory_of_another_set_is_compared_with_the_test_split(world):
    """An image shared by two sets is a leak; a patient's name shared by two sets is a note."""
    settings = world.settings()
    other = world.folder / "other.json"
    mine = Study("x1", ("a.png",), "Something else.", (0,) * 18, subject_id="train-p0", study_id="t1")
    shared = Study("x2", ("train/3.png",), "Something more.", (0,) * 18, subject_id="elsewhere", study_id="t2")
    save_annotations(other, {"test": [mine, shared]})
    data = DataSettings(name="other", annotation=other, images=settings.data.images)
    world.found = False
    lines = audit(Settings(run=world.folder / "run", trained_on=settings.data, data=data))
    assert leaks(lines) == [("image file", "train/test")]
    assert verdict(lines, "patient", "train/test") == NOTE


def test_without_subject_ids_patients_are_not_checked(world):
    for split, studies in world.studies.items():
        world.studies[split] = [replace(s, subject_id="") for s in studies]
    line = next(line for line in audit(world.settings()) if line.check == "patient")
    assert line.verdict == NOT_CHECKED and "no sample of train has a subject_id" in line.detail


def test_what_is_not_there_yet_is_not_checked_rather_than_passed(world):
    world.found = False
    del world.studies["val"]
    lines = audit(world.settings())
    unknown = {line.check for line in lines if line.verdict == NOT_CHECKED}
    assert unknown == {
        "samples",
        "image content",
        "classifier memory",
        "training reference",
        "memory chosen by labels",
        "scores of own images",
        "local prompts",
        "retrieved report",
    }
    assert conclusion(lines).endswith(f"{len(unknown)} not checked")


def test_repeated_reports_are_counted_as_a_note(world):
    """Cleaned texts are compared: case and punctuation make no difference."""
    world.change("test", 0, report="The lungs are clear; nothing else!")
    world.change("test", 1, report="the lungs are clear nothing else.")
    world.change("train", 0, report="The lungs are clear, nothing else.")
    line = next(x for x in audit(world.settings()) if (x.check, x.split) == ("report word for word", "train/test"))
    assert (line.count, line.of, line.verdict) == (2, SIZES["test"], NOTE)
    assert "2 here and 1 in train: 'the lungs are clear nothing else .'" in line.detail


def test_reports_that_say_nothing_are_counted_as_a_note(world):
    world.change("test", 1, report="See impression.")
    found = {x.split: x for x in audit(world.settings()) if x.check == "report says nothing"}
    assert (found["test"].count, found["test"].verdict) == (1, NOTE) and "test1" in found["test"].detail
    assert found["train"].count == 0


def test_memory_by_scores_random_or_by_a_better_encoder_is_no_leak(world):
    """An encoder that sees more comes closer than the scores: a note where the memory may be its choice, a leak where
    it is said to be the scores'. The choice by labels is a leak either way."""
    train, test = world.features["train"], world.features["test"]
    chance = replace(test, memory=np.random.default_rng(0).integers(0, len(train), (len(test), K_M)))
    assert memory_by_labels("test", chance, train).verdict == OK
    assert memory_by_labels("test", test, train).verdict == OK
    draw = np.random.default_rng(1)
    seen = [(f.statuses[:, :8] == 1) + draw.normal(0, 0.3, (len(f), 8)) for f in (train, test)]
    index = RetrievalIndex(_tensor(seen[0]), 1.0, metric="euclidean")
    better = replace(test, memory=index.search(_tensor(seen[1]), K_M)[1].numpy())
    assert memory_by_labels("test", better, train, by_scores=False).verdict == NOTE
    assert memory_by_labels("test", better, train, by_scores=True).verdict == LEAK
    world.choose_by_labels("test")
    assert memory_by_labels("test", test, train, by_scores=False).verdict == LEAK


def test_a_few_label_chosen_references_stay_below_the_tolerance(world):
    """A handful of label-chosen references among many honest ones is below the tolerance, and at most a note."""
    honest = world.features["test"].memory.copy()
    world.choose_by_labels("test")
    mixed = world.features["test"].memory
    mixed[5:] = honest[5:]
    assert verdict(audit(world.settings()), "memory chosen by labels", "test") in (OK, NOTE)


def test_auc_agrees_with_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    positive = rng.random((200, 5)) < 0.3
    scores = (rng.random((200, 5)) + 0.4 * positive).round(1)  # rounded: ties
    assert _auc(scores, positive)[0] == pytest.approx(roc_auc_score(positive, scores, average="macro"))


def test_standard_error_of_auc_covers_its_spread():
    """DeLong's against the spread over repeated draws, for two entities whose scores err together."""
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(400):
        positive = np.repeat(np.arange(120)[:, None] < 30, 2, axis=1)
        drawn.append(_auc(rng.normal(size=(120, 1)) + 0.3 * rng.normal(size=(120, 2)) + positive, positive))
    values, errors = np.array(drawn).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.2)


def test_another_sets_scores_are_never_a_leak():
    """A scorer that is worse on another hospital's images has not seen its own."""
    rng = np.random.default_rng(3)
    presence = np.where(rng.random((400, 75)) < 0.3, PRESENT, -1)
    perfect, noise = (presence == PRESENT).astype(float), rng.random((400, 75))
    assert scores_in_sample("test", perfect, presence, noise, presence).verdict == LEAK
    assert scores_in_sample("test", perfect, presence, noise, presence, comparable=False).verdict == NOTE
    assert scores_in_sample("test", noise, presence, noise, presence).verdict == NOTE
    nothing = np.full((400, 75), -1)
    assert scores_in_sample("test", noise, nothing, noise, nothing).verdict == NOT_CHECKED


def test_constant_prompts_for_what_every_report_says_are_no_leak():
    presence = np.full((100, 75), -1)
    presence[:, 0] = PRESENT
    codes = np.where(presence == PRESENT, 0, PER_ENTITY - 1)
    assert prompts_from_report("test", codes, presence).verdict == NOTE


def test_references_name_what_was_seen():
    train = [Study(f"t{i}", ("a",), "A.", subject_id=f"p{i // 2}", study_id=f"s{i // 4}") for i in range(8)]
    line = references("memory", "train", np.array([[4, 0], [0, 9]]), train[:2], train)
    assert (line.count, line.of, line.verdict) == (3, 4, LEAK)
    assert line.detail == "itself 1, its study 2, its patient 2, outside of train 1; first: t0 -> row 0"


def test_equal_names_of_another_set_are_a_note():
    """Two sets number their patients from 1: nobody sees themselves. A row outside of train is a leak all the same."""
    train = [Study(str(i), ("a",), "A.", subject_id=str(i), study_id=str(i)) for i in range(4)]
    line = references("memory", "test", np.array([[0], [2]]), train[:2], train, same_set=False)
    assert (line.count, line.verdict) == (1, NOTE) and "two sets may number alike" in line.detail
    assert references("memory", "test", np.array([[1], [9]]), train[:2], train, same_set=False).verdict == LEAK


@pytest.mark.parametrize("beside", ["other", "invented", "elsewhere", None])
def test_predictions_are_of_the_set_that_they_were_made_on(world, beside):
    """Training and tested set both have a "train0", of different people: which one was written for is in the settings
    beside the predictions, and where there are none, nobody knows."""
    settings, other = world.settings(), world.folder / "other.json"
    save_annotations(other, {"test": [Study("train0", ("z.png",), "Else.", subject_id="z", study_id="z0")]})
    data = DataSettings(name="other", annotation=other, images=settings.data.images)
    world.predictions([{"id": "train0", "retrieved_id": "train1"}], "some-test")
    made_on = {"other": data, "invented": settings.data, "elsewhere": DataSettings(name="x", annotation="x.json")}
    if beside:
        save_settings(world.folder / "run" / "some-test" / "config.yaml", Settings(data=made_on[beside]))
    world.found = False
    lines = audit(Settings(run=world.folder / "run", trained_on=settings.data, data=data))
    expected = {"other": OK, "invented": LEAK}.get(beside, NOT_CHECKED)
    assert verdict(lines, "retrieved report", "some-test") == expected


def test_table_fits_and_concludes():
    lines = [
        Line("classifier memory", "test", 3, 1500, LEAK, "a detail " * 30),
        Line("retrieved report", "a-set-with-a-long-name-test", 0, 0, NOT_CHECKED, "no run"),
        Line("image file", "train/val", 0, 90, OK),
    ]
    text = table(lines).splitlines()
    assert max(map(len, text)) <= 120
    assert text[-1] == "LEAK in classifier memory (test); 1 not checked"
    assert text[1].split("  ")[0] == "classifier memory" and " 3 of 1,500 " in text[1]


def test_a_split_that_is_not_there_is_not_checked(world):
    """Without a validation split, of a set that is tested on it: a line, no traceback."""
    world.studies = {"train": world.studies["train"]}
    lines = audit(world.settings(test_split="val"))
    assert verdict(lines, "samples", "val") == verdict(lines, "samples", "test") == NOT_CHECKED
