"""The commands that README and the documents show, as a shell would run them."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tiny import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]
OURS = re.compile(r"(?:(?:python -m )?revtaf |torchrun |bash |python scripts/|pip install )")
INLINE = re.compile(
    r"(?<!`)`((?:python -m revtaf|revtaf|bash|python scripts/[^\s`]+|torchrun|pip install)(?: [^`]*)?)`(?!`)"
)


@dataclass(frozen=True)
class Shown:
    """One command. words: with `python -m revtaf` as `revtaf`. inline: within a sentence, where it may be a name only
    ("`revtaf analyse`"), or hold words to be replaced ("FILE")."""

    place: str
    words: tuple[str, ...]
    inline: bool = False

    def __str__(self) -> str:
        return f"{self.place} {shlex.join(self.words)}"


def shown_in(path: Path) -> list[Shown]:
    """Every command of a document: all lines of its bash blocks, ours in other blocks, and those within sentences."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    found: list[Shown] = []
    language: str | None = None
    line = ""
    for number, raw in enumerate(text.splitlines(), 1):
        if fence := re.match(r" *```(\S*)", raw):
            language = fence[1] if language is None else None
        elif language is None and (block := re.match(rf" {{4}}(?={OURS.pattern})", raw)):
            text = re.sub(r"[\[\]]", "", raw[block.end() :].rstrip("\\"))  # optional parts stand in brackets
            found.append(Shown(f"{name}:{number}", _words(text.split(" #")[0]), True))
        elif language is None:
            found += [Shown(f"{name}:{number}", _words(one), True) for one in INLINE.findall(raw)]
        else:
            line += raw
            if line.endswith("\\"):
                line = line[:-1]
                continue
            if language in ("bash", "sh", "shell", "console") or OURS.match(line):
                for words in _commands(line):
                    found.append(Shown(f"{name}:{number}", words))
            line = ""
    return found


def own_configuration() -> str:
    """The YAML block of docs/data.md that it tells to write as configs/mine.yaml."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/data.md").read_text(encoding="utf-8"), re.M | re.S)
    return next(block for block in blocks if "name: mine" in block)


def _commands(line: str) -> list[tuple[str, ...]]:
    """The commands of a line, without its comment; several are joined by && or ;."""
    try:
        tokens = shlex.split(line, comments=True)
    except ValueError:
        return [("cannot be read:", line)]
    parts = [list(group) for joins, group in itertools.groupby(tokens, ("&&", ";").__contains__) if not joins]
    return [_ours(word for token in part for word in _braces(token, line)) for part in parts]


def _words(text: str) -> tuple[str, ...]:
    text = text.replace("\\|", "|")
    try:
        return _ours(shlex.split(text))
    except ValueError:
        return ("cannot be read:", text)


def _ours(words) -> tuple[str, ...]:
    words = tuple(words)
    return ("revtaf", *words[3:]) if words[:3] == ("python", "-m", "revtaf") else words


def _braces(token: str, line: str) -> list[str]:
    """a{b,c}d -> abd, acd, as bash does where it is not quoted."""
    if not (match := re.fullmatch(r"([^{]*)\{([^{}]*,[^{}]*)\}(.*)", token)) or f"'{token}'" in line:
        return [token]
    return [f"{match[1]}{part}{match[3]}" for part in match[2].split(",")]
