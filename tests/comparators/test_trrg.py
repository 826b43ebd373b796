"""TRRG as a system: trained, continued, tested, opened; each flag changes what it should; bad input is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import ROOT
from trrg_tiny import batch_of, start

import revtaf
from revtaf.commands.test import open_trained
from revtaf.commands.test import test as run_test
from revtaf.commands.train import train
from revtaf.comparators.trrg.evaluate import write_reports
from revtaf.comparators.trrg.interaction import consistency_loss
from revtaf.comparators.trrg.system import ABOUT
from revtaf.config_file import load_settings
from revtaf.data.annotations import load_annotations
from revtaf.engine.checkpoint import META, write_weights
from revtaf.engine.runtime import make_accelerator, read_jsonl
from revtaf.errors import UserError
from revtaf.features.build import select
from revtaf.files import read_json
from revtaf.labels import POSITIVE

BASE = ("clue.source=none", "cmci.enabled=false", "loss.dc=0")
DCI = ("cmci.enabled=false", "loss.dc=0")
CMCI = ("loss.dc=0",)


@pytest.fixture(scope="module")
def system(trrg_config):
    """All of it, untrained, in evaluation."""
    found = start(trrg_config)
    found.model.eval()
    return found


@pytest.fixture(scope="module")
def trained(trrg_config):
    settings = load_settings(trrg_config)
    train(settings)
    return settings


# Stage 1


def test_stage_1_draws_one_sentence_of_each_report_anew_in_every_epoch(stage1_config):
    """From the report itself, by (seed, epoch, row) alone; equal sentences are known as equal."""
    system = start(stage1_config)
    dataset = system.train_set()
    reports = dict(zip((s.id for s in system.training[0]), system.training[1], strict=True))
    drawn = [[dataset.sentence(epoch, row) for row in range(len(dataset))] for epoch in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert all(text in reports[sample] for sample, text in zip(dataset.ids, drawn[0], strict=True))
    batch = dataset.collate([dataset[(0, row)] for row in range(len(dataset))])
    same = batch.texts[:, None] == batch.texts[None]
    expected = [[a == b for b in drawn[0]] for a in drawn[0]]
    assert same.tolist() == expected and same.sum() > len(same)
    system.model.eval()
    with_mask = system.losses(batch, 0)["contrast"]
    system.settings.objective.dedupe_negatives = False
    assert with_mask < system.losses(batch, 0)["contrast"]
    system.settings.objective.reduction = "paper"
    without = system.losses(batch, 0)["contrast"]
    system.settings.objective.reduction = "mean"
    torch.testing.assert_close(without, 2 * system.losses(batch, 0)["contrast"])


def test_stage_1_is_tested_by_its_clues_and_embeds_for_a_search(stage1_run, stage1_config):
    """AUROC beside random scores, a table by category; images and texts of length 1 in one space."""
    settings = load_settings(stage1_config, ["data.test_split=train"])
    report = json.loads((run_test(settings) / "report.json").read_text())
    rows = {name: row["ranking"]["zero_shot_auroc"] for name, row in report["metrics"].items()}
    assert set(rows) == {"TRRG, stage 1", "random scores"} and all(0 <= value <= 1 for value in rows.values())
    page = (settings.output / "report.html").read_text()
    assert "Zero-shot AUROC of the clues" in page and "pleural effusion" in page
    model = revtaf.load(stage1_run, device="cpu")
    texts = torch.from_numpy(model.embed_texts(["no effusion", "a much longer text of an effusion", "no effusion"]))
    assert texts.shape == (3, 16) and torch.allclose(texts[0], texts[2], atol=1e-6)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(torch.from_numpy(model.embed_texts(["no effusion"]))[0], texts[0], atol=1e-5, rtol=1e-4)


def test_a_swin_s_tokens_are_its_last_map():
    """torchvision's own pooled features are the mean of ours."""
    from revtaf.comparators.trrg.encoders import ImageTokens

    net = ImageTokens("swin_t").eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        tokens = net(image)
        assert tokens.shape == (1, 4, 768) and net.width == 768
        torch.testing.assert_close(tokens.mean(1), net.net(image), atol=1e-5, rtol=1e-4)


# Stage 2


def frozen_tensors(system) -> dict[str, torch.Tensor]:
    model = system.plain
    found = {f"encoders.{k}": v for k, v in model.encoders.state_dict().items()}
    found |= {f"lm.{k}": v for k, v in model.language.lm.state_dict().items() if "lora_" not in k}
    return {name: value.clone() for name, value in found.items()}


