"""FAISS: what it says it finds is what it finds."""

import numpy as np
import pytest
from made import material, unit

from revtaf.errors import UserError
from revtaf.search import build, ivf
from revtaf.search.build import IndexOptions, create, extend
from revtaf.search.exact import nearest
from revtaf.search.index import IMAGES, KINDS, REPORTS, SearchIndex

pytest.importorskip("faiss")
OPTIONS = IndexOptions(engine="faiss", shard_rows=400, nlist=16, recall=0.9)


def big(rows=450, **more):
    return material(rows, **more)


def held(count=40):
    return {"held": {kind: unit(count, seed=50 + i) for i, kind in enumerate(KINDS)}, "held_split": "val"}


def test_the_recall_that_is_stated_is_the_recall_that_is_counted(tmp_path):
    """On the held queries, from the rows that a user would get; and in the words of every output."""
    given = held()
    index = create(tmp_path / "index", big(**given), OPTIONS)
    for kind in KINDS:
        for asked in KINDS:
            queries = given["held"][asked].astype(np.float16).astype(np.float32)
            answer = index.search(kind, queries, 10, asked=asked)
            truth = nearest(index.galleries[kind].vectors, queries, 10)[1]
            pairs = zip(answer.row.tolist(), truth.tolist(), strict=True)
            counted = np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])
            assert answer.recall == pytest.approx(counted) and counted >= 0.9
            assert f"recall@10 {counted:.3f}" in answer.engine and "40" in answer.engine and "val" in answer.engine


