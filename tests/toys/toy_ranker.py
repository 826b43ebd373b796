"""A second system that the project does not know: it writes nothing, and ranks training reports for each image."""

import numpy as np
from toy_systems import Toy, ToySystem

from revtaf.eval.rankings import Rankings, rank_metrics


class Ranker(Toy):
    """Prefers reports with likely words; right is the report that shares most words with the query's own."""

    def words_of(self, split):
        return [set(study.report.lower().split()) for study in self.studies(split)]

    def ranks(self, preference):
        place = np.argsort(np.argsort(-preference, kind="stable"))
        known = self.words_of("train")
        return np.array(
            [1 + place[np.argmax([len(asked & other) for other in known])] for asked in self.words_of("test")]
        )

    def evaluate(self):
        likely = dict(zip(self.words, self.model[1].weight.detach().mean(1).tolist(), strict=True))
        liked = np.array([sum(likely[word] for word in words) for words in self.words_of("train")])
        rows = {
            "learned": rank_metrics(self.ranks(liked)),
            "as they come": rank_metrics(self.ranks(-np.arange(len(liked)))),
        }
        return Rankings([study.id for study in self.studies("test")], rows, "image-to-report,48")


class RankerSystem(ToySystem):
    title, start = "toy ranker", Ranker

    def open(self, folder, settings, accelerator):
        return Ranker(settings, accelerator, super().open(folder, settings, accelerator).words)


RANKER = RankerSystem()
