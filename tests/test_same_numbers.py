"""scripts/same_numbers.py: what counts as the same, on outputs made by hand; no run is started."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("same_numbers", ROOT / "scripts" / "same_numbers.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make(folder: Path, *, nested=False, statuses="prompts", loss=None, text=None, row=True, version="0.1.0") -> Path:
    """Outputs of a small run, in two dialects: losses `nested` or not, `statuses` under either name. Step 7's loss,
    report 3's text and a line of the table can be changed or left out."""
    folder.mkdir(parents=True)
    steps = []
    for step in range(1, 21):
        terms = {"lm": 5.30957 / step, "rank": 1.67815 / step}
        terms |= {"lm": loss} if loss is not None and step == 7 else {}
        steps.append({"step": step, "lr": 1e-3 / 3, **({"losses": terms} if nested else terms)})
    steps.append({"step": 20, "epoch": 1, "validation": {"score": 0.25}})
    records = [
        {
            "id": f"s{i}",
            "prediction": f"the heart is normal {i}",
            statuses: {"edema": "negative"},
            "positive": {"edema": i},
        }
        for i in range(8)
    ]
    if text is not None:
        records[3]["prediction"] = text
    report = {
        "run": {"git": folder.name, "split": "test"},
        "signature": f"revtaf|n:8|v{version}",
        "metrics": {"REVTAF": {"nlg": {"BLEU_1": 0.1, "METEOR": None}}},
    }
    table = ["| | BLEU-1 |", "| --- | ---: |", "| REVTAF | 0.100 |", *(["| retrieved report | 0.200 |"] if row else [])]
    contents = {
        "metrics.jsonl": "".join(json.dumps(s) + "\n" for s in steps),
        "predictions.jsonl": "".join(json.dumps(r) + "\n" for r in records),
        "report.json": json.dumps(report),
        "env.json": json.dumps({"git": folder.name, "seed": 0}),
        "table.md": "\n".join([*table, "", f"`revtaf|n:8|v{version}`"]),
        "table.tex": "% revtaf\n",
        "per_sample.csv": "id,BLEU_4\ns0,0.1\n",
        "data.json": json.dumps({"annotation.json": "ab", "images/s0.png": "cd"}),
        "weights.json": json.dumps({"last": {"w": "1", "b": "0"}}),
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def found(script, tmp_path):
    """The differences between the usual outputs and those made with other arguments: {part: [(path, a, b)]}."""

    def between(**other):
        a, b = script.parts(make(tmp_path / "a")), script.parts(make(tmp_path / "b", **other))
        all_parts = {part: script.compare(part, a[part][0], b[part][0]).differences for part in a}
        return {part: differences for part, differences in all_parts.items() if differences}

    return between


def test_equal_outputs_are_equal_whatever_identifies_the_run(found):
    """Another commit and another version of revtaf, the same numbers: no difference."""
    assert found(version="0.2.0") == {}


def test_a_loss_that_differs_in_its_last_bit_is_found(found):
    value = 5.30957 / 7
    other = float(np.nextafter(value, 10))
    assert found(loss=other) == {"losses": [(("step 7", "lm"), value, other)]}


def test_nested_losses_and_renamed_keys_are_the_same(found):
    assert found(nested=True, statuses="statuses") == {}


def test_a_key_whose_new_name_is_there_already_is_no_renamed_one(script):
    """`prompts` beside `statuses` is another thing, and one side lacks it."""
    a = {("s1", "statuses"): "x"}
    differences = script.compare("reports", a, a | {("s1", "prompts"): "y"}).differences
    assert differences == [(("s1", "prompts"), script.ABSENT, "y")]


def test_a_missing_line_of_the_table_is_found_by_its_name(found, script):
    (lost, order) = found(row=False)["tables"]
    assert lost == (("table.md", "retrieved report"), "| retrieved report | 0.200 |", script.ABSENT)
    assert order[0] == ("table.md", "order")


def test_a_missing_report_is_found(script, tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    lines = (b / "predictions.jsonl").read_text().splitlines(keepends=True)
    more = lines[0].replace('"s0"', '"s8"')
    (a / "predictions.jsonl").write_text("".join([*lines, more]))
    differences = script.compare("reports", script.parts(a)["reports"][0], script.parts(b)["reports"][0]).differences
    assert {path[0] for path, _, _ in differences} == {"order", "s8"}


def test_a_changed_report_is_found_and_shown_where_it_changes(found, script):
    text = "the heart is normal 4"
    ((path, a, b),) = found(text=text)["reports"]
    assert (path, a, b) == (("s3", "prediction"), "the heart is normal 3", text)
    told = script.difference(("s3", "prediction"), "word " * 40 + "left", "word " * 40 + "right")
    assert "left" in told and "right" in told and len(told) < 160


def test_numbers_are_compared_by_type_and_sign(script):
    """1 is not 1.0, 0.0 is not -0.0; NaN is NaN."""
    a = {("int",): 1, ("sign",): 0.0, ("nan",): float("nan")}
    b = {("int",): 1.0, ("sign",): -0.0, ("nan",): float("nan")}
    assert [path for path, _, _ in script.compare("losses", a, b).differences] == [("int",), ("sign",)]


def test_known_additions_are_listed_in_after_alone_others_fail(script):
    a, b = {("run", "split"): "test"}, {("run", "split"): "test", ("run", "system"): "revtaf"}
    forth, back = script.compare("scores", a, b), script.compare("scores", b, a)
    assert not forth.differences and forth.additions and back.differences
    assert "only in B: run / system" in script.told("scores", forth, "{} values")
    assert script.compare("scores", a, a | {("metrics", "new"): 1.0}).differences


def test_what_is_ignored_is_told(script):
    found = script.compare("scores", {("run", "git"): "1"}, {("run", "git"): "2"})
    assert not found.differences and "run / git" in script.told("scores", found, "{} values")


def test_weights_may_move_but_not_change(script, tmp_path):
    """A tensor under another name is the same; one that differs in one bit, or lost a name, is not."""
    matrix, zero = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(3, np.float32)
    changed = matrix.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))

    def saved(**tensors):
        save_file(tensors, tmp_path / "model.safetensors")
        return script.flat({"last": script.weights(tmp_path / "model.safetensors")})

    before = saved(w=matrix, b=zero)
    moved = script.compare("weights", before, saved(**{"body.w": matrix, "b": zero}))
    assert moved.differences == [] and moved.moved == 1
    assert [p for p, _, _ in script.compare("weights", before, saved(w=changed, b=zero)).differences] == [("last", "w")]
    assert script.compare("weights", before, saved(w=matrix.T.copy(), b=zero)).differences
    assert script.compare("weights", before, saved(w=matrix)).differences


