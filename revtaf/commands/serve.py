"""`revtaf serve`: a local page to try a model on images that are dropped into it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import revtaf
from revtaf import systems
from revtaf.errors import UserError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

INSTALL = "revtaf serve needs the extra `serve`: pip install 'revtaf[serve]'"
AT_ONCE = 16  # connections; more are told that the server is busy
IDLE = 5  # seconds for which an unused connection is kept


@dataclass
class ServeRequest:
    """What the command line asks for; see `revtaf serve --help`. max_upload: in MB."""

    checkpoint: Path
    host: str = "127.0.0.1"
    port: int = 7860
    max_upload: int = 64
    device: str = "auto"


def serve(request: ServeRequest) -> None:
    """Open the model and answer until the user stops it. UserError without the extra, for a model that cannot be
    opened, and for an address that cannot be used."""
    try:
        import uvicorn  # noqa: F401 (what server_of needs)

        from revtaf.generate.serve import LOCAL, make_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("revtaf"):
            raise
        raise UserError(INSTALL) from None
    with listening(request.host, request.port) as place:  # before the model is read, which takes a while
        system = revtaf.load(request.checkpoint, device=request.device)
        settings = system.settings
        facts = {
            "system": systems.find(settings.system).title,
            "model": f"{settings.name}, trained on {settings.training_data.name}",
            **system.notes,
            "revtaf": revtaf.__version__,
        }
        local = _is_local(request.host)
        hosts = (*LOCAL, request.host) if local else ("*",)
        app = make_app(system, "Report of a chest radiograph", facts, request.max_upload << 20, hosts)
        host, port = place.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/  (stop with Ctrl-C)", flush=True)
        if not local:
            print(
                "warning: everybody who reaches this address can use the model; nothing is encrypted", file=sys.stderr
            )
        with contextlib.suppress(KeyboardInterrupt):
            server_of(app).run(sockets=[place])


def server_of(app: Starlette) -> uvicorn.Server:
    """A server of the application: it tells no visitor what it is, and refuses more than AT_ONCE connections."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=AT_ONCE,
        timeout_keep_alive=IDLE,
        ws="none",
        lifespan="off",
    )
    return uvicorn.Server(config)


def listening(host: str, port: int) -> socket.socket:
    """A socket at this address; port 0 takes a free one. UserError where it is taken, or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error}; choose another --port or --host") from None


def _is_local(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
