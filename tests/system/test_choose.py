"""Candidate reports, and which of them is taken."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_session

from revtaf.config_file import load_settings
from revtaf.decoder import Decoder
from revtaf.errors import UserError
from revtaf.eval import cider
from revtaf.eval.protocol import protocol_of
from revtaf.generate.asked import NOTHING, Asked
from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES, NO_FINDING, POSITIVE
from revtaf.rng import stream
from revtaf.settings import DecoderSettings, GenerationSettings
from revtaf.system.choose import Consensus, best, disagreements, with_told
from revtaf.system.evaluate import _chosen
from revtaf.system.thresholds import Thresholds
from revtaf.system.write import predict
from revtaf.tokenizer import ReportTokenizer

NORMAL = "the heart is normal in size . the lungs are clear ."
LARGE = "the heart is enlarged . the lungs are clear ."
BOTH = "the heart is enlarged . there is a small left pleural effusion ."
BOTH_POSITIVE = ("cardiomegaly", "pleural effusion")
LABELER, ENGLISH = RuleLabeler(), protocol_of("en")
ROOT = Path(__file__).parents[2]


def prompt(*positive: str, count: int = 18) -> np.ndarray:
    statuses = np.zeros(count, dtype=np.int64)
    statuses[[CATEGORIES.index(name) for name in positive]] = POSITIVE
    return statuses


def consensus(reports, *positive, patients=None) -> Consensus:
    """Of training reports with these positives."""
    statuses = np.stack([prompt(*each) for each in positive])
    return Consensus(
        reports, statuses, [f"p{i}" for i in range(len(reports))] if patients is None else patients, ENGLISH
    )


def seen(**probabilities) -> np.ndarray:
    """P(positive) (1, 18), .02 where not given."""
    found = np.full((1, 18), 0.02)
    for name, value in probabilities.items():
        found[0, CATEGORIES.index(name.replace("_", " "))] = value
    return found


NOBODY = ["nobody"]
REPORTS, POSITIVES = [NORMAL] * 6 + [LARGE] * 3 + [BOTH], [()] * 6 + [("cardiomegaly",)] * 3 + [BOTH_POSITIVE]


@pytest.mark.parametrize("count", [14, 18])
def test_findings_that_differ_from_the_prompt(count):
    """What is said too much counts as what is left out; "no finding", and what CheXpert does not know, do not count."""
    texts = [NORMAL, LARGE, BOTH, "possible small effusion .", "the aorta is tortuous ."]
    assert [row[NO_FINDING] == POSITIVE for row in LABELER.label(texts)] == [True, False, False, False, False]

    def counted(*positive):
        return disagreements([texts], prompt(*positive, count=count)[None], LABELER).tolist()

    assert counted("cardiomegaly") == [[1, 0, 1, 1, 1]]
    assert counted("cardiomegaly", "pleural effusion") == [[2, 1, 0, 2, 2]]
    assert counted() == counted("no finding") == [[0, 1, 2, 0, 0]]
    assert counted("fracture") == [[1, 2, 3, 1, 1]]


def test_each_sample_has_its_own_prompt():
    statuses = np.stack([prompt("cardiomegaly"), prompt(), prompt("cardiomegaly", "pleural effusion")])
    found = disagreements([[NORMAL, LARGE, BOTH]] * 3, statuses, LABELER)
    assert best(-found.astype(float)).tolist() == [1, 0, 2]


def test_reports_weigh_by_how_likely_their_findings_are():
    """Against a float64 oracle of the formula; without evidence all weigh the same, whatever their number."""
    known = consensus(REPORTS, *POSITIVES)
    positive = np.concatenate([seen(cardiomegaly=0.7), seen(pleural_effusion=0.9)])
    expected = np.zeros((2, 10))
    usual = {name: np.mean([name in each for each in POSITIVES]) for name in CATEGORIES}
    for b in range(2):
        for r, stated in enumerate(POSITIVES):
            ratio = 1.0
            for k, name in enumerate(CATEGORIES):
                p, base = positive[b, k], min(max(usual[name], 1e-6), 1 - 1e-6)
                ratio *= p / base if name in stated else (1 - p) / (1 - base)
            expected[b, r] = ratio
    expected /= expected.sum(1, keepdims=True)
    found = known.weights(positive, ["nobody", "somebody"])
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[0, 6] > found[0, 0] and found[1, 9] == found[1].max()
    base = np.array([[usual[name] for name in CATEGORIES]])
    np.testing.assert_allclose(known.weights(base, NOBODY), 0.1, rtol=1e-6)
    none = Consensus(REPORTS, np.zeros((10, 0), dtype=np.int64), list("abcdefghij"), ENGLISH)
    np.testing.assert_allclose(none.weights(np.zeros((1, 0)), NOBODY), 0.1)


def test_the_own_patients_reports_have_no_say():
    known = consensus(REPORTS, *POSITIVES)
    every, without = (known.weights(seen(cardiomegaly=0.7), [p]) for p in ("nobody", "p7"))
    assert without[0, 7] == 0 and without.sum() == pytest.approx(1)
    kept = np.arange(10) != 7
    np.testing.assert_allclose(without[0, kept], every[0, kept] / every[0, kept].sum())
    alone = consensus(REPORTS, *POSITIVES, patients=["p"] * 10)
    assert not alone.weights(seen(), ["p"]).any()
    assert best(alone.expected([[NORMAL, LARGE]], seen(), ["p"])).tolist() == [0]  # the beam's


def test_the_text_that_such_images_have():
    """With an image that shows it, the finding; where nothing is seen, the normal report; a text that is like no report
    never, however much it says."""
    known = consensus(REPORTS, *POSITIVES)
    texts = [["the heart is enlarged again , as it was .", NORMAL, LARGE, BOTH]]

    def taken(**probabilities):
        return best(known.expected(texts, seen(**probabilities), NOBODY)).tolist()

    assert taken() == [1] and taken(cardiomegaly=0.9) == [2]
    assert taken(cardiomegaly=0.98, pleural_effusion=0.98) == [3]
    expected = known.expected(texts, seen(cardiomegaly=0.9), NOBODY)
    processed = [[ENGLISH.reference(r)] for r in REPORTS]
    documents = [r for (r,) in processed]
    of_pairs = [[cider.metric([r], [ENGLISH.hypothesis(t)], documents).corpus for r in processed] for t in texts[0]]
    np.testing.assert_allclose(expected[0], of_pairs @ known.weights(seen(cardiomegaly=0.9), NOBODY)[0], atol=1e-12)


def test_of_many_reports_some_are_drawn(monkeypatch):
    """With their own statuses and patients, by the seed; a text that none of the drawn ones is like expects nothing."""
    monkeypatch.setattr("revtaf.system.choose.REFERENCES", 3)
    reports = [f"finding{i} is seen again in the lung {i} ." for i in range(18)]
    statuses = np.where(np.eye(18, dtype=bool), POSITIVE, 0)
    patients = [f"p{i}" for i in range(18)]

    def drawn(seed) -> list[int]:
        known = Consensus(reports, statuses, patients, ENGLISH, seed)
        rows = np.flatnonzero(known.usual)
        assert known.weights(np.full((1, 18), 1 / 3), NOBODY).shape == (1, 3)
        for row in rows:
            own = known.expected([reports], np.where(np.arange(18) == row, 0.999, 0.001)[None], NOBODY)[0]
            assert own.argmax() == row and (np.delete(own, rows) < own[rows].min()).all()
            assert known.weights(np.full((1, 18), 1 / 3), [patients[row]]).tolist()[0].count(0.0) == 1
        return rows.tolist()

    assert drawn(0) == drawn(0) != drawn(1) and len(drawn(0)) == 3 and drawn(0) != [0, 1, 2]


def test_a_finding_that_is_told_absent_never_counts_as_present():
    """However rare it is: its reports lose weight, and those of a finding that is told present gain."""
    reports = [f"{word} lung ." for word in ("clear", "opaque", "clear", "clear", "clear", "clear")] * 50
    positives = [("lung opacity",) if i == 1 else () for i in range(300)]
    known = consensus(reports, *positives)
    place = CATEGORIES.index("lung opacity")
    assert 0 < known.usual[place] < 0.01
    plain = known.usual[None]
    absent, present = prompt()[None], prompt("lung opacity")[None]
    weights = [
        known.weights(with_told(plain, statuses, told, known.usual), NOBODY)[0, 1]
        for statuses, told in ((absent, []), (absent, [place]), (present, [place]))
    ]
    assert weights[0] == pytest.approx(1 / 300, rel=1e-6)
    assert weights[1] < 0.2 * weights[0] and weights[2] > 0.8
    assert with_told(plain, present, [], known.usual) is not plain  # a copy: what a model said stays as it is
    np.testing.assert_array_equal(with_told(plain, present, [], known.usual), plain)


def test_a_text_without_a_word_is_never_taken():
    known = consensus(REPORTS, *POSITIVES)
    expected = known.expected([["", "zebra .", " "]], seen(), NOBODY)
    assert expected[0].tolist() == [-np.inf, 0, -np.inf] and best(expected).tolist() == [1]


def test_among_equals_the_beams():
    assert best(np.array([[0.2, 0.2 + 1e-12, 0.1], [0.1, 0.3, 0.3]])).tolist() == [0, 1]


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
    texts = [[tokenizer.decode(row) for row in each] for each in found.tolist()]
    assert {texts[0][0], texts[1][0]} == {"the heart is normal in size."}
    chosen = best(-disagreements(texts, asked.numpy(), LABELER).astype(float))
    assert "enlarged" in texts[0][chosen[0]] and chosen[1] == 0
    said = sum("enlarged" in text for text in texts[0][1:])
    assert 5 <= said <= 14  # .6 of 16


@pytest.fixture(scope="module")
def own(tiny_config):
    session = make_session(tiny_config)
    dataset = session.train_set()
    dataset.train = False
    session.kept_thresholds = calibrated(session)
    return session, dataset


def calibrated(session) -> Thresholds:
    """Thresholds that halve the odds of all but the first category, which was not calibrated."""
    numbers = np.full(session.categories, 0.3)
    slopes, intercepts = np.ones(session.categories), np.full(session.categories, -np.log(2))
    slopes[0] = 0
    return Thresholds(numbers, slopes, intercepts, np.ones(session.categories), 0.3, 0.0, 9, "holdout")


def test_a_report_does_not_depend_on_its_batch(own):
    """Nor on which rows are written beside it; without candidates the beam's stands."""
    session, dataset = own
    rows = [7, 2, 11, 3, 0]

    def written(rows=rows, **options):
        generation = session.settings.generation.model_copy(update={"min_new_tokens": 1, **options})
        return {p.row: p.text for p in predict(session, dataset, generation, rows=rows)}

    for agreement in (0.0, 0.1):
        asked = {"candidates": 6, "temperature": 1.5, "agreement": agreement}
        beams, several = written(), written(**asked)
        assert several == written(**asked, batch_size=2)
        assert several[11] == written([11], **asked)[11]
        assert several != beams


