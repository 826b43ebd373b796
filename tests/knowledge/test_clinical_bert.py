"""Bio_ClinicalBERT from local files: [CLS] as transformers computes it, strictly read, whatever the batch."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from bert_files import small_vocabulary, write_bert_folder
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertModel

from revtaf.errors import UserError
from revtaf.knowledge.clinical_bert import ClinicalBertEncoder

TEXTS = [
    "No effusion .",
    "Mild edema in both lungs, without consolidation; the heart is enlarged and the aorta tortuous.",
    "",
    "left_hilar opacity",
    "Pneumothorax",
    "The lungs are clear. " * 12,
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Old names, as the hosted files have them."""
    return write_bert_folder(tmp_path_factory.mktemp("bert") / "Bio_ClinicalBERT")


@pytest.fixture(scope="module")
def encoder(made):
    return ClinicalBertEncoder.load(made, "cpu")


@pytest.fixture
def folder(made, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / "bert")


def pieces(text, vocabulary):
    """WordPiece by hand: lower case, punctuation apart, the longest known piece first."""
    spaced = "".join(f" {c} " if not (c.isalnum() or c.isspace()) else c for c in text.lower())
    ids = []
    for word in spaced.split():
        start, found = 0, []
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocabulary:
                    found.append(vocabulary.index(piece))
                    break
            else:
                found, end = [vocabulary.index("[UNK]")], len(word)
            start = end
        ids += found
    return ids


@pytest.mark.parametrize("separator", [True, False])
def test_cls_is_what_transformers_computes(tmp_path, separator):
    """One text at a time through transformers' own loader and our own pieces gives the same vectors."""
    folder = write_bert_folder(tmp_path / "bert", width=128, heads=4, old_names=False)
    vocabulary = small_vocabulary()
    model = BertModel.from_pretrained(folder, local_files_only=True).eval()
    encoder = ClinicalBertEncoder.load(folder, "cpu")
    found = encoder.encode(TEXTS, separator=separator)
    assert found.shape == (len(TEXTS), 128) and found.dtype == np.float32 and encoder.width == 128
    for text, vector in zip(TEXTS, found, strict=True):
        ids = [vocabulary.index("[CLS]"), *pieces(text, vocabulary)][: 127 if separator else 128]
        ids += [vocabulary.index("[SEP]")] * separator
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0, 0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_old_and_new_files_of_one_model_agree(tmp_path):
    """gamma/beta with `bert.` in a torch file, or today's names in safetensors, or the bare encoder: equal vectors."""
    old = write_bert_folder(tmp_path / "old", old_names=True)
    new = write_bert_folder(tmp_path / "new", old_names=False)
    bare = shutil.copytree(new, tmp_path / "bare")
    state = {k.removeprefix("bert."): v for k, v in load_file(new / "model.safetensors").items() if k[:4] == "bert"}
    save_file(state | {"embeddings.position_ids": torch.arange(512)[None]}, bare / "model.safetensors")
    vectors = [ClinicalBertEncoder.load(folder).encode(TEXTS) for folder in (old, new, bare)]
    assert np.array_equal(vectors[0], vectors[1]) and np.array_equal(vectors[0], vectors[2])


def test_a_vector_does_not_depend_on_the_batch(encoder, monkeypatch):
    """One by one, all together or in another order; and padding is masked although [PAD] is an ordinary id."""
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], together, atol=1e-5)
    monkeypatch.setattr("revtaf.pretrained.bert._TOKENS_PER_BATCH", 40)  # several batches
    np.testing.assert_allclose(encoder.encode(TEXTS), together, atol=1e-5)
    assert np.abs(together[0] - together[4]).max() > 1e-2


def test_equal_texts_are_encoded_once(encoder, monkeypatch):
    seen = []
    forward = encoder.bert._forward
    monkeypatch.setattr(encoder.bert, "_forward", lambda ids: seen.extend(ids) or forward(ids))
    vectors = encoder.encode(["no edema", "clear", "no edema", "no edema"])
    assert len(seen) == 2
    assert np.array_equal(vectors[0], vectors[2]) and not np.array_equal(vectors[0], vectors[1])


def test_case_does_not_matter_although_the_vocabulary_is_cased(tmp_path):
    """A cased word in the vocabulary is never reached."""
    folder = write_bert_folder(tmp_path / "bert", vocabulary=[*small_vocabulary(), "Heart", "Edema"])
    vectors = ClinicalBertEncoder.load(folder).encode(["Heart EDEMA", "heart edema"])
    assert np.array_equal(vectors[0], vectors[1])


