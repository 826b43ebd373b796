"""CheXbert behind the labeler interface: the class order, the strict reading, the text that reaches it."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from bert_files import chexbert_state, small_vocabulary, write_chexbert
from transformers import BertConfig, BertModel, BertTokenizer

from revtaf.errors import UserError
from revtaf.knowledge.chexbert import CheXbertLabeler
from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES, NO_FINDING, STATUSES

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("REVTAF_SHARED_DATA", ROOT.parent / "shared" / "data"))

# Invented.
REPORTS = [
    "The lungs are clear. No effusion or pneumothorax.",
    "Mild cardiomegaly.\nLow lung volumes; the aorta is tortuous.",
    "",
    "Left lower lobe opacity, may be pneumonia or atelectasis.",
    "Right pleural effusion. Left lung clear.",
    "The lungs are clear. No effusion or pneumothorax.",
]
# CheXbert's published order of heads and of classes.
HEADS = (
    "Enlarged Cardiomediastinum, Cardiomegaly, Lung Opacity, Lung Lesion, Edema, Consolidation, Pneumonia, "
    "Atelectasis, Pneumothorax, Pleural Effusion, Pleural Other, Fracture, Support Devices, No Finding"
).lower()
CLASSES = ("blank", "positive", "negative", "uncertain")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(small_vocabulary()) + "\n")
    return path


@pytest.fixture(scope="module")
def state():
    """Two attention heads, so that their number matters."""
    return chexbert_state(len(small_vocabulary()), width=128)


@pytest.fixture(scope="module")
def narrow():
    return chexbert_state(len(small_vocabulary()))


@pytest.fixture(scope="module")
def labeler(tmp_path_factory, state, vocabulary):
    path = write_chexbert(tmp_path_factory.mktemp("chexbert") / "chexbert.pth", 0, state=state)
    return CheXbertLabeler.load(path, vocabulary, RuleLabeler(), "cpu")


def test_heads_and_classes_are_in_our_order(tmp_path, narrow, vocabulary):
    """A checkpoint whose head k always says class c comes out as category k, status c, by CheXbert's own names."""
    assert ", ".join(CATEGORIES[:14]) == HEADS and STATUSES == CLASSES
    for shift in range(4):
        said = [(head + shift) % (2 if head == NO_FINDING else 4) for head in range(14)]
        crafted = dict(narrow)
        for head, status in enumerate(said):
            crafted[f"module.linear_heads.{head}.weight"] = torch.zeros(2 if head == NO_FINDING else 4, 64)
            crafted[f"module.linear_heads.{head}.bias"] = torch.eye(4)[status][: 2 if head == NO_FINDING else 4]
        path = write_chexbert(tmp_path / f"{shift}.pth", 0, state=crafted)
        labels = CheXbertLabeler.load(path, vocabulary, RuleLabeler()).label(REPORTS)
        assert (labels[[bool(report) for report in REPORTS], :14] == said).all()
        assert (labels[:, 14:] == RuleLabeler().label(REPORTS)[:, 14:]).all()


def test_labels_are_those_of_a_straightforward_computation(labeler, state, vocabulary):
    """transformers' tokenizer and model, one report at a time, every head in turn."""
    tokenizer = BertTokenizer(vocab=str(vocabulary), do_lower_case=True)
    sizes = {"vocab_size": len(small_vocabulary()), "hidden_size": 128, "intermediate_size": 512}
    model = BertModel(BertConfig(**sizes, num_attention_heads=2)).eval()
    model.load_state_dict({k.removeprefix("module.bert."): v for k, v in state.items() if "linear_heads" not in k})
    reports = [*REPORTS[:3], "Right pleural effusion. " * 150]
    vectors, labels = labeler.embed(reports), labeler.label(reports)
    lengths = set()
    for report, vector, row in zip(reports, vectors, labels, strict=True):
        ids = tokenizer(report.strip().replace("\n", " "))["input_ids"]
        ids = ids if len(ids) <= 512 else ids[:511] + [tokenizer.sep_token_id]
        lengths.add(len(ids))
        with torch.no_grad():
            cls = model(input_ids=torch.tensor([ids])).last_hidden_state[0, 0]
        np.testing.assert_allclose(vector, cls.numpy(), atol=1e-5)
        for head in range(14 if report else 0):  # of an empty one the network is not asked
            weight, bias = (state[f"module.linear_heads.{head}.{part}"] for part in ("weight", "bias"))
            assert row[head] == (weight @ cls + bias).argmax()
    assert {2, 512} <= lengths  # the empty report and the long one


