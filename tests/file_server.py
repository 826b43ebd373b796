"""A server on 127.0.0.1 with files, and with models as the Hugging Face Hub shows them; it can fail in named ways."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LARGE = 10_000  # bytes from which the hub keeps a file in large-file storage


class FileServer:
    """`files`: path -> bytes. `cut`: path -> after how many bytes the connection breaks off, once. `asked`: requests
    so far, as (method, path, Range)."""

    def __init__(self, address: str):
        self.address = address
        self.files: dict[str, bytes] = {}
        self.pages: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}
        self.cut: dict[str, int] = {}
        self.ranges = True
        self.asked: list[tuple[str, str, str | None]] = []

    def add_model(self, name: str, commit: str, files: dict[str, bytes]) -> None:
        """A repository whose newest commit is this one. Large files lie elsewhere, as they do on the hub."""
        siblings = []
        for file, content in files.items():
            git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            entry: dict = {"rfilename": file, "size": len(content), "blobId": git}
            path = f"/{name}/resolve/{commit}/{file}"
            if len(content) >= LARGE:
                digits = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digits, "size": len(content), "pointerSize": 134}
                self.elsewhere[path] = f"/cdn/{digits}"
                path = f"/cdn/{digits}"
            self.files[path] = content
            siblings.append(entry)
        page = json.dumps({"id": name, "modelId": name, "sha": commit, "tags": [], "siblings": siblings})
        self.pages[f"/api/models/{name}"] = page

    def times(self, part: str) -> int:
        """How many requests for content had this in their path."""
        return sum(method == "GET" and part in path for method, path, _ in self.asked)


@contextmanager
def serve():
    """A running FileServer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = urlsplit(self.path).path
            here.asked.append((self.command, path, self.headers.get("Range")))
            if path in here.elsewhere:
                self.send_response(302)
                self.send_header("Location", here.elsewhere[path])
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif path in here.pages:
                self.send(200, here.pages[path].encode(), body)
            elif path in here.files:
                self.send_file(path, here.files[path], body)
            else:
                self.send(404, b"", body)

        def send_file(self, path: str, content: bytes, body: bool) -> None:
            wanted = self.headers.get("Range")
            if not wanted or not here.ranges:
                self.send(200, content, body, here.cut.pop(path, None) if body else None)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send(416, b"", body)
                return
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206, content[start:], body, here.cut.pop(path, None), {"Content-Range": span})

        def send(self, status: int, content: bytes, body: bool, cut: int | None = None, more: dict | None = None):
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(content))} | (more or {})).items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = FileServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
