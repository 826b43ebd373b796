"""The texts of a run, scored once and kept: every grid that shows a row takes its metrics from here.

What `test` scored is read from beside its report (`revtaf.eval.kept`): neither METEOR nor the labeler runs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from revtaf.ablation.grid import Run
from revtaf.ablation.tested import ranks, result_folder
from revtaf.config import RunSettings
from revtaf.data.annotations import load_annotations
from revtaf.engine.runtime import read_jsonl
from revtaf.errors import UserError
from revtaf.eval import cider, classified, floors, kept, nlg
from revtaf.eval.evaluate import AVERAGED
from revtaf.eval.meteor import Meteor, java_version, version
from revtaf.eval.metric import Metric
from revtaf.eval.protocol import PROTOCOL, form_notes
from revtaf.eval.records import Samples, read_samples, text_notes
from revtaf.eval.texts import add_meteor, score_texts
from revtaf.features.build import make_labeler, select
from revtaf.files import digest
from revtaf.knowledge.base import Labeler


@dataclass
class Scored:
    """A row with one seed. metrics: of text and clinical, and `average`, the paper's "Avg" where all nine are there; of
    a system that ranks, its own. Such a system writes nothing: its samples have no texts, and there are no statuses."""

    samples: Samples
    statuses: np.ndarray | None  # (N, 14 or 18) of the references
    metrics: dict[str, Metric]
    distinct: int | None  # different texts among the N
    labeler: str
    signature: str = ""  # of rankings; that of texts is the protocol's
    headings: Mapping[str, str] = field(default_factory=dict)  # of rankings: all that their system knows

    @property
    def written(self) -> bool:
        """Whether there are reports."""
        return self.statuses is not None


def mean_of(name: str, metrics: Sequence[Metric]) -> Metric:
    """The mean of several metrics on the same N samples as a metric of its own: over seeds, or the columns of "Avg".

    All parts are resampled together: a patient is in a resample with all seeds, or not at all.
    """
    widths = np.cumsum([metric.statistics.shape[1] for metric in metrics])[:-1]

    def value(sums: np.ndarray) -> np.ndarray:
        parts = np.split(sums, widths, axis=-1)
        return np.mean([metric.value(part) for metric, part in zip(metrics, parts, strict=True)], axis=0)

    return Metric(name, np.concatenate([m.statistics for m in metrics], axis=1), value, metrics[0].higher_is_better)


def _apart(name: str, a: Metric, b: Metric) -> Metric:
    """a minus b, which share their statistics."""
    return Metric(name, a.statistics, lambda sums: a.value(sums) - b.value(sums))


class Scorer:
    """Scores runs under the `revtaf` protocol; a context manager, because METEOR's Java runs until the end."""

    def __init__(self, java: str | None = None):
        self.java = java
        self.read, self.anew = 0, 0  # rows whose metrics the test kept; rows that are scored here
        self.notes: list[str] = [reason] if (reason := nlg.meteor_status(java)) else []
        self._meteor = None if self.notes else Meteor(java)
        self._lost: dict[str, float] = {}  # row -> the largest share of its seeds
        self._found: dict[tuple, Scored] = {}
        self._labelers: dict[str, Labeler] = {}
        self._nearest: dict[tuple, list[str]] = {}
        self._constant: dict[tuple, dict[str, str]] = {}
        self._train: dict[tuple, list[str]] = {}

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_) -> None:
        if self._meteor is not None:
            self._meteor.close()

    def score(self, run: Run) -> Scored:
        """Raises UserError where the run's results do not hold what the row takes."""
        key = (result_folder(run), run.row.take, run.seed)
        if key not in self._found:
            self._found[key] = self._score(run)
        return self._found[key]

    @property
    def told(self) -> list[str]:
        """What a reader of the rows scored so far should know, each sentence once."""
        return list(dict.fromkeys([*self.notes, *form_notes(self._lost, self._lost, PROTOCOL)]))

    @cached_property
    def java_name(self) -> str:
        """Of METEOR's Java, as in a signature."""
        return "no-java" if self._meteor is None else java_version(self.java)

    def _score(self, run: Run) -> Scored:
        if ranks(result_folder(run)):
            return self._ranked(run)
        path = result_folder(run) / "predictions.jsonl"
        samples = read_samples(path)
        references = [PROTOCOL.reference(r) for r in samples.references]
        if run.row.take is None:
            texts = [PROTOCOL.hypothesis(h) for h in samples.predictions]
            share = PROTOCOL.unmatchable(texts)
            self._lost[run.row.name] = max(share, self._lost.get(run.row.name, 0.0))
            told = text_notes("prediction", samples.predictions, samples.ids)
            self.notes += [f"{run.row.name}, seed {run.seed}: {note}" for note in told]
        else:
            texts = self._taken(run, samples, path)
        self.notes += text_notes("reference", samples.references, samples.ids)
        if not cider.is_defined(references):
            self.notes.append(f"{cider.UNDEFINED}.")
        labeler = self._labeler(run.settings)
        metrics, truth = self._scores(run, samples, references, texts, labeler)
        metrics["tail_minus_head"] = _apart("tail_minus_head", metrics["tail_f1"], metrics["head_f1"])
        if all(name in metrics for name in AVERAGED):
            metrics["average"] = mean_of("average", [metrics[name] for name in AVERAGED])
        distinct = len({" ".join(text.split()) for text in texts})
        return Scored(replace(samples, predictions=list(texts)), truth, metrics, distinct, labeler.name)

    def _ranked(self, run: Run) -> Scored:
        """A row of rankings, which only its test can score."""
        folder = result_folder(run)
        made = kept.read(folder)
        if made is None:
            raise UserError(f"{folder / kept.FILE} is missing or damaged; delete {folder / kept.REPORT} and test again")
        row = next(iter(made.rows)) if run.row.take is None else run.row.take
        if row not in made.rows:
            raise UserError(f"{folder}: there is no row '{row}'; its test has {', '.join(made.rows)}")
        about = made.about
        samples = Samples(about["ids"], [], [], about["subjects"], about["studies"], str(folder))
        self.read += 1
        return Scored(samples, None, made.rows[row], None, "", about["signature"], about.get("headings", {}))

    def _scores(
        self, run: Run, samples: Samples, references: list[str], texts: list[str], labeler: Labeler
    ) -> tuple[dict[str, Metric], np.ndarray]:
        """The metrics of texts and the statuses of the references: those that the test kept where they are of these
        texts, else scored here."""
        made = kept.read(result_folder(run))
        held = made and made.of_texts(
            run.row.take,
            ids=samples.ids,
            references=references,
            texts=texts,
            protocol=PROTOCOL.name,
            labeler=labeler.name,
            meteor=version(self.java_name),
            classified=classified.mark(samples.prompt, samples.positive),
        )
        failed = ""
        self.read, self.anew = self.read + (held is not None), self.anew + (held is None)
        if held is None:
            found = score_texts(references, texts, labeler, meteor=self._meteor)
            metrics, truth, failed = found.metrics, found.truth, found.failed
            if run.row.take is None:
                metrics |= classified.metrics(samples.prompt, samples.positive, truth, found.statuses)
        else:
            metrics, truth = held, made.statuses
            if self._meteor is not None and "METEOR" not in metrics:
                failed = add_meteor(metrics, references, texts, self._meteor)
        if failed:
            self.notes.append(f"{run.row.name}, seed {run.seed}: {failed}")
        return metrics, truth

    def _taken(self, run: Run, samples: Samples, path: Path) -> list[str]:
        """The texts of a row that the model did not write, processed like references."""
        if run.row.take == floors.RETRIEVED:
            found = [record.get("retrieved_report") for record in read_jsonl(path)]
            if None in found or len(found) != len(samples):
                raise UserError(
                    f"{path}: row '{run.row.name}' takes the retrieved report, but this model retrieves none"
                )
            return [PROTOCOL.reference(report) for report in found]
        train = self._train_reports(run.settings)
        if run.row.take == floors.RANDOM:
            return floors.random_rows(train, samples.references, run.seed)
        place = (run.settings.training_data.annotation, run.settings.training_data.max_samples)
        if run.row.take == floors.NEAREST:
            key = (run.row.take, *place, digest(samples.references))  # the same for every seed
            if key not in self._nearest:
                self._nearest[key] = floors.nearest_reports(train, samples.references)
            return self._nearest[key]
        if place not in self._constant:
            self._constant[place] = floors.constant_rows(train)
        return [self._constant[place][run.row.take]] * len(samples)

    def _train_reports(self, settings: RunSettings) -> list[str]:
        data = settings.training_data
        key = (data.annotation, data.max_samples)
        if key not in self._train:
            self._train[key] = [s.report for s in select(load_annotations(data.annotation), "train", data)]
        return self._train[key]

    def _labeler(self, settings: RunSettings) -> Labeler:
        key = str(settings.knowledge)
        if key not in self._labelers:
            device = torch.device("cuda" if torch.cuda.is_available() and settings.device != "cpu" else "cpu")
            self._labelers[key] = make_labeler(settings, device)
        return self._labelers[key]
