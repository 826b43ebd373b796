"""WordPiece tokens of cleaned reports: a given BERT vocabulary, or one fitted on the training reports.

English reports are split as BERT's uncased model splits texts and joined as BERT joins its tokens; a given vocabulary
has its words without accents, a fitted one as they are. Reports in another language (`data.language`) are split as
`revtaf.data.text.clean_words` splits them: what is encoded and decoded again is the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from revtaf.data.text import Language, clean_words, closed_up
from revtaf.errors import UserError
from revtaf.files import atomic_write, read_text
from revtaf.labels import DECODER_START_TOKEN, STATUS_TOKENS

PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
BERT_TOKENS = (PAD, UNKNOWN, CLS, SEP, MASK)
PROMPT_TOKENS = (DECODER_START_TOKEN, *STATUS_TOKENS)
_BLANKS = pre_tokenizers.WhitespaceSplit


def read_pieces(path: str | Path, what: str) -> list[str]:
    """The tokens of a BERT vocab.txt, one a line, in their order. UserError, which `what` begins, where it is missing
    or lacks BERT's own."""
    lines = read_text(path, what).split("\n")  # not splitlines: U+2028 is a token of bert-base-chinese
    tokens = [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
    if missing := sorted(set(BERT_TOKENS) - set(tokens)):
        raise UserError(f"{what}: {path} lacks the tokens {missing}; is it BERT's vocab.txt?")
    return tokens


class ReportTokenizer:
    """Texts <-> token ids. The prompt tokens [DEC] [BLA] [POS] [NEG] [UNC] come last in the vocabulary."""

    def __init__(self, tokenizer: Tokenizer):
        tokenizer.add_special_tokens(list(PROMPT_TOKENS))
        self.language: Language = "other" if isinstance(tokenizer.pre_tokenizer, _BLANKS) else "en"
        tokenizer.decoder = decoders.WordPiece(cleanup=self.language == "en")
        self.tokenizer = tokenizer
        self.pad, self.end = self._id(PAD), self._id(SEP)
        self.start = self._id(DECODER_START_TOKEN)
        self.statuses = [self._id(token) for token in STATUS_TOKENS]
        self.special = {self._id(token) for token in (*BERT_TOKENS, *PROMPT_TOKENS)}

    @property
    def size(self) -> int:
        """Number of tokens, the prompt tokens included."""
        return self.tokenizer.get_vocab_size()

    @classmethod
    def fit(cls, reports: Iterable[str], size: int, language: Language = "en") -> ReportTokenizer:
        """A WordPiece vocabulary: the `size` most frequent words of the cleaned reports (twice or more), and
        single characters that spell the rest.

        Whole words, because the library's WordPiece trainer breaks ties between equally frequent merges at
        random: the same reports would give another vocabulary at every call.
        """
        words = _splitting(language, models.WordLevel(unk_token=UNKNOWN))
        trainer = trainers.WordLevelTrainer(vocab_size=size, min_frequency=2, show_progress=False)
        reports = list(reports) if language == "en" else [clean_words(report) for report in reports]
        words.train_from_iterator(reports, trainer)
        frequent = sorted(words.get_vocab(), key=words.get_vocab().get)
        characters = sorted({c for report in reports for c in report.lower() if not c.isspace()})
        spelling = [*characters, *(f"##{c}" for c in characters)]
        tokens = dict.fromkeys([*BERT_TOKENS, *spelling, *frequent])
        vocabulary = {token: i for i, token in enumerate(tokens)}
        return cls(_splitting(language, models.WordPiece(vocabulary, unk_token=UNKNOWN)))

    @classmethod
    def from_vocabulary(cls, path: str | Path, language: Language = "en") -> ReportTokenizer:
        """A BERT vocab.txt, one token a line. UserError where it is missing or lacks BERT's tokens."""
        try:
            vocabulary = {token: i for i, token in enumerate(read_pieces(path, "decoder.vocabulary"))}
        except UserError as error:
            raise UserError(f"{error}; give a BERT vocab.txt, or 'train' to fit one on the training reports") from None
        return cls(_splitting(language, models.WordPiece(vocabulary, unk_token=UNKNOWN), accents=False))

    @classmethod
    def load(cls, path: str | Path) -> ReportTokenizer:
        """Read what `save` wrote. UserError where the file is not there."""
        if not Path(path).is_file():
            raise UserError(f"tokenizer not found: {path}; the checkpoint is incomplete")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except Exception as error:  # the library's one kind of error
            raise UserError(f"tokenizer: {path} is damaged ({error}); copy the folder again") from None

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json, in `tokenizers`' own format."""
        with atomic_write(path) as partial:
            self.tokenizer.save(str(partial))

    def encode(self, reports: Sequence[str]) -> list[list[int]]:
        """Token ids of each report, without any special token."""
        texts = list(reports) if self.language == "en" else [clean_words(report) for report in reports]
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def unknown_share(self, reports: Sequence[str]) -> float:
        """The share of tokens of the reports, 0 to 1, that stand for words which the vocabulary cannot spell."""
        ids = [i for one in self.encode(reports) for i in one]
        return ids.count(self._id(UNKNOWN)) / max(len(ids), 1)

    def decode(self, ids: Sequence[int]) -> str:
        """Text up to the end token, special tokens dropped; English with punctuation attached ("no effusion."), Chinese
        and the like without blanks."""
        kept = []
        for token in ids:
            if token == self.end:
                break
            if token not in self.special:
                kept.append(int(token))
        text = self.tokenizer.decode(kept)
        return text if self.language == "en" else closed_up(text)

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise UserError(f"the vocabulary lacks the token {token}")
        return found


def _splitting(language: Language, model: models.Model, accents: bool = True) -> Tokenizer:
    """A tokenizer that splits as the module's first lines say; `accents` are kept, of English texts too."""
    tokenizer = Tokenizer(model)
    if language == "en":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=not accents)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        tokenizer.pre_tokenizer = _BLANKS()
    return tokenizer
