"""`revtaf generate` and `model.report`: what they write is what `test` wrote; what is asked for is what is done."""

import csv
import doctest
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import revtaf
from revtaf.commands import generate as command
from revtaf.commands.generate import GenerateRequest, generate
from revtaf.config_file import load_settings
from revtaf.data.annotations import load_annotations
from revtaf.data.images import read_image
from revtaf.decoder import Decoder
from revtaf.engine.checkpoint import SETTINGS
from revtaf.engine.runtime import read_jsonl
from revtaf.errors import UserError
from revtaf.eval import nlg
from revtaf.generate.batches import Unreadable, write_batches
from revtaf.generate.journal import JOURNAL
from revtaf.generate.result import ImageReport, RetrievedReport, StatusAnswer, TextAttention
from revtaf.labels import CATEGORIES, POSITIVE
from revtaf.system.folder import read_knowledge
from revtaf.system.session import Session

DEVICE = ("--device", "cpu")


@pytest.fixture(scope="module")
def model(world):
    """The world's model, opened once."""
    return revtaf.load(world[1], device="cpu")


@pytest.fixture
def told(monkeypatch):
    """The statuses of every prompt that the decoder is given."""
    seen, real = [], Decoder.generate

    def generate(self, used, *a, **k):
        seen.append(used.clone())
        return real(self, used, *a, **k)

    monkeypatch.setattr(Decoder, "generate", generate)
    return seen


