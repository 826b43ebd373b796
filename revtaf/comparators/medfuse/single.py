"""MedFuse-CLIP on images that no set knows: the nearest reports of its training set, the first of them as the report.

It writes nothing itself: what it says of an image is what somebody wrote of another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from revtaf.engine.runtime import read_jsonl
from revtaf.errors import UserError
from revtaf.generate.asked import Asked
from revtaf.generate.pictures import look
from revtaf.generate.result import ImageReport, RetrievedReport
from revtaf.search.exact import nearest

if TYPE_CHECKING:
    from revtaf.comparators.medfuse.system import MedFuse

POINTS, REPORTS = "points.safetensors", "reports.jsonl"  # in a model's folder: the training reports
SHOWN = 5  # reports for an image


def write(system: MedFuse, images: Sequence[Path], asked: Asked) -> list[ImageReport]:
    """The SHOWN nearest reports of each image; their distance is 1 - cosine. UserError for a folder without reports."""
    asked.refuse("MedFuse-CLIP", statuses=True, retrieval=True)
    if not images:
        return []
    reports, points = kept(system.folder)
    similar, rows = nearest([points], system.embed_images(images), min(SHOWN, len(reports)))
    written = []
    for image, cosines, found in zip(images, similar.tolist(), rows.tolist(), strict=True):
        picture, warnings = look(Path(image), system.settings.image.resize, system.settings.image.size)
        retrieved = tuple(
            RetrievedReport(reports[row]["id"], 1 - cosine, reports[row]["report"])
            for cosine, row in zip(cosines, found, strict=True)
        )
        written.append(ImageReport(Path(image), picture, retrieved[0].report, retrieved=retrieved, warnings=warnings))
    return written


def holds_reports(folder: Path | None) -> bool:
    """Whether a model's folder has the training reports and their points."""
    return folder is not None and (folder / REPORTS).is_file() and (folder / POINTS).is_file()


def kept(folder: Path | None) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The training reports (N,) of a model's folder, {"id", "report"}, and their points (N, D). UserError where it has
    none, or not as many of both."""
    if not holds_reports(folder):
        raise UserError(
            f"MedFuse-CLIP writes no reports, it finds them, and {folder} holds none: make an index of yours with "
            "`revtaf index` and ask it with `revtaf search`; or attach the training reports with `revtaf export "
            "--reports`"
        )
    try:
        points = load_file(folder / POINTS)["points"]
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder / POINTS} is damaged: {error}; copy the folder again") from None
    reports = read_jsonl(folder / REPORTS)
    if len(reports) != len(points):
        raise UserError(f"{folder}: {len(reports)} reports, but {len(points)} points; copy the folder again")
    return reports, points
