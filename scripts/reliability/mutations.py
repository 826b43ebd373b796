"""Hostile versions of valid files: cut, flipped, of other types, too large, too deep, leading elsewhere, running code.

Whatever a hostile file would do is aimed at a folder of the test's own: a path leads to `Trap.outside`, code makes
`Trap.canary`. So both are seen.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DEEP = 60_000  # levels
SCRIPT = "<img src=x onerror=\"document.title='alive'\"><script>document.title='alive'</script>"
LARGE = 10**400


@dataclass
class Trap:
    """Where a hostile file would reach: `outside` has a file that nobody may change, `canary` is not there yet."""

    outside: Path
    canary: Path

    def set(self) -> None:
        """Make the folder, and its file."""
        shutil.rmtree(self.outside, ignore_errors=True)
        self.outside.mkdir(parents=True)
        (self.outside / "kept").write_text("untouched", encoding="utf-8")

    def sprung(self) -> str:
        """What happened; "" where nothing did."""
        if self.canary.exists():
            return "code was run"
        found = {p.name: p.read_text(encoding="utf-8") if p.is_file() else "" for p in self.outside.iterdir()}
        return "" if found == {"kept": "untouched"} else f"written outside: {sorted(found)}"

    def values(self) -> list[Any]:
        """What a field may hold instead of what it should."""
        numbers = [-1, 0, 2**31, 2**63, LARGE, 1e308, 1e-320, float("nan"), float("inf"), -float("inf"), 0.5, -0.0]
        texts = [
            "",
            " ",
            "\x00",
            "\ud800",
            "\u202e\u0000é漢🫁",
            "a" * 300_000,
            SCRIPT,
            "%s{0}{{x}}",
            "'; DROP TABLE x",
            "\n\r",
        ]
        paths = [
            "../../outside/new",
            "..",
            ".",
            "/",
            str(self.outside / "new"),
            "/dev/zero",
            "~/x",
            "C:\\x",
            "a/" * 3000,
        ]
        odd = [
            None,
            True,
            False,
            [],
            {},
            [[]],
            {"": None},
            [None] * 9,
            list(range(5000)),
            {"__class__": "x"},
            DEEP_MARK,
        ]
        return [*numbers, *texts, *paths, *odd]


DEEP_MARK = "@deep@"


def dumped(content: Any) -> str:
    """JSON, as a careless program would write it; a deep value cannot be made of objects."""
    text = json.dumps(content, ensure_ascii=True)
    return text.replace(json.dumps(DEEP_MARK), "[" * DEEP + "]" * DEEP)


def chosen_place(content: Any, draw: random.Random) -> tuple:
    """Where something stands in a JSON value, found by steps down: a long list is not as likely as its length."""
    at: tuple = ()
    while isinstance(content, dict | list) and content and (not at or draw.random() < 0.75):
        key = draw.choice(list(content)) if isinstance(content, dict) else draw.randrange(len(content))
        at, content = (*at, key), content[key]
    return at


def changed(content: Any, draw: random.Random, values: list[Any]) -> Any:
    """The same JSON value with one to three places otherwise: a value, a key, one more, one less."""
    content = copy.deepcopy(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = chosen_place(content, draw)
        value, how = draw.choice(values), draw.random()
        if not at or how < 0.03:
            content = value
            continue
        inner = content
        for key in at[:-1]:
            inner = inner[key]
        if how < 0.75:
            inner[at[-1]] = value
        elif how < 0.85:
            del inner[at[-1]]
        elif isinstance(inner, dict):
            inner[str(value)[:50]] = inner[at[-1]]
        else:
            inner.append(value)
    return content


# Bytes


class _Code:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def pickled(trap: Trap) -> bytes:
    """A pickle that makes the canary."""
    return pickle.dumps({"weight": _Code(trap.canary)})


def torch_zip(trap: Trap) -> bytes:
    """The same as torch.save would pack it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(trap))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return packed.getvalue()


def object_array(trap: Trap) -> bytes:
    """An .npy file of objects."""
    array = np.empty(1, dtype=object)
    array[0] = _Code(trap.canary)
    packed = io.BytesIO()
    np.save(packed, array, allow_pickle=True)
    return packed.getvalue()


