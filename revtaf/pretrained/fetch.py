"""What is public, into its place: torchvision's ImageNet weights, BERT models and single files of the Hugging Face Hub.

Nothing is known by heart. torchvision writes the first eight digits of a file's SHA-256 into its name; the hub says
which commit is the newest, and size and checksum of each of its files. That commit is written down in the model's
folder (`revision.json`) before the first byte is fetched, and every later fetch asks for the same one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torchvision

from revtaf.errors import UserError
from revtaf.files import read_json, write_json
from revtaf.pretrained.backbone import imagenet_file
from revtaf.pretrained.bert_folder import BERT_FILES, BESIDE, absent_files, find_weights
from revtaf.pretrained.download import SILENCE, Checksum, download

REVISION = "revision.json"
FETCHED, FOUND, OWN = "fetched", "already there", "put there by hand"

_KEPT = (*BESIDE, *BERT_FILES)  # of a repository; the rest is other frameworks' copies
_COMMIT = re.compile(r"[0-9a-f]{40}")


def imagenet_name(backbone: str) -> str:
    """The file that is fetched: of torchvision's weights the first, IMAGENET1K_V1, as `imagenet_file` prefers it."""
    return Path(next(iter(torchvision.models.get_model_weights(backbone))).url).name


def fetch_imagenet(backbone: str, server: str, folder: Path = Path("checkpoints")) -> tuple[str, Path]:
    """torchvision's weights of a backbone -> (FETCHED or FOUND, where they are).

    Found in `folder` or in torchvision's own cache; else fetched from `server`. Raises UserError, see `download`.
    """
    path = imagenet_file(backbone)
    if path is not None:
        checksum = _in_name(path.name)
        _require(checksum, path, None, "its own name")
        return FOUND, path
    path = folder / imagenet_name(backbone)
    download(f"{server.rstrip('/')}/{path.name}", path, _in_name(path.name))
    return FETCHED, path


def _in_name(name: str) -> Checksum:
    """resnet101-63fe2227.pth -> its checksum, as torch.hub reads it."""
    match = re.search(r"-([0-9a-f]{8,})\.", name)
    if match is None:
        raise UserError(f"{name}: torchvision's file names hold digits of their SHA-256, this one does not")
    return Checksum("sha256", match[1])


@dataclass(frozen=True)
class HubFile:
    """size: bytes. checksum: SHA-256 of a large file, git's SHA-1 of a small one."""

    size: int
    checksum: Checksum


@dataclass(frozen=True)
class Revision:
    """A commit of a repository of the hub, and those of its files that are needed."""

    repository: str
    commit: str
    files: dict[str, HubFile]

    @property
    def weights(self) -> str | None:
        """The file of weights that is fetched, safetensors first; None where the repository has neither kind."""
        return next((name for name in BERT_FILES if name in self.files), None)


def fetch_bert(
    repository: str, folder: Path, server: str | None = None, beside: Sequence[str] = BESIDE, weights: bool = True
) -> list[tuple[str, Path]]:
    """A BERT of the hub into `folder` -> [(FETCHED, FOUND or OWN, file)].

    server: the hub's address; None for HF_ENDPOINT or huggingface.co. beside, weights: which of the files are needed.
    A folder that a person filled is left as it is, unchecked. Raises UserError where a file in the folder is not that
    of the commit: nothing is ever replaced, and nothing new is put beside it. See also `download`.
    """
    own = find_weights(folder)
    if not (folder / REVISION).is_file() and not absent_files(folder, beside, weights):
        return [(OWN, folder / name) for name in (*beside, *([own.name] if weights else []))]
    revision = _revision(repository, folder, server, _KEPT)
    names = [*beside, *([own.name if own else revision.weights] if weights else [])]
    return _fetch_pinned(revision, names, " or ".join(BERT_FILES), folder, server)


def fetch_weights(repository: str, path: Path, server: str | None = None) -> tuple[str, Path]:
    """The file of a repository of the hub that is called like `path` -> (FETCHED, FOUND or OWN, path). Pinned beside
    it, in the way of `fetch_bert`."""
    if path.is_file() and not (path.parent / REVISION).is_file():
        return OWN, path
    revision = _revision(repository, path.parent, server, (path.name,))
    return _fetch_pinned(revision, [path.name], path.name, path.parent, server)[0]


def _revision(repository: str, folder: Path, server: str | None, kept: Sequence[str]) -> Revision:
    """The commit that a folder keeps to: as an earlier fetch wrote it down, else the newest."""
    return _read_revision(folder / REVISION, repository) or _ask(repository, hub_address(server), kept)


