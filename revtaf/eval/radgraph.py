"""RadGraph F1 (Jain et al. 2021; supplement, Table 5): which entities and relations do two reports share?

The scores need annotations only. They come from a file made elsewhere, or from the `radgraph` package where it and its
weights are installed (`annotate`). Six definitions are in use under one name, so that all are given:

- `simple`, `partial`, `complete` as in the `radgraph` package: entities by words and label; the same with a flag "has a
  relation"; entities with what they relate to.
- `entity` (equal to `simple`), `relation` and `combined`, their mean, as in CXR-Report-Metric: what ReXrank prints and
  what RadCliQ takes. A report without relations has relation F1 0, so that two identical ones score 0.5.

Each is an F1 over sets per report, 0 where a side is empty, averaged over reports. Only the original `radgraph`
checkpoint compares with published numbers; `radgraph-xl` finds other entities and names them otherwise.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from revtaf.errors import UserError
from revtaf.eval.keyed import require_files, rows_of
from revtaf.eval.metric import Metric, mean_metric
from revtaf.files import read_json, write_json

VARIANTS = ("simple", "partial", "complete", "entity", "relation", "combined")
LABELS = ("ANAT-DP", "OBS-DP", "OBS-U", "OBS-DA")  # of the original checkpoint

Annotation = Mapping[str, Any]  # {"entities": {"1": {"tokens", "label", "relations": [[type, "2"], ..]}, ..}, ..}

_MODEL = "RadGraph model"
_MODEL_FILES = (
    ("config.json",),
    ("weights.th",),
    ("vocabulary",),
    ("encoder/config.json",),
    ("encoder/model.safetensors", "encoder/pytorch_model.bin"),
    ("encoder/tokenizer.json", "encoder/vocab.txt"),
)
_MODEL_FIX = "unpack radgraph.tar.gz there, and put the folder of the BERT that its config.json names in encoder/"
_TOO_OLD = "0.1.18"  # calls tokenizer functions that transformers 5 no longer has; works with 4.57
_TEXTS_PER_CALL = 64


def scores(references: Sequence[Annotation], predictions: Sequence[Annotation]) -> dict[str, Metric]:
    """VARIANTS -> mean F1 over N reports, from the annotations of both sides in the same order."""
    if len(references) != len(predictions):
        raise ValueError(f"got {len(references)} reference and {len(predictions)} predicted annotations")
    rows = [_compare(r["entities"], p["entities"]) for r, p in zip(references, predictions, strict=True)]
    values = np.array(rows, dtype=float).reshape(-1, len(VARIANTS))
    return {name: mean_metric(f"RadGraph_{name}", values[:, i]) for i, name in enumerate(VARIANTS)}


def _compare(reference: Mapping[str, dict], prediction: Mapping[str, dict]) -> tuple[float, ...]:
    simple, partial, complete, relation = (
        _f1(find(reference), find(prediction)) for find in (_simple, _partial, _complete, _relations)
    )
    return simple, partial, complete, simple, relation, (simple + relation) / 2


def _simple(entities: Mapping[str, dict]) -> set:
    return {(e["tokens"], e["label"]) for e in entities.values()}


def _partial(entities: Mapping[str, dict]) -> set:
    return {(e["tokens"], e["label"], bool(e["relations"])) for e in entities.values()}


def _complete(entities: Mapping[str, dict]) -> set:
    found = set()
    for e in entities.values():
        if not e["relations"]:
            found.add((e["tokens"], e["label"]))
        for kind, target in e["relations"]:  # the package ignores case here and nowhere else
            found.add((e["tokens"].lower(), e["label"], kind, entities[target]["tokens"].lower()))
    return found


def _relations(entities: Mapping[str, dict]) -> set:
    return {
        (e["tokens"], e["label"], entities[target]["tokens"], entities[target]["label"], kind)
        for e in entities.values()
        for kind, target in e["relations"]
    }


def _f1(reference: set, prediction: set) -> float:
    return 2 * len(reference & prediction) / (len(reference) + len(prediction)) if reference and prediction else 0.0


def read_annotations(path: Path, ids: Sequence[str]) -> list[Annotation]:
    """The annotation of each id, from JSON keyed by id or JSON Lines with "id"; UserError names place and entity."""
    rows = rows_of(path, ids)
    for where, annotation in rows:
        _check(annotation, where)
    return [annotation for _, annotation in rows]


def foreign_labels(annotations: Sequence[Annotation]) -> list[str]:
    """Labels that the original checkpoint does not have: another model made these annotations."""
    return sorted({e["label"] for a in annotations for e in a["entities"].values()} - set(LABELS))


def _check(annotation: Annotation, where: str) -> None:
    entities = annotation.get("entities")
    if not isinstance(entities, dict):
        raise UserError(f'{where}: expected an object with "entities", RadGraph\'s format')
    for key, entity in entities.items():
        held = entity if isinstance(entity, dict) else {}
        if not isinstance(held.get("tokens"), str) or not isinstance(held.get("label"), str):
            raise UserError(f'{where}, entity {key!r}: expected "tokens" and "label", both texts')
        relations = held.get("relations")
        pairs = isinstance(relations, list) and all(
            isinstance(r, list) and len(r) == 2 and all(isinstance(part, str) for part in r) for r in relations
        )
        if not pairs:
            raise UserError(f'{where}, entity {key!r}: "relations" is no list of [type, entity] pairs of texts')
        if strays := [target for _, target in relations if target not in entities]:
            raise UserError(f"{where}, entity {key!r}: a relation leads to {strays[0]!r}, which is no entity there")


def check_model(folder: Path) -> None:
    """UserError naming the file or package that `annotate` lacks. Imports nothing."""
    require_files(Path(folder), _MODEL_FILES, _MODEL, _MODEL_FIX)
    if importlib.util.find_spec("radgraph") is None:
        raise UserError(
            f"{_MODEL}: {folder} is there, but the package radgraph is not installed; pip install radgraph, "
            "or give annotations made elsewhere"
        )
    if version("radgraph") == _TOO_OLD and not version("transformers").startswith("4."):
        raise UserError(
            f"{_MODEL}: radgraph {_TOO_OLD} does not work with transformers {version('transformers')}; annotate in an "
            "environment with transformers 4 and give the annotations as files"
        )


def annotate(texts: Sequence[str], model_folder: Path, progress: bool = False) -> list[Annotation]:
    """Annotations of N texts by the original RadGraph model, on the CPU; an empty text has no entity.

    model_folder: what radgraph.tar.gz unpacks to (config.json, weights.th, vocabulary/), and in encoder/ the BERT whose
    name its config.json holds. Nothing is fetched. Raises UserError, at once where a file or the package is missing.
    """
    folder = Path(model_folder).resolve()
    check_model(folder)
    distinct = [t for t in dict.fromkeys(texts) if t.strip()]
    found: dict[str, Annotation] = {}
    with (
        tempfile.TemporaryDirectory() as place,
        tqdm(total=len(distinct), desc="RadGraph", unit="text", leave=False, disable=not progress) as bar,
    ):
        model = _load(folder, Path(place))
        for start in range(0, len(distinct), _TEXTS_PER_CALL):
            block = distinct[start : start + _TEXTS_PER_CALL]
            with contextlib.redirect_stdout(io.StringIO()) as said:
                result = model(block)
            for i, text in enumerate(block):
                if str(i) not in result:  # the package prints why, and goes on without the report
                    raise UserError(
                        f"{_MODEL}: no annotation for distinct text {start + i + 1}: {said.getvalue()[-200:]}"
                    )
                found[text] = result[str(i)]
            bar.update(len(block))
    return [found.get(t, {"entities": {}}) for t in texts]


def _load(folder: Path, place: Path):
    """The package's model. It reads place/radgraph: links to the folder, and a config that names the local BERT."""
    config = read_json(folder / "config.json", _MODEL)
    encoder = str(folder / "encoder")
    try:
        config["dataset_reader"]["token_indexers"]["bert"]["model_name"] = encoder
        config["model"]["embedder"]["token_embedders"]["bert"]["model_name"] = encoder
    except (KeyError, TypeError) as error:
        raise UserError(f"{_MODEL}: {folder / 'config.json'} is not RadGraph's: it lacks {error}") from None
    write_json(place / "radgraph" / "config.json", config)
    for name in ("weights.th", "vocabulary"):
        (place / "radgraph" / name).symlink_to(folder / name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from radgraph import RadGraph

            # On the CPU the package reads the weights without running code in them; elsewhere it would not.
            return RadGraph(model_type="radgraph", model_cache_dir=str(place), cuda=-1)
    except Exception as error:  # whatever an old package meets in new libraries, or in a wrong file
        reason = " ".join(str(error).split())[:200] or repr(error)
        raise UserError(
            f"{_MODEL}: the package radgraph cannot load {folder}: {reason}; "
            "give annotations made elsewhere if the files are right"
        ) from error
