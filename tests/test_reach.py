"""Positive controls of the untrained model: a path reaches the words, and the loss of the words reaches the path."""

import pytest
import torch
from tiny import make_session, training_batch

NORMALISED = "fvtaf.residual=normalised"  # texts weigh as much as patches


@pytest.fixture(scope="module")
def normalised(tiny_config):
    """A session whose two summands of Eq. 11 have one scale."""
    return make_session(tiny_config, NORMALISED)


def language_gradients(session) -> tuple[dict[str, float], torch.Tensor, torch.Tensor]:
    """Of the language loss alone: RMS of each parameter's gradient in FVTAF, and the retrieved text's with its mask."""
    model = session.model.eval()
    model.zero_grad()
    batch, rows = training_batch(session)
    prompts = session.prompts(batch, rows)
    text = prompts.retrieved.clone().requires_grad_()
    prompts = prompts._replace(retrieved=text)
    model(batch.images, batch.scores, batch.statuses, batch.tokens, prompts).lm.backward()
    found = {name: float(p.grad.square().mean().sqrt()) for name, p in model.fvtaf.named_parameters()}
    return found, text.grad.norm(dim=-1), prompts.retrieved_mask


def share(gradients: dict[str, float], source: str, part: str) -> float:
    """A gradient over that of the values, which are heard whatever the plan is."""
    return gradients[f"mpsa.{source}.{part}.weight"] / gradients[f"mpsa.{source}.value.weight"]


def test_the_words_teach_both_attentions_where_to_look(normalised):
    """The language loss reaches q and k of the GRP and the LRP, not only FCC does, and every sentence retrieved."""
    gradients, of_text, mask = language_gradients(normalised)
    for source in ("global", "local"):
        for part in ("query", "key"):
            assert share(gradients, source, part) > 0.005, (source, part)
    assert (of_text[mask] > 0).all() and (of_text[~mask] == 0).all()


def test_one_transport_problem_per_text_teaches_nothing(tiny_config):
    """The same figure on the release's axis, whose plan is constant: what a dead path looks like."""
    gradients, of_text, mask = language_gradients(make_session(tiny_config, NORMALISED, "fvtaf.axis=per_text"))
    shares = [share(gradients, source, part) for source in ("global", "local") for part in ("query", "key")]
    assert max(shares) < 1e-4
    assert (of_text[mask] > 0).all()  # the values are heard all the same


@torch.no_grad()
def test_another_report_changes_the_words_as_much_as_another_image(normalised):
    """Logits under another GRP and under another image: at one scale no path is a rounding error beside the other."""
    model = normalised.model.eval()
    batch, rows = training_batch(normalised)

    def logits(images, rows):
        found = []  # as the word head gives them, wherever the decoder calls it
        hook = model.decoder.lm.get_output_embeddings().register_forward_hook(lambda *args: found.append(args[-1]))
        features = model.features(images, normalised.prompts(batch, rows))
        model.decoder.loss(batch.tokens, batch.statuses, features.decoder, features.decoder_mask)
        hook.remove()
        (of_all,) = found
        return of_all

    def apart(a, b):
        return float((a - b).square().mean().sqrt())

    before = logits(batch.images, rows)
    by_image = apart(logits(batch.images.flip(0), rows), before)
    assert by_image > 0 and apart(logits(batch.images, rows + 7), before) > 0.5 * by_image
