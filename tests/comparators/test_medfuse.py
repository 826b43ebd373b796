"""MedFuse-CLIP as a system: trained, continued, tested, opened; each flag changes what it should."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from languages import GERMAN, write_set
from safetensors.torch import save_file
from torch.nn import functional as F

import revtaf
from revtaf.audit.audit import audit
from revtaf.audit.checks import LEAK
from revtaf.check import inspect
from revtaf.commands.index import IndexRequest, index
from revtaf.commands.recipe import data_fingerprint
from revtaf.commands.test import test as run_test
from revtaf.commands.train import train
from revtaf.comparators.medfuse import SYSTEM
from revtaf.comparators.medfuse.evaluate import DUPLICATES, RANDOM, TFIDF, Gallery, products
from revtaf.comparators.medfuse.single import kept
from revtaf.comparators.medfuse.splits import split_by_patient
from revtaf.comparators.medfuse.text import TextTokens, report_text
from revtaf.config_file import load_settings
from revtaf.data.annotations import Study, load_annotations, save_annotations
from revtaf.engine.runtime import make_accelerator, read_jsonl, seed_everything
from revtaf.errors import UserError
from revtaf.files import sha256


def start(config: Path, *overrides: str):
    settings = load_settings(config, overrides)
    seed_everything(settings.seed)
    return SYSTEM.start(settings, make_accelerator(settings))


def batch_of(system, size: int = 8):
    dataset = system.train_set()
    return dataset.collate([dataset[(0, row)] for row in range(size)])


@pytest.fixture(scope="module")
def trained(medfuse_config):
    settings = load_settings(medfuse_config)
    train(settings)
    return settings


@pytest.fixture(scope="module")
def tested(trained, medfuse_config):
    """Settings that test on the training split, which is large enough, and report.json of the test."""
    settings = load_settings(medfuse_config, ["data.test_split=train"])
    return settings, json.loads((run_test(settings) / "report.json").read_text())


def test_an_interrupted_run_resumes_bit_for_bit(trained, medfuse_config, resumed):
    """Stopped in the second epoch and continued, with every draw of training: the same weights and lines."""
    lines = resumed(medfuse_config, "image.augment=strong", "text.augment=sentences")
    assert set(lines[0]["losses"]) == {"nce", "margin"}


def test_a_test_has_every_row_and_says_what_it_ranked(tested):
    """The system, and beside it what learns nothing; sizes, ties and cut texts in the notes."""
    settings, report = tested
    rows = {name: row["ranking"] for name, row in report["metrics"].items()}
    assert list(rows)[0] == SYSTEM.title and {RANDOM, TFIDF, DUPLICATES} <= set(rows)
    own, count = rows[SYSTEM.title], len(load_annotations(settings.data.annotation)["train"])
    for direction in ("i2t", "t2i"):
        assert 0 < own[f"{direction}_mrr"] <= 1 and 1 <= own[f"{direction}_mean_rank"] <= count
        assert rows[TFIDF][f"{direction}_recall_at_10"] == 1 and rows[DUPLICATES][f"{direction}_recall_at_1"] > 0.9
    assert {"auroc_name", "auroc_sentence", "auroc_pair", "auroc_phrases", "distance@1", "nDCG@5"} <= set(own)
    assert f"{count} images" in report["run"]["gallery"] and "are cut" in report["run"]["texts"]
    assert "ties:half|dedupe:none" in report["signature"].replace(",", "|")
    assert report["intervals"][SYSTEM.title]["i2t_mrr"]["low"] <= own["i2t_mrr"]
    assert "Zero-shot AUROC by category" in (settings.output / "report.html").read_text()
    assert "none: " not in report["run"]["hard negatives"]


def test_fewer_numbers_are_searched_in_a_folder_of_their_own(tested, medfuse_config):
    """All directions of the space are a turn of it, which changes no rank; two of them lose, and the page says which.
    Nothing is fitted on the tested vectors."""
    _, plain = tested
    overrides = ["data.test_split=train", "eval.resamples=0"]
    whole = load_settings(medfuse_config, [*overrides, "ranking.dimensions=16"])
    found = json.loads((run_test(whole) / "report.json").read_text())
    own, turned = (r["metrics"][SYSTEM.title]["ranking"] for r in (plain, found))
    for name in ("i2t_mrr", "t2i_recall_at_10", "auroc_name", "i2t_patient_gap"):
        assert turned[name] == pytest.approx(own[name], abs=2e-3), name
    few = load_settings(medfuse_config, [*overrides, "ranking.dimensions=2", "ranking.svd_centred=true"])
    assert (whole.output.name, few.output.name) == ("phantom-train-16d", "phantom-train-2d-centred")
    report = json.loads((run_test(few) / "report.json").read_text())
    assert report["metrics"][SYSTEM.title]["ranking"]["i2t_mrr"] != own["i2t_mrr"]
    assert any("Searched with 2 of 16 numbers" in note and "taken off" in note for note in report["notes"])
    assert "svd:2d-centred" in report["signature"]


def test_the_patients_own_other_reports():
    """Of Eq. 7: the same patient, other labels, another text; ties are a half, who has none does not count."""
    labels = np.array([[0, 1], [1, 1], [0, 1], [1, 0], [0, 0]], np.uint8)
    texts = ["a", "b", "c", "b", "d"]  # the first and third agree in all labels
    studies = [Study(f"s{i}", ("x.png",), t, (), "pppq"[min(i, 3)], f"st{i}") for i, t in enumerate(texts)]
    studies[4] = Study("s4", ("x.png",), "d", (), "r", "st4")
    gallery = Gallery.of(studies, texts, labels, "none")
    images = np.eye(5, dtype=np.float32)
    vectors = np.eye(5, dtype=np.float32)
    vectors[1, 0], vectors[1, 2] = 0.4, 1.0  # report b: .4 to image a, ties with image c
    found = gallery.of_patient(images, vectors)
    assert found["i2t_own_patient"].corpus == pytest.approx((1 + 1 + 0.5) / 3)  # images a, b and c
    assert found["i2t_patient_gap"].corpus == pytest.approx((0.6 + 1 + 0) / 3)
    assert Gallery.of(studies[3:], texts[3:], labels[3:], "none").of_patient(images[:2], vectors[:2]) == {}


def test_an_opened_model_embeds_images_and_texts_in_one_space(trained, phantom, tmp_path):
    """Of length 1, the same in any company; what cannot be embedded is refused by name."""
    system = revtaf.load(trained.run, device="cpu")
    files = sorted((phantom / "images").iterdir())[:5]
    images, texts = system.embed_images(files), system.embed_texts(["no effusion", "Large  effusion.", "no effusion"])
    assert images.shape == (5, 16) and images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, texts]), axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(system.embed_images(files[3:4])[0], images[3], atol=1e-5)
    long = system.embed_texts(["no effusion", "word " * 10_000])
    np.testing.assert_allclose(long[0], texts[0], atol=1e-5)  # padding has no say
    assert (texts[0] == texts[2]).all() and np.abs(texts[0] - texts[1]).max() > 1e-3
    with pytest.raises(UserError, match="text 2 of 2 is empty"):
        system.embed_texts(["effusion", " \n"])
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(UserError, match="not a readable image"):
        system.embed_images([tmp_path / "x.png"])


def test_an_image_alone_is_answered_with_the_nearest_training_reports(trained, phantom, tmp_path):
    """Ordered, by the cosine of the two encoders; the first is the report. Without reports the other way is named."""
    system = revtaf.load(trained.run, device="cpu")
    files = sorted((phantom / "images").iterdir())[:3]
    known = {study.id: text for study, text in zip(*system.training, strict=True)}
    for out, image in zip(system.report(files), system.embed_images(files), strict=True):
        distances = 1 - system.encode_texts(list(known.values())) @ image
        assert [r.distance for r in out.retrieved] == pytest.approx(np.sort(distances)[:5], abs=1e-5)
        nearest = system.encode_texts([known[out.retrieved[0].id]])[0] @ image
        assert 1 - nearest == pytest.approx(distances.min(), abs=1e-5)
        assert out.report == out.retrieved[0].report and out.statuses == ()
    with pytest.raises(UserError, match="MedFuse-CLIP writes without statuses"):
        system.report(files[0], statuses={"edema": "pos"})
    bare = shutil.copytree(Path(trained.run) / "checkpoints/best", tmp_path / "bare")
    (bare / "reports.jsonl").unlink()
    with pytest.raises(UserError, match=r"make an index of yours with `revtaf index` and ask it with `revtaf search`"):
        revtaf.load(bare, device="cpu").report(files[0])


def test_the_points_of_a_finished_run_are_its_training_texts(trained, tmp_path, monkeypatch):
    """They are not made again, unless the folder's reports are others than the training set's."""
    folder = shutil.copytree(Path(trained.run) / "checkpoints/best", tmp_path / "best")
    whole = SYSTEM.open(folder, trained, make_accelerator(trained))
    monkeypatch.setattr(type(whole), "encode_texts", lambda self, texts: np.zeros((len(texts), 1)))
    known = {r["id"]: point for r, point in zip(*kept(folder), strict=True)}
    assert np.array_equal(whole.training_points, [known[study.id] for study in whole.training[0]])
    reports = read_jsonl(folder / "reports.jsonl")
    reports[0]["report"] += " another"
    (folder / "reports.jsonl").write_text("".join(json.dumps(r) + "\n" for r in reports))
    other = SYSTEM.open(folder, trained, make_accelerator(trained))
    assert not other.training_points.any()


def test_the_gradient_reaches_both_encoders_and_the_temperature(medfuse_config):
    """From the first patch and the first token on; and from the hard negatives alone."""
    system = start(medfuse_config)
    batch = batch_of(system)
    losses = system.losses(batch, 0)
    (losses["nce"] + losses["margin"]).backward()
    found = {name: p.grad for name, p in system.model.named_parameters()}
    for name in ("visual.conv1.weight", "text.token_embedding.weight", "log_scale"):
        assert found[name].abs().max() > 0, name
    assert batch.mask.any() and batch.negatives.max() >= len(batch)


def test_overfitted_pairs_find_each_other(medfuse_config, tmp_path):
    """The positive control: 24 pairs with distinct texts, learned by heart, are found among themselves both ways."""
    overrides = (
        f"run={tmp_path / 'run'}",
        *("data.max_samples=24", "data.validation_split=train", "train.epochs=40", "train.validate_every=40"),
        *("train.lr=4e-3", "train.batch_size=12", "train.weight_decay=0", "negatives.hard=false"),
        *("objective.margin_weight=0", "train.warmup_steps=5"),
    )
    settings = load_settings(medfuse_config, overrides)
    train(settings)
    found = [r["validation"] for r in read_jsonl(tmp_path / "run/metrics.jsonl") if "validation" in r][-1]
    system = revtaf.load(settings.run, device="cpu")
    studies = system.studies(settings.data, "train")
    texts = system.texts(studies)
    assert len(set(texts)) == 24
    gallery = Gallery.of(studies, texts, np.zeros((24, 14)), "none")
    ranks = gallery.ranks(
        products(system.encode_images(studies, settings.data), system.encode_texts(texts), gallery), "half"
    )
    assert found["score"] == 1.0 and all((r <= 1).mean() >= 0.99 for r in ranks.values()), ranks


def nce(system, batch):
    with torch.no_grad():
        system.model.eval()
        return {name: value.item() for name, value in system.losses(batch, 0).items()}


def test_the_four_rows_of_table_iv_are_flags(medfuse_config):
    """Random, hard, weighted, margin: each adds what it says, with the same weights at the start."""
    rows = {
        "random": ("negatives.hard=false", "objective.margin_weight=0"),
        "hard": ("negatives.weighted=false", "objective.margin_weight=0"),
        "weighted": ("negatives.weight_tau=0.05", "objective.margin_weight=0"),
        "margin": ("negatives.weight_tau=0.05",),
    }
    systems = {name: start(medfuse_config, *flags) for name, flags in rows.items()}
    first = systems["random"].model.state_dict()
    for system in systems.values():
        assert all(torch.equal(value, first[name]) for name, value in system.model.state_dict().items())
    batches = {name: batch_of(system, 16) for name, system in systems.items()}
    losses = {name: nce(system, batches[name]) for name, system in systems.items()}
    assert batches["random"].negatives.shape == (16, 0) and batches["hard"].mask.any()
    assert losses["hard"]["nce"] > losses["random"]["nce"]  # more in the denominator
    assert (batches["hard"].mask == batches["weighted"].mask).all()
    several = batches["hard"].mask.sum(1) > 1
    assert several.any() and (batches["hard"].weights[several] != batches["weighted"].weights[several]).any()
    assert losses["weighted"]["nce"] != losses["hard"]["nce"] and set(losses["weighted"]) == {"nce"}
    assert losses["margin"]["nce"] == losses["weighted"]["nce"] and losses["margin"]["margin"] > 0
    assert systems["margin"].weights == {"nce": 1.0, "margin": 0.5}


def test_every_other_choice_changes_what_it_says(medfuse_config):
    system = start(medfuse_config)
    batch = batch_of(system)
    base = nce(system, batch)
    system.settings.objective.reduction = "mean"
    assert nce(system, batch)["nce"] == pytest.approx(base["nce"] / 2, rel=1e-5)
    system.settings.objective.margin_over = "weighted"
    assert nce(system, batch)["margin"] < base["margin"]
    batch.texts[1] = batch.texts[0]
    system.settings.negatives.mask_same_text = True
    assert nce(system, batch)["nce"] < base["nce"] / 2
    other = batch_of(start(medfuse_config, "image.norm=clip"))
    assert not torch.equal(other.images, batch.images) and torch.equal(other.tokens, batch.tokens)
    varied = batch_of(start(medfuse_config, "text.augment=sentences"))
    assert varied.tokens.shape != batch.tokens.shape or not torch.equal(varied.tokens, batch.tokens)
    one = start(medfuse_config, "negatives.k=1")
    assert batch_of(one).mask.sum(1).max() == 1
    assert (start(medfuse_config, "negatives.min_label_hamming=4").hard.rows >= 0).sum() < (system.hard.rows >= 0).sum()


@pytest.mark.parametrize("tower", ["modified_resnet", "resnet18"])
def test_other_towers_give_vectors_of_the_same_width(medfuse_config, tower):
    """open_clip's ResNet and REVTAF's backbones; what the image encoder starts from is in the report."""
    size = ("image.width=8", "image.layers=1") if tower == "modified_resnet" else ()
    system = start(medfuse_config, f"image.tower={tower}", *size)
    system.model.eval()
    assert system.model.encode_images(torch.randn(2, 3, 64, 64)).shape == (2, 16)
    assert f"{tower} and text transformer from random weights" == system.notes["encoders"]


def test_equal_texts_are_two_answers_or_one():
    """Many-to-one by study, and by text where `ranking.dedupe` says so."""
    studies = [
        Study(f"s{i}", ("x.png",), t, (), f"p{s}", s) for i, (t, s) in enumerate(zip("aaab", "wwxy", strict=True))
    ]
    texts = [s.report for s in studies]
    by_study, by_text = (Gallery.of(studies, texts, np.zeros((4, 2)), how) for how in ("none", "exact_text"))
    assert by_study.report.tolist() == [0, 0, 1, 2] and by_text.report.tolist() == [0, 0, 0, 1]
    assert by_study.asked_once.tolist() == [True, False, True, True]
    images, vectors = np.eye(4, 3, dtype=np.float32), np.eye(3, dtype=np.float32)
    images[1], vectors[1] = images[0], vectors[0]  # the copies look the same
    ranks = by_study.ranks(products(images, vectors, by_study), "half")["i2t"]
    assert ranks[0] == ranks[1] == 1.5  # a tie with the other study's copy
    assert by_text.ranks(products(images, vectors[[0, 2]], by_text), "half")["i2t"][0] == 1


def test_two_patients_studies_of_one_name_are_two_reports():
    """Study ids that count within a patient, as CheXpert's, and a report that everybody gets."""
    studies = [Study(f"s{i}", ("x.png",), "normal", (), f"p{i}", "study1") for i in range(2)]
    assert Gallery.of(studies, ["normal"] * 2, np.zeros((2, 2)), "none").report.tolist() == [0, 1]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [1, 0, 6, 2, 5, 3, 4]])
