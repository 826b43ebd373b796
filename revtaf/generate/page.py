"""The page of `generate`: the report of each image beside what it rests on, in one file that loads nothing.

The picture comes with an overlay of each text's attention, the decided statuses with their probabilities, the texts
with the phrases that they share. Several images stand in a gallery that is searched, filtered and sorted.

What is shown of an image is a line of JSON in the page, escaped like every other text; the page's own scripts make
elements of it, and texts become text nodes. The Content-Security-Policy names the hashes of these scripts: no other one
runs, whatever a report says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from revtaf.files import atomic_write
from revtaf.generate.result import NOTICE, ImageReport, TextAttention
from revtaf.pages.cards import Piece
from revtaf.pages.environment import environment, fill
from revtaf.pages.images import picture_data
from revtaf.pages.phrases import PALETTE, coloured
from revtaf.pages.report import plain_json

_SCRIPTS = ("view.js", "gallery.js")
_UPLOAD = "upload.js"  # of the served page alone
_GENERATED = "generated"


class Upload(NamedTuple):
    """What a served page takes. said: in words. limit: bytes of a file."""

    said: str
    limit: int


def write_page(reports: Sequence[ImageReport], path: Path, title: str, facts: Mapping[str, str]) -> None:
    """Write the page of `reports`, at least one, in their order. facts: what wrote them, by name, shown at the end.

    Some 20 kB an image of 224 x 224 pixels. Raises UserError where the disk is full or the place not writable.
    """
    page = page_text(reports, title, facts)
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")


def page_text(
    reports: Sequence[ImageReport], title: str, facts: Mapping[str, str], upload: Upload | None = None
) -> str:
    """The HTML. upload: where the page is served (`revtaf.generate.serve`), what it takes; None: it is a file."""
    scripts = [*_SCRIPTS, *([_UPLOAD] if upload else [])]
    shown = [view(report, name) for report, name in zip(reports, _names(reports), strict=True)]
    return fill(
        "generate.html",
        title=title,
        notice=NOTICE,
        facts=list(facts.items()),
        upload=upload,
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        ramp=_ramp(),
        records=[json.dumps(record) for record in shown],  # ASCII: a file's name may be no Unicode text
    )


def view(report: ImageReport, name: str | None = None) -> dict[str, Any]:
    """What the page shows of one image, as JSON. name: of the image; its file's by default.

    Phrases are matched with the reference, where there is one, else with the first retrieved report; a report that is
    that one, word for word ("taken": its system finds reports), is matched with the reference alone. A text is a list
    of [text, number of its colour or -1].
    """
    found = [other.report for other in report.retrieved]
    taken = bool(found) and found[0] == report.report
    texts = {_GENERATED: report.report} | {str(i): text or "" for i, text in enumerate(found)}
    known = report.reference
    beside = known is None and bool(found) and not taken
    if beside:
        known = texts.pop("0")
    pieces = coloured(known or "", texts)
    if beside:
        pieces["0"] = pieces[""]
    return plain_json(
        {
            "name": name or report.image.name,
            "picture": picture_data(report.picture),
            "width": report.picture.width,
            "height": report.picture.height,
            "report": _numbered(pieces[_GENERATED]),
            "taken": taken,
            "reference": None if report.reference is None else _numbered(pieces[""]),
            "retrieved": [
                {
                    "id": other.id,
                    "distance": other.distance,
                    "report": None if other.report is None else _numbered(pieces[str(i)]),
                }
                for i, other in enumerate(report.retrieved)
            ],
            "statuses": [vars(status) for status in report.statuses],
            "attention": [_map(entry) for entry in report.attention],
            "clues": report.clues,
            "warnings": report.warnings,
            "scores": dict(report.scores),
        }
    )


def _map(entry: TextAttention) -> dict[str, Any]:
    """The weights as bytes, row by row, scaled from the map's minimum to its maximum: where, not how much."""
    weights = np.asarray(entry.map, dtype=np.float32)
    if not np.isfinite(weights).all():
        raise ValueError(f"the map of {entry.text!r} has values that are not finite")
    span = float(np.ptp(weights))
    scaled = (weights - weights.min()) / span if span > 0 else np.zeros_like(weights)
    values = base64.b64encode((255 * scaled).round().astype(np.uint8).tobytes()).decode("ascii")
    height, width = weights.shape
    said = {"text": entry.text, "kind": entry.kind, "constant": not span > 0}
    return said | {"width": width, "height": height, "values": values}


def _numbered(pieces: Sequence[Piece]) -> list[tuple[str, int]]:
    return [(piece.text, PALETTE.index(piece.mark) if piece.mark else -1) for piece in pieces]


def _names(reports: Sequence[ImageReport]) -> list[str]:
    """The names of the files, or, where two are the same, their paths below the folder that all have in common."""
    paths = [report.image for report in reports]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    absolute = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in absolute])
    return [Path(os.path.relpath(path, root)).as_posix() for path in absolute]


@cache
def _hash(script: str) -> str:
    """The source that the policy allows: the hash of exactly what stands between the tags."""
    content = environment().get_template(script).render().encode("utf-8")
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode('ascii')}'"


@cache
def _ramp() -> str:
    """256 colours from low to high, as bytes: the ones of the cards in report.html."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(colours.tobytes()).decode("ascii")
