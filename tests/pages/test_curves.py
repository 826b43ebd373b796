"""The curves draw what a system names, whatever the names are."""

import numpy as np
import pytest

from revtaf.pages.curves import curve_panels, curves_figure, curves_image


def drawn(records) -> dict[str, list[str]]:
    """Title of each panel -> the names in its legend."""
    figure = curves_figure(records)
    return {axes.get_title("left"): [t.get_text() for t in axes.get_legend().get_texts()] for axes in figure.axes}


def test_records_of_an_epoch_are_averaged_and_the_three_averages_preferred():
    records = [
        {"epoch": 1, "losses": {"lm": 4.0, "rank": float("nan")}},
        {"epoch": 1, "losses": {"lm": 2.0}},
        {"epoch": 1, "validation": {"example_f1": 0.3, "tail_f1": 0.1, "score": 0.3}},
        {"epoch": 2, "losses": {"lm": 1.0}, "validation": {"example_f1": 0.5, "per_class": {"edema": {"f1": 1}}}},
    ]
    panels = curve_panels(records)
    assert panels == {"losses": {"lm": {1: 3.0, 2: 1.0}}, "validation": {"example F1": {1: 0.3, 2: 0.5}}}
    assert list(drawn(records)) == ["Loss by component", "Validation, clinical efficacy F1"]


def test_a_system_with_other_names_is_shown_whole():
    """Names that no other system has, numbers of every kind, and validation scores on two scales."""
    records = [
        {
            "epoch": epoch,
            "losses": {"contrastive_patch": np.float32(2.0 / epoch), "_inner": 1},
            "validation": {
                "recall_at_5": 0.1 * epoch,
                "mrr": 0.2,
                "median_rank": 40.0 / epoch,
                "best": True,
                "why": "",
            },
        }
        for epoch in (1, 2)
    ]
    assert drawn(records) == {
        "Loss by component": ["contrastive patch", " inner"],
        "Validation, scores from 0 to 1": ["recall at 5", "mrr"],
        "Validation, median rank": ["median rank"],
    }
    assert curve_panels(records)["other"] == {"median rank": {1: 40.0, 2: 20.0}}


def test_a_line_that_once_leaves_the_range_is_beside_the_others():
    records = [{"epoch": e, "validation": {"a": 0.5, "b": 0.5 * e, "c": -1.0}} for e in (1, 2, 3)]
    panels = curve_panels(records)
    assert list(panels["validation"]) == ["a"] and list(panels["other"]) == ["b", "c"]
    assert list(drawn(records)) == ["Validation, a", "Validation, other scales"]


@pytest.mark.parametrize("name", ["$x", "$x$", r"$\frac{$", "<script>"])
def test_a_name_is_drawn_as_it_is(name):
    """Between two "$" matplotlib would read mathematics, and fail where it is none."""
    records = [{"epoch": 1, "losses": {name: 1.0}, "validation": {name: 0.5}}]
    assert drawn(records) == {"Loss by component": [name], f"Validation, {name}": [name]}
    assert curves_image(records).startswith("data:image/png;base64,")


@pytest.mark.parametrize("records", [[], [{"epoch": 1}], [{"epoch": 1, "losses": {"lm": None}, "validation": {}}]])
def test_without_numbers_there_is_no_figure(records):
    assert curves_figure(records) is None and curves_image(records) == ""
