"""Candidate reports, and which of them is taken."""

import numpy as np
import pytest
import torch
from tiny import make_session

from revtaf.decoder import Decoder
from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES, NO_FINDING, POSITIVE
from revtaf.rng import stream
from revtaf.settings import DecoderSettings, GenerationSettings
from revtaf.system.choose import choose
from revtaf.system.write import predict
from revtaf.tokenizer import ReportTokenizer

NORMAL = "the heart is normal in size . the lungs are clear ."
LARGE = "the heart is enlarged . the lungs are clear ."
BOTH = "the heart is enlarged . there is a small left pleural effusion ."
LABELER = RuleLabeler()


def prompt(*positive: str, count: int = 18) -> np.ndarray:
    statuses = np.zeros(count, dtype=np.int64)
    statuses[[CATEGORIES.index(name) for name in positive]] = POSITIVE
    return statuses


@pytest.mark.parametrize("count", [14, 18])
def test_the_text_that_says_what_the_prompt_says(count):
    """Not the likeliest one, unless several say it equally well; what is said too much counts as what is left out."""
    texts, likelihood = [NORMAL, LARGE, BOTH, LARGE + " no pneumothorax ."], np.array([[-0.1, -0.9, -0.5, -0.7]])

    def taken(*positive):
        return choose([texts], likelihood, prompt(*positive, count=count)[None], LABELER).tolist()

    assert taken("cardiomegaly") == [3]
    assert taken("cardiomegaly", "pleural effusion") == [2]
    assert taken() == taken("pleural effusion") == [0]  # left out, or with one too much: one is wrong
    assert taken("fracture") == [0]  # which nothing says: one too few, where the others have one too much as well


def test_no_finding_follows_from_the_others_and_is_not_counted():
    statuses = prompt()
    statuses[NO_FINDING] = POSITIVE
    texts = [["possible small effusion .", NORMAL]]
    assert [row[NO_FINDING] == POSITIVE for row in LABELER.label(texts[0])] == [False, True]
    for likelihood, best in (([[-0.1, -0.2]], 0), ([[-0.2, -0.1]], 1)):
        assert choose(texts, np.array(likelihood), prompt()[None], LABELER).tolist() == [best]
        assert choose(texts, np.array(likelihood), statuses[None], LABELER).tolist() == [best]


def test_each_sample_has_its_own_prompt():
    statuses = np.stack([prompt("cardiomegaly"), prompt(), prompt("cardiomegaly", "pleural effusion")])
    found = choose([[NORMAL, LARGE, BOTH]] * 3, np.zeros((3, 3)), statuses, LABELER)
    assert found.tolist() == [1, 0, 2]


def test_a_finding_of_many_wordings_is_said():
    """Six of ten reports with the prompt state the finding, each in another wording, four are the normal report: the
    beam writes the normal one, and among sampled reports there is one that says it."""
    wordings = [
        f"the heart is {word} enlarged ." for word in "mildly slightly grossly moderately severely again".split()
    ]
    normal = "the heart is normal in size ."
    reports, statuses = [*wordings, *[normal] * 14], np.zeros((20, 18), dtype=np.int64)
    statuses[:10] = prompt("cardiomegaly")  # of which four say nothing of it: labels are not the image
    tokenizer = ReportTokenizer.fit(reports * 2, 100)
    options = {"weights": None, "layers": 1, "width": 32, "heads": 2, "feed_forward": 64, "dropout": 0.0}
    with stream(0, "decoder"):
        decoder = Decoder(DecoderSettings(**options, label_smoothing=0.0), tokenizer, 8, 18)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    ids = [torch.tensor([*tokens, tokenizer.end]) for tokens in tokenizer.encode(reports)]
    tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad)
    for _ in range(150):
        loss = decoder.loss(tokens, torch.from_numpy(statuses), torch.zeros(20, 1, 8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    decoder.eval()
    asked, features = torch.from_numpy(statuses[[0, 19]]), torch.zeros(2, 1, 8)
    search = GenerationSettings(beams=3, min_new_tokens=1, max_new_tokens=12, candidates=16, temperature=1.0)
    written = decoder.generate(asked, features, search)
    found = decoder.candidates(written, asked, features, search, seed=0)
    texts = [[tokenizer.decode(row) for row in each] for each in found.tokens.tolist()]
    assert {texts[0][0], texts[1][0]} == {"the heart is normal in size."}
    chosen = choose(texts, found.likelihood.numpy(), asked.numpy(), LABELER)
    assert "enlarged" in texts[0][chosen[0]] and chosen[1] == 0
    said = sum("enlarged" in text for text in texts[0][1:])
    assert 5 <= said <= 14  # .6 of 16


@pytest.fixture(scope="module")
def own(tiny_config):
    session = make_session(tiny_config)
    dataset = session.train_set()
    dataset.train = False
    return session, dataset


def test_a_report_does_not_depend_on_its_batch(own):
    """Nor on which rows are written beside it; without candidates the beam's stands."""
    session, dataset = own
    rows = [7, 2, 11, 3, 0]

    def written(rows=rows, **options):
        generation = session.settings.generation.model_copy(update={"min_new_tokens": 1, **options})
        return {p.row: p.text for p in predict(session, dataset, generation, rows=rows)}

    beams, several = written(), written(candidates=6, temperature=1.5)
    assert several == written(candidates=6, temperature=1.5, batch_size=2)
    assert several[11] == written([11], candidates=6, temperature=1.5)[11]
    assert several != beams


def test_validation_writes_no_candidates(tiny_config, monkeypatch):
    session = make_session(tiny_config, "generation.candidates=4")
    asked = []
    monkeypatch.setattr(Decoder, "candidates", lambda *a, **k: asked.append(a))
    assert "score" in session.validate(write=True)
    assert not asked and session.settings.generation.candidates == 4
