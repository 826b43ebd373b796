"""Reading with clear errors, writing so that nothing half-written is ever left behind."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import psutil
import yaml
from safetensors import SafetensorError

from revtaf.errors import UserError

_WINDOWS = os.name == "nt"
_LONGEST = 200  # characters of a path: Windows refuses 260 unless told otherwise, and a temporary name is longer
_OF_DAMAGE = LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, SafetensorError
_DIGITS = 100  # of a whole number
_MOST_VALUES = 1_000_000  # of a YAML file
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a pair that JSON writes one character with


def regular_file(path: str | Path) -> Path:
    """The path. FileNotFoundError where nothing is there, UserError where it is no file: a pipe would be waited for
    without end, a device read without end."""
    path = Path(path)
    try:
        kind = path.stat().st_mode
    except ValueError as error:  # a name with a NUL character
        raise UserError(f"{str(path)!r} is no name of a file: {error}") from None
    if stat.S_ISDIR(kind):
        raise UserError(f"{path} is a folder, expected a file")
    if not stat.S_ISREG(kind):
        raise UserError(f"{path} is a pipe or a device, expected a file")
    return path


def real_path(path: str | Path) -> Path:
    """Where a path leads, links followed; a link that leads to itself ends where it is."""
    return Path(os.path.realpath(path))


def read_text(path: str | Path, what: str = "text file") -> str:
    """A text in UTF-8. Raises UserError naming the file; `what` it is begins the message."""
    path = Path(path)
    try:
        content = regular_file(path).read_bytes()
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{what} not found: {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: {not_text(path, content, error)}") from None
    except (OSError, UserError) as error:
        raise UserError(f"{what}: cannot read {path}: {error}") from None


def read_json(path: str | Path, what: str = "JSON file") -> Any:
    """Parse a JSON file. Raises UserError naming the file, and the line of a syntax error."""
    text = read_text(path, what)
    try:
        content = parse_json(text)
        if _HALF.search(text):
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except json.JSONDecodeError as error:
        raise UserError(f"{what}: {path}, line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeEncodeError:
        raise UserError(f"{what}: {path} holds half a character (a lone surrogate), which nobody can write") from None
    except ValueError as error:
        raise UserError(f"{what}: {path}: {error}") from None


def parse_json(text: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a JSON text. ValueError for what is none, is nested too deeply, or holds a number of more digits
    than anything could be counted with. pairs: makes each object of its keys and values; a dict where None."""
    try:
        return json.loads(text, parse_int=_whole, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def read_yaml(path: str | Path, what: str = "YAML file", loader: type = yaml.SafeLoader) -> Any:
    """Parse a YAML file: plain values alone. Raises UserError naming the file."""
    text = read_text(path, what)
    try:
        return parse_yaml(text, loader)
    except ValueError as error:
        raise UserError(f"{what}: {path}: not a YAML file: {error}") from None


def parse_yaml(text: str, loader: type = yaml.SafeLoader) -> Any:
    """The value of a YAML text. ValueError for what is none, or would be endless once its aliases are followed."""
    try:
        content = yaml.load(text, loader)  # noqa: S506 (a SafeLoader)
        _written_out(content, {})
        return content
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
        # The library's constructors of dates, numbers and sets raise what they happen to meet.
        raise ValueError(" ".join(str(error).split())) from None


def _written_out(value: Any, known: dict[int, int]) -> int:
    """How many values it is without aliases. ValueError beyond a million: nine aliases of nine aliases of nine ...
    Also for numbers of more digits than are printed, and for half a character."""
    if isinstance(value, int) and abs(value) > 10**_DIGITS:
        raise ValueError("a number of too many digits")
    if isinstance(value, str):
        value.encode()
    if not isinstance(value, dict | list | set | tuple):
        return 1
    if known.setdefault(id(value), 0) < 0:
        raise ValueError("a value that holds itself")
    if not known[id(value)]:
        known[id(value)] = -1
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_written_out(one, known) for one in inner)
    if known[id(value)] > _MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {_MOST_VALUES:,} values")
    return known[id(value)]


@contextmanager
def told_as_damage(path: str | Path, remedy: str) -> Iterator[None]:
    """What goes wrong while the files of a folder are put together, as one UserError with `remedy` at its end. For
    files that only our own commands write: whatever does not fit means that somebody else did."""
    try:
        yield
    except UserError:
        raise
    except _OF_DAMAGE as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error
    except (OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read ({error or 'too large for the memory'}); {remedy}") from error


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


def spelled(path: Path) -> str:
    """Its path; what is not UTF-8 in it is spelled out, so that it can be written down."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def state_of(path: Path) -> list[int]:
    """Changes with the file: its size and time; nothing for one that is gone."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def sha256(path: str | Path) -> str:
    """Of a file, in hexadecimal; read in pieces."""
    state = hashlib.sha256()
    with open(regular_file(path), "rb") as file:
        while piece := file.read(1 << 22):
            state.update(piece)
    return state.hexdigest()


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits that change whenever any part (JSON-serialisable) changes."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
