"""`revtaf fetch`: what a configuration needs and anybody may have, into its place; for the rest, whom to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from revtaf.config import Settings
from revtaf.errors import UserError
from revtaf.files import clear_errors
from revtaf.pretrained.download import reach
from revtaf.pretrained.fetch import fetch_bert, fetch_imagenet, hub_address
from revtaf.system.requirements import HubBert, Imagenet, Needed, OnRequest, needed

_LOCK = Path("checkpoints") / ".fetch.lock"


def fetch(settings: Settings) -> None:
    """Fetch, then try whether every file that is there fits. Raises UserError, and leaves nothing half under its name.

    A file that is there already and right is not fetched again.
    """
    items = needed(settings)
    for item in items:
        if item.absent and isinstance(item.source, OnRequest):
            print(f"ask for        {item.what}: {', '.join(item.absent)} ({item.purpose})\n{' ' * 15}{item.source}")
    if servers := _servers(items, settings):
        reach(servers, settings.fetch.patience)
        with _alone(_LOCK):
            _fetch_all(items, settings)
    else:
        _fetch_all(items, settings)  # there, and checked
    _try(needed(settings))
    if not items:
        print("this configuration needs no pretrained file")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """UserError where another process is fetching: both would write the same files."""
    with clear_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock, timeout=0):
                yield
        except Timeout:
            raise UserError(f"another fetch is at work here ({lock}); wait for it") from None


def _servers(items: list[Needed], settings: Settings) -> list[str]:
    """Those that are to be asked."""
    kinds = {type(item.source) for item in items if item.absent}
    servers = [settings.fetch.torchvision] if Imagenet in kinds else []
    return servers + ([hub_address(settings.fetch.hub)] if HubBert in kinds else [])


def _fetch_all(items: list[Needed], settings: Settings) -> None:
    told: set[Path] = set()  # a folder may serve two
    for item in items:
        for done, path in _fetch(item, settings):
            if path not in told:
                told.add(path)
                print(f"{done:14} {path}", flush=True)


def _fetch(item: Needed, settings: Settings) -> list[tuple[str, Path]]:
    """[(what was done, file)] of a public file."""
    source = item.source
    if isinstance(source, Imagenet):
        return [fetch_imagenet(source.backbone, settings.fetch.torchvision)]
    if isinstance(source, HubBert):
        return fetch_bert(source.repository, source.folder, settings.fetch.hub, source.beside, source.weights)
    return []


def _try(items: list[Needed]) -> None:
    """Load what is there, strictly. UserError naming every file that does not fit."""
    wrong = []
    for item in items:
        if item.absent:
            continue
        try:
            item.fits()
        except UserError as error:
            wrong.append(str(error))
        else:
            print(f"{'fits':14} {item.what}: {item.where}", flush=True)
    if wrong:
        raise UserError("\n".join(wrong))
