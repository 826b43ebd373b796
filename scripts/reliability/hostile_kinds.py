"""The kinds of files that are made hostile: a valid one of each, and the product's own functions that open it."""

from __future__ import annotations

import json
import random
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))


@dataclass(frozen=True)
class Kind:
    """`make(folder)` writes valid files into an empty folder; `open(folder)` reads them. weight: how many of the files
    are of this kind. targets: which files are made hostile, as patterns. signed: a manifest whose hashes are mended
    after every other mutation, as somebody hostile would."""

    name: str
    make: Callable[[Path], None]
    open: Callable[[Path], None]
    weight: float = 1.0
    targets: tuple[str, ...] = ("**/*",)
    signed: str = ""


REPORT = "The heart is enlarged. No pleural effusion or pneumothorax."
LABELS = [1, 0, 2, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]


# Annotations, settings, tables


def make_annotation(folder: Path) -> None:
    """Three splits."""
    box = {"category": "edema", "xyxy": [0.1, 0.1, 0.5, 0.6], "side": "left"}
    studies = [
        {
            "id": f"s{i}",
            "subject_id": f"p{i}",
            "image_path": [f"{i}.png"],
            "report": REPORT,
            "labels": LABELS,
            "findings_boxes": [box],
        }
        for i in range(4)
    ]
    (folder / "annotation.json").write_text(
        json.dumps({"train": studies[:2], "val": studies[2:3], "test": studies[3:]}),
        encoding="utf-8",
    )


def open_annotation(folder: Path) -> None:
    """What every command does first."""
    from revtaf.config import DataSettings
    from revtaf.data.annotations import clean_reports, load_annotations
    from revtaf.features.build import select

    data = DataSettings(annotation=folder / "annotation.json")
    for split, studies in load_annotations(data.annotation).items():
        if studies:
            clean_reports(select({split: studies}, split, data), 100)


def make_config(folder: Path) -> None:
    """A file with a base."""
    shutil.copy(ROOT / "configs" / "mimic_cxr.yaml", folder / "base.yaml")
    (folder / "config.yaml").write_text(
        "base: base.yaml\nname: mine\nseed: 3\ntrain:\n  lr: 5e-5\n  epochs: 2\n", encoding="utf-8"
    )


def open_config(folder: Path) -> None:
    """Settings, and saved again."""
    from revtaf.config_file import load_settings, save_settings

    save_settings(folder / "out" / "config.yaml", load_settings(folder / "config.yaml", ["train.batch_size=4"]))


def make_grid(folder: Path) -> None:
    """A grid, a bank of clues, printed figures: YAML of other readers."""
    shutil.copy(ROOT / "configs" / "ablations" / GRID, folder / "grid.yaml")
    for name, path in (("bank.yaml", BANK), ("published.yaml", PUBLISHED)):
        shutil.copy(path, folder / name)


GRID = "table3.yaml"
BANK = next((ROOT / "revtaf" / "comparators" / "trrg").rglob("*.yaml"))
PUBLISHED = ROOT / "revtaf" / "eval" / "published.yaml"


def open_grid(folder: Path) -> None:
    """The three."""
    from revtaf.ablation.grid import load_grid
    from revtaf.comparators.trrg.clues import read_bank
    from revtaf.eval import published

    read_bank(folder / "bank.yaml")
    published.rows("iu_xray", path=folder / "published.yaml")
    load_grid(folder / "grid.yaml")


