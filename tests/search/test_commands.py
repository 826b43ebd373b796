"""`revtaf index` and `revtaf search`, as a user calls them, with a toy that embeds images and texts."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

import revtaf
from revtaf import systems
from revtaf.cli import main
from revtaf.commands.search import SearchRequest, _check_queries
from revtaf.comparators.medfuse.system import MedFuse
from revtaf.data.annotations import load_annotations
from revtaf.errors import UserError
from revtaf.search.index import IMAGES, REPORTS, SearchIndex

TOYS = Path(__file__).parents[1] / "toys"


@pytest.fixture(scope="module")
def models(phantom, tmp_path_factory):
    """Trained toys: two that embed, which differ in their seed, and one that does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOYS))
        systems.find.cache_clear()
        folder = tmp_path_factory.mktemp("models")
        for name, system, seed in (("a", "toy_embedder", 0), ("b", "toy_embedder", 1), ("c", "toy", 0)):
            content = {
                "system": system,
                "name": name,
                "device": "cpu",
                "seed": seed,
                "run": str(folder / name),
                "data": {
                    "annotation": str(phantom / "annotation.json"),
                    "images": str(phantom / "images"),
                    "features": str(folder / "features"),
                },
                "train": {
                    "epochs": 1,
                    "batch_size": 16,
                    "workers": 0,
                    "clip_value": None,
                    "warmup_steps": 1,
                    "precision": "no",
                },
            }
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
            assert main(["train", "--config", str(folder / f"{name}.yaml")]) == 0
        yield folder
    systems.find.cache_clear()


@pytest.fixture
def call(models, phantom, tmp_path, called):
    """Run a command; returns exit code, what it printed, and its error."""

    def made(*options, out=tmp_path / "index", model="a", code=0):
        start = ["index", "--checkpoint", models / model, "--data", phantom / "annotation.json", "--out", out]
        return called(*start, *options, code=code)

    called.index = made
    called.place = tmp_path / "index"
    return called


@pytest.fixture
def train(phantom):
    """The training split, and where an image of it is."""
    studies = load_annotations(phantom / "annotation.json")["train"]
    return studies, lambda study: phantom / "images" / study.image_path[0]


def test_an_image_finds_itself_and_a_report_its_own_text(call, train, tmp_path):
    """Image to images, text to reports; of equal reports the first row comes first; records name their study."""
    printed = call.index()
    assert "exact search of" in printed and f"{len(train[0])} images of width 16" in printed
    studies, path = train
    call("search", "--index", call.place, path(studies[3]), "--of", "images", "-k", 2, "--jsonl", tmp_path / "a.jsonl")
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    first = json.loads(line)["hits"][0]
    assert first["id"] == studies[3].id and first["score"] == pytest.approx(1, abs=1e-3)
    assert first["patient"] == studies[3].subject_id and first["report"] == studies[3].report
    texts = ["--text", studies[5].report, "--text", studies[0].report]
    call("search", "--index", call.place, *texts, "--of", "reports", "-k", 1, "--jsonl", tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["hits"][0]["report"] for line in lines] == [studies[5].report, studies[0].report]


def test_every_output_says_how_it_was_found_and_that_it_is_no_device(call, train, tmp_path):
    """Terminal, JSON and page; the page loads nothing and runs nothing, shows every thumbnail, and escapes texts."""
    call.index("--split", "train", "val")
    page, lines = tmp_path / "page.html", tmp_path / "lines.jsonl"
    studies, path = train
    queries = [path(studies[0]), path(studies[1])]
    printed = call("search", "--index", call.place, *queries, "-k", 3, "--page", page, "--jsonl", lines)
    html, records = page.read_text(), [json.loads(line) for line in lines.read_text().splitlines()]
    for text in (printed, html, lines.read_text()):
        assert "exact search of" in text and "ot a medical device" in text
    assert len(records) == 2 and all(record["of"] == "reports" and len(record["hits"]) == 3 for record in records)
    sources = re.findall(r'src="([^"]*)"', html)
    assert len(sources) == 2 + 6 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<script|https?://|<link|@import|url\(", html)
    sentence = records[0]["hits"][0]["sentence"]
    assert sentence in records[0]["hits"][0]["report"].replace(" .", ".") and "nearest sentence" in printed
    attack = 'heart <img src="http://x">'
    call("search", "--index", call.place, "--text", attack, "-k", 1, "--page", page, "--image-root", tmp_path)
    assert "&lt;img" in page.read_text() and 'src="http' not in page.read_text()
    assert "image file not found" in page.read_text()


