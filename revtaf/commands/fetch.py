"""`revtaf fetch`: what a configuration needs and anybody may have, into its place; for the rest, whom to ask."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from revtaf import systems
from revtaf.config import RunSettings
from revtaf.errors import UserError
from revtaf.locks import alone
from revtaf.pretrained.download import reach
from revtaf.pretrained.fetch import fetch_bert, fetch_imagenet, fetch_weights, hub_address
from revtaf.pretrained.needed import HubBert, HubWeights, Imagenet, Needed, OnRequest, Package

_FOLDER = Path("checkpoints")


def fetch(settings: RunSettings) -> None:
    """Fetch, then try whether every file that is there fits. Raises UserError, and leaves nothing half under its name.

    A file that is there already and right is not fetched again.
    """
    items = list(systems.find(settings.system).needed(settings))
    for item in items:
        if item.absent and isinstance(item.source, OnRequest):
            print(f"ask for        {item.what}: {', '.join(item.absent)} ({item.purpose})\n{' ' * 15}{item.source}")
        elif item.absent and isinstance(item.source, Package):
            print(f"install        {item.what} ({item.purpose})\n{' ' * 15}{item.source}")
    if servers := _servers(items, settings):
        reach(servers, settings.fetch.patience)
    _fetch_all(items, settings)
    _try(list(systems.find(settings.system).needed(settings)))
    if not items:
        print("this configuration needs no pretrained file")


def _servers(items: list[Needed], settings: RunSettings) -> list[str]:
    """Those that are to be asked."""
    kinds = {type(item.source) for item in items if item.absent}
    servers = [settings.fetch.torchvision] if Imagenet in kinds else []
    return servers + ([hub_address(settings.fetch.hub)] if kinds & {HubBert, HubWeights} else [])


def _fetch_all(items: list[Needed], settings: RunSettings) -> None:
    told: set[Path] = set()  # a folder may serve two
    for item in items:
        for done, path in _fetch(item, settings):
            if path not in told:
                told.add(path)
                print(f"{done:14} {path}", flush=True)


def _fetch(item: Needed, settings: RunSettings) -> list[tuple[str, Path]]:
    """[(what was done, file)] of a public file."""
    source = item.source
    with _alone(item):
        if isinstance(source, Imagenet):
            return [fetch_imagenet(source.backbone, settings.fetch.torchvision, _FOLDER)]
        if isinstance(source, HubBert):
            return fetch_bert(source.repository, source.folder, settings.fetch.hub, source.beside, source.weights)
        if isinstance(source, HubWeights):
            return [fetch_weights(source.repository, source.path, settings.fetch.hub)]
    return []


def _alone(item: Needed) -> AbstractContextManager[None]:
    """Alone in the folder that the file goes into, as two would write the same hidden files. What is there already is
    only looked at."""
    source = item.source
    folder = None
    if isinstance(source, Imagenet):
        folder = _FOLDER
    elif isinstance(source, HubBert):
        folder = source.folder
    elif isinstance(source, HubWeights):
        folder = source.path.parent
    return alone(folder, "fetching", wait=False) if folder and item.absent else nullcontext()


def _try(items: list[Needed]) -> None:
    """Load what is there, strictly. UserError naming every file that does not fit."""
    wrong = []
    for item in items:
        if item.absent or item.fits is None:
            continue
        try:
            item.fits()
        except UserError as error:
            wrong.append(str(error))
        else:
            print(f"{'fits':14} {item.what}: {item.where}", flush=True)
    if wrong:
        raise UserError("\n".join(wrong))
