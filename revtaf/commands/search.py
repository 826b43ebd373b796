"""`revtaf search`: reports for an image, images for a text, images for an image; as text, JSON and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import revtaf
from revtaf.data.image_names import find_file, why_absent
from revtaf.data.images import read_image
from revtaf.engine.folder import find_model, model_identity
from revtaf.engine.runtime import write_jsonl
from revtaf.engine.system import System
from revtaf.errors import UserError
from revtaf.files import atomic_write, spelled
from revtaf.search.answers import SearchAnswer, answers_of, as_json, as_text, match_sentences, match_words
from revtaf.search.index import IMAGES, REPORTS, SearchIndex
from revtaf.search.page import render

MOST_WORDS = 1000  # of a query; no report is as long, and an encoder reads its first hundred or so


@dataclass
class SearchRequest:
    """What the command line asks for; see `revtaf search --help`."""

    index: Path
    images: Sequence[Path] = ()
    text: Sequence[str] = ()
    k: int = 10
    of: str | None = None
    checkpoint: Path | None = None
    exclude_patient: Sequence[str] = field(default_factory=list)
    jsonl: Path | None = None
    page: Path | None = None
    image_root: Path | None = None
    verify: bool = False
    device: str = "auto"


def search(request: SearchRequest) -> list[SearchAnswer]:
    """Check everything, then encode, find, print and write. Raises UserError before a model is opened, where it can."""
    _check_queries(request)
    index = SearchIndex.open(request.index, request.verify)
    asked = IMAGES if request.images else REPORTS
    of = request.of or (REPORTS if request.images else IMAGES)
    index.check(of, request.k, request.exclude_patient)
    system = _model(index, request)
    if request.images:
        vectors = index.queries(system.embed_images(request.images))
        queries = [{"image": str(path)} for path in request.images]
    else:
        vectors = index.queries(system.embed_texts(request.text))
        queries = [{"text": text} for text in request.text]
    found = index.search(of, vectors, request.k, request.exclude_patient, asked)
    answers = answers_of(index, of, queries, found, request.exclude_patient)
    if request.images:
        match_sentences(answers, vectors, lambda texts: index.queries(system.embed_texts(texts)))
    else:
        match_words(answers)
    print(as_text(answers))
    if request.jsonl:
        write_jsonl(request.jsonl, [as_json(answer) for answer in answers])
    if request.page:
        page = render(answers, index, request.image_root)
        with atomic_write(request.page) as partial:
            partial.write_text(page, encoding="utf-8")
        print(f"page: {request.page}")
    return answers


def _check_queries(request: SearchRequest) -> None:
    if request.images and request.text:
        raise UserError("give images or --text, not both")
    if not request.images and not request.text:
        raise UserError('nothing to search for: name an image, or give --text "..."')
    for text in request.text:
        if not any(character.isalnum() for character in text):
            raise UserError("--text: there is no word in it; give a sentence or a report")
        if (words := len(text.split())) > MOST_WORDS:
            raise UserError(
                f"--text: {words} words, at most {MOST_WORDS} are taken; an encoder reads far fewer, so ask with the "
                "sentences that matter"
            )
    for path in request.images:
        if not find_file(path):
            raise UserError(f"image not found: {path}{why_absent(path)}")
        if (request.jsonl or request.page) and (name := spelled(path)) != str(path):
            raise UserError(f"{name}: its name is not UTF-8, so neither --jsonl nor --page can name it; rename it")
        read_image(path)  # its error names the file


def _model(index: SearchIndex, request: SearchRequest) -> System:
    """The model that made the index."""
    named = request.checkpoint or Path(index.manifest["model"]["folder"])
    if request.checkpoint is None and not named.is_dir():
        raise UserError(f"the model of this index was in {named} and is not there; say where with --checkpoint")
    place = find_model(named)
    index.check_model(model_identity(place), place)
    return revtaf.load(place, device=request.device)
