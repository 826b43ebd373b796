"""What is done of a long call, line by line in a file of its own: an interruption loses nothing of it.

The file lies in the folder of the results until all is done. Its first line says what the reports are made with, so
that only the same command goes on from there; a half line, of a process that was killed, is left out.

What goes on is what would have been without the interruption, so numbers are kept as they are. Pictures and maps are
kept of the images on the page alone: some 60 kB each, 20 GB for a data set of MIMIC-CXR's size.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from revtaf.data.image_names import find_file
from revtaf.engine.runtime import append_jsonl, read_jsonl
from revtaf.errors import UserError
from revtaf.files import state_of
from revtaf.generate.result import ImageReport, RetrievedReport, StatusAnswer, TextAttention

JOURNAL = ".reports.partial.jsonl"
FORMAT = 2  # 1: rounded numbers, a black picture where none was kept


class Journal:
    """Reports by image. made_with: whatever the reports depend on beside the image file, as JSON."""

    def __init__(self, folder: Path, made_with: Mapping[str, Any]):
        """UserError where the folder holds the unfinished work of another command."""
        self.path = folder / JOURNAL
        self.done: dict[Path, ImageReport] = {}
        lines, first = read_jsonl(self.path), {"format": FORMAT, "made_with": made_with}
        if len(lines) < 2:  # nothing is done: whoever began was refused, or stopped before the first report
            self.path.unlink(missing_ok=True)
            append_jsonl(self.path, first)
            return
        if lines[0] != first:
            raise UserError(
                f"{folder} holds unfinished reports of another command (model, options, version); give that command "
                f"again, choose another folder, or delete {self.path}"
            )
        for line in lines[1:]:
            path = Path(line["image"])
            if line["file"] == _state(path):
                self.done[path] = _report_of(path, line)
        self._end_whole_line()

    def add(self, report: ImageReport) -> None:
        """Keep one report."""
        self.done[report.image] = report
        append_jsonl(self.path, _line_of(report))

    def close(self) -> None:
        """All is done, and written elsewhere."""
        self.path.unlink(missing_ok=True)

    def _end_whole_line(self) -> None:
        """A killed process may have left half a line; the next one begins behind the last whole one."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with open(self.path, "r+b") as file:
                file.truncate(whole)


def _state(image: Path) -> list[int]:
    """Of the file that is read: the disk may spell its name otherwise."""
    return state_of(find_file(image) or image)


def _line_of(report: ImageReport) -> dict[str, Any]:
    return {
        "image": str(report.image),
        "file": _state(report.image),
        "picture": None if report.picture is None else _png(report.picture),
        "report": report.report,
        "statuses": [vars(status) for status in report.statuses],
        "retrieved": [vars(one) for one in report.retrieved],
        "attention": [
            {
                "text": one.text,
                "kind": one.kind,
                "shape": list(one.map.shape),
                "values": _text(one.map.astype("<f4").tobytes()),
            }
            for one in report.attention
        ],
        "clues": report.clues,
        "warnings": report.warnings,
    }


def _report_of(path: Path, line: Mapping[str, Any]) -> ImageReport:
    """The opposite of `_line_of`."""
    return ImageReport(
        image=path,
        picture=None if line["picture"] is None else Image.open(io.BytesIO(base64.b64decode(line["picture"]))),
        report=line["report"],
        statuses=tuple(StatusAnswer(**status) for status in line["statuses"]),
        retrieved=tuple(RetrievedReport(**one) for one in line["retrieved"]),
        attention=tuple(
            TextAttention(
                one["text"],
                one["kind"],
                np.frombuffer(base64.b64decode(one["values"]), "<f4").reshape(one["shape"]).astype(np.float32),
            )
            for one in line["attention"]
        ),
        clues=tuple((name, value) for name, value in line["clues"]),
        warnings=tuple(line["warnings"]),
    )


def _png(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return _text(content.getvalue())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
