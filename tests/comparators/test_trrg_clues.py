"""TRRG's parts that need no run: Eq. 1, the clue bank and its choice, CMCI and Eq. 4."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from revtaf.comparators.medfuse.objective import contrast
from revtaf.comparators.trrg.clues import NEVER, OURS, EncodedClues, read_bank, texts_of
from revtaf.comparators.trrg.given import GivenClues, by_entities, stated
from revtaf.comparators.trrg.interaction import ClueInteraction, alikeness, consistency_loss
from revtaf.comparators.trrg.settings import InteractionSettings, Stage1Settings
from revtaf.comparators.trrg.stage1 import BANK, Stage1
from revtaf.comparators.trrg.states import in_words, read_predicted
from revtaf.comparators.trrg.system import TRRG
from revtaf.errors import UserError
from revtaf.labels import CHEXPERT_CATEGORIES, ENTITIES, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_eq_1_is_open_clip_s_loss_and_twice_it_as_printed():
    open_clip = pytest.importorskip("open_clip", reason="needs pip install 'revtaf[medfuse]'")
    v, t, scale = unit(6, 8), unit(6, 8, seed=1), torch.tensor(1 / 0.07)
    expected = open_clip.loss.ClipLoss()(v, t, scale)
    none = (v.new_zeros(6, 0, 8), torch.zeros(6, 0, dtype=torch.bool), v.new_zeros(6, 0))
    torch.testing.assert_close(contrast(v, t, scale, *none, None, "mean"), expected)
    torch.testing.assert_close(contrast(v, t, scale, *none, None, "paper"), 2 * expected)


def test_ours_has_a_clue_for_each_of_the_14():
    """One canonical text each, more where they are expanded, and entities that choose them."""
    bank = read_bank(None)
    assert sorted(clue.category for clue in bank) == list(range(14)) and all(clue.entities for clue in bank)
    texts, owner = texts_of(bank, "Clue: ", expanded=False)
    assert owner == list(range(14)) and texts[9] == "Clue: small pleural effusion at the costophrenic angle"
    more, owners = texts_of(bank, "", expanded=True)
    assert set(owners) == set(range(14)) and len(more) == len(set(more)) > 60


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"category": "plural effusion"}, "clue 2: category 'plural effusion': did you mean 'pleural effusion'"),
        ({"category": "cardiomegaly", "text": "x"}, "clue 2: category 'cardiomegaly' has a clue already"),
        ({"category": "edema", "sevrity": ["mild"]}, "unknown key 'sevrity'; did you mean 'severity'"),
        ({"category": "edema", "disease": [3]}, "clue 2 .edema.: disease: expected words, got 3"),
        ({"category": "edema", "entities": ["edma"], "text": "edema"}, "'edma': did you mean 'edema'"),
        ({"category": "edema"}, "give it either text, or disease"),
    ],
)
def test_a_wrong_clue_is_named_with_file_and_number(tmp_path, change, says):
    path = tmp_path / "clues.yaml"
    path.write_text(yaml.safe_dump({"clues": [{"category": "cardiomegaly", "text": "large heart"}, change]}))
    with pytest.raises(UserError, match=says) as refused:
        read_bank(path)
    assert str(path) in str(refused.value)
    path.write_text("- 3")
    with pytest.raises(UserError, match="expected one key, clues"):
        read_bank(path)
    with pytest.raises(UserError, match="clue.bank: no such file"):
        read_bank(tmp_path / "none.yaml")


@pytest.mark.parametrize("kind", [Stage1, TRRG])
def test_a_model_keeps_the_bank_as_it_was_read(tmp_path, kind):
    """Whatever has become of the file since."""
    path = tmp_path / "clues.yaml"
    path.write_bytes("# début\r\nclues: [{category: edema, text: fluid}]\n".encode())
    before, bank, model = path.read_bytes(), read_bank(path), tmp_path / "model"
    model.mkdir()
    path.write_text("clues: []")
    words = SimpleNamespace(tokenizer=SimpleNamespace(save=lambda _: None))
    kind.save(SimpleNamespace(bank=bank, words=words, settings=Stage1Settings(clue={"bank": path})), model)
    assert (model / BANK).read_bytes() == before and read_bank(model / BANK) == bank


def test_stage_1_is_known_by_its_clues():
    """They choose its epoch."""
    bank = read_bank(None)
    systems = [SimpleNamespace(training=([], []), bank=clues) for clues in (bank, read_bank(None), bank[1:])]
    one, same, other = map(Stage1.identity, systems)
    assert one == same != other


def encoded(wordings=5, length=4, width=6, owner=(0, 0, 1, 2, 2)):
    mask = torch.arange(length)[None] < torch.tensor([4, 2, 3, 1, 2])[:, None]
    tokens = torch.randn(wordings, length, width, generator=torch.Generator().manual_seed(3))
    return EncodedClues(unit(wordings, width), tokens * mask[..., None], mask, owner, 0.07)


def test_the_chosen_clues_are_those_of_a_search_by_hand():
    """The best wording of each clue, the k best clues in their order, weights that sum to 1 over all clues."""
    bank, images = encoded(), unit(20, 6, seed=5)
    chosen = bank.select(images, 2)
    for i, image in enumerate(images):
        values = [float(image @ c) for c in bank.cls]
        best = {o: max((v, r) for r, v in enumerate(values) if bank.owner[r] == o) for o in range(3)}
        order = sorted(best, key=lambda o: -best[o][0])[:2]
        assert chosen.clues[i].tolist() == order and chosen.rows[i].tolist() == [best[o][1] for o in order]
        weights = torch.tensor([best[o][0] for o in range(3)]).div(0.07).softmax(0)
        torch.testing.assert_close(chosen.weights[i], weights, atol=1e-5, rtol=1e-4)
    assert chosen.valid.all()
    tokens, mask = bank.injected(chosen)
    assert tokens.shape == (20, 8, 6) and torch.equal(tokens[0, :4], bank.tokens[chosen.rows[0, 0]])
    assert mask.sum(1).tolist() == [int(bank.mask[rows].sum()) for rows in chosen.rows]


def test_autocast_chooses_the_same_clues():
    """Cosines that half precision would call equal, and nearly equal scores that are given: choice, order and weights
    are those of full precision."""
    near = F.normalize(unit(1, 6) + 1e-3 * unit(14, 6, seed=1), dim=-1)
    words = torch.ones(14, 1, dtype=torch.bool)
    bank, images = EncodedClues(near, near[:, None], words, range(14), 0.07), unit(40, 6, seed=5)
    for given in (None, 0.5 + 1e-4 * torch.rand(40, 14, generator=torch.Generator().manual_seed(7))):
        plain = bank.select(images, 3, given)
        with torch.autocast("cpu", torch.bfloat16):
            halves = bank.select(images, 3, given)
        assert halves.weights.dtype == torch.float32
        assert all(torch.equal(a, b) for a, b in zip(plain, halves, strict=True))


def test_given_scores_choose_in_the_place_of_the_image():
    """What is never to be injected is masked, and a sample may have no clue at all."""
    bank, images = encoded(), unit(3, 6, seed=5)
    given = torch.tensor([[NEVER, 1.0, 0.5], [NEVER, NEVER, 2.0], [NEVER] * 3])
    chosen = bank.select(images, 2, given)
    assert chosen.valid.tolist() == [[True, True], [True, False], [False, False]]
    assert chosen.clues[0].tolist() == [1, 2] and chosen.clues[1, 0] == 2 and chosen.weights.isfinite().all()
    assert not bank.injected(chosen)[1][2].any()


def test_what_other_sources_give():
    """The report's positives, the rarer first; the largest of a clue's entities; another patient's at random."""
    bank = read_bank(None)
    statuses = np.zeros((4, 18), np.uint8)
    statuses[:3, 1], statuses[0, 9], statuses[0, 3], statuses[3, NO_FINDING] = POSITIVE, POSITIVE, UNCERTAIN, POSITIVE
    table = stated(bank, statuses)
    assert np.isfinite(table).sum(1).tolist() == [2, 1, 1, 1] and table[0, 9] > table[0, 1]
    scores = np.zeros((1, 75))
    scores[0, ENTITIES.index("effusion")], scores[0, ENTITIES.index("blunt")] = 0.4, 0.7
    assert by_entities(bank, scores)[0].argmax() == 9 and by_entities(bank, scores)[0, 9] == np.float32(0.7)
    drawn = GivenClues("random", table, list("abcd"), 0)
    assert (drawn.row(1, 3) == drawn.row(1, 3)).all()
    assert len({tuple(drawn.row(row, epoch)) for row in range(4) for epoch in range(8)}) > 1


