"""The page of `revtaf serve`: that of `generate`, with a place to drop images into.

Nothing is served but this page and the reports of what is uploaded to it: no folder stands behind an address, so no
path leads out of one. An upload is the body of a request. It lies in a folder of its own, under a name that is not the
sender's, until its report is written. The page loads nothing from elsewhere and reports to nobody.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from revtaf.errors import UserError
from revtaf.generate.asked import read_statuses
from revtaf.generate.inputs import SUFFIXES
from revtaf.generate.page import Upload, page_text, view

if TYPE_CHECKING:
    from revtaf.engine.system import System

LOCAL = ("127.0.0.1", "localhost", "[::1]")
# A page of another site may send forms and plain text here, but not this type without being allowed to, and it is not.
BODY = "application/octet-stream"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # beside the page's own policy
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_LONGEST = 200  # characters of a name


class Reporter:
    """A model that is asked by several threads: one image at a time, and each gets its own report."""

    def __init__(self, system: System):
        self._system = system
        self._lock = threading.Lock()

    def report(self, content: bytes, name: str, statuses: Mapping[str, str]) -> dict[str, Any]:
        """What the page shows of an uploaded image (`revtaf.generate.page.view`). Raises UserError where it is no
        image, or where the model has no place for `statuses`; the message calls the image by its name."""
        suffix = Path(name).suffix.lower()
        with tempfile.TemporaryDirectory(prefix="revtaf-") as folder:
            path = Path(folder) / f"upload{suffix if suffix in SUFFIXES else ''}"
            path.write_bytes(content)
            try:
                with self._lock:
                    report = self._system.report(path, **({"statuses": dict(statuses)} if statuses else {}))
            except UserError as error:
                raise UserError(str(error).replace(str(path), name).replace(path.name, name)) from None
            return view(replace(report, image=Path(name)), name)


def make_app(system: System, title: str, facts: Mapping[str, str], limit: int, hosts: tuple[str, ...]) -> Starlette:
    """The application. limit: bytes of an upload. hosts: by what names a browser may call this machine, so that no
    other site's name leads here; ("*",): by any."""
    reporter = Reporter(system)
    page = page_text([], title, facts, Upload(f"PNG, JPEG, TIFF or DICOM, up to {limit >> 20} MB", limit))

    async def show(_: Request) -> HTMLResponse:
        return HTMLResponse(page, headers=_HEADERS)

    async def report(request: Request) -> JSONResponse:
        if request.headers.get("content-type") != BODY:
            return _refused(415, f"the body of the request has to be the image itself, as {BODY}")
        content = await _body(request, limit)
        if content is None:
            return _refused(413, f"the file is larger than {limit >> 20} MB")
        asked = request.query_params
        try:
            statuses = read_statuses(asked.get("status", ""))
            shown = await run_in_threadpool(reporter.report, content, _named(asked.get("name", "")), statuses)
        except UserError as error:
            return _refused(422, str(error).removeprefix("--status: "))
        return JSONResponse(shown, headers=_HEADERS)

    routes = [Route("/", show, methods=["GET"]), Route("/report", report, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))])


async def _body(request: Request, limit: int) -> bytes | None:
    """The body; None where it is larger, of which no more than that is read."""
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        return None
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > limit:
            return None
    return bytes(content)


def _named(name: str) -> str:
    """The last part of what the sender calls the image: it is shown, never opened."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(character for character in last if character.isprintable())[:_LONGEST] or "image"


def _refused(code: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status_code=code, headers=_HEADERS)
