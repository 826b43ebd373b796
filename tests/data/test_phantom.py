"""The phantom data set: what its reports say, what its images show, and that the two agree."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from revtaf.data.annotations import load_annotations
from revtaf.data.sources.phantom.cases import RATES, Case, Finding, sample_cases
from revtaf.data.sources.phantom.film import render
from revtaf.data.sources.phantom.prepare import ANNOTATION, prepare_phantom, sample_studies, split_by_patient
from revtaf.data.sources.phantom.reports import SECTION_OF, write_report
from revtaf.data.text import clean_report
from revtaf.errors import UserError
from revtaf.labels import CATEGORIES, CHEXPERT_CATEGORIES, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN

MANY, FEW, SIZE = 4000, 24, 96
# Supplement, Table 4: share of the MIMIC-CXR test set that is positive, in the order of the categories.
PAPER_RATES = (
    0.189,
    0.329,
    0.361,
    0.052,
    0.146,
    0.046,
    0.043,
    0.218,
    0.019,
    0.274,
    0.032,
    0.038,
    0.349,
    0.084,
)


@pytest.fixture(scope="module")
def studies():
    return sample_studies(MANY, seed=1)


@pytest.fixture(scope="module")
def labels(studies):
    return np.array([study.labels for study in studies])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "set"
    prepare_phantom(out, images=FEW, seed=3, size=SIZE, progress=False)
    return out


def case_with(*findings: Finding) -> Case:
    return Case(index=5, patient=2, visit=0, style=0, findings=findings)


def files_of(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_arguments_give_the_same_bytes(folder, tmp_path):
    """Two runs with the same seed, count and size write identical files, PNGs included."""
    prepare_phantom(tmp_path / "again", images=FEW, seed=3, size=SIZE, progress=False)
    assert files_of(tmp_path / "again") == files_of(folder)


def test_another_seed_gives_other_images_and_reports():
    """The seed reaches both the drawing and the text."""
    assert [s.report for s in sample_studies(20, 0)] != [s.report for s in sample_studies(20, 1)]
    case = case_with()
    assert (render(case, 0, 48)[0] != render(case, 1, 48)[0]).any()


def test_an_identical_set_is_not_drawn_again(folder):
    """A second call with the same arguments leaves the files untouched."""
    before = (folder / ANNOTATION).stat().st_mtime_ns
    assert prepare_phantom(folder, images=FEW, seed=3, size=SIZE, progress=False) == folder / ANNOTATION
    assert (folder / ANNOTATION).stat().st_mtime_ns == before


def test_other_arguments_replace_a_phantom_set(tmp_path):
    """Nothing of the earlier set remains when a set with another count takes its place."""
    for images in (6, 3):
        prepare_phantom(tmp_path / "set", images=images, seed=0, size=32, progress=False)
        assert len(list((tmp_path / "set" / "images").iterdir())) == images


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    """Data that no phantom wrote is never overwritten, and no partial folder is left beside it."""
    foreign = tmp_path / "hospital"
    foreign.mkdir()
    (foreign / "report.txt").write_text("irreplaceable")
    with pytest.raises(UserError, match="hospital"):
        prepare_phantom(foreign, images=2, size=32, progress=False)
    assert (foreign / "report.txt").read_text() == "irreplaceable"
    assert [p.name for p in tmp_path.iterdir()] == ["hospital"]


@pytest.mark.parametrize("other", ["my_notes.txt", "results/run/config.yaml", "features/ab12/x.npy", "images/mine.png"])
def test_what_lies_beside_an_earlier_set_is_named_and_stays(tmp_path, other):
    """A set of another size would take the place of the whole folder: it is not drawn while anything else is there."""
    out = tmp_path / "set"
    prepare_phantom(out, images=2, seed=0, size=32, progress=False)
    (out / other).parent.mkdir(parents=True, exist_ok=True)
    (out / other).write_text("irreplaceable")
    before = files_of(tmp_path)
    with pytest.raises(UserError, match=rf"beside it {other if 'images' in other else other.split('/')[0]}.*--out"):
        prepare_phantom(out, images=3, seed=0, size=32, progress=False)
    assert files_of(tmp_path) == before
    assert prepare_phantom(out, images=2, seed=0, size=32, progress=False) == out / ANNOTATION  # the same is kept


def test_the_annotation_file_names_images_of_the_asked_size(folder):
    """Every study of the file has its 8 bit gray image of SIZE x SIZE pixels."""
    annotations = load_annotations(folder / ANNOTATION)
    found = [study for split in annotations.values() for study in split]
    assert len(found) == FEW
    for study in found:
        image = Image.open(folder / "images" / study.image_path[0])
        assert (image.size, image.mode) == ((SIZE, SIZE), "L")
        assert study.id == study.study_id and study.id.startswith(study.subject_id)
        assert study.indication


def test_prevalences_are_those_of_the_paper(labels):
    """Each CheXpert category is positive within two percentage points of the supplement's Table 4."""
    measured = (labels[:, : len(PAPER_RATES)] == POSITIVE).mean(0)
    for name, share, wanted in zip(CHEXPERT_CATEGORIES, measured, PAPER_RATES, strict=True):
        assert abs(share - wanted) < 0.02, (name, share, wanted)
    auxiliary = (labels[:, len(PAPER_RATES) :] == POSITIVE).mean(0)
    assert ((0.05 <= auxiliary) & (auxiliary <= 0.121)).all()


