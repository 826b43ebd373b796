"""What a user decides in the model's place: statuses, and the retrieved report. For all images of one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from revtaf.errors import UserError, nearest
from revtaf.labels import CATEGORIES, STATUSES


@dataclass(frozen=True)
class Asked:
    """statuses: category -> status, by names in any case, a status also by its beginning ("pos"); kept as the names of
    `revtaf.labels`. retrieve=False: no past report enters. retrieved: this text in the place of the past report.

    UserError for an unknown name, with the nearest one, and for choices that contradict each other.
    """

    statuses: Mapping[str, str] = field(default_factory=dict)
    retrieve: bool = True
    retrieved: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "statuses", _known(self.statuses.items()))
        if self.retrieved is not None and not self.retrieve:
            raise UserError("a retrieved report was given, and none asked for: leave one of the two out")
        if self.retrieved is not None and not any(character.isalnum() for character in self.retrieved):
            raise UserError("the given retrieved report has no word in it; to go without one, ask for no retrieval")

    def numbers(self, categories: Sequence[str]) -> dict[int, int]:
        """Place in `categories` -> number of the status. UserError where the model does not know one of them."""
        if unknown := [name for name in self.statuses if name not in categories]:
            raise UserError(
                f"status of '{unknown[0]}': this model knows the {len(categories)}: {', '.join(categories)}"
            )
        return {categories.index(name): STATUSES.index(status) for name, status in self.statuses.items()}

    def refuse(self, system: str, *, statuses: bool = False, retrieval: bool = False) -> None:
        """UserError where something is asked that `system` has no place for: `statuses`, or `retrieval`."""
        if statuses and self.statuses:
            raise UserError(f"{system} writes without statuses; there is nothing to override")
        if retrieval and (self.retrieved is not None or not self.retrieve):
            raise UserError(f"{system} reads no retrieved report; none can be given or left out")


def read_statuses(text: str) -> dict[str, str]:
    """What `--status` says: "pneumonia=pos, edema=neg". UserError naming the part that does not fit."""
    pairs: list[tuple[str, str]] = []
    for part in filter(str.strip, text.split(",")):
        name, equals, status = part.partition("=")
        if not equals:
            raise UserError(
                f"--status: expected CATEGORY=STATUS, got '{part.strip()}'; such as \"pneumonia=pos,edema=neg\""
            )
        pairs.append((name, status))
    return _known(pairs)


def _known(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Both names as they are in `revtaf.labels`."""
    found: dict[str, str] = {}
    for name, status in given:
        category, word = " ".join(name.lower().split()), status.strip().lower()
        if category not in CATEGORIES:
            raise UserError(f"status of '{name.strip()}': no such category; {nearest(category, CATEGORIES)}")
        meant = [known for known in STATUSES if word and known.startswith(word)]
        if not meant:
            raise UserError(f"status '{status.strip()}' of '{category}': {nearest(word, STATUSES)}")
        if found.setdefault(category, meant[0]) != meant[0]:
            raise UserError(f"status of '{category}' is given twice: {found[category]}, {meant[0]}")
    return found


NOTHING = Asked()
