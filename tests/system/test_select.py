"""Which validation score chooses the checkpoint."""

import pytest
import torch

from revtaf.system import evaluate
from revtaf.system.write import Prediction

SCORES = {"example_f1": 0.1, "micro_f1_positive": 0.2, "macro_f1": 0.3, "CIDEr": 0.4, "micro_f1": 0.5}


@pytest.mark.parametrize(
    ("select", "score", "tie"),
    [("example_f1", 0.1, 0.4), ("micro_f1_positive", 0.2, 0.4), ("macro_f1", 0.3, 0.4), ("cider", 0.4, 0.1)],
)
def test_the_score_is_the_one_that_was_asked_for(session, monkeypatch, select, score, tie):
    """CIDEr decides between equal ones; where it selects, the example-based CE F1 does."""
    dataset = session.validation_set
    even = torch.full((4, session.categories), 0.25)

    def written(session, dataset, generation, rows, **options):
        return [Prediction(row, "", [0] * session.categories, even, -1, 0.0) for row in rows]

    train = session.settings.train.model_copy(update={"select": select})
    monkeypatch.setattr(session, "settings", session.settings.model_copy(update={"train": train}))
    monkeypatch.setattr(evaluate, "predict", written)
    monkeypatch.setattr(evaluate, "validation_scores", lambda *_, **__: SCORES)
    monkeypatch.setattr(session.plain_model.classifier, "update_prior", lambda *_: None)
    found = evaluate.validate(session, dataset, write=True)
    assert (found["score"], found["tie"]) == (score, tie)
    assert found["micro_f1"] == 0.5 and "score" not in evaluate.validate(session, dataset, write=False)
