"""The folder of a BERT: where it is, and which of its files are there. Looked at without loading any model code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

BERT_FILES = ("model.safetensors", "pytorch_model.bin")  # of weights, either
BESIDE = ("config.json", "vocab.txt")  # the weights


def bert_folder(weights: str) -> Path:
    """A setting such as `decoder.weights` as a folder: the path itself, or checkpoints/<name>."""
    path = Path(weights)
    return path if path.is_dir() else Path("checkpoints") / weights


def find_weights(folder: Path) -> Path | None:
    """The weight file of a BERT folder, safetensors first."""
    return next((folder / name for name in BERT_FILES if (folder / name).is_file()), None)


def bert_files(folder: Path) -> tuple[Path, Path, Path]:
    """Weights, vocabulary and sizes: all that a BERT's answers depend on."""
    return find_weights(folder) or folder / BERT_FILES[0], folder / "vocab.txt", folder / "config.json"


def absent_files(folder: Path, beside: Sequence[str] = BESIDE, weights: bool = True) -> list[str]:
    """Of the files beside the weights, and of these where asked for, those that are not there."""
    absent = [name for name in beside if not (folder / name).is_file()]
    return [*absent, " or ".join(BERT_FILES)] if weights and find_weights(folder) is None else absent


def absent_paths(folder: Path, beside: Sequence[str] = BESIDE) -> tuple[str, ...]:
    """What a BERT's folder lacks of its weights and of the files beside them, as paths."""
    return tuple(str(folder / name) for name in absent_files(folder, beside))