def test_shared_words_are_those_of_both_texts(call, tmp_path):
    """In the order of the report, in lower case, without words that are in every text; marked on the page."""
    call.index()
    page, lines = tmp_path / "page.html", tmp_path / "lines.jsonl"
    call("search", "--index", call.place, "--text", "The HEART is of normal size", "--page", page, "--jsonl", lines)
    hits = json.loads(lines.read_text())["hits"]
    assert len(hits) == 10 and any(hit["words"] for hit in hits)
    for hit in hits:
        assert set(hit["words"]) == set(re.findall(r"[\w-]+", hit["report"].lower())) & {"heart", "normal", "size"}
        assert hit["images"] and not hit["sentence"]
    assert "<mark>heart</mark>" in page.read_text().lower()


def test_what_a_report_denies_is_not_passed_off_as_a_match(call, tmp_path):
    """ "No pleural effusion" shares two words with the query; every output says that it says the opposite."""
    call.index()
    page, lines = tmp_path / "page.html", tmp_path / "lines.jsonl"
    options = ["-k", 40, "--page", page, "--jsonl", lines]
    printed = call("search", "--index", call.place, "--text", "There is a pleural effusion.", *options)
    hits = json.loads(lines.read_text())["hits"]
    denying = [hit for hit in hits if re.search(r"no (focal consolidation, )?pleural effusion", hit["report"].lower())]
    assert denying and all("pleural effusion is negative here" in hit["contradicts"] for hit in denying)
    assert all("but pleural effusion is negative here" in text for text in (printed, page.read_text()))


def test_patients_are_excluded(call, train, tmp_path):
    """The query's own patient, on request; an annotation that names none cannot."""
    call.index()
    studies, path = train
    own = studies[0].subject_id
    lines = tmp_path / "lines.jsonl"
    request = ["search", "--index", call.place, path(studies[0]), "--of", "images", "--jsonl", lines, "-k", 5]
    printed = call(*request, "--exclude-patient", own)
    assert f"without patients {own}" in printed
    assert all(hit["patient"] != own for hit in json.loads(lines.read_text())["hits"])


def test_faiss_states_its_recall_and_the_projection_its_share(call, train, tmp_path):
    """Measured on the validation split, which is not indexed; in the index's and in the search's output."""
    pytest.importorskip("faiss")
    printed = call.index("--engine", "faiss", "--svd", 8)
    index = SearchIndex.open(call.place)
    for kind in (IMAGES, REPORTS):
        for asked in (IMAGES, REPORTS):
            assert f"recall@10 {index.recall(kind, asked):.3f}" in printed
    assert "split val, not indexed" in printed and "SVD fitted on" in printed and "not centred" in printed
    page, lines = tmp_path / "page.html", tmp_path / "lines.jsonl"
    options = ["--page", page, "--jsonl", lines]
    shown = call("search", "--index", call.place, train[1](train[0][0]), *options)
    recall = index.recall(REPORTS, IMAGES)
    for text in (shown, page.read_text(), lines.read_text()):
        assert f"recall@10 {recall:.3f} of exact search" in text
    assert json.loads(lines.read_text())["recall"] == recall
    call.index("--add", "--split", "val")  # the queries are rows now: others are drawn
    assert "split test, not indexed" in SearchIndex.open(call.place).engine(REPORTS, IMAGES)


def test_the_projection_is_fitted_on_the_training_split_whatever_is_indexed(call, phantom):
    """An index of the test split has the directions of the training split."""
    call.index("--svd", 5, "--split", "test", "--svd-centred")
    held = SearchIndex.open(call.place)
    call.index("--svd", 5, "--split", "train", "--svd-centred")
    np.testing.assert_array_equal(held.projection.basis, SearchIndex.open(call.place).projection.basis)


def test_splits_are_added(call, tmp_path):
    """Adding the second split gives the answers of an index of both."""
    call.index()
    call.index("--add", "--split", "val")
    call.index("--split", "train", "val", out=tmp_path / "both")
    for kind in (IMAGES, REPORTS):
        grown, both = (SearchIndex.open(place).galleries[kind] for place in (call.place, tmp_path / "both"))
        np.testing.assert_array_equal(np.concatenate(grown.vectors), np.concatenate(both.vectors))
        assert [r["id"] for r in grown.records()] == [r["id"] for r in both.records()]


def test_a_build_that_was_interrupted_goes_on(call, monkeypatch):
    """What was embedded is not embedded again; the unfinished work is gone at the end."""
    from toy_embedder import Embedder

    embed, calls = Embedder.embed_images, []

    def counted(self, images):
        calls.append(len(images))
        return embed(self, images)

    def broken(self, texts):
        raise KeyboardInterrupt

    monkeypatch.setattr(Embedder, "embed_images", counted)
    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "embed_texts", broken)
        call.index(code=130)
    assert calls and not call.place.exists()
    calls.clear()
    call.index()
    assert not calls and [path.name for path in call.place.parent.iterdir() if "parts" in path.name] == []


