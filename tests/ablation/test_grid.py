"""A grid file: what it is turned into, and what is refused with the file, the row and the nearest name."""

import re
from pathlib import Path

import pytest
import yaml
from tiny import ROOT

from revtaf.ablation.command import GridRequest
from revtaf.ablation.grid import as_overrides, check_apart, load_grid
from revtaf.config_file import load_settings
from revtaf.errors import UserError
from revtaf.eval import published

GRIDS = sorted((ROOT / "configs" / "ablations").glob("*.yaml"))
GRID = {
    "title": "T",
    "rows": {"plain": None, "flat": {"label": "Euclidean", "set": {"lre.metric": "euclidean"}}},
}


@pytest.fixture
def make(tmp_path):
    """Writes a grid beside a data file of one phantom set, and reads it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "phantom.yaml").write_text(f"base: {ROOT / 'configs' / 'phantom.yaml'}\n")

    def make(**changes):
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump(GRID | changes, sort_keys=False))
        return load_grid(path)

    return make


def folders(runs) -> list[str]:
    return [str(run.settings.run) for run in runs]


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_grid_of_the_project_gives_settings_that_hold(path):
    """Rows of every shipped grid resolve on every data set that they are for, and the paper's rows exist."""
    from revtaf.ablation.collect import paper_figures

    grid = load_grid(path)
    for data in grid.only or ("phantom", "iu_xray", "mimic_cxr"):
        runs = grid.runs(data, Path("results/runs"), [])
        assert {run.row.name for run in runs} == {row.name for row in grid.rows}
    for row in grid.rows:
        assert (paper_figures(grid, row) is None) == (row.paper is None)


def test_the_paper_rows_of_a_grid_are_the_printed_ones():
    """Table 3 (c) of the grid carries the Avg that the paper prints."""
    from revtaf.ablation.collect import paper_figures

    grid = load_grid(ROOT / "configs/ablations/table3.yaml")
    printed = {row.system: row.figures for row in published.rows("mimic_cxr", "Table 3", "paper")}
    found = paper_figures(grid, grid.row("full"))
    assert found["figures"]["average"] == printed["REVTAF (c)"]["avg"] == 0.397
    assert found["on"] == "mimic_cxr"


def test_the_grid_of_the_release_holds_its_preset():
    """ "all of them" changes what configs/presets/released.yaml changes; the maps' enlargement alone is left out."""
    grid = load_grid(ROOT / "configs/ablations/released.yaml")
    preset = yaml.safe_load((ROOT / "configs/presets/released.yaml").read_text())
    wanted = {f"{part}.{key}": value for part in ("lre", "fvtaf") for key, value in preset[part].items()}
    assert wanted.pop("fvtaf.upsample") == 224
    assert grid.row("all").train == wanted
    uniform = {"fvtaf.text_mass": "uniform"}  # a row of its own, and what another attention axis needs
    alone = [{k: v for k, v in row.train.items() if row.train == uniform or k not in uniform} for row in grid.rows]
    single = [train for row, train in zip(grid.rows, alone, strict=True) if len(train) == 1 and row.name != "learned"]
    assert {key: value for train in single for key, value in train.items()} == wanted


def test_a_row_is_named_by_what_it_changes_and_equal_rows_share_a_run(make):
    """Spelling out a default, another label or another way of testing makes no further training."""
    grid = make(
        rows={
            "plain": None,
            "spelt": {"label": "x", "set": {"lre.metric": "hyperbolic"}},
            "oracle": {"test": {"generation.statuses": "oracle"}},
            "flat": {"set": {"lre.metric": "euclidean"}},
        }
    )
    names = folders(grid.runs("phantom", Path("r"), []))
    assert names == ["r/phantom/base/seed0"] * 3 + ["r/phantom/lre.metric=euclidean/seed0"]


def test_settings_of_all_rows_get_folders_of_their_own_but_devices_do_not(make):
    """train.epochs=2 is another run; device=cpu and eval.samples=1 are not."""
    grid = make()
    plain = folders(grid.runs("phantom", Path("r"), []))
    assert folders(grid.runs("phantom", Path("r"), ["device=cpu", "eval.samples=1", "train.workers=0"])) == plain
    assert folders(grid.runs("phantom", Path("r"), ["train.epochs=2"]))[0] == "r/phantom/train.epochs=2/seed0"


def test_a_run_of_the_grid_is_what_its_overrides_would_train(make):
    """The settings of a row equal those of `revtaf train` with the same words."""
    grid = make(seeds=[3], rows={"none": {"set": {"encoder.weights": None, "train.lr": 1e-4}}})
    (run,) = grid.runs("phantom", Path("r"), [])
    typed = [*as_overrides(run.row.train), "seed=3", f"run={run.settings.run}", f"name={run.settings.name}"]
    assert run.settings == load_settings(ROOT / "configs/phantom.yaml", typed)
    assert run.settings.encoder.weights is None and run.settings.train.lr == 1e-4


