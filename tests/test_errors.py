"""The end of a message about an unknown name."""

from revtaf.errors import nearest


def test_the_nearest_name_is_offered_in_full_and_all_of_them_where_none_is_near():
    known = ("metric", "rank", "width")
    assert nearest("metrik", known) == "did you mean 'metric'?"
    assert nearest("metrik", known, "lre.") == "did you mean 'lre.metric'?"
    assert nearest("zzz", iter(known)) == "expected one of metric, rank, width"
    assert nearest("zzz", []) == "none is known"
