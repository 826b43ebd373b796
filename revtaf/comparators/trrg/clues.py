"""The clue bank (section 2.2): texts of m common diseases, read from a file that a user may edit, and how k are chosen.

    w = softmax_i(v_cls . c_cls^i / tau),    c_s = the k clues with the largest w

The softmax does not touch the choice; it only makes the weights that are shown. DIFFERS: without a temperature, vectors
of length 1 give nearly equal weights, so they are divided by stage 1's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from revtaf.errors import UserError, nearest
from revtaf.files import parse_yaml, read_text
from revtaf.labels import CHEXPERT_CATEGORIES, ENTITIES

OURS = Path(__file__).with_name("clues.yaml")
NEVER = float("-inf")  # the score of a clue that must not be injected
_PARTS = ("severity", "disease", "location")
_KEYS = ("category", *_PARTS, "text", "entities")


@dataclass(frozen=True)
class Clue:
    """One disease. category: of CheXpert's 14. wordings: the canonical one first. entities: of the 75, those that tell
    of it."""

    category: int
    wordings: tuple[str, ...]
    entities: tuple[int, ...]

    @property
    def name(self) -> str:
        """The category's."""
        return CHEXPERT_CATEGORIES[self.category]


class ClueBank(list[Clue]):
    """The clues of a file. text: the file as it was when they were read, which a model keeps."""

    def __init__(self, clues: Iterable[Clue], text: str):
        super().__init__(clues)
        self.text = text


def read_bank(path: Path | None) -> ClueBank:
    """The clues of a file, by default ours. UserError naming file, clue and key."""
    path = OURS if path is None else Path(path)
    if not path.exists():
        raise UserError(f"clue.bank: no such file: {path}; null takes ours")
    text = read_text(path, "clue.bank")
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"clue.bank: {path}: not a YAML file: {error}") from None
    if not isinstance(content, dict) or list(content) != ["clues"] or not isinstance(content["clues"], list):
        raise UserError(f"clue.bank: {path}: expected one key, clues, with a list of clues; see {OURS.name}")
    found: dict[int, Clue] = {}
    for number, given in enumerate(content["clues"], start=1):
        where = f"clue.bank: {path}: clue {number}"
        clue = _clue(where, given)
        if clue.category in found:
            raise UserError(f"{where}: category '{clue.name}' has a clue already; put its wordings there")
        found[clue.category] = clue
    if not found:
        raise UserError(f"clue.bank: {path} holds no clue")
    return ClueBank(found.values(), text)


def _clue(where: str, given: Any) -> Clue:
    if not isinstance(given, dict):
        raise UserError(f"{where}: expected keys and values, got {given!r:.60}")
    for key in given:
        if key not in _KEYS:
            raise UserError(f"{where}: unknown key '{key}'; {nearest(str(key), _KEYS)}")
    category = given.get("category")
    if category not in CHEXPERT_CATEGORIES:
        raise UserError(f"{where}: category {category!r}: {nearest(str(category), CHEXPERT_CATEGORIES)}")
    lists = {key: _words(f"{where} ({category}): {key}", given.get(key)) for key in _KEYS[1:]}
    for entity in lists["entities"]:
        if entity not in ENTITIES:
            raise UserError(f"{where} ({category}): entities: '{entity}': {nearest(entity, ENTITIES)}")
    if bool(lists["text"]) == bool(lists["disease"]):
        raise UserError(f"{where} ({category}): give it either text, or disease with severity and location")
    wordings = lists["text"] or [
        " ".join(part for part in (severity, disease, location and f"at {location}") if part)
        for disease, location, severity in product(
            lists["disease"], lists["location"] or [""], lists["severity"] or [""]
        )
    ]
    entities = tuple(ENTITIES.index(entity) for entity in lists["entities"])
    return Clue(CHEXPERT_CATEGORIES.index(category), tuple(dict.fromkeys(wordings)), entities)


def _words(where: str, given: Any) -> list[str]:
    listed = [] if given is None else given if isinstance(given, list) else [given]
    for one in listed:
        if not isinstance(one, str) or not one.strip():
            raise UserError(f"{where}: expected words, got {one!r}")
    return [" ".join(one.split()) for one in listed]


def texts_of(clues: Sequence[Clue], prefix: str, expanded: bool) -> tuple[list[str], list[int]]:
    """(V,) texts, and the clue that each stands for: all wordings, or the canonical ones."""
    pairs = [(prefix + w, i) for i, c in enumerate(clues) for w in (c.wordings if expanded else c.wordings[:1])]
    return [text for text, _ in pairs], [owner for _, owner in pairs]


class Selected(NamedTuple):
    """rows (B, k): wordings of the injected clues, the best first; valid (B, k) bool; clues (B, k): whose they are;
    weights (B, m) over all clues, which sum to 1."""

    rows: Tensor
    valid: Tensor
    clues: Tensor
    weights: Tensor


class EncodedClues(nn.Module):
    """The bank as stage 1's text encoder sees it, once for a run; no tensor of it is trained or saved.

    cls (V, d) of length 1, tokens (V, r, d) without [CLS] and [SEP], mask (V, r) True where there is a token, owner
    (V,). temperature: tau, of the weights that are shown.
    """

    def __init__(self, cls: Tensor, tokens: Tensor, mask: Tensor, owner: Sequence[int], temperature: float):
        super().__init__()
        self.temperature, self.count = temperature, max(owner) + 1
        values = {"cls": cls, "tokens": tokens, "mask": mask, "owner": torch.tensor(owner)}
        for name, value in values.items():
            self.register_buffer(name, value, persistent=False)

    def scores(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, d) of length 1 -> similarity (B, m) with the best wording of each clue, and its row (B, m)."""
        # Autocast would take the product in half precision whatever its inputs are, and clues as near as this tie.
        with torch.autocast(image.device.type, enabled=False):
            similarity = image.float() @ self.cls.float().T
        best = similarity.new_full((len(image), self.count), NEVER)
        rows = torch.zeros(best.shape, dtype=torch.long, device=image.device)
        for clue in range(self.count):
            own = torch.nonzero(self.owner == clue)[:, 0]
            best[:, clue], place = similarity[:, own].max(1)
            rows[:, clue] = own[place]
        return best, rows

    def select(self, image: Tensor, k: int, given: Tensor | None = None) -> Selected:
        """The k clues that are nearest to the image (B, d); or those with the largest `given` (B, m), of which the
        wording nearest to the image is taken. A given -inf is never injected, and less than k may remain."""
        similarity, wording = self.scores(image)
        score = similarity if given is None else given.float()
        value, clues = score.topk(k, dim=1)
        logits = similarity / self.temperature if given is None else torch.nan_to_num(score, neginf=-1e4)
        return Selected(wording.gather(1, clues), value > NEVER, clues, logits.softmax(1))

    def injected(self, chosen: Selected) -> tuple[Tensor, Tensor]:
        """c_s (B, k r, d), and (B, k r) bool: which of them are words."""
        mask = self.mask[chosen.rows] & chosen.valid[..., None]
        return self.tokens[chosen.rows].flatten(1, 2), mask.flatten(1)