def test_an_image_that_was_replaced_after_an_interruption_is_embedded_again(call, phantom, tmp_path):
    """Another file under the same name; the vectors are those of a build that was not interrupted."""
    from toy_embedder import Embedder

    images = tmp_path / "images"
    studies = load_annotations(phantom / "annotation.json")["train"]
    for study in studies:
        for name in study.image_path:
            (images / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(phantom / "images" / name, images / name)

    def broken(self, texts):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "embed_texts", broken)
        call.index("--images", images, code=130)
    shutil.copy(images / studies[1].image_path[0], images / studies[0].image_path[0])
    call.index("--images", images)
    first, second = SearchIndex.open(call.place).galleries[IMAGES].vectors[0][:2]
    np.testing.assert_array_equal(first, second)


def test_the_index_may_be_where_one_stands(call, tmp_path, monkeypatch):
    """`--out .` in an empty folder; what was embedded lies beside it and goes. A root is no place for an index."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    call.index(out=".")
    assert (tmp_path / "here" / "index.json").is_file() and [path.name for path in tmp_path.iterdir()] == ["here"]
    assert "is not empty and no index" in call.index(out=tmp_path.anchor, code=2)


def test_an_image_whose_name_no_file_can_hold_is_refused_at_once(call, train, tmp_path, monkeypatch):
    """A name that is not UTF-8: printed with an escape, refused for --jsonl and --page before a model is opened."""
    call.index()
    image = tmp_path / os.fsdecode(b"gr\xf6sse.png")
    try:
        shutil.copy(train[1](train[0][0]), image)
    except OSError:
        pytest.skip("the file system takes UTF-8 names alone")
    monkeypatch.setattr(revtaf, "load", None)
    for option in ("--jsonl", "--page"):
        error = call("search", "--index", call.place, image, option, tmp_path / "out", code=2)
        assert "gr\\udcf6sse.png: its name is not UTF-8" in error and not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert "gr\\udcf6sse.png -> reports" in call("search", "--index", call.place, image, "-k", 1)


def test_what_is_searched_is_what_the_model_reads_of_a_study(call, phantom, tmp_path, monkeypatch):
    """MedFuse-CLIP's findings and impression: rows, held queries and records are of the text that it was trained on."""
    pytest.importorskip("faiss")
    from toy_embedder import Embedder

    reader = SimpleNamespace(settings=SimpleNamespace(text=SimpleNamespace(sections="report+impression")))
    monkeypatch.setattr(Embedder, "texts", lambda self, studies: MedFuse.texts(reader, studies))
    content = json.loads((phantom / "annotation.json").read_text())
    for study in content["train"] + content["val"]:
        study["impression"] = f"Impression of {study['id']}."
    (tmp_path / "a.json").write_text(json.dumps(content))
    call.index("--data", tmp_path / "a.json", "--images", phantom / "images", "--engine", "faiss")
    index, studies = SearchIndex.open(call.place), load_annotations(tmp_path / "a.json")
    row = index.galleries[REPORTS].record(0)
    assert row["text"].split() == [*studies["train"][0].report.split(), *studies["train"][0].impression.split()]
    held = [f"{study.report} {study.impression}" for study in studies["val"]]
    expected = Embedder.embed_texts(None, [row["text"], *held]).astype(np.float16)
    np.testing.assert_array_equal(index.galleries[REPORTS].vectors[0][0], expected[0])
    np.testing.assert_array_equal(index.held()[0][REPORTS], expected[1:])


def test_reports_of_one_study_are_one_row(call, models, phantom, tmp_path):
    """R2Gen's MIMIC-CXR has a sample for each image: two images, one report, which knows both. Studies of two patients
    are two, whatever they are called."""
    content = json.loads((phantom / "annotation.json").read_text())
    first, second = content["train"][:2]
    second |= {key: first[key] for key in ("report", "study_id", "subject_id") if key in first} | {"study_id": "S"}
    first["study_id"] = "S"
    (tmp_path / "a.json").write_text(json.dumps({"train": [first, second]}))
    place = tmp_path / "small"
    start = ["index", "--checkpoint", models / "a", "--data", tmp_path / "a.json", "--out", place]
    call(*start, "--images", phantom / "images")
    index = SearchIndex.open(place)
    assert [len(index.galleries[kind]) for kind in (IMAGES, REPORTS)] == [2, 1]
    assert index.galleries[REPORTS].record(0)["images"] == [first["image_path"][0], second["image_path"][0]]
    first["subject_id"], second["subject_id"] = "p1", "p2"  # the first study of either
    (tmp_path / "a.json").write_text(json.dumps({"train": [first, second]}))
    call(*start, "--images", phantom / "images")
    reports = list(SearchIndex.open(place).galleries[REPORTS].records())
    assert [(report["patient"], report["images"]) for report in reports] == [
        ("p1", first["image_path"]),
        ("p2", second["image_path"]),
    ]


