"""One image's report and what it rests on: the answer of `generate`, of `model.report(image)`, of the pages.

`ImageReport` has a part for everything that a system may tell of an image; a system that has no such part leaves it
empty. Statuses and the retrieved report are those of the paper's section 3.2, the maps those of its Figure 3.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from revtaf.pages.images import pixel_data

NOTICE = "Not a medical device: for research, not for the care of patients."


@dataclass(frozen=True)
class StatusAnswer:
    """What was decided of one category, or what the user gave in its place."""

    category: str
    status: str  # a name of `revtaf.labels.STATUSES`
    probabilities: dict[str, float]  # of each status, by its name
    given: bool = False  # overridden by the user; `probabilities` are the model's still


@dataclass(frozen=True)
class RetrievedReport:
    """A past report that the model found for the image."""

    id: str
    distance: float | None  # in the retrieval space; None where the user gave the text
    report: str | None  # None: the model's folder has no texts


@dataclass(frozen=True, eq=False)
class TextAttention:
    """Where the model looked for one text."""

    text: str
    kind: str  # "sentence": of the retrieved report (global map) | "entity": present in the image (local map)
    map: np.ndarray  # (h, w) float32 over the model's crop; sums to the mass of the text's row


@dataclass(frozen=True, eq=False)
class ImageReport:
    """The report of one image, and the reasons beside it."""

    image: Path
    picture: Image.Image | None  # 8-bit grey, what the model saw after resize and crop; None: `without_pictures`
    report: str
    statuses: tuple[StatusAnswer, ...] = ()
    retrieved: tuple[RetrievedReport, ...] = ()
    attention: tuple[TextAttention, ...] = ()
    clues: tuple[tuple[str, float], ...] = ()  # TRRG's
    warnings: tuple[str, ...] = ()  # of the image reader
    reference: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)  # of this sample, where a reference is given

    def record(self) -> dict[str, Any]:
        """A line of reports.jsonl: all but picture and maps; probabilities to six digits. docs/generate.md has the
        fields."""
        return {
            "image": str(self.image),
            "report": self.report,
            "statuses": [
                {
                    "category": s.category,
                    "status": s.status,
                    "probabilities": {name: round(p, 6) for name, p in s.probabilities.items()},
                    "given": s.given,
                }
                for s in self.statuses
            ],
            "retrieved": [
                {"id": r.id, "distance": None if r.distance is None else round(r.distance, 6), "report": r.report}
                for r in self.retrieved
            ],
            "clues": [{"name": name, "value": round(value, 6)} for name, value in self.clues],
            "warnings": list(self.warnings),
            "reference": self.reference,
            "scores": {name: round(value, 6) for name, value in self.scores.items()},
        }

    def without_pictures(self) -> ImageReport:
        """The same without picture and maps, which take most of its memory."""
        return replace(self, picture=None, attention=())

    def _repr_html_(self) -> str:
        """Picture and text, for notebooks."""
        picture = pixel_data(np.asarray(self.picture.convert("L")))
        decided = [s for s in self.statuses if s.status != "blank"]
        lines = [f"<p>{html.escape(self.report)}</p>"]
        if decided:
            said = ", ".join(f"{s.category}: {s.status}{' (given)' if s.given else ''}" for s in decided)
            lines.append(f"<p><b>Statuses</b> {html.escape(said)}</p>")
        for found in self.retrieved[:1]:
            text = found.report if found.report is not None else "(the model's folder has no texts)"
            lines.append(f"<p><b>Retrieved</b> {html.escape(found.id)}: {html.escape(text)}</p>")
        lines += [f"<p><b>Warning</b> {html.escape(warning)}</p>" for warning in self.warnings]
        lines.append(f"<p><small>{NOTICE}</small></p>")
        name = html.escape(self.image.name, quote=True)
        return (
            '<div style="display:flex;gap:1em;align-items:flex-start">'
            f'<img src="{picture}" alt="{name}" style="max-width:224px"><div>{"".join(lines)}</div></div>'
        )
