"""The commands of README and the documents, one after the other as they stand there, on miniatures.

`WALK` says of each how it is run here; what takes minutes, a network or a page that waits names the test that runs it
at toy size instead. A command that is in no row fails.
"""

import csv
import json
import shutil

import pytest
import yaml
from mimic_files import write_mimic
from open_i_files import make_archive, xml
from PIL import Image
from shown import DOCUMENTS, own_configuration, shown_in
from tiny import ROOT, TINY

from revtaf.cli import main
from revtaf.data.annotations import load_annotations
from revtaf.data.images import read_image

SMALL = {"eval.resamples": 0, "eval.samples": 1, "train.epochs": 1, "missing": "stand-in", "device": "cpu"}
WALK = {  # how a command begins -> what is added to it, or who runs it at toy size
    "revtaf prepare table --csv mine.csv": [],
    "revtaf prepare table --preset": "tests/data/test_table.py",
    "revtaf prepare mimic_cxr --jpg data/raw/mimic-cxr-jpg": [],
    "revtaf prepare mimic_cxr --jpg data/raw/mini": "tests/test_raw_to_table.py",
    "revtaf prepare iu_xray": [],
    "revtaf prepare phantom": ["--images", "6", "--size", "72", "--out", "drawn"],
    "revtaf prepare import": "tests/data/test_imported.py",
    "revtaf prepare features": "tests/test_raw_to_table.py",
    "revtaf fetch": "tests/commands/test_fetch.py",
    "revtaf check": ["missing=stand-in"],
    "revtaf audit --config configs/mini.yaml": "tests/test_raw_to_table.py",
    "revtaf audit": ["missing=stand-in"],
    "revtaf train --config configs/mine.yaml": "TINY",
    "revtaf test --config configs/mine.yaml": "TINY",
    "revtaf train": "tests/commands/test_cli.py",
    "bash train_mimic_cxr.sh": "tests/commands/test_cli.py",
    "bash test_mimic_cxr.sh": "tests/commands/test_cli.py",
    "bash test_iu_xray.sh": "TRAINED",
    "bash scripts/quickstart.sh": "tests/commands/test_cli.py",
    "bash scripts/test.sh": "tests/conftest.py",  # it runs this
    "bash scripts/trrg_demo.sh": "tests/comparators/test_trrg.py",
    "revtaf generate": [],
    "revtaf export": [],
    "revtaf index": "tests/search/test_commands.py",
    "revtaf search": "tests/search/test_commands.py",
    "revtaf serve": "tests/generate/test_serve.py",
    "revtaf ablate": "tests/ablation/test_runs.py",
    "revtaf analyse": "tests/pages/test_report.py",
    "revtaf score predictions.jsonl": ["--resamples", "0"],
    "revtaf score PREDICTIONS --llm": "tests/commands/test_score.py",
    "revtaf llm": "tests/llm/test_llm.py",
    "python tests/mimic_files.py": "tests/test_raw_to_table.py",
    "python scripts/reliability": "tests/test_reliability.py",
    "revtaf replay": "tests/engine/test_nonfinite.py",
    "pip install": "tests/test_package.py",
    "source": "scripts/test.sh",
    "export": "tests/llm/test_llm.py",
    "sha256sum": "README.md",
    "cd": "README.md",
}
# Two of a block that are alternatives: what the first wrote goes before the second.
ANEW = ("my_model", "reports")


def row_of(words):
    """The longest row of WALK that the command begins with."""
    line = " ".join(words)
    rows = [begin for begin in WALK if line == begin or line.startswith(f"{begin} ") or line.startswith(f"{begin}/")]
    return max(rows, key=len, default=None)


