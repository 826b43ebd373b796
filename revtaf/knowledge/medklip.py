"""MedKLIP as the source of entity scores and triplets: the paper's F_logit (section 3.3) and LRP (Eq. 8).

Needs the published checkpoint, and the two books that the checkpoint does not hold: Bio_ClinicalBERT's [CLS] of an
explanation of each entity, which becomes its query, and of "It is located at ..." for each position.
The 75 scores are P(present), not logits: logits of usual size are clipped onto the ball's rim, all to one radius.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import normalize
from tqdm import tqdm

from revtaf.data.images import IMAGENET_MEAN, IMAGENET_STD
from revtaf.errors import UserError
from revtaf.files import digest, read_json, read_yaml, sha256
from revtaf.knowledge.base import EntityScores
from revtaf.knowledge.medklip_net import BOOK_WIDTH, GRID, IMAGE_SIZE, MedKLIPNet, MedKLIPOutput
from revtaf.knowledge.scope import load_phrases
from revtaf.labels import ENTITIES, POSITIONS, UNSPECIFIED_POSITION
from revtaf.pretrained.strict import load_strictly, read_tensors

BATCH = 16  # images scored at once


class ClsEncoder(Protocol):
    """Bio_ClinicalBERT's [CLS] vectors."""

    name: str

    def encode(self, texts: Sequence[str], separator: bool = True, max_length: int = 128) -> np.ndarray:
        """(N,) texts -> (N, 768) float32; `separator`: whether [SEP] ends a text."""
        ...


@dataclass(frozen=True)
class MedKLIPBooks:
    """disease (75, 768) and anatomy (51, 768) float32; a digest of all texts and the encoder's name
    (`key`)."""

    disease: np.ndarray
    anatomy: np.ndarray
    key: str


def make_books(encoder: ClsEncoder, explanations: Path | None = None) -> MedKLIPBooks:
    """Encode the explanations of the 75 entities and the 51 positions.

    explanations: MedKLIP's `observation explanation.json`, or a YAML file like phrases/explanations.yaml; None for the
    latter itself. The entries count by their order. Texts are encoded without [SEP], as MedKLIP did in training.
    """
    if explanations is None:
        texts = _in_order(load_phrases("explanations.yaml"), "phrases/explanations.yaml")
    else:
        texts = _in_order(_read_explanations(Path(explanations)), str(explanations))
    places = [f"It is located at {position}" for position in POSITIONS]
    vectors = encoder.encode(texts + places, separator=False, max_length=128)
    if vectors.shape[1] != BOOK_WIDTH:
        raise UserError(
            f"MedKLIP reads texts of width {BOOK_WIDTH}; {encoder.name} gives {vectors.shape[1]}: use Bio_ClinicalBERT"
        )
    vectors = np.asarray(vectors, dtype=np.float32)
    return MedKLIPBooks(vectors[: len(texts)], vectors[len(texts) :], digest(texts, places, encoder.name)[:8])


def _read_explanations(path: Path) -> Any:
    if path.suffix not in (".yaml", ".yml"):
        return read_json(path, "explanations")
    return read_yaml(path, "explanations")


def _in_order(content: Any, where: str) -> list[str]:
    """The 75 values. Keys are not looked up: MedKLIP's own file misspells one ("eumonia")."""
    if not isinstance(content, dict) or len(content) != len(ENTITIES):
        found = f"{len(content)} entries" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise UserError(
            f"{where}: expected a mapping of {len(ENTITIES)} entities to their explanations, in MedKLIP's order, "
            f"got {found}; see revtaf/knowledge/phrases/explanations.yaml"
        )
    for i, (key, text) in enumerate(content.items()):
        if key != ENTITIES[i] and key in ENTITIES:
            raise UserError(
                f"{where}: entry {i + 1} explains '{key}', but entry {i + 1} is read as '{ENTITIES[i]}'; "
                f"bring the entries into the order of revtaf/knowledge/phrases/explanations.yaml"
            )
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where}: entry {i + 1} ('{key}') is not a text: {text!r}")
    return list(content.values())


