"""Open-i's own files of the Indiana University collection (Demner-Fushman et al. 2016): reports, images, views.

A report is one XML file, in `ecgen-radiology.tgz` (also distributed as `NLMCXR_reports.tgz`) or in the folder
`ecgen-radiology/`. Archives are read in place: nothing is extracted, no entity is expanded, no member may be large.

**Which image is frontal.** The XML does not say: captions name the study ("PA and lateral"), not the image, and the
number at the end of a name counts series. But Open-i describes each image by a visual word of its edge histogram,
and eight common words tell the views apart. Measured on 2,357 studies of R2Gen's train and val whose frontal image
is known; the words were chosen on train:

    rule                                              first image is the frontal one   train   val
    first listed                                      2,085 (88.5 %)                   1,822   263
    lowest number at the end                          2,081 (88.3 %)                   1,820   261
    first listed, numbers such as 4004 before it      2,154 (91.4 %)                   1,884   270
    edge words, then first listed (used here)         2,322 (98.5 %)                   2,031   291

Where Kaggle's `indiana_projections.csv` is given, it decides for the images that it names.
"""

from __future__ import annotations

import csv
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from revtaf.data.sources.access import inside, is_file, names_in, unreadable
from revtaf.data.sources.views import FRONTAL, LATERAL, UNKNOWN
from revtaf.errors import UserError

ARCHIVES = ("ecgen-radiology.tgz", "NLMCXR_reports.tgz")
FOLDER = "ecgen-radiology"
IMAGE_FOLDERS = ("NLMCXR_png", "images")
MAX_XML_BYTES = 1 << 20  # a report is about 10 kB; more is not an Open-i report
# Words with at least 50 images in two-image training studies, 92 % or more of them of one view.
FRONTAL_EDGES = {"f0p0k184", "f0p0k338"}
LATERAL_EDGES = {"f0p0k436", "f0p0k518", "f0p0k593", "f0p0k666", "f0p0k832", "f0p0k1179"}
PROJECTIONS = {"Frontal": FRONTAL, "Lateral": LATERAL}

_MEMBER = re.compile(r"(?:\./)?(?:[\w-]+/)*\d+\.xml")
# "CXR1_1_IM-0001-3001.png" (Open-i), "1_IM-0001-3001.jpg" (R2Gen, flat) and "1_IM-0001-3001.dcm.png" (Kaggle)
_IMAGE = re.compile(r"(?:CXR(?:\d+_(?=\d+_))?)?(.+?)(?:\.dcm)?(?:\.(?:png|jpe?g))?", re.IGNORECASE | re.DOTALL)
_EXTENSIONS = (".png", ".jpg", ".jpeg")  # the first that exists is used


class OpenIImage(NamedTuple):
    """One image of a report: its name, what its caption says, and the visual words that tell frontal from lateral."""

    name: str  # such as "CXR1_1_IM-0001-3001"
    caption: str
    edges: str  # visual word of the edge histogram, such as "f0p0k338"

    @property
    def key(self) -> str:
        """The name that this image has in every edition of the set (Open-i's, R2Gen's, Kaggle's)."""
        return image_key(self.name)


class OpenIReport(NamedTuple):
    """One report. Texts are as published (`XXXX` where words were removed), with single blanks between words."""

    number: str  # such as "CXR1"
    findings: str
    impression: str
    indication: str
    comparison: str
    mesh_major: tuple[str, ...]  # given by people
    mesh_automatic: tuple[str, ...]  # found by Open-i's indexer
    images: tuple[OpenIImage, ...]  # as listed

    @property
    def study_id(self) -> str:
        """R2Gen's id: the name of the first listed image without its last number ("CXR2384_IM-0942")."""
        return self.images[0].name.rsplit("-", 1)[0] if self.images else self.number


def read_open_i(source: Path) -> tuple[dict[str, OpenIReport], Path | None]:
    """The XML reports in the folder `source`, keyed by number ("CXR1"), and where they were found (None: nowhere).

    Raises UserError on a damaged archive, a file that is not an Open-i report, and a number that appears twice.
    """
    places = [source / name for name in ARCHIVES if (source / name).is_file()]
    places += [source / FOLDER] if (source / FOLDER).is_dir() else []
    if not places:
        return {}, None
    place = places[0]
    reports: dict[str, OpenIReport] = {}
    for name, content in _folder_members(place) if place.is_dir() else _archive_members(place):
        report = _parse_report(f"{place}: {name}", content)
        if report.number in reports:
            raise UserError(f"{place}: {name}: {report.number} appears twice; download it again")
        reports[report.number] = report
    if not reports:
        raise UserError(f"{place}: no Open-i report (NUMBER.xml) in it; download it again or remove it")
    return reports, place


