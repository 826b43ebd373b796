"""A whole run on the tiny phantom set: what is saved, resumed, refused."""

import contextlib
import io
import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_session

from revtaf.commands.test import test as run_test
from revtaf.commands.train import train
from revtaf.config_file import load_settings
from revtaf.data import annotations
from revtaf.engine import train as engine
from revtaf.engine.checkpoint import load_weights
from revtaf.engine.optim import learning_rate
from revtaf.engine.runtime import read_jsonl
from revtaf.errors import UserError


@pytest.fixture(scope="module")
def parsed():
    """Counts what is parsed: parsed(work) -> the annotation files that `work` parses, as a process of its own would."""
    with pytest.MonkeyPatch.context() as patch:
        read, seen = annotations.read_json, []
        patch.setattr(annotations, "read_json", lambda path, what: seen.append(path) or read(path, what))

        def count(work):
            annotations._parse.cache_clear()
            seen.clear()
            work()
            return list(seen)

        yield count


@pytest.fixture(scope="module")
def trained_and_parsed(tiny_config, tmp_path_factory, parsed):
    """A finished run of two epochs, and the annotation files that were parsed for it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    settings = load_settings(tiny_config, [f"run={folder}"])
    return settings, parsed(lambda: train(settings))


@pytest.fixture(scope="module")
def trained(trained_and_parsed):
    """The settings of that run."""
    return trained_and_parsed[0]


@pytest.fixture(scope="module")
def tested_and_parsed(trained, tiny_config, parsed):
    """The output of its test on the validation split, what was printed, and the annotation files parsed for it."""
    settings = load_settings(tiny_config, [f"run={trained.run}", "data.test_split=val", "generation.beams=1"])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        files = parsed(lambda: run_test(settings))
    return (settings.output, said.getvalue()), files


def weights(run: Path, which: str = "last") -> dict:
    return load_file(run / "checkpoints" / which / "model.safetensors")


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_run_folder_says_everything(trained):
    """Settings, surroundings, every step's losses and each epoch's validation are in the folder."""
    run = Path(trained.run)
    assert load_settings(run / "config.yaml") == trained
    assert {"git", "packages", "seed", "device"} <= json.loads((run / "env.json").read_text()).keys()
    records = read_jsonl(run / "metrics.jsonl")
    steps = [r for r in records if "losses" in r]
    assert [r["step"] for r in steps] == list(range(1, 17))
    assert [r["epoch"] for r in records if "validation" in r] == [1, 2]
    assert steps[-1]["losses"]["lm"] < steps[0]["losses"]["lm"]


def test_a_loaded_checkpoint_is_the_saved_model(trained, tiny_config):
    """Every tensor of the best checkpoint arrives in the model, tied and channels-last ones included."""
    folder = Path(trained.run) / "checkpoints" / "best"
    meta = json.loads((folder / "meta.json").read_text())
    session = make_session(tiny_config)
    before = {k: v.clone() for k, v in session.model.state_dict().items()}
    load_weights(folder / "model.safetensors", session.model)
    stored = weights(Path(trained.run), "best")
    loaded = session.model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in stored.items())
    changed = [n for n in stored if not torch.equal(before[n], loaded[n])]
    assert any("conv1" in n for n in changed) and any("word_embeddings" in n for n in changed)
    assert meta["epoch"] in (1, 2)


def test_testing_scores_what_validation_saw(trained, tested_and_parsed, tiny_config):
    """The best checkpoint, read back from disk, repeats its validation scores exactly."""
    (out, said), _ = tested_and_parsed
    meta = json.loads((Path(trained.run) / "checkpoints/best/meta.json").read_text())
    report = json.loads((out / "report.json").read_text())
    row = report["metrics"]["REVTAF"]
    assert row["clinical"]["example_f1"] == pytest.approx(meta["validation"]["example_f1"], abs=1e-9)
    assert row["nlg"]["CIDEr"] == pytest.approx(meta["validation"]["CIDEr"], abs=1e-9)
    assert {"most frequent report", "medoid report"} < set(report["metrics"])
    assert any("selected on this split" in note for note in report["notes"])
    assert "scorer-v3" in report["run"]["entity scores"]
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") >= 4 * 3
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == len({r["id"] for r in lines})
    subjects = {s.id: s.patient for s in make_session(tiny_config).knowledge.studies}
    assert all(subjects[r["retrieved_id"]] != r["subject_id"] for r in lines)
    assert "CIDEr" in said


def test_the_annotation_is_parsed_once_in_training_and_once_in_testing(trained_and_parsed, tested_and_parsed):
    """Checks, features, data sets and rows that copy a report all ask for it: 3.6 s each time at MIMIC-CXR's size."""
    (settings, in_training), (_, in_testing) = trained_and_parsed, tested_and_parsed
    assert in_training == in_testing == [Path(settings.data.annotation)]