def test_findings_that_belong_together_occur_together(labels):
    """Edema is at least 1.3 times as frequent with a large heart, effusion with atelectasis, and so on."""
    positive = {name: labels[:, i] == POSITIVE for i, name in enumerate(CATEGORIES)}
    for one, other in (
        ("cardiomegaly", "edema"),
        ("atelectasis", "pleural effusion"),
        ("pleural effusion", "support devices"),
        ("lung opacity", "pneumonia"),
        ("lung opacity", "consolidation"),
    ):
        assert positive[other][positive[one]].mean() > 1.3 * positive[other].mean(), (one, other)


def test_no_patient_is_in_two_splits(studies):
    """The splits share no patient, lose no study, and hold 80, 10 and 10 per cent of the patients."""
    splits = split_by_patient(studies, seed=1)
    patients = {name: {study.patient for study in chosen} for name, chosen in splits.items()}
    total = len({study.patient for study in studies})
    assert sum(map(len, patients.values())) == total == len(set().union(*patients.values()))
    assert sum(map(len, splits.values())) == MANY
    assert len(patients["val"]) == len(patients["test"]) == round(0.1 * total)


def test_small_sets_still_have_three_splits():
    """Three patients or more fill train, val and test."""
    assert all(split_by_patient(sample_studies(12, seed=0), seed=0).values())


def test_patients_return_with_their_chronic_findings():
    """Among patients with a large heart, the next study shows it far more often than in anybody."""
    cases = sample_cases(MANY, seed=1)
    large = [case.finding("cardiomegaly") is not None for case in cases]
    again = [large[i + 1] for i in range(MANY - 1) if large[i] and cases[i + 1].visit > 0]
    assert np.mean(again) > 1.7 * np.mean(large)
    assert 1.8 < MANY / len({case.patient for case in cases}) < 2.2


def test_all_four_statuses_occur(labels):
    """Five common findings of lung, heart and pleura are each blank, positive, negative and uncertain."""
    for name in ("cardiomegaly", "lung opacity", "edema", "atelectasis", "pleural effusion"):
        assert set(labels[:, CATEGORIES.index(name)]) == {0, 1, 2, 3}, name


def test_no_finding_is_the_absence_of_all_but_devices(labels):
    """`no finding` is 1 exactly where nothing except support devices is positive or uncertain."""
    others = [i for i, name in enumerate(CATEGORIES) if name not in ("no finding", "support devices")]
    sick = np.isin(labels[:, others], (POSITIVE, UNCERTAIN)).any(1)
    assert (labels[:, NO_FINDING] == ~sick).all()


def test_the_report_states_exactly_what_the_case_holds():
    """Every finding is stated with its status, and nothing else is positive or uncertain."""
    for case in sample_cases(400, seed=2):
        _, labels = write_report(case, np.random.default_rng(case.index))
        stated = {CATEGORIES[i]: s for i, s in enumerate(labels) if s in (1, 3) and i != NO_FINDING}
        assert stated == {f.category: f.status for f in case.findings}


@pytest.mark.parametrize("category", [c for c in SECTION_OF if c != "support devices"])
def test_hedges_are_uncertain_and_statements_are_not(category):
    """A sole uncertain finding is written with a hedging word, a sole positive one without any."""
    hedges = re.compile(r"\b(possible|questionable|probable|may|cannot be excluded|borderline)\b", re.I)
    kinds = {"aorta abnormality": "tortuous", "bone/spine abnormality": "scoliosis"}
    kind = kinds.get(category, "low" if category.startswith("lung volume") else "nodule")
    finding = Finding(category, POSITIVE, 0.5, "left", "lower", (kind,))
    uncertain = RATES[category][1] > 0
    for i in range(12):
        rng = np.random.default_rng(i)
        assert not hedges.search(write_report(replace(case_with(finding), style=i % 5), rng)[0])
        if uncertain:
            hedged = replace(case_with(replace(finding, status=UNCERTAIN)), style=i % 5)
            report, labels = write_report(hedged, rng)
            assert hedges.search(report), report
            assert labels[CATEGORIES.index(category)] == UNCERTAIN


