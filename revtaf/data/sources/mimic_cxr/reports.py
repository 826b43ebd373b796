"""The free-text reports of MIMIC-CXR, read one at a time from PhysioNet's zip file or from its unpacked tree.

Both hold `files/p10/p10000032/s50414267.txt`. Nothing is extracted and nothing is kept: memory holds the
directory of the archive and one report.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from revtaf.data.sources.access import is_file, names_in, unreadable
from revtaf.errors import UserError

MAX_REPORT_BYTES = 1 << 20  # a report is a few kB
_MEMBER = re.compile(r"((?:(?:[^/]+/)*files/)?)p\d{2}/p\d{8}/s\d{8}\.txt")
_PATIENT_GROUP = re.compile(r"p\d{2}")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


def report_name(subject_id: str, study_id: str) -> str:
    """Where a report stands below `files/`, such as "p10/p10000032/s50414267.txt"."""
    return f"p{subject_id[:2]}/p{subject_id}/s{study_id}.txt"


class Reports(AbstractContextManager):
    """Reports by patient and study. `place` is a zip file, the folder that holds `files/`, or `files/` itself.

    Raises UserError where `place` is neither, or where the archive is damaged.
    """

    def __init__(self, place: Path):
        self.place = Path(place)
        self._zip: zipfile.ZipFile | None = None
        if self.place.is_dir():
            self._root = _files_folder(self.place)
        elif self.place.is_file():
            self._zip = _open_zip(self.place)
            self._prefix = self._find_prefix()
        else:
            raise UserError(f"reports not found: {self.place}; name mimic-cxr-reports.zip or its unpacked folder")

    def __exit__(self, *_) -> None:
        if self._zip:
            self._zip.close()

    @property
    def archive_bytes(self) -> int | None:
        """Size of the zip file; None for a folder."""
        return self.place.stat().st_size if self._zip else None

    def has(self, subject_id: str, study_id: str) -> bool:
        """Whether the report of a study is there; it is not read."""
        name = report_name(subject_id, study_id)
        return self._prefix + name in self._zip.NameToInfo if self._zip else is_file(self._root / name)

    def read(self, subject_id: str, study_id: str) -> str:
        """The text of one report. Raises UserError where it is absent, unreadable, too long or not UTF-8 text."""
        name = report_name(subject_id, study_id)
        where = f"{self.place}: {self._prefix}{name}" if self._zip else str(self._root / name)
        try:
            with self._open(name) as file:
                content = file.read(MAX_REPORT_BYTES + 1)
        except (KeyError, FileNotFoundError):
            raise UserError(f"{where}: no such report; download the reports again") from None
        except PermissionError as error:
            raise unreadable(where, error) from None
        except _UNREADABLE as error:
            raise UserError(f"{where}: cannot be read ({error}); download the reports again") from None
        if len(content) > MAX_REPORT_BYTES:
            raise UserError(f"{where}: larger than {MAX_REPORT_BYTES:,} bytes, not a report")
        # Any byte is some letter in Latin-1: only a strict reading notices a damaged file.
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 text (byte {error.start}); download the reports again") from None
        if "\0" in text:
            raise UserError(f"{where}: holds a NUL character, not a text; download the reports again")
        return text

    def _open(self, name: str) -> IO[bytes]:
        return self._zip.open(self._prefix + name) if self._zip else open(self._root / name, "rb")

    def _find_prefix(self) -> str:
        """What stands before "p10/...": "files/", or more or nothing where the archive was packed again."""
        found = map(_MEMBER.fullmatch, self._zip.NameToInfo)
        prefixes = sorted({match.group(1) for match in found if match})
        if len(prefixes) != 1:
            held = f"in {len(prefixes)} folders: {', '.join(prefixes[:5])}" if prefixes else "none"
            self._zip.close()
            raise UserError(f"{self.place}: expected files/p10/p10000032/s50414267.txt and its like, found {held}")
        return prefixes[0]


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except PermissionError as error:
        raise unreadable(path, error) from None
    except _UNREADABLE as error:
        raise UserError(f"{path}: not a readable zip file ({error}); download it again") from None


def _files_folder(folder: Path) -> Path:
    for root in (folder / "files", folder):
        if root.is_dir() and any(map(_PATIENT_GROUP.fullmatch, names_in(root))):
            return root
    if (folder / "files" / "files").is_dir():
        raise UserError(f"{folder}: its files/ holds a second files/; name {folder / 'files'}")
    raise UserError(f"{folder}: holds no files/p10/... with reports; name mimic-cxr-reports.zip or its unpacked folder")


def origin(place: Path) -> str:
    """What to say where reports are missing: MIMIC-CXR-JPG, the set that is downloaded for its images, has none."""
    if place.is_dir() and any(name.startswith("mimic-cxr-2") for name in names_in(place)):
        return (
            "; this is MIMIC-CXR-JPG, which has images and tables but no reports: they are mimic-cxr-reports.zip of "
            "MIMIC-CXR (https://physionet.org/content/mimic-cxr/), under the same agreement"
        )
    return ""