def any_bytes(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """A file of any kind, damaged as bytes or replaced by something else."""
    at = draw.randrange(len(data) + 1)
    how = draw.randrange(12)
    if how < 2:
        return data[:at]
    if how < 5:
        flipped = bytearray(data)
        for _ in range(draw.choice((1, 3, 30))):
            if flipped:
                flipped[draw.randrange(min(len(flipped), draw.choice((40, 400, 10**9))))] = draw.randrange(256)
        return bytes(flipped)
    if how == 5:
        return data[:at] + draw.randbytes(draw.choice((1, 8, 5000))) + data[at:]
    if how == 6:
        return data[:at] + data[: draw.randrange(len(data) + 1)]
    if how == 7:
        return data[:at] + bytes(len(data) - at)
    if how == 8:
        return data + draw.randbytes(draw.choice((1, 1000)))
    others = (b"", b"\x00", b"<html>" + SCRIPT.encode(), b"[" * DEEP, b"\xff\xfe" + data[:200], b"\xef\xbb\xbf" + data)
    return draw.choice((*others, pickled(trap), torch_zip(trap), object_array(trap), draw.randbytes(500)))


def safetensors_header(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """Another header before the same tensors."""
    length = struct.unpack("<Q", data[:8])[0]
    try:
        header = dumped(changed(json.loads(data[8 : 8 + length]), draw, trap.values())).encode()
    except ValueError:
        header = data[8 : 8 + length]
    said = draw.choice((len(header), len(header), len(header), 2**63, 0, len(header) + 10**6))
    return struct.pack("<Q", said) + header + data[8 + length :]


def npy_header(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """Another shape, kind or order of the same numbers."""
    shape = draw.choice(("(10000000000000,)", "(-1,)", "()", "(3, 3, 3)", "(2.5,)", "__import__('os').getpid()"))
    kind = draw.choice(("'|O'", "'<f8'", "'<U9999999'", "[('a', '|O')]", "'<f2'", "'>i4'", "None"))
    header = f"{{'descr': {kind}, 'fortran_order': {draw.choice(('True', 'False', '3'))}, 'shape': {shape}, }}"
    packed = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(packed)) + packed + data[128:]


def json_text(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """A JSON file with other values; also twice the same key, or a comment."""
    content = json.loads(data)
    text = dumped(changed(content, draw, trap.values()))
    if draw.random() < 0.05:
        text = text.replace("{", '{"id": 1, "id": 2, ', 1)
    return text.encode("utf-8", "surrogatepass")


def json_lines(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """One record otherwise, twice, or cut."""
    lines = data.decode().splitlines()
    at, how = draw.randrange(len(lines)), draw.random()
    if how < 0.8:
        lines[at] = dumped(changed(json.loads(lines[at]), draw, trap.values()))
    elif how < 0.9:
        lines.insert(at, lines[draw.randrange(len(lines))])
    else:
        lines[at] = lines[at][: draw.randrange(len(lines[at]) + 1)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def yaml_text(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """Another value of a key, as YAML can say it: tags that call, aliases that double, deep flows."""
    text = data.decode()
    bomb = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else 'lol'] * 9)}]" for i in range(12))
    call = f"!!python/object/apply:os.mkdir ['{trap.canary}']"
    values = (
        *(call, f"!!python/object/new:os.mkdir ['{trap.canary}']", "!!python/name:os.system", "!!binary 'x'", "!x y"),
        *("[" * 5000, "{" * 500, "*nobody", "&a [*a]", "2026-13-45", "0x" + "f" * 4000, "1" * 5000, "9:59:59" * 90),
        *(".inf", ".nan", "~", "[]", "{}", "''", "true", "!!set {a, b}", "{? [1, 2] : 3}", "'\\ud800'", '"\\uD800"'),
        *(
            str(trap.outside / "new"),
            "../../outside/new",
            "/dev/zero",
            f"'{SCRIPT}'",
            "1e400",
            "-1",
            "'" + "a" * 99999 + "'",
        ),
    )
    lines = text.splitlines()
    at, how = draw.randrange(len(lines)), draw.random()
    if how < 0.6 and ":" in lines[at]:
        lines[at] = lines[at].split(":")[0] + ": " + draw.choice(values)
    elif how < 0.7:
        lines.append(bomb)
    elif how < 0.8:
        lines.insert(0, f"base: {draw.choice((*values, 'other.yaml', '.'))}")
    elif how < 0.9:
        lines.insert(at, lines[draw.randrange(len(lines))])
    else:
        lines[at] = draw.choice(
            ("\t" + lines[at], "- " + lines[at], "? " + lines[at], "---", "%YAML 9", call, "<<: *x")
        )
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def csv_text(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """One cell otherwise."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    row = draw.choice(rows)
    value = draw.choice(trap.values())
    row[draw.randrange(len(row))] = draw.choice((str(value)[:4000], '"', '"a\n', ",,", f'"{SCRIPT}"'))
    return "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")


# Images and archives


def picture(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """A PNG that says another size or depth, its checksum right; another kind by its bytes."""
    import zlib

    if data[:4] != b"\x89PNG":
        return any_bytes(data, draw, trap)
    sides = (0, 1, 3, 70_000, 2**31 - 1)
    head = struct.pack(">IIBB", draw.choice(sides), draw.choice(sides), draw.choice((1, 8, 16, 99)), draw.randrange(8))
    chunk = b"IHDR" + head + data[26:29]
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def zipped(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """The same members, and one that leads elsewhere, is too large, or is there twice."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        for name in names:
            content = old.read(name)
            if draw.random() < 0.3:
                content = draw.choice((b"\xff" * 50, b"", bytes(30_000_000), SCRIPT.encode(), b"\x00", content * 9))
            new.writestr(name, content)
        bad = (
            "../../outside/new",
            str(trap.outside / "new"),
            names[0],
            "files/../../new",
            "a\x00b",
            "files/p10/",
            "\u202e",
        )
        new.writestr(draw.choice(bad), "new")
    return packed.getvalue()


def tarred(data: bytes, draw: random.Random, trap: Trap) -> bytes:
    """The same members, and a link, a device, or a name that leads elsewhere."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=packed, mode="w:gz") as new:
        members = [(member, old.extractfile(member).read()) for member in old if member.isfile()]
        for member, content in members:
            if draw.random() < 0.3:
                content = draw.choice(
                    (b"", b"\xff", b"<a>" * 9999, bytes(5_000_000), XML_BOMB, content[: len(content) // 2])
                )
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
        odd = tarfile.TarInfo(
            draw.choice(("../../outside/new", str(trap.outside / "new"), members[0][0].name, "9999.xml"))
        )
        odd.type = draw.choice(
            (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"Z")
        )
        odd.linkname = draw.choice((str(trap.outside / "kept"), "../../outside/kept", "nobody", odd.name))
        new.addfile(odd)
    return packed.getvalue()


XML_BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]><eCitation>&c;</eCitation>'


def instead(path: Path, draw: random.Random, trap: Trap) -> str:
    """Something else where a file is expected: a folder, a link, a pipe, a device, nothing."""
    path.unlink()
    how = draw.choice(
        ("missing", "folder", "link outside", "link to itself", "dangling link", "pipe", "device", "no rights")
    )
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "no rights":
        path.write_bytes(b"")
        path.chmod(0)
    elif how != "missing":
        aims = {"link outside": trap.outside / "kept", "link to itself": path, "dangling link": trap.outside / "gone"}
        path.symlink_to(aims.get(how, Path("/dev/zero")))
    return how


BY_ENDING: dict[str, Callable[[bytes, random.Random, Trap], bytes]] = {
    ".json": json_text,
    ".jsonl": json_lines,
    ".yaml": yaml_text,
    ".csv": csv_text,
    ".safetensors": safetensors_header,
    ".npy": npy_header,
    ".png": picture,
    ".zip": zipped,
    ".tgz": tarred,
}


def mutate(path: Path, draw: random.Random, trap: Trap) -> str:
    """Make the file at `path` hostile, as its ending suggests or as any file; what was done, in words."""
    how = draw.random()
    if how < 0.06:
        return instead(path, draw, trap)
    data = path.read_bytes()
    own = BY_ENDING.get(path.suffix)
    by = any_bytes if own is None or how < 0.35 else own
    content = by(data, draw, trap)
    path.unlink()  # it may be a link into the originals
    path.write_bytes(content)
    return by.__name__