@pytest.mark.parametrize("steps", [None, 0, 6])
def test_an_interrupted_run_resumes_bit_for_bit(steps, trained, tiny_config, tmp_path, monkeypatch):
    """Stopped in the middle of an epoch and continued: the same weights, optimiser steps and losses; with the retriever
    asked in training, and with LRE trained before, too."""
    options = [] if steps is None else ["lre.grp_source=learned", f"lre.steps={steps}"]
    if options:
        trained = load_settings(tiny_config, [f"run={tmp_path / 'whole'}", *options])
        train(trained)
    settings = load_settings(tiny_config, [f"run={tmp_path / 'run'}", *options])
    real, calls = engine.append_jsonl, []

    def stop_after_eleven(path, record):
        real(path, record)
        calls.append(record)
        if len(calls) == 11:  # in the second epoch
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(engine, "append_jsonl", stop_after_eleven)
    with pytest.raises(engine.Interrupted, match="continues from here"):
        train(settings)
    monkeypatch.setattr(engine, "append_jsonl", real)
    torch.rand(7)  # whatever the random state is in between
    train(settings)
    run = Path(settings.run)
    assert equal(weights(run), weights(Path(trained.run)))
    assert equal(weights(run, "best"), weights(Path(trained.run), "best"))
    assert read_jsonl(run / "metrics.jsonl") == read_jsonl(Path(trained.run) / "metrics.jsonl")


def test_a_finished_run_is_not_repeated_and_other_settings_are_refused(trained, caplog):
    """The same command twice costs nothing; another learning rate may not continue in the same folder."""
    before = (Path(trained.run) / "metrics.jsonl").read_bytes()
    train(trained)
    assert (Path(trained.run) / "metrics.jsonl").read_bytes() == before
    other = trained.model_copy(update={"train": trained.train.model_copy(update={"lr": 0.5})})
    with pytest.raises(UserError, match=r"train.lr: 0.001 -> 0.5"):
        train(other)


def test_a_checkpoint_of_another_architecture_is_refused_by_key(trained, tiny_config):
    """The message names the setting that differs."""
    settings = load_settings(tiny_config, [f"run={trained.run}", "decoder.layers=1"])
    with pytest.raises(UserError, match=r"another architecture.*decoder.layers: 2 -> 1"):
        run_test(settings)


def test_a_checkpoint_with_a_missing_tensor_is_refused(trained, tiny_config, tmp_path):
    """Nothing is loaded loosely: one tensor too few is an error that names it."""
    state = weights(Path(trained.run), "best")
    state.pop("classifier.head.bias")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="classifier.head.bias"):
        load_weights(tmp_path / "model.safetensors", make_session(tiny_config).model)


def test_testing_before_training_says_so(tiny_config, tmp_path):
    with pytest.raises(UserError, match="train first"):
        run_test(load_settings(tiny_config, [f"run={tmp_path / 'nothing'}"]))


def test_a_non_finite_loss_stops_with_the_ids(tiny_config, tmp_path, monkeypatch):
    """The run ends at the first bad step and names the samples of the batch."""
    from revtaf.decoder import Decoder

    monkeypatch.setattr(Decoder, "loss", lambda self, *a: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(UserError, match=r"not finite at step 0.*batch: p\d+x3_s\d+"):
        train(load_settings(tiny_config, [f"run={tmp_path / 'run'}"]))


def test_the_schedule_warms_up_and_decays(tiny_config):
    """Linear from warmup_lr to lr, then a cosine to min_lr; a short run warms up for a tenth of it."""
    t = load_settings(tiny_config, ["train.warmup_steps=10", "train.warmup_lr=1e-5", "train.min_lr=1e-4"]).train
    rates = [learning_rate(step, 1000, t) for step in range(1000)]
    assert rates[0] == 1e-5 and rates[10] == t.lr == max(rates)
    assert rates[5] == pytest.approx((1e-5 + t.lr) / 2)
    assert rates[-1] == pytest.approx(1e-4, rel=1e-2)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert learning_rate(5, 50, t) == t.lr


def test_equal_clinical_scores_are_decided_by_the_text():
    """A later epoch with the same CE F1 and a better CIDEr is kept; one without reports never is."""
    progress = engine.Progress(best_score=0.4, best_tie=0.3)
    assert engine.is_better({"score": 0.4, "tie": 0.31}, progress)
    assert not engine.is_better({"score": 0.4, "tie": 0.3}, progress)
    assert not engine.is_better({"score": 0.39, "tie": 0.9}, progress)
    assert not engine.is_better({"status_accuracy": 1.0}, progress)


def test_weight_decay_is_on_matrices_only(session):
    """Biases, norms and the like are not pulled to zero; every trainable parameter is optimised once."""
    optimizer = session.optimizers()[0]
    for group in optimizer.param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
    optimised = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(optimised) == sorted(id(p) for p in session.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("source", ["batch_labels", "dataset_labels", "learned", "random"])
def test_no_training_sample_gets_its_own_patients_report(session, source):
    """Whatever the source of the GRP, the reference report is another patient's."""
    session.settings, kept = session.settings.model_copy(deep=True), session.settings
    session.settings.lre.grp_source = source
    try:
        session.__dict__.pop("training_retrieved", None)
        chooser = session.training_retrieved
    finally:
        session.settings = kept
        session.__dict__.pop("training_retrieved")
    train = session.knowledge.train
    chooser.start_epoch(session.index)
    rows = torch.arange(12)
    chosen = chooser.rows(rows, draw=3)
    assert all(c < 0 or train.patients[c] != train.patients[r] for r, c in zip(rows, chosen, strict=True))
    if source == "batch_labels":
        assert set(chosen.tolist()) <= set(rows.tolist()) | {-1}
    if source == "learned":
        assert torch.equal(chosen, chooser.table[rows])