def test_a_list_of_the_tested_images_gives_what_the_test_gave(call, pages, world, tmp_path, monkeypatch):
    """Texts byte for byte, whatever the batch; scores with the references are the test's own."""
    monkeypatch.setattr(nlg, "meteor_status", lambda: "left out, as in the world's test")
    data, run, _ = world
    studies = load_annotations(data / "annotation.json")["test"]
    with open(data / "list.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["image", "reference"], *([f"images/{s.image_path[0]}", s.report] for s in studies)])
    printed = call("generate", "--checkpoint", run, data / "list.csv", "--out", tmp_path, "--json", *DEVICE)
    expected = read_jsonl(run / "phantom-test/predictions.jsonl")
    found = read_jsonl(tmp_path / "reports.jsonl")
    assert [r["report"] for r in found] == [r["prediction"] for r in expected]
    assert [json.loads(line) for line in printed.splitlines()] == found
    with open(run / "phantom-test/per_sample.csv") as file:
        of_test = list(csv.DictReader(file))
    for record, row in zip(found, of_test, strict=True):
        assert record["scores"].keys() >= {"BLEU_4", "ROUGE_L", "example_f1"}
        for name, value in record["scores"].items():
            assert value == pytest.approx(float(row[name]), abs=1e-4), name
    ((reports, path, title, facts),) = pages
    assert path == tmp_path / "report.html" and len(reports) == len(studies) and title == "tiny"
    assert [r.reference for r in reports] == [s.report for s in studies] and facts["system"] == "REVTAF"
    assert not (tmp_path / JOURNAL).exists() and not (tmp_path / "unreadable.jsonl").exists()


def test_attention_is_that_of_the_retrieved_sentences_and_present_entities(model, images):
    """A map for each sentence of the shown report, and for no absent entity; with the mass of its row."""
    out = model.report(images[0])
    maps = {kind: [a for a in out.attention if a.kind == kind] for kind in ("sentence", "entity")}
    assert all(a.map.shape == (2, 2) and a.map.dtype == np.float32 and (a.map >= 0).all() for a in out.attention)
    said = " . ".join(a.text for a in maps["sentence"]).split()
    assert said and set(said) <= set(out.retrieved[0].report.lower().replace(".", " . ").replace(",", "").split())
    assert maps["entity"] and all(a.text.count(", ") == 1 and "exist" not in a.text for a in maps["entity"])
    assert out.picture.size == (64, 64) and out.picture.mode == "L"
    assert len(out.statuses) == 18 and all(abs(sum(s.probabilities.values()) - 1) < 1e-5 for s in out.statuses)


def test_a_given_status_is_what_the_decoder_is_told(model, images, told):
    """That category alone changes, and is shown as given; its probabilities stay the model's."""
    plain, other = model.report(images[0]), model.report(images[0], statuses={"Edema": "pos"})
    place = CATEGORIES.index("edema")
    assert told[1][0, place] == POSITIVE
    told[1][0, place] = told[0][0, place]
    assert torch.equal(told[0], told[1])
    assert [s.category for s in other.statuses if s.given] == ["edema"] and not any(s.given for s in plain.statuses)
    assert other.statuses[place].status == "positive"
    assert [s.probabilities for s in other.statuses] == [s.probabilities for s in plain.statuses]


def test_the_retrieved_report_is_left_out_or_given(model, images, monkeypatch):
    """Left out, no sentence enters. Its own text in its place is the same report: same sentences, same words."""
    given, prompts = [], Session.prompts
    monkeypatch.setattr(Session, "prompts", lambda *a: given.append(prompts(*a)) or given[-1])
    plain, without = model.report(images[0]), model.report(images[0], retrieve=False)
    assert given[0].retrieved_mask.any() and not given[1].retrieved_mask.any()
    assert without.retrieved == () and {a.kind for a in without.attention} == {"entity"}
    own = model.report(images[0], retrieved=plain.retrieved[0].report)
    torch.testing.assert_close(given[2].retrieved, given[0].retrieved, atol=2e-3, rtol=0)
    assert own.report == plain.report
    (shown,) = own.retrieved
    assert (shown.id, shown.distance, shown.report) == ("given", None, plain.retrieved[0].report)
    other = model.report(images[0], retrieved="There is a zebra. The heart is enlarged.")
    assert [a.text for a in other.attention if a.kind == "sentence"] == ["there is a zebra", "the heart is enlarged"]


def test_an_image_alone_gets_the_candidate_that_it_gets_among_others(world, images, told):
    """The prompt may be a user's."""
    sampled = ["generation.candidates=6", "generation.temperature=1.5", "generation.agreement=0.1"]
    chosen = revtaf.load(world[1], sampled, device="cpu")
    several = [one.report for one in chosen.report(images[:3])]
    assert several == [chosen.report(image).report for image in images[:3]]
    asked = chosen.report(images[0], statuses={name: "pos" for name in CATEGORIES[: chosen.categories]})
    assert (told[-1] == POSITIVE).all() and len(told[-1]) == 6 and asked.report


def test_who_chooses_has_to_be_there(world):
    """A model that was trained with CheXbert does not choose by another labeler in silence."""
    folder, device = world[1] / "checkpoints/best", torch.device("cpu")
    chexbert = [
        "knowledge.labeler=chexbert",
        "knowledge.chexbert=nowhere.pth",
        f"data.features={world[0] / 'features'}",
    ]

    def opened(*options):
        return read_knowledge(folder, load_settings(folder / SETTINGS, [*chexbert, *options], bases=False), device)

    with pytest.raises(UserError, match="knowledge.chexbert: nowhere.pth is not there"):
        opened("generation.candidates=2", "generation.agreement=0.1", "missing=error")
    assert opened("generation.candidates=2", "generation.agreement=0.1", "missing=stand-in")
    assert opened("generation.candidates=2", "missing=error")  # nobody reads them


def test_without_the_training_reports_the_beam_is_written(call, world, images, tmp_path, capsys):
    """As no candidate can be chosen: it is said when the folder is opened, with the way out."""
    run, data = world[1], world[0]
    folder, attached = tmp_path / "model", tmp_path / "whole"
    call("export", run, folder, "--without-reports")
    sampled = ["generation.candidates=6", "generation.temperature=1.5"]
    alone = revtaf.load(folder, sampled, device="cpu")
    assert f"revtaf export {folder} NEW --reports" in capsys.readouterr().err
    beam = revtaf.load(folder, device="cpu").report(images[:3])
    assert [r.report for r in alone.report(images[:3])] == [r.report for r in beam]
    call("export", folder, attached, "--reports", data / "annotation.json")
    capsys.readouterr()
    chosen = revtaf.load(attached, sampled, device="cpu").report(images[:3])
    assert "NEW --reports" not in capsys.readouterr().err
    assert [r.report for r in chosen] == [r.report for r in revtaf.load(run, sampled, device="cpu").report(images[:3])]
    assert [r.report for r in chosen] != [r.report for r in beam]


def test_good_files_are_done_and_bad_ones_listed(call, pages, world, images, tmp_path):
    """In a folder with blanks and umlauts, in whatever batch the bad ones fall; exit code 1. All bad: no page."""
    place = tmp_path / "Röntgen Aufnahmen"
    place.mkdir()
    for i, image in enumerate(images[:4]):
        shutil.copy(image, place / f"größe {i}.png")
    (place / "größe 1b.png").write_bytes(b"%PDF-1.4")
    (place / "leer.png").write_bytes(b"")
    options = ("--checkpoint", world[1], "--batch-size", "3", *DEVICE)
    said = call("generate", *options, place, "--out", tmp_path / "out", code=1)
    assert "2 of 6 images could not be read" in said and "größe 1b.png" in said and "leer.png" in said
    found = read_jsonl(tmp_path / "out/reports.jsonl")
    assert [r["image"] for r in found] == [str(place / f"größe {i}.png") for i in range(4)]
    expected = read_jsonl(world[1] / "phantom-test/predictions.jsonl")[:4]
    assert [r["report"] for r in found] == [r["prediction"] for r in expected]
    assert [r["image"] for r in read_jsonl(tmp_path / "out/unreadable.jsonl")] == [
        str(place / name) for name in ("größe 1b.png", "leer.png")
    ]
    assert pages[0][3]["images"] == "4; 2 could not be read"
    said = call("generate", *options, place / "leer.png", "--out", tmp_path / "none", code=1)
    assert "1 of 1 images" in said and len(pages) == 1


def test_every_image_is_answered_once_and_in_order(tmp_path):
    """Whatever is bad in a batch: its neighbours are written, a name that is not UTF-8 is bad as well, and a fault that
    is no image's is raised."""
    names = ["a.png", "b.png", os.fsdecode(b"gr\xf6\xdfe.png"), "c.png", "d.png"]
    paths = [tmp_path / name for name in names]
    for path in (paths[0], paths[3], paths[4]):
        Image.new("L", (64, 64)).save(path)
    paths[1].write_bytes(b"%PDF")

    class Model:
        def write(self, images, **asked):
            if asked:
                raise UserError("not that")
            for image in images:
                read_image(image)
            return [ImageReport(image, Image.new("L", (4, 4)), image.stem) for image in images]

    for size in (1, 2, 5):
        found = list(write_batches(Model(), paths, {}, size))
        assert [one.image for one in found] == paths
        assert [isinstance(one, Unreadable) for one in found] == [False, True, True, False, False]
        assert json.dumps(found[2].name, ensure_ascii=False).encode() and "not UTF-8" in found[2].reason
    with pytest.raises(UserError, match="not that"):
        list(write_batches(Model(), paths[3:], {"retrieve": False}, 2))


def test_an_interrupted_command_goes_on(call, pages, world, images, tmp_path, monkeypatch):
    """What was done is not done again, and the result is that of a command that was not interrupted; another command
    does not go on from there."""
    options = ("generate", "--checkpoint", world[1], "--batch-size", "2", *DEVICE, *images[:5], "--out")
    call(*options, tmp_path / "whole")
    real, asked = Session.write, []

    def interrupted(self, some, **how):
        asked.append(list(some))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(self, some, **how)

    monkeypatch.setattr(Session, "write", interrupted)
    place = tmp_path / "out"
    call(*options, place, code=130)
    assert not (place / "reports.jsonl").exists()
    with open(place / JOURNAL, "a") as file:
        file.write('{"image": "half a li')
    said = call(*options, place, "--no-retrieval", code=2)
    assert "unfinished reports of another command" in said
    call(*options, place)
    assert asked[2:] == [images[2:4], images[4:5]]
    assert (place / "reports.jsonl").read_bytes() == (tmp_path / "whole/reports.jsonl").read_bytes()
    (before, _, _, _), (after, _, _, _) = pages
    for a, b in zip(before, after, strict=True):
        assert [x.text for x in a.attention] == [x.text for x in b.attention]
        assert all((x.map == y.map).all() for x, y in zip(a.attention, b.attention, strict=True))
        assert (np.asarray(a.picture) == np.asarray(b.picture)).all()


class Stoppable:
    """A system that answers every image by its name, and is interrupted at its `stop`th batch."""

    settings = SimpleNamespace(system="revtaf", name="tiny", training_data=SimpleNamespace(name="phantom"))
    notes = ()

    def __init__(self):
        self.asked, self.stop = [], None

    def write(self, images, **_):
        self.asked.append([image.name for image in images])
        if len(self.asked) == self.stop:
            raise KeyboardInterrupt
        return [self.report(image) for image in images]

    def report(self, image):
        draw = np.random.default_rng(int(image.stem))
        return ImageReport(
            image,
            Image.fromarray(draw.integers(0, 256, (32, 32), dtype=np.uint8)),
            f"The heart is {image.stem}.",
            (StatusAnswer("edema", "positive", {"positive": 1 / 3, "negative": 2 / 3}),),
            (RetrievedReport("s1", draw.random(), "The heart is large."),),
            (TextAttention("the heart", "sentence", draw.random((7, 7), dtype=np.float32)),),
            (("edema", draw.random()),),
            ("looks like no radiograph",),
        )


@pytest.fixture
def stoppable(monkeypatch):
    """A `Stoppable` in the place of every model, with two images on a page."""
    system = Stoppable()
    monkeypatch.setattr(revtaf, "load", lambda *_, **__: system)
    monkeypatch.setattr(command, "find_model", lambda place: place)
    monkeypatch.setattr(command, "model_identity", lambda place: {"digest": "1"})
    monkeypatch.setattr(command, "ON_PAGE", 2)
    return system


def test_a_resumed_command_makes_the_same_files(stoppable, tmp_path):
    """Byte for byte, numbers included. An image that was done for no page, and is on the page now, is done again; the
    others are not, and no picture is kept of those."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(6):
        Image.new("L", (64, 64)).save(images / f"{i}.png")
    wanted = {"checkpoint": tmp_path, "images": [images], "batch_size": 2}
    stoppable.stop = 3
    with pytest.raises(KeyboardInterrupt):
        generate(GenerateRequest(**wanted, out=tmp_path / "out"))
    kept = [line["picture"] is not None for line in read_jsonl(tmp_path / "out" / JOURNAL)[1:]]
    assert kept == [True, True, False, False]
    (images / "0.png").unlink()
    generate(GenerateRequest(**wanted, out=tmp_path / "out"))
    assert stoppable.asked[3:] == [["2.png", "4.png"], ["5.png"]]
    generate(GenerateRequest(**wanted, out=tmp_path / "whole"))
    for name in ("reports.jsonl", "report.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "out" / JOURNAL).exists()


def test_no_page_of_an_earlier_command_stays(stoppable, tmp_path, monkeypatch):
    """Where no image can be read any more, the folder says that, and nothing else."""
    Image.new("L", (64, 64)).save(tmp_path / "0.png")
    request = GenerateRequest(tmp_path, [tmp_path / "0.png"], tmp_path / "out")
    assert not generate(request) and (tmp_path / "out/report.html").is_file()
    (tmp_path / "0.png").write_bytes(b"%PDF")
    monkeypatch.setattr(Stoppable, "report", lambda self, image: read_image(image))
    assert len(generate(request)) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["reports.jsonl", "unreadable.jsonl"]


def test_the_terminal_says_what_was_asked_for(call, world, images):
    """Report, statuses, retrieved report; a given status is marked."""
    text = call("generate", "--checkpoint", world[1], images[0], "--status", "fracture=unc", *DEVICE)
    first = read_jsonl(world[1] / "phantom-test/predictions.jsonl")[0]
    assert text.splitlines()[0] == str(images[0]) and "fracture (given)" in text and "uncertain:" in text
    assert f"retrieved: {first['retrieved_id']}, distance {first['retrieval_distance']:.3f}" in text


def test_a_checkpoint_of_another_format_and_bad_options_end_with_one_message(call, world, images, tmp_path):
    """Exit code 2, and nothing is written."""
    copy = shutil.copytree(world[1] / "checkpoints/best", tmp_path / "model")
    manifest = json.loads((copy / "model.json").read_text()) | {"format": 1, "revtaf": "0.0"}
    (copy / "model.json").write_text(json.dumps(manifest))
    out = ("--out", tmp_path / "out")
    said = call("generate", "--checkpoint", copy, images[0], *out, *DEVICE, code=2)
    assert "format 1 (revtaf 0.0)" in said and "Traceback" not in said
    said = call("generate", "--checkpoint", world[1], images[0], *out, "--status", "edma=pos", code=2)
    assert "did you mean 'edema'?" in said
    said = call("generate", "--checkpoint", world[1], images[0], "--no-retrieval", "--retrieved", "x", code=2)
    assert "leave one of the two out" in said and not (tmp_path / "out/reports.jsonl").exists()


def test_the_example_of_load_is_true(world, images):
    """The docstring, on a trained model."""
    example = doctest.DocTestParser().get_doctest(
        revtaf.load.__doc__, {"revtaf": revtaf, "folder": world[1], "image": images[0]}, "load", None, 0
    )
    assert len(example.examples) > 5
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example).failed == 0


def test_a_notebook_shows_picture_and_text_escaped(model, images):
    """Whatever a report, a file's name or a user's text holds."""
    out = model.report(images[0], retrieved="<script>alert(1)</script> heart", statuses={"edema": "pos"})
    shown = out._repr_html_()
    assert 'src="data:image/png;base64,' in shown and "edema: positive (given)" in shown
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "Not a medical device" in shown


def test_an_image_that_cannot_be_read_is_named_in_python_too(model, tmp_path):
    """A UserError with the path."""
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(UserError, match="x.png"):
        model.report(tmp_path / "x.png")