def test_what_is_told_counts_as_certain(own, monkeypatch):
    """The true statuses where they are the prompt, a user's where they are given; else what the classifier says."""
    session, dataset = own
    given = []
    real = Consensus.expected
    monkeypatch.setattr(Consensus, "expected", lambda *a: given.append(a[2].copy()) or real(*a))

    def positive(asked=NOTHING, **options):
        generation = session.settings.generation.model_copy(update={"candidates": 1, **options})
        predictions = predict(session, dataset, generation, rows=[3, 5], asked=asked)
        return given.pop(), np.array([p.positive for p in predictions])

    usual = session.consensus.usual
    plain, probabilities = positive()
    odds = probabilities / (1 - probabilities) / 2
    np.testing.assert_allclose(plain[:, 1:], (odds / (1 + odds))[:, 1:], rtol=1e-4)
    np.testing.assert_allclose(plain[:, 0], usual[0])  # not calibrated: no evidence
    oracle, kept = positive(statuses="oracle")
    truth = dataset.features.statuses[[3, 5]] == POSITIVE
    np.testing.assert_allclose(oracle, np.where(truth, np.maximum(0.9, usual), 0.1 * usual), rtol=1e-6)
    np.testing.assert_array_equal(kept, probabilities)  # the model's stay its own
    one, kept = positive(Asked({"edema": "positive"}))
    changed = plain.copy()
    changed[:, CATEGORIES.index("edema")] = 0.9
    np.testing.assert_allclose(one, changed, rtol=1e-6)
    np.testing.assert_array_equal(kept, probabilities)