def _folder_members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in (folder / name for name in names_in(folder) if name.endswith(".xml")):
        try:
            _check_size(folder, path.name, path.stat().st_size)
            content = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from None
        yield path.name, content


def _archive_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                if not inside(member.name):
                    raise UserError(f"{archive}: refused, the member name {member.name!r} leaves the archive")
                if not member.isfile() or not _MEMBER.fullmatch(member.name):
                    continue
                _check_size(archive, member.name, member.size)
                yield member.name, tar.extractfile(member).read()
    except PermissionError as error:
        raise unreadable(archive, error) from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{archive}: not a readable archive ({error}); download it again") from None


def _check_size(place: Path, name: str, size: int) -> None:
    if size > MAX_XML_BYTES:
        raise UserError(f"{place}: {name} is larger than {MAX_XML_BYTES} bytes, not an Open-i report; remove it")


def _parse_report(where: str, content: bytes) -> OpenIReport:
    try:
        text = content.decode("utf-8-sig")
        if "\0" in text:  # UTF-16 that the parser would recognise; it would hide a declaration from the next test
            raise ValueError("not UTF-8 text")
        # Open-i's files declare no entities; one that does could expand without bound.
        if "<!ENTITY" in text:
            raise UserError(f"{where}: declares XML entities, not an Open-i report")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{where}: malformed XML: {error}; download it again") from None
    number = root.find("uId")
    number = "" if number is None else number.get("id", "")
    if not re.fullmatch(r"CXR\d+", number):
        raise UserError(f"{where}: expected <uId id='CXR...'>, got {number!r}; not an Open-i report")
    sections = {element.get("Label", ""): _text(element) for element in root.iter("AbstractText")}
    return OpenIReport(
        number,
        *(sections.get(name, "") for name in ("FINDINGS", "IMPRESSION", "INDICATION", "COMPARISON")),
        mesh_major=tuple(_text(term) for term in root.iterfind("MeSH/major")),
        mesh_automatic=tuple(_text(term) for term in root.iterfind("MeSH/automatic")),
        images=tuple(
            OpenIImage(image.get("id", ""), _text(image.find("caption")), _text(image.find(".//EdgeHistogram")))
            for image in root.iter("parentImage")
            if image.get("id")
        ),
    )


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


def image_key(name: str) -> str:
    """What all the names of one image have in common: "1_IM-0001-3001"."""
    return _IMAGE.fullmatch(name).group(1) if name else ""


def find_images(source: Path) -> tuple[Path, dict[str, str]]:
    """The folder with the images, and the file name of each `image_key` in it (PNG before JPEG)."""
    folders = [source / name for name in IMAGE_FOLDERS if (source / name).is_dir()]
    if not folders:
        raise UserError(
            f"image folder not found: {source / IMAGE_FOLDERS[0]} or {source / IMAGE_FOLDERS[1]}; "
            f"unpack NLMCXR_png.tgz into the first (docs/data.md)"
        )
    names = [n for n in names_in(folders[0]) if Path(n).suffix.lower() in _EXTENSIONS and is_file(folders[0] / n)]
    names.sort(key=lambda name: (-_EXTENSIONS.index(Path(name).suffix.lower()), name))  # the last one stays
    return folders[0], {image_key(name): name for name in names}


def read_projections(path: Path) -> dict[str, int]:
    """Kaggle's `indiana_projections.csv` (columns filename, projection): FRONTAL or LATERAL by `image_key`."""
    views: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            for column in ("filename", "projection"):
                if column not in (rows.fieldnames or ()):
                    raise UserError(
                        f"{path}, line 1: the column '{column}' is missing; expected Kaggle's header "
                        "uid,filename,projection"
                    )
            for row in rows:
                if row["projection"] not in PROJECTIONS:
                    raise UserError(
                        f"{path}, line {rows.line_num}: column 'projection': expected Frontal or Lateral, "
                        f"got {row['projection']!r}"
                    )
                views[image_key(row["filename"])] = PROJECTIONS[row["projection"]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable projections file ({error}); name indiana_projections.csv") from None
    return views


def view(image: OpenIImage, projections: dict[str, int]) -> int:
    """FRONTAL, UNKNOWN or LATERAL: from `projections` where it names the image, else from the edge word."""
    if image.key in projections:
        return projections[image.key]
    return FRONTAL if image.edges in FRONTAL_EDGES else LATERAL if image.edges in LATERAL_EDGES else UNKNOWN


def frontal_first(images: Iterable[OpenIImage], projections: dict[str, int]) -> list[OpenIImage]:
    """Frontal images, then those of unknown view, then lateral ones; within each as listed."""
    return sorted(images, key=lambda image: view(image, projections))
