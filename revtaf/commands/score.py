"""`revtaf score`: any system's predictions from a file, without model and without GPU, by the code that `test` uses."""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from revtaf import __version__
from revtaf.data.annotations import load_annotations
from revtaf.data.text import says_nothing
from revtaf.errors import UserError
from revtaf.eval import advanced, exports, floors, published
from revtaf.eval.advanced import AdvancedSources
from revtaf.eval.evaluate import HEADLINE, MODEL, Evaluation, Statuses, evaluate
from revtaf.eval.labels_file import read_statuses
from revtaf.eval.protocol import PROTOCOLS, UNLABELLED
from revtaf.eval.records import Samples, join, read_samples, refuse_processed, text_notes
from revtaf.files import digest, sha256
from revtaf.knowledge import english
from revtaf.knowledge.base import Labeler
from revtaf.knowledge.rules import RuleLabeler
from revtaf.llm import outputs as llm
from revtaf.pages.report import table_text, write_report

ALL = "all"
UNICODE = "--protocol unicode keeps accents and reads Chinese by characters"
RESERVED = (floors.MOST_FREQUENT, floors.MEDOID, floors.RANDOM, floors.NEAREST, floors.RETRIEVED)
PAPER_TABLES = {"mimic_cxr": "Table 1", "iu_xray": "Table 2"}
log = logging.getLogger("revtaf")


@dataclass
class ScoreRequest:
    """What the command line asks for; see `revtaf score --help`."""

    predictions: Path
    out: Path | None = None
    name: str = MODEL
    protocol: str = "revtaf"
    against: list[Path] = field(default_factory=list)
    llm: list[Path] = field(default_factory=list)
    train: Path | None = None
    labeler: str = "rules"
    chexbert: Path = Path("checkpoints/chexbert/chexbert.pth")
    chexbert_vocabulary: Path = Path("checkpoints/bert-base-uncased/vocab.txt")
    labels: Path | None = None
    reference_labels: Path | None = None
    codes: str = "chexpert"
    published: str | None = None
    export: list[str] = field(default_factory=list)
    sources: AdvancedSources = field(default_factory=AdvancedSources)
    java: str | None = None
    cider_idf: str = "references"
    resamples: int = 10_000
    seed: int = 0