@pytest.mark.parametrize("tuning", ["none", "lora"])
def test_what_is_frozen_is_bit_for_bit_the_same_after_steps_in_training(trrg_config, tuning):
    """Encoders with their batch statistics, and the language model; everything that trains moves."""
    if tuning == "lora":
        pytest.importorskip("peft", reason="needs pip install 'revtaf[llm]'")
    system = start(trrg_config, f"llm.tuning={tuning}")
    system.model.train()
    batch, (optimizer,) = batch_of(system), system.optimizers()
    before = frozen_tensors(system)
    own = {name: p.detach().clone() for name, p in system.model.named_parameters()}
    for _ in range(2):  # the second matrix of an adapter starts at zero: the first moves from the second step on
        losses = system.losses(batch, 0)
        (losses["lm"] + losses["dc"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = frozen_tensors(system)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    held = [name for name, p in system.model.named_parameters() if torch.equal(p, own[name])]
    assert not held, held
    assert not any(name.startswith(("encoders", "lm.", "bank")) for name in own)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(own)


def test_a_checkpoint_holds_what_trains_alone_and_comes_back(trrg_config, tmp_path):
    """No tensor of the language model but the adapters; the same losses from the file."""
    pytest.importorskip("peft", reason="needs pip install 'revtaf[llm]'")
    flags = ("llm.tuning=lora",)
    system = start(trrg_config, *flags)
    with torch.no_grad():
        for parameter in system.model.parameters():
            parameter.add_(0.05)
    system.model.eval()
    batch = batch_of(system)
    expected = system.losses(batch, 0)
    write_weights(tmp_path / "w.safetensors", system.model)
    state = load_file(tmp_path / "w.safetensors")
    assert {name.split(".")[0] for name in state} == {"mapper", "interaction", "project", "norm", "adapters"}
    assert any("lora_A" in name for name in state)
    other = start(trrg_config, *flags)
    other.model.load_state_dict(state, strict=True)
    other.model.eval()
    torch.testing.assert_close(other.losses(batch, 0), expected)


def test_the_gradient_reaches_mapper_queries_and_both_streams(system):
    losses = system.losses(batch_of(system), 0)
    losses["lm"].backward()
    found = {name: p.grad for name, p in system.model.named_parameters()}
    system.model.zero_grad()
    for name in ("mapper.weight", "interaction.queries", "interaction.visual.inner.query.weight", "project.bias"):
        assert found[name].abs().max() > 0, name
    assert found["interaction.clue.outer.value.weight"].abs().max() > 0
    assert losses.keys() == {"lm", "dc", "alike_visual", "alike_clue"} and -1 <= losses["dc"] <= 1
    assert system.weights == {"lm": 1.0, "dc": 1.0}


def test_the_four_rows_of_table_2_are_flags(trrg_config, system):
    """What the language model reads grows as it should, and what two rows share starts the same."""
    rows = {name: start(trrg_config, *flags) for name, flags in (("base", BASE), ("dci", DCI), ("cmci", CMCI))}
    rows["dal"] = system
    patches, prefixes = 4, {}
    for name, row in rows.items():
        row.model.eval()
        prefixes[name] = row.model.prefix(batch_of(row))
    words = int(system.model.bank.mask.shape[1])
    assert prefixes["base"].values.shape[1] == 2 + patches and prefixes["base"].chosen is None
    assert prefixes["dci"].values.shape[1] == 2 + patches + 2 * words
    assert prefixes["cmci"].values.shape[1] == prefixes["dal"].values.shape[1] == 2 + patches + 2 * 3
    assert prefixes["dci"].mask.sum(1).max() < prefixes["dci"].mask.shape[1]  # clues of fewer words are masked
    first = rows["base"].model.state_dict()
    for row in rows.values():
        state = row.model.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in first.items())
    torch.testing.assert_close(prefixes["cmci"].values, prefixes["dal"].values)
    assert [set(row.weights) for row in rows.values()] == [{"lm"}, {"lm"}, {"lm"}, {"lm", "dc"}]


def test_clues_from_other_sources_change_what_is_read(trrg_config, system):
    """Those that the report states and no others; another patient's; the entity scorer's."""
    oracle = start(trrg_config, "clue.source=oracle")
    batch = batch_of(oracle, 16)
    chosen = oracle.model.prefix(batch).chosen
    statuses = oracle.statuses(oracle.training, oracle.settings.data)[:16]
    for i in range(16):
        stated = {c for c in range(14) if statuses[i, c] == POSITIVE}
        found = {oracle.bank[c].category for c in chosen.clues[i][chosen.valid[i]].tolist()}
        assert found <= stated and len(found) == min(2, len(stated))
    assert oracle.settings.reads_answer == ("clue.source=oracle",) and oracle.settings.variant == "-control"
    random = start(trrg_config, "clue.source=random")
    assert not torch.equal(batch_of(random, 16).given, batch.given) and not random.settings.reads_answer
    assert system.settings.variant == "" and batch_of(system).given.shape == (8, 0)


def test_sinkhorn_stopgrad_and_blind_do_what_they_say(trrg_config, system):
    batch = batch_of(system)
    plain = system.model.prefix(batch)
    sinkhorn = start(trrg_config, "cmci.attention=sinkhorn")
    sinkhorn.model.eval()
    assert (sinkhorn.model.prefix(batch).visual - plain.visual).abs().max() > 1e-6
    blind = start(trrg_config, "vision.blind=true")
    images = batch_of(blind).images
    assert torch.equal(images, images[:1].expand_as(images)) and not torch.equal(batch.images[0], batch.images[1])
    streams = system.model.prefix(batch)
    system.model.zero_grad()
    consistency_loss(streams.visual, streams.clue, "clue").backward()
    assert system.model.interaction.clue.outer.value.weight.grad is None
    assert system.model.interaction.visual.outer.value.weight.grad.abs().max() > 0
    system.model.zero_grad()


def test_kept_tokens_and_the_bank_are_those_that_are_made_again(trrg_config, system):
    """`vision.cached` saves time and changes nothing; a clue is encoded as any text."""
    kept = start(trrg_config, "vision.cached=true")
    kept.model.eval()
    batch, cached = batch_of(system), batch_of(kept)
    assert cached.images.shape == (8, 4, 16)
    torch.testing.assert_close(system.model.encode(batch.images), cached.images, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(system.losses(batch, 0)["lm"], kept.losses(cached, 0)["lm"], atol=1e-4, rtol=1e-4)
    stage1 = revtaf.load(system.settings.stage1, device="cpu")
    again = torch.from_numpy(stage1.embed_texts([system.clue_texts[3]]))[0]
    torch.testing.assert_close(system.model.bank.cls[3], again, atol=1e-5, rtol=1e-4)


def test_a_batch_of_one_is_a_batch_of_eight(system):
    """Clues, losses and reports do not depend on the company."""
    dataset = system.validation_set
    together = write_reports(system, dataset, range(7))
    system.settings.generation.batch_size, size = 1, system.settings.generation.batch_size
    alone = write_reports(system, dataset, range(7))
    system.settings.generation.batch_size = size
    assert [r.text for r in alone] == [r.text for r in together]
    assert [[c.category for c in r.clues] for r in alone] == [[c.category for c in r.clues] for r in together]
    eight = system.model.prefix(batch_of(system)).values
    one = system.model.prefix(batch_of(system, 1)).values
    torch.testing.assert_close(one[0], eight[0], atol=1e-5, rtol=1e-4)


def test_eight_samples_are_learned_by_heart_and_told_apart_by_their_images(trrg_config):
    """The positive control of the path, with everything trained and images that differ: the loss falls to almost none,
    and is that of a guess with another sample's image."""
    system = start(trrg_config, "llm.tuning=full", "loss.dc=0", "cmci.dropout=0", "clue.source=none")
    batch = batch_of(system)
    batch.images = torch.randn(8, 4, 16, generator=torch.Generator().manual_seed(1))  # as kept tokens
    optimizer = torch.optim.AdamW(system.model.parameters(), lr=4e-3)
    system.model.train()
    first = system.losses(batch, 0)["lm"].item()
    for _ in range(150):
        loss = system.losses(batch, 0)["lm"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(system.model.parameters(), 1.0)
        optimizer.step()
    system.model.eval()
    right = system.losses(batch, 0)["lm"].item()
    batch.images = batch.images.roll(1, 0)
    wrong = system.losses(batch, 0)["lm"].item()
    assert right < 0.2 < 3 < first and wrong > 2 * right, (first, right, wrong)


def test_an_interrupted_run_resumes_bit_for_bit(trrg_config, resumed):
    """Stopped in the second epoch and continued: the same weights and lines, dropout and all."""
    flags = ("train.epochs=2", "train.validate_every=2", "vision.cached=true", "clue.source=random")
    lines = resumed(trrg_config, *flags)
    assert "alike_visual" in lines[0]["losses"]


def test_a_test_says_which_language_model_and_shows_the_clues(trained):
    """Reports with their clues, the figure of the page, and where every part came from."""
    folder = run_test(trained)
    report, records = json.loads((folder / "report.json").read_text()), read_jsonl(folder / "predictions.jsonl")
    assert "small Mistral" in report["run"]["language model"] and "perplexity" in report["run"]["language model"]
    assert "frozen" in report["run"]["language model"] and "zero-shot AUROC" in report["run"]["encoders"]
    assert list(report["metrics"])[0] == "TRRG" and "most frequent report" in report["metrics"]
    for record in records:
        weights = [clue["weight"] for clue in record["clues"]]
        assert len(weights) == 2 and weights == sorted(weights, reverse=True) and sum(weights) <= 1
    page = (folder / "report.html").read_text()
    assert "Injected clues and their weights" in page and "<meter" in page and records[0]["clues"][0]["text"] in page


def test_a_model_s_folder_is_all_that_an_opened_one_needs(trained, phantom, tmp_path):
    """Copied elsewhere, with stage 1 and the features out of reach: the same reports of the same images."""
    folder = tmp_path / "model"
    shutil.copytree(Path(trained.run) / "checkpoints/best", folder)
    away = [f"{key}=/nowhere" for key in ("stage1", "data.annotation", "data.images", "data.features", "run")]
    model = revtaf.load(folder, away, device="cpu")
    files = sorted((phantom / "images").iterdir())[:3]
    found = model.report(files)
    assert [len(out.clues) for out in found] == [2, 2, 2] and all(out.report for out in found)
    assert all(weights == sorted(weights, reverse=True) for weights in ([w for _, w in out.clues] for out in found))
    again = revtaf.load(trained.run, device="cpu").report(files[1])
    assert again.report == found[1].report and again.picture.size == (64, 64)
    assert [text for text, _ in again.clues] == [text for text, _ in found[1].clues]
    with pytest.raises(UserError, match="TRRG reads no retrieved report"):
        model.report(files[0], retrieve=False)
    assert {name.split(".")[0] for name in load_file(folder / "model.safetensors")} == {
        *("mapper", "interaction", "project", "norm")
    }


def test_a_control_in_the_test_alone_has_a_folder_of_its_own(trained, trrg_config):
    """Oracle clues for a model that was trained with stage 1's; another architecture is refused."""
    settings = load_settings(trrg_config, ["generation.clues=oracle"])
    assert settings.output.name.endswith("-oracle_clues")
    report = json.loads((run_test(settings) / "report.json").read_text())
    assert "reads the answer" in json.dumps(report)
    with pytest.raises(UserError, match="another architecture.*clue.k: 2 -> 3"):
        run_test(load_settings(trrg_config, ["clue.k=3"]))


SCORER = ("folds=2", "scorer_epochs=1", "scorer_image_size=64", "min_mentions=3", "scorer_precision=no")


@pytest.fixture(scope="module")
def by_scorer(trrg_config, tmp_path_factory):
    """A model whose clues the entity scorer chose, which was fitted as MedKLIP's file is not there: its settings."""
    place = tmp_path_factory.mktemp("scorer")
    files = [f"run={place / 'run'}", f"knowledge.medklip={place / 'medklip.pth'}"]
    settings = load_settings(
        trrg_config, ["clue.source=scorer", "loss.dc=0", *files, *(f"knowledge.{option}" for option in SCORER)]
    )
    train(settings)
    return settings


def clues_of_the_test(settings):
    """Their scores, by the opened model."""
    data = settings.data
    studies = select(load_annotations(data.annotation), data.test_split, data)
    return open_trained(settings).dataset(studies, data, settings.tested_source).clues.table


def test_the_entity_scorer_is_fitted_before_any_split_asks_for_it(by_scorer):
    """It chooses the clues of validation and test, lies in the model's folder, and is part of what a run is known by;
    MedKLIP's file, which is put there later, is none of the model's."""
    best = Path(by_scorer.run) / "checkpoints/best"
    assert (best / "scorer").is_dir() and "clue scores" in json.loads((best / META).read_text())["identity"]
    before = clues_of_the_test(by_scorer)
    assert before.shape[1] == 14 and before.std(0).max() > 0
    by_scorer.knowledge.medklip.write_bytes(b"weights")
    assert (clues_of_the_test(by_scorer) == before).all()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("clue.source=none",), "loss.dc: the consistency loss is between the two streams"),
        (("cmci.enabled=false",), "set loss.dc=0, or cmci.enabled=true"),
        (("prompt.template=report",), "prompt.template has to hold <image> once"),
        (("prompt.statuses=predicted",), "needs prompt.predictions"),
        (("prompt.statuses=truth", "prompt.template=<image>"), "has no <statuses>"),
        (("vision.blind=true", "clue.source=scorer"), "vision.blind hides the image"),
        (("clue.k=15",), "clue.k is 15, but the bank has 14 clues"),
        (("llm.heads=5",), "llm.width 32 does not divide into llm.heads 5"),
        (("llm.key_value_heads=3",), "llm.heads 4 does not divide into llm.key_value_heads 3"),
        (("llm.width=36",), "llm.width 36 gives each of llm.heads 4 the odd width 9"),
        (("cmci.heads=7", "llm.epochs=3"), "cmci.heads 7 does not divide space.width 16 of stage 1"),
        (("stage1=/nowhere",), "there is no finished run of stage 1 in /nowhere; train it first"),
        (("clue.source=oracel",), "clue.source"),
        (("fvtaf.enabled=false",), "unknown key 'fvtaf'"),
    ],
)
def test_what_does_not_fit_is_refused_by_key(trrg_config, overrides, says):
    with pytest.raises(UserError) as refused:
        start(trrg_config, *overrides)
    assert says in str(refused.value)


