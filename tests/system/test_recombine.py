"""Recombined reports: what they are made of, their statuses, and that only the prompt tells a decoder of them."""

import numpy as np
import pytest
import torch
from tiny import make_session, training_batch

from revtaf.data.text import sentences
from revtaf.decoder import Decoder
from revtaf.eval.texts import label_texts
from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES, NO_FINDING, POSITIVE
from revtaf.model import Recombined
from revtaf.rng import stream
from revtaf.settings import DecoderSettings, GenerationSettings
from revtaf.system.recombine import Recombiner
from revtaf.tokenizer import ReportTokenizer

NORMAL = "the heart is normal in size . the lungs are clear . no pleural effusion . no pneumothorax ."
REPORTS = [NORMAL] * 18 + [
    "the heart is enlarged . the lungs are clear . no pneumothorax .",
    "the heart is normal in size . there is a small left pleural effusion . no pneumothorax .",
]
LABELER = RuleLabeler()


@pytest.fixture(scope="module")
def recombiner():
    return Recombiner(REPORTS, LABELER, len(CATEGORIES), 100)


def test_what_they_are_made_of(recombiner):
    """Sentences of the training reports, each category of finding as often as the other, in its usual place, never
    beside a sentence that contradicts it; the statuses are the labeler's of the text that came out."""
    texts, statuses = recombiner.make([0] * 400, np.random.default_rng(0))
    known = {sentence for report in REPORTS for sentence in sentences(report)}
    assert {sentence for text in texts for sentence in sentences(text)} == known
    assert np.array_equal(statuses, LABELER.label(texts))
    large, effusion = (statuses[:, CATEGORIES.index(name)] == POSITIVE for name in ("cardiomegaly", "pleural effusion"))
    assert 0.35 < large.mean() < 0.75 and 0.35 < effusion.mean() < 0.75  # each in 1 of 20 reports
    assert 0.1 < (large & effusion).mean()  # in none
    for text in texts:
        found = sentences(text)
        assert not {"the heart is enlarged", "the heart is normal in size"} <= set(found)
        assert not {"no pleural effusion", "there is a small left pleural effusion"} <= set(found)
        assert found.index("the heart is enlarged") == 0 if "the heart is enlarged" in found else True
    kinds = {len(sentences(text)) for text in np.array(texts)[~large & ~effusion]}
    assert {3, 4} <= kinds  # whole, or without a sentence