def score(request: ScoreRequest) -> Path:
    """Read, check, score, write; returns the output folder. Raises UserError before anything is written."""
    if request.protocol not in (*PROTOCOLS, ALL):
        raise UserError(f"--protocol: expected {', '.join(PROTOCOLS)} or {ALL}, got {request.protocol!r}")
    if request.protocol == ALL and (ignored := _ignored_by_all(request)):
        raise UserError(f"--protocol {ALL} prints one system under every protocol; leave out {', '.join(ignored)}")
    samples = _read(request.predictions, request.protocol)
    others = {_row_name(path): _read(path, request.protocol) for path in request.against}
    if request.llm:
        samples, more, notes = _llm_rows(samples, request.llm)
        others = {name: _subset(other, set(samples.ids)) for name, other in others.items()}
        samples, others = replace(samples, notes=tuple(notes)), others | more
    if taken := [name for name in (request.name, *others) if name in RESERVED or name.startswith("always ")]:
        raise UserError(f"{taken[0]!r} is the name of a row without an image; choose another name")
    if len(others) != len(request.against) + len(request.llm) or request.name in others:
        raise UserError(f"rows need different names; got {', '.join([request.name, *others])}: rename a file")
    if all(map(says_nothing, samples.references)):
        raise UserError(
            f"{request.predictions}: no reference holds a word that says anything (empty, None, See impression and the "
            "like); give the reports"
        )
    train_reports = _train_reports(request.train)
    if request.cider_idf == "train" and not train_reports:
        raise UserError("--cider-idf train needs --train: an annotation with a training split")
    advanced.check(request.sources)
    labeler, given = _labels(request, samples)
    sources = request.sources
    if hasattr(labeler, "embed") and sources.embeddings is None:  # CheXbert: its vectors give SembScore
        sources = replace(sources, chexbert=labeler)
    stem = _stem(request.predictions)
    out = request.out or request.predictions.with_name("score" if stem == "predictions" else f"{stem}-score")
    for other in others.values():
        join(samples, other)
    if request.protocol == ALL:
        print(_side_by_side(samples, labeler, given, train_reports, request))
        return out
    evaluation = evaluate(
        samples,
        labeler,
        train_reports,
        name=request.name,
        protocol=PROTOCOLS[request.protocol],
        others=others,
        given=given,
        sources=sources,
        java=request.java,
        cider_idf=request.cider_idf,
        resamples=request.resamples,
        seed=request.seed,
    )
    if request.protocol != "unicode" and english.read(samples.references).foreign:
        evaluation.notes.append(f"The references are not English, and {request.protocol} is made for it: {UNICODE}.")
    if request.published:
        evaluation.published = paper_rows(request.published)
    run = {
        "name": request.name,
        "predictions": str(request.predictions),
        "protocol": PROTOCOLS[request.protocol].description,
        "labeler": given.source or (labeler.name if labeler else UNLABELLED),
        "training reports": str(request.train) if request.train else "none given",
        "resamples": request.resamples,
        "seed": request.seed,
        "revtaf": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_report(out, evaluation, run)
    _export(request, samples, out)
    print(table_text(evaluation))
    print(_differences(evaluation))
    print(f"\nnumbers: {out / 'report.json'}\npage: {out / 'report.html'}")
    return out


def paper_rows(dataset: str) -> list[published.Row]:
    """The paper's rows on a data set, as printed; none where it has no table of it."""
    table = PAPER_TABLES.get(dataset)
    return published.rows(dataset, table, "paper") if table else []


def _read(path: Path, protocol: str) -> Samples:
    samples = read_samples(path)
    if protocol == ALL or PROTOCOLS[protocol].refuses_processed:
        refuse_processed(samples)
    return samples


def _ignored_by_all(request: ScoreRequest) -> list[str]:
    given = {
        "--against": request.against,
        "--llm": request.llm,
        "--export": request.export,
        "--published": request.published,
        "--out": request.out,
    }
    for name, value in vars(request.sources).items():
        if name not in ("chexbert", "device"):
            given[f"--{name.replace('_', '-')}"] = value
    return [name for name, value in given.items() if value]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def _row_name(path: Path) -> str:
    name = _stem(path)
    return (path.resolve().parent.name if name == "predictions" else "") or name


def _llm_rows(samples: Samples, files: Sequence[Path]) -> tuple[Samples, dict[str, Samples], list[str]]:
    """The samples that the first file answers, and a row for every file: cleaned as the supplement says."""
    rows, notes = {}, []
    wanted: Samples | None = None
    for path in files:
        outputs = llm.read_outputs(path)
        if wanted is None:
            wanted = _subset(samples, set(outputs))
            notes += text_notes("prediction", wanted.predictions, wanted.ids)
            notes += text_notes("reference", wanted.references, wanted.ids)
        answered = llm.to_samples(outputs, dict(zip(wanted.ids, wanted.references, strict=True)))
        by_id = {s.id: s.prediction for s in answered}
        rows[_row_name(path)] = replace(
            wanted,
            predictions=[by_id[i] for i in wanted.ids],
            source=str(path),
            notes=(),
            prompt=None,
            positive=None,
        )
        own = rows[_row_name(path)]
        notes += [f"{_row_name(path)}: {note}" for note in text_notes("prediction", own.predictions, own.ids)]
        seconds = llm.mean_seconds(answered)
        notes.append(
            f"{_row_name(path)}: cleaned and cut to 200 characters as in the supplement, section 4"
            + (f"; {seconds:.1f} s a sample." if seconds is not None else ".")
        )
    return wanted, rows, notes


def _subset(samples: Samples, ids: set[str]) -> Samples:
    if unknown := sorted(ids - set(samples.ids)):
        raise UserError(f"{samples.source} has no reference for {len(unknown)} answered ids: {unknown[:5]}")
    return samples.take([i for i, sample in enumerate(samples.ids) if sample in ids])


def _train_reports(path: Path | None) -> list[str]:
    if path is None:
        return []
    annotations = load_annotations(path)
    if not annotations.get("train"):
        raise UserError(f"--train {path}: holds no training split")
    return [study.report for study in annotations["train"]]


def _labels(request: ScoreRequest, samples: Samples) -> tuple[Labeler | None, Statuses]:
    """Who labels, if anybody does, and the statuses that are given already. UserError where the texts are in a language
    that a labeler does not know."""
    files = {"references": request.reference_labels, "predictions": request.labels}
    if request.labeler != "file" and any(files.values()):
        raise UserError("--labels and --reference-labels go with --labeler file: two labelers never meet in one table")
    given = {k: read_statuses(v, samples.ids, codes=request.codes) for k, v in files.items() if v is not None}
    if request.labeler == "file":
        if missing := [k for k in files if k not in given]:
            raise UserError(
                f"--labeler file needs statuses of the {' and the '.join(missing)}: --labels, --reference-labels"
            )
        mark = digest([sha256(path) for path in files.values()])[:8]
        return RuleLabeler(), Statuses(**given, source=f"file {request.labels.name}({mark})")
    if request.labeler == "none":
        return None, Statuses()
    if (reading := english.read(samples.references)).foreign:
        raise UserError(
            f"{reading.refusal(samples.source)}; score without them: --labeler none --protocol unicode, or with "
            "statuses made elsewhere: --labeler file --labels FILE --reference-labels FILE --protocol unicode"
        )
    rules = RuleLabeler()
    if request.labeler == "rules":
        return rules, Statuses()
    import torch

    from revtaf.knowledge.chexbert import CheXbertLabeler

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for path, what in ((request.chexbert, "--chexbert"), (request.chexbert_vocabulary, "--chexbert-vocabulary")):
        if not path.is_file():
            raise UserError(f"{what}: no such file: {path}; see checkpoints/README.md, or use --labeler rules")
    return CheXbertLabeler.load(request.chexbert, request.chexbert_vocabulary, rules, device), Statuses()


def _side_by_side(
    samples: Samples, labeler: Labeler | None, given: Statuses, train_reports, request: ScoreRequest
) -> str:
    """The same predictions under every protocol."""
    lines = [["protocol", *(key.replace("_", "-") for key in HEADLINE[:7]), "CE-F1"]]
    signatures, notes = [], []
    for name, protocol in PROTOCOLS.items():
        options = {"protocol": protocol, "given": given, "java": request.java, "floors": False, "resamples": 0}
        options["cider_idf"] = request.cider_idf
        found = evaluate(samples, labeler, train_reports, **options)
        row = found.model
        notes += found.notes
        values = [*(row["nlg"][key] for key in HEADLINE[:7]), row["clinical"].get("example_f1")]
        lines.append([name, *("n/a" if v is None else f"{v:.3f}" for v in values)])
        signatures += [found.signature, *(f"  {choice}" for choice in protocol.choices)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*table, "", *signatures, *(f"note: {note}" for note in dict.fromkeys(notes))])


def _differences(evaluation: Evaluation) -> str:
    """The system against every other row: difference, its interval and Holm's p, for the headline metrics."""
    lines = []
    for row, found in evaluation.comparisons.items():
        shown = [
            f"{key} {c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}] p {c.p_holm:.4f}"
            for key, c in found.items()
            if key in ("BLEU_4", "CIDEr", "example_f1") and math.isfinite(c.low)  # of one patient there is no interval
        ]
        if not shown:
            continue
        lines.append(f"{evaluation.name} - {row}: " + "; ".join(shown))
    return "\n".join(lines)


def _export(request: ScoreRequest, samples: Samples, out: Path) -> None:
    for name in request.export:
        if name == "rexrank":
            exports.rexrank(samples, out / "rexrank.json")
        else:
            exports.cxr_report_metric(samples, out / "cxr_report_metric")