def _fetch_pinned(
    revision: Revision, names: Sequence[str | None], wanted: str, folder: Path, server: str | None
) -> list[tuple[str, Path]]:
    """[(FETCHED or FOUND, file)]. Files that are there are compared before anything is written, the commit is written
    down before anything is fetched. wanted: what to call a file that the commit has not."""
    pinned, commit = folder / REVISION, f"{revision.repository}, commit {revision.commit},"
    there = [name for name in names if name and (folder / name).is_file()]
    for name in names:
        if name not in revision.files:
            raise UserError(f"{commit} has no {name or wanted}")
    for name in there:
        expected = revision.files[name]
        _require(expected.checksum, folder / name, expected.size, pinned if pinned.is_file() else commit)
    if not pinned.is_file():
        write_json(pinned, _as_json(revision))
    for name in names:
        if name not in there:
            expected = revision.files[name]
            download(_url(hub_address(server), revision, name), folder / name, expected.checksum, expected.size)
    return [(FOUND if name in there else FETCHED, folder / name) for name in names]


def hub_address(server: str | None) -> str:
    """The hub's address: the given one, else HF_ENDPOINT, else huggingface.co. UserError where the hub is forbidden."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE forbids the Hugging Face Hub; unset it for this command")
    return (server or constants.ENDPOINT).rstrip("/")


def _require(checksum: Checksum, path: Path, size: int | None, where: str | Path) -> None:
    """UserError unless the file is the one that `where` names."""
    found = path.stat().st_size
    if size is not None and found != size:
        fault = f"{path} has {found:,} bytes, {where} says {size:,}"
    elif (digits := checksum.of(path)) != checksum.digits:
        fault = f"{path} has {checksum.kind} {digits}, {where} says {checksum.digits}"
    else:
        return
    raise UserError(f"{fault}; delete or move it, then fetch again")


def _url(server: str, revision: Revision, name: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(revision.repository, name, revision=revision.commit, endpoint=server)


def _ask(repository: str, server: str, kept: Sequence[str]) -> Revision:
    """The newest commit and those of its files that are `kept`, from the hub. No token is sent: what we fetch is
    public."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=server, token=False).model_info(repository, files_metadata=True, timeout=SILENCE)
        files = {
            file.rfilename: HubFile(int(file.lfs.size if file.lfs else file.size), _checksum(file))
            for file in info.siblings or ()
            if file.rfilename in kept
        }
        commit = str(info.sha)
    except Exception as error:  # each generation of the library has its own kinds (requests, httpx, httpx2)
        told = str(error).strip() or repr(error)
        raise UserError(f"{server} does not say what {repository} holds: {told.splitlines()[0]}") from None
    revision = Revision(repository, commit, files)
    _check(revision, f"{server}: {repository}")
    return revision


def _checksum(file: Any) -> Checksum:
    """Of a file in the hub's listing: that of its content in large-file storage, else git's."""
    return Checksum("sha256", str(file.lfs.sha256)) if file.lfs else Checksum("git", str(file.blob_id))


def _check(revision: Revision, where: str) -> None:
    for name, file in revision.files.items():
        whole = len(file.checksum.digits) == {"sha256": 64, "git": 40}[file.checksum.kind]
        if file.size < 1 or not whole or not re.fullmatch(r"[0-9a-f]+", file.checksum.digits):
            raise UserError(f"{where}: no size or checksum of {name}")
    if not _COMMIT.fullmatch(revision.commit):
        raise UserError(f"{where}: expected a commit of 40 hexadecimal digits, got {revision.commit!r}")


def _as_json(revision: Revision) -> dict[str, Any]:
    files = {
        name: {"size": file.size, file.checksum.kind: file.checksum.digits} for name, file in revision.files.items()
    }
    return {"repository": revision.repository, "commit": revision.commit, "files": files}


def _read_revision(path: Path, repository: str) -> Revision | None:
    """What an earlier fetch wrote down; None where there was none."""
    if not path.is_file():
        return None
    content = read_json(path, "pinned revision")
    try:
        files = {}
        for name, entry in content["files"].items():
            kind = "sha256" if "sha256" in entry else "git"
            files[name] = HubFile(int(entry["size"]), Checksum(kind, str(entry[kind])))
        revision = Revision(str(content["repository"]), str(content["commit"]), files)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is not what a fetch writes ({error!r}); delete it to take the newest commit") from None
    if revision.repository != repository:
        raise UserError(f"{path} is of {revision.repository}, expected {repository}; give that model its own folder")
    _check(revision, str(path))
    return revision
