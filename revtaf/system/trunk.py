"""The staged schedule's first stage: image encoder and classifier, trained on the statuses alone and then left alone.

`train.schedule: staged` fits this trunk once for a data set and a seed and keeps it beside the features, so that all
runs of a grid that differ behind it share it. Fusion and decoder then train on the patches that it makes of the
training images. A share of the training patients (`trunk.holdout`) is kept apart: their predictions choose the epoch
and are what thresholds may be fitted on (`generation.statuses: calibrated`).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from revtaf.config import TrainSettings
from revtaf.data.blocks import WHOLE, Blocks, Shard
from revtaf.engine.batches import EpochBatches, eval_loader, train_loader
from revtaf.engine.optim import adamw, learning_rate
from revtaf.engine.runtime import seed_everything
from revtaf.errors import UserError
from revtaf.features.arrays import fingerprint
from revtaf.features.stages import array_hash, image_names
from revtaf.features.store import Arrays, FeatureStore, Save
from revtaf.files import atomic_write, digest, read_json, write_json
from revtaf.knowledge.entity_scorer import assign_folds
from revtaf.labels import POSITIVE
from revtaf.pretrained.strict import load_strictly, read_tensors
from revtaf.rng import key_of
from revtaf.system.dataset import ReportDataset

if TYPE_CHECKING:
    from revtaf.system.session import Session

log = logging.getLogger("revtaf")
VERSION = 2  # raised whenever the same inputs would give another trunk
WEIGHTS, LOG = "trunk.safetensors", "trunk.json"
LEAST_POSITIVES = 5  # of a category whose AUC on the kept patients counts
# The latest epoch within this of the best AUC is taken: with some hundred kept images the rest is chance, and the last
# epochs have the small learning rates.
TOLERANCE = 0.01


@dataclass
class Trunk:
    """A fitted trunk's view of the training set."""

    patches: np.ndarray  # (N, P, W) float16, the unaugmented images, mapped from disk
    probabilities: np.ndarray  # (N, 4, K) float32 of the statuses
    held: np.ndarray  # (N,) bool: samples of patients that it never saw
    mark: str  # changes with its bytes
    note: str  # one line for the run's report


def fit_trunk(session: Session) -> Trunk:
    """Fit the trunk, or find it, and put its weights into the model, frozen. UserError where the set is too large."""
    settings, knowledge, model = session.settings, session.knowledge, session.plain_model
    data, train = settings.training_data, knowledge.train
    _check_size(len(train), model, settings.encoder.image_size)
    store = FeatureStore(Path(data.features))
    producer = {
        "version": VERSION,
        "encoder": settings.encoder.model_dump(mode="json", exclude={"dropout"}),
        "classifier": settings.classifier.model_dump(mode="json"),
        "trunk": settings.trunk.model_dump(mode="json"),
        "start": digest([array_hash(value.cpu().numpy()) for value in model.encoder.state_dict().values()]),
        "features": [knowledge.trunk_fingerprint, array_hash(train.statuses), array_hash(train.memory)],
        "images": image_names(knowledge.studies, data),
        "seed": settings.seed,
        "precision": "bf16" if _halves(session) else "no",
    }
    if not data.packed:
        # Packed images lack what lies outside of the central square, which training crops from where images are not
        # square. The mark is on this side, as the trunks that are kept are those of grids, whose images are packed.
        producer["packed"] = False

    def build(parts: Path, _: Shard) -> tuple[Arrays, Save]:
        parts.mkdir(parents=True, exist_ok=True)
        held = held_out(train.patients, settings.trunk.holdout, settings.seed)
        plain = session.dataset(knowledge.studies, train, data)
        epochs = _fit(session, plain, held, parts)
        work = Blocks(parts / "patches", len(train), "image features")
        work.compute(lambda rows: _seen(session, plain, range(len(train))[rows]), WHOLE)

        def save(folder: Path) -> None:
            save_file({k: v.cpu().contiguous() for k, v in _parts(model).state_dict().items()}, folder / WEIGHTS)
            write_json(folder / LOG, epochs)

        return work.read() | {"held": held}, save

    arrays = store.get("trunk", producer, build)
    folder = store.used["trunk"]
    parts = _parts(model)
    load_strictly(parts, read_tensors(folder / WEIGHTS, "trunk"), folder / WEIGHTS, "trunk", "delete the folder")
    model.to(session.device)
    parts.requires_grad_(False)
    epochs = read_json(folder / LOG, "trunk")
    best = chosen_epoch(epochs)
    held = int(arrays["held"].sum())
    note = f"encoder and classifier trained first, epoch {best['epoch']} of {len(epochs)}, then frozen"
    if held:
        note += f"; AUC {best['auc']:.3f} on {held} kept training images, mean of {best['categories']} categories"
    return Trunk(arrays["patches"], arrays["probabilities"], arrays["held"], fingerprint(folder), note)


