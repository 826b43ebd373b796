"""One evaluation for all tests of pages."""

from dataclasses import replace

import pytest

from revtaf.eval import published
from revtaf.eval.evaluate import Evaluation, evaluate
from revtaf.eval.records import Samples

REFERENCES = [
    "Cardiomegaly is seen. No edema.",
    "Lungs are clear.",
    "Pleural effusion. Fracture.",
    "No edema. Heart ok.",
]
HYPOTHESES = ["cardiomegaly. no edema.", "lungs clear.", "pleural effusion.", "lungs clear."]
TRAIN = ["Lungs clear.", "Heart normal. Lungs clear.", "Pleural effusion and fracture. Heart normal."]


@pytest.fixture
def evaluation(labeler) -> Evaluation:
    """Four samples of three studies and three patients, a second system, every row without an image, and papers."""
    ids = [f"s{i}" for i in range(4)]
    groups = {"subjects": ["a", "a", "b", "c"], "studies": ["a1", "a1", "b1", "c1"]}
    samples = Samples(ids, REFERENCES, HYPOTHESES, **groups, prompt=labeler.label(REFERENCES))
    others = {
        "another system": replace(
            samples, prompt=None, predictions=["lungs clear.", "edema.", "fracture.", "no edema."]
        )
    }
    result = evaluate(samples, labeler, TRAIN, others=others, java="/none", resamples=200)
    result.published = published.rows("iu_xray", table="Table 2")
    return result