def test_denied_findings_are_denied_in_words(studies):
    """Where pneumothorax is negative, a sentence with "no" names it; where it is blank, none does."""
    column = CATEGORIES.index("pneumothorax")
    for study in studies[:600]:
        naming = [s for s in study.report.split(". ") if "pneumothorax" in s.lower()]
        assert bool(naming) == bool(study.labels[column])
        if study.labels[column] == NEGATIVE:
            assert all(re.search(r"\bno\b", s, re.I) for s in naming)


def test_reports_read_like_reports(studies):
    """Four to nine sentences, 250 to 450 words in all, and the common normal sentences dominate."""
    counts = {study.report.count(".") for study in studies}
    assert counts <= set(range(4, 10))
    words = {word for study in studies for word in clean_report(study.report, None).split()}
    assert 250 <= len(words) <= 450
    sentences = Counter(s for study in studies for s in study.report.rstrip(".").split(". "))
    assert sum(count for _, count in sentences.most_common(40)) > 0.5 * sum(sentences.values())


def test_boxes_are_of_what_is_drawn_and_inside_the_image(folder):
    """Every positive finding has a box, no negative or blank one has, and boxes lie within the image."""
    for split in load_annotations(folder / ANNOTATION).values():
        for study in split:
            boxed = {box.category for box in study.findings_boxes}
            status = dict(zip(CATEGORIES, study.labels, strict=True))
            assert {c for c, s in status.items() if s == POSITIVE} - {"no finding"} <= boxed
            assert all(status[category] in (POSITIVE, UNCERTAIN) for category in boxed)
            for box in study.findings_boxes:
                left, top, right, bottom = box.xyxy
                assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1, box


@pytest.mark.parametrize(
    ("category", "zone"),
    [
        ("lung opacity", "mid"),
        ("lung lesion", "upper"),
        ("consolidation", "lower"),
        ("pneumonia", "lower"),
        ("pneumothorax", "upper"),
        ("pleural effusion", "lower"),
        ("pleural other", "upper"),
        ("fracture", "mid"),
    ],
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_image_changes_inside_the_box(category, zone, side):
    """Of what a local finding changes in the image, at least 70 % lies in its box, on the stated side."""
    finding = Finding(category, POSITIVE, 0.6, side, zone, ("nodule",))
    with_it, boxes = render(case_with(finding), 0, 128)
    without, none = render(case_with(), 0, 128)
    assert not none and len(boxes) == 1 and (boxes[0].side, boxes[0].zone) == (side, zone)
    change = np.abs(with_it.astype(float) - without)
    left, top, right, bottom = (round(128 * v) for v in boxes[0].xyxy)
    assert change[top:bottom, left:right].sum() > 0.7 * change.sum()
    # The image's left is the patient's right.
    assert ((left + right) / 2 > 64) == (side == "left")


def test_two_sided_findings_have_a_box_per_side():
    """A bilateral effusion gives one box on either side of the midline."""
    finding = Finding("pleural effusion", POSITIVE, 0.5, "bilateral", "lower")
    boxes = {box.side: box.xyxy for box in render(case_with(finding), 0, 64)[1]}
    assert boxes["right"][2] < 0.55 and boxes["left"][0] > 0.45


@pytest.mark.parametrize("category", [c for c in RATES if c != "lung opacity"])
def test_severe_findings_change_the_image_more_than_mild_ones(category):
    """Every category but the parent "lung opacity" shows in the image, and more so when severe."""
    kinds = {"support devices": ("picc",), "aorta abnormality": ("tortuous",), "lung lesion": ("nodule",)}
    kinds |= {"bone/spine abnormality": ("degenerative",), "lung volume abnormality": ("low",)}
    side = "bilateral" if category == "edema" else "left"
    plain = render(case_with(), 0, 96)[0].astype(float)
    changes = []
    for severity in (0.1, 0.95):
        if category == "support devices" and severity > 0.5:
            kinds[category] = ("picc", "pacemaker", "endotracheal tube", "enteric tube")
        finding = Finding(category, POSITIVE, severity, side, "upper", kinds.get(category, ()))
        changes.append(np.abs(render(case_with(finding), 0, 96)[0] - plain).sum())
    assert changes[1] > 1.2 * changes[0] > 0


def test_an_opacity_shares_the_box_of_its_cause():
    """An opacity that is a pneumonia is drawn once: its box is the pneumonia's and the image the same."""
    cause = Finding("pneumonia", POSITIVE, 0.6, "left", "lower")
    opacity = replace(cause, category="lung opacity", shown_by="pneumonia")
    alone, _ = render(case_with(cause), 0, 64)
    both, boxes = render(case_with(opacity, cause), 0, 64)
    assert (alone == both).all() and boxes[0].xyxy == boxes[1].xyxy