def test_the_same_draw_makes_the_same_reports(recombiner):
    """And another one others; the labels of findings do not depend on what was asked before."""
    first, again, other = (recombiner.make(range(20), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first[0] == again[0] and np.array_equal(first[1], again[1]) and first[0] != other[0]


def test_empty_reports_and_sets_without_findings():
    """Nothing is put into a report without a sentence, and nothing can be where nothing was found."""
    texts, statuses = Recombiner([".", NORMAL], LABELER, 14, 100).make([0, 1], np.random.default_rng(1))
    assert texts[0] == "" and set(sentences(texts[1])) <= set(sentences(NORMAL))
    assert statuses.shape == (2, 14) and statuses[1, NO_FINDING] == POSITIVE
    assert Recombiner([], LABELER, 18, 100).make([], np.random.default_rng(0))[1].shape == (0, 18)


def test_nothing_is_well_beside_a_finding():
    """ "The lungs are clear" names no category, and denies them all."""
    well = [
        "the lungs are clear .",
        "no acute cardiopulmonary abnormality .",
        "chest is normal .",
        "surgical clips are seen .",
    ]
    made = Recombiner([*well, "there is a right lower lobe opacity ."], LABELER, 18, 100)
    texts, _ = made.make(list(range(4)) * 50, np.random.default_rng(0))
    with_it = [text for text in texts if "opacity" in text]
    assert len(with_it) > 50 and not any(sentence[:-2] in text for text in with_it for sentence in well[:3])
    assert any(well[3] in text for text in with_it)
    tube = "the tube in the chest is in normal position ."
    assert Recombiner([tube], LABELER, 18, 100).well == set()


def test_a_sentence_that_was_cut_is_left_out():
    """Its beginning may state what the whole denies."""
    cut = "the heart is enlarged . additional fractures cannot entirely"
    assert Recombiner([cut], LABELER, 18, 100).sentences == [["the heart is enlarged"]]
    assert Recombiner(["the heart is enlarged"], LABELER, 18, 100).sentences == [["the heart is enlarged"]]


def test_sentences_are_read_by_the_labeler_that_remembers(recombiner):
    """Reports that are made never come again."""

    class Counting(RuleLabeler):
        read = 0

        def label(self, reports):
            self.read += len(reports)
            return super().label(reports)

    once, always = Counting(), Counting()
    made = Recombiner(REPORTS, always, len(CATEGORIES), 100, once)
    assert once.read == len(made.statuses) and always.read == 0
    assert made.make([0, 1], np.random.default_rng(0))[0] == recombiner.make([0, 1], np.random.default_rng(0))[0]
    assert once.read == len(made.statuses) and always.read


def test_of_real_reports(iu_xray):
    """IU X-Ray's: every category that is ever positive is put in, rare ones as often as others."""
    made = Recombiner(iu_xray[:600], LABELER, 18, 100)
    texts, statuses = made.make(range(300), np.random.default_rng(0))
    own = (label_texts(LABELER, iu_xray[:300]) == POSITIVE).mean(0)
    share = (statuses == POSITIVE).mean(0)
    rare = [k for k in range(18) if 0 < own[k] < 0.05 and k != NO_FINDING]
    assert len(rare) > 3 and all(share[k] > own[k] for k in rare)
    assert len(set(texts)) > 290 and max(len(text.split()) for text in texts) <= 100


@pytest.fixture
def iu_xray():
    from tiny import ROOT

    from revtaf.data.annotations import clean_reports, load_annotations

    path = ROOT.parent / "shared/data/iu_xray/annotation.json"
    if not path.is_file():
        pytest.skip("IU X-Ray is not here")
    return clean_reports(load_annotations(path)["train"], 100)


def test_the_prompt_alone_tells_of_them(session):
    """In their rows neither image nor retrieved report moves the loss of the words, and the statuses given for them do;
    the other losses stay those of the image."""
    model = session.model.eval()
    batch, rows = training_batch(session)
    other = torch.roll(rows, 1)
    nowhere, everywhere = torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)

    def losses(images, rows, recombined):
        with torch.no_grad():
            prompts = session.prompts(batch, rows)
            return model(images, batch.scores, batch.statuses, batch.tokens, prompts, recombined=recombined)

    plain = losses(batch.images, rows, None)
    said = (batch.statuses + 1) % 4
    assert losses(batch.images, rows, Recombined(nowhere, said)) == plain
    made, moved = (
        losses(i, r, Recombined(everywhere, said)) for i, r in ((batch.images, rows), (-batch.images, other))
    )
    assert made.lm == moved.lm != plain.lm
    assert made.disease == plain.disease and made.rank == plain.rank and made.consistency == plain.consistency
    assert losses(batch.images, rows, Recombined(everywhere, batch.statuses)).lm != made.lm


@pytest.mark.parametrize("longest", [200, 40])
def test_a_step_draws_them_repeatably(tiny_config, longest):
    """A share of the samples, anew at every step: the same again when a run is resumed; the other rows keep their
    report, and so do those whose new one is too long."""
    session = make_session(tiny_config, "decoder.recombined=0.5", f"decoder.max_tokens={longest}")
    batch, _ = training_batch(session)
    drawn = [session._recombined(batch, draw) for draw in range(40)]
    again = [session._recombined(batch, draw) for draw in range(40)]
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1].rows, b[1].rows) for a, b in zip(drawn, again, strict=True))
    chosen = torch.stack([recombined.rows for _, recombined in drawn])
    share = chosen.float().mean()
    assert (
        0.35 < share < 0.65 and chosen.any(0).all() and not chosen.all(0).any() if longest == 200 else 0 < share < 0.3
    )
    for tokens, recombined in drawn:
        for row in range(len(batch)):
            text = session.tokenizer.decode(tokens[row].tolist())
            if not recombined.rows[row]:
                assert text == session.tokenizer.decode(batch.tokens[row].tolist())
                continue
            read = torch.from_numpy(session.knowledge.components.labeler.label([text])[0].astype(np.int64))
            assert torch.equal(read[: session.categories], recombined.statuses[row])
    assert make_session(tiny_config)._recombined(batch, 0) == (batch.tokens, None)


def test_a_decoder_learns_to_tell_findings_apart():
    """Two findings that always come together: a prompt with one of them is followed only by a decoder that has seen
    them apart."""
    both = "the heart is enlarged . there is a small left pleural effusion ."
    reports = [both, "the heart is normal in size . no pleural effusion ."]
    tokenizer = ReportTokenizer.fit(reports * 2, 100)
    recombiner = Recombiner(reports, LABELER, 18, 100)
    options = {"weights": None, "layers": 1, "width": 32, "heads": 2, "feed_forward": 64, "dropout": 0.0}
    settings = DecoderSettings(**options, label_smoothing=0.0)
    kinds = [CATEGORIES.index(name) for name in ("cardiomegaly", "pleural effusion")]
    alone = ["the heart is enlarged . no pleural effusion .", f"{reports[1].split(' . ')[0]} . {both.split(' . ')[1]}"]
    asked = torch.from_numpy(LABELER.label(alone).astype(np.int64))

    def followed(recombined: bool) -> bool:
        with stream(0, "decoder"):
            decoder = Decoder(settings, tokenizer, 8, 18)
        optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
        draw = np.random.default_rng(0)
        for _ in range(200):
            texts = recombiner.make([0, 1] * 8, draw)[0] if recombined else reports * 8
            statuses = torch.from_numpy(LABELER.label(texts).astype(np.int64))
            ids = [torch.tensor([*tokens, tokenizer.end]) for tokens in tokenizer.encode(texts)]
            tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad)
            loss = decoder.loss(tokens, statuses, torch.zeros(len(texts), 1, 8))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        search = GenerationSettings(beams=1, min_new_tokens=1, max_new_tokens=30)
        written = decoder.eval().generate(asked, torch.zeros(2, 1, 8), search)
        said = LABELER.label([tokenizer.decode(row.tolist()) for row in written])
        return bool((torch.from_numpy(said.astype(np.int64))[:, kinds] == asked[:, kinds]).all())

    assert followed(True) and not followed(False)