def test_nprobe_is_the_first_that_reaches_the_recall_and_never_one(tmp_path):
    """Doubling from two; half of it would not have been enough."""
    easy = create(tmp_path / "easy", big(**held()), IndexOptions(engine="faiss", nlist=16, recall=0.01))
    assert all(easy.galleries[kind].manifest["ivf"]["nprobe"] == 2 for kind in KINDS)
    index = create(tmp_path / "index", big(**held()), IndexOptions(engine="faiss", nlist=16, recall=0.97))
    for kind in KINDS:
        entry = index.galleries[kind].manifest["ivf"]
        if entry["nprobe"] > 2:
            assert min(index.recall(kind, asked, entry["nprobe"] // 2) for asked in KINDS) < 0.97
        assert min(entry["recall"].values()) >= 0.97


def test_scores_are_those_of_exact_search(tmp_path):
    """All lists: the same rows and scores; 15 wide, which is padded for FAISS."""
    index = create(tmp_path / "index", big(width=15), IndexOptions(engine="faiss", nlist=8, recall=1.0, shard_rows=300))
    queries = unit(5, 15, seed=3)
    for skip in (None, [np.arange(len(part)) % 3 > 0 for part in index.galleries[IMAGES].vectors]):
        score, row = index.galleries[IMAGES].lists.nearest(queries, 7, 8, skip)
        expected = nearest(index.galleries[IMAGES].vectors, queries, 7, skip)
        np.testing.assert_array_equal(row, expected[1])
        np.testing.assert_array_equal(score, expected[0])


def test_a_query_whose_lists_are_short_looks_into_more(tmp_path):
    """More hits than two lists hold: all are given, none twice."""
    index = create(tmp_path / "index", big(**held()), IndexOptions(engine="faiss", nlist=16, recall=0.01))
    row = index.search(REPORTS, unit(4, seed=3), 440).row
    assert row.shape == (4, 440) and all(len(set(rows)) == 440 for rows in row.tolist())


def test_added_rows_use_the_centroids_and_recall_is_counted_anew(tmp_path):
    """An addition finds its own rows first, states recall over all of them, and keeps queries that it does not hold."""
    index = create(tmp_path / "index", big(**held()), OPTIONS)
    more = material(100, start=450)
    grown = extend(tmp_path / "index", more)
    for kind in KINDS:
        before, after = (made.galleries[kind].manifest["ivf"] for made in (index, grown))
        assert before["name"] == after["name"] and len(grown.galleries[kind]) > len(index.galleries[kind])
        assert after["recall"] == {asked: grown.recall(kind, asked) for asked in KINDS}
    rows = grown.search(IMAGES, more.galleries[IMAGES].vectors[:20], 1, asked=IMAGES).row[:, 0]
    assert (rows == 900 + np.arange(20)).all()


def test_without_held_queries_the_rows_ask_and_their_own_does_not_count(tmp_path):
    """A row finds itself in any list: counted, it would flatter every recall."""
    index = create(tmp_path / "index", big(), OPTIONS)
    vectors, own = index.held()
    assert (own[IMAGES] >= 0).all() and "own row left out" in index.engine(IMAGES, IMAGES)
    queries, lists = vectors[IMAGES], index.galleries[IMAGES].lists
    truth = nearest(index.galleries[IMAGES].vectors, queries, 11)[1]
    answer = lists.nearest(queries, 11, 2)[1]
    counted = [
        len({*a} & {*b} - {mine}) / 10
        for a, b, mine in zip(
            [[r for r in rows if r != o][:10] for rows, o in zip(truth.tolist(), own[IMAGES], strict=True)],
            [[r for r in rows if r != o][:10] for rows, o in zip(answer.tolist(), own[IMAGES], strict=True)],
            own[IMAGES].tolist(),
            strict=True,
        )
    ]
    assert index.recall(IMAGES, IMAGES, 2) == pytest.approx(np.mean(counted))


def test_an_open_index_outlives_the_builds_of_others(tmp_path):
    """What was opened before an addition, or a new build, answers as before."""
    index = create(tmp_path / "index", big(80), IndexOptions(engine="faiss"))
    expected = index.search(REPORTS, unit(4, seed=3), 5)
    for change in (lambda place: extend(place, big(10, start=80)), lambda place: create(place, big(20))):
        opened = SearchIndex.open(tmp_path / "index")
        change(tmp_path / "index")
        for one in (index, opened):
            assert one.search(REPORTS, unit(4, seed=3), 5).score.shape == (4, 5)
        np.testing.assert_array_equal(index.search(REPORTS, unit(4, seed=3), 5).row, expected.row)


def test_what_is_no_file_of_lists_is_refused(tmp_path, monkeypatch):
    """A damaged file of FAISS; more lists than rows, of images or of reports, before anything is written."""
    (tmp_path / "x").write_bytes(b"what is this? no lists at all")
    with pytest.raises(UserError, match="damaged"):
        ivf.open_lists(tmp_path / "x")
    with pytest.raises(UserError, match="--nlist 99"):
        ivf.train(unit(20), 99)
    with monkeypatch.context() as patch, pytest.raises(UserError, match="--nlist 100: there are only 60 rows"):
        patch.setattr(build, "write_shard", None)  # neither gallery is begun
        create(tmp_path / "index", material(60), IndexOptions(engine="faiss", nlist=100))
    assert not (tmp_path / "index").exists()
    assert [ivf.default_lists(rows) for rows in (10, 1000, 377_110)] == [1, 25, 1024]


def test_queries_that_come_into_the_index_are_no_longer_kept_apart(tmp_path):
    """A row finds itself: the recall of the split that was added would be too good."""
    place = tmp_path / "index"
    create(place, big(**held()), OPTIONS)
    added = material(50, start=450)
    added.source["splits"] = ["val"]
    index = extend(place, added)
    assert index.manifest["held"]["split"] == "" and (index.held()[1][IMAGES] >= 0).all()
    assert "own row left out" in index.engine(IMAGES, REPORTS) and "not indexed" not in index.engine(IMAGES, REPORTS)
    added = material(50, start=500)
    create(tmp_path / "other", big(**held()), OPTIONS)
    assert extend(tmp_path / "other", added).manifest["held"]["split"] == "val"


def test_queries_are_counted_by_kind(tmp_path):
    """30 texts and 40 images kept: each engine line has its own number."""
    given = {"held": {IMAGES: unit(40, seed=50), REPORTS: unit(30, seed=51)}, "held_split": "val"}
    index = create(tmp_path / "index", big(**given), OPTIONS)
    for kind in KINDS:
        assert "on 40 images" in index.engine(kind, IMAGES) and "on 30 texts" in index.engine(kind, REPORTS)