def test_random_clues_are_never_the_patient_s_own():
    """Of another training patient in every epoch; a draw that was another's stays what it was."""
    table, owners = np.arange(6, dtype=np.float32)[:, None], ["a", "a", "a", "b", "b", "c"]
    drawn = GivenClues("random", table, list("uvwxyz"), 0, owners, owners=owners)
    before = GivenClues("random", table, list("uvwxyz"), 0)
    own = 0
    for row in range(6):
        for epoch in range(20):
            found, earlier = int(drawn.row(row, epoch)[0]), int(before.row(row, epoch)[0])
            assert owners[found] != owners[row]
            own += owners[earlier] == owners[row]
            assert found == earlier or owners[earlier] == owners[row]
    assert own > 20
    unknown = GivenClues("random", table, ["n"], 0, ["new"], owners=owners)
    assert len({int(unknown.row(0, epoch)[0]) for epoch in range(40)}) == 6
    with pytest.raises(UserError, match="the training set has one patient"):
        GivenClues("random", table, list("uvwxyz"), 0, ["a"] * 6, owners=["a"] * 6)


def test_statuses_in_words_and_from_a_file(tmp_path):
    statuses = np.zeros((2, 18), np.uint8)
    statuses[0, [1, 4]], statuses[0, 8] = POSITIVE, NEGATIVE
    assert in_words(statuses) == ["positive: cardiomegaly, edema; negative: pneumothorax.", ""]
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "a", "statuses": {"cardiomegaly": "positive"}}\n')
    with pytest.raises(UserError, match="lack 1 of 2 samples, first b"):
        read_predicted([path], ["a", "b"])
    assert read_predicted([path], ["a"]).tolist() == [[POSITIVE]]
    path.write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match="has no statuses"):
        read_predicted([path], ["a"])


