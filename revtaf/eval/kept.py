"""What a test scored, kept: statistics.safetensors beside report.json, so that no table scores the same texts again.

The file holds the statistics of every metric of every row, which is all that a `Metric` is but its value function; the
name and the parameters of that are in the header. So a metric that is read equals the one that was scored to the last
bit, in its intervals and tests, too. Counts are kept in as few bytes as hold them: .6 MB a row at MIMIC-CXR's size.

The header also says what the numbers were made from, in digests: ids, references and texts, the labeler, METEOR's
version, and the code of the metrics. Where one of them is another today, the numbers are not used. report.json has the
file's SHA-256 and is written after it: a file that is not of this report, or is damaged, is never read. It holds no
report text.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from revtaf import __version__
from revtaf.errors import UserError
from revtaf.eval import bleu, cider, classified, clinical, meteor, meteor_score, metric, ngrams, nlg, radcliq, rouge
from revtaf.eval.metric import Metric
from revtaf.files import atomic_write, digest, read_json, sha256

FILE = "statistics.safetensors"
REPORT = "report.json"
ENTRY = "statistics"  # of report.json: the file's SHA-256
REPORTS, RANKINGS = "reports", "rankings"  # what was scored
FORMAT = 1
VALUES: dict[str, Callable[..., np.ndarray]] = {
    "mean": metric.mean,
    "median": metric.median,
    "share": metric.share,
    "mean auc": classified.mean_auc,
    "bleu": bleu.value,
    "meteor": meteor_score.value,
    "ce example": clinical.example,
    "ce micro": clinical.micro,
    "ce macro": clinical.macro,
    "inverse of mean": radcliq.inverse_of_mean,
}
_STATUSES = "statuses of the references"
log = logging.getLogger("revtaf")


@dataclass(frozen=True)
class Kept:
    """rows: name -> metric -> statistics, the system first. kind: REPORTS or RANKINGS. made_from: what has to be the
    same today, see `made_from_texts`. statuses: (N, 14 or 18) uint8 of the references. about: what else a reader needs
    of rankings, which leave no predictions beside."""

    rows: dict[str, dict[str, Metric]]
    kind: str = REPORTS
    made_from: dict[str, Any] = field(default_factory=dict)
    statuses: np.ndarray | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def of_texts(
        self,
        row: str | None,
        *,
        ids: Sequence[str],
        references: Sequence[str],
        texts: Sequence[str],
        protocol: str,
        labeler: str,
        meteor: str | None,
        classified: str | None = None,
    ) -> dict[str, Metric] | None:
        """The metrics of a row, the system's own where None, if they are of these very texts, by this protocol and this
        labeler, beside what the classifier said; else None. Without METEOR where it is of another version than
        `meteor`, or None is asked for."""
        name = next(iter(self.rows)) if row is None else row
        wanted = made_from_texts(ids, references, {name: texts}, protocol, labeler, meteor, classified=classified)
        held = dict(self.made_from)
        other_meteor = held.pop("meteor", None) != wanted.pop("meteor")
        held["texts"] = {name: held.get("texts", {}).get(name)}
        if self.kind != REPORTS or name not in self.rows or held != wanted:
            return None
        return {key: m for key, m in self.rows[name].items() if not (key == "METEOR" and (other_meteor or not meteor))}


def made_from_texts(
    ids: Sequence[str],
    references: Sequence[str],
    rows: Mapping[str, Sequence[str]],
    protocol: str,
    labeler: str,
    meteor: str | None,
    cider_idf: str = "references",
    classified: str | None = None,
) -> dict[str, Any]:
    """What the metrics of rows of processed texts depend on. protocol, labeler, meteor: their names with version.
    classified: the mark of what the classifier said, where the records hold it."""
    return {
        "ids": digest(list(ids)),
        "references": digest(list(references)),
        "texts": {name: digest(list(texts)) for name, texts in rows.items()},
        "protocol": protocol,
        "labeler": labeler,
        "meteor": meteor,
        "cider idf": cider_idf,
        "classified": classified,
        "revtaf": __version__,
        "code": _code(),
    }


def can_keep(m: Metric) -> bool:
    """Whether the value function is one of VALUES, so that it is found again by its name."""
    return _described(m.value) is not None


def write(folder: str | Path, kept: Kept) -> str:
    """Put the file into `folder`; returns its SHA-256, for the entry ENTRY of report.json. Metrics that `can_keep`
    refuses are left out."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {} if kept.statuses is None else {_STATUSES: np.asarray(kept.statuses, np.uint8)}
    rows: dict[str, dict[str, Any]] = {}
    for row, metrics in kept.rows.items():
        rows[row] = {}
        places: dict[int, str] = {}  # metrics that share their statistics are kept once, and share them again
        for name, m in metrics.items():
            if (described := _described(m.value)) is None:
                continue
            if id(m.statistics) not in places:
                place = f"{row}/{name}"
                while place in arrays:  # "a/b" and "c", "a" and "b/c"
                    place += "'"
                places[id(m.statistics)] = place
                arrays[place] = _narrow(np.ascontiguousarray(m.statistics, dtype=np.float64))
            rows[row][name] = [places[id(m.statistics)], *described, m.higher_is_better]
    header = {
        "format": FORMAT,
        "kind": kept.kind,
        "made from": kept.made_from,
        "about": kept.about,
        "rows": rows,
    }
    path = Path(folder) / FILE
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(arrays, {"header": json.dumps(header, ensure_ascii=False)}))
        return sha256(temporary)