def test_both_labelers_share_the_interface(labeler):
    """Same shape, type and values; `no finding` is never negative or uncertain."""
    for one in (labeler, RuleLabeler()):
        labels = one.label(REPORTS)
        assert labels.shape == (len(REPORTS), 18) and labels.dtype == np.uint8
        assert labels.max() < 4 and labels[:, NO_FINDING].max() <= 1
        assert (labels[0] == labels[-1]).all()
        assert one.label([]).shape == (0, 18) and one.label([]).dtype == np.uint8
        with pytest.raises(TypeError, match="sequence"):
            one.label("No edema.")
    assert len(np.unique(labeler.label(REPORTS), axis=0)) > 1  # the texts reach the heads
    assert labeler.name.startswith("chexbert-") and labeler.name.endswith("+rules-v3")


def test_a_report_that_says_nothing_is_blank(labeler):
    """Not "no finding", which the network would say; raw or cleaned, and its neighbours are as without it."""
    silent = ["", "None.", "none .", "See impression.", "nan", "___", "n.a."]
    assert not labeler.label(silent).any()
    assert (labeler.label([*silent, REPORTS[0]])[-1] == labeler.label(REPORTS[:1])[0]).all()


def test_white_space_and_case_do_not_matter(labeler):
    vectors = labeler.embed(["No  Edema.\n\nLungs\tclear. ", "no edema. lungs clear."])
    assert np.array_equal(vectors[0], vectors[1])


def test_what_comes_after_511_tokens_is_not_read(labeler):
    words = ["edema"] * 510
    one, other = labeler.embed([" ".join([*words, "left"]), " ".join([*words, "right"] * 3)])
    assert np.array_equal(one, other)
    assert not np.allclose(one, labeler.embed([" ".join(words[:509])]), atol=1e-6)


def test_the_labels_do_not_depend_on_the_batch(labeler):
    """Together, one by one and reversed; the caller's list stays as it was."""
    reports = list(REPORTS)
    together = labeler.label(reports)
    assert reports == REPORTS
    assert (together == np.concatenate([labeler.label([r]) for r in REPORTS])).all()
    assert (together == labeler.label(REPORTS[::-1])[::-1]).all()


def test_old_and_new_checkpoints_label_alike(tmp_path, vocabulary):
    """Torch's old file format without position_ids, the new one with it: 227 and 228 tensors, equal vectors."""
    size = len(small_vocabulary())
    assert len(chexbert_state(size)) == 227 and len(chexbert_state(size, new_form=True)) == 228
    vectors = []
    for new_form in (False, True):
        path = write_chexbert(tmp_path / f"{new_form}.pth", size, new_form=new_form)
        vectors.append(CheXbertLabeler.load(path, vocabulary, RuleLabeler()).embed(REPORTS))
    assert np.array_equal(*vectors)


KEY = "module.bert.encoder.layer.11.output.dense.weight"
WORDS = "module.bert.embeddings.word_embeddings.weight"


