"""`revtaf score`: files in, tables out; strict about what it is given."""

import csv
import json

import numpy as np
import pytest
from languages import CHINESE, LANGUAGES

from revtaf.cli import main
from revtaf.labels import CHEXPERT_CATEGORIES

REFERENCES = ["Cardiomegaly is seen. No edema.", "The lungs are clear.", "Left pleural effusion. Rib fracture."] * 5
PREDICTIONS = ["cardiomegaly. no edema.", "lungs are clear.", "no effusion."] * 5


def write(path, predictions=PREDICTIONS, references=REFERENCES, **columns):
    rows = [
        {"id": f"s{i}", "reference": r, "prediction": p, **{k: v[i] for k, v in columns.items()}}
        for i, (r, p) in enumerate(zip(references, predictions, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def predictions(tmp_path):
    return write(tmp_path / "mine.jsonl")


def score(*arguments) -> int:
    return main(["score", *map(str, arguments), "--java", "/none", "--resamples", "100"])


def fails(capsys, *arguments) -> str:
    assert score(*arguments) == 2
    return capsys.readouterr().err


def test_scores_of_a_file(predictions, tmp_path, capsys):
    """Table, signature and differences on the terminal; numbers, page, tables and one line a sample on disk."""
    train = tmp_path / "annotation.json"
    study = {"id": "t", "image_path": ["t.png"], "report": "Lungs clear. Heart normal."}
    train.write_text(json.dumps({"train": [study]}))
    other = write(tmp_path / "other.jsonl", [r.lower() for r in REFERENCES])
    assert score(predictions, "--train", train, "--against", other, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    for text in ("REVTAF", "other", "medoid report", "95 % interval", "REVTAF - other: BLEU_4 -", "revtaf|n:15|"):
        assert text in told, text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["metrics"]["other"]["nlg"]["BLEU_4"] > report["metrics"]["REVTAF"]["nlg"]["BLEU_4"]
    assert {"low", "high", "value", "note"} == set(report["intervals"]["REVTAF"]["BLEU_4"])
    lines = list(csv.DictReader((tmp_path / "out" / "per_sample.csv").open()))
    assert [line["id"] for line in lines] == [f"s{i}" for i in range(15)]
    assert np.mean([float(line["ROUGE_L"]) for line in lines]) == pytest.approx(
        report["metrics"]["REVTAF"]["nlg"]["ROUGE_L"], abs=1e-5
    )
    assert "cardiomegaly" not in (tmp_path / "out" / "per_sample.csv").read_text()  # no report text
    assert "toprule" in (tmp_path / "out" / "table.tex").read_text()
    assert "Not a medical device" in (tmp_path / "out" / "report.html").read_text()


def test_the_order_of_lines_changes_no_number(predictions, tmp_path):
    lines = predictions.read_text().splitlines(keepends=True)
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(lines[::-1]))
    assert score(predictions, "--out", tmp_path / "a") == score(turned, "--out", tmp_path / "b") == 0
    one, two = (json.loads((tmp_path / n / "report.json").read_text())["metrics"]["REVTAF"] for n in "ab")
    assert one["nlg"] == pytest.approx(two["nlg"], nan_ok=True) and one["clinical"] == two["clinical"]


def test_all_protocols_side_by_side(predictions, capsys):
    """One line each with its signature; tokenisation moves the same predictions."""
    assert score(predictions, "--protocol", "all") == 0
    told = capsys.readouterr().out
    values = [line.split()[1] for line in told.splitlines() if line.split()[:1] in (["revtaf"], ["raw"], ["clean"])]
    assert len(set(values)) > 1 and "raw|n:15|" in told


def test_statuses_from_a_file(predictions, tmp_path, capsys):
    """Labels made elsewhere: CheXpert's convention, named as their source."""
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *(c.title() for c in CHEXPERT_CATEGORIES)])
        for i in range(15):
            writer.writerow([f"s{i}", *(["1.0"] + [""] * 13)])
    options = ("--labeler", "file", "--labels", path, "--reference-labels", path)
    assert score(predictions, *options, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["metrics"]["REVTAF"]["clinical"]["example_f1"] == 1 and "ce:file labels.csv" in report["signature"]
    assert "needs statuses of the references" in fails(capsys, predictions, "--labeler", "file", "--labels", path)
    assert "--labeler file" in fails(capsys, predictions, "--labels", path)


def test_two_labelers_are_never_mixed(predictions, tmp_path):
    """Statuses from a file are of this system alone: other rows have no clinical scores, and a note says so."""
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({"id": f"s{i}", "labels": [1] + [0] * 13}) + "\n" for i in range(15)))
    other = write(tmp_path / "other.jsonl", [r.lower() for r in REFERENCES])
    options = ("--labeler", "file", "--labels", path, "--reference-labels", path, "--codes", "ours", "--against", other)
    assert score(predictions, *options, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["metrics"]["other"]["clinical"] == {} and report["metrics"]["other"]["nlg"]["BLEU_4"] > 0
    assert any("statuses of this system alone" in note for note in report["notes"])


def test_cider_weighs_by_training_reports_where_asked(predictions, tmp_path, capsys):
    """The document frequencies are then fixed, and the signature says so."""
    train = tmp_path / "annotation.json"
    studies = [{"id": f"t{i}", "image_path": ["t.png"], "report": r} for i, r in enumerate(REFERENCES * 4)]
    train.write_text(json.dumps({"train": studies}))
    values = []
    for idf in ("references", "train"):
        assert score(predictions, "--train", train, "--cider-idf", idf, "--out", tmp_path / idf) == 0
        report = json.loads((tmp_path / idf / "report.json").read_text())
        values.append(report["metrics"]["REVTAF"]["nlg"]["CIDEr"])
        assert ("cider:train-idf" in report["signature"]) == (idf == "train")
    assert values[0] != values[1]
    assert "--cider-idf train needs --train" in fails(capsys, predictions, "--cider-idf", "train")


def test_language_models_are_rows_on_the_samples_that_they_answered(predictions, tmp_path, capsys):
    """Cleaned as the supplement says, with their time; the system is scored on the same samples."""
    path = tmp_path / "gpt.json"
    answers = [{"id": f"s{i}", "text": "FINDINGS: 1. The lungs are clear.", "seconds": 2.0} for i in range(6)]
    path.write_text(json.dumps(answers))
    assert score(predictions, "--llm", path, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "|n:6|" in report["signature"] and "gpt" in report["comparisons"]
    assert any("2.0 s a sample" in note for note in report["notes"])
    path.write_text(json.dumps([{"id": "unknown", "text": "x"}]))
    assert "no reference for 1 answered ids" in fails(capsys, predictions, "--llm", path)


def test_exports(predictions, tmp_path):
    assert score(predictions, "--export", "rexrank", "cxr_report_metric", "--out", tmp_path / "out") == 0
    assert len(json.loads((tmp_path / "out" / "rexrank.json").read_text())) == 15
    assert len(list((tmp_path / "out" / "cxr_report_metric").glob("*.csv"))) == 2


def test_refusals_name_the_fix(predictions, tmp_path, capsys):
    """Processed texts, other ids, an unknown protocol, a missing checkpoint: one message, nothing written."""
    done = write(tmp_path / "done.jsonl", ["lungs are clear . no effusion . "] * 15)
    assert "already post-processed" in fails(capsys, done)
    short = tmp_path / "short.jsonl"
    short.write_text("".join(predictions.read_text().splitlines(keepends=True)[:-1]))
    assert "1 ids of" in fails(capsys, predictions, "--against", short)
    assert "--protocol: expected revtaf" in fails(capsys, predictions, "--protocol", "coco")
    assert "--chexbert: no such file" in fails(capsys, predictions, "--labeler", "chexbert")
    assert "different names" in fails(capsys, predictions, "--against", predictions, "--name", "mine")
    assert not list(tmp_path.glob("*-score"))


def test_odd_inputs_come_through(predictions, tmp_path, capsys):
    """A run-away decoder, line breaks, separators, one sample, only empty predictions; negative counts do not."""
    odd = ["lungs clear " * 25_000, "no ||| effusion\nnone\x07", "", *PREDICTIONS[3:]]
    assert score(write(tmp_path / "odd.jsonl", odd), "--out", tmp_path / "odd") == 0
    told = capsys.readouterr().out
    assert "have more than 1000 words" in told and "are empty" in told
    for name, texts, references in (("one", PREDICTIONS[:1], REFERENCES[:1]), ("none", [""] * 3, REFERENCES[:3])):
        assert score(write(tmp_path / f"{name}.jsonl", texts, references), "--out", tmp_path / name) == 0
    assert "no reference holds a word" in fails(capsys, write(tmp_path / "blank.jsonl", ["x"], [" "]))
    for wrong in (("--resamples", "-1"), ("--seed", "-1")):
        with pytest.raises(SystemExit):
            main(["score", str(predictions), *wrong])


def test_spaced_texts_are_taken_where_a_second_pass_changes_nothing(tmp_path, capsys):
    """R2Gen writes ' . ' itself: refused under `revtaf`, which would double the blanks, not under `r2gen`."""
    spaced = write(tmp_path / "r2gen.jsonl", ["the lungs are clear . no effusion ."] * 15)
    assert "already post-processed" in fails(capsys, spaced)
    assert score(spaced, "--protocol", "r2gen", "--out", tmp_path / "out") == 0
    assert score(spaced, "--protocol", "clean", "--out", tmp_path / "out") == 0


def test_names_tell_rows_and_folders_apart(predictions, tmp_path, capsys, monkeypatch):
    """No system takes the name of a row without an image; two files never write into one folder."""
    assert "choose another name" in fails(capsys, predictions, "--name", "medoid report")
    for version in ("v1", "v2"):
        (tmp_path / "deep" / version).mkdir(parents=True)
        write(tmp_path / "deep" / version / "predictions.jsonl", [version] * 15)
        assert score(write(tmp_path / f"model.{version}.jsonl")) == 0
        assert (tmp_path / f"model.{version}-score" / "report.json").exists()
    monkeypatch.chdir(tmp_path / "deep" / "v1")
    assert score(predictions, "--against", "predictions.jsonl", "../v2/predictions.jsonl", "--out", tmp_path / "o") == 0
    assert {"v1", "v2"} < set(json.loads((tmp_path / "o" / "report.json").read_text())["metrics"])
    assert "leave out --against" in fails(capsys, predictions, "--protocol", "all", "--against", "predictions.jsonl")


def test_other_systems_are_taken_on_the_samples_that_a_language_model_answered(predictions, tmp_path):
    path = tmp_path / "gpt.json"
    path.write_text(json.dumps({f"s{i}": "The lungs are clear." for i in range(6)}))
    other = write(tmp_path / "other.jsonl", [""] * 15)
    assert score(predictions, "--llm", path, "--against", other, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "|n:6|" in report["signature"] and any(note.startswith("other: 15 of 15") for note in report["notes"])


def test_the_paper_rows_are_shown_as_paper(predictions, tmp_path, capsys):
    assert score(predictions, "--published", "mimic_cxr", "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "PromptMRG (paper)" in told and "REVTAF (paper)" in told


def test_what_can_never_match_is_said(tmp_path, capsys):
    """Capitals and punctuation under the paper's protocol: the share, the way out, and a warning where two systems
    differ in it alone; nothing of it under a protocol that reads both sides alike."""
    marked, plain = write(tmp_path / "marked.jsonl", REFERENCES), write(tmp_path / "plain.jsonl")
    assert score(marked, "--against", plain, "--out", tmp_path / "out") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "REVTAF: 26.3% of its tokens can never match" in told and "--protocol clean" in told
    assert "REVTAF is written with capitals and punctuation, plain is not" in told
    assert "plain: 0" not in told  # a share of its own
    assert score(marked, "--against", plain, "--out", tmp_path / "clean", "--protocol", "clean") == 0
    assert "never match" not in capsys.readouterr().out


@pytest.mark.parametrize("references", [REFERENCES[:1], ["The lungs are clear."] * 3])
def test_cider_of_one_reference_is_not_a_number(tmp_path, capsys, references):
    """One sample, or one reference for all: n/a with the reason, not 0."""
    path = write(tmp_path / "one.jsonl", [r.lower() for r in references], references)
    assert score(path, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "CIDEr is n/a: it needs two different references" in told and "nan" not in told
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["metrics"]["REVTAF"]["nlg"]["CIDEr"] is None and "CIDEr" not in report["intervals"]["REVTAF"]


@pytest.mark.parametrize("said", ["None.", "nan", "See Imp.", "___", "same", "n.a."])
def test_texts_that_say_nothing_are_counted_and_no_statement(tmp_path, capsys, said):
    """Predictions are never "no finding"; references are told; where no reference says anything, there is no score."""
    silent = write(tmp_path / "silent.jsonl", [said] * 15)
    assert score(silent, "--against", write(tmp_path / "mine.jsonl"), "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "15 of 15 predictions say nothing" in told and '"No finding" is said in 0.0% of the texts' in told
    assert json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]["REVTAF"]["clinical"]["micro_f1"] == 0
    assert score(write(tmp_path / "r.jsonl", references=[said, *REFERENCES[1:]]), "--out", tmp_path / "r") == 0
    assert "1 of 15 references say nothing" in capsys.readouterr().out
    nothing = write(tmp_path / "n.jsonl", references=[said] * 15)
    assert "no reference holds a word that says anything" in fails(capsys, nothing)


def test_notes_are_said_under_every_protocol_and_of_language_models(predictions, tmp_path, capsys):
    one = write(tmp_path / "one.jsonl", REFERENCES[:1], REFERENCES[:1])
    assert score(one, "--protocol", "all") == 0
    told = capsys.readouterr().out
    assert "can never match" in told and told.count("CIDEr is n/a") == 1
    path = tmp_path / "gpt.json"
    path.write_text(json.dumps({f"s{i}": ("None.", "Clear lungs.")[i % 2] for i in range(6)}))
    assert score(predictions, "--llm", path, "--out", tmp_path / "out") == 0
    assert "gpt: 3 of 6 predictions say nothing" in capsys.readouterr().out


@pytest.mark.parametrize("language", ["German", "Spanish", "French", "Chinese"])
def test_reports_that_are_not_english(language, tmp_path, capsys):
    """Refused to the rules with share, example and ways out; without a labeler, under `unicode`, a text scores 1
    against itself, and nothing clinical is said."""
    references = LANGUAGES[language]
    path = write(tmp_path / "mine.jsonl", references, references)
    told = fails(capsys, path)
    assert "60%" in told and "--labeler none --protocol unicode" in told
    assert any(reference[:20] in told for reference in references)
    out = tmp_path / "out"
    assert score(path, "--labeler", "none", "--protocol", "unicode", "--out", out) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    row = report["metrics"]["REVTAF"]
    assert row["clinical"] == {} and row["nlg"].pop("CIDEr") == pytest.approx(10)
    assert all(value is None or value == pytest.approx(1) for value in row["nlg"].values())
    assert "n/a" in capsys.readouterr().out


def test_a_protocol_made_for_english_says_so_of_other_texts(tmp_path, capsys):
    path = write(tmp_path / "mine.jsonl", CHINESE, CHINESE)
    assert score(path, "--labeler", "none") == 0
    assert "--protocol unicode" in capsys.readouterr().out
    assert score(path, "--labeler", "none", "--protocol", "all") == 0
    assert "unicode|" in capsys.readouterr().out


def test_a_system_that_is_named_by_a_second_option_is_not_forgotten(predictions, tmp_path):
    others = [write(tmp_path / f"{name}.jsonl", [name] * 15) for name in ("one", "two")]
    given = [part for other in others for part in ("--against", other)]
    assert score(predictions, *given, "--out", tmp_path / "out") == 0
    assert {"one", "two"} < set(json.loads((tmp_path / "out" / "report.json").read_text())["metrics"])


def test_what_all_protocols_would_not_show_is_refused(predictions, tmp_path, capsys):
    """Advanced metrics are computed under one protocol."""
    told = fails(capsys, predictions, "--protocol", "all", "--bertscore-idf", "--subscores", tmp_path / "s.csv")
    assert "--bertscore-idf" in told and "--subscores" in told
