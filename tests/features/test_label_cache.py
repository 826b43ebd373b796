"""Kept labels: the same as fresh ones, each text asked for once, over kills, processes and damage."""

import multiprocessing
import sqlite3

import numpy as np
import pytest

from revtaf.errors import UserError
from revtaf.features.label_cache import CachedLabeler
from revtaf.knowledge.rules import RuleLabeler

REPORTS = ["No edema.", "Mild cardiomegaly.", "", "No edema.", "The lungs are clear.\n\nEffusion is small."]


class Counting:
    """The rule labeler; remembers what it was asked and dies after `limit` texts."""

    def __init__(self, name="counting", limit=None):
        self.name, self.limit, self.asked = name, limit, []

    def label(self, reports):
        if self.limit is not None and len(self.asked) + len(reports) > self.limit:
            raise KeyboardInterrupt
        self.asked += reports
        return RuleLabeler().label(reports)


def test_results_are_the_labelers_own(tmp_path):
    """With the cache empty, full, half full, and through new objects on the same file."""
    expected = RuleLabeler().label(REPORTS)
    for part in (REPORTS[:2], REPORTS, REPORTS, REPORTS[::-1]):
        found = CachedLabeler(RuleLabeler(), tmp_path / "new" / "labels.sqlite").label(part)
        assert found.dtype == np.uint8 and found.flags.writeable
        assert (found == RuleLabeler().label(part)).all()
    assert CachedLabeler(RuleLabeler(), tmp_path / "labels.sqlite").label([]).shape == (0, 18)
    assert CachedLabeler(RuleLabeler(), tmp_path / "labels.sqlite").name == RuleLabeler.name
    assert expected.any()


def test_a_text_is_labelled_once(tmp_path):
    """Repeats within a call and over calls; another labeler's labels are not taken for its own."""
    labeler = Counting()
    for _ in range(2):
        CachedLabeler(labeler, tmp_path / "labels.sqlite").label(REPORTS)
        assert labeler.asked == list(dict.fromkeys(REPORTS))
    other = Counting(name="other")
    CachedLabeler(other, tmp_path / "labels.sqlite").label(REPORTS)
    assert other.asked == labeler.asked


def test_blank_lines_are_part_of_the_text(tmp_path):
    """A labeler may read them as the end of a sentence, so that texts that differ in them are two texts."""
    labeler = Counting()
    texts = ["No edema\n\neffusion", "No edema effusion"]
    assert (CachedLabeler(labeler, tmp_path / "labels.sqlite").label(texts) == RuleLabeler().label(texts)).all()
    assert labeler.asked == texts


def test_a_killed_run_keeps_what_it_labelled(tmp_path):
    """Whole batches survive; the next run asks for the rest alone."""
    reports = [f"Effusion {i}." for i in range(700)]
    killed, second = Counting(limit=600), Counting()
    with pytest.raises(KeyboardInterrupt):
        CachedLabeler(killed, tmp_path / "labels.sqlite").label(reports)
    labels = CachedLabeler(second, tmp_path / "labels.sqlite").label(reports)
    assert len(killed.asked) == 512 and killed.asked + second.asked == reports
    assert (labels == RuleLabeler().label(reports)).all()


def _overlapping(path):
    reports = [f"Effusion {i}." for i in range(600)]
    for start in range(0, 600, 20):
        CachedLabeler(RuleLabeler(), path).label(reports[start : start + 40])


def test_several_processes_share_one_file(tmp_path):
    """They start at once on a file that is not there yet; none fails, and nothing is lost."""
    path = tmp_path / "labels.sqlite"
    context = multiprocessing.get_context("fork")  # the others would load everything anew, for seconds
    running = [context.Process(target=_overlapping, args=(path,)) for _ in range(4)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0] * 4
    late = Counting(name=RuleLabeler.name)
    CachedLabeler(late, path).label([f"Effusion {i}." for i in range(600)])
    assert late.asked == []


def damage(path, how):
    if how == "text":
        path.write_text("not a database, but long enough to be taken for its header " * 20)
    elif how == "overwritten":
        content = bytearray(path.read_bytes())
        content[100:] = b"\xff" * len(content[100:])
        path.write_bytes(content)
    elif how == "short row":
        with sqlite3.connect(path) as database:
            database.execute("UPDATE labels SET statuses = x'0102'")
    else:
        with sqlite3.connect(path) as database:
            database.execute("UPDATE labels SET statuses = zeroblob(17) || x'09'")


@pytest.mark.parametrize("how", ["text", "overwritten", "short row", "unknown status"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, how):
    path = tmp_path / "labels.sqlite"
    CachedLabeler(RuleLabeler(), path).label(REPORTS)
    damage(path, how)
    with pytest.raises(UserError, match=r"labels.sqlite is damaged.*delete the file"):
        CachedLabeler(RuleLabeler(), path).label(REPORTS)


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path):
    (tmp_path / "labels.sqlite").mkdir()
    with pytest.raises(UserError, match="labels.sqlite cannot be used: unable to open"):
        CachedLabeler(RuleLabeler(), tmp_path / "labels.sqlite").label(REPORTS)