def held_out(patients: list[str], share: float, seed: int) -> np.ndarray:
    """(N,) bool: about `share` of the patients, drawn by the seed; none for 0."""
    if not share:
        return np.zeros(len(patients), dtype=bool)
    folds = max(2, round(1 / share))
    if len(set(patients)) < folds:
        raise UserError(f"trunk.holdout is {share}, but there are only {len(set(patients))} patients; set it to 0")
    return assign_folds(patients, folds, key_of(seed, "trunk", "holdout") % 2**32) == 0


def chosen_epoch(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """The latest of those whose "auc" is within TOLERANCE of the best."""
    enough = max(epoch["auc"] for epoch in epochs) - TOLERANCE
    return next(epoch for epoch in reversed(epochs) if epoch["auc"] >= enough)


class _Rows:
    """Some rows of a training set, as a training set."""

    def __init__(self, base: ReportDataset, rows: np.ndarray):
        self.base, self.rows, self.collate = base, rows, base.collate

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, Tensor]:
        epoch, row = key
        return self.base[(epoch, int(self.rows[row]))]


def _fit(session: Session, plain: ReportDataset, held: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """Train from the last finished epoch in `folder` on; the model then has the best epoch's weights. plain: the
    training set as it is written for; held (N,) bool: what is kept apart."""
    settings, model, device = session.settings, session.plain_model.to(session.device), session.device
    options, parts = settings.trunk, _parts(session.plain_model)
    rows, kept = np.flatnonzero(~held), np.flatnonzero(held)
    subset = _Rows(session.train_set(), rows)
    batches = EpochBatches(len(rows), min(options.batch_size, len(rows)), key_of(settings.seed, "trunk"))
    total = options.epochs * batches.count
    rates = TrainSettings(lr=options.lr, warmup_steps=total, min_lr=0, warmup_lr=0, weight_decay=options.weight_decay)
    learners = {"encoder": (model.encoder, options.lr), "classifier": (model.classifier, options.head_lr)}
    optimizer = adamw({name: (part.parameters(), lr) for name, (part, lr) in learners.items()}, rates)
    epochs: list[dict[str, Any]] = []
    state_file, best_file = folder / "state.pt", folder / "best.safetensors"
    if state_file.is_file():
        state = torch.load(state_file, map_location=device, weights_only=True)
        load_strictly(parts, state["weights"], state_file, "trunk", f"delete {folder}")
        optimizer.load_state_dict(state["optimizer"])
        epochs = state["epochs"]
    truth = torch.from_numpy(plain.features.statuses[kept].astype(np.int64))
    while len(epochs) < options.epochs:
        epoch = len(epochs)
        torch.manual_seed(key_of(settings.seed, "trunk", epoch))  # of dropout: an interrupted fit goes on the same
        parts.train()
        batches.move_to(epoch, 0)
        losses: list[float] = []
        loader = train_loader(subset, batches, settings)
        for batch in tqdm(loader, desc=f"encoder and classifier, epoch {epoch + 1}/{options.epochs}", leave=False):
            rate = learning_rate(epoch * batches.count + len(losses), total, rates)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["relative"]
            batch = batch.to(device)
            with _autocast(session):
                logits = model.diagnose(batch.images, session.memory(batch), options.dropout)[1]
            loss = model.classifier.loss(logits, batch.statuses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        record = {"epoch": epoch + 1, "loss": float(np.mean(losses)), "auc": 0.0, "categories": 0}
        if len(kept):
            probabilities = torch.from_numpy(_seen(session, plain, kept.tolist(), patches=False)["probabilities"])
            model.classifier.update_prior(probabilities[:, POSITIVE], truth)
            auc, count = _mean_auc(probabilities[:, POSITIVE].numpy(), truth.numpy() == POSITIVE)
            record |= {"auc": auc, "categories": count}
        epochs.append(record)
        log.info("encoder and classifier, epoch %d: loss %.4f, AUC %.4f", epoch + 1, record["loss"], record["auc"])
        if chosen_epoch(epochs) is record:
            with atomic_write(best_file) as partial:
                save_file({k: v.cpu().contiguous() for k, v in parts.state_dict().items()}, partial)
        with atomic_write(state_file) as partial:
            state = {"weights": parts.state_dict(), "optimizer": optimizer.state_dict(), "epochs": epochs}
            torch.save(state, partial)
    optimizer.zero_grad()  # also frees the gradients
    load_strictly(parts, read_tensors(best_file, "trunk"), best_file, "trunk", f"delete {folder}")
    seed_everything(settings.seed, session.accelerator.process_index)
    return epochs


@torch.no_grad()
def _seen(session: Session, dataset: ReportDataset, rows: list[int] | range, patches: bool = True) -> Arrays:
    """What the trunk makes of `rows`, in their order: patches (n, P, W) float16, probabilities (n, 4, K) float32."""
    model = session.plain_model
    _parts(model).eval()
    found: dict[str, list[np.ndarray]] = {"probabilities": []} | ({"patches": []} if patches else {})
    loader = eval_loader(dataset, list(rows), session.settings.trunk.batch_size, session.settings.train.workers)
    for batch in loader:
        batch = batch.to(session.device)
        vision, logits = model.diagnose(batch.images, session.memory(batch))
        found["probabilities"].append(logits.float().softmax(1).cpu().numpy())
        if patches:
            found["patches"].append(vision.patches.half().cpu().numpy())
    return {name: np.concatenate(values) for name, values in found.items()}


def cached_patches(session: Session, dataset: ReportDataset) -> np.ndarray:
    """(N, P, W) float16 of a split whose images the frozen encoder sees again and again, in memory."""
    return _seen(session, dataset, range(len(dataset)))["patches"]


def _mean_auc(positive: np.ndarray, truth: np.ndarray) -> tuple[float, int]:
    from sklearn.metrics import roc_auc_score

    counts = truth.sum(0)
    usable = [k for k, n in enumerate(counts) if LEAST_POSITIVES <= n < len(truth)]
    if not usable:
        return 0.5, 0
    return float(np.mean([roc_auc_score(truth[:, k], positive[:, k]) for k in usable])), len(usable)


def _parts(model: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"encoder": model.encoder, "classifier": model.classifier})


def _halves(session: Session) -> bool:
    return session.accelerator.mixed_precision == "bf16"  # fp16 would need its gradients scaled


def _autocast(session: Session) -> torch.autocast:
    return torch.autocast(session.device.type, dtype=torch.bfloat16, enabled=_halves(session))


def _check_size(samples: int, model: nn.Module, side: int) -> None:
    need = samples * (side // 32) ** 2 * model.encoder.width * 2
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else need * 4
    if need > memory / 2:
        raise UserError(
            f"train.schedule=staged keeps the features of all {samples} training images, {need / 1e9:.0f} GB, and this "
            f"machine has {memory / 1e9:.0f} GB of memory; use train.schedule=joint"
        )