def test_a_text_that_two_patients_share_is_the_other_one_s_for_both(order):
    """Equal texts are one report: who has it finds the other's copy useful, whoever comes first in the file."""
    texts, patients = [list("aabcdef")[i] for i in order], [list("pqrstuv")[i] for i in order]
    studies = [
        Study(f"s{i}", ("x.png",), t, (), p, f"st{i}") for i, (t, p) in enumerate(zip(texts, patients, strict=True))
    ]
    statuses = np.array([[ord(t) - 97 == k for k in range(6)] for t in texts], np.uint8)
    gallery = Gallery.of(studies, texts, statuses, "exact_text")
    one_hot = statuses.astype(np.float32)
    found = gallery.nearest(products(one_hot, one_hot[gallery.first], gallery))
    for text, row in zip(texts, found[:, 0], strict=True):
        assert (texts[row] == text) == (text == "a")


@pytest.mark.parametrize("seed", [0, 1])
def test_the_split_by_patient_is_disjoint_and_70_10_20(phantom, seed):
    annotations = load_annotations(phantom / "annotation.json")
    split = split_by_patient(annotations, seed)
    patients = {name: {s.patient for s in studies} for name, studies in split.items()}
    everyone = set().union(*patients.values())
    assert (
        sum(map(len, patients.values())) == len(everyone) == len({s.patient for v in annotations.values() for s in v})
    )
    assert sorted(s.id for v in split.values() for s in v) == sorted(s.id for v in annotations.values() for s in v)
    shares = [len(patients[name]) / len(everyone) for name in ("train", "val", "test")]
    np.testing.assert_allclose(shares, (0.7, 0.1, 0.2), atol=1 / len(everyone))
    assert split_by_patient(annotations, seed) == split and split_by_patient(annotations, seed + 7) != split


