"""The annotation and the manifest of MIMIC-CXR, written report by report: no list of texts is ever held."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

from tqdm import tqdm

from revtaf.data.sources.manifest import packed_rows
from revtaf.data.sources.mimic_cxr.reports import Reports
from revtaf.data.sources.mimic_cxr.sections import Sections, extract_sections
from revtaf.data.sources.mimic_cxr.selection import Sample, Samples
from revtaf.data.sources.mimic_cxr.tables import ImagesByStudy
from revtaf.data.text import says_nothing
from revtaf.labels import BLANK, CHEXPERT_CATEGORIES

MANIFEST_COLUMNS = (
    *("subject_id", "study_id", "dicom_id", "view", "split", "selected"),
    *(section.name for section in fields(Sections)),
)
_NO_ROW = (BLANK,) * len(CHEXPERT_CATEGORIES)


@dataclass
class Outcome:
    """What became of the samples. The counters are by split; `empty` and `given` hold dicom ids."""

    samples: Counter = field(default_factory=Counter)
    images: Counter = field(default_factory=Counter)
    studies: dict[str, set[str]] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)  # without the selected text: not written
    unknown: set[str] = field(default_factory=set)  # of these, those for which a followed annotation has no text either
    absent: set[str] = field(default_factory=set)  # without a file, and left out for it
    given: set[str] = field(default_factory=set)  # with the report of the followed annotation
    compared: int = 0  # samples for which the followed annotation has a report,
    equal: int = 0  # and how many of these equal ours, whitespace apart


def write_annotation(
    path: Path,
    samples: Samples,
    texts: Reports,
    sections: str,
    statuses: dict[str, tuple[int, ...]] | None,
    absent: set[str],
) -> Outcome:
    """Write the samples whose report has a text in `sections` ("findings" or "findings+impression").

    One study per line, in the schema of `revtaf.data.annotations`. `statuses` is by study id, None for no labels;
    `absent` are the dicom ids of images that were left out as they are not there.
    """
    outcome = Outcome(absent=absent)
    with path.open("w", encoding="utf-8") as file:
        for split, found in samples.items():
            for sample, read in _with_sections(found, texts, split):
                report = _report(sample, read, sections, outcome)
                if not report:
                    outcome.empty.update(image.dicom_id for image in sample.images)
                    if not sample.given.strip():  # a text that says nothing is known, and dropped
                        outcome.unknown.update(image.dicom_id for image in sample.images)
                    continue
                entry = {
                    "id": sample.id,
                    "image_path": [image.path for image in sample.images],
                    "report": report,
                    "labels": statuses.get(sample.study_id, _NO_ROW) if statuses is not None else None,
                    "subject_id": sample.subject_id,
                    "study_id": sample.study_id,
                    "indication": read.indication,
                }
                if not outcome.samples[split]:
                    file.write(("\n],\n" if outcome.samples.total() else "{") + f'"{split}": [\n')
                else:
                    file.write(",\n")
                filled = {name: value for name, value in entry.items() if value}
                file.write(json.dumps(filled, ensure_ascii=False))
                outcome.samples[split] += 1
                outcome.images[split] += len(sample.images)
                outcome.studies.setdefault(split, set()).add(sample.study_id)
        file.write("\n]}\n")
    return outcome


def write_manifest(
    path: Path,
    studies: ImagesByStudy,
    samples: Samples,
    texts: Reports,
    outcome: Outcome,
    no_text: str,
    not_chosen: str,
) -> Counter:
    """Write one row per image, in the order of `studies`; returns how many were left out for which reason.

    `split` is the one that the annotation uses. `selected` is "yes" or why not: `not_chosen`, or `no_text`.
    """
    splits = {image.dicom_id: split for split, found in samples.items() for sample in found for image in sample.images}
    refused: Counter = Counter()
    with packed_rows(path) as rows:
        rows.writerow(MANIFEST_COLUMNS)
        for images in tqdm(studies.values(), desc="manifest", unit="study"):
            sections = astuple(extract_sections(texts.read(images[0].subject_id, images[0].study_id)))
            for image in images:
                selected = "yes"
                if image.dicom_id in outcome.absent:
                    selected = "no image file"
                elif image.dicom_id not in splits:
                    selected = not_chosen
                elif image.dicom_id in outcome.empty:
                    selected = no_text
                elif image.dicom_id in outcome.given:
                    selected = "yes, with the report of the followed annotation"
                if not selected.startswith("yes"):
                    refused[selected] += 1
                split = splits.get(image.dicom_id, image.split)
                ids = (image.subject_id, image.study_id, image.dicom_id)
                rows.writerow((*ids, image.view, split, selected, *sections))
    return refused


def _with_sections(found: list[Sample], texts: Reports, split: str) -> Iterator[tuple[Sample, Sections]]:
    """Every sample with its report; the images of a study follow one another and share one reading."""
    study_id, sections = "", Sections()
    for sample in tqdm(found, desc=split, unit="sample", disable=not found):
        if sample.study_id != study_id:
            study_id = sample.study_id
            sections = extract_sections(texts.read(sample.subject_id, study_id))
        yield sample, sections


def _report(sample: Sample, read: Sections, sections: str, outcome: Outcome) -> str:
    """The text of the selected sections; where they are empty, the one that the followed annotation gives."""
    report = " ".join(filter(None, (getattr(read, name) for name in sections.split("+"))))
    if not says_nothing(sample.given):
        outcome.compared += 1
        outcome.equal += sample.given.split() == report.split()
        if not report:
            outcome.given.update(image.dicom_id for image in sample.images)
            return sample.given
    return report
