"""The images of a split in one file, resized once: training then decodes nothing.

Evaluation sees exactly the pixels that it would see from the files. Training draws its random crops from the central
square instead of the whole resized image, which differs where images are not square.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from revtaf.config import DataSettings
from revtaf.data.annotations import Study
from revtaf.data.images import resize_crop
from revtaf.errors import UserError
from revtaf.files import atomic_folder, digest, read_json, write_json
from revtaf.knowledge.blocks import WHOLE, PixelBlocks, Shard, Waiting, read_pixels

log = logging.getLogger("revtaf")


def packed_images(studies: Sequence[Study], data: DataSettings, size: int, shard: Shard = WHOLE) -> np.ndarray:
    """(N, size, size) uint8, mapped from disk: shorter side to `size`, central square. Made now where it is missing.

    Raises Waiting, where other shards have to finish first.
    """
    producer = {"images": str(data.images), "size": size, "studies": digest([(s.id, s.image_path[0]) for s in studies])}
    folder = Path(data.features) / f"images-{digest(producer)}"
    if not folder.exists():
        parts = folder.with_name(f".{folder.name}.parts")
        log.info("packing %d images of %s -> %s", len(studies), data.name, folder)
        blocks = PixelBlocks(parts, len(studies), "packing images")
        blocks.compute(
            lambda rows: read_pixels(
                studies[rows], data.images, size, lambda image: np.asarray(resize_crop(image, size, size))
            ),
            shard,
        )
        if shard.count > 1:  # one process alone puts the parts together
            raise Waiting("packed images: the blocks of one part are there")
        blocks.map()
        with atomic_folder(folder) as partial:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(studies), size, size)}
            with open(partial / "images.npy", "wb") as file:  # not through a map, which a full disk would crash
                np.lib.format.write_array_header_1_0(file, header)
                for part in blocks.parts:
                    file.write(part.tobytes())
            write_json(partial / "manifest.json", producer)
        shutil.rmtree(parts)
    path = folder / "images.npy"
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); delete {folder}, it is made again") from None
    if array.shape != (len(studies), size, size) or read_json(folder / "manifest.json") != producer:
        raise UserError(f"{folder} holds other images than its name says; delete it, it is made again")
    return array