def test_a_report_s_sections_in_the_asked_order_and_cut_at_the_context():
    """18 % of long texts are cut, and how many are is counted."""
    study = Study("s", ("x.png",), "The lungs are\nclear.", impression="Normal chest.")
    assert report_text(study, "report") == "The lungs are clear."
    assert report_text(study, "impression+report") == "Normal chest. The lungs are clear."
    tokens = TextTokens(8)
    (ids,) = tokens.encode([report_text(study, "report+impression")])
    assert len(ids) == 8 and ids[0] == tokens.start and ids[-1] == tokens.end
    assert tokens.truncated(["clear", "clear " * 20]) == 0.5


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("negatives.k=500",), "negatives.k is 500, but there are only"),
        (("negatives.hard=false",), "objective.margin_weight=0"),
        (("image.size=100", "image.resize=128"), "no multiple of image.patch"),
        (("image.weights=imagenet",), "image.weights is for a backbone"),
        (("text.heads=5",), "text.width 32 does not divide into text.heads 5"),
        (("space.name=ViT-B-32", "text.tokens=clip"), "space.centred=true is for encoders of one's own"),
        (("lre.enabled=false",), "unknown key 'lre'"),
        (("ranking.dimensions=17",), "ranking.dimensions 17 exceeds space.width 16"),
    ],
)
def test_what_does_not_fit_is_refused_by_key(medfuse_config, overrides, says):
    with pytest.raises(UserError) as refused:
        start(medfuse_config, *overrides)
    assert says in str(refused.value)


