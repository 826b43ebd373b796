"""The model as a whole: what reaches what, and what changes when something changes."""

import copy

import pytest
import torch
from tiny import make_session, training_batch

from revtaf.config_file import load_settings
from revtaf.engine.optim import objective
from revtaf.errors import UserError
from revtaf.labels import POSITIVE
from revtaf.model import REVTAF, loss_weights


@pytest.fixture
def model(session):
    torch.manual_seed(0)
    return copy.deepcopy(session.model)


def losses_of(session, model, batch, rows):
    return model(batch.images, batch.scores, batch.statuses, batch.tokens, session.prompts(batch, rows))


def has_gradient(parameter):
    return parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)


def test_every_parameter_gets_a_gradient(session, model):
    """Nothing in the model is dead weight: each parameter is moved by the total loss."""
    model.train()
    batch, rows = training_batch(session)
    objective(losses_of(session, model, batch, rows)._asdict(), loss_weights(session.settings)).backward()
    dead = [name for name, p in model.named_parameters() if p.requires_grad and not has_gradient(p)]
    # A key bias shifts all scores of a query alike, so its true gradient is zero. The first memory decoder
    # layer attends from a target of zeros to itself (as in DETR): its weights start without a gradient.
    dead = [n for n in dead if not n.endswith("key.bias") and "memory.decoder.0." not in n]
    assert dead == []


@pytest.mark.parametrize(
    ("loss", "reached", "untouched"),
    [
        ("rank", "hnn", "encoder"),
        ("consistency", "fvtaf", "decoder"),
        ("consistency", "encoder", "hnn"),
        ("disease", "classifier", "fvtaf"),
        ("lm", "fvtaf", "hnn"),
    ],
)
def test_each_loss_trains_its_own_rooms(session, model, loss, reached, untouched):
    """The rank loss trains the retriever alone; FCC and the LM loss reach the image through FVTAF."""
    batch, rows = training_batch(session)
    getattr(losses_of(session, model, batch, rows), loss).backward()
    rooms = {name.split(".")[0] for name, p in model.named_parameters() if has_gradient(p)}
    assert reached in rooms
    assert untouched not in rooms