def read(folder: str | Path) -> Kept | None:
    """What was kept in a folder with a report; None, and the reason in the log, where it may not be used."""
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        if read_json(Path(folder) / REPORT).get(ENTRY) != sha256(path):
            log.info("%s is not the one that %s was written with, or damaged: not used", path, REPORT)
            return None
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["header"])
            if header["format"] != FORMAT:
                log.info("%s has the format of another version: not used", path)
                return None
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        statuses = arrays.pop(_STATUSES, None)
        arrays = {key: values.astype(np.float64) for key, values in arrays.items()}
        rows = {
            row: {name: _metric(name, arrays, *found) for name, found in metrics.items()}
            for row, metrics in header["rows"].items()
        }
        return Kept(rows, header["kind"], header["made from"], statuses, header["about"])
    except (SafetensorError, OSError, UserError, ValueError, LookupError, TypeError) as error:
        log.info("%s cannot be read (%s): not used", path, error)
        return None


def _narrow(values: np.ndarray) -> np.ndarray:
    """The same numbers in one or two bytes each where they are such counts."""
    for kind in (np.uint8, np.uint16):
        with np.errstate(invalid="ignore"):
            narrow = values.astype(kind)
        if np.array_equal(narrow, values) and not np.signbit(values).any():
            return narrow
    return values


def _metric(name: str, arrays: Mapping[str, np.ndarray], place: str, value: str, parameters: dict, up: bool) -> Metric:
    function = VALUES[value]
    return Metric(name, arrays[place], partial(function, **parameters) if parameters else function, up)


def _described(value: Callable[..., np.ndarray]) -> tuple[str, dict[str, Any]] | None:
    """The function's name in VALUES and its parameters; None for any other."""
    function, parameters = (value.func, value.keywords) if isinstance(value, partial) else (value, {})
    if isinstance(value, partial) and value.args:
        return None
    return next(((name, parameters) for name, known in VALUES.items() if known is function), None)


@cache
def _code() -> str:
    """A digest of the modules that make statistics of texts: whoever changes a metric has it scored anew."""
    modules = (bleu, cider, classified, clinical, meteor, meteor_score, metric, ngrams, nlg, rouge)
    return digest([sha256(module.__file__) for module in modules])
