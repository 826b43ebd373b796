"""Image -> P(present) of 75 entities and a position each, learned from the training reports alone.

Stands in for MedKLIP (the paper's source of F_logit and of the triplets) behind the same interface: a small CNN
is trained on the entities and positions that the training reports mention. The scores of training images are
out-of-fold: every image is scored by the network that never saw its patient, or the retriever would learn from
scores that it never meets at test. A new image gets the mean of the folds' networks.

Networks differ in how high they score: images of one fold would be nearest to each other for that alone. So the scores
of each network are mapped, entity by entity, to the distribution of all out-of-fold scores (`FoldMaps`), whoever is
scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from revtaf.config import InputKind, KnowledgeSettings
from revtaf.data.blocks import FEW, WHOLE, PixelBlocks, Shard, Waiting
from revtaf.data.images import normalise, resize_crop
from revtaf.errors import UserError
from revtaf.files import atomic_write, read_json, write_json
from revtaf.knowledge.base import EntityScores
from revtaf.knowledge.mentions import Mentions
from revtaf.labels import ENTITIES, POSITIONS, UNSPECIFIED_POSITION
from revtaf.precision import computes_in_bf16
from revtaf.pretrained.backbone import Backbone
from revtaf.pretrained.strict import load_strictly, read_tensors

PREDICT_BATCH = 64  # images scored at once
Images = np.ndarray | PixelBlocks  # (N, S, S) uint8, in memory or on disk
INPUTS: InputKind = "image"  # see `normalise`
QUANTILES = 257  # knots of a fold's map, evenly spaced from the least score to the greatest
SHIFT, TURN, SCALE = 0.06, 0.09, 0.06  # augmentation: fraction of the side, radians, relative size


class EntityNet(nn.Module):
    """(B, 3, S, S) -> presence logits (B, 75), position logits (B, 75, 51)."""

    def __init__(self, backbone: str):
        super().__init__()
        self.backbone = Backbone(backbone)
        self.presence = nn.Linear(self.backbone.width, len(ENTITIES))
        # A position is "this place" + "this entity here": two small tables instead of one of 75 x 51.
        self.position = nn.Linear(self.backbone.width, len(POSITIONS))
        self.usual_position = nn.Parameter(torch.zeros(len(ENTITIES), len(POSITIONS)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, S, S), each normalised by itself -> logits of presence (B, 75) and of position (B, 75, 51)."""
        pooled = self.backbone(images).mean((2, 3))
        return self.presence(pooled), self.position(pooled).unsqueeze(1) + self.usual_position


@dataclass
class FoldMaps:
    """Quantile matching: per entity and fold, the monotone map from the network's scores to all folds' scores.

    The quantiles of what the network says of its held-out fold go to the same quantiles of the pooled out-of-fold
    scores, linear in between; beyond the knots a score keeps its distance to the last one, within [0, 1]. Ranks within
    a fold stay.
    """

    own: np.ndarray  # (folds, 75, QUANTILES) float32, ascending: of each fold's held-out scores
    pooled: np.ndarray  # (75, QUANTILES) float32, ascending: of all of them

    @classmethod
    def fit(cls, presence: np.ndarray, fold_of: np.ndarray) -> FoldMaps:
        """presence (N, 75), out of fold; fold_of (N,), every fold from 0 on at least once."""
        at = np.linspace(0, 1, QUANTILES)
        own = [np.quantile(presence[fold_of == fold], at, axis=0).T for fold in range(fold_of.max() + 1)]
        return cls(np.array(own, dtype=np.float32), np.quantile(presence, at, axis=0).T.astype(np.float32))

    @classmethod
    def identity(cls, folds: int) -> FoldMaps:
        """Maps that leave every score as it is."""
        line = np.tile(np.linspace(0, 1, QUANTILES, dtype=np.float32), (len(ENTITIES), 1))
        return cls(np.stack([line] * folds), line)

    def apply(self, presence: np.ndarray, fold: int) -> np.ndarray:
        """Scores (n, 75) of the network of `fold` -> (n, 75) float32 in [0, 1]."""
        mapped = np.empty(presence.shape, dtype=np.float32)
        for m, (knots, values) in enumerate(zip(self.own[fold], self.pooled, strict=True)):
            column = presence[:, m]
            beyond = np.minimum(column - knots[0], 0) + np.maximum(column - knots[-1], 0)
            mapped[:, m] = np.interp(column, knots, values) + beyond
        return mapped.clip(0, 1)


