"""What a user decides in the model's place is read exactly, or refused by name."""

import pytest

from revtaf.errors import UserError
from revtaf.generate.asked import Asked, read_statuses
from revtaf.labels import CATEGORIES, NEGATIVE, POSITIVE


def test_statuses_are_read_in_any_case_and_by_their_beginning():
    """Of categories with blanks and strokes too."""
    text = "Pneumonia=POS, edema = neg,Bone/Spine  Abnormality=Uncertain,"
    found = {"pneumonia": "positive", "edema": "negative", "bone/spine abnormality": "uncertain"}
    assert read_statuses(text) == dict(
        Asked({"PNEUMONIA": "p", "edema": "n", "bone/spine abnormality": "unc"}).statuses
    )
    assert read_statuses(text) == found and read_statuses(" ") == {}
    numbers = Asked({"edema": "neg", "pneumonia": "pos"}).numbers(CATEGORIES)
    assert numbers == {CATEGORIES.index("edema"): NEGATIVE, CATEGORIES.index("pneumonia"): POSITIVE}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pnemonia=pos", "no such category; did you mean 'pneumonia'"),
        ("edema=yes", "status 'yes' of 'edema': expected one of blank, positive"),
        ("edema=positve", "did you mean 'positive'"),
        ("edema=", "status '' of 'edema'"),
        ("edema", "expected CATEGORY=STATUS"),
        ("edema=pos,Edema=neg", "given twice: positive, negative"),
    ],
)
def test_what_does_not_fit_is_named(text, says):
    """With the nearest name."""
    with pytest.raises(UserError, match=says):
        read_statuses(text)


def test_choices_that_contradict_each_other_are_refused():
    """A report is given, or none enters; a text has a word; a category is one of the model's."""
    with pytest.raises(UserError, match="leave one of the two out"):
        Asked(retrieve=False, retrieved="The heart is large.")
    with pytest.raises(UserError, match="has no word in it"):
        Asked(retrieved=" . ")
    with pytest.raises(UserError, match="status of 'aorta abnormality': this model knows the 14: enlarged"):
        Asked({"aorta abnormality": "pos"}).numbers(CATEGORIES[:14])
