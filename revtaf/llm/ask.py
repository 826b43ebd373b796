"""Asking an LLM for a report of every image: one line of JSONL per answer, safe to interrupt, and never MIMIC unasked.

The file grows by whole lines that are on the disk before the next question is asked. The same command continues it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from revtaf.errors import UserError
from revtaf.eval.record_files import listed, read_table
from revtaf.files import read_json
from revtaf.llm.client import Client, image_type
from revtaf.llm.endpoint import Endpoint, Prompt, read_prompt
from revtaf.locks import alone

PHYSIONET_RULE = "https://physionet.org/news/post/llm-responsible-use"
# The name of a MIMIC-CXR image: five groups of eight hexadecimal digits. R2Gen's and our annotations use it as the id.
_MIMIC_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}")
_MIMIC_FOLDER = re.compile(r"mimic[-_ ]?cxr(?:[-_ ]?jpg)?(?:[-_ ]?v?[\d.]+)?")

log = logging.getLogger("revtaf")


def run(
    endpoint: Endpoint,
    samples: Iterable[tuple[str, str | Path]],
    out: str | Path,
    *,
    prompt: Prompt | None = None,
    agreement_allows: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Ask for a report of every (id, image) that `out` does not hold yet, in their order.

    out: JSONL of {"id", "text", "seconds", "model", "prompt", "max_tokens", "served_model", "finish_reason"}, which
    `revtaf.llm.outputs.read_outputs` reads. prompt: the paper's by default. agreement_allows: the user's word that the
    data agreement permits sending MIMIC-CXR images to this endpoint.

    Raises UserError before the first question for: a missing key, duplicate ids, an image that is missing or neither
    JPEG nor PNG, images of MIMIC-CXR, an `out` of another model or prompt. Later, where the endpoint gives up.
    """
    out = Path(out)
    if out.suffix != ".jsonl":
        raise UserError(f"{out}: the answers are written as JSON Lines; give it a name ending in .jsonl")
    prompt = prompt or read_prompt()
    images = [(str(name), Path(image)) for name, image in samples]
    repeated = [name for name, count in Counter(name for name, _ in images).items() if count > 1]
    if repeated:
        raise UserError(f"duplicate ids among the samples: {listed(repeated)}; ask for each once")
    if not agreement_allows:
        refuse_mimic(images)
    for _, image in images:
        image_type(image)
    endpoint.key()
    made_by = {"model": endpoint.model, "prompt": prompt.digest, "max_tokens": endpoint.max_tokens}
    client = Client(endpoint, prompt, sleep=sleep, clock=clock)
    with alone(out.with_name(f".{out.name}.asking"), f"asking for {out.name}", wait=False):
        _ask(client, images, out, made_by)


def _ask(client: Client, images: list[tuple[str, Path]], out: Path, made_by: dict[str, Any]) -> None:
    """Add the answers that `out` lacks."""
    with _clear_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        done = _resume(out, made_by)
    left = [(name, image) for name, image in images if name not in done]
    if not left:
        return
    progress = tqdm(left, desc=made_by["model"], unit="image", initial=len(images) - len(left), total=len(images))
    with _clear_errors(out), open(out, "a", encoding="utf-8") as file, progress:
        for name, image in progress:
            try:
                answer = client.ask(image)
            except UserError as error:
                raise UserError(f"{error} (id {name}; {out} keeps what is done, the same command continues)") from None
            record = {"id": name, "text": answer.text, "seconds": round(answer.seconds, 3)} | made_by
            record |= {"served_model": answer.model, "finish_reason": answer.finish_reason}
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())  # an answer costs money: it survives a crash of the machine


@contextmanager
def _clear_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; the same command continues") from None


def refuse_mimic(images: Iterable[tuple[str, Path]]) -> None:
    """Raise UserError for the first image that belongs to MIMIC-CXR.

    Known by a `source.json` in one of its folders (links followed or not) that names MIMIC, by such a folder's own
    name, or by an id or file name in MIMIC-CXR's form. A renamed copy elsewhere cannot be recognised.
    """
    known: dict[Path, bool] = {}
    for name, image in images:
        places = {Path(os.path.abspath(image)), Path(os.path.realpath(image))}
        names = {name.lower(), *(place.stem.lower() for place in places)}
        folders = {folder for place in places for folder in place.parents}
        if any(map(_MIMIC_NAME.fullmatch, names)) or any(_holds_mimic(folder, known) for folder in folders):
            raise UserError(
                f"{image} (id {name}) is an image of MIMIC-CXR. PhysioNet's credentialed data use agreement forbids "
                "sharing it with third parties, sending it through the API of an online service included "
                f"({PHYSIONET_RULE}). Use another data set; or, where your agreement allows this endpoint, such as a "
                "model on your own machine, say so explicitly (agreement_allows)"
            )


def _holds_mimic(folder: Path, known: dict[Path, bool]) -> bool:
    if folder not in known:
        record = folder / "source.json"
        content = read_json(record, "source of the images") if os.path.isfile(record) else None
        source = str(content.get("source", "")) if isinstance(content, dict) else ""
        known[folder] = bool(re.search("mimic", source, re.I) or _MIMIC_FOLDER.fullmatch(folder.name.lower()))
    return known[folder]


def _resume(out: Path, made_by: dict) -> set[str]:
    """The ids that `out` holds, after repairing its last line. Raises UserError for a file made otherwise."""
    if not out.exists():
        return set()
    _repair(out)
    done: set[str] = set()
    for where, record in read_table(out):
        if not isinstance(record.get("id"), str) or "text" not in record:
            raise UserError(f"{where}: not an answer of this command; name another file")
        for name, value in made_by.items():
            if record.get(name) != value:
                raise UserError(
                    f"{where}: made with {name} {record.get(name)!r}, this run has {value!r}; name another file"
                )
        done.add(record["id"])
    return done


def _repair(out: Path) -> None:
    """Take away the line that a killed run left unfinished; a finished one that lacks only its end is kept."""
    with open(out, "r+b") as file:
        content = file.read()
        whole, _, last = content.rpartition(b"\n")
        if not last:
            return
        try:
            json.loads(last)
            file.write(b"\n")
        except (ValueError, RecursionError):
            log.warning("%s: the last line is unfinished; its question is asked again", out)
            file.truncate(len(whole) + 1 if whole else 0)
        file.flush()
        os.fsync(file.fileno())