def test_agreement_weighs_the_prompt_against_the_consensus(own, monkeypatch):
    session, dataset = own
    monkeypatch.setattr(Consensus, "expected", lambda self, texts, *_: np.array([[0.0, 1.0, 0.5]] * len(texts)))
    wrong = np.array([[5, 9, 1]] * 2)
    monkeypatch.setattr("revtaf.system.write.disagreements", lambda *_: wrong)
    found = []
    monkeypatch.setattr("revtaf.system.write.best", lambda scores: found.append(best(scores)) or best(scores))

    def taken(agreement):
        update = {"candidates": 2, "agreement": agreement}
        predict(session, dataset, session.settings.generation.model_copy(update=update), rows=[3, 5])
        return found.pop().tolist()

    assert taken(0) == taken(0.05) == [1, 1] and taken(0.1) == [2, 2]


def test_without_thresholds_or_reports_nothing_is_chosen(tiny_config, monkeypatch):
    session = make_session(tiny_config, "generation.candidates=2")
    dataset = session.train_set()
    dataset.train = False
    with pytest.raises(UserError, match="generation.candidates, but this model has no thresholds.json"):
        predict(session, dataset, session.settings.generation, rows=[0])
    monkeypatch.setitem(vars(session.knowledge), "reports", None)
    monkeypatch.delitem(vars(session), "consensus")
    with pytest.raises(UserError, match="export FOLDER NEW --reports ANNOTATION"):
        predict(session, dataset, session.settings.generation, rows=[0])


def test_who_chose_and_by_what_is_said():
    """Of the measures that also score."""

    def said(*overrides, labeler=LABELER, categories=18):
        settings = load_settings(ROOT / "configs/phantom.yaml", list(overrides))
        return _chosen(settings, labeler, categories)

    assert said() == []
    (plain,) = said("generation.candidates=8")
    assert "8 sampled reports" in plain and "weighted by what the classifier sees" in plain and "less" not in plain
    (both,) = said("generation.candidates=8", "generation.agreement=0.1", "generation.statuses=oracle")
    assert "true statuses, is the highest, less 0.1 for each finding, read by rules-" in both
    assert "weighted" not in said("generation.candidates=8", labeler=None, categories=0)[0]


def test_validation_writes_no_candidates(tiny_config, monkeypatch):
    session = make_session(tiny_config, "generation.candidates=4")
    asked = []
    monkeypatch.setattr(Decoder, "candidates", lambda *a, **k: asked.append(a))
    assert "score" in session.validate(write=True)
    assert not asked and session.settings.generation.candidates == 4
