"""Fusion: Eq. 11 by hand, the sources that exist, the image that stays."""

import pytest
import torch

from revtaf.fvtaf.fcc import cosine_matrix, fcc_loss
from revtaf.fvtaf.fusion import FVTAF


def inputs(width=48):
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(2, 49, width, generator=generator)
    report, entities = (torch.randn(2, n, 24, generator=generator) for n in (6, 75))
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 4:] = False
    return visual, report, mask, entities


def fvtaf(visual_width=48, **settings):
    torch.manual_seed(0)
    return FVTAF(visual_width, 24, width=32, num_heads=4, **settings)


@pytest.mark.parametrize("visual_width", (48, 32))
def test_equation_11_by_hand(visual_width):
    visual, report, mask, entities = inputs(visual_width)
    model = fvtaf(visual_width)
    fusion = model(visual, report, mask, entities)
    assert fusion.features.shape == (2, 49, model.out_width) and model.out_width == 64
    base = model.residual(visual)
    assert (visual_width == 32) == torch.equal(base, visual)
    for i, (name, text, m) in enumerate((("global", report, mask), ("local", entities, None))):
        fused, maps = model.mpsa[name](visual, text, m)
        expected = model.project[name](model.norm[name](fused + base))
        torch.testing.assert_close(fusion.features[..., 32 * i : 32 * i + 32], expected)
        torch.testing.assert_close((fusion.global_map, fusion.local_map)[i], maps)


@pytest.mark.parametrize("source", ("global", "local"))
def test_one_source_alone(source):
    visual, report, mask, entities = inputs()
    model = fvtaf(sources=(source,))
    given = (report, mask, None) if source == "global" else (None, None, entities)
    fusion = model(visual, *given)
    assert model.out_width == 32 and fusion.features.shape == (2, 49, 32)
    assert (fusion.local_map is None) == (source == "global") == (fusion.global_map is not None)
    assert torch.equal(model(visual, report, mask, entities).features, fusion.features)


def test_a_missing_text_is_named():
    visual, _, _, entities = inputs()
    with pytest.raises(ValueError, match="no global text"):
        fvtaf()(visual, local_text=entities)
    for wrong in ((), ("regional",)):
        with pytest.raises(ValueError, match="sources"):
            fvtaf(sources=wrong)


def test_every_parameter_learns_and_shared_has_one_mpsa():
    counts = {}
    for shared in (False, True):
        visual, report, mask, entities = inputs()
        model = fvtaf(shared=shared, projection="feed_forward")
        fusion = model(visual, report, mask, entities)
        loss = fcc_loss(fusion.global_map, fusion.local_map, cosine_matrix(report, entities), mask)
        (fusion.features.square().sum() + loss).backward()
        assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())
        counts[shared] = sum(p.numel() for p in model.parameters())
    one_mpsa = sum(p.numel() for p in model.shared_mpsa.parameters())
    assert counts[False] - counts[True] == one_mpsa


def test_consistency_alone_trains_queries_and_keys_of_both_sources():
    visual, report, mask, entities = inputs()
    model = fvtaf()
    fusion = model(visual, report, mask, entities)
    fcc_loss(fusion.global_map, fusion.local_map, cosine_matrix(report, entities), mask).backward()
    for mpsa in model.mpsa.values():
        assert mpsa.query.weight.grad.abs().max() > 0 and mpsa.key.weight.grad.abs().max() > 0


def test_entities_speak_as_they_are_present():
    """Maps of entities carry mass in proportion to P(present), those of sentences the same each."""
    visual, report, mask, entities = inputs()
    presence = torch.rand(2, 75, generator=torch.Generator().manual_seed(1))
    presence[:, 0] = 0
    model = fvtaf(text_mass="presence")
    fusion = model(visual, report, mask, entities, presence)
    due = presence / presence.sum(1, keepdim=True)
    torch.testing.assert_close(fusion.local_map.sum(2)[:, 1:], due[:, 1:], rtol=1e-2, atol=1e-5)
    assert (fusion.local_map.sum(2)[:, 0] > 0).all()
    torch.testing.assert_close(fusion.global_map.sum(2), mask / mask.sum(1, keepdim=True), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(model(visual, report, mask, entities, presence.flip(0)).features, fusion.features)
    with pytest.raises(ValueError, match="no presence"):
        model(visual, report, mask, entities)
    plain = fvtaf()
    assert torch.equal(plain(visual, report, mask, entities, presence).features, plain(*inputs()).features)


def test_without_a_sentence_the_image_remains():
    visual, report, mask, entities = inputs()
    model = fvtaf()
    fusion = model(visual, report, torch.zeros_like(mask), entities)
    expected = model.project["global"](model.norm["global"](model.residual(visual)))
    torch.testing.assert_close(fusion.features[..., :32], expected)


def test_a_sample_does_not_depend_on_its_batch():
    visual, report, mask, entities = inputs()
    model = fvtaf()
    together = model(visual, report, mask, entities).features
    alone = torch.cat([model(*(x[i : i + 1] for x in (visual, report, mask, entities))).features for i in (0, 1)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