def test_a_model_is_tested_on_the_set_of_the_command_and_trained_on_its_own():
    """Table 2: trained on phantom, tested on other patients, in the run folder of the plain model."""
    grid = load_grid(ROOT / "configs/ablations/table2.yaml")
    run = grid.runs("phantom_other", Path("r"), [])[0]
    assert run.settings.data.name == "phantom" and run.settings.trained_on is None
    assert run.tested.data.name == "phantom_other" and run.tested.training_data.name == "phantom"
    assert folders([run]) == ["r/phantom/base/seed0"] and run.tested.run == run.settings.run


def test_where_the_tested_set_is_moves_no_training():
    """`data.` is the tested set's; the training set is `trained_on` there, and `data` in its own training."""
    moved = ["data.annotation=x/a.json", "data.max_samples=20", "trained_on.images=y/images", "train.lr=1e-4"]
    grid = load_grid(ROOT / "configs/ablations/table2.yaml")
    plain, run = (grid.runs("phantom_other", Path("r"), given)[0] for given in ([], moved))
    assert run.tested.data.annotation == Path("x/a.json") and run.tested.data.max_samples == 20
    assert run.tested.trained_on == plain.tested.trained_on.model_copy(update={"images": Path("y/images")})
    assert run.settings.data == plain.settings.data.model_copy(update={"images": Path("y/images")})
    assert run.settings.trained_on is None and run.settings.train.lr == run.tested.train.lr == 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {}}, "rows: expected names"),
        ({"titel": "x"}, "unknown key 'titel'; did you mean 'title'"),
        ({"title": 3}, "title: expected a text"),
        ({"views": ["score"]}, "unknown 'score'; did you mean 'scores'"),
        ({"views": "scores"}, "views: expected a list"),
        ({"views": ["curve"]}, "a curve needs `axis`"),
        ({"seeds": [0, 0]}, "seeds: expected different numbers"),
        ({"seeds": [-1]}, "seeds: expected different numbers"),
        ({"reference": "flt"}, "there is no row 'flt'; did you mean 'flat'"),
        ({"compare": [["flat"]]}, "compare: expected pairs"),
        ({"compare": [["flat", "plan"]]}, "there is no row 'plan'; did you mean 'plain'"),
        ({"paper": {"table": "Table 3"}}, "paper: expected {source"),
        ({"rows": {"a b": None}}, "row 'a b': a row's name"),
        ({"rows": {"a": {"sett": {}}}}, "row 'a': unknown key 'sett'; did you mean 'set'"),
        ({"rows": {"a": {"set": "lre.metric=cosine"}}}, "row 'a': set: expected settings"),
        ({"rows": {"a": {"test": {"lre.metric": "cosine"}}}}, "lre.metric is decided in training"),
        ({"rows": {"a": {"take": "medoid"}}}, "row 'a': take: expected one of"),
        ({"rows": {"a": 3}}, "row 'a': expected keys and values"),
        ({"rows": {"a": {"x": "many"}}}, "row 'a': x: expected a number"),
        ({"rows": {"a": {"needs": "knowledge.clipp"}}}, "row 'a': needs: expected one of knowledge.clip"),
        ({"rows": {"a": {"label": "one"}, "b": {"label": "one"}}}, "two rows have the label 'one'"),
        ({"only": "phantom"}, "only: expected a list"),
    ],
)
def test_bad_grids_are_refused_by_file_row_and_key(make, tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        make(**changes)
    assert message in str(error.value) and "grid.yaml" in str(error.value)


def test_a_nested_section_changes_what_it_names_and_nothing_else(make):
    """`set: {fvtaf: {residual: plain}}` is the same row as the dotted key."""
    grid = make(rows={"a": {"set": {"fvtaf": {"residual": "plain"}}}, "b": {"set": {"fvtaf.residual": "plain"}}})
    one, other = grid.runs("phantom", Path("r"), [])
    assert one.settings == other.settings and one.settings.fvtaf.width == 128


def test_two_tests_that_would_share_a_folder_are_refused(make):
    """Beam 1 and beam 5 of one model would overwrite each other; true prompts have a folder of their own."""
    grid = make(rows={"a": {"test": {"generation.beams": 1}}, "b": {"test": {"generation.beams": 5}}})
    with pytest.raises(
        UserError, match="rows 'a' and 'b' test one model with another generation.beams into one folder"
    ):
        grid.runs("phantom", Path("r"), [])
    make(rows={"a": None, "b": {"test": {"generation.statuses": "oracle"}}}).runs("phantom", Path("r"), [])
    one, five = (make(rows={"a": {"test": {"generation.beams": b}}}).runs("phantom", Path("r"), []) for b in (1, 5))
    check_apart("two grids", one)
    with pytest.raises(UserError, match="two grids: rows 'a' and 'a' test one model"):
        check_apart("two grids", [*one, *five])


def test_settings_of_a_row_are_checked_like_typed_ones(make):
    """A misspelt setting names its nearest one, the grid and the row; a data set without a file, the known ones."""
    with pytest.raises(UserError, match="grid.yaml: row 'a': .*did you mean 'lre.metric'"):
        make(rows={"a": {"set": {"lre.metrik": "cosine"}}}).runs("phantom", Path("r"), [])
    with pytest.raises(UserError, match="known: phantom"):
        make().runs("mars", Path("r"), [])
    with pytest.raises(UserError, match="is for data=phantom_other only"):
        make(only=["phantom_other"]).runs("phantom", Path("r"), [])


def test_the_words_of_the_command_line():
    """Keys without a dot are the grid's, with a dot everybody's; anything else is refused."""
    request = GridRequest.parse(
        ["data=iu_xray", "jobs=2", "seeds=0,2", "rows=a,b", "out=x", "train.epochs=1", "device=cpu"]
    )
    assert (request.data, request.jobs, request.seeds, request.rows) == ("iu_xray", 2, (0, 2), ("a", "b"))
    assert request.out == Path("x") and request.overrides == ["train.epochs=1", "device=cpu"]
    assert GridRequest.parse(["stage1=a"]).overrides == ["stage1=a"]
    for wrong, message in (
        ("dta=phantom", "did you mean 'data'"),
        ("run=x", "runs=FOLDER"),
        ("jobs=0", "expected a number"),
        ("jobs=1,2", "expected a number"),
        ("seeds=0,0", "expected a number"),
        ("seeds=\u00b2", "expected a number"),
        ("seeds=a", "expected a number"),
        ("data=", "expected key=value"),
        ("phantom", "expected key=value"),
    ):
        with pytest.raises(UserError, match=message):
            GridRequest.parse([wrong])


MEDFUSE = sorted((ROOT / "configs" / "ablations").glob("medfuse_*.yaml"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_a_grid_refuses_the_data_of_another_system(path):
    """One sentence with both systems, or the sets that it is for, before anything of a row is read."""
    grid = load_grid(path)
    other = "phantom" if path in MEDFUSE else "medfuse_phantom"
    with pytest.raises(UserError) as error:
        grid.runs(other, Path("r"), [])
    said = "is for data=" if grid.only else f"has rows of system=revtaf, data={other} is of system=medfuse"
    assert said in str(error.value) and path.name in str(error.value)


def test_a_grid_says_why_it_is_not_for_a_set():
    """IU X-Ray has no negatives of the same patient."""
    grid = load_grid(ROOT / "configs/ablations/medfuse_table4.yaml")
    with pytest.raises(UserError, match="is not for data=medfuse_iu_xray: a patient of IU X-Ray has one study"):
        grid.runs("medfuse_iu_xray", Path("r"), [])


def test_rows_of_another_system_are_what_its_declaration_names(make):
    """`take` is checked when the file is read; a system that is not installed, too."""
    make(system="medfuse", rows={"a": {"take": "random order"}})
    with pytest.raises(UserError, match="row 'a': take: expected one of entity scores, random order"):
        make(system="medfuse", rows={"a": {"take": "medoid report"}})
    with pytest.raises(UserError, match="grid.yaml: system: there is no 'medfus'; did you mean 'medfuse'"):
        make(system="medfus")
    with pytest.raises(UserError, match="refuse: expected data sets and why"):
        make(refuse=["phantom"])
    with pytest.raises(UserError, match="source: expected paper, supplement, medfuse"):
        make(paper={"source": "papr", "table": "Table 3"})


def test_fewer_numbers_are_one_training_and_a_folder_each(make, tmp_path):
    """`ranking` is free in training and not in a test: ties in one folder would be taken for each other."""
    grid = load_grid(ROOT / "configs/ablations/medfuse_figure3.yaml")
    runs = grid.runs("medfuse_phantom", Path("r"), [], seeds=(0,))
    assert set(folders(runs)) == {"r/medfuse_phantom/base/seed0"}
    assert [run.tested.output.name for run in runs][:2] == ["phantom-test", "phantom-test-96d"]
    assert len({run.tested.output for run in runs}) == len(runs)
    (tmp_path / "data" / "m.yaml").write_text(f"base: {ROOT / 'configs' / 'medfuse_phantom.yaml'}\n")
    ties = {"a": None, "b": {"test": {"ranking.ties": "pessimistic"}}}
    with pytest.raises(UserError, match="test one model with another ranking.ties into one folder"):
        make(system="medfuse", rows=ties).runs("m", Path("r"), [])


def test_the_printed_figures_of_two_tables_stand_in_one():
    from revtaf.ablation.collect import paper_figures

    grid = load_grid(ROOT / "configs/ablations/medfuse_table2.yaml")
    figures = paper_figures(grid, grid.row("model"))["figures"]
    assert (figures["i2t_recall_at_10"], figures["auroc_name"], figures["i2t_median_rank"]) == (0.837, 0.866, 6)
    four = load_grid(ROOT / "configs/ablations/medfuse_table4.yaml")
    printed = [paper_figures(four, row)["figures"]["t2i_recall_at_10"] for row in four.rows]
    assert printed == sorted(printed) and printed[1] == figures["t2i_recall_at_10"]


def test_a_row_of_another_system_starts_from_that_systems_base_and_shares_its_runs(write_grid, tmp_path):
    """The grid of systems: TRRG's rows lie where its own grids put them, REVTAF's where they always are."""
    grid = load_grid(ROOT / "configs/ablations/systems.yaml")
    runs = {run.row.name: run for run in grid.runs("phantom", tmp_path, [], (0,))}
    own = load_grid(ROOT / "configs/ablations/trrg_table2.yaml").runs("trrg_phantom", tmp_path, [], (0,))
    theirs = {run.row.name: run.settings for run in own}
    assert runs["trrg"].settings == theirs["dal"] and runs["trrg_base"].settings == theirs["base"]
    assert runs["revtaf"].settings.system == "revtaf" and runs["revtaf"].settings.run == tmp_path / "phantom/base/seed0"
    assert runs["revtaf"].tested.data.annotation == runs["trrg"].tested.data.annotation


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"system": "trgg"}, "row 'other': system: there is no 'trgg'; did you mean 'trrg'?"),
        ({"system": "trrg", "take": "retrieved report"}, None),
        ({"system": "medfuse", "take": "medoid report"}, "row 'other': take: expected one of"),
        ({"system": ["trrg"]}, "row 'other': system: expected a name"),
    ],
)
def test_the_system_of_a_row_is_checked(write_grid, row, message):
    if message is None:
        assert write_grid(rows={"plain": None, "other": row}, paper=None).row("other").system == "trrg"
        return
    with pytest.raises(UserError, match=re.escape(message)):
        write_grid(rows={"plain": None, "other": row}, paper=None)


