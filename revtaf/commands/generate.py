"""`revtaf generate`: images in, reports out, as text, JSON lines and a page; no annotation, one process."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

import revtaf
from revtaf import systems
from revtaf.engine.folder import find_model, model_identity
from revtaf.engine.runtime import write_jsonl
from revtaf.engine.system import System
from revtaf.generate.asked import Asked, read_statuses
from revtaf.generate.batches import Unreadable, write_batches
from revtaf.generate.inputs import Wanted, find_images
from revtaf.generate.journal import Journal
from revtaf.generate.result import ImageReport
from revtaf.generate.scores import with_scores
from revtaf.generate.text import as_text
from revtaf.locks import alone

REPORTS, UNREADABLE, PAGE = "reports.jsonl", "unreadable.jsonl", "report.html"
BATCH = 16  # images at once, where the model's settings do not say
ON_PAGE = 500  # images of one page, about 20 KB each; the JSON lines have all


@dataclass
class GenerateRequest:
    """What the command line asks for; see `revtaf generate --help`."""

    checkpoint: Path
    images: Sequence[Path]
    out: Path | None = None
    status: str = ""
    no_retrieval: bool = False
    retrieved: str | None = None
    json: bool = False
    batch_size: int | None = None
    device: str = "auto"

    def asked(self) -> dict:
        """What is decided in the model's place, as `System.write` takes it. UserError where it does not fit."""
        asked = Asked(read_statuses(self.status), not self.no_retrieval, self.retrieved)
        return {"statuses": dict(asked.statuses), "retrieve": asked.retrieve, "retrieved": asked.retrieved}


def generate(request: GenerateRequest) -> list[Unreadable]:
    """Write, print and keep the report of every image that can be read; returns those that cannot be.

    Of a command that was interrupted what is done is kept, and the same command goes on from there.
    """
    asked, wanted = request.asked(), find_images(request.images)
    place = find_model(request.checkpoint)
    system = revtaf.load(place, device=request.device)
    with nullcontext() if request.out is None else alone(request.out, "writing reports", wait=False):
        journal = None
        if request.out is not None:
            journal = Journal(request.out, {"model": model_identity(place), "asked": asked})
        reports, unreadable = _write(request, system, wanted, asked, journal)
        if any(one.reference for one in wanted):
            reports = with_scores(reports, system.settings.training_data.language)
            for report in reports:
                _show(request, report)
        if request.out is not None:
            _keep(request, system, wanted, reports, unreadable, asked)
            journal.close()
    if unreadable:
        print(f"{len(unreadable)} of {len(wanted)} images could not be read:", file=sys.stderr)
        for one in unreadable:
            print(f"  {one.reason}", file=sys.stderr)
    return unreadable


def _write(
    request: GenerateRequest, system: System, wanted: Sequence[Wanted], asked: dict, journal: Journal | None
) -> tuple[list[ImageReport], list[Unreadable]]:
    """What is not done yet; everything in the order that was asked for. Printed as it comes, where no scores are to
    come with it. Of the page's images what was done without a picture is done again."""
    at_once = not any(one.reference for one in wanted)
    paged = {one.image for one in wanted[:ON_PAGE]}
    done = {} if journal is None else journal.done
    earlier = [done[one.image] for one in wanted if one.image in done]
    found = {o.image: _for_page(o, paged) for o in earlier if o.image not in paged or o.picture is not None}
    unreadable: list[Unreadable] = []
    for report in found.values() if at_once else ():
        _show(request, report)
    images = [one.image for one in wanted if one.image not in found]
    with tqdm(total=len(wanted), initial=len(found), desc="writing reports", unit="image", leave=False) as bar:
        for written in write_batches(system, images, asked, _batch_size(request, system)):
            if isinstance(written, Unreadable):
                unreadable.append(written)
            else:
                found[written.image] = written = _for_page(written, paged)
                if journal is not None:
                    journal.add(written)
                if at_once:
                    _show(request, written)
            bar.update()
    return [replace(found[o.image], reference=o.reference) for o in wanted if o.image in found], unreadable


def _for_page(report: ImageReport, paged: Collection[Path]) -> ImageReport:
    """Pictures are for the page alone: those of a whole data set would fill memory and disk."""
    return report if report.image in paged else report.without_pictures()


def _batch_size(request: GenerateRequest, system: System) -> int:
    """Images at once; the system's own batches are made as large."""
    generation = getattr(system.settings, "generation", None)
    if request.batch_size is None:
        return getattr(generation, "batch_size", BATCH)
    if hasattr(generation, "batch_size"):
        generation.batch_size = request.batch_size
    return request.batch_size


def _show(request: GenerateRequest, report: ImageReport) -> None:
    text = json.dumps(report.record(), ensure_ascii=False) if request.json else as_text(report) + "\n"
    tqdm.write(text, file=sys.stdout)


def _keep(
    request: GenerateRequest,
    system: System,
    wanted: Sequence[Wanted],
    reports: list[ImageReport],
    unreadable: list[Unreadable],
    asked: dict,
) -> None:
    """The files of the folder. The page is of the first ON_PAGE images that were asked for; no page where none of these
    can be read, nor an earlier one."""
    from revtaf.generate.page import write_page

    folder, told = request.out, sys.stderr if request.json else sys.stdout
    write_jsonl(folder / REPORTS, [report.record() for report in reports])
    print(f"reports: {folder / REPORTS}", file=told)
    if unreadable:
        write_jsonl(folder / UNREADABLE, [{"image": o.name, "error": o.reason} for o in unreadable])
    else:
        (folder / UNREADABLE).unlink(missing_ok=True)
    paged = {one.image for one in wanted[:ON_PAGE]}
    if shown := [report for report in reports if report.image in paged]:
        facts = _facts(system, len(reports), len(shown), len(unreadable), asked)
        write_page(shown, folder / PAGE, system.settings.name, facts)
        print(f"page: {folder / PAGE}", file=told)
    else:
        (folder / PAGE).unlink(missing_ok=True)


def _facts(system: System, written: int, shown: int, unreadable: int, asked: dict) -> dict[str, str]:
    """What the page says of the command."""
    settings = system.settings
    images = str(written) if shown == written else f"{shown} of {written}; all are in {REPORTS}"
    facts = {
        "system": systems.find(settings.system).title,
        "model": f"{settings.name}, trained on {settings.training_data.name}",
        "images": images + (f"; {unreadable} could not be read" if unreadable else ""),
    }
    if asked["statuses"]:
        facts["statuses given"] = ", ".join(f"{name}: {status}" for name, status in asked["statuses"].items())
    if asked["retrieved"] is not None:
        facts["retrieved report"] = "given"
    elif not asked["retrieve"]:
        facts["retrieved report"] = "left out"
    return facts | dict(system.notes) | {"revtaf": revtaf.__version__}
