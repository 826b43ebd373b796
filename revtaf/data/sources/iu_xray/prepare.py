"""IU X-Ray (Open-i, Demner-Fushman et al. 2016) -> our annotation, in one of two ways.

From R2Gen's package (see `r2gen`): its reports, images and split.
From Open-i's raw files (`split` given; see `raw` and `open_i`): studies, texts and views come from the XML,
images from `NLMCXR_png/` or `images/`; the split is one for all, a random one, or that of an R2Gen annotation.
Open-i numbers reports, not patients: "CXR2384" is the best patient key that exists.
"""

from __future__ import annotations

from pathlib import Path

from revtaf.data.annotations import save_annotations
from revtaf.data.sources.iu_xray.open_i import FOLDER, IMAGE_FOLDERS
from revtaf.data.sources.iu_xray.r2gen import read_package
from revtaf.data.sources.iu_xray.raw import raw_annotations, read_raw, write_manifest
from revtaf.data.sources.placing import check_kept, check_out, check_place, place_images
from revtaf.data.text import SECTIONS
from revtaf.errors import UserError
from revtaf.files import write_json

MANIFEST = "manifest.csv.gz"


def prepare_iu_xray(
    source: Path,
    out: Path,
    annotation: Path | None = None,
    test: Path | None = None,
    split: str | None = None,
    seed: int = 0,
    blanks: str = "keep",
    sections: str = "findings",
    missing: str = "error",
    projections: Path | None = None,
    copy: bool = False,
) -> Path:
    """Check the source and write `out/annotation.json`, without labels; returns that path.

    Without `split`, R2Gen's package is read; `annotation` replaces `source/annotation.json`.
    With `split`, Open-i's raw files are read: "whole" (everything is test), "random" (70/10/20 by report number and
    `seed`), or an R2Gen annotation, of which ids and splits alone are used. In this mode

    - `blanks` "drop" removes the `XXXX` that stand for removed words from reports and indications;
    - `sections` "findings+impression" appends the impression to the findings; either may be absent;
    - `missing` "drop" leaves out images that are not there, and studies without any, where "error" lists them;
    - `projections`, Kaggle's `indiana_projections.csv`, says which image is frontal;
    - `out/manifest.csv.gz` holds all texts as published, one row per study.

    `test` is a file with the test split (a list, or an object with "test") where the annotation lacks it.
    `out/images` becomes a link to the source's images, or a copy of those in use with `copy`; a folder that is no
    such copy is never replaced. Everything is checked before the first byte is written; raises UserError.
    """
    source, out, test = Path(source), Path(out), Path(test) if test else None
    _check_choice("blanks", blanks, ("keep", "drop"))
    _check_choice("sections", sections, SECTIONS)
    _check_choice("missing", missing, ("error", "drop"))
    if not source.is_dir():
        raise UserError(f"IU X-Ray source folder not found: {source}; docs/data.md says how to get it")
    check_out(out, (source, *(source / name for name in (*IMAGE_FOLDERS, FOLDER))))
    studies = None
    if split is None:
        if (seed, blanks, sections, missing, projections) != (0, "keep", "findings", "error", None):
            raise UserError("seed, blanks, sections, missing and projections are for Open-i's raw files; add --split")
        annotation = Path(annotation) if annotation else source / "annotation.json"
        check_kept(out, annotation, test)
        images = source / "images"
        annotations, record = read_package(source, annotation, test)
    else:
        if annotation:
            raise UserError(f"--annotation {annotation} and --split {split} exclude each other; give one of them")
        projections = Path(projections) if projections else None
        check_kept(out, Path(split), test, projections)
        studies, images, record = read_raw(source, str(split), test, seed, blanks, sections, missing, projections)
        annotations = raw_annotations(studies)

    paths = [path for entries in annotations.values() for study in entries for path in study.image_path]
    check_place(images, out / "images", copy)
    # The annotation goes first and comes last: after an interruption, an old one never stands beside new files.
    (out / "annotation.json").unlink(missing_ok=True)
    place_images(images, out / "images", paths, copy)
    (out / MANIFEST).unlink(missing_ok=True)
    if studies:
        write_manifest(out / MANIFEST, studies)
    counts = {name: len(entries) for name, entries in annotations.items()}
    write_json(
        out / "source.json",
        {"source": "IU X-Ray (Open-i)", "studies": counts, "images": "copy" if copy else "link"} | record,
    )
    save_annotations(out / "annotation.json", annotations)
    print("IU X-Ray: " + ", ".join(f"{name} {n:,}" for name, n in counts.items()) + f" -> {out}")
    return out / "annotation.json"


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"--{name} {value}: expected {' or '.join(choices)}")
