"""Which images of MIMIC-CXR become samples: by view, or exactly as another annotation file has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from revtaf.data.annotations import SPLITS
from revtaf.data.sources.mimic_cxr.tables import Image, ImagesByStudy, shown
from revtaf.data.sources.views import view_of
from revtaf.errors import UserError
from revtaf.files import read_json

VIEWS = ("all", "frontal", "first")
OFFICIAL_STUDIES = {"train": 222_758, "val": 1_808, "test": 3_269}  # MIMIC-CXR-JPG 2.0.0: 227,835


@dataclass(frozen=True, slots=True)
class PaperSelection:
    """What a paper takes as its samples, and how many it has of them: `unit` is "images" or "studies"."""

    sections: str
    views: str
    one_image_per_study: bool
    unit: str
    published: dict[str, int]


PROTOCOLS = {
    # R2Gen's selection, which REVTAF takes over.
    "revtaf": PaperSelection("findings", "all", False, "images", {"train": 270_790, "val": 2_130, "test": 3_858}),
    # All of MIMIC-CXR, a study a sample (TRRG, section 3.1). Hardly any study has neither section; which it takes is
    # not said, and a study without findings has its impression.
    "trrg": PaperSelection("findings+impression", "all", True, "studies", OFFICIAL_STUDIES),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One entry of the annotation to be: all images are of one study. `given` is the report of a `like` file."""

    id: str
    images: tuple[Image, ...]
    given: str = ""

    @property
    def study_id(self) -> str:
        """The study that all its images belong to."""
        return self.images[0].study_id

    @property
    def subject_id(self) -> str:
        """The patient, as in subject_id of the tables."""
        return self.images[0].subject_id


Samples = dict[str, list[Sample]]


def select(studies: ImagesByStudy, views: str = "all", one_per_study: bool = False) -> Samples:
    """Samples by split, in the order of `studies`.

    `views`: "all" images; "frontal" ones (AP or PA); the "first" frontal one of each study, else its first of unknown
    view, else its first. Each image is a sample with its dicom_id as id; with `one_per_study` the study is one, its id
    "s" and the study_id, its images in this order.
    """
    samples: Samples = {split: [] for split in SPLITS}
    for study_id, images in studies.items():
        in_order = sorted(images, key=lambda image: view_of(image.view))
        frontal = [image for image in images if image.frontal]
        chosen = {"all": images, "frontal": frontal, "first": in_order[:1]}[views]
        if not chosen:
            continue
        if one_per_study:
            ordered = tuple(image for image in in_order if image in chosen)
            samples[chosen[0].split].append(Sample(f"s{study_id}", ordered))
        else:
            samples[chosen[0].split] += [Sample(image.dicom_id, (image,)) for image in chosen]
    return samples


def select_like(path: Path, studies: ImagesByStudy) -> Samples:
    """The ids, splits and order of another annotation, such as R2Gen's, with our images.

    An entry's images are those that its `image_path` names, or the one that its `id` names where it has no
    `image_path`; folders in the names are ignored. This file is the one thing that is held in memory as a whole.
    """
    content = read_json(path, "annotation to follow")
    if not isinstance(content, dict) or not content or not set(content) <= set(SPLITS):
        raise UserError(f"{path}: expected an object with the lists {', '.join(SPLITS)}")
    known = {image.dicom_id: image for images in studies.values() for image in images}
    samples: Samples = {split: [] for split in SPLITS}
    seen: set[str] = set()
    absent: list[str] = []
    for split in (name for name in SPLITS if name in content):
        if not isinstance(content[split], list):
            raise UserError(f"{path}: split '{split}': expected a list")
        for index, entry in enumerate(content[split]):
            where = f"{path}: split '{split}', entry {index}"
            sample_id, names, report = _fields(where, entry)
            if sample_id in seen:
                raise UserError(f"{where}: the id {sample_id} appears twice")
            seen.add(sample_id)
            images = tuple(known[name] for name in names if name in known)
            if len(images) < len(names):
                absent.append(sample_id)
                continue
            if len({image.study_id for image in images}) > 1:
                raise UserError(f"{where} (id {sample_id}): its images belong to several studies")
            samples[split].append(Sample(sample_id, images, report))
    if not seen:
        raise UserError(f"{path}: no entry in it; name an annotation with studies")
    if absent:
        raise UserError(
            f"{path}: {len(absent):,} of {len(seen):,} ids are not in the split table of MIMIC-CXR-JPG: {shown(absent)}"
        )
    return samples


def _fields(where: str, entry: object) -> tuple[str, list[str], str]:
    """id, the dicom ids of its images, report."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise UserError(f"{where}: expected an object with a text as 'id'")
    paths, report = entry.get("image_path") or [entry["id"]], entry.get("report") or ""
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(name, str) for name in paths):
        raise UserError(f"{where} (id {entry['id']}): field 'image_path': expected a list of file names, got {paths!r}")
    if not isinstance(report, str):
        raise UserError(f"{where} (id {entry['id']}): field 'report': expected a text, got {report!r}")
    return entry["id"], [PurePosixPath(name).stem for name in paths], report