def test_the_prompt_carries_no_loss(session, model):
    """Changing what the prompt positions would have to predict changes nothing: they have no labels."""
    model.eval()
    batch, rows = training_batch(session)
    features = model.features(batch.images, session.prompts(batch, rows))
    decoder = model.decoder
    inputs = torch.cat([decoder.prompt(batch.statuses), batch.tokens], 1)
    logits = decoder.lm(
        input_ids=inputs,
        attention_mask=(inputs != decoder.pad).long(),
        encoder_hidden_states=decoder.project(features.decoder),
    ).logits
    by_hand, count = 0.0, 0
    log_p = logits.log_softmax(-1)
    smoothing = decoder.label_smoothing
    for b in range(len(inputs)):
        for i in range(decoder.prompt_length - 1, inputs.shape[1] - 1):
            token = inputs[b, i + 1]
            if token != decoder.pad:
                nll = -log_p[b, i, token]
                by_hand += (1 - smoothing) * nll - smoothing * log_p[b, i].mean()
                count += 1
    assert count == int((batch.tokens != decoder.pad).sum())
    loss = decoder.loss(batch.tokens, batch.statuses, features.decoder)
    torch.testing.assert_close(loss, by_hand / count, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("what", ["image", "reference", "local", "memory", "statuses"])
def test_the_report_depends_on_every_input(session, model, what):
    """The distribution of the first word moves when the image, the GRP, the LRP or the prompt changes."""
    model.eval()
    for parameter in (model.classifier.head.weight, *model.decoder.parameters()):
        if parameter.ndim > 1:  # an untrained decoder hardly listens: turn it up
            torch.nn.init.normal_(parameter, std=0.3)
    batch, rows = training_batch(session)
    prompts = session.prompts(batch, rows)

    def outcome(images, prompts, statuses):
        f = model.features(images, prompts)
        prompt, features = model.decoder.prompt(statuses), model.decoder.project(f.decoder)
        logits = model.decoder.lm(input_ids=prompt, encoder_hidden_states=features).logits[:, -1]
        return torch.cat([logits, f.logits.flatten(1)], 1)

    before = outcome(batch.images, prompts, batch.statuses)
    images, statuses = batch.images, batch.statuses
    if what == "image":
        images = images.flip(0)
    elif what == "statuses":
        statuses = (statuses + 1) % 4
    elif what == "reference":
        prompts = session.prompts(batch, rows + 5)
    else:
        prompts = prompts._replace(**{what: getattr(prompts, what).flip(0)})
    assert (outcome(images, prompts, statuses) - before).abs().max() > 1e-4


def test_a_batch_of_one_writes_what_a_batch_of_six_writes(session, model):
    """Neither padding of the retrieved sentences nor the other samples leak into a report."""
    model.eval()
    batch, rows = training_batch(session)
    settings = session.settings.generation
    together = model.generate(batch.images, session.prompts(batch, rows), settings)
    texts = [session.tokenizer.decode(t) for t in together.tokens.tolist()]
    for i in range(len(batch)):
        dataset = session.train_set()
        one = dataset.collate([dataset[(0, i)]])
        alone = model.generate(one.images, session.prompts(one, rows[i : i + 1]), settings)
        assert session.tokenizer.decode(alone.tokens[0].tolist()) == texts[i]
        torch.testing.assert_close(alone.probabilities[0], together.probabilities[i], atol=1e-5, rtol=1e-4)


def test_reports_keep_to_the_length_limits(session, model):
    """At least min_new_tokens, at most max_new_tokens, the prompt not counted."""
    model.eval()
    batch, rows = training_batch(session, 3)
    settings = session.settings.generation.model_copy(update={"min_new_tokens": 7, "max_new_tokens": 9})
    tokens = model.generate(batch.images, session.prompts(batch, rows), settings).tokens
    lengths = [(row != session.tokenizer.pad).logical_and(row != session.tokenizer.end).sum() for row in tokens]
    assert all(7 <= int(n) <= 9 for n in lengths)


def test_oracle_prompts_are_used_as_given(session, model):
    """The ceiling of perfect classification: the statuses in the prompt are the given ones."""
    model.eval()
    batch, rows = training_batch(session, 3)
    prompts = session.prompts(batch, rows)
    given = model.generate(batch.images, prompts, session.settings.generation, statuses=batch.statuses)
    assert torch.equal(given.statuses, batch.statuses)


@pytest.mark.parametrize(
    "flags",
    [
        ("lre.enabled=false",),
        ("fvtaf.enabled=false",),
        ("lre.enabled=false", "fvtaf.enabled=false"),
        ("fvtaf.attention=softmax",),
        ("fvtaf.axis=per_text", "fvtaf.shared=true", "fvtaf.projection=feed_forward", "fvtaf.iou=hard"),
        ("lre.metric=cosine",),
        ("lre.metric=euclidean", "lre.ties=first", "lre.score_space=logit"),
        ("classifier.memory=false",),
        ("lre.learnable_curvature=true",),
        ("fvtaf.upsample=14", "fvtaf.mask_sentences=false"),
        ("fvtaf.text_mass=presence",),
        ("fvtaf.text_mass=learned",),
        ("fvtaf.text_mass=unbalanced", "fvtaf.consistency=difference"),
        ("fvtaf.consistency=none",),
    ],
)
def test_every_ablation_trains_and_writes(tiny_config, flags):
    """Each flag of docs/method.md section 8 gives a model with finite losses, gradients and reports."""
    session = make_session(tiny_config, *flags)
    batch, rows = training_batch(session)
    losses = losses_of(session, session.model.train(), batch, rows)
    objective(losses._asdict(), loss_weights(session.settings)).backward()
    assert all(torch.isfinite(value) for value in losses)
    assert (losses.rank == 0) == (not session.settings.lre.enabled)
    fvtaf = session.settings.fvtaf
    assert (losses.consistency == 0) == (not fvtaf.enabled or fvtaf.consistency == "none")
    assert all(torch.isfinite(p.grad).all() for p in session.model.parameters() if p.grad is not None)
    written = session.model.eval().generate(batch.images, session.prompts(batch, rows), session.settings.generation)
    assert len(written.tokens) == len(batch)


def test_without_fvtaf_a_text_counts_whatever_its_scale(tiny_config):
    """Row (a) of Table 3: appended sentences have unit RMS for texts of any scale, and the patches stay as they are."""
    session = make_session(tiny_config, "fvtaf.enabled=false")
    model = session.model.eval()
    batch, rows = training_batch(session, 3)
    prompts = session.prompts(batch, rows)
    patches = model.encoder(batch.images).patches
    for scale in (1.0, 100.0):
        scaled = prompts._replace(retrieved=scale * prompts.retrieved)
        seen = model.features(batch.images, scaled).decoder
        torch.testing.assert_close(seen[:, : patches.shape[1]], patches)
        appended = seen[:, patches.shape[1] :][prompts.retrieved_mask]
        assert appended.square().mean(-1).sub(1).abs().max() < 0.01, scale


def test_balanced_logits_make_a_rare_positive_cost_more(session, model):
    """ln(p) < 0 is added to POS of a rare category in training only, so that its loss and gradient grow."""
    classifier = model.classifier.train()
    classifier.prior.fill_(0.5)
    logits = torch.zeros(1, 4, classifier.categories)
    statuses = torch.full((1, classifier.categories), POSITIVE)
    even = classifier.loss(logits, statuses)
    classifier.prior[3] = 0.01
    assert classifier.loss(logits, statuses) > even
    classifier.eval()
    assert torch.equal(classifier.loss(logits, statuses), even)


def test_the_prior_follows_the_validation_set_and_keeps_what_it_cannot_see(session, model):
    """p_k = mean P(positive) over positives of k; a category without positives keeps its value."""
    classifier = model.classifier
    classifier.prior.fill_(0.25)
    probabilities = torch.tensor([[0.9] * 18, [0.1] * 18, [0.5] * 18])
    statuses = torch.zeros(3, 18, dtype=torch.long)
    statuses[0, 4] = statuses[2, 4] = POSITIVE
    classifier.update_prior(probabilities, statuses)
    assert classifier.prior[4] == pytest.approx(0.7)
    assert classifier.prior[5] == 0.25


def test_the_paper_model_builds_at_full_size():
    """configs/mimic_cxr.yaml: ResNet-101, 12 layers of 768, all parts present. Training it is a benchmark."""
    from pathlib import Path

    from revtaf.tokenizer import ReportTokenizer

    settings = load_settings(Path(__file__).parents[1] / "configs" / "mimic_cxr.yaml")
    tokenizer = ReportTokenizer.fit(["the heart is normal . no effusion ."] * 3, 100)
    with torch.device("meta"):
        model = REVTAF(settings, 18, tokenizer, 768, 512)
    assert model.encoder.width == 2048
    assert model.fvtaf.out_width == 2048
    assert sum(p.numel() for p in model.parameters()) > 150e6


def test_four_samples_are_learned_by_heart(tiny_config):
    """Overfitting four samples brings the loss down and the reports back word for word."""
    session = make_session(tiny_config, "decoder.label_smoothing=0", "decoder.dropout=0", "classifier.dropout=0")
    model = session.model.train()
    dataset = session.train_set()
    dataset.train = False
    batch = dataset.collate([dataset[row] for row in range(4)])
    batch.tokens = batch.tokens[:, :14]
    rows = torch.tensor([5, 6, 7, 8])
    prompts = session.prompts(batch, rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(90):
        losses = model(batch.images, batch.scores, batch.statuses, batch.tokens, prompts)
        optimizer.zero_grad()
        (losses.lm + losses.disease).backward()
        optimizer.step()
    assert losses.lm < 0.1
    model.eval()
    settings = session.settings.generation.model_copy(update={"max_new_tokens": 14, "beams": 1})
    written = model.generate(batch.images, prompts, settings, statuses=batch.statuses).tokens
    for target, got in zip(batch.tokens.tolist(), written.tolist(), strict=True):
        assert session.tokenizer.decode(got) == session.tokenizer.decode(target)


@pytest.mark.parametrize("text_mass", ["uniform", "presence"])
def test_the_entity_scores_weigh_the_local_prompts_where_asked(tiny_config, text_mass):
    """fvtaf.text_mass=presence: P(present) reaches what the decoder reads, also without a loss; else it does not."""
    session = make_session(tiny_config, f"fvtaf.text_mass={text_mass}")
    batch, rows = training_batch(session)
    prompts = session.prompts(batch, rows)
    assert torch.equal(prompts.presence, batch.scores)
    other = prompts._replace(presence=prompts.presence.flip(1))
    found = [session.model.eval().features(batch.images, p).decoder for p in (prompts, other)]
    assert torch.equal(*found) == (text_mass == "uniform")


@pytest.mark.parametrize("other", ["fvtaf.attention=softmax", "fvtaf.axis=per_text"])
def test_a_mass_that_no_transport_carries_is_refused(tiny_config, other):
    with pytest.raises(UserError, match="fvtaf.attention=mpsa fvtaf.axis=joint"):
        load_settings(tiny_config, ["fvtaf.text_mass=learned", other])


NO_IMAGE = ("lre.enabled=false", "fvtaf.enabled=false", "classifier.memory=false")


@pytest.fixture(scope="module")
def blind(tiny_config):
    return make_session(tiny_config, "encoder.blind=true", *NO_IMAGE)


def outcomes(session, batch, rows, images, training: bool):
    """Losses, and logits of the classifier, of `images` in place of the batch's own; the same dropout each time."""
    model = copy.deepcopy(session.model).train(training)
    prompts = session.prompts(batch, rows)
    torch.manual_seed(0)
    losses = model(images, batch.scores, batch.statuses, batch.tokens, prompts)
    return torch.stack(list(losses)).detach(), model.features(images, prompts).logits.detach()


@pytest.mark.parametrize("training", [False, True])
def test_a_blind_model_is_the_same_for_all_images(tiny_config, blind, training):
    """Nothing of an image reaches a loss or a logit; with open eyes, the same model tells the images apart."""
    batch, rows = training_batch(blind)
    others = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(1))
    seen, other = (outcomes(blind, batch, rows, images, training) for images in (batch.images, others))
    assert torch.equal(seen[0], other[0]) and torch.equal(seen[1], other[1])
    assert (seen[1] - seen[1][:1]).abs().max() == 0 or training  # dropout differs by row
    session = make_session(tiny_config, *NO_IMAGE)
    batch, rows = training_batch(session)
    seen, other = (outcomes(session, batch, rows, images, training) for images in (batch.images, others))
    assert not torch.allclose(seen[0], other[0], atol=1e-6) and not torch.allclose(seen[1], other[1], atol=1e-6)


def test_the_image_is_left_out_for_the_decoder_alone(tiny_config):
    """`decoder.image_dropout`: of a sample without its image the decoder's features are those of an empty one, in
    training only; the statuses are decided by what is there."""
    session = make_session(tiny_config, "decoder.image_dropout=0.5")
    batch, rows = training_batch(session)
    prompts = session.prompts(batch, rows)

    def decoder_inputs(images, training):
        torch.manual_seed(0)
        return session.model.train(training).features(images, prompts)

    seen, other = decoder_inputs(batch.images, True), decoder_inputs(batch.images + 1, True)
    same = (seen.decoder == other.decoder).flatten(1).all(1)
    assert 0 < same.sum() < len(same)
    assert (seen.logits != other.logits).flatten(1).any(1).all()
    seen, other = decoder_inputs(batch.images, False), decoder_inputs(batch.images + 1, False)
    assert (seen.decoder != other.decoder).flatten(1).any(1).all()


def test_a_blind_model_writes_one_report(blind):
    """Six images, one text and one set of statuses, through features of the usual shape."""
    batch, rows = training_batch(blind)
    written = blind.model.eval().generate(batch.images, blind.prompts(batch, rows), blind.settings.generation)
    assert (written.tokens == written.tokens[:1]).all() and (written.statuses == written.statuses[:1]).all()
    assert blind.model.encoder(batch.images).patches.shape == (6, 4, blind.model.encoder.width)


@pytest.mark.parametrize("missing", NO_IMAGE)
def test_a_blind_model_that_could_peek_is_refused(tiny_config, missing):
    """Each of the three ways round the encoder is closed, and the message says how."""
    with pytest.raises(UserError, match="encoder.blind .*" + " ".join(NO_IMAGE)):
        load_settings(tiny_config, ["encoder.blind=true", *(flag for flag in NO_IMAGE if flag != missing)])
    assert load_settings(tiny_config, ["encoder.blind=true", *NO_IMAGE]).encoder.blind


@pytest.mark.parametrize("masked", [True, False])
def test_padding_matters_to_the_release_alone(session, model, masked):
    """fvtaf.mask_sentences=false: two sentences of padding change the features; masked, they do not."""
    batch, rows = training_batch(session, 2)
    prompts = session.prompts(batch, rows)
    text, mask = prompts.retrieved, prompts.retrieved_mask
    longer = prompts._replace(
        retrieved=torch.cat([text, torch.zeros_like(text[:, :2])], 1),
        retrieved_mask=torch.cat([mask, torch.zeros_like(mask[:, :2])], 1),
    )
    model.eval()
    model.settings.fvtaf.mask_sentences, kept = masked, model.settings.fvtaf.mask_sentences
    try:
        found = [model.features(batch.images, p).decoder for p in (prompts, longer)]
    finally:
        model.settings.fvtaf.mask_sentences = kept
    assert torch.allclose(*found, atol=1e-4) == masked