def make_predictions(folder: Path) -> None:
    """As a test writes them, and as CSV."""
    from revtaf.labels import CATEGORIES

    rows = [
        {
            **{"id": f"s{i}", "subject_id": f"p{i}", "study_id": f"s{i}", "reference": REPORT, "prediction": REPORT},
            "statuses": dict.fromkeys(CATEGORIES, "blank"),
            "positive": dict.fromkeys(CATEGORIES, 0.25),
        }
        for i in range(5)
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = ["id,reference,prediction", *(f"s{i},No effusion.,No edema." for i in range(5))]
    (folder / "predictions.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "by_id.json").write_text(
        json.dumps({row["id"]: {k: v for k, v in row.items() if k != "id"} for row in rows}),
        encoding="utf-8",
    )


def open_predictions(folder: Path) -> None:
    """Read, joined, scored but for METEOR."""
    from revtaf.eval.records import join, read_samples, refuse_processed

    for name in ("predictions.jsonl", "predictions.csv", "by_id.json"):
        samples = read_samples(folder / name)
        refuse_processed(samples)
        join(samples, samples)


def make_labels(folder: Path) -> None:
    """Statuses that were made elsewhere."""
    from revtaf.labels import CHEXPERT_CATEGORIES

    rows = [f"s{i}," + ",".join("1,0,-1,,1,0,,,,,,,,0".split(",")) for i in range(5)]
    (folder / "labels.csv").write_text("\n".join([",".join(["id", *CHEXPERT_CATEGORIES]), *rows]), encoding="utf-8")
    (folder / "labels.jsonl").write_text(
        "".join(json.dumps({"id": f"s{i}", "labels": LABELS}) + "\n" for i in range(5)),
        encoding="utf-8",
    )


def open_labels(folder: Path) -> None:
    """By id."""
    from revtaf.eval.labels_file import read_statuses

    read_statuses(folder / "labels.csv", [f"s{i}" for i in range(5)])
    read_statuses(folder / "labels.jsonl", [f"s{i}" for i in range(5)], codes="ours")


def make_table(folder: Path) -> None:
    """Somebody's own columns, and images."""
    (folder / "images").mkdir()
    for i in range(4):
        Image.fromarray(np.full((24, 24), 60 + i, np.uint8)).save(folder / "images" / f"{i}.png")
    rows = [f"s{i},{i}.png,No effusion {i}.,p{i},{'train' if i < 3 else 'test'}" for i in range(4)]
    (folder / "table.csv").write_text("\n".join(["id,file,text,who,split", *rows]), encoding="utf-8")
    lines = [dict(zip(("id", "file", "text", "who", "split"), row.split(","), strict=True)) for row in rows]
    (folder / "table.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def open_table(folder: Path) -> None:
    """Prepared, with copies, which write where the table says."""
    from revtaf.data.sources.table.prepare import prepare_table

    columns = {"image": ["file"], "report": ["text"], "id": "id", "patient": "who", "split": "split"}
    for name in ("table.csv", "table.jsonl"):
        prepare_table([folder / name], folder / "images", folder / "out" / name, copy=True, missing="drop", **columns)


# Images and archives


def make_images(folder: Path) -> None:
    """One of each format that is read."""
    grey = Image.fromarray(np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "b.jpg", "c.tif", "d.gif", "e.bmp", "f.webp", "h.pgm"):
        grey.save(folder / name, **({"exif": exif} if name in ("a.png", "b.jpg") else {}))
    Image.fromarray(np.full((40, 50), 40_000, np.uint16)).save(folder / "i.png")
    from data.test_dicom import film

    film().save_as(folder / "g.dcm", enforce_file_format=True)


def open_images(folder: Path) -> None:
    """Every file, as training and `check` see it."""
    from revtaf.data.examine import examine
    from revtaf.data.images import image_size, read_noted
    from revtaf.errors import UserError

    for path in sorted(folder.iterdir()):
        refused = None
        try:
            examine(read_noted(path)[0])
        except UserError as error:
            refused = error
        image_size(path)
        if refused:
            raise refused


def make_archives(folder: Path) -> None:
    """MIMIC-CXR's reports as a zip file, Open-i's as a tar file."""
    with zipfile.ZipFile(folder / "reports.zip", "w") as archive:
        archive.writestr("files/p10/p10000032/s50414267.txt", f"FINDINGS: {REPORT}")
    import io

    xml = f"<eCitation><uId id='CXR1'/><AbstractText Label='FINDINGS'>{REPORT}</AbstractText></eCitation>".encode()
    with tarfile.open(folder / "NLMCXR_reports.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("ecgen-radiology/1.xml")
        member.size = len(xml)
        archive.addfile(member, io.BytesIO(xml))


def open_archives(folder: Path) -> None:
    """Every report of both."""
    from revtaf.data.sources.iu_xray.open_i import read_open_i
    from revtaf.data.sources.mimic_cxr.reports import Reports

    with Reports(folder / "reports.zip") as reports:
        reports.read("10000032", "50414267")
    read_open_i(folder)


# What runs leave


def make_features(folder: Path) -> None:
    """A feature folder, a cache of labels, kept scores' neighbours: what is found again by its name."""
    from revtaf.features.arrays import Features, save_arrays
    from revtaf.features.label_cache import CachedLabeler
    from revtaf.knowledge.rules import RuleLabeler
    from revtaf.knowledge.text_encoder import TfidfEncoder

    draw = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(6)]
    scores = draw.random((6, 75)).astype(np.float16)
    statuses, codes = np.zeros((6, 18), np.uint8), np.zeros((6, 75), np.uint8)
    save_arrays(folder / "train", Features(ids, ids, statuses, scores, codes, np.zeros((6, 2), np.int32)), {"of": "it"})
    CachedLabeler(RuleLabeler(), folder / "labels.sqlite").label([REPORT])
    (folder / "tfidf").mkdir()
    TfidfEncoder(8).fit([f"finding number {i} in the lung" for i in range(12)], seed=0).save(folder / "tfidf")


def open_features(folder: Path) -> None:
    """Each by its reader; every number of an array is touched."""
    from revtaf.features.arrays import Features, fingerprint, load_arrays
    from revtaf.features.label_cache import CachedLabeler
    from revtaf.knowledge.rules import RuleLabeler
    from revtaf.knowledge.text_encoder import TfidfEncoder

    features = load_arrays(folder / "train", Features)
    fingerprint(folder / "train")
    features.scores.astype(np.float32).sum()
    CachedLabeler(RuleLabeler(), folder / "labels.sqlite").label([REPORT])
    TfidfEncoder.load(folder / "tfidf").encode(["a finding in the lung"])


class Small:
    """As little of a system as a checkpoint needs."""

    def __init__(self):
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=True)
        model = torch.nn.Linear(3, 2)
        self.model, self.optimizer = self.accelerator.prepare(model, torch.optim.AdamW(model.parameters()))

    def identity(self) -> dict:
        return {"features": "abc"}

    def state(self) -> dict:
        return {"retrieved": torch.zeros(3)}

    def load_state(self, state: dict) -> None:
        state["retrieved"].sum()


def make_run(folder: Path) -> None:
    """A run that was stopped: its last state, its metrics, its settings."""
    from revtaf.config_file import load_settings, save_settings
    from revtaf.engine.checkpoint import Progress, save_last
    from revtaf.engine.runtime import append_jsonl

    system = Small()
    system.model(torch.ones(1, 3)).sum().backward()
    system.optimizer.step()
    save_last(folder / "checkpoints", system, Progress(epoch=1, step=4, best_score=0.5, best_tie=0.1))
    for step in range(4):
        append_jsonl(folder / "metrics.jsonl", {"step": step, "epoch": 1, "lr": 0.1, "losses": {"lm": 1.0}})
    append_jsonl(folder / "metrics.jsonl", {"step": 4, "epoch": 1, "validation": {"score": 0.5, "tie": 0.1}})
    save_settings(folder / "config.yaml", load_settings(ROOT / "configs" / "phantom.yaml"))


def open_run(folder: Path) -> None:
    """Continued, and its curves."""
    from revtaf.config_file import load_settings
    from revtaf.engine.checkpoint import load_last, read_progress
    from revtaf.engine.metrics import epoch_curves

    read_progress(folder / "checkpoints")
    load_settings(folder / "config.yaml", bases=False)
    epoch_curves(folder / "metrics.jsonl")
    load_last(folder / "checkpoints", Small())


def make_weights(folder: Path) -> None:
    """Weights of both formats, vocabularies."""
    from safetensors.torch import save_file

    from revtaf.tokenizer import BERT_TOKENS, ReportTokenizer

    torch.manual_seed(0)
    state = torch.nn.Linear(3, 2).state_dict()
    save_file(state, folder / "a.safetensors")
    torch.save({"model": state}, folder / "b.pth")
    ReportTokenizer.fit(["no effusion .", "no effusion , no edema ."], 50).save(folder / "tokenizer.json")
    (folder / "vocab.txt").write_text("\n".join([*BERT_TOKENS, "no", "effusion"]), encoding="utf-8")


def open_weights(folder: Path) -> None:
    """Strictly into a layer; texts there and back."""
    from revtaf.pretrained.strict import load_strictly, read_tensors
    from revtaf.tokenizer import ReportTokenizer

    layer = torch.nn.Linear(3, 2)
    for name, entry in (("a.safetensors", None), ("b.pth", "model")):
        load_strictly(layer, read_tensors(folder / name, "weights", entry), folder / name, "weights")
    for tokenizer in (
        ReportTokenizer.load(folder / "tokenizer.json"),
        ReportTokenizer.from_vocabulary(folder / "vocab.txt"),
    ):
        tokenizer.decode(tokenizer.encode(["no effusion"])[0])


def make_index(folder: Path) -> None:
    """An index of invented rows."""
    from search.made import material

    from revtaf.search.build import create

    create(folder / "index", material(rows=12, width=8))


def open_index(folder: Path) -> None:
    """Opened, searched, its answers as a page."""
    from search.made import unit

    from revtaf.search.answers import answers_of, match_words
    from revtaf.search.index import IMAGES, REPORTS, SearchIndex

    index = SearchIndex.open(folder / "index")
    for of in (REPORTS, IMAGES):
        found = index.search(of, unit(2, 8), 3)
        answers = answers_of(index, of, [{"text": "heart"}] * 2, found, [])
        match_words(answers)
    list(index.galleries[REPORTS].records())
    SearchIndex.open(folder / "index", verify=True)


def make_outputs(folder: Path) -> None:
    """Answers of a language model, a list of images, a journal of generated reports."""
    rows = [{"id": f"s{i}", "text": REPORT, "model": "m", "seconds": 1.5} for i in range(4)]
    (folder / "outputs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Image.new("L", (20, 20)).save(folder / "a.png")
    (folder / "list.csv").write_text("image,id\na.png,s1\n", encoding="utf-8")


def open_outputs(folder: Path) -> None:
    """Read by their readers."""
    from revtaf.generate.inputs import find_images
    from revtaf.llm.outputs import read_outputs

    read_outputs(folder / "outputs.jsonl")
    find_images([folder / "list.csv"])


KINDS = [
    Kind("annotation", make_annotation, open_annotation, 1.5),
    Kind("configuration", make_config, open_config, 1.5),
    Kind("grid, bank, printed figures", make_grid, open_grid),
    Kind("predictions", make_predictions, open_predictions, 1.5),
    Kind("labels", make_labels, open_labels),
    Kind("table to prepare", make_table, open_table, 1.5, ("*.csv", "*.jsonl", "images/*")),
    Kind("images", make_images, open_images, 2),
    Kind("archives", make_archives, open_archives, 1.5),
    Kind("features", make_features, open_features, 1.5, signed="train/manifest.json"),
    Kind("stopped run", make_run, open_run, 1.5),
    Kind("weights, tokenizers", make_weights, open_weights, 1.5),
    Kind("search index", make_index, open_index, 1.5),
    Kind("other programs' outputs", make_outputs, open_outputs),
]


def model_kind(name: str, model: Path, weight: float) -> Kind:
    """A trained model's folder, opened by `revtaf.load`."""

    def make(folder: Path) -> None:
        shutil.copytree(model, folder / "model")

    def open_it(folder: Path) -> None:
        import revtaf

        revtaf.load(folder / "model", device="cpu")

    return Kind(name, make, open_it, weight, signed="model/model.json")


def sign(folder: Path, manifest: str) -> None:
    """Right hashes of what is there now, where the manifest can still be read."""
    from revtaf.files import sha256

    path = folder / manifest
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = content["files"]
        for name in files:
            if (path.parent / name).is_file():
                files[name] = sha256(path.parent / name)
        for name, about in content.get("arrays", {}).items():
            if (path.parent / f"{name}.npy").is_file():
                about["sha256"] = sha256(path.parent / f"{name}.npy")
        path.unlink()
        path.write_text(json.dumps(content), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return


def chosen_file(folder: Path, kind: Kind, draw: random.Random) -> Path:
    """One of the kind's files; the small ones are as likely as the large."""
    found = {path for pattern in kind.targets for path in folder.glob(pattern) if path.is_file()}
    return draw.choice(sorted(found))
