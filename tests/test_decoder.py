"""The report decoder: what it looks at, and what it does not."""

import pytest
import torch

from revtaf.decoder import Decoder, Draws
from revtaf.settings import DecoderSettings, GenerationSettings
from revtaf.tokenizer import ReportTokenizer

WORDS = "heart lungs are clear normal size no effusion edema of the left right . small large stable"
TOKENIZER = ReportTokenizer.fit([WORDS, WORDS], 100)
SETTINGS = DecoderSettings(layers=2, width=32, heads=2, feed_forward=64, dropout=0)
WIDTH, CATEGORIES = 24, 5
SEARCHES = [
    pytest.param({"beams": 1}, id="greedy"),
    pytest.param({"beams": 3}, id="beam"),
    pytest.param({"beams": 3, "length_penalty": 2.0, "no_repeat_ngram": 2, "repetition_penalty": 1.2}, id="controls"),
]


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """Untrained, with weights so large that whatever it looks at shows in its words."""
    torch.manual_seed(0)
    decoder = Decoder(SETTINGS, TOKENIZER, WIDTH, CATEGORIES).eval()
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return decoder


@pytest.fixture(scope="module")
def sample():
    """Three samples with 6, 4 and 2 features, the rest padding: tokens, statuses, features, mask."""
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(5, TOKENIZER.size - 5, (3, 9), generator=draw)
    tokens[:, 8] = tokens[1, 5] = TOKENIZER.end
    tokens[1, 6:] = TOKENIZER.pad
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 2 + [0] * 4]).bool()
    statuses = torch.randint(0, 4, (3, CATEGORIES), generator=draw)
    return tokens, statuses, torch.randn(3, 6, WIDTH, generator=draw), mask


def other_content(features, where):
    return torch.where(where[..., None], 7 * torch.randn(features.shape), features)


def generation(**options) -> GenerationSettings:
    return GenerationSettings(**{"min_new_tokens": 4, "max_new_tokens": 14, **options})


def test_content_under_the_mask_does_not_change_the_loss(decoder, sample):
    """Nor does a mask change it that hides nothing. Content that is not masked does."""
    tokens, statuses, features, mask = sample
    loss = decoder.loss(tokens, statuses, features, mask)
    torch.testing.assert_close(decoder.loss(tokens, statuses, other_content(features, ~mask), mask), loss)
    assert (decoder.loss(tokens, statuses, other_content(features, mask), mask) - loss).abs() > 1e-3
    assert (decoder.loss(tokens, statuses, features) - loss).abs() > 1e-3
    everything = decoder.loss(tokens, statuses, features, torch.ones_like(mask))
    torch.testing.assert_close(everything, decoder.loss(tokens, statuses, features))


def test_no_gradient_reaches_what_is_masked(decoder, sample):
    tokens, statuses, features, mask = sample
    features = features.clone().requires_grad_()
    decoder.loss(tokens, statuses, features, mask).backward()
    assert (features.grad[~mask] == 0).all() and (features.grad[mask] != 0).any(1).all()


@pytest.mark.parametrize("options", SEARCHES)
def test_content_under_the_mask_does_not_change_the_report(decoder, sample, options):
    """With the cache, greedily and by beams; without the mask the same content changes it."""
    _, statuses, features, mask = sample
    settings = generation(**options)
    written = decoder.generate(statuses, features, settings, features_mask=mask)
    other = other_content(features, ~mask)
    assert torch.equal(decoder.generate(statuses, other, settings, features_mask=mask), written)
    assert not torch.equal(decoder.generate(statuses, other, settings), written)


@pytest.mark.parametrize("options", SEARCHES)
def test_padding_is_as_if_it_were_not_there(decoder, sample, options):
    """A sample alone, its padding cut off, gets the report that it gets in the batch."""
    _, statuses, features, mask = sample
    settings = generation(**options)
    together = decoder.generate(statuses, features, settings, features_mask=mask)
    for i in range(3):
        alone = decoder.generate(statuses[i : i + 1], features[i : i + 1, mask[i]], settings)[0]
        assert torch.equal(together[i, : len(alone)], alone)
        assert (together[i, len(alone) :] == TOKENIZER.pad).all()


def test_the_loss_of_a_sample_does_not_depend_on_its_neighbours_length(decoder, sample):
    """The mean over the batch's tokens is that of the samples alone, weighted by their tokens."""
    tokens, statuses, features, mask = sample
    lengths = (tokens != TOKENIZER.pad).sum(1)
    alone = [
        decoder.loss(tokens[i : i + 1, :n], statuses[i : i + 1], features[i : i + 1, mask[i]]) * n
        for i, n in enumerate(lengths.tolist())
    ]
    torch.testing.assert_close(decoder.loss(tokens, statuses, features, mask), sum(alone) / lengths.sum())


def test_greedy_generation_is_repeated_argmax_without_a_cache(decoder, sample):
    """Step by step over the whole prefix: at least min_new_tokens, then up to the end token."""
    _, statuses, features, mask = sample
    written = decoder.generate(statuses, features, generation(beams=1), features_mask=mask)
    for i in range(3):
        prefix = decoder.prompt(statuses[i : i + 1])
        for step, token in enumerate(written[i].tolist()):
            logits = decoder.lm(
                input_ids=prefix,
                encoder_hidden_states=decoder.project(features[i : i + 1, mask[i]]),
                use_cache=False,
            ).logits[0, -1]
            if step < 4:
                logits[TOKENIZER.end] = -torch.inf
            assert int(logits.argmax()) == token
            if token == TOKENIZER.end:
                break
            prefix = torch.cat([prefix, torch.tensor([[token]])], 1)


