"""MPSA: the default depends on the image and trains; the released axis does neither."""

import pytest
import torch
from torch.nn import functional as F

from revtaf.fvtaf.mpsa import MPSA
from revtaf.fvtaf.sinkhorn import transport_plan


def inputs(batch=3, patches=49, texts=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    visual = torch.randn(batch, patches, 32, generator=generator)
    text = torch.randn(batch, texts, 24, generator=generator)
    mask = torch.ones(batch, texts, dtype=torch.bool)
    mask[0, 6:] = False
    return visual, text, mask


def module(**settings):
    torch.manual_seed(0)
    return MPSA(32, 24, width=64, num_heads=4, **settings)


VARIANTS = ({}, {"attention": "softmax"}, {"axis": "per_text"}, {"text_mass": "unbalanced"})
LISTENING = (*VARIANTS[:2], VARIANTS[3])  # all but the released axis


@pytest.mark.parametrize("settings", LISTENING)
def test_attention_depends_on_the_patch_and_on_the_image(settings):
    visual, text, mask = inputs()
    mpsa = module(**settings)
    output, maps = mpsa(visual, text, mask)
    assert output.shape == (3, 49, 64) and maps.shape == (3, 10, 49)
    assert (maps[1].std(dim=1) > 0.1 * maps[1].mean(dim=1)).all()
    assert output[1].std(dim=0).min() > 0
    other_output, other_maps = mpsa(visual.flip(0), text, mask)
    assert (other_maps - maps)[1:2].abs().max() == 0  # sample 1 kept its image
    assert (other_maps - maps)[2].abs().max() > 0.1 * maps[2].mean()
    assert not torch.allclose(other_output[2], output[2])


@pytest.mark.parametrize("settings", LISTENING)
def test_gradient_reaches_queries_keys_and_the_image(settings):
    """Through the maps alone, and through the output."""
    for pick in (0, 1):
        visual, text, mask = inputs()
        visual.requires_grad_()
        mpsa = module(**settings)
        mpsa(visual, text, mask)[pick].square().sum().backward()
        for tensor in (mpsa.query.weight, mpsa.key.weight, visual):
            assert tensor.grad.isfinite().all() and tensor.grad.abs().max() > 1e-7


def test_the_released_axis_is_constant_and_trains_neither_queries_nor_keys():
    visual, text, mask = inputs()
    visual.requires_grad_()
    mpsa = module(axis="per_text")
    output, maps = mpsa(visual, text, mask)
    expected = mask[..., None] / mask.sum(1)[:, None, None] / 49
    torch.testing.assert_close(maps, expected.expand_as(maps))
    torch.testing.assert_close(output, output[:, :1].expand_as(output))
    average = (mpsa.value(text) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(output[:, 0], mpsa.output(average))
    (output.square().sum() + maps.square().sum()).backward()
    for tensor in (mpsa.query.weight, mpsa.key.weight, visual):
        assert tensor.grad.abs().max() < 1e-9
    assert mpsa.value.weight.grad.abs().max() > 1e-3


@pytest.mark.parametrize("settings", VARIANTS)
def test_a_masked_sentence_has_no_influence(settings):
    visual, text, mask = inputs()
    mpsa = module(**settings)
    output, maps = mpsa(visual, text, mask)
    spoiled = text.masked_fill(~mask[..., None], float("nan"))
    again = mpsa(visual, spoiled, mask)
    assert torch.equal(again[0], output) and torch.equal(again[1], maps)
    assert (maps[0, 6:] == 0).all()
    alone = mpsa(visual[:1], text[:1, :6])
    torch.testing.assert_close(alone[0], output[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone[1], maps[:1, :6], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("settings", VARIANTS)
def test_a_sample_without_texts_gives_zeros(settings):
    visual, text, mask = inputs()
    mask[1] = False
    mpsa = module(**settings)
    output, maps = mpsa(visual.requires_grad_(), text, mask)
    assert (output[1] == 0).all() and (maps[1] == 0).all() and output[0].abs().sum() > 0
    (output.sum() + maps.square().sum()).backward()
    assert all(p.grad.isfinite().all() for p in mpsa.parameters()) and visual.grad.isfinite().all()


@pytest.mark.parametrize("settings", VARIANTS)
def test_maps_are_plans(settings):
    """Every patch hands out 1/P; with transport every sentence receives 1/N_valid."""
    visual, text, mask = inputs()
    _, maps = module(**settings)(visual, text, mask)
    torch.testing.assert_close(maps.sum(1), torch.full((3, 49), 1 / 49), rtol=1e-4, atol=0)
    if settings in ({}, {"axis": "per_text"}):
        torch.testing.assert_close(maps.sum(2), mask / mask.sum(1, keepdim=True), rtol=1e-4, atol=1e-7)


def test_transport_decides_where_a_text_goes_never_whether():
    """The mean over patches is the mean of all values, whatever the image asks for; softmax and relaxed masses are not
    bound so."""
    visual, text, mask = inputs()
    for settings, bound in ((VARIANTS[0], True), (VARIANTS[1], False), (VARIANTS[3], False)):
        mpsa = module(**settings)
        values = mpsa.output(mpsa.value(text))
        expected = (values * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        for image in (visual, 3 * visual.flip(0)):
            mean = mpsa(image, text, mask)[0].mean(1)
            assert torch.allclose(mean, expected, rtol=1e-4, atol=1e-5) == bound


def given_masses():
    mass = torch.rand(3, 10, generator=torch.Generator().manual_seed(1)) + 0.01
    return mass, mass * inputs()[2]


def test_a_given_mass_is_what_a_text_has_to_say():
    """A map sums to its text's mass, and the mean over patches is the mean of the values weighted by it."""
    visual, text, mask = inputs()
    mass, due = given_masses()
    due = due / due.sum(1, keepdim=True)
    mpsa = module(text_mass="presence")
    output, maps = mpsa(visual, text, mask, mass)
    torch.testing.assert_close(maps.sum(2), due, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(maps.sum(1), torch.full((3, 49), 1 / 49), rtol=1e-4, atol=0)
    expected = (mpsa.output(mpsa.value(text)) * due[..., None]).sum(1)
    torch.testing.assert_close(output.mean(1), expected, rtol=1e-3, atol=1e-5)
    # Without a mass, and with equal ones, it is the paper's.
    plain = module()(visual, text, mask)[0]
    assert torch.equal(mpsa(visual, text, mask)[0], plain)
    torch.testing.assert_close(mpsa(visual, text, mask, torch.full_like(mass, 0.2))[0], plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(output, plain, atol=1e-3)


def test_a_learned_mass_starts_uniform_and_finds_the_text_that_is_asked_for():
    """Descent on a loss of the output alone: the text whose value is wanted gets the mass."""
    visual, text, mask = inputs()
    mpsa = module(text_mass="learned")
    assert torch.equal(mpsa(visual, text, mask)[0], module()(visual, text, mask)[0])  # weights and all
    wanted = mpsa.output(mpsa.value(text))[:, 2].detach()
    optimizer = torch.optim.Adam([mpsa.mass], lr=0.1)
    for _ in range(60):
        loss = (mpsa(visual, text, mask)[0].mean(1) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = mpsa(visual, text, mask)[1].sum(2)
    assert (found[:, 2] > 0.5).all() and (found[0, 6:] == 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(3), rtol=1e-4, atol=0)


def test_unbalanced_lets_queries_and_keys_decide_whether_a_text_is_heard():
    """Descent on queries and keys alone: the wanted text takes mass from the others, as it cannot in the paper's."""
    visual, text, mask = inputs()
    heard = {}
    for text_mass in ("uniform", "unbalanced"):
        mpsa = module(text_mass=text_mass)
        optimizer = torch.optim.Adam([mpsa.query.weight, mpsa.key.weight], lr=0.01)
        wanted = mpsa.output(mpsa.value(text))[:, 2].detach()
        for _ in range(20):
            loss = (mpsa(visual, text, mask)[0].mean(1) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        heard[text_mass] = mpsa(visual, text, mask)[1].sum(2)[:, 2]
    torch.testing.assert_close(heard["uniform"], 1 / mask.sum(1), rtol=1e-3, atol=0)
    assert (heard["unbalanced"] > 2.5 / mask.sum(1)).all()


def test_a_sample_without_texts_has_no_learned_mass():
    visual, text, mask = inputs()
    mask[1] = False
    mpsa = module(text_mass="learned")
    output, maps = mpsa(visual, text, mask)
    assert (output[1] == 0).all() and (maps[1] == 0).all()
    output.square().sum().backward()
    assert mpsa.mass.grad.isfinite().all() and mpsa.mass.grad.any()


def test_masses_that_nothing_reads_are_refused():
    visual, text, mask = inputs()
    with pytest.raises(ValueError, match="text_mass is 'uniform'"):
        module()(visual, text, mask, torch.ones(3, 10))
    for settings in VARIANTS[1:3]:
        with pytest.raises(ValueError, match="needs attention 'mpsa' and axis 'joint'"):
            module(text_mass="learned", **settings)
    with pytest.raises(ValueError, match="even"):
        module(text_mass="even")


def test_heads_are_real():
    """By hand, head by head, from the module's own weights."""
    visual, text, mask = inputs()
    mpsa = module()
    q, k, v = mpsa.query(visual), mpsa.key(text), mpsa.value(text)
    outputs, plans = [], []
    for h in range(4):
        part = slice(16 * h, 16 * h + 16)
        cost = 1 - F.normalize(q[..., part], dim=-1) @ F.normalize(k[..., part], dim=-1).mT
        plans.append(transport_plan(cost, mask=mask))
        outputs.append(49 * plans[-1] @ v[..., part])
    output, maps = mpsa(visual, text, mask)
    torch.testing.assert_close(output, mpsa.output(torch.cat(outputs, -1)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps, torch.stack(plans).mean(0).mT, rtol=1e-3, atol=1e-7)
    assert not torch.allclose(plans[0], plans[1], rtol=0.1)


def test_softmax_is_torch_attention():
    visual, text, mask = inputs()
    mpsa = module(attention="softmax")
    q, k, v = (mpsa._heads(x) for x in (mpsa.query(visual), mpsa.key(text), mpsa.value(text)))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
    expected = mpsa.output(expected.transpose(1, 2).flatten(2))
    torch.testing.assert_close(mpsa(visual, text, mask)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_permutation_of_texts_permutes_maps_only():
    visual, text, mask = inputs()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    output, maps = module()(visual, text, mask)
    other = module()(visual, text[:, order], mask[:, order])
    torch.testing.assert_close(other[0], output, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other[1], maps[:, order], rtol=1e-3, atol=1e-7)


def test_runs_under_autocast():
    visual, text, mask = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, maps = module()(visual, text, mask)
    assert output.isfinite().all() and maps.dtype == torch.float32
    torch.testing.assert_close(maps.sum(2), mask / mask.sum(1, keepdim=True), rtol=1e-4, atol=1e-7)


def test_errors():
    for wrong in ({"width": 65}, {"attention": "linear"}, {"axis": "both"}):
        with pytest.raises(ValueError, match=str(list(wrong.values())[0])):
            MPSA(32, 24, **{"num_heads": 4, **wrong})