def test_the_model_is_the_one_that_made_the_index(call, models, train, tmp_path):
    """Found again where it was; a copy elsewhere is the same model, another training is not."""
    call.index()
    query = ["search", "--index", call.place, train[1](train[0][0]), "-k", 1]
    call(*query)
    shutil.copytree(models / "a" / "checkpoints" / "best", tmp_path / "copy")
    call(*query, "--checkpoint", tmp_path / "copy")
    assert "another model" in call(*query, "--checkpoint", models / "b", code=2)
    manifest = json.loads((call.place / "index.json").read_text())
    manifest["model"]["folder"] = str(tmp_path / "gone")
    (call.place / "index.json").write_text(json.dumps(manifest))
    assert "say where with --checkpoint" in call(*query, code=2)


def test_bad_input_is_one_message(call, models, phantom, train, tmp_path):
    """Exit code 2, and what is wrong with it."""
    call.index()
    (tmp_path / "text.png").write_text("no image")
    image = train[1](train[0][0])
    for arguments, message in (
        ([], "nothing to search for"),
        (["--text", " . "], "there is no word in it"),
        (["--text", ""], "there is no word in it"),
        (["--text", "heart " * 10_000], "10000 words, at most 1000"),
        ([image, "--text", "heart"], "not both"),
        ([tmp_path / "none.png"], "image not found"),
        ([tmp_path / "text.png"], "not a readable image"),
        ([image, "-k", 10_000], "-k 10000: there are only"),
    ):
        error = call("search", "--index", call.place, *arguments, code=2)
        assert message in error and len(error.strip().splitlines()) == 1
    assert "no index" in call("search", "--index", tmp_path, image, code=2)
    annotation = json.loads((phantom / "annotation.json").read_text())
    for study in annotation["train"]:
        study.pop("subject_id", None)
    (tmp_path / "nobody.json").write_text(json.dumps(annotation))
    start = ["index", "--checkpoint", models / "a", "--data", tmp_path / "nobody.json", "--out", tmp_path / "nobody"]
    call(*start, "--images", phantom / "images")
    error = call("search", "--index", tmp_path / "nobody", image, "--exclude-patient", "p1", code=2)
    assert "name no patient" in error
    assert "their folder: --images" in call(*start, code=2)
    for options, message in (
        (["--add", "--svd", "8"], "leave out --svd"),
        (["--svd-centred"], "--svd WIDTH"),
        (["--svd", 17], "--svd 17"),
        (["--recall", 0.9], "--engine faiss"),
        (["--engine", "faiss", "--recall", 2], "--recall"),
        (["--engine", "faiss", "--recall", 0], "above 0 and up to 1, got 0.0"),
        (["--add"], "already"),
    ):
        assert message in call.index(*options, code=2)
    assert "makes no embeddings" in call.index(out=tmp_path / "c", model="c", code=2)
    path = next((call.place / "files").glob("reports-*/vectors.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "damaged" in call("search", "--index", call.place, image, "--verify", code=2)


def test_what_a_build_would_end_with_is_said_before_anything_is_embedded(call, models, monkeypatch, tmp_path):
    pytest.importorskip("faiss", reason="needs pip install 'revtaf[faiss]'")
    call.index()

    def never(self, images):
        raise AssertionError("embedded")

    monkeypatch.setattr(type(revtaf.load(models / "a", device="cpu")), "embed_images", never)
    for options, out, message in (
        (["--add"], call.place, "already"),
        (["--svd", 17], tmp_path / "svd", "have 16 numbers"),
        (["--engine", "faiss", "--nlist", 10**6], tmp_path / "lists", "--nlist 1000000: there are only"),
    ):
        assert message in call.index(*options, out=out, code=2)
        assert not (out.parent / f".{out.name}.parts").exists()


def test_an_image_is_asked_for_as_the_disk_spells_it(tmp_path):
    """As every other command finds it; of one that is not there it says what is."""
    Image.new("L", (64, 64)).save(tmp_path / "a.PNG", format="png")
    _check_queries(SearchRequest(index=tmp_path, images=[tmp_path / "a.png"]))
    with pytest.raises(UserError, match="image not found"):
        _check_queries(SearchRequest(index=tmp_path, images=[tmp_path / "b.png"]))
