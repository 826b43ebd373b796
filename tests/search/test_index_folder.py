"""The folder: what is written is found again, added to, checked, and survives whoever kills the build."""

import json
import os
import re

import numpy as np
import pytest
import torch
from made import MODEL, material, unit

from revtaf.errors import UserError
from revtaf.search import build, exact
from revtaf.search import index as search_index
from revtaf.search.build import IndexOptions, create, extend
from revtaf.search.index import IMAGES, KINDS, MANIFEST, REPORTS, SearchIndex

SMALL = IndexOptions(shard_rows=25)


def found(index, kind=REPORTS, k=5, **options):
    return index.search(kind, index.queries(unit(6, seed=99)), k, **options)


def test_rows_and_records_are_found_again_over_shards(tmp_path):
    """Search equals a scan of what went in; every row's record is its own; vectors have half the bytes of float32."""
    given = material()
    index = create(tmp_path / "index", given, SMALL)
    for kind in KINDS:
        entries = given.galleries[kind]
        stored = entries.vectors.astype(np.float16)
        score, row = exact.nearest([stored], unit(6, seed=99), 5)
        hits = found(index, kind)
        np.testing.assert_array_equal(hits.row, row)
        np.testing.assert_array_equal(hits.score, score)
        gallery = index.galleries[kind]
        assert len(gallery.shards) == -(-len(stored) // 25)
        for i, record in enumerate(entries.records):
            assert gallery.record(i).items() >= record.items()
        sizes = sum(shard["files"]["vectors.npy"]["bytes"] for shard in gallery.manifest["shards"])
        assert sizes == stored.size * 2 + 128 * len(gallery.shards)


def test_adding_equals_building_at_once(tmp_path):
    """The same rows, records and answers, and images that know their reports; full shards are not written again."""
    create(tmp_path / "grown", material(60), SMALL)
    kept = [(path, path.stat().st_mtime_ns) for path in (tmp_path / "grown/files").glob("*/vectors.npy")]
    grown = extend(tmp_path / "grown", material(7, start=60))
    assert sum(path.exists() and path.stat().st_mtime_ns == at for path, at in kept) == len(kept) - 2
    both = material(60), material(7, start=60)
    for kind in KINDS:
        stored = np.concatenate([part.galleries[kind].vectors for part in both]).astype(np.float16)
        np.testing.assert_array_equal(np.concatenate(grown.galleries[kind].vectors), stored)
    for row in range(134):
        image = grown.galleries[IMAGES].record(row)
        assert grown.galleries[REPORTS].record(image["report"])["id"] == image["id"]
    with pytest.raises(UserError, match="--add: s60 is in"):
        extend(tmp_path / "grown", material(3, start=60))
    other = material(3, start=80)
    other.model["digest"] = "d2"
    with pytest.raises(UserError, match="another model"):
        extend(tmp_path / "grown", other)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("engine", ["exact", "faiss"])
@pytest.mark.parametrize("step", ["build", "add"])
def test_a_kill_at_any_rename_leaves_the_earlier_index_whole(tmp_path, step, engine):
    """A process that dies just before, or just after, each rename of a build, or an addition: what was there answers
    as before, until the last rename; then the new one does. The next build leaves nothing of it behind."""
    faiss = pytest.importorskip("faiss") if engine == "faiss" else None
    place = tmp_path / "index"
    create(place, material(40), IndexOptions(shard_rows=25, engine=engine, svd=None))
    expected = found(SearchIndex.open(place, verify=True))

    def work():
        if step == "build":
            create(place, material(45, start=100), IndexOptions(shard_rows=25))
        else:
            extend(place, material(20, start=100))

    seen, number, ended = [], 0, False
    while not ended:
        for when in ("before", "after"):
            child = os.fork()
            if not child:
                die_at_rename(number, when)
                try:
                    # The parent's threads are not there any more: OpenMP would wait for them.
                    torch.set_num_threads(1)
                    if engine == "faiss":
                        faiss.omp_set_num_threads(1)
                    work()
                except BaseException:
                    os._exit(7)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status in (0, 9)
            ended = status == 0
            index = SearchIndex.open(place, verify=True)
            seen.append(index.manifest["galleries"][REPORTS]["rows"])
            if seen[-1] == 40:
                np.testing.assert_array_equal(found(index).row, expected.row)
            else:
                break
        number += 1
        ended = ended or seen[-1] != 40
    assert number >= 4 and set(seen[:-1]) == {40}
    rows = seen[-1]
    if step == "add":
        with pytest.raises(UserError, match="already"):  # it was added, though its process died
            work()
    else:
        work()
    named = {entry["name"] for kind in KINDS for entry in SearchIndex.open(place).manifest["galleries"][kind]["shards"]}
    folders = {path.name for path in (place / "files").iterdir()}
    assert named <= folders and SearchIndex.open(place, verify=True).manifest["galleries"][REPORTS]["rows"] == rows
    if step == "build":
        assert folders == named


def die_at_rename(number: int, when: str) -> None:
    """From now on the process ends at rename `number`, without any clearing up."""
    real, count = os.replace, 0

    def replace(*arguments):
        nonlocal count
        if count == number and when == "before":
            os._exit(9)
        real(*arguments)
        if count == number:
            os._exit(9)
        count += 1

    os.replace = replace


def test_a_file_that_has_changed_is_named(tmp_path):
    """Another size is seen on opening, another byte with `verify`; a missing file, and a manifest that is none, too."""
    place = tmp_path / "index"
    create(place, material(), SMALL)
    path = next((place / "files").glob("reports-*/vectors.npy"))
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    with pytest.raises(UserError, match=r"vectors.npy is damaged: \d+ bytes"):
        SearchIndex.open(place)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    SearchIndex.open(place)
    with pytest.raises(UserError, match="SHA-256"):
        SearchIndex.open(place, verify=True)
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        SearchIndex.open(place)
    manifest = json.loads((place / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps({"format": manifest["format"]}))
    with pytest.raises(UserError, match="index.json is damaged"):
        SearchIndex.open(place)
    (place / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        SearchIndex.open(place)
    with pytest.raises(UserError, match="no index"):
        SearchIndex.open(tmp_path / "none")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    """An index is not written among other files, nor by two processes at once."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and no index"):
        create(tmp_path, material(), SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("manifest", ['{"hello": 1}', "[1]", '{"format": 1}', "{half", None])
def test_files_of_somebody_else_are_never_removed(tmp_path, manifest):
    """A folder `files` beside an `index.json` that no build of an index wrote, or beside none: both stay."""
    (tmp_path / "files" / "own").mkdir(parents=True)
    (tmp_path / "files" / "own" / "work.txt").write_text("mine")
    if manifest:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(
        UserError, match=re.escape(str(tmp_path)) + " is not empty and no index: .* choose another place"
    ):
        create(tmp_path, material(), SMALL)
    assert (tmp_path / "files" / "own" / "work.txt").read_text() == "mine"
    assert not manifest or (tmp_path / MANIFEST).read_text() == manifest


def test_what_others_put_into_an_index_stays_and_disturbs_nothing(tmp_path):
    """A file as macOS makes it, and a folder; what killed builds left goes. A damaged manifest of ours is replaced."""
    place = tmp_path / "index"
    create(place, material(30), SMALL)
    (place / "files" / ".DS_Store").write_text("view")
    (place / "files" / "own").mkdir()
    left = ["held-0007", ".images-0001-000000000.partial-7-a_b0", ".projection-0001.old-7-a_b0"]
    for name in left:
        (place / "files" / name).mkdir()
    extend(place, material(10, start=30))
    rows = create(place, material(20), SMALL).manifest["galleries"][REPORTS]["rows"]
    assert rows == 20 and (place / "files" / ".DS_Store").read_text() == "view" and (place / "files" / "own").is_dir()
    assert not any((place / "files" / name).exists() for name in left)
    (place / "files" / "own").rmdir()
    (place / "files" / ".DS_Store").unlink()
    (place / MANIFEST).write_text("{half")
    assert len(create(place, material(25), SMALL).galleries[REPORTS]) == 25


def test_a_build_that_fails_leaves_nothing_but_the_earlier_index(tmp_path, monkeypatch):
    """An error after the images were written: of a first build no folder stays, of a later one the index before it."""
    place, write = tmp_path / "index", build.write_shard

    def write_shard(folder, *arguments):
        if folder.name.startswith(REPORTS):
            raise MemoryError
        return write(folder, *arguments)

    def fails(work, *arguments):
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(build, "write_shard", write_shard)
            work(place, *arguments)

    fails(create, material(), SMALL)
    assert not place.exists()
    create(place, material(30), SMALL)
    before = sorted(place.rglob("*"))
    fails(create, material(40), SMALL)
    fails(extend, material(10, start=30))
    assert sorted(place.rglob("*")) == before
    assert len(SearchIndex.open(place, verify=True).galleries[REPORTS]) == 30


def test_another_width_and_vectors_without_unit_length_are_refused(tmp_path):
    """Queries of another encoder, and rows that no cosine can be taken of."""
    index = create(tmp_path / "index", material(), SMALL)
    with pytest.raises(UserError, match="width 16, the model gives 8"):
        index.queries(unit(2, 8))
    bad = material()
    bad.galleries[REPORTS].vectors = bad.galleries[REPORTS].vectors * 2
    with pytest.raises(ValueError, match="length 2.0"):
        create(tmp_path / "other", bad, SMALL)
    assert not (tmp_path / "other").exists()


def test_patients_are_left_out(tmp_path):
    """No hit of an excluded patient; a k that the others cannot fill, and rows of nobody, are refused."""
    index = create(tmp_path / "index", material(), SMALL)
    first = index.galleries[REPORTS].record(int(found(index).row[0, 0]))["patient"]
    hits = found(index, exclude=[first, "p3"])
    patients = {index.galleries[REPORTS].record(row)["patient"] for row in hits.row.ravel().tolist()}
    assert first not in patients and "p3" not in patients
    with pytest.raises(UserError, match="only 58 reports in .* of other patients"):
        found(index, k=59, exclude=["p3"])
    nameless = create(tmp_path / "nameless", material(patients=False), SMALL)
    with pytest.raises(UserError, match="60 of 60 reports in the index name no patient"):
        found(nameless, exclude=["p3"])


@pytest.mark.parametrize("centred", [False, True])
def test_the_projection_of_training_vectors_serves_rows_and_queries(tmp_path, centred):
    """Fitted on what is given for it, not on the rows; stored; the same for additions."""
    fit = [unit(80, seed=7)]
    options = IndexOptions(shard_rows=25, svd=6, svd_centred=centred)
    index = create(tmp_path / "index", material(fit=fit), options)
    mean = fit[0].mean(0) * centred
    right = np.linalg.svd(fit[0] - mean)[2][:6]

    def projected(vectors):
        reduced = (vectors - mean) @ right.T
        return reduced / np.linalg.norm(reduced, axis=1, keepdims=True)

    rows = projected(material().galleries[REPORTS].vectors) @ projected(unit(6, seed=99)).T
    np.testing.assert_allclose(found(index).score, -np.sort(-rows.T)[:, :5], atol=2e-3)
    assert index.width == 6 and ("not centred" in found(index).engine) is not centred
    grown = extend(tmp_path / "index", material(5, start=60))
    assert grown.manifest["projection"] == index.manifest["projection"]
    with pytest.raises(UserError, match="training split"):
        create(tmp_path / "index", material(), options)


def test_another_model_is_refused(tmp_path):
    """By system and digest, not by place."""
    index = create(tmp_path / "index", material(), SMALL)
    index.check_model({**MODEL, "folder": "elsewhere"}, "elsewhere")
    for key in ("system", "digest"):
        with pytest.raises(UserError, match="another model"):
            index.check_model({**MODEL, key: "other"}, "elsewhere")


def test_an_index_that_is_replaced_while_it_is_opened_is_the_new_one(tmp_path, monkeypatch):
    """Another process finishes between the manifest and the files; without end it is not waited for."""
    place = tmp_path / "index"
    create(place, material(30), SMALL)
    check, builds = search_index.check_files, []

    def check_files(*arguments):
        if builds:
            rows = builds.pop(0)
            with monkeypatch.context() as patch:
                patch.setattr(search_index, "check_files", check)
                create(place, material(rows), SMALL)
        return check(*arguments)

    monkeypatch.setattr(search_index, "check_files", check_files)
    for rows in ([11], [12, 13]):
        builds += rows
        assert len(SearchIndex.open(place).galleries[REPORTS]) == rows[-1]
    builds += range(14, 40)
    with pytest.raises(UserError, match="missing"):
        SearchIndex.open(place)


@pytest.mark.parametrize(
    "change",
    [
        {"sources": [3]},
        {"engine": "faiss-ivf"},
        {"model": None},
        {"model": {"system": "toy", "digest": "d1"}},
        {"generation": None},
        {"options": None},
        {"without_patient": None},
    ],
)
def test_a_manifest_that_lacks_what_is_asked_for_later_is_refused(tmp_path, change):
    """Sources that are no objects; an engine whose lists are nowhere; keys that are not there, for None."""
    create(tmp_path / "index", material(), SMALL)
    path = tmp_path / "index" / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for name, value in change.items():
        where = manifest if name in manifest else manifest["galleries"][IMAGES]
        where[name] = value
        if value is None:
            del where[name]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match="is damaged .*build the index again"):
        SearchIndex.open(tmp_path / "index")