class EntityScorer:
    """The folds' networks and their maps, the entities that could be learned, and a decision threshold for each."""

    name = "scorer-v3"

    def __init__(
        self,
        nets: list[EntityNet],
        maps: FoldMaps,
        image_size: int,
        frequency: np.ndarray,
        learned: np.ndarray,
        threshold: np.ndarray,
    ):
        self.nets = nets
        self.maps = maps
        self.image_size = image_size
        self.frequency = frequency  # (75,) share of training reports that state the entity
        self.learned = learned  # (75,) bool; the others are scored by their frequency
        self.threshold = threshold  # (75,) P above which the local prompt says "exist"

    def pixels(self, image: Image.Image) -> np.ndarray:
        """8-bit grey image -> (S, S) uint8, see `scorer_pixels`."""
        return scorer_pixels(image, self.image_size)

    def score(self, images: np.ndarray, device: torch.device, progress: bool = False) -> EntityScores:
        """images (N, S, S) uint8 -> mean over the folds' networks, each through its map; computed on the device.

        A mean of networks varies less than one network does, so that new images lie a little closer to the middle than
        the training images, each of which one network scored. No image shows by how much: each training image was seen
        by all networks but one.
        """
        nets = [net.to(device) for net in self.nets]
        presence, position = _predict(nets, images, np.arange(len(images)), progress)
        mapped = np.mean([self.maps.apply(scores, fold) for fold, scores in enumerate(presence)], axis=0)
        return self._decide(mapped, position)

    def _decide(self, presence: np.ndarray, position: np.ndarray) -> EntityScores:
        probability = np.where(self.learned, presence, self.frequency).astype(np.float32)
        present = (probability >= self.threshold) & self.learned
        return EntityScores(probability, np.where(present, position, UNSPECIFIED_POSITION).astype(np.uint8), present)

    def save(self, folder: Path) -> None:
        """Write scorer.safetensors and scorer.json into a folder."""
        tensors = {f"{i}.{k}": v for i, net in enumerate(self.nets) for k, v in net.state_dict().items()}
        tensors |= {
            "frequency": torch.from_numpy(self.frequency),
            "learned": torch.from_numpy(self.learned),
            "threshold": torch.from_numpy(self.threshold),
            "quantiles.own": torch.from_numpy(self.maps.own),
            "quantiles.pooled": torch.from_numpy(self.maps.pooled),
        }
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, folder / "scorer.safetensors")
        meta = {
            "name": self.name,
            "backbone": self.nets[0].backbone.name,
            "folds": len(self.nets),
            "image_size": self.image_size,
        }
        write_json(folder / "scorer.json", meta)

    @classmethod
    def load(cls, folder: Path) -> EntityScorer:
        """Read what `save` wrote, strictly; UserError where scorer.json is missing or damaged."""
        meta = read_json(folder / "scorer.json", "entity scorer")
        path = folder / "scorer.safetensors"
        tensors = read_tensors(path, cls.name)
        nets = []
        for i in range(meta["folds"]):
            net = EntityNet(meta["backbone"])
            prefix = f"{i}."
            state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            load_strictly(net, state, path, cls.name)
            nets.append(net.eval())
        values = (tensors[name].numpy() for name in ("frequency", "learned", "threshold"))
        if meta["name"] == "scorer-v2":  # of an earlier version, whose models know unmapped scores
            maps = FoldMaps.identity(meta["folds"])
        else:
            maps = FoldMaps(tensors["quantiles.own"].numpy(), tensors["quantiles.pooled"].numpy())
        return cls(nets, maps, meta["image_size"], *values)


def scorer_pixels(image: Image.Image, size: int) -> np.ndarray:
    """The centre crop that the scorer sees: shorter side to 256/224 of `size`, as the model's own images."""
    return np.asarray(resize_crop(image, round(size * 256 / 224), size))


def fit_entity_scorer(
    images: Images,
    mentions: Mentions,
    patients: Sequence[str],
    settings: KnowledgeSettings,
    seed: int,
    device: torch.device,
    folder: Path,
    shard: Shard = WHOLE,
) -> tuple[EntityScorer, EntityScores]:
    """Cross-fit on (N, S, S) uint8 training images, which may be mapped from disk; returns the scorer and the
    out-of-fold scores.

    Each fold's network is a file of `folder`, so that a fit continues with the first fold that is not there. A shard
    trains its own folds; Waiting is raised where others' are missing.
    """
    target = (mentions.presence == 1).astype(np.float32)
    check_folds(patients, settings.folds)
    fold_of = assign_folds(patients, settings.folds, seed)
    paths = [folder / f"fold{fold}.safetensors" for fold in range(settings.folds)]
    for fold, path in enumerate(paths):
        if shard.takes(fold) and not path.exists():
            title = f"fold {fold + 1}/{settings.folds}"
            torch.manual_seed(seed * 1000 + fold)
            inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
                net = _train(images, target, mentions.position, inside, settings, device, title)
            presence, position = _predict([net], images, outside, True)
            state = {f"net.{k}": v.contiguous().cpu() for k, v in net.state_dict().items()}
            state |= {"presence": torch.from_numpy(presence[0]), "position": torch.from_numpy(position)}
            with atomic_write(path) as partial:
                save_file(state, partial)
    if missing := [path.name for path in paths if not path.exists()]:
        raise Waiting(f"entity scorer: {', '.join(missing)} still missing")

    presence = np.zeros(target.shape, dtype=np.float32)
    position = np.zeros(target.shape, dtype=np.uint8)
    nets = []
    for fold, path in enumerate(paths):
        state = read_tensors(path, EntityScorer.name)
        presence[fold_of == fold] = state.pop("presence").numpy()
        position[fold_of == fold] = state.pop("position").numpy()
        net = EntityNet(settings.scorer_backbone)
        state = {k.removeprefix("net."): v for k, v in state.items()}
        load_strictly(net, state, path, EntityScorer.name, "delete the file, the fold is trained again")
        nets.append(net.eval())
    maps = FoldMaps.fit(presence, fold_of)
    for fold in range(settings.folds):
        presence[fold_of == fold] = maps.apply(presence[fold_of == fold], fold)
    frequency = target.mean(0)
    learned = target.sum(0) >= settings.min_mentions
    # An entity is stated as often as the reports state it: the threshold is that quantile of the scores.
    threshold = np.array(
        [np.quantile(presence[:, m], 1 - frequency[m]) for m in range(len(ENTITIES))], dtype=np.float32
    )
    scorer = EntityScorer(nets, maps, settings.scorer_image_size, frequency.astype(np.float32), learned, threshold)
    return scorer, scorer._decide(presence, position)


