"""The public face: which scores come from which sources, what is n/a and why, and how fast a missing file is named."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from revtaf.errors import UserError
from revtaf.eval import radgraph
from revtaf.eval.advanced import NAMES, AdvancedSources, check, metrics, radcliq
from revtaf.eval.radcliq import sentence_bleu2

IDS = ["s1", "s2", "s3"]
REFERENCES = ["the heart is normal.", "small left effusion.", "no edema."]
HYPOTHESES = ["the heart is enlarged.", "small left effusion.", "clear."]
ENTITIES = [
    {"entities": {"1": {"tokens": word, "label": "OBS-DP", "start_ix": 0, "end_ix": 0, "relations": []}}}
    for word in ("heart", "effusion", "edema")
]


class Vectors:
    """Stands for CheXbert: counts of letters, in its interface."""

    def embed(self, reports, progress=False):
        return np.array([[r.count(c) for c in "aeiou"] for r in reports], dtype=np.float32)


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(dict(zip(IDS, ENTITIES, strict=True))))
    return path


def write_subscores(path, rows, header="id,radgraph_combined,bertscore,semb,bleu2"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


SUBSCORES = ["s2,0.4,0.5,0.6,0.2", "s1,0.1,0.2,0.3,0.1", "s3,0,-0.5,0.1,0"]


def test_nothing_configured_gives_reasons_only():
    found, notes = metrics(REFERENCES, HYPOTHESES, IDS, AdvancedSources())
    assert found == {}
    assert [note.split(":")[0] for note in notes] == ["SembScore", "RadGraph F1", "BERTScore", "RadCliQ"]
    assert all("n/a; it needs" in note for note in notes)


def test_subscores_by_id_give_radcliq_of_the_means(tmp_path):
    """Rows in another order than the samples; RadCliQ is linear, so that its mean is RadCliQ of the means."""
    path = write_subscores(tmp_path / "sub.csv", SUBSCORES)
    found, notes = metrics(REFERENCES, HYPOTHESES, IDS, AdvancedSources(subscores=path))
    assert found["BERTScore"].per_sample == pytest.approx([0.2, 0.5, -0.5])
    means = 0.5 / 3, 0.2 / 3, 1 / 3, 0.1
    for version in ("v0", "v1"):
        assert found[f"RadCliQ_{version}"].corpus == pytest.approx(radcliq(*means, version))
    assert found["1/RadCliQ_v1"].corpus == pytest.approx(1 / radcliq(*means))
    assert list(found) == [n for n in NAMES if n in found]
    assert any("combined score only" in note for note in notes)


def test_sources_can_be_mixed(tmp_path, annotations):
    """Annotations from files, vectors from CheXbert, BERTScore from elsewhere, BLEU-2 computed here."""
    path = write_subscores(tmp_path / "sub.csv", ["s1,.1", "s2,1", "s3,.2"], "id,bertscore")
    sources = AdvancedSources(
        radgraph_references=annotations, radgraph_predictions=annotations, chexbert=Vectors(), subscores=path
    )
    found, notes = metrics(REFERENCES, HYPOTHESES, IDS, sources)
    assert tuple(found) == NAMES
    assert notes == []
    assert found["RadGraph_simple"].corpus == 1 and found["RadGraph_combined"].corpus == 0.5
    assert found["SembScore"].per_sample[1] == pytest.approx(1)
    parts = 0.5, [0.1, 1, 0.2], found["SembScore"].per_sample, sentence_bleu2(REFERENCES, HYPOTHESES)
    assert found["RadCliQ_v0"].per_sample == pytest.approx(radcliq(*parts, "v0"))


def test_order_of_samples_changes_nothing(tmp_path, annotations):
    path = write_subscores(tmp_path / "sub.csv", SUBSCORES)
    sources = AdvancedSources(subscores=path)
    there, _ = metrics(REFERENCES, HYPOTHESES, IDS, sources)
    back, _ = metrics(REFERENCES[::-1], HYPOTHESES[::-1], IDS[::-1], sources)
    assert {n: m.corpus for n, m in there.items()} == pytest.approx({n: m.corpus for n, m in back.items()})


def test_annotations_of_another_model_are_noted(annotations):
    annotations.write_text(annotations.read_text().replace("OBS-DP", "Observation::definitely present"))
    sources = AdvancedSources(radgraph_references=annotations, radgraph_predictions=annotations)
    _, notes = metrics(REFERENCES, HYPOTHESES, IDS, sources)
    assert any("'Observation::definitely present', which the original checkpoint does not have" in n for n in notes)


def test_model_annotates_the_side_without_a_file(annotations, tmp_path, monkeypatch):
    asked = []

    def annotate(texts, folder, progress):
        asked.extend(texts)
        return [ENTITIES[2]] * len(texts)

    monkeypatch.setattr(radgraph, "check_model", lambda folder: None)
    monkeypatch.setattr(radgraph, "annotate", annotate)
    sources = AdvancedSources(radgraph_references=annotations, radgraph_model=tmp_path)
    found, _ = metrics(REFERENCES, HYPOTHESES, IDS, sources)
    assert asked == HYPOTHESES
    assert found["RadGraph_simple"].per_sample == pytest.approx([0, 0, 1])


@pytest.mark.parametrize(
    "rows, header, message",
    [
        (["s1,.1", "s2,.2"], "id,bertscore", "1 of 3 scored samples are missing: s3"),
        (["s1,.1", "s1,.2"], "id,bertscore", "line 3: the id s1 appears twice"),
        (["s1,.1", "s2,x", "s3,.1"], "id,bertscore", "line 3: column 'bertscore': 'x' is no score"),
        (["s1,.1", "s2,56.5", "s3,.1"], "id,semb", "'56.5' is no score; expected a fraction, at most 1"),
        (["s1,.1", "s2,nan", "s3,.1"], "id,semb", "'nan' is no score"),
        (["s1,.1", "s2,.1", "s3,.1"], "id,other", "has none of the columns radgraph_combined, bertscore"),
        (["s1,.1", "s2,.1", "s3,.1"], "name,semb", "line 2: the column 'id' is missing"),
    ],
)
def test_bad_subscores_are_named(tmp_path, rows, header, message):
    path = write_subscores(tmp_path / "sub.csv", rows, header)
    with pytest.raises(UserError, match=message) as error:
        metrics(REFERENCES, HYPOTHESES, IDS, AdvancedSources(subscores=path))
    assert str(path) in str(error.value)


def test_a_perfect_subscore_that_was_rounded_up_is_one(tmp_path):
    """float32 gives 1.0000001 for two equal texts; a thousandth more is another scale."""
    path = write_subscores(tmp_path / "sub.csv", ["s1,1.0000001192092896", "s2,1.00005", "s3,-.2"], "id,semb")
    found, _ = metrics(REFERENCES, HYPOTHESES, IDS, AdvancedSources(subscores=path))
    assert found["SembScore"].per_sample.tolist() == [1.0, 1.0, -0.2]
    write_subscores(path, ["s1,1.001", "s2,1", "s3,1"], "id,semb")
    with pytest.raises(UserError, match="'1.001' is no score; expected a fraction, at most 1"):
        metrics(REFERENCES, HYPOTHESES, IDS, AdvancedSources(subscores=path))


def test_two_sources_for_one_score_are_refused(tmp_path, annotations):
    path = write_subscores(tmp_path / "sub.csv", SUBSCORES)
    twice = AdvancedSources(subscores=path, chexbert=Vectors())
    with pytest.raises(UserError, match="holds semb, and another source for it is configured"):
        metrics(REFERENCES, HYPOTHESES, IDS, twice)
    with pytest.raises(UserError, match="only .*annotations.json is given"):
        check(AdvancedSources(radgraph_predictions=annotations))
    with pytest.raises(UserError, match="both a CheXbert model and vectors"):
        check(AdvancedSources(chexbert=Vectors(), embeddings=path))


def test_ids_must_pair_up_and_be_distinct():
    with pytest.raises(ValueError, match="expected texts and ids that pair up"):
        metrics(REFERENCES, HYPOTHESES, ["s1", "s1", "s2"], AdvancedSources())


_MISSING = {
    "radgraph_model": "no such folder: {path}",
    "bertscore_model": "no such folder: {path}",
    "embeddings": "no such file: {path}",
    "subscores": "no such file: {path}",
    "radgraph_references": "no such file: {path}",
}


def test_missing_models_are_named_within_a_second_without_heavy_imports(tmp_path):
    """In a fresh process, one source after the other: the path is named, torch and transformers are never loaded."""
    path = tmp_path / "absent"
    program = f"""
import json, sys, time
from pathlib import Path
from revtaf.errors import UserError
from revtaf.eval.advanced import AdvancedSources, metrics
said = {{}}
for name in {list(_MISSING)!r}:
    start = time.perf_counter()
    try:
        metrics(["a"], ["b"], ["1"], AdvancedSources(**{{name: Path({str(path)!r})}}))
    except UserError as error:
        said[name] = [str(error), time.perf_counter() - start]
heavy = [m for m in ("torch", "transformers", "radgraph", "bert_score", "huggingface_hub") if m in sys.modules]
print(json.dumps([said, heavy]))
"""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    said, heavy = json.loads(done.stdout)
    assert heavy == []
    for name, message in _MISSING.items():
        text, seconds = said[name]
        assert message.format(path=path) in text
        assert seconds < 1
    assert time.perf_counter() - start < 20  # the start of Python on a loaded machine


def test_half_a_model_folder_names_the_missing_file(tmp_path):
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 6}')
    with pytest.raises(UserError, match="missing file .*model.safetensors"):
        check(AdvancedSources(bertscore_model=tmp_path))
    with pytest.raises(UserError, match="missing file .*weights.th"):
        check(AdvancedSources(radgraph_model=tmp_path))
