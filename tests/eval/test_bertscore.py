"""BERTScore on a tiny RoBERTa: identities, the bert-score package, and what is refused."""

import json
import re

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from revtaf.errors import UserError
from revtaf.eval import bertscore

TEXTS = [
    "the heart is normal in size.",
    "no pleural effusion or pneumothorax. the lungs are clear.",
    "heart size is normal.",
    "mild edema at both bases, unchanged.",
    "there is a small left pleural effusion.",
    "lungs are clear",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """distilroberta-base in small: six layers, the tokenizer's and the model's usual files."""
    place = tmp_path_factory.mktemp("roberta")
    pieces = ByteLevelBPETokenizer(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train_from_iterator(TEXTS, vocab_size=330, min_frequency=1, special_tokens=special, show_progress=False)
    pieces.post_processor = _roberta_edges(pieces)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=62,
    )
    tokenizer.save_pretrained(place)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=1,
    )
    RobertaForMaskedLM(config).save_pretrained(place)
    return place


def _roberta_edges(pieces):
    from tokenizers.processors import RobertaProcessing

    return RobertaProcessing(("</s>", pieces.token_to_id("</s>")), ("<s>", pieces.token_to_id("<s>")))


def raw(references, hypotheses, folder, **options):
    return bertscore.score(references, hypotheses, folder, baseline=0, **options).per_sample


@pytest.mark.parametrize("idf", [False, True])
def test_agrees_with_the_package(folder, idf, monkeypatch):
    package = pytest.importorskip("bert_score", reason="the package bert-score is not installed")
    references, hypotheses = TEXTS, TEXTS[1:] + ["heart is normal in the size."]
    scorer = package.BERTScorer(
        model_type=str(folder), num_layers=5, idf=idf, idf_sents=references, device="cpu", nthreads=0
    )
    expected = scorer.score(hypotheses, references)[2].numpy()
    assert expected.std() > 0.01  # the model tells the texts apart
    np.testing.assert_allclose(raw(references, hypotheses, folder, idf=idf), expected, atol=2e-6)


@pytest.mark.parametrize("idf", [False, True])
def test_identical_texts_score_one_before_rescaling(folder, idf):
    assert raw(TEXTS, TEXTS, folder, idf=idf) == pytest.approx(np.ones(len(TEXTS)), abs=1e-12)


def test_rescaling_is_linear_and_keeps_one(folder):
    references, hypotheses = TEXTS[:3], [TEXTS[0], *TEXTS[3:5]]
    rescaled = bertscore.score(references, hypotheses, folder, baseline=0.6).per_sample
    assert rescaled == pytest.approx((raw(references, hypotheses, folder) - 0.6) / 0.4)
    assert rescaled[0] == pytest.approx(1)


def test_batch_equals_single_and_order_changes_nothing(folder):
    references, hypotheses = TEXTS * 8, (TEXTS[2:] + TEXTS[:2]) * 8  # more pairs than one batch holds
    together = raw(references, hypotheses, folder)
    alone = np.concatenate([raw(references[i : i + 1], hypotheses[i : i + 1], folder) for i in (0, 4)])
    np.testing.assert_allclose(together[[0, 4]], alone, atol=2e-6)
    np.testing.assert_allclose(raw(references[::-1], hypotheses[::-1], folder), together[::-1], atol=2e-6)


def test_f1_is_symmetric_without_idf(folder):
    shifted = TEXTS[1:] + TEXTS[:1]
    np.testing.assert_allclose(raw(TEXTS, shifted, folder), raw(shifted, TEXTS, folder), atol=2e-6)


def test_empty_text_scores_zero_after_rescaling(folder):
    found = bertscore.score(["clear", "clear", "", " "], ["", "clear", "clear", " "], folder, baseline=0.6).per_sample
    assert found == pytest.approx([0, 1, 0, 0])


def test_runs_of_blanks_count_as_one(folder):
    assert raw(["lungs   are clear"], ["  lungs are  clear "], folder) == pytest.approx([1])


def test_long_text_is_cut_at_the_models_length(folder):
    long = "lungs are clear " * 500
    assert raw([long], [long + "heart"], folder) == pytest.approx([1])


def test_layer_changes_the_score(folder):
    found = [raw(TEXTS[:1], TEXTS[1:2], folder, layer=layer)[0] for layer in (1, 5)]
    assert abs(found[0] - found[1]) > 1e-4


def test_published_baseline_is_not_used_for_another_model(folder):
    with pytest.raises(UserError, match="belongs to distilroberta-base, layer 5"):
        bertscore.score(TEXTS, TEXTS, folder)


def test_absent_layer_is_refused(folder):
    with pytest.raises(UserError, match="has 6 layers, asked for layer 7"):
        raw(TEXTS, TEXTS, folder, layer=7)


def test_model_with_other_tensors_is_refused_not_filled_at_random(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").unlink()
    torch.save({"something.else": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="lacks .* tensors, first|cannot load"):
        raw(TEXTS, TEXTS, tmp_path)


def test_baseline_file(tmp_path):
    path = tmp_path / "model.tsv"
    path.write_text("LAYER,P,R,F\n4,0.8,0.8,0.81\n5,0.84,0.84,0.8473319\n")
    assert bertscore.read_baseline(path) == bertscore.BASELINE
    with pytest.raises(UserError, match=re.escape(f"{path} has no row for layer 6")):
        bertscore.read_baseline(path, 6)
    path.write_text(json.dumps({"F": 1}))
    with pytest.raises(UserError, match="no row|expected the columns"):
        bertscore.read_baseline(path)
    with pytest.raises(UserError, match="no such file"):
        bertscore.read_baseline(tmp_path / "absent.tsv")