def test_a_base_of_another_system_than_the_rows_is_refused(write_grid, tmp_path):
    grid = write_grid(rows={"plain": None, "other": {"system": "trrg"}}, paper=None)
    with pytest.raises(UserError, match="there is no .*trrg_phantom.yaml"):
        grid.runs("phantom", tmp_path, [])
    base = grid.path.parent / "data"
    (base / "trrg_phantom.yaml").write_text((base / "phantom.yaml").read_text())
    with pytest.raises(UserError, match="expected system: trrg, it is of revtaf"):
        grid.runs("phantom", tmp_path, [])


def test_a_test_of_candidates_shares_the_training_and_has_its_own_results(write_grid, tmp_path):
    rows = {"plain": None, "chosen": {"test": {"generation.candidates": 2, "generation.agreement": 0.1}}}
    plain, chosen = write_grid(rows=rows, paper=None).runs("phantom", tmp_path, [], (0,))
    assert plain.settings.run == chosen.settings.run
    assert (plain.tested.output.name, chosen.tested.output.name) == ("phantom-test", "phantom-test-among2_a0.1")


def test_a_grid_without_a_labeler_is_refused(make, tmp_path):
    """Its tables are of clinical scores, too."""
    rows = {"plain": None, "unread": {"label": "unread", "set": {"knowledge.labeler": "none"}}}
    with pytest.raises(UserError, match="row 'unread' has knowledge.labeler=none"):
        make(rows=rows).runs("phantom", tmp_path / "runs", [])


def test_rows_of_two_labelers_are_refused(make, tmp_path):
    """Each would be scored by its own, and the difference of the labelers be taken for one of the models."""
    rows = {"plain": None, "expert": {"label": "expert", "set": {"knowledge.labeler": "chexbert"}}}
    with pytest.raises(UserError, match=r"'expert' has knowledge.labeler=chexbert, row 'plain' rules: two labelers"):
        make(rows=rows).runs("phantom", tmp_path / "runs", [])
