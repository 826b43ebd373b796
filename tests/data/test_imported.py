"""Import of the field's artefacts: value by value what the files said, each damage named, nothing half-written."""

import json
import os

import numpy as np
import pytest

from revtaf.data.annotations import load_annotations
from revtaf.data.sources.imported import artefacts
from revtaf.data.sources.imported import prepare as imported
from revtaf.data.sources.imported.prepare import prepare_import
from revtaf.errors import UserError
from revtaf.features.arrays import Features, TextTables, load_arrays
from revtaf.labels import ENTITIES

WIDTH, MEMORY = 16, 3
SPLITS = {"train": 8, "val": 2, "test": 3}
SENTENCES = ["No effusion.", "Heart size is normal.", "Lungs are clear.", "A line ends high.", "Mild edema."]


class Family:
    """An invented set of artefacts on disk, and what was written into it."""

    def __init__(self, root, rng):
        self.root, self.rng = root, rng
        self.triplets = rng.normal(size=(75, 4, WIDTH)).astype(np.float32)  # four texts an entity
        self.triplets[0, 1:] = self.triplets[0, :1]  # an entity with a single text
        self.sentences = rng.normal(size=(len(SENTENCES), WIDTH)).astype(np.float32)
        self.annotation, self.local, self.reference = {}, {}, {}
        self.scores, self.indices = {}, {}
        for split, n in SPLITS.items():
            # Two images a study, and two studies for the first patient of the training split.
            study = np.arange(n) // 2
            self.annotation[split] = [
                {
                    "id": f"{split}{i}",
                    "study_id": 100 * len(split) + int(study[i]),
                    "subject_id": f"{split}-{max(int(study[i]), 1)}",
                    "image_path": [f"{split}/s{study[i]}/{i}.jpg"],
                    "report": SENTENCES[study[i]],
                    "labels": rng.integers(0, 4, 18).tolist(),
                    "clip_indices": rng.permutation(SPLITS["train"])[:MEMORY].tolist(),
                }
                for i in range(n)
            ]
            self.local[split] = rng.integers(0, 4, (n, 75))
            self.scores[split] = rng.random((n, 75))
            self.indices[split] = rng.integers(0, SPLITS["train"], (n, MEMORY))
        reports = [[0, 1, 2], [3, 2], [4], [1]]
        self.reference = [reports[i // 2] for i in range(SPLITS["train"])]
        vectors = rng.normal(size=(4, 5))
        self.vectors = vectors[np.arange(SPLITS["train"]) // 2]
        self.neighbours = [[i, i ^ 1, (i + 4) % 8, (i + 2) % 8] for i in range(SPLITS["train"])]

    def write(self):
        (self.root / "annotation.json").write_text(json.dumps(self.annotation))
        for split, entries in self.annotation.items():
            self.lines(f"scores_{split}.json", self.scores[split].tolist())
            self.lines(f"indices_{split}.json", self.indices[split].tolist())
            for i, entry in enumerate(entries):
                local = self.triplets[np.arange(75), self.local[split][i]]
                self.array(f"local/{entry['image_path'][0]}.npy", local)
                if split == "train":
                    padded = np.zeros((6, WIDTH), np.float32)
                    padded[: len(self.reference[i])] = self.sentences[self.reference[i]]
                    self.array(f"reference/{entry['image_path'][0]}.npy", padded)
        (self.root / "texts.json").write_text(json.dumps(self.vectors.tolist()))
        (self.root / "distance.json").write_text(json.dumps(self.neighbours))
        return self

    def lines(self, name, rows):
        (self.root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def array(self, name, array):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)

    def convert(self, out="out", **changes):
        arguments = {
            "scores": str(self.root / "scores_{split}.json"),
            "memory_texts": self.root / "texts.json",
            "memory_indices": str(self.root / "indices_{split}.json"),
            "local": self.root / "local",
            "reference": self.root / "reference",
            "neighbours": self.root / "distance.json",
        }
        return prepare_import(self.root / out, self.root / "annotation.json", **{**arguments, **changes})

    def texts(self, out="out"):
        return load_arrays(self.root / out / "imported/texts", TextTables)

    def features(self, split, out="out"):
        return load_arrays(self.root / out / "imported" / split, Features)

    def refused(self, message, **changes):
        with pytest.raises(UserError, match=message):
            self.convert(**changes)
        assert not (self.root / "out").exists() or not any((self.root / "out").iterdir())


@pytest.fixture
def family(tmp_path):
    return Family(tmp_path, np.random.default_rng(3)).write()


def folder_bytes(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_local_row_of_every_image_is_recovered_up_to_float16(family):
    family.convert()
    triplets = family.texts().triplets.reshape(75, -1, WIDTH)
    assert triplets.shape[1] == 4 and triplets.dtype == np.float16
    for split, entries in family.annotation.items():
        codes = family.features(split).codes
        assert codes.dtype == np.uint8 and codes.shape == (len(entries), 75)
        for i, entry in enumerate(entries):
            original = np.load(family.root / "local" / f"{entry['image_path'][0]}.npy")
            recovered = triplets[np.arange(75), codes[i]]
            np.testing.assert_array_equal(recovered, original.astype(np.float16))
            assert (np.abs(recovered - original) <= 2.0**-11 * np.abs(original) + 2.0**-25).all()


def test_sentences_padding_vectors_and_reports_are_recovered(family):
    family.convert()
    texts = family.texts()
    assert len(texts.sentences) == len(SENTENCES)  # each stored once
    for i, expected in enumerate(family.reference):
        report = texts.report_ids[i]
        rows = texts.sentence_ids[texts.offsets[report] : texts.offsets[report + 1]]
        np.testing.assert_array_equal(texts.sentences[rows], family.sentences[expected].astype(np.float16))
        np.testing.assert_array_equal(texts.reports[report], family.vectors[i].astype(np.float16))


def test_statuses_scores_memory_and_names_are_those_of_the_files(family):
    path = family.convert()
    for split, entries in family.annotation.items():
        features = family.features(split)
        assert features.ids == [e["id"] for e in entries] == [s.id for s in load_annotations(path)[split]]
        assert features.patients == [e["subject_id"] for e in entries]
        np.testing.assert_array_equal(features.statuses, [e["labels"] for e in entries])
        np.testing.assert_array_equal(features.memory, family.indices[split])
        np.testing.assert_array_equal(features.scores, family.scores[split].astype(np.float16))
        dtypes = [a.dtype for a in (features.statuses, features.scores, features.memory)]
        assert dtypes == [np.uint8, np.float16, np.int32]
    assert load_annotations(path) == load_annotations(family.root / "annotation.json")


def test_a_report_is_a_memory_vector_with_a_list_of_sentences(family):
    """Two samples share a report only where both agree; 8 images of 4 studies make 4, one other vector a fifth."""
    family.convert()
    assert len(family.texts().reports) == 4
    family.vectors[1] = family.vectors[1] + 1
    family.write().convert()
    texts = family.texts()
    assert len(texts.reports) == 5 and texts.report_ids[0] != texts.report_ids[1]
    np.testing.assert_array_equal(texts.reports[texts.report_ids[1]], family.vectors[1].astype(np.float16))
    family.vectors[1] = family.vectors[0]
    family.reference[1] = [2, 1, 0]  # the same sentences in another order are another report, but no new sentence
    family.write().convert()
    texts = family.texts()
    assert len(texts.reports) == 5 and len(texts.sentences) == len(SENTENCES)


def test_the_first_neighbour_of_another_patient_is_taken_and_the_others_counted(family, capsys):
    """Patient 1 owns images 0 to 3, patients 2 and 3 two each."""
    family.convert()
    np.testing.assert_array_equal(family.texts().nearest, [4, 5, 6, 7, 0, 1, 2, 3])
    assert "of 8 nearest ones 8 the sample itself, 0 the same study, 0 the same patient" in capsys.readouterr().out
    rows = [[1, 4], [3, 5], [6], [7], [0], [0], [0], [0]]
    (family.root / "distance.json").write_text(json.dumps([{str(n): 0.5 for n in row} for row in rows]))
    family.convert()
    np.testing.assert_array_equal(family.texts().nearest, [4, 5, 6, 7, 0, 0, 0, 0])
    assert "0 the sample itself, 1 the same study, 1 the same patient" in capsys.readouterr().out


def test_missing_neighbours_are_computed_from_the_statuses_without_the_own_patient(family):
    for i, entry in enumerate(family.annotation["train"]):
        entry["labels"] = [i % 4 if k < 9 else 0 for k in range(18)]  # 0 and 4, 1 and 5, ... are alike
    family.write().convert(neighbours=None, seed=5)
    nearest = family.texts().nearest
    np.testing.assert_array_equal(nearest[:4], [4, 5, 6, 7])  # 4 and 5 have twins in patient 1 alone
    np.testing.assert_array_equal(nearest[4:], [0, 1, 2, 3])
    manifest = json.loads((family.root / "out/imported/texts/manifest.json").read_text())
    assert manifest["producer"]["imported"]["neighbours"]["seed"] == 5


def test_memory_of_the_own_patient_is_kept_and_counted(family, capsys):
    family.indices["train"][:] = [[i, i ^ 1, (i + 4) % 8] for i in range(8)]
    family.write().convert()
    np.testing.assert_array_equal(family.features("train").memory, family.indices["train"])
    told = capsys.readouterr().out
    assert "train: 16 of 24 memory entries are of the sample's own patient, 8 the sample itself" in told
    assert "test: 0 of 9 memory entries" in told


def test_the_annotation_can_hold_the_memory_indices(family):
    family.convert(memory_indices=None)
    for split, entries in family.annotation.items():
        np.testing.assert_array_equal(family.features(split).memory, [e["clip_indices"] for e in entries])
    del family.annotation["val"][1]["clip_indices"]
    (family.root / "annotation.json").write_text(json.dumps(family.annotation))
    with pytest.raises(UserError, match="split 'val', study val1: clip_indices: .*expected a list of numbers"):
        family.convert(memory_indices=None)


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_one_list_and_one_list_a_line_are_read_alike_in_pieces_of_any_size(family, monkeypatch, chunk):
    family.convert("a")
    monkeypatch.setattr(artefacts, "CHUNK", chunk)
    family.convert("b")
    family.lines("lines.json", family.vectors.tolist())
    family.convert("c", memory_texts=family.root / "lines.json")
    (family.root / "scores_val.json").write_text(json.dumps(family.scores["val"].tolist(), indent=2))
    family.convert("d")
    for out in "bcd":
        np.testing.assert_array_equal(family.texts(out).reports, family.texts("a").reports)
        np.testing.assert_array_equal(family.features("val", out).scores, family.features("val", "a").scores)


def test_logits_become_probabilities_only_when_asked_for(family):
    logits = family.rng.normal(scale=3, size=(SPLITS["val"], 75))
    for split, n in SPLITS.items():
        family.scores[split] = family.rng.normal(scale=3, size=(n, 75)) if split != "val" else logits
    family.write()
    family.refused(r"scores_train.json, line 1: the score of '\w+' is .*outside \[0, 1\].*'logit'")
    family.convert(score_kind="logit")
    np.testing.assert_allclose(family.features("val").scores, 1 / (1 + np.exp(-logits)), atol=2.0**-11)


def test_probabilities_are_no_logits(family):
    family.refused("scores_train.json: every score is in .*'prob'", score_kind="logit")
    family.refused("score kind 'odds'", score_kind="odds")


def test_the_extension_of_the_image_may_be_absent_from_the_names(family):
    family.convert("a")
    for path in list(family.root.rglob("*.jpg.npy")):
        path.rename(path.with_name(path.name.replace(".jpg", "")))
    family.convert("b")
    np.testing.assert_array_equal(family.features("test", "a").codes, family.features("test", "b").codes)


def test_a_rerun_is_byte_identical_and_leaves_nothing_else(family):
    family.convert("a", neighbours=None)
    family.convert("b", neighbours=None)
    first = folder_bytes(family.root / "a")
    family.convert("a", neighbours=None)  # over the finished one
    assert folder_bytes(family.root / "a") == first == folder_bytes(family.root / "b")
    assert sorted(p.name for p in (family.root / "a").iterdir()) == ["annotation.json", "imported"]
    assert sorted(p.name for p in (family.root / "a/imported").iterdir()) == ["test", "texts", "train", "val"]


def test_the_manifests_name_every_artefact_alike(family):
    family.convert()
    producers = {
        split: json.loads((family.root / "out/imported" / split / "manifest.json").read_text())["producer"]
        for split in ("train", "val", "test", "texts")
    }
    assert [producers[split].pop("split") for split in producers] == list(producers)
    assert len({json.dumps(p) for p in producers.values()}) == 1
    record = producers["texts"]["imported"]
    assert record["memory_texts"]["shape"] == [8, 5] and record["local"]["shape"] == [13, 75, WIDTH]
    assert record["scores/test"]["sha256"] == artefacts.sha256(family.root / "scores_test.json")
    assert str(family.root) not in json.dumps(record)  # names, not places


def test_another_view_of_a_study_costs_no_text(family):
    """Ten more images of known studies: the tables of texts keep their size."""
    family.convert("a")
    extra = 10
    for i in range(extra):
        twin = family.annotation["train"][i % 8]
        family.annotation["train"].append({**twin, "id": f"extra{i}", "image_path": [f"train/extra/{i}.jpg"]})
        family.reference.append(family.reference[i % 8])
    rows = np.r_[np.arange(8), np.arange(extra) % 8]
    family.vectors = family.vectors[rows]
    for content in (family.local, family.scores, family.indices):
        content["train"] = content["train"][rows]
    family.neighbours = [family.neighbours[row] for row in rows]
    family.write().convert("b")
    for name in ("sentences", "sentence_ids", "offsets", "reports", "triplets"):
        assert (family.root / f"b/imported/texts/{name}.npy").read_bytes() == (
            family.root / f"a/imported/texts/{name}.npy"
        ).read_bytes()
    assert len(family.features("train", "b")) == 18


def test_images_are_linked_or_copied_and_checked(family):
    family.refused("image folder not found", images=family.root / "images")
    for entry in (e for part in family.annotation.values() for e in part):
        path = family.root / "images" / entry["image_path"][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels of " + entry["id"].encode())
    family.convert(images=family.root / "images")
    assert (family.root / "out/images").is_symlink()
    family.convert(images=family.root / "images", copy=True)
    assert (family.root / "out/images/val/s0/1.jpg").read_bytes() == b"pixels of val1"
    with pytest.raises(UserError, match="out/images is a folder already"):
        family.convert(images=family.root / "images")
    (family.root / "images/val/s0/1.jpg").unlink()
    with pytest.raises(UserError, match="1 of 13 images are missing, the first is val/s0/1.jpg"):
        family.convert("other", images=family.root / "images")


def test_only_an_earlier_import_is_replaced_and_no_input_lies_where_the_result_goes(family):
    for out in ("local", "reference/deep"):
        with pytest.raises(UserError, match="which is the source; name another folder"):
            family.convert(out)
    (family.root / "out/imported").mkdir(parents=True)
    (family.root / "out/imported/mine").touch()
    with pytest.raises(UserError, match="out/imported is a folder already, and no import; move it away"):
        family.convert()
    assert (family.root / "out/imported/mine").exists()
    (family.root / "out/imported/mine").unlink()
    (family.root / "out/annotation.json").write_text("made by hand")
    with pytest.raises(UserError, match="out/annotation.json was not written by revtaf prepare"):
        family.convert()
    assert (family.root / "out/annotation.json").read_text() == "made by hand"
    (family.root / "out/annotation.json").unlink()
    (family.root / "local").rename(family.root / "out/images")
    with pytest.raises(UserError, match="out/images is the image folder already: import without --images"):
        family.convert("out", local=family.root / "out/images", images=family.root / "out/images")


def test_the_annotation_comes_after_the_features_and_an_old_one_goes_before(family, monkeypatch):
    """Killed where the features are put in their place, and where the images are."""
    family.convert()
    for module, name in ((os, "replace"), (imported, "place_images")):

        def stop(*_):
            raise KeyboardInterrupt

        family.convert()
        (family.root / "images").mkdir(exist_ok=True)
        monkeypatch.setattr(imported, "_check_places", lambda *_: None)
        with monkeypatch.context() as patch:
            patch.setattr(imported, "save_arrays", lambda folder, *_: folder.mkdir())
            patch.setattr(module, name, stop)
            with pytest.raises(KeyboardInterrupt):
                family.convert(images=family.root / "images")
        assert not (family.root / "out/annotation.json").exists()


def test_the_annotation_is_never_overwritten_and_paths_stay_inside(family):
    family.refused("would be overwritten", out=".")
    family.annotation["train"][2]["image_path"] = ["../outside.jpg"]
    family.write()
    family.refused(r"image_path '\.\./outside.jpg' leaves the image folder")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores_val.json", None, r"1 of 8 artefacts are missing: scores/val \(.*each needs its own files"),
        ("indices_test.json", None, r"memory_indices/test \("),
        ("texts.json", None, r"memory_texts \("),
        ("scores_val.json", "[0.5]\n", "scores_val.json, line 1: entity scores: expected 75 numbers, got 1"),
        ("scores_val.json", "[0.5,\n", "scores_val.json, line 1: not JSON"),
        ("scores_val.json", json.dumps([0.5] * 74 + [float("nan")]), "line 1: entity scores: number 74 is not finite"),
        ("scores_val.json", json.dumps([0.5] * 75), "expected 2 rows, one for each sample, got 1"),
        ("scores_val.json", json.dumps([[0.5] * 75] * 4), "expected 2 rows, one for each sample, got 4"),
        ("scores_val.json", json.dumps(["a"] * 75), "expected a list of numbers"),
        ("scores_val.json", b"\xff\xfe", "cannot be read as text"),
        ("indices_val.json", "[0, 1, 2]\n[0, 1, 8]\n", "indices_val.json, line 2: 8 is no training sample.* 0 to 7"),
        ("indices_val.json", "[0, 1, 2]\n[0, 1, -1]\n", "line 2: -1 is no training sample"),
        ("indices_val.json", "[0, 1, 2]\n[0, 1.5, 2]\n", "line 2: 1.5 is no training sample"),
        ("indices_val.json", "[0, 1, 2]\n[0, 1]\n", "line 2: memory indices of 'val': expected 3 numbers, got 2"),
        ("indices_val.json", "[0, 1]\n[0, 1]\n", r"expected as many a sample in train, val, test, got \[3, 2, 3\]"),
        ("texts.json", "[[1, 2], [3, 4", r"texts.json, row 1: not JSON"),
        ("texts.json", "[[1, 2], [3, 4]", r"texts.json: the list ends after 2 rows without '\]'"),
        ("texts.json", "[[1, 2] [3, 4]]", r"texts.json, row 1: expected ',' before it"),
        ("texts.json", "[[1, 2], [3, 4]] [5]", r"something follows the list of 2 rows"),
        ("texts.json", "[[1, 2], [3, Infinity]]", r"texts.json, row 1: memory texts: number 1 is not finite"),
        ("texts.json", "[[1, 2], [3, 1e6]]", r"texts.json, row 1: 1e\+06 is beyond float16"),
        ("texts.json", "[[1, 2], [[3], 4]]", r"texts.json, row 1"),
        ("texts.json", "", "expected 8 rows, one for each sample, got 0"),
        ("distance.json", "[[1, 0, 2, 3]]", r"distance.json, row 0: all 4 neighbours are of the sample's own patient"),
        ("distance.json", "[[4]]", r"distance.json: neighbours: expected 8 rows, one for each sample, got 1"),
        ("distance.json", '[{"4x": 1}]', r"distance.json, row 0: neighbours: expected a list of numbers"),
        ("distance.json", "[[99]]", r"distance.json, row 0: 99 is no training sample"),
    ],
)
def test_bad_json_is_named_with_its_place(family, name, content, message):
    path = family.root / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    family.refused(message)


def test_a_row_without_end_is_not_read_into_memory(family, monkeypatch):
    monkeypatch.setattr(artefacts, "CHUNK", 16)
    monkeypatch.setattr(artefacts, "LONGEST", 100)
    (family.root / "texts.json").write_text("[[" + "1, " * 1000)
    family.refused("a row without end begins with")


NAN = np.where(np.arange(75)[:, None] == 5, np.nan, np.zeros((75, WIDTH), np.float32))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("local/val/s0/1.jpg", np.zeros((75, WIDTH + 1), np.float32), r"expected \(75, 16\), got \(75, 17\)"),
        ("local/val/s0/1.jpg", np.zeros((74, WIDTH), np.float32), r"expected \(75, 16\), got \(74, 16\)"),
        ("local/val/s0/1.jpg", np.zeros((75, WIDTH), np.int64), "expected floats .* got int64"),
        ("local/val/s0/1.jpg", NAN, "val/s0/1.jpg.npy: row 5 is not finite"),
        ("local/val/s0/1.jpg", NAN.astype(object), "a .npy file of numbers is needed"),
        ("local/val/s0/1.jpg", None, "local texts: 1 of 13 files are missing, the first is .*val/s0/1.jpg.npy"),
        ("reference/train/s1/3.jpg", None, "reference sentences: 1 of 8 files are missing, .*s1/3.jpg.npy"),
        ("reference/train/s1/3.jpg", np.zeros((6, WIDTH), np.float32), "s1/3.jpg.npy: no sentence, every row is zero"),
        ("reference/train/s1/3.jpg", np.ones((6, WIDTH - 1), np.float32), r"expected \(N, 16\), got \(6, 15\)"),
    ],
)
def test_bad_embeddings_are_named(family, name, array, message):
    path = family.root / f"{name}.npy"
    path.unlink() if array is None else np.save(path, array)
    family.refused(message)


def test_a_truncated_file_of_embeddings_is_named(family):
    path = family.root / "local/test/s1/2.jpg.npy"
    path.write_bytes(path.read_bytes()[:200])
    family.refused("local/test/s1/2.jpg.npy is ")


def test_local_texts_that_are_no_triplets_are_refused(family):
    """257 distinct rows of one entity cannot come from one text for each of 51 positions and one for absence."""
    n = 300
    family.annotation["train"] = [
        {**family.annotation["train"][0], "id": f"t{i}", "subject_id": f"p{i}", "image_path": [f"t/{i}.jpg"]}
        for i in range(n)
    ]
    local = family.rng.normal(size=(n, 1, WIDTH)).astype(np.float32)
    family.local["train"] = np.zeros((n, 75), int)
    family.scores["train"], family.indices["train"] = np.full((n, 75), 0.5), np.zeros((n, MEMORY), int)
    family.vectors, family.reference = np.ones((n, 5)), [[0]] * n
    family.write()
    for i in range(n):
        rows = family.triplets[:, 0].copy()
        rows[2] = local[i]
        family.array(f"local/t/{i}.jpg.npy", rows)
    family.refused(f"256.jpg.npy: a local text no. 257 of the entity '{ENTITIES[2]}'", neighbours=None)
    for i in range(n):  # exactly 256 of them can be stored
        rows[2] = local[i % 256]
        family.array(f"local/t/{i}.jpg.npy", rows)
    for split in ("val", "test"):
        for entry in family.annotation[split]:
            family.array(f"local/{entry['image_path'][0]}.npy", rows)
    family.convert(neighbours=None)
    codes, triplets = family.features("train").codes, family.texts().triplets
    assert triplets.shape == (75 * 256, WIDTH) and codes[:, 2].max() == 255 and codes[:, 3].max() == 0
    np.testing.assert_array_equal(
        triplets[2 * 256 + codes[:, 2].astype(int)], local[np.arange(n) % 256, 0].astype(np.float16)
    )
    assert not triplets[3 * 256 + 1 : 4 * 256].any()  # padded


def test_sentences_of_another_space_are_refused_with_the_reason(family):
    """The release has local texts of 768 and sentences of 512."""
    for path in (family.root / "reference").rglob("*.npy"):
        np.save(path, np.ones((4, WIDTH - 4), np.float32))
    family.refused(r"sentences of width 12, but .* local texts of width 16\. .*Eq\. 12.* one text encoder")


def test_statuses_are_needed_and_all_alike(family):
    family.annotation["val"][0]["labels"] = family.annotation["val"][0]["labels"][:14]
    family.write()
    family.refused("1 studies have 14 statuses and 12 have 18")
    family.annotation["val"][0]["labels"] = []
    family.write()
    family.refused("1 studies have no 'labels', the first is val0")


def test_artefacts_of_the_test_split_alone_are_not_enough(family):
    family.annotation = {"test": family.annotation["test"]}
    family.write()
    family.refused("no study in split 'train'")


def test_a_split_that_the_annotation_lacks_needs_no_files(family):
    del family.annotation["val"]
    (family.root / "scores_val.json").unlink()
    family.write().convert()
    assert sorted(p.name for p in (family.root / "out/imported").iterdir()) == ["test", "texts", "train"]


def test_a_path_without_its_split_is_refused(family):
    family.refused(r"scores: expected a path with \{split\} in it", scores=str(family.root / "scores_val.json"))


def test_a_single_patient_has_no_neighbour(family):
    for entry in family.annotation["train"]:
        entry["subject_id"] = "one"
    family.write()
    family.refused("single patient", neighbours=None)


def test_an_interrupted_import_keeps_the_finished_one(family, monkeypatch):
    family.convert()
    before = folder_bytes(family.root / "out/imported")
    family.scores["train"][:] = 0.25
    family.write()

    def fails(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("revtaf.data.sources.imported.prepare.TextTables", fails)
    with pytest.raises(KeyboardInterrupt):
        family.convert()
    assert folder_bytes(family.root / "out/imported") == before
    assert sorted(p.name for p in (family.root / "out").iterdir()) == ["annotation.json", "imported"]


def test_samples_whose_report_says_nothing_are_dropped_where_no_artefact_names_their_row(family, capsys):
    """Of val and test with their rows of every artefact; the memory and the neighbours name training samples by row."""
    for split, row in (("test", 1), ("train", 3)):
        family.annotation[split][row]["report"] = "See impression."
    family.write().convert()
    told = capsys.readouterr().out
    assert "test: dropped 1 studies whose report says nothing" in told
    assert "train: 1 reports say nothing" in told and "kept" in told
    found = family.features("test")
    assert found.ids == ["test0", "test2"]
    assert [s.id for s in load_annotations(family.root / "out/annotation.json")["test"]] == found.ids
    np.testing.assert_allclose(found.scores, family.scores["test"][[0, 2]], atol=1e-3)
    np.testing.assert_array_equal(found.memory, family.indices["test"][[0, 2]])
    np.testing.assert_array_equal(found.statuses, [family.annotation["test"][i]["labels"] for i in (0, 2)])
    assert len(family.features("train").ids) == SPLITS["train"]


def test_a_split_of_reports_that_say_nothing_is_refused(family):
    for entry in family.annotation["val"]:
        entry["report"] = "N/A"
    family.write().refused("split 'val': every report says nothing")
