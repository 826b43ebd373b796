"""MedFuse-CLIP at toy size, on the tiny phantom set."""

MEDFUSE = {
    "system": "medfuse",
    "name": "tiny",
    "device": "cpu",
    "pairs": {"split": "official"},
    "image": {"tower": "vit", "size": 64, "resize": 72, "patch": 16, "layers": 1, "width": 32, "heads": 2},
    "text": {"sections": "report", "tokens": "train", "vocabulary_size": 400, "context": 96, "layers": 1, "width": 32}
    | {"heads": 2},
    "space": {"name": None, "weights": None, "width": 16, "centred": True},
    "train": {"epochs": 2, "batch_size": 8, "lr": 2e-3, "warmup_steps": 2, "workers": 0, "precision": "no"},
    "eval": {"resamples": 20},
}