def test_beams_share_the_keys_of_their_features(decoder, sample, monkeypatch):
    """Beams of a sample change places without their cross-attention: the text is that with all of the cache moved; and
    keys of the features are computed once a layer, whatever the length."""
    _, statuses, features, mask = sample
    calls = []
    layer = decoder.lm.bert.encoder.layer[0].crossattention.self.key
    hook = layer.register_forward_hook(lambda *_: calls.append(1))
    projected = decoder.project.register_forward_hook(lambda *_: calls.append("projection"))
    written = decoder.generate(statuses, features, generation(beams=3), features_mask=mask)
    hook.remove()
    projected.remove()
    assert calls == ["projection", 1]
    prompt = decoder.prompt(statuses)
    uncached = decoder.lm.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        encoder_hidden_states=decoder.project(features),
        encoder_attention_mask=mask.long(),
        num_beams=3,
        min_new_tokens=4,
        max_new_tokens=14,
        do_sample=False,
        use_cache=False,
        early_stopping=False,
    )
    assert torch.equal(uncached[:, prompt.shape[1] :], written)


def test_prompt_and_report_are_causal(decoder, sample):
    """A later token changes no earlier prediction; an earlier one, a status too, changes all after it."""
    tokens, statuses, features, _ = sample
    inputs = torch.cat([decoder.prompt(statuses), tokens], 1)[:1]
    cross = decoder.project(features[:1])

    def logits(changed: int | None = None):
        ids = inputs.clone()
        if changed is not None:
            ids[0, changed] = 7 if ids[0, changed] != 7 else 8
        return decoder.lm(input_ids=ids, encoder_hidden_states=cross, use_cache=False).logits[0]

    before = logits()
    for place in (3, decoder.prompt_length + 2):
        moved = (logits(place) - before).abs().amax(1)
        assert (moved[:place] < 1e-5).all() and (moved[place:] > 1e-3).all()


def test_the_language_model_starts_the_same_for_features_of_any_width():
    """Cross-attention included: what is fused, or not, changes the projection alone."""
    starts = []
    for width in (WIDTH, 2 * WIDTH):
        torch.manual_seed(3)
        starts.append(Decoder(SETTINGS, TOKENIZER, width, CATEGORIES).lm.state_dict())
    assert starts[0].keys() == starts[1].keys()
    assert all(torch.equal(value, starts[1][key]) for key, value in starts[0].items())


def test_words_are_tied_and_nothing_pools(decoder):
    """Input and output share the word vectors; a decoder has no use for BERT's pooler."""
    predictions = decoder.lm.cls.predictions
    assert predictions.decoder.weight is decoder.lm.bert.embeddings.word_embeddings.weight
    assert predictions.decoder.bias is predictions.bias
    assert not [name for name in decoder.state_dict() if "pooler" in name]


def test_words_are_drawn_by_their_probabilities():
    """Evenly spaced numbers draw each word as often as softmax(scores / temperature) says, none without mass."""
    scores = torch.tensor([[1.0, -torch.inf, 0.5, 2.0, -torch.inf]])
    numbers = (torch.arange(1000) + 0.5)[:, None] / 1000
    for temperature in (0.5, 1.0, 2.0):
        drawn = Draws(numbers, temperature, 3)(torch.zeros(1000, 3, dtype=torch.long), scores.expand(1000, 5))
        assert ((drawn == 0).sum(1) == 1).all() and (drawn[drawn != 0] == -torch.inf).all()
        counts = (drawn == 0).sum(0)
        expected = 1000 * (scores[0] / temperature).softmax(0)
        assert (counts - expected).abs().max() <= 1 and counts[[1, 4]].tolist() == [0, 0]
    ends = torch.tensor([[0.0], [1 - 2**-24]])
    drawn = Draws(ends, 1.0, 3)(torch.zeros(2, 3, dtype=torch.long), scores.expand(2, 5))
    assert drawn.argmax(1).tolist() == [0, 3]


def test_candidates_are_the_beams_report_and_sampled_ones(decoder, sample, monkeypatch):
    """Of at least min_new_tokens each, not all the same; those of a sample alone are those that it has in a batch."""
    _, statuses, features, mask = sample
    search = generation(candidates=5, temperature=1.0, min_new_tokens=14)
    written = decoder.generate(statuses, features, search, features_mask=mask)
    found = decoder.candidates(written, statuses, features, search, 0, mask)
    assert torch.equal(decoder.candidates(written, statuses, other_content(features, ~mask), search, 0, mask), found)
    assert found.shape[:2] == (3, 6) and torch.equal(found[:, 0, : written.shape[1]], written)
    assert len({tuple(row) for row in found[0].tolist()}) > 3
    assert not (found[..., :13] == TOKENIZER.end).any()
    for i in range(3):
        one = slice(i, i + 1)
        alone = decoder.candidates(written[one], statuses[one], features[one], search, 0, mask[one])
        length = alone.shape[2]
        assert torch.equal(alone[0], found[i, :, :length]) and (found[i, :, length:] == TOKENIZER.pad).all()
    monkeypatch.setattr("revtaf.decoder.AT_ONCE", 7)  # two of each at once, in place of all
    assert torch.equal(decoder.candidates(written, statuses, features, search, 0, mask), found)
    assert not torch.equal(decoder.candidates(written, statuses, features, search, 1, mask), found)


def test_the_colder_the_more_like_a_greedy_search(decoder, sample):
    _, statuses, features, mask = sample
    greedy = decoder.generate(statuses, features, generation(beams=1), features_mask=mask)
    for temperature, same in ((1e-5, True), (1.0, False)):
        search = generation(candidates=3).model_copy(update={"temperature": temperature})
        sampled = decoder.candidates(greedy, statuses, features, search, 0, mask)[:, 1:]
        assert all(torch.equal(each[:, : greedy.shape[1]], greedy) for each in sampled.unbind(1)) is same
