"""A file over HTTP: whole, continued after a cut, checked, or not there at all."""

import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from file_server import serve

from revtaf.errors import UserError
from revtaf.pretrained.download import Checksum, download, reach

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def server():
    with serve() as server:
        server.files["/file.bin"] = CONTENT
        yield server


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_bytes_arrive_under_the_final_name_alone(server, tmp_path):
    """Nothing else is left in the folder, which is made where it is not there."""
    path = tmp_path / "a" / "file.bin"
    download(f"{server.address}/file.bin", path, SHA256, len(CONTENT))
    assert path.read_bytes() == CONTENT and names(path.parent) == ["file.bin"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_cut_connection_is_continued_where_it_broke_off(server, tmp_path, size):
    """No file under the final name; the second attempt asks for the rest alone."""
    path = tmp_path / "file.bin"
    server.cut["/file.bin"] = 100_000
    with pytest.raises(UserError, match="broke off after 100,000 of 300,000 bytes; the same command goes on"):
        download(f"{server.address}/file.bin", path, SHA256, size)
    assert not path.exists() and len(names(tmp_path)) == 1
    download(f"{server.address}/file.bin", path, SHA256, size)
    assert server.asked[-1] == ("GET", "/file.bin", "bytes=100000-")
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["file.bin"]


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    """The beginning is not kept twice."""
    server.cut["/file.bin"] = 1000
    server.ranges = False
    path = tmp_path / "file.bin"
    with pytest.raises(UserError, match="broke off"):
        download(f"{server.address}/file.bin", path, SHA256)
    download(f"{server.address}/file.bin", path, SHA256)
    assert path.read_bytes() == CONTENT


def test_the_beginning_of_another_version_is_not_continued(server, tmp_path):
    """Its hidden file has another name, and goes when the new version is whole."""
    server.cut["/file.bin"] = 1000
    with pytest.raises(UserError, match="broke off"):
        download(f"{server.address}/file.bin", tmp_path / "file.bin", SHA256)
    new = CONTENT[::-1]
    server.files["/file.bin"] = new
    download(
        f"{server.address}/file.bin", tmp_path / "file.bin", Checksum("sha256", hashlib.sha256(new).hexdigest()[:8])
    )
    assert server.asked[-1][2] is None
    assert (tmp_path / "file.bin").read_bytes() == new and names(tmp_path) == ["file.bin"]


def test_a_beginning_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    """With a known size at once, without one after the server's 416."""
    for size in (len(CONTENT), None):
        path = tmp_path / str(size)
        path.with_name(f".{size}.{SHA256.digits[:12]}.partial").write_bytes(CONTENT + b"more")
        download(f"{server.address}/file.bin", path, SHA256, size)
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["sha256", "git"])
def test_a_wrong_checksum_leaves_nothing(server, tmp_path, kind):
    """One flipped bit: both checksums are named, and no file stays, whole or hidden."""
    right = {"sha256": SHA256, "git": Checksum("git", hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest())}[kind]
    download(f"{server.address}/file.bin", tmp_path / "right", right)
    (tmp_path / "right").unlink()
    server.files["/file.bin"] = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    with pytest.raises(UserError, match=f"wrong checksum: expected {kind} {right.digits}, got"):
        download(f"{server.address}/file.bin", tmp_path / "file.bin", right)
    assert names(tmp_path) == []


def test_another_size_than_promised_is_refused_before_it_is_written(server, tmp_path):
    """The server's file is longer than its metadata says."""
    with pytest.raises(UserError, match="the server has 300,000 bytes, expected 299,999"):
        download(f"{server.address}/file.bin", tmp_path / "file.bin", SHA256, len(CONTENT) - 1)
    assert names(tmp_path) == []


def test_a_full_disk_is_one_message(server, tmp_path):
    """The kernel's own ENOSPC: the hidden file is a link to a device that is always full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    path = tmp_path / "file.bin"
    path.with_name(f".file.bin.{SHA256.digits[:12]}.partial").symlink_to("/dev/full")
    with pytest.raises(
        UserError, match=r"no space left to write .*file\.bin; make room and run the same command again"
    ):
        download(f"{server.address}/file.bin", path, SHA256)
    assert not path.exists()


def test_what_the_server_has_not_is_said(server, tmp_path):
    """404 with the address."""
    with pytest.raises(UserError, match=r"/nothing: the server answered 404"):
        download(f"{server.address}/nothing", tmp_path / "file.bin", SHA256)
    assert names(tmp_path) == []


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_servers_that_do_not_answer_are_named_in_time(server, monkeypatch):
    """A closed port, a server that never answers, a name whose lookup hangs, as without a network: all at once, and
    under 10 s although the lookup itself has no time limit."""
    reach([server.address], 4)
    look_up, hang = socket.getaddrinfo, threading.Event()

    def slow(host, *arguments, **options):
        if host == "slow.invalid":
            hang.wait(60)
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        addresses = [closed_port(), f"http://127.0.0.1:{silent.getsockname()[1]}", "http://slow.invalid"]
        start = time.monotonic()
        with pytest.raises(UserError) as caught:
            reach([server.address, *addresses], 4)
        assert time.monotonic() - start < 10
    hang.set()
    message = str(caught.value)
    assert all(f"{address}: " in message for address in addresses) and f"{server.address}:" not in message
    assert "http://slow.invalid: no answer in 4 s" in message and "fetch.hub=URL" in message


def test_an_address_is_one_of_a_server():
    """No files of this machine by way of an address."""
    with pytest.raises(UserError, match="no address of a server"):
        reach(["file:///etc"], 1)
