"""`revtaf reproduce`: run a test again from what its report.json holds, and say what differs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from revtaf.check import require
from revtaf.commands import recipe as recipes
from revtaf.commands.test import test
from revtaf.commands.train import train
from revtaf.config import RunSettings, places
from revtaf.config_file import changed_settings, of_training
from revtaf.engine.folder import BEST, find_model
from revtaf.errors import UserError
from revtaf.files import atomic_folder, digest, read_json, write_json

FILE = "reproduced.json"
BEGUN = "reproducing.json"  # until the comparison is there: which request the folder is of
ELSEWHERE = ("device", "threads", "train.workers")  # beside the places of files, what another machine may need
_SURROUNDINGS = ("revtaf", "git", "python", "packages", "platform", "cores", "device", "precision")
log = logging.getLogger("revtaf")


@dataclass(frozen=True)
class ReproduceRequest:
    """report: a report.json of `revtaf test`. out: a new folder, or that of the same request that was stopped. train:
    train anew, too. overrides: `key=value`, places of files and of the machine alone."""

    report: Path
    out: Path
    train: bool = False
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class ReportDifference:
    """One entry of the two reports: what it was, and what it is."""

    what: str
    before: Any
    now: Any

    def __str__(self) -> str:
        numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (self.before, self.now)]
        by = f" ({self.now - self.before:+.3g})" if all(numbers) else ""
        return f"{self.what}: {self.before} -> {self.now}{by}"


def reproduce(request: ReproduceRequest) -> dict[str, list[ReportDifference]]:
    """Test, with `train` also train, into `out`; what differs in surroundings, data and figures.

    UserError names what is missing. The comparison is written to `out`/reproduced.json. Stopped before, also by
    `revtaf.engine.train.Interrupted`, the same request goes on in its folder.
    """
    before = read_json(request.report, "report")
    recipe = _recipe(request.report, before)
    marker, this = request.out / BEGUN, digest(before, request.train, sorted(request.overrides))
    if request.out.exists() and any(request.out.iterdir()) and _begun(marker) != this:
        raise UserError(f"--out {request.out} is not empty, and not begun by this command; name a new folder")
    wanted = recipes.TRAINING if request.train else recipes.SETTINGS
    settings = _settings(request, recipe, wanted)
    tested = _settings(request, recipe, recipes.SETTINGS)
    _require_data(request, recipe, tested)
    if request.train:
        settings, tested = (_with_own_features(one, request.out) for one in (settings, tested))
        require(settings, training=True)
        write_json(marker, this)
        train(settings)
    else:
        model = _find_model(tested.run)
        with atomic_folder(request.out) as made:  # nothing is left where the test cannot start
            _link_model(model, tested.run, made)
            require(tested.model_copy(update={"run": made}), training=False)
            write_json(made / BEGUN, this)
    folder = test(tested.model_copy(update={"run": request.out}))
    found = _compared(before, read_json(folder / "report.json", "report"), request.train)
    write_json(request.out / FILE, {part: [vars(one) for one in them] for part, them in found.items()})
    marker.unlink()
    return found


def told(found: dict[str, list[ReportDifference]]) -> Iterator[str]:
    """Lines for the terminal."""
    for part, differences in found.items():
        yield f"{part}: {'as before' if not differences else f'{len(differences)} differ'}"
        yield from (f"  {one}" for one in differences)


def _begun(marker: Path) -> str | None:
    """Which request a folder was begun by that is not finished; None where there is none."""
    return read_json(marker) if marker.is_file() else None


def _with_own_features(settings: RunSettings, out: Path) -> RunSettings:
    """The same as a run in `out`, for which no feature is found that was made before."""
    sets = {name: getattr(settings, name) for name in ("data", "trained_on") if getattr(settings, name)}
    anew = {name: data.model_copy(update={"features": out / name}) for name, data in sets.items()}
    return settings.model_copy(update={**anew, "run": out})


def _recipe(path: Path, report: Any) -> dict[str, Any]:
    recipe = report.get(recipes.ENTRY) if isinstance(report, dict) else None
    if not isinstance(recipe, dict):
        raise UserError(
            f"{path}: '{recipes.ENTRY}' is missing: a report of `revtaf score`, or of an earlier version; test again "
            "with this version, which writes it"
        )
    for name in (recipes.SETTINGS, recipes.MODEL, recipes.DATA):
        if not isinstance(recipe.get(name), dict):
            raise UserError(f"{path}: '{recipes.ENTRY}.{name}' is missing; the report is damaged")
    for name in ("run", "metrics"):
        if not isinstance(report.get(name), dict):
            raise UserError(f"{path}: '{name}' is missing; the report is damaged")
    return recipe


def _settings(request: ReproduceRequest, recipe: dict[str, Any], name: str) -> RunSettings:
    where = f"{request.report}: {recipes.ENTRY}.{name}"
    if not isinstance(recipe.get(name), dict):
        raise UserError(f"{where} is missing: the run's own config.yaml was not there; leave out --train")
    tested_elsewhere = recipe[recipes.SETTINGS].get("trained_on") and not recipe[name].get("trained_on")
    given = of_training(request.overrides) if tested_elsewhere else request.overrides
    settings = changed_settings(recipe[name], given, where)
    allowed = {*places(type(settings)), *ELSEWHERE}
    if odd := [item for item in request.overrides if item.partition("=")[0] not in allowed]:
        raise UserError(
            f"override {odd[0]!r} would make another run; a repeated one takes places of files and {ELSEWHERE}"
        )
    return settings


def _require_data(request: ReproduceRequest, recipe: dict[str, Any], settings: RunSettings) -> None:
    sets = {"data": settings.data} | ({"trained_on": settings.trained_on} if settings.trained_on else {})
    for section, data in sets.items():
        if section == "trained_on" and not request.train:
            continue
        for key, there in (("annotation", data.annotation.is_file()), ("images", data.images.is_dir())):
            if not there:
                raise UserError(f"missing: {getattr(data, key)}; name its place with {section}.{key}=PATH")


def _find_model(run: Path) -> Path:
    """The model of a finished run; `run` may be a model's folder, too."""
    try:
        return find_model(run)
    except UserError as error:
        raise UserError(f"missing: the trained model ({error}); name its run with run=FOLDER, or add --train") from None