def flat(settings, prefix=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    """A clone with data: raw files as they are downloaded, a table of one's own, and a trained model."""
    data, run, _ = world
    home = tmp_path_factory.mktemp("a clone")
    shutil.copytree(ROOT / "configs", home / "configs")
    (home / "configs/mine.yaml").write_text(own_configuration(), encoding="utf-8")
    shutil.copytree(run, home / "results/phantom")
    shutil.copytree(data, home / "data/phantom")
    studies = load_annotations(data / "annotation.json")
    first = data / "images" / studies["train"][0].image_path[0]
    (home / "images").mkdir()
    for copy in ("data/phantom/images/p0001_s01.png", "chest.png", "images/one.png"):
        shutil.copy(first, home / copy)
    (home / "list.csv").write_text("image,reference\nchest.png,The lungs are clear.\n", encoding="utf-8")
    shutil.copy(next(run.glob("*/predictions.jsonl")), home / "predictions.jsonl")
    shutil.copy(data / "annotation.json", home / "annotation.json")
    shutil.copytree(data / "images", home / "pictures")
    with open(home / "mine.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "findings", "patient"])
        rows.writerows((s.image_path[0], s.report, s.subject_id) for part in studies.values() for s in part)
    write_mimic(home / "data/raw")
    _write_iu_xray(home / "data/raw/iu_xray", read_image(first))
    return home


def _write_iu_xray(folder, image: Image.Image):
    """Open-i's two archives' content, and R2Gen's package of the same studies."""
    numbers = (1, 2, 3, 10, 11)
    for name in ("NLMCXR_png", "images"):
        (folder / name).mkdir(parents=True)
    make_archive(folder, {number: xml(number) for number in numbers})
    studies = []
    for number in numbers:
        study = f"CXR{number}_IM-{number:04d}"
        image.save(folder / f"NLMCXR_png/{study}-1001.png")
        image.save(folder / f"NLMCXR_png/{study}-2001.png")
        image.save(folder / f"images/{study}.png")
        studies.append({"id": study, "report": "The lungs are clear.", "image_path": [f"{study}.png"]})
    package = {"train": studies[:3], "val": studies[3:4], "test": studies[4:]}
    (folder / "annotation.json").write_text(json.dumps(package), encoding="utf-8")


def walk(shown, home, world):
    """Run one command as it stands, in `home`; exit code 0, or a failure that shows what it said."""
    row = row_of(shown.words)
    assert row, f"{shown}: no row of WALK says how this is run"
    how = WALK[row]
    if isinstance(how, str) and "/" in how or how == "README.md":
        assert (ROOT / how).is_file(), how
        return
    words = list(shown.words)
    if words[0] == "bash":
        words = ["revtaf", "test", "--config", "configs/iu_xray.yaml"]
        assert " ".join(words[1:]) in (ROOT / shown.words[1]).read_text(encoding="utf-8")
    for name in ANEW:
        if name in words[:-1] or name == words[-1]:
            made_of = words[1] == "export" and words.index(name) == 2
            if not made_of:
                shutil.rmtree(home / name, ignore_errors=True)
    words += _toy(how, world)
    assert main(words[1:]) == 0, f"{shown}: exit code"


def _toy(how, world):
    data, _, settings = world
    small = [f"{key}={value}" for key, value in SMALL.items()]
    if how == "TINY":
        tiny = {name: value for name, value in TINY.items() if name != "name"}
        return [*flat(tiny), "data.max_samples=20", "train.schedule=joint", *small]
    if how == "TRAINED":  # with what the model was trained with, and on
        saved = yaml.safe_load((settings.run / "config.yaml").read_text(encoding="utf-8"))
        ours = {name: value for name, value in saved.items() if name not in ("data", "trained_on", "run", "name")}
        places = [f"trained_on.{key}={data / name}" for key, name in
                  (("annotation", "annotation.json"), ("images", "images"), ("features", "features"))]  # fmt: skip
        return [*flat(ours), *places, "run=results/phantom", *small]
    return how


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if any(not s.inline for s in shown_in(path))], ids=lambda path: path.stem
)
def test_the_commands_of_a_document_run_in_their_order(path, place, world, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("revtaf.eval.meteor.find_java", lambda java=None: None)  # its start alone takes seconds
    for shown in (shown for shown in shown_in(path) if not shown.inline):
        try:
            walk(shown, place, world)
        except (AssertionError, SystemExit) as error:
            pytest.fail(f"{error}\n{capsys.readouterr().err[-3000:]}")
    if path.name == "README.md":  # Table 2 of the paper: the model of another set, on the whole of this one
        results = place / "results/phantom/iu_xray-whole"
        assert len((results / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 5
        assert "REVTAF (paper)" in (results / "table.md").read_text(encoding="utf-8")


def test_no_row_of_the_walk_is_left_over():
    used = {row_of(shown.words) for path in DOCUMENTS for shown in shown_in(path) if not shown.inline}
    assert set(WALK) - used == set() and None not in used