@pytest.mark.parametrize("attention", ["softmax", "sinkhorn"])
def test_padded_clue_tokens_have_no_influence(attention):
    """Whatever lies under the mask, even NaN, and however much of it; a sample without any clue is no NaN."""
    torch.manual_seed(0)
    cmci = ClueInteraction(8, InteractionSettings(queries=3, heads=2, feed_forward=2, attention=attention)).eval()
    visual, clues = torch.randn(3, 5, 8), torch.randn(3, 6, 8)
    mask = torch.arange(6)[None] < torch.tensor([4, 6, 0])[:, None]
    v, c = cmci(visual, clues, mask)
    assert v.isfinite().all() and c.isfinite().all()
    other = torch.cat([clues.masked_fill(~mask[..., None], float("nan")), torch.full((3, 2, 8), 7.0)], 1)
    again = cmci(visual, other, torch.cat([mask, torch.zeros(3, 2, dtype=torch.bool)], 1))
    torch.testing.assert_close(again[0], v)
    torch.testing.assert_close(again[1], c, atol=2e-4, rtol=1e-3)
    assert (cmci(visual, clues.flip(-1), mask)[1] - c).abs().max() > 1e-3  # what is no padding has


def test_sinkhorn_is_the_same_layer_weight_for_weight():
    """REVTAF's transport in the place of the softmax: same weights, other output; each query's mass is equal anyway."""
    made = []
    for attention in ("softmax", "sinkhorn"):
        torch.manual_seed(0)
        made.append(ClueInteraction(8, InteractionSettings(queries=3, heads=2, attention=attention)).eval())
    a, b = (m.state_dict() for m in made)
    assert all(torch.equal(a[name], b[name]) for name in a)
    visual, clues, mask = torch.randn(2, 5, 8), torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool)
    assert (made[0](visual, clues, mask)[1] - made[1](visual, clues, mask)[1]).abs().max() > 1e-4


def test_the_consistency_loss_is_within_minus_one_and_one():
    """-1 for the same direction whatever the length, 1 for opposite ones."""
    e = torch.randn(4, 3, 8)
    assert consistency_loss(e, 3 * e).item() == pytest.approx(-1) and consistency_loss(e, -e).item() == pytest.approx(1)
    for seed in range(5):
        value = consistency_loss(unit(4, 3, 8, seed=seed), unit(4, 3, 8, seed=seed + 9))
        assert -1 <= value <= 1
    c = e.clone().requires_grad_(True)
    consistency_loss(e.clone().requires_grad_(True), c, "clue").backward()
    assert c.grad is None


def test_the_gauge_is_the_mean_cosine_of_other_images_tokens():
    tokens = torch.randn(5, 3, 8)
    pairs = [
        F.cosine_similarity(tokens[i, t], tokens[j, t], dim=0)
        for i in range(5)
        for j in range(5)
        if i != j
        for t in range(3)
    ]
    torch.testing.assert_close(alikeness(tokens), torch.stack(pairs).mean())
    assert alikeness(tokens[:1]) == 0 and alikeness(tokens[:1].expand(4, -1, -1)).item() == pytest.approx(1)


def test_alone_the_consistency_loss_makes_all_images_alike():
    """Its weakness: a constant satisfies it. The gauge shows the collapse."""
    torch.manual_seed(0)
    cmci = ClueInteraction(16, InteractionSettings(queries=4, heads=2, feed_forward=2, dropout=0))
    visual, clues, mask = torch.randn(16, 6, 16), torch.randn(16, 6, 16), torch.ones(16, 6, dtype=torch.bool)
    optimizer = torch.optim.Adam(cmci.parameters(), lr=3e-3)
    before = alikeness(cmci(visual, clues, mask)[0])
    for _ in range(80):
        loss = consistency_loss(*cmci(visual, clues, mask))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = alikeness(cmci(visual, clues, mask)[0])
    assert loss < -0.95 and after > 0.9 > before, (loss, before, after)


def test_the_bank_is_data_that_comes_with_the_package():
    assert OURS.is_file() and len(CHEXPERT_CATEGORIES) == 14
