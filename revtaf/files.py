"""Reading with clear errors, writing so that nothing half-written is ever left behind."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import psutil

from revtaf.errors import UserError

_WINDOWS = os.name == "nt"
_LONGEST = 200  # characters of a path: Windows refuses 260 unless told otherwise, and a temporary name is longer


def read_json(path: str | Path, what: str = "JSON file") -> Any:
    """Parse a JSON file. Raises UserError naming the file, and the line of a syntax error."""
    path = Path(path)
    try:
        content = path.read_bytes()
        return json.loads(content.decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{what} not found: {path}") from None
    except IsADirectoryError:
        raise UserError(f"{what}: {path} is a folder, expected a file") from None
    except (PermissionError, RecursionError) as error:
        raise UserError(f"{what}: cannot read {path}: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: {not_text(path, content, error)}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{what}: {path}, line {error.lineno}, column {error.colno}: {error.msg}") from None


def not_text(path: Path, content: bytes, error: UnicodeDecodeError) -> str:
    """What a file that is not in the expected encoding looks like: spreadsheets write cp1252 and UTF-16."""
    fix = "save the whole file as UTF-8 (Excel: 'CSV UTF-8')"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[: error.start + 2]:
        return f"{path}: UTF-16 text, not {error.encoding}; {fix}"
    line, byte = content[: error.start].count(b"\n") + 1, content[error.start]
    word = re.search(rb"[^\s,;]*\Z", content[: error.start])[0] + re.match(rb"[^\s,;]*", content[error.start :])[0]
    read = word.decode("cp1252", errors="replace")[:40]
    return (
        f"{path}, line {line}: not {error.encoding.upper()} text (byte 0x{byte:02x}); as cp1252 (Windows) it reads "
        f"{read!r}; {fix}"
    )


def write_json(path: str | Path, content: Any, indent: int | None = 1) -> None:
    """Write `content` as UTF-8 JSON in one step. UserError where the disk is full or the folder not writable."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, delete it on failure."""
    path = Path(path)
    _check_name(path)
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with clear_errors(path):
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; put it in the place of `path` on success only."""
    path = Path(path)
    _check_name(path)
    _remove_stale(path)
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-{os.getpid()}-", dir=path.parent))
    os.chmod(partial, 0o755)  # mkdtemp makes it private; the finished folder is an ordinary one
    try:
        with clear_errors(path):
            yield partial
            if path.exists() or path.is_symlink():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old-{os.getpid()}-", dir=path.parent))
                os.replace(path, old / path.name)
                os.replace(partial, path)
                shutil.rmtree(old)
            else:
                os.replace(partial, path)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """A full disk, or a place where nobody may write, as a message that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # safetensors and PIL wrap the system's errors in kinds of their own
        if os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error):
            raise UserError(f"no space left to write {path}; make room and run the same command again") from error
        if _WINDOWS and isinstance(error, FileNotFoundError) and len(os.path.abspath(path)) > _LONGEST:
            raise UserError(
                f"cannot write {path}: longer than {_LONGEST} characters; allow long paths in Windows, or choose a "
                "shorter one"
            ) from error
        # A source that cannot be read while it is copied is not the fault of this place.
        if isinstance(error, OSError) and str(path.parent) in str(error.filename or ""):
            raise UserError(f"cannot write {path}: {error}; choose another place or change its rights") from error
        raise


def _remove_stale(path: Path) -> None:
    """What a killed process left of an earlier attempt to write `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        match = re.fullmatch(r"\.(?:partial|old)-(\d+)(?:-.*)?", left.name[len(path.name) + 1 :])
        if match and int(match[1]) != os.getpid() and not _alive(int(match[1])):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        return psutil.pid_exists(process)  # os.kill(process, 0) would end it on Windows
    except OverflowError:  # more digits than any process has
        return False


def windows_refuses(path: PurePath) -> str | None:
    """Why Windows has no file or folder of that name, or None. `NUL.json` is a device there, `a:b` a stream of `a`."""
    for part in path.parts[1 if path.anchor else 0 :]:
        if part in (".", ".."):
            continue
        if wrong := sorted(set(part) & set('<>:"/\\|?*')):
            return f"{part!r} holds {' '.join(wrong)}"
        if any(ord(character) < 32 for character in part):
            return f"{part!r} holds a control character"
        if part.endswith((".", " ")):
            return f"{part!r} ends with a dot or a blank"
        if re.fullmatch(r"con|prn|aux|nul|(com|lpt)[1-9¹²³]", part.split(".")[0].strip(), re.IGNORECASE):
            return f"{part!r} is the name of a device"
    return None


def _check_name(path: Path) -> None:
    if _WINDOWS and (why := windows_refuses(path)):
        raise UserError(f"cannot write {path}: Windows takes no such name ({why}); choose another")


def sha256(path: str | Path) -> str:
    """Of a file, in hexadecimal; read in pieces."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            state.update(piece)
    return state.hexdigest()


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits that change whenever any part (JSON-serialisable) changes."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
