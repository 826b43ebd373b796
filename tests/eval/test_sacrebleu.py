"""Our BLEU against another well-kept implementation."""

import pytest

from revtaf.eval import nlg
from revtaf.eval.protocol import postprocess, reference_text

REFERENCES = [
    "The heart is normal in size. The lungs are clear.",
    "Left basal opacity. No effusion or pneumothorax.",
] * 3
HYPOTHESES = ["the heart is normal. lungs are clear.", "no effusion. left opacity.", "the lungs are clear."] * 2


def test_bleu_equals_sacrebleu_on_tokens_as_they_are():
    """tokenize none, no smoothing, the closest reference length: the same corpus BLEU-4 to 1e-9."""
    sacrebleu = pytest.importorskip("sacrebleu")
    references = [reference_text(r) for r in REFERENCES]
    hypotheses = [postprocess(h) for h in HYPOTHESES]
    theirs = sacrebleu.corpus_bleu(
        [" ".join(h.split()) for h in hypotheses],
        [[" ".join(r.split()) for r in references]],
        tokenize="none",
        smooth_method="none",
        force=True,
    )
    assert nlg.compute(references, hypotheses, meteor=False)["BLEU_4"] == pytest.approx(theirs.score / 100, abs=1e-9)
