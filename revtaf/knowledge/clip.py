"""A CLIP-style pair of encoders, for finding the training reports that suit an image (the classifier's memory).

Image and reports are compared in one space, at training and at test alike, so no label of the test image is asked
for. The networks are open_clip's (`pip install 'revtaf[clip]'`); the weights are a file of the user's. OpenAI's
weights, and whatever was trained on from them, need a model name that ends in "-quickgelu": the tensors fit the other
name just as well, and give other vectors.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, normalize, resize
from tqdm import tqdm

from revtaf.errors import UserError
from revtaf.files import sha256
from revtaf.pretrained.strict import load_strictly, read_tensors

BATCH = 64  # images or texts encoded at once
_OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")  # numbers among the tensors of OpenAI's files


class ClipPair:
    """Images and texts -> (N, width) vectors of length 1, in one space."""

    def __init__(self, model: torch.nn.Module, tokenize: Callable[[list[str]], Tensor], width: int, name: str):
        self.model = model.eval()
        self.tokenize = tokenize
        self.width = width
        self.name = name
        self.preprocess: dict = model.visual.preprocess_cfg
        size = self.preprocess["size"]
        self.image_size: int = size if isinstance(size, int) else size[0]

    @classmethod
    def load(cls, model_name: str, weights: str | Path, device: torch.device) -> ClipPair:
        """model_name: one of open_clip.list_models(); weights: a local file that fits it exactly.

        Nothing is downloaded and no code of the file is run. Raises UserError.
        """
        open_clip = import_open_clip()
        weights = Path(weights)
        config = model_config(open_clip, model_name)
        state = read_state(weights)
        model = build(open_clip, model_name)
        remedy = f"{model_name} must be the very architecture that was trained"
        load_strictly(model, state, weights, "CLIP", remedy)
        name = f"clip-{model_name.lower()}-{sha256(weights)[:8]}"
        return cls(model.to(device), open_clip.get_tokenizer(model_name), config["embed_dim"], name)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """8-bit grey image -> (S, S) uint8: shorter side to S, bicubic, then centre crop, as CLIP was evaluated."""
        resized = resize(image, self.image_size, InterpolationMode.BICUBIC)
        return np.asarray(center_crop(resized, [self.image_size, self.image_size]))

    def encode_images(self, images: np.ndarray, device: torch.device, progress: bool = False) -> np.ndarray:
        """images (N, S, S) uint8 from `pixels` -> (N, width) float32 of length 1."""
        if images.dtype != np.uint8 or images.shape[1:] != (self.image_size, self.image_size):
            raise ValueError(f"expected (N, {self.image_size}, {self.image_size}) uint8, got {images.shape}")

        def encode(rows: slice) -> Tensor:
            x = torch.tensor(images[rows]).to(device).float().div_(255)
            x = normalize(x.unsqueeze(1).expand(-1, 3, -1, -1), self.preprocess["mean"], self.preprocess["std"])
            return self.model.encode_image(x)

        return self._encode(encode, len(images), device, "CLIP, images" if progress else None)

    def encode_texts(self, texts: Sequence[str], device: torch.device, progress: bool = False) -> np.ndarray:
        """(N,) texts -> (N, width) float32 of length 1; the tokenizer cuts what exceeds the context (77 tokens)."""

        def encode(rows: slice) -> Tensor:
            return self.model.encode_text(self.tokenize(list(texts[rows])).to(device))

        return self._encode(encode, len(texts), device, "CLIP, texts" if progress else None)

    @torch.inference_mode()
    def _encode(
        self, encode: Callable[[slice], Tensor], count: int, device: torch.device, title: str | None
    ) -> np.ndarray:
        self.model.to(device)
        vectors = np.empty((count, self.width), np.float32)
        for rows in _batches(count, title):
            vectors[rows] = F.normalize(encode(rows).float(), dim=-1).cpu().numpy()
        return vectors


def _batches(count: int, title: str | None) -> Iterator[slice]:
    for start in tqdm(range(0, count, BATCH), desc=title, leave=False, disable=title is None):
        yield slice(start, start + BATCH)


def import_open_clip() -> Any:
    """The package. UserError where it is not installed."""
    try:
        import open_clip
    except ImportError as error:
        raise UserError(f"CLIP needs open_clip ({error}): pip install 'revtaf[clip]'") from None
    return open_clip


def model_config(open_clip: Any, model_name: str) -> dict:
    """Its architecture. Refused are models of which open_clip would download a part: their text towers or tokenizers
    live on the Hugging Face Hub, their weights' file alone is not enough."""
    config = open_clip.get_model_config(model_name) if ":" not in model_name else None
    if config is None:
        raise UserError(f"CLIP: unknown model '{model_name}'; expected a name of open_clip.list_models()")
    text = config["text_cfg"]
    if "hf_model_name" in text or "hf_tokenizer_name" in text or "siglip" in model_name.lower():
        raise UserError(f"CLIP: {model_name} needs downloads beside its weights; take one with CLIP's own tokenizer")
    return config


def build(open_clip: Any, model_name: str, apart: bool = False) -> torch.nn.Module:
    """On random weights; apart: with its text encoder as a module of its own. open_clip warns that no weights were
    loaded; whoever wants some loads them strictly, right after."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return open_clip.create_model(
            model_name,
            pretrained=None,
            precision="fp32",
            device="cpu",
            pretrained_hf=False,
            **({"force_custom_text": True} if apart else {}),
        )
    finally:
        logging.disable(level)


def read_state(path: Path) -> dict[str, Tensor]:
    """open_clip's training checkpoint, or a bare state dict."""
    if _is_torchscript(path):
        raise UserError(
            f"CLIP: {path} is a TorchScript archive, which is a program and is not run; where you trust it, save its "
            f"tensors once: torch.save(torch.jit.load(FILE, 'cpu').state_dict(), NEW_FILE)"
        )
    try:
        state = read_tensors(path, "CLIP", "state_dict")
    except UserError:  # perhaps a bare one; what is no checkpoint at all fails here again, and says why
        state = read_tensors(path, "CLIP")
    return {key.removeprefix("module."): value for key, value in state.items() if key not in _OPENAI_SIZES}


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):  # not there, or another kind of file: reading it will tell
        return False
