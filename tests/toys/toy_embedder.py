"""A third system that the project does not know: images by their grey levels, texts by their words, in one space."""

import zlib

import numpy as np
from toy_systems import Toy, ToySystem

from revtaf.data.images import read_image

SIDE = 4  # the space has SIDE * SIDE dimensions


def unit(vectors):
    vectors = np.array(vectors, dtype=np.float32) + 1e-6
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Embedder(Toy):
    def embed_images(self, images):
        pixels = [np.asarray(read_image(path).resize((SIDE, SIDE)), dtype=np.float32).ravel() for path in images]
        return unit([grey - grey.mean() for grey in pixels])

    def embed_texts(self, texts):
        bags = np.zeros((len(texts), SIDE * SIDE))
        for bag, text in zip(bags, texts, strict=True):
            for word in text.lower().replace(".", " ").split():
                bag[zlib.crc32(word.encode()) % len(bag)] += 1
        return unit(bags)


class EmbedderSystem(ToySystem):
    title, start = "toy embedder", Embedder

    def open(self, folder, settings, accelerator):
        return Embedder(settings, accelerator, super().open(folder, settings, accelerator).words)


EMBEDDER = EmbedderSystem()