def in_halves(settings: KnowledgeSettings, device: torch.device) -> bool:
    """Whether the networks are fitted in bfloat16."""
    wanted = settings.scorer_precision
    return wanted == "bf16" or (wanted == "auto" and computes_in_bf16(device))


def check_folds(patients: Sequence[str], folds: int) -> None:
    """UserError where there are fewer patients than folds."""
    if len(set(patients)) < folds:
        raise UserError(f"knowledge.folds is {folds}, but there are only {len(set(patients))} patients")


def assign_folds(patients: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """(N,) fold of every sample; all samples of a patient share one, folds differ by at most one patient."""
    unique = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(unique))
    fold = {unique[p]: rank % folds for rank, p in enumerate(order)}
    return np.array([fold[p] for p in patients])


def _train(
    images: Images,
    target: np.ndarray,
    position: np.ndarray,
    rows: np.ndarray,
    settings: KnowledgeSettings,
    device: torch.device,
    title: str,
) -> EntityNet:
    net = EntityNet(settings.scorer_backbone).to(device).train()
    with torch.no_grad():  # start from the frequencies, so that rare entities do not have to be unlearned
        share = torch.from_numpy(target[rows].mean(0)).clamp(1e-3, 1 - 1e-3)
        net.presence.bias.copy_(torch.logit(share))
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.scorer_lr, weight_decay=0.05)
    batch = min(settings.scorer_batch_size, len(rows))
    steps = settings.scorer_epochs * max(1, len(rows) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.scorer_lr, total_steps=steps)
    order = _permutations(rows, settings.scorer_epochs + 1)
    for step in tqdm(range(steps), desc=f"entity scorer, {title}", leave=False):
        chosen = order[step * batch : (step + 1) * batch]
        x = _augment(normalise(torch.from_numpy(images[chosen]).to(device), INPUTS))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_halves(settings, device)):
            presence, places = (logits.float() for logits in net(x))
        truth = torch.from_numpy(target[chosen]).to(device)
        loss = F.binary_cross_entropy_with_logits(presence, truth)
        where = torch.from_numpy(position[chosen].astype(np.int64)).to(device)
        stated = (truth > 0) & (where != UNSPECIFIED_POSITION)
        if stated.any():
            loss = loss + 0.1 * F.cross_entropy(places[stated], where[stated])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def _permutations(rows: np.ndarray, times: int) -> np.ndarray:
    return np.concatenate([rows[torch.randperm(len(rows)).numpy()] for _ in range(times)])


@torch.no_grad()
def _predict(nets: list[EntityNet], images: Images, rows: np.ndarray, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """For `rows` (n,) of the images: P(present) by each network (networks, n, 75) float32, and the likeliest position
    by all of them (n, 75) uint8."""
    device = next(nets[0].parameters()).device
    presence, position = [], []
    starts = range(0, len(rows), PREDICT_BATCH)
    for start in tqdm(starts, desc="entity scores", leave=False, disable=not progress or len(rows) <= FEW):
        x = normalise(torch.from_numpy(images[rows[start : start + PREDICT_BATCH]]).to(device), INPUTS)
        outputs = [net(x) for net in nets]
        presence.append(torch.stack([logits.sigmoid() for logits, _ in outputs]).cpu().numpy())
        likeliest = sum(places.softmax(-1) for _, places in outputs).argmax(-1)
        position.append(likeliest.to(torch.uint8).cpu().numpy())
    return np.concatenate(presence, axis=1), np.concatenate(position)


def _augment(images: Tensor) -> Tensor:
    """A small random rotation, shift and zoom per image."""
    n = len(images)
    draw = torch.rand(4, n, device=images.device) * 2 - 1
    angle, scale = draw[0] * TURN, 1 + draw[1] * SCALE
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = draw[2:] * 2 * SHIFT
    theta = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="border")