def test_the_temperature_comes_back_from_its_bound(medfuse_config):
    system = start(medfuse_config)
    with torch.no_grad():
        system.plain.log_scale.fill_(5.0)
    batch = batch_of(system)
    scale = system.plain(batch.images, batch.tokens).scale
    scale.backward()
    assert scale.item() == pytest.approx(100) and system.plain.log_scale.grad > 0


def test_whoever_asks_for_a_split_gets_the_run_s_own(medfuse_config, phantom, tmp_path, trained):
    """Check, audit, recipe and index, of an annotation whose studies are all in one split."""
    studies = [s for part in load_annotations(phantom / "annotation.json").values() for s in part]
    flat = tmp_path / "annotation.json"
    save_annotations(flat, {"test": studies})
    paths = [f"data.annotation={flat}", f"run={tmp_path / 'run'}", f"data.features={tmp_path / 'features'}"]
    settings = load_settings(medfuse_config, [*paths, "pairs.split=patients", "train.epochs=1"])
    own = split_by_patient({"test": studies}, settings.pairs.split_seed)
    assert settings.splits({"test": studies}) == own
    assert any("no study in split 'train'" in str(line) for line in inspect(load_settings(medfuse_config, paths)))
    assert not [line for line in inspect(settings, training=True) if line.level == "error"]

    lines = {(line.check, line.split): line for line in audit(settings)}
    assert all(line.verdict != LEAK for line in lines.values())
    assert any(line.of == len(own["test"]) for (_, split), line in lines.items() if split == "test")

    officially = load_settings(medfuse_config, paths)
    prints = [data_fingerprint(one, one.data, "test", sha256)["images"] for one in (settings, officially)]
    assert None not in prints and prints[0] != prints[1]

    train(settings)
    request = IndexRequest(settings.run, flat, tmp_path / "index", images=phantom / "images", split=("test",))
    assert len(index(request).galleries["images"]) == len(own["test"])
    other = IndexRequest(trained.run, flat, tmp_path / "other", images=phantom / "images", split=("test",))
    assert len(index(other).galleries["images"]) == len(studies)


