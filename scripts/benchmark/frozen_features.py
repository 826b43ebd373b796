"""What a backbone's frozen features know of the reports' categories: validation AUC of a logistic regression.

    python scripts/benchmark/frozen_features.py --config configs/iu_xray_cpu.yaml encoder.backbone=efficientnet_lite0 \
        encoder.weights=imagenet encoder.image_size=224 encoder.resize=256

Nothing is trained but the regressions: a check of weights, and of how images are fed to them. Mean and maximum over the
patches; labels are the configured labeler's, positive against the rest. A category counts with as many positives as
`--positives` says in training and in validation.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from revtaf.config_file import load_settings
from revtaf.data.annotations import Study, load_annotations
from revtaf.data.images import read_image, resize_crop, to_tensor
from revtaf.errors import UserError
from revtaf.features.build import make_labeler, select
from revtaf.labels import CATEGORIES, POSITIVE
from revtaf.pretrained.backbone import Backbone, imagenet_file, load_imagenet
from revtaf.settings import Settings

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/iu_xray_cpu.yaml")
    parser.add_argument("--strength", type=float, default=1e-3, help="C of the regressions, on standardised features")
    parser.add_argument("--positives", type=int, default=5)
    options, overrides = parser.parse_known_args()
    settings = load_settings(options.config, overrides)
    data = settings.training_data
    annotations = load_annotations(data.annotation)
    labeler = make_labeler(settings, torch.device("cpu"))
    backbone, source = started(settings)
    features, positive = {}, {}
    for split in ("train", data.validation_split):
        studies = select(annotations, split, data)
        features[split] = pooled(backbone, studies, settings)
        positive[split] = np.asarray(labeler.label([study.report for study in studies])) == POSITIVE
    before, after = features.values()
    known, asked = positive.values()
    print(f"{source}, inputs {settings.encoder.inputs}, {settings.encoder.image_size} px, {len(before):,} images;")
    print(f"labels {labeler.name}; AUC on {len(after):,} of {data.name} {data.validation_split}")
    areas = []
    for k, name in enumerate(CATEGORIES):
        if min(known[:, k].sum(), asked[:, k].sum()) < options.positives:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=options.strength, max_iter=1000))
        scores = model.fit(before, known[:, k]).decision_function(after)
        areas.append(roc_auc_score(asked[:, k], scores))
        print(f"{name:28} {areas[-1]:.3f}   {asked[:, k].sum():4} positive")
    print(f"{'mean of ' + str(len(areas)):28} {np.mean(areas):.3f}")


def started(settings: Settings) -> tuple[Backbone, str]:
    """The backbone with its ImageNet weights, or random ones where `encoder.weights` is null, and what it is."""
    backbone = Backbone(settings.encoder.backbone).eval()
    if settings.encoder.weights is None:
        return backbone, f"{backbone.name} from random weights"
    path = imagenet_file(backbone.name)
    if settings.encoder.weights != "imagenet" or path is None:
        raise UserError("give encoder.weights=imagenet, and its file (checkpoints/README.md), or encoder.weights=null")
    load_imagenet(backbone, path)
    return backbone, f"{backbone.name} from {path.name}"


@torch.inference_mode()
def pooled(backbone: Backbone, studies: list[Study], settings: Settings) -> np.ndarray:
    """(N, 2 x width): mean and maximum over the patches of each study's image, cropped as in evaluation."""
    encoder, folder, found = settings.encoder, settings.training_data.images, []
    for start in tqdm(range(0, len(studies), BATCH), leave=False):
        crops = [
            resize_crop(read_image(folder / study.image_path[0]), encoder.resize, encoder.image_size)
            for study in studies[start : start + BATCH]
        ]
        grid = backbone(torch.stack([to_tensor(crop, encoder.inputs) for crop in crops]))
        found.append(torch.cat([grid.mean((2, 3)), grid.amax((2, 3))], 1))
    return torch.cat(found).numpy()


if __name__ == "__main__":
    main()