def _link_model(model: Path, run: Path, out: Path) -> None:
    """Make the run's model that of the new folder."""
    (out / BEST).parent.mkdir(parents=True, exist_ok=True)
    (out / BEST).symlink_to(model.resolve(), target_is_directory=True)
    for name in ("config.yaml", "metrics.jsonl"):
        if (run / name).is_file():
            shutil.copyfile(run / name, out / name)


def _compared(before: dict[str, Any], now: dict[str, Any], trained: bool) -> dict[str, list[ReportDifference]]:
    old, new = before[recipes.ENTRY], now[recipes.ENTRY]
    data = [recipes.DATA, recipes.TRAINING_DATA] + ([] if trained else [recipes.MODEL])
    return {
        "versions and hardware": [d for name in _SURROUNDINGS for d in _differing(before["run"], now["run"], name)],
        "data and model": [d for name in data for d in _differing(old, new, name)],
        "predictions": list(_differing(old, new, recipes.PREDICTIONS)),
        "figures": list(_differing(before, now, "metrics")),
    }


def _differing(before: Any, now: Any, name: str, prefix: str = "") -> Iterator[ReportDifference]:
    """Entries that are not equal to the last bit, those within a mapping each by itself."""
    a, b = (side.get(name) if isinstance(side, dict) else None for side in (before, now))
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from _differing(a, b, key, f"{prefix}{name}.")
    elif a != b:
        yield ReportDifference(f"{prefix}{name}", a, b)