def test_hard_negatives_without_patients_are_refused(medfuse_config, phantom, tmp_path):
    studies = load_annotations(phantom / "annotation.json")
    bare = {k: [Study(s.id, s.image_path, s.report, s.labels) for s in v] for k, v in studies.items()}
    save_annotations(tmp_path / "annotation.json", bare)
    with pytest.raises(UserError, match="names none .subject_id.; set negatives.hard=false"):
        start(medfuse_config, f"data.annotation={tmp_path / 'annotation.json'}")


def test_a_model_of_open_clip_starts_from_its_file(medfuse_config, tmp_path):
    """In CLIP's own layout, strictly; the same vectors as the pair of `revtaf.knowledge.clip`, and the paper's start of
    the temperature. Another architecture is refused."""
    import open_clip

    from revtaf.knowledge.clip import ClipPair

    name, size = "revtaf-tiny-medfuse", {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    words = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / f"{name}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": size, "text_cfg": words}))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        theirs = open_clip.create_model(name)
    save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, tmp_path / "w.safetensors")
    overrides = ("space.centred=false", f"space.name={name}", "text.tokens=clip", "text.context=12")
    system = start(medfuse_config, *overrides, f"space.weights={tmp_path / 'w.safetensors'}", "space.temperature=0.05")
    system.model.eval()
    texts = ["no effusion", "large right effusion"]
    pair = ClipPair.load(name, tmp_path / "w.safetensors", torch.device("cpu"))
    np.testing.assert_allclose(system.embed_texts(texts), pair.encode_texts(texts, torch.device("cpu")), atol=1e-6)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs.eval()
        expected = F.normalize(theirs.encode_image(image), dim=-1)
        torch.testing.assert_close(system.model.encode_images(image), expected, atol=1e-6, rtol=1e-5)
    assert system.model.log_scale.exp().item() == pytest.approx(20) and "w.safetensors" in system.notes["encoders"]
    lacking = {k: v.contiguous() for k, v in theirs.state_dict().items() if k != "ln_final.bias"}
    save_file(lacking, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="space.weights: .* lacks 1 keys"):
        start(medfuse_config, *overrides, f"space.weights={tmp_path / 'x.safetensors'}")


def test_reports_without_labels_are_ranked_in_any_language(medfuse_config, tmp_path):
    """No hard negatives, no useful reports, no zero-shot AUROC; the refusal to label comes first."""
    annotation = write_set(tmp_path / "set", GERMAN)
    data = [f"data.annotation={annotation}", f"data.images={tmp_path / 'set/images'}", f"run={tmp_path / 'run'}"]
    data += [f"data.features={tmp_path / 'set/features'}", "data.name=set", "train.epochs=1", "train.batch_size=4"]
    with pytest.raises(UserError, match="knowledge.labeler=none"):
        train(load_settings(medfuse_config, data))
    settings = load_settings(medfuse_config, [*data, "knowledge.labeler=none"])
    assert not settings.negatives.hard and settings.objective.margin_weight == 0
    train(settings)
    found = json.loads((run_test(settings) / "report.json").read_text(encoding="utf-8"))
    row = found["metrics"]["MedFuse-CLIP"]["ranking"]
    assert row["i2t_recall_at_1"] is not None
    assert not [key for key in row if key.startswith("auroc") or key in ("distance@1", "nearest@1")]
