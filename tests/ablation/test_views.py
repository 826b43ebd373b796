"""The retrieval view of a grid whose rows are retrieved by different things."""

import numpy as np
import pytest
from tiny import ROOT

from revtaf.ablation import views
from revtaf.ablation.grid import load_grid
from revtaf.ablation.tested import result_folder
from revtaf.eval import retrieval
from revtaf.files import read_json, write_json

QUERIES, KNOWN = 12, 30
LEARNED = "learned (hyperbolic), hyperbolic"
SHARED = ("random", "entity scores, cosine")


@pytest.fixture
def content():
    """Makes the record of one run from the names of its rows; each name has neighbours of its own."""
    draw = np.random.default_rng(0)
    truth, known = draw.integers(0, 4, (QUERIES, 14)), draw.integers(0, 4, (KNOWN, 14))
    database = retrieval.Database(known, truth)

    def make(rows: dict[str, int]) -> dict:
        orders = {name: np.random.default_rng(seed) for name, seed in rows.items()}
        found = {
            name: database.judge(np.stack([rng.permutation(KNOWN)[: retrieval.DEPTH] for _ in range(QUERIES)]))
            for name, rng in orders.items()
        }
        return {"statuses": ["".join(map(str, line)) for line in truth], "rows": found, "shared neighbours": {}}

    return make


def test_a_space_that_learns_nothing_is_shown_of_the_first_row_that_has_it(content, monkeypatch):
    """Scores of the reference, embeddings of the first row that is retrieved by them; every learned space by itself."""
    embeddings = "MedFuse-CLIP, cosine"
    files = {
        ("raw_medfuse", 0): content({"random": 1, "entity scores, cosine": 2, embeddings: 3}),
        ("lre", 0): content({"random": 4, "entity scores, cosine": 5, LEARNED: 6}),
        ("lre_medfuse", 0): content({"random": 7, "entity scores, cosine": 8, embeddings: 9, LEARNED: 10}),
    }
    monkeypatch.setattr("revtaf.ablation.collect.RESAMPLES", 50)
    monkeypatch.setattr(views, "_files", lambda *_: (files, np.arange(QUERIES)))
    view = views.retrieval_view(load_grid(ROOT / "configs" / "ablations" / "retrievers.yaml"), [], [])
    assert list(view["rows"]) == ["random", embeddings, "entity scores, cosine", "lre", "lre_medfuse"]

    def mean(row: str, name: str) -> float:
        return float(np.mean(np.array(files[row, 0]["rows"][name]["distance"])[:, 0]))

    shown = {name: row["mean"]["distance@1"] for name, row in view["rows"].items()}
    assert shown == pytest.approx(
        {name: mean("lre", name) for name in SHARED}
        | {embeddings: mean("raw_medfuse", embeddings)}
        | {row: mean(row, LEARNED) for row in ("lre", "lre_medfuse")}
    )
    pairs = {(pair["a"], pair["b"]) for pair in view["pairs"]}
    assert {("lre_medfuse", embeddings), ("entity scores, cosine", embeddings), (embeddings, "lre")} <= pairs


def test_a_taken_row_does_not_show_the_models_advanced_metrics(write_grid, pretend, tmp_path):
    """What the report says of the row itself: another's figures, or none."""
    rows = {"full": None, "copy": {"take": "retrieved report"}, "medoid": {"take": "medoid report"}}
    runs = write_grid(rows=rows, reference="full", seeds=[0], paper=None).runs("phantom", tmp_path, [])
    pretend(runs[0])
    metrics = {"REVTAF": {"advanced": {"BERTScore": 0.5}}, "retrieved report": {"advanced": {"BERTScore": 0.25}}}
    path = result_folder(runs[0]) / "report.json"
    write_json(path, read_json(path) | {"metrics": metrics})
    found = {name: row["per_seed"]["0"] for name, row in views.advanced_view(runs)["rows"].items()}
    assert found == {"full": {"BERTScore": 0.5}, "copy": {"BERTScore": 0.25}, "medoid": {}}