class Code:
    """What a hostile pickle does: it runs when it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def spoil_state(change):
    def write(path, state):
        state = dict(state)
        change(state)
        write_chexbert(path, 0, state=state)

    return write


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (spoil_state(lambda s: s.pop(KEY)), r"226 tensors, expected 227.*lacks 1 keys.*layer\.11\.output"),
        (
            spoil_state(lambda s: s.update({"module.bert.foo": s[KEY]})),
            r"228 tensors.*unknown keys, first \['bert.foo'",
        ),
        (spoil_state(lambda s: s.update({KEY: torch.zeros(64, 7)})), r"is \(64, 7\), expected \(64, 256\)"),
        (spoil_state(lambda s: s.update({"module.linear_heads.13.bias": torch.zeros(4)})), r"heads.13.bias is \(4,\)"),
        (spoil_state(lambda s: s.pop(WORDS)), "no matrix bert.embeddings.word_embeddings"),
        (spoil_state(lambda s: s.update({WORDS: torch.zeros(30, 200)})), "200 is not a multiple of 64"),
        (spoil_state(lambda s: s.update({WORDS: s[WORDS][:-1]})), "vocab.txt has .* lines, the word embeddings have"),
        (lambda p, s: torch.save(torchvision.models.resnet18().state_dict(), p), "no entry 'model_state_dict'"),
        (lambda p, s: torch.save({"model_state_dict": {"epoch": 3}}, p), "does not hold named tensors"),
        (lambda p, s: p.write_text("<html>Sign in</html>"), "not a file of plain tensors"),
        (lambda p, s: p.write_bytes(b""), "cannot read"),
        (lambda p, s: p.mkdir(), "cannot read"),
        (lambda p, s: None, "no such file"),
        (lambda p, s: torch.save({"model_state_dict": s, "x": Code(p.with_name("ran"))}, p), "never loaded"),
        (lambda p, s: p.write_bytes(pickle.dumps(Code(p.with_name("ran")), protocol=2)), "not a file of plain tensors"),
    ],
)
def test_a_wrong_file_is_refused_and_named(tmp_path, narrow, vocabulary, write, says):
    """A file that does not fit would label at random: one message, and no code of the file has run."""
    path = tmp_path / "chexbert.pth"
    write(path, narrow)
    with pytest.raises(UserError, match=says) as caught:
        CheXbertLabeler.load(path, vocabulary, RuleLabeler())
    assert str(tmp_path) in str(caught.value) or str(vocabulary) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not path.with_name("ran").exists()


def test_the_real_vocabulary_tokenises_real_words(tmp_path):
    """bert-base-uncased's vocab.txt: whole chest words, and pieces that spell the rest."""
    path = SHARED / "bert-base-uncased" / "vocab.txt"
    if not path.is_file():
        pytest.skip(f"no {path}")
    rows = path.read_text(encoding="utf-8").split("\n")
    checkpoint = write_chexbert(tmp_path / "chexbert.pth", 30_522)
    labeler = CheXbertLabeler.load(checkpoint, path, RuleLabeler())
    ids = labeler.bert.tokens(["No pneumothorax; Heart size is NORMAL."])[0]
    assert " ".join(rows[i] for i in ids) == "[CLS] no p ##ne ##um ##otho ##ra ##x ; heart size is normal . [SEP]"
    assert labeler.label(REPORTS).shape == (len(REPORTS), 18)


def test_the_full_size_loads(tmp_path):
    """768 wide, 30,522 words, twelve heads: the sizes of the real file (440 MB)."""
    names = small_vocabulary()
    (tmp_path / "vocab.txt").write_text("\n".join([*names, *(f"[unused{i}]" for i in range(30_522 - len(names)))]))
    path = write_chexbert(tmp_path / "chexbert.pth", 30_522, width=768)
    try:
        labeler = CheXbertLabeler.load(path, tmp_path / "vocab.txt", RuleLabeler())
        config = labeler.bert._model.config
        assert (config.num_attention_heads, config.num_hidden_layers, config.intermediate_size) == (12, 12, 3072)
        assert labeler.embed(["No edema."]).shape == (1, 768)
    finally:
        path.unlink()


def test_opening_it_draws_no_number_of_a_training_s(tmp_path, narrow, vocabulary):
    """A resumed run opens it where the first one had it already: dropout has to go on the same."""
    path = write_chexbert(tmp_path / "chexbert.pth", 0, state=narrow)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    CheXbertLabeler.load(path, vocabulary, RuleLabeler())
    assert torch.equal(before, torch.get_rng_state())
