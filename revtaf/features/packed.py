"""The images of a split in one file, resized once: training then decodes nothing.

Evaluation sees exactly the pixels that it would see from the files. Training draws its random crops from the central
square instead of the whole resized image, which differs where images are not square.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from revtaf.config import DataSettings
from revtaf.data.annotations import Study
from revtaf.data.array_file import read_array
from revtaf.data.blocks import WHOLE, PixelBlocks, Shard, Waiting, read_pixels
from revtaf.data.images import resize_crop
from revtaf.errors import UserError
from revtaf.files import atomic_folder, digest, read_json, write_json
from revtaf.locks import alone

log = logging.getLogger("revtaf")


def packed_images(studies: Sequence[Study], data: DataSettings, size: int, shard: Shard = WHOLE) -> np.ndarray:
    """(N, size, size) uint8, mapped from disk: shorter side to `size`, central square. Made now where it is missing.

    Raises Waiting, where other shards have to finish first.
    """
    producer = {
        "images": os.path.relpath(data.images, data.features),
        "size": size,
        "studies": digest([(s.id, s.image_path[0]) for s in studies]),
    }
    folder = Path(data.features) / f"images-{digest(producer)}"
    parts = folder.with_name(f".{folder.name}.parts")
    blocks = PixelBlocks(parts, len(studies), "packing images")

    def square(image: Image.Image) -> np.ndarray:
        return np.asarray(resize_crop(image, size, size))

    def pixels_of(rows: slice) -> np.ndarray:
        return read_pixels(studies[rows], data.images, size, square)

    if not folder.exists():
        log.info("packing %d images of %s -> %s", len(studies), data.name, folder)
        if shard.count > 1:  # one process alone puts the parts together
            blocks.compute(pixels_of, shard)
            raise Waiting("packed images: one process has to put the parts together")
        with alone(parts):
            if not folder.exists():
                blocks.compute(pixels_of, shard)
                _join(blocks.map(), folder, producer)
    shutil.rmtree(parts, ignore_errors=True)
    path = folder / "images.npy"
    array = read_array(path, f"delete {folder}, it is made again", "r")
    if array.shape != (len(studies), size, size) or read_json(folder / "manifest.json") != producer:
        raise UserError(f"{folder} holds other images than its name says; delete it, it is made again")
    return array


def _join(blocks: PixelBlocks, folder: Path, producer: dict) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(blocks), *blocks.parts[0].shape[1:])}
    with atomic_folder(folder) as partial:
        with open(partial / "images.npy", "wb") as file:  # not through a map, which a full disk would crash
            np.lib.format.write_array_header_1_0(file, header)
            for part in blocks.parts:
                file.write(part.tobytes())
        write_json(partial / "manifest.json", producer)
