"""The served page: images in, reports out, and nothing else in or out."""

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from PIL import Image

from revtaf.commands.serve import ServeRequest, listening, serve, server_of
from revtaf.data.images import read_image
from revtaf.errors import UserError
from revtaf.generate.result import ImageReport, StatusAnswer
from revtaf.generate.serve import BODY, LOCAL, make_app

LIMIT = 1 << 20


class GreySystem:
    """Says how grey an image is, slowly, and keeps in a place of its own what it is about to say, as a model does."""

    def __init__(self):
        self.seen: list[Path] = []
        self.active = self.most = 0

    def report(self, image: Path, statuses=None) -> ImageReport:
        self.seen.append(image)
        picture = read_image(image)
        self.active += 1
        self.most = max(self.most, self.active)
        self.now = int(np.asarray(picture).mean())
        time.sleep(0.02)
        given = tuple(
            StatusAnswer(name, status, {status: 1.0}, given=True) for name, status in (statuses or {}).items()
        )
        found = ImageReport(image, picture, f"grey {self.now} .", given)
        self.active -= 1
        return found


def film(grey: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (32, 32), grey).save(buffer, format=kind)
    return buffer.getvalue()


class Client:
    """Requests as they are written, without tidying of paths."""

    def __init__(self, address: str):
        self.place = urlsplit(address).netloc

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.place, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def report(self, content: bytes, name: str = "film.png", status: str = "", **headers: str) -> tuple[int, dict]:
        path = f"/report?name={quote(name)}&status={quote(status)}"
        code, answer = self.ask("POST", path, content, **({"Content_Type": BODY} | headers))
        return code, json.loads(answer)


@contextmanager
def served(system):
    """A running server; yields its address."""
    with listening("127.0.0.1", 0) as place:
        server = server_of(make_app(system, "a title", {"model": "a model"}, LIMIT, LOCAL))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{place.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def system():
    return GreySystem()


@pytest.fixture(scope="module")
def address(system):
    with served(system) as place:
        yield place


@pytest.fixture
def client(address):
    return Client(address)


def words(report: dict) -> str:
    return "".join(text for text, _ in report["report"])


def test_an_image_gets_its_report(client, system):
    """And nothing of the upload is left when it is answered."""
    code, report = client.report(film(77, "JPEG"), "a film.jpg", "Edema=neg")
    assert code == 200 and words(report) == "grey 77." and report["name"] == "a film.jpg"
    assert [(s["category"], s["status"], s["given"]) for s in report["statuses"]] == [("edema", "negative", True)]
    assert system.seen[-1].suffix == ".jpg" and not system.seen[-1].parent.exists()


def test_what_is_no_image_is_refused_by_its_name(client):
    """A renamed PDF, an empty file; the message says nothing of where the server keeps it."""
    for content in (b"%PDF-1.7\n" + bytes(200), b""):
        code, answer = client.report(content, "scan.png")
        assert code == 422 and "scan.png" in answer["error"] and "/tmp" not in answer["error"]


def test_a_name_is_shown_and_never_opened(client, system):
    """Names that lead elsewhere: the image is what was sent, the file is ours."""
    for name in ("../../etc/passwd", "/etc/passwd", "..\\..\\secret.png", "\0\n", "x" * 5000 + ".png"):
        code, report = client.report(film(5), name)
        assert code == 200 and words(report) == "grey 5."
        assert "/" not in report["name"] and "\\" not in report["name"] and 0 < len(report["name"]) <= 200
        assert system.seen[-1].parent.name.startswith("revtaf-") and system.seen[-1].stem == "upload"


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/static/../revtaf", "/docs", "/.git/config"],
)
def test_there_are_no_files_behind_the_addresses(client, path):
    code, answer = client.ask("GET", path)
    assert code == 404 and b"root" not in answer


def test_uploads_are_limited(client):
    """By what the sender says, and by what it sends."""
    assert client.report(bytes(LIMIT + 1))[0] == 413
    pieces = (bytes(1 << 16) for _ in range(LIMIT // (1 << 16) + 1))
    connection = http.client.HTTPConnection(client.place, timeout=60)
    connection.request("POST", "/report", pieces, {"Content-Type": BODY}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert client.report(film(1))[0] == 200


def test_other_sites_have_no_way_in(client):
    """Neither by a name of theirs that leads to this machine, nor by what a page may send without being allowed to."""
    assert client.ask("GET", "/", Host="evil.example")[0] == 400
    assert client.ask("GET", "/", Host="localhost:7860")[0] == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.report(film(1), Content_Type=kind)[0] == 415


def test_a_status_that_does_not_exist_is_refused(client):
    code, answer = client.report(film(1), status="edemma=pos")
    assert code == 422 and "did you mean 'edema'" in answer["error"]


def test_requests_at_once_do_not_mix(client, system):
    """Two threads, each with its own image: each gets its own report, and the model is asked by one at a time."""
    system.most = 0

    def ask(grey: int) -> list[str]:
        return [words(client.report(film(grey))[1]) for _ in range(8)]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, (40, 200))
    assert set(first) == {"grey 40."} and set(second) == {"grey 200."}
    assert system.most == 1


def test_the_page_shows_what_is_dropped(tab, address, tmp_path):
    """One image is shown at once, a bad one is named, several stand in the gallery."""
    tab.goto(address)
    for grey in (10, 20, 30):
        (tmp_path / f"{grey}.png").write_bytes(film(grey))
    (tmp_path / "bad.png").write_bytes(b"%PDF")
    tab.locator("#file").set_input_files([tmp_path / "10.png"])
    tab.locator(".written .text").wait_for()
    assert tab.locator(".written .text").inner_text() == "grey 10."
    tab.locator("#file").set_input_files([tmp_path / name for name in ("20.png", "bad.png", "30.png")])
    tab.locator("#failed li").wait_for()
    tab.get_by_text("3 images").wait_for()
    assert "bad.png" in tab.locator("#failed").inner_text()
    assert tab.locator("#cards .name").all_inner_texts() == ["10.png", "20.png", "30.png"]


def test_an_address_that_is_taken_is_said(address):
    port = urlsplit(address).port
    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1, port {port}.*choose another --port"):
        listening("127.0.0.1", port)
    with pytest.raises(UserError, match="cannot listen"):
        listening("127.0.0.1", 70000)


def test_without_the_extra_its_command_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"pip install 'revtaf\[serve\]'"):
        serve(ServeRequest(tmp_path))


def test_the_command_serves_a_trained_model(world):
    """On a free port, this machine alone; Ctrl-C ends it without an error."""
    _, run, _ = world
    command = [sys.executable, "-m", "revtaf", "serve", "--checkpoint", str(run), "--port", "0", "--device", "cpu"]
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), process.stderr.read()
            client = Client(line.split()[0])
            image = next((world[0] / "images").rglob("*.png")).read_bytes()
            code, report = client.report(image, "phantom.png", "edema=pos")
            assert code == 200 and words(report) and report["attention"] and report["retrieved"][0]["report"]
            assert [s["category"] for s in report["statuses"] if s["given"]] == ["edema"]
            assert client.report(b"%PDF-1.7", "phantom.png")[0] == 422
            assert client.ask("GET", "/../" * 8 + "etc/passwd")[0] == 404
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors
