"""What was found, in words: one answer for each query, as text, as JSON, and as what a page shows.

What matches differs by query: words that a text shares with a report, or, of an image, the sentence of the report whose
own embedding is nearest to it. "No effusion" shares a word with "effusion": what a report says otherwise than the text
is listed too, as the rule labeler reads both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from textwrap import fill, shorten
from typing import Any

import numpy as np

from revtaf.data.text import readable, readable_sentences
from revtaf.knowledge import english
from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES, NEGATIVE, POSITIVE, STATUSES
from revtaf.pages.cards import content_words
from revtaf.search.index import IMAGES, REPORTS, Found, SearchIndex

NOTICE = "Not a medical device: research output, not to be used in the care of patients."
_WIDTH = 100  # of a line on the terminal


@dataclass
class Hit:
    """A row that was found. images: paths below `root`; report: its text, of an image that of its study.

    words: those that a text query and the report share; contradicts: categories that one affirms and the other denies;
    sentence: of the report, the nearest to an image query, and its cosine.
    """

    rank: int
    score: float
    row: int
    id: str
    study: str
    patient: str
    split: str
    images: list[str]
    root: str
    report: str
    words: list[str] = field(default_factory=list)
    contradicts: list[str] = field(default_factory=list)
    sentence: str = ""
    sentence_score: float | None = None


@dataclass
class SearchAnswer:
    """A query ({"image": path} or {"text": text}), what was searched and how, and the hits, best first."""

    query: dict[str, str]
    of: str
    engine: str
    recall: float | None
    excluded_patients: list[str]
    hits: list[Hit]
    notice: str = NOTICE


def answers_of(
    index: SearchIndex, of: str, queries: Sequence[dict[str, str]], found: Found, excluded: Sequence[str]
) -> list[SearchAnswer]:
    """The rows that were found, with what the index knows of them."""
    return [
        SearchAnswer(
            query,
            of,
            found.engine,
            found.recall,
            list(excluded),
            [_hit(index, of, rank, s, r) for rank, (s, r) in enumerate(zip(scores, rows, strict=True), start=1)],
        )
        for query, scores, rows in zip(queries, found.score.tolist(), found.row.tolist(), strict=True)
    ]


def _hit(index: SearchIndex, of: str, rank: int, score: float, row: int) -> Hit:
    record = index.galleries[of].record(row)
    if of == IMAGES:
        images, report = [record["image"]], index.galleries[REPORTS].record(record["report"])["text"]
    else:
        images, report = record["images"], record["text"]
    same = {name: record[name] for name in ("id", "study", "patient", "split")}
    root = index.manifest["sources"][record["source"]].get("images", "")
    return Hit(rank=rank, score=score, row=row, images=images, root=root, report=report, **same)


def match_words(answers: Sequence[SearchAnswer]) -> None:
    """Fill `words` of every hit, in the order of the report (frequent words without meaning do not count), and
    `contradicts`, of English texts alone."""
    labeler = RuleLabeler()
    english_texts = not english.read([hit.report for answer in answers for hit in answer.hits]).foreign
    for answer in answers:
        asked = content_words(answer.query["text"])
        statuses = labeler.label([answer.query["text"], *(hit.report for hit in answer.hits)])
        opposite = {POSITIVE: NEGATIVE, NEGATIVE: POSITIVE}
        for hit, found in zip(answer.hits, statuses[1:], strict=True):
            pairs = zip(CATEGORIES, statuses[0].tolist(), found.tolist(), strict=True)
            hit.contradicts = [f"{name} is {STATUSES[b]} here" for name, a, b in pairs if opposite.get(a) == b]
            hit.contradicts *= english_texts
            words = dict.fromkeys(re.findall(r"[\w-]+", hit.report.lower()))
            hit.words = [word for word in words if word in asked]


def match_sentences(
    answers: Sequence[SearchAnswer], queries: np.ndarray, embed: Callable[[list[str]], np.ndarray], at_once: int = 64
) -> None:
    """Fill `sentence` and its score of every hit: queries (Q, W) and `embed` of texts are vectors of the index."""
    parts = {hit.report: readable_sentences(hit.report) for answer in answers for hit in answer.hits}
    distinct = sorted({sentence for sentences in parts.values() for sentence in sentences})
    if not distinct:
        return
    batches = [distinct[start : start + at_once] for start in range(0, len(distinct), at_once)]
    vectors = np.concatenate([embed(batch) for batch in batches])
    number = {sentence: i for i, sentence in enumerate(distinct)}
    for answer, query in zip(answers, queries, strict=True):
        for hit in answer.hits:
            if sentences := parts[hit.report]:
                scores = vectors[[number[sentence] for sentence in sentences]] @ query
                hit.sentence, hit.sentence_score = sentences[int(scores.argmax())], float(scores.max())


def as_json(answer: SearchAnswer) -> dict[str, Any]:
    """A line of JSON; scores with six decimals."""
    content = asdict(answer)
    for hit in content["hits"]:
        hit["score"] = round(hit["score"], 6)
        if hit["sentence_score"] is not None:
            hit["sentence_score"] = round(hit["sentence_score"], 6)
    return content


def as_text(answers: Sequence[SearchAnswer]) -> str:
    """For the terminal."""
    lines = []
    for answer in answers:
        asked = answer.query.get("image") or f'"{shorten(readable(answer.query["text"]), 80, placeholder=" ...")}"'
        lines += [f"{asked} -> {answer.of}", answer.engine]
        if answer.excluded_patients:
            lines.append(f"without patients {', '.join(answer.excluded_patients)}")
        for hit in answer.hits:
            lines.append(f"{hit.rank:3d}  {hit.score:+.4f}  {title(hit, answer.of)}  ({origin(hit)})")
            text = shorten(readable(hit.report), 240, placeholder=" ...")
            lines.append(fill(text, _WIDTH, initial_indent=" " * 5, subsequent_indent=" " * 5))
            if match := matching(hit):
                lines.append(f"     {match}")
        lines.append("")
    return "\n".join([*lines, NOTICE])


def title(hit: Hit, of: str) -> str:
    """What a hit is called: an image by its file, a report by its study."""
    return hit.images[0] if of == IMAGES else hit.study or hit.id


def origin(hit: Hit) -> str:
    """Where a hit is from."""
    return ", ".join([hit.split, *([f"patient {hit.patient}"] if hit.patient else [])])


def matching(hit: Hit) -> str:
    """What matches, in one line; "" where nothing does."""
    if hit.sentence:
        return f"nearest sentence {hit.sentence_score:+.3f}: {hit.sentence}"
    shared = [f"shared words: {', '.join(hit.words)}"] if hit.words else []
    return "; ".join([*shared, *(f"but {name}" for name in hit.contradicts[:1]), *hit.contradicts[1:]])
