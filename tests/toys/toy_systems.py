"""A system that the project does not know: it learns one constant report, the likeliest word of every place."""

import json
from collections import namedtuple

import torch
from PIL import Image
from torch import nn

from revtaf.config import RunSettings
from revtaf.data.annotations import load_annotations
from revtaf.engine.optim import adamw
from revtaf.engine.system import Declaration, System, Written
from revtaf.generate.result import ImageReport
from revtaf.knowledge.rules import RuleLabeler

Batch, LENGTH = namedtuple("Batch", "rows words"), 12


class Samples(list):
    def __getitem__(self, key):  # (epoch, row)
        return key[1], super().__getitem__(key[1])

    def collate(self, samples):
        return Batch(*map(torch.tensor, zip(*samples, strict=True)))


class Toy(System):
    weights, notes = {"nll": 1.0}, {"what it is": "one constant report"}

    def __init__(self, settings, accelerator, words=()):
        self.settings, self.accelerator = settings, accelerator
        self.studies = lambda split: load_annotations(settings.data.annotation)[split]
        self.words = words or sorted({word for s in self.studies("train") for word in s.report.lower().split()})
        self.model = nn.Sequential(nn.Dropout(0.1), nn.Linear(LENGTH, len(self.words)))

    def train_set(self):
        studies, number = self.studies("train"), {word: i for i, word in enumerate(self.words)}
        samples = Samples([number[word] for word in s.report.lower().split()[:LENGTH]] for s in studies)
        samples.ids = [s.id for s in studies]
        return samples

    def optimizers(self):
        return [adamw({"words": (self.model.parameters(), self.settings.train.lr)}, self.settings.train)]

    def losses(self, batch, draw):
        logits = self.model(torch.eye(LENGTH))
        return {"nll": nn.functional.cross_entropy(logits.T.expand(len(batch.rows), -1, -1), batch.words)}

    def validate(self, write):
        return {"score": len(set(self.said().split())), "tie": 0}  # the more words, the better

    def save(self, folder):
        (folder / "words.json").write_text(json.dumps(self.words))

    def said(self):
        return " ".join(self.words[i] for i in self.accelerator.unwrap_model(self.model)[1].weight.argmax(0))

    def write(self, images, **asked):
        return [ImageReport(image, Image.new("L", (8, 8)), self.said()) for image in images]

    def evaluate(self):
        records = [{"id": s.id, "reference": s.report, "prediction": self.said()} for s in self.studies("test")]
        return Written(records, RuleLabeler())


class ToySystem(Declaration):
    settings, title, start = RunSettings, "toy", Toy  # a class is called, not bound

    def open(self, folder, settings, accelerator):
        return Toy(settings, accelerator, json.loads((folder / "words.json").read_text()))


TOY = ToySystem()