def test_stage_2_without_stage_1_ends_with_one_message_and_code_2(trrg_config, tmp_path):
    """Before anything is loaded or written."""
    run = tmp_path / "run"
    call = [sys.executable, "-m", "revtaf", "train", "--config", trrg_config, f"stage1={tmp_path}", f"run={run}"]
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 2 and "no finished run of stage 1" in done.stderr, done.stderr
    assert "train it first" in done.stderr and "Traceback" not in done.stderr and not run.exists()


def test_status_prompts_stand_in_the_instruction(trrg_config):
    """REVTAF's prompt in words, where it is asked for; of the report itself it is a control."""
    plain = start(trrg_config)
    told = start(trrg_config, "prompt.statuses=truth")
    a, b = batch_of(plain), batch_of(told)
    assert a.after.shape[1] == 1 and (b.after_real.sum(1) > 1).all()  # [DEC]
    assert "positive" in told.model.language.decode(b.after[0][b.after_real[0]].tolist())
    assert told.settings.trained_on_answers == ("prompt.statuses=truth",)
    told.model.eval()
    assert told.losses(b, 0)["lm"].isfinite() and make_accelerator(told.settings).device.type == "cpu"


SECTIONS = {
    "trrg_stage1": ("image", "text", "space", "objective", "clue"),
    "trrg": ("clue", "cmci", "loss", "llm", "prompt", "vision", "generation"),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_configuration_says_of_every_value_whose_it_is(name):
    """Every key of the system's own sections, with paper or chosen behind it; the values are the defaults."""
    path = ROOT / "configs" / f"{name}.yaml"
    settings, content = load_settings(path), yaml.safe_load(path.read_text())
    for section in SECTIONS[name]:
        found, kind = getattr(settings, section), type(getattr(settings, section))
        assert set(content[section]) == set(kind.model_fields), section
        assert found == kind() or section == "llm", section  # its activations are made again on the paper's hardware
    values = [line for line in path.read_text().splitlines() if line.startswith("  ") and ":" in line]
    assert all("# paper" in line or "# chosen" in line for line in values)


def test_one_process_alone_waits_for_nobody(trrg_config, monkeypatch, tmp_path):
    """What `finish` and the identity need is there when training starts: the main process alone is asked for them."""
    found = start(trrg_config)
    monkeypatch.setattr(found.accelerator, "main_process_first", lambda: pytest.fail("a barrier in one process"))
    found.identity()
    found.finish(tmp_path)
    assert read_json(tmp_path / ABOUT, "clues")["training_clues"]


def test_other_statuses_are_another_run_where_they_are_trained_on(trrg_config):
    """Prompts and random clues come from the reports' statuses; without them a labeler may change its mind."""
    plain, told = start(trrg_config), start(trrg_config, "clue.source=random")
    for system in (plain, told):
        before = dict(system.identity())
        system.__dict__.pop("_identity")
        system.training_statuses = 1 - np.minimum(system.training_statuses, 1)
        assert (system.identity() == before) == (system is plain)