class MedKLIP:
    """Entity scores by MedKLIP."""

    image_size = IMAGE_SIZE

    def __init__(self, net: MedKLIPNet, name: str):
        self.net = net.eval()
        self.name = name

    @classmethod
    def load(cls, checkpoint: str | Path, books: MedKLIPBooks) -> MedKLIP:
        """Read the published file, or a bare state dict, strictly; UserError where it is something else."""
        checkpoint = Path(checkpoint)
        state = _read_state(checkpoint)
        net = MedKLIPNet(torch.from_numpy(books.disease), torch.from_numpy(books.anatomy))
        remedy = "give the checkpoint that MedKLIP's authors published, unchanged"
        load_strictly(net, state, checkpoint, "MedKLIP", remedy)
        net.res_features.to(memory_format=torch.channels_last)  # faster; see Backbone
        return cls(net, f"medklip-{sha256(checkpoint)[:8]}-{books.key}")

    def pixels(self, image: Image.Image) -> np.ndarray:
        """8-bit grey image -> (224, 224) uint8: squashed as in MedKLIP's training, nothing is cut off."""
        return np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))

    def score(self, images: np.ndarray, device: torch.device, progress: bool = False) -> EntityScores:
        """images (N, 224, 224) uint8 -> P(present); present where that is the likelier class; the likeliest position
        where present, which is all that MedKLIP was trained to say, else unspecified."""
        scores = EntityScores(
            np.empty((len(images), len(ENTITIES)), np.float32),
            np.empty((len(images), len(ENTITIES)), np.uint8),
            np.empty((len(images), len(ENTITIES)), bool),
        )
        for rows, output in self._forward(images, device, progress):
            present = output.presence.argmax(-1) == 1
            position = output.position.argmax(-1).where(present, UNSPECIFIED_POSITION)
            scores.probability[rows] = output.presence.softmax(-1)[..., 1].cpu().numpy()
            scores.position[rows] = position.cpu().numpy()
            scores.present[rows] = present.cpu().numpy()
        return scores

    def attention(self, images: np.ndarray, device: torch.device, progress: bool = False) -> np.ndarray:
        """images (N, 224, 224) uint8 -> (N, 75, 14, 14) float32, mean of the 4 layers; each map sums to 1.

        A map covers the whole squashed image, not the centre crop that the report model sees.
        """
        maps = np.empty((len(images), len(ENTITIES), GRID, GRID), np.float32)
        for rows, output in self._forward(images, device, progress):
            maps[rows] = output.attention.mean(1).unflatten(-1, (GRID, GRID)).cpu().numpy()
        return maps

    @torch.inference_mode()
    def _forward(
        self, images: np.ndarray, device: torch.device, progress: bool
    ) -> Iterator[tuple[slice, MedKLIPOutput]]:
        if images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"expected (N, {IMAGE_SIZE}, {IMAGE_SIZE}) uint8, got {images.shape} {images.dtype}")
        net = self.net.to(device)
        for start in tqdm(range(0, len(images), BATCH), desc="MedKLIP", leave=False, disable=not progress):
            rows = slice(start, start + BATCH)
            yield rows, net(_normalise(torch.tensor(images[rows]).to(device)))


def _normalise(images: Tensor) -> Tensor:
    """(B, S, S) uint8 -> (B, 3, S, S) float32: three equal channels, then ImageNet's mean and deviation."""
    x = images.float().div_(255).unsqueeze(1).expand(-1, 3, -1, -1)
    return normalize(x, IMAGENET_MEAN, IMAGENET_STD).contiguous(memory_format=torch.channels_last)


def _read_state(path: Path) -> dict[str, Tensor]:
    """The published file's 'model', or a bare state dict, without DataParallel's prefix."""
    try:
        state = read_tensors(path, "MedKLIP", "model")
    except UserError:  # perhaps a bare one; what is no checkpoint at all fails here again, and says why
        state = read_tensors(path, "MedKLIP")
    return {key.removeprefix("module."): value for key, value in state.items()}