def test_two_values_of_one_name_are_an_error_not_a_guess(script):
    with pytest.raises(script.BadInput, match="two values named lm"):
        script.leaves({"losses": {"lm": 1.0}, "weights": {"lm": 2.0}}, "metrics.jsonl, step 1")


def test_too_few_steps_or_reports_prove_nothing(script, tmp_path):
    folder = make(tmp_path / "a")
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text.split("\n", 1)[1])
    with pytest.raises(script.BadInput, match="19 steps, expected 20"):
        script.parts(folder)


@pytest.fixture
def repository(script, tmp_path, monkeypatch):
    """A repository of one commit in place of this one."""
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.setattr(script, "ROOT", root)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (root / "file").write_text("content")
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", "-C", str(root), *arguments], check=True, stdin=subprocess.DEVNULL)
    return root


def test_an_unknown_revision_is_one_message_and_exit_code_2(script, repository, capsys):
    assert script.main(["HEAD", "nothing-like-this"]) == 2
    assert "'nothing-like-this' is no commit of" in capsys.readouterr().err


def test_a_checkout_is_gone_after_an_interruption(script, repository, tmp_path):
    place = tmp_path / "checkout"
    with pytest.raises(KeyboardInterrupt), script.checkout(script.resolve("A", "HEAD"), place):
        assert (place / "file").read_text() == "content"
        raise KeyboardInterrupt
    listed = subprocess.run(["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True).stdout
    assert not place.exists() and len(listed.splitlines()) == 1


def test_what_is_kept_is_reused_but_a_commit_beside_itself_is_run(script, repository, tmp_path, monkeypatch):
    """HEAD HEAD runs twice, then once more; the working tree is run each time; another script keeps its own."""
    runs = []

    def run_side(side, place):
        runs.append(side.letter)
        for name in script.RECIPES:
            make(place / "outputs" / name)
        return place / "outputs"

    monkeypatch.setattr(script, "run_side", run_side)
    keep = ["--keep", str(tmp_path / "keep")]
    for revisions, expected in ((["HEAD", "HEAD"], "AB"), (["HEAD", "HEAD"], "B"), (["HEAD", "."], "B")):
        runs.clear()
        assert script.main([*revisions, *keep]) == 0 and "".join(runs) == expected
    assert len(list((tmp_path / "keep").iterdir())) == 1
    (tmp_path / "other.py").write_text("")
    monkeypatch.setattr(script, "__file__", str(tmp_path / "other.py"))
    runs.clear()
    assert script.main(["HEAD", ".", *keep]) == 0 and "".join(runs) == "AB"


def test_a_difference_is_exit_code_1(script, repository, monkeypatch, capsys):
    def run_side(side, place):
        for name in script.RECIPES:
            make(place / "outputs" / name, text="other" if side.letter == "B" and name == "mini" else None)
        return place / "outputs"

    monkeypatch.setattr(script, "run_side", run_side)
    assert script.main(["HEAD", "."]) == 1
    told = capsys.readouterr().out
    assert "s3 / prediction: A 'the heart is normal 3', B 'other'" in told and "NOT the same numbers" in told
