"""One file over HTTP: with progress, continued where an earlier attempt broke off, checked before it gets its name.

What is not whole yet is a hidden file, `.NAME.DIGITS.partial`, beside the place of `NAME`. DIGITS are those of the
checksum that is expected, so that the beginning of another version is never continued. Neither torch.hub nor
huggingface_hub (since 1.31) keeps the beginning of a file, and each checks less than this.
"""

from __future__ import annotations

import glob
import hashlib
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from revtaf import __version__
from revtaf.errors import UserError
from revtaf.files import clear_errors, sha256

SILENCE = 30.0  # seconds without a byte, after which a connection counts as cut
PIECE = 1 << 20  # bytes
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416
_ADVICE = "the same command goes on from there"
_NETWORK = (URLError, HTTPException, ConnectionError, TimeoutError, OSError)  # kinds of failure on the way


@dataclass(frozen=True)
class Checksum:
    """kind: "sha256", or "git", the SHA-1 under which git keeps a file. digits: all of it, or the first ones."""

    kind: str
    digits: str

    def of(self, path: Path) -> str:
        """What the file has, in as many digits."""
        return (sha256(path) if self.kind == "sha256" else _git_sha1(path))[: len(self.digits)]

    def __str__(self) -> str:
        return f"{self.kind} {self.digits}"


def download(url: str, path: Path, checksum: Checksum, size: int | None = None) -> None:
    """Get `url` into `path`, of which nothing exists before it is whole and right.

    size: in bytes, where it is known. Raises UserError for a cut connection (what came is kept), a full disk (likewise)
    and for a file of another size or checksum than expected (which is deleted).
    """
    partial = path.with_name(f".{path.name}.{checksum.digits[:12]}.partial")
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    have = partial.stat().st_size if partial.exists() else 0
    if size is not None and have > size:  # never ours
        partial.unlink()
        have = 0
    if size is None or have < size:
        with clear_errors(path):
            _transfer(url, partial, have, size, path.name)
    found = partial.stat().st_size
    if size is not None and found != size:
        partial.unlink()
        raise UserError(f"{url}: {found:,} bytes came, expected {size:,}; they were deleted, nothing is kept")
    if (digits := checksum.of(partial)) != checksum.digits:
        partial.unlink()
        raise UserError(
            f"{url}: wrong checksum: expected {checksum}, got {digits}; what came was deleted. Run the same command "
            "again; where it stays wrong, this server has another file"
        )
    os.replace(partial, path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):  # the beginnings of other versions
        left.unlink()


def reach(urls: Iterable[str], seconds: float) -> None:
    """UserError unless every server answers, whatever it answers. All are asked at once: `seconds` is the longest wait.

    In threads, since looking up a name may hang for much longer than any time limit of a connection.
    """
    faults = {url: f"no answer in {seconds:g} s" for url in urls}
    for url in faults:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"{url!r} is no address of a server; expected http://... or https://...")

    def ask(url: str) -> None:
        try:
            _open(Request(url, method="HEAD"), seconds).close()
        except HTTPError as answer:  # it is there, and has no page at its root
            answer.close()
        except _NETWORK as error:
            faults[url] = _reason(error)
            return
        faults.pop(url, None)

    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in list(faults)]
    until = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if faults := dict(faults):
        told = "; ".join(f"{url}: {fault}" for url, fault in faults.items())
        raise UserError(
            f"cannot reach {told}. Is there a network? A proxy is named in HTTPS_PROXY, a mirror by fetch.hub=URL and "
            "fetch.torchvision=URL; a slow network gets more time by fetch.patience=SECONDS. Or put the files there by "
            "hand: checkpoints/README.md"
        )


def _transfer(url: str, partial: Path, have: int, size: int | None, name: str) -> None:
    """Append what is missing. Raises UserError where the server or the way to it fails."""
    try:
        answer = _open(Request(url, headers={"Range": f"bytes={have}-"} if have else {}), SILENCE)
    except HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE and have:  # nothing lies behind what we have: it is not of this file
            partial.unlink()
            return _transfer(url, partial, 0, size, name)
        raise UserError(f"{url}: the server answered {error.code} {error.reason}") from None
    except _NETWORK as error:
        raise UserError(f"cannot reach {url}: {_reason(error)}; {_ADVICE}") from None
    with answer:
        if have and answer.status != _PARTIAL_CONTENT:
            have = 0  # this server only knows whole files
        try:
            _write(answer, partial, have, size, name, url)
        except _Cut as cut:
            raise UserError(f"{url}: the connection broke off after {cut}; {_ADVICE}") from None


def _write(answer: HTTPResponse, partial: Path, have: int, size: int | None, name: str, url: str) -> None:
    if have and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
        raise UserError(f"{url}: asked for the bytes from {have:,}, got {answer.headers.get('Content-Range')}")
    length = answer.headers.get("Content-Length")
    total = have + int(length) if length else size
    if size is not None and total != size:
        raise UserError(f"{url}: the server has {total:,} bytes, expected {size:,}")
    with (
        open(partial, "ab" if have else "wb") as file,
        tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True, leave=False) as bar,
    ):
        while piece := _read(answer):
            file.write(piece)
            bar.update(len(piece))
        if piece is None or (total is not None and file.tell() < total):
            raise _Cut(f"{file.tell():,} of {total:,} bytes")


class _Cut(Exception):
    """The rest of a file did not come; says how much did."""


def _read(answer: HTTPResponse) -> bytes | None:
    """What has come; empty at the end, None where the connection failed.

    Apart from writing, because the disk's errors are of the same kinds.
    """
    try:
        return answer.read1(PIECE)
    except IncompleteRead as error:
        return error.partial or None
    except _NETWORK:
        return None


def _open(request: Request, seconds: float) -> HTTPResponse:
    request.add_header("User-Agent", f"revtaf/{__version__}")
    return urlopen(request, timeout=seconds)


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return str(inner or error) or type(error).__name__


def _git_sha1(path: Path) -> str:
    state = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            state.update(piece)
    return state.hexdigest()
