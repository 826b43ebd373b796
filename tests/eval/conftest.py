"""Shared by the evaluation's tests: the optional development data, one METEOR process, a toy labeler."""

import os
from pathlib import Path

import numpy as np
import pytest

from revtaf.eval.meteor import Meteor, unavailable_reason
from revtaf.labels import CATEGORIES, NEGATIVE, NO_FINDING, POSITIVE


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the IU X-Ray texts and the published scores, which are not part of the project."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("REVTAF_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no development data in {folder} (set REVTAF_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def meteor():
    """One process for all tests: its start takes seconds."""
    if reason := unavailable_reason():
        pytest.skip(reason)
    with Meteor() as client:
        yield client


class ToyLabeler:
    """Positive where the category's name occurs, negative behind "no"; counts the texts it was asked for."""

    name = "toy-v1"

    def __init__(self):
        self.labelled: list[str] = []

    def label(self, reports):
        self.labelled += reports
        statuses = np.zeros((len(reports), len(CATEGORIES)), dtype=np.uint8)
        for row, report in zip(statuses, reports, strict=True):
            for i, category in enumerate(CATEGORIES):
                if category in report:
                    row[i] = NEGATIVE if f"no {category}" in report else POSITIVE
            row[NO_FINDING] = POSITIVE * (not (row == POSITIVE).any())
        return statuses


@pytest.fixture
def labeler() -> ToyLabeler:
    return ToyLabeler()