def test_the_length_limit_counts_the_special_tokens(encoder):
    """[CLS] and [SEP] are kept, the text between them is cut; without [SEP] one more token of it fits."""
    long = "heart " * 200
    with_end, without = (encoder.bert.tokens([long], separator, max_length=128)[0] for separator in (True, False))
    vocabulary = small_vocabulary()
    assert len(with_end) == len(without) == 128
    assert with_end[-1] == vocabulary.index("[SEP]") and without[-1] == vocabulary.index("heart")
    assert np.array_equal(encoder.encode([long]), encoder.encode(["heart " * 126]))
    with pytest.raises(ValueError, match="max_length"):
        encoder.encode(["clear"], max_length=513)


def test_nothing_that_trains_can_own_it(encoder):
    """As an attribute of a module it adds no parameter, and `train()` does not switch its dropout on."""
    module = nn.Linear(1, 1)
    module.texts = encoder
    before = encoder.encode(TEXTS)
    module.train()
    assert len(module.state_dict()) == 2
    assert np.array_equal(encoder.encode(TEXTS), before)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # nor does the precision around it matter
        assert np.array_equal(encoder.encode(TEXTS), before)


def test_no_text_gives_no_row(encoder):
    assert encoder.encode([]).shape == (0, 64)
    with pytest.raises(TypeError, match="sequence"):
        encoder.encode("clear")


def test_the_name_tells_the_weights(made, folder):
    """Other weights, another name; the same file elsewhere, the same name."""
    name = ClinicalBertEncoder.load(made).name
    assert name.startswith("bio_clinicalbert-") and len(name) == len("bio_clinicalbert-") + 8
    assert ClinicalBertEncoder.load(folder).name == name
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    state["bert.embeddings.word_embeddings.weight"][5] += 1
    torch.save(state, folder / "pytorch_model.bin")
    assert ClinicalBertEncoder.load(folder).name != name


def edit(change):
    def spoil(folder):
        state = torch.load(folder / "pytorch_model.bin", weights_only=True)
        change(state)
        torch.save(state, folder / "pytorch_model.bin")

    return spoil


def edit_config(**changes):
    def spoil(folder):
        content = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(content))

    return spoil


QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (edit(lambda s: s.pop(QUERY)), rf"pytorch_model.bin does not fit .*lacks 1 keys, first \['{QUERY}'\]"),
        (edit(lambda s: s.update(extra=torch.zeros(1))), r"1 unknown keys, first \['extra'\]"),
        (edit(lambda s: s.update({QUERY: torch.zeros(2, 2)})), rf"{QUERY} is \(2, 2\), expected \(64, 64\)"),
        (edit(lambda s: s.update({f"module.{QUERY}": s[QUERY]})), "twice"),
        (edit_config(num_hidden_layers=3), "lacks 16 keys"),
        (edit_config(num_hidden_layers=1), "16 unknown keys"),
        (edit_config(hidden_size=None), "config.json: 'hidden_size' is None"),
        (edit_config(num_attention_heads=3), "not a multiple"),
        (edit_config(model_type="roberta"), "describes a roberta"),
        (lambda f: (f / "config.json").unlink(), "config.json not found"),
        (lambda f: (f / "vocab.txt").unlink(), "no such file: .*vocab.txt"),
        (
            lambda f: (f / "vocab.txt").write_text("\n".join(small_vocabulary()[:9])),
            "has 9 lines, the word embeddings have",
        ),
        (lambda f: (f / "vocab.txt").write_text("heart\n"), "vocab.txt lacks the tokens"),
        (lambda f: (f / "vocab.txt").write_text("heart\n" * len(small_vocabulary())), "lacks the tokens"),
        (lambda f: (f / "pytorch_model.bin").unlink(), "holds neither model.safetensors nor pytorch_model.bin"),
        (lambda f: (f / "pytorch_model.bin").write_text("version https://git-lfs"), "not a file of plain tensors"),
        (lambda f: os.truncate(f / "pytorch_model.bin", 20_000), "cannot read .*pytorch_model.bin"),
        (lambda f: (f / "model.safetensors").write_text("{}"), "cannot read .*model.safetensors"),
        (lambda f: torch.save([torch.zeros(1)], f / "pytorch_model.bin"), "does not hold named tensors"),
    ],
)
def test_files_that_do_not_fit_are_named(folder, spoil, says):
    """One message with the file and the key, size or line count at fault."""
    spoil(folder)
    with pytest.raises(UserError, match=says) as caught:
        ClinicalBertEncoder.load(folder)
    assert "\n" not in str(caught.value)
