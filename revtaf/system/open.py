"""A finished run, opened again: what `test` and `analyse` start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from revtaf.check import require
from revtaf.config import Settings
from revtaf.engine.checkpoint import load_weights, open_best
from revtaf.engine.runtime import make_accelerator
from revtaf.errors import UserError
from revtaf.lre.index import RetrievalIndex
from revtaf.system.dataset import ReportDataset
from revtaf.system.session import Session, open_session
from revtaf.system.write import retrieval_index


@dataclass
class Trained:
    """The best checkpoint of a run in a session, and the split that is tested."""

    session: Session
    dataset: ReportDataset
    checkpoint: Path
    meta: dict

    @cached_property
    def index(self) -> RetrievalIndex | None:
        """The training set in the retrieval space, kept beside the checkpoint; None where nothing is retrieved."""
        if not self.session.model.needs_reference:
            return None
        return retrieval_index(self.session, cache=self.checkpoint / "database.safetensors")

    @property
    def folder(self) -> Path:
        settings = self.session.settings
        return Path(settings.run) / output_name(settings)


def open_trained(settings: Settings) -> Trained:
    """Raises UserError where the run is not there, or where its features are not those it was trained with."""
    require(settings, training=False)
    checkpoint, tokenizer, meta = open_best(settings.run, settings)
    accelerator = make_accelerator(settings)
    session = open_session(settings, accelerator, tokenizer)
    if (meta["features"], meta["fingerprint"]) != (session.knowledge.key, session.knowledge.fingerprint):
        raise UserError(
            f"{checkpoint} was trained on other features than {settings.training_data.features} now has for this "
            "configuration: training data, weights or knowledge settings have changed since, or the folder was deleted "
            "and made again; restore it, or train again"
        )
    session.notes = meta["sources"]
    load_weights(checkpoint, session.model)
    session.model.to(accelerator.device)
    dataset = session.evaluation_set(settings.data, settings.data.test_split)
    return Trained(session, dataset, checkpoint, meta)


def output_name(settings: Settings) -> str:
    """iu_xray-val; trials, oracle prompts and references that were not retrieved get folders of their own and never
    replace the real result."""
    data = settings.data
    name = f"{data.name}-{data.test_split.replace('+', '-')}"
    name += f"-first{data.max_samples}" if data.max_samples else ""
    name += "-oracle" if settings.generation.prompts == "oracle" else ""
    references = settings.generation.references
    return name + (f"-{references}_references" if references != "retrieved" else "")
