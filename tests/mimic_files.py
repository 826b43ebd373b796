"""A miniature MIMIC-CXR in PhysioNet's layout: drawn images, invented reports, every file with its real name.

Images, findings and labels come from the phantom set, so that an image and its report belong together. The
reports are put into the forms that the real ones have; `LAYOUTS` names them.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import shutil
import textwrap
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from revtaf.data.sources.phantom.cases import sample_cases, stream
from revtaf.data.sources.phantom.film import render
from revtaf.data.sources.phantom.reports import write_indication, write_report
from revtaf.labels import BLANK, CHEXPERT_CATEGORIES, NEGATIVE, POSITIVE, UNCERTAIN

VERSION = "2.0.0"
TABLE_VALUES = {BLANK: "", POSITIVE: "1.0", NEGATIVE: "0.0", UNCERTAIN: "-1.0"}
METADATA = (
    *("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns"),
    *("StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning"),
)
VIEW_SETS = (("PA", "LATERAL"), ("AP",), ("LATERAL", "PA"), ("AP", "AP"), ("", "LL"), ("AP AXIAL",))
RULE = "_" * 78
# {i} indication, {f} findings, {m} impression. Those without findings are rare: they make no sample.
LAYOUTS = {
    "usual": "FINAL REPORT\nEXAMINATION:  CHEST (PA AND LAT)\n\nINDICATION:  {i}\n\nTECHNIQUE:  Chest PA and lateral"
    "\n\nCOMPARISON:  None.\n\nFINDINGS: \n\n{f}\n\nIMPRESSION: \n\n{m}",
    "wet read": "WET READ: ___ ___ ___ 9:10 PM\n The lungs were looked at in haste.\n" + RULE + "\nFINAL REPORT\n"
    "HISTORY:  {i}\n\nFINDINGS:  {f}\n\nIMPRESSION:  {m}\n\nNOTIFICATION:  Told to Dr. ___ by telephone.",
    "view": "FINAL REPORT\nINDICATION:  {i}\n\nPA AND LATERAL VIEWS OF THE CHEST:  {f}\n\nIMPRESSION:  {m}",
    "addendum": "FINAL ADDENDUM\nADDENDUM:  The date was corrected on ___.\n" + RULE + "\nFINAL REPORT\n"
    "INDICATION:  {i}\n\nFINDINGS:  {f}\n\nIMPRESSION:  {m}",
    "mixed case": "FINAL REPORT\nIndication: {i}\n\nComparison: ___\n\nFindings: {f}\n\nImpression: {m}",
    "no colon": "FINAL REPORT\nCHEST RADIOGRAPH\n\nINDICATION\n{i}\n\nFINDINGS\n{f}\n\nIMPRESSION\n{m}",
    "both": "FINAL REPORT\nINDICATION:  {i}\n\nFINDINGS AND IMPRESSION:  {f}",
    "impression only": "FINAL REPORT\nAP CHEST, 9:11 P.M., ___\n\nHISTORY:  {i}\n\nIMPRESSION:  {m}",
    "no heading": "FINAL REPORT\n{f}",
}
_COMMON = ("usual", "usual", "wet read", "view", "addendum", "usual", "mixed case", "no colon", "both")
WITHOUT_FINDINGS = ("impression only", "no heading")


@dataclass
class MimicFiles:
    """Where the files are, and what is in them: `images` holds (dicom, study, subject, split, view) in table order."""

    jpg: Path
    reports_zip: Path
    reports_tree: Path
    images: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    findings: dict[str, str] = field(default_factory=dict)  # by study, "" where the report has no such section
    indications: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, tuple[int, ...]] = field(default_factory=dict)  # 14, in the project's order
    reports: dict[str, str | bytes] = field(default_factory=dict)  # by name below files/

    def table(self, name: str) -> Path:
        return self.jpg / f"mimic-cxr-{VERSION}-{name}.csv.gz"

    def write_reports(self) -> None:
        """Write `reports` as archive and as tree, in the place of older ones; a test may have changed them."""
        shutil.rmtree(self.reports_tree, ignore_errors=True)
        with zipfile.ZipFile(self.reports_zip, "w") as archive:
            for name, report in self.reports.items():
                content = report if isinstance(report, bytes) else report.encode()
                archive.writestr(zipfile.ZipInfo(f"files/{name}"), content, zipfile.ZIP_DEFLATED)
                place = self.reports_tree / "files" / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)


def write_mimic(folder: Path, patients: int = 24, seed: int = 0, size: tuple[int, int] = (72, 80)) -> MimicFiles:
    """Write the set in `folder`; two thirds of the patients are for training. `size` is (rows, columns).

    With the default arguments 50 training images have findings, and 12 of each other split. Same arguments, same
    bytes.
    """
    folder = Path(folder)
    files = MimicFiles(folder / "mimic-cxr-jpg", folder / "mimic-cxr-reports.zip", folder / "mimic-cxr-reports")
    labels: list[list[str]] = []
    metadata: list[list[str]] = []
    for case in (case for case in sample_cases(8 * patients, seed) if case.patient < patients):
        subject, study = f"{10_000_032 + 907 * case.patient}", f"{50_414_267 + 1313 * case.index}"
        findings, statuses = write_report(case, stream(seed, 8, case.index))
        indication = f"___ with {write_indication(case, stream(seed, 9, case.index))}"
        layout = WITHOUT_FINDINGS[case.index // 10 % 2] if case.index % 10 == 9 else _COMMON[case.index % 10]
        path = f"p{subject[:2]}/p{subject}/s{study}"
        files.reports[f"{path}.txt"] = _page(layout, indication, findings, _impression(findings))
        files.findings[study] = "" if layout in WITHOUT_FINDINGS else " ".join(findings.split())
        files.indications[study] = "" if layout == "no heading" else indication
        files.statuses[study] = statuses[: len(CHEXPERT_CATEGORIES)]
        labels.append([subject, study, *(_value(files.statuses[study], name) for name in sorted(CHEXPERT_CATEGORIES))])
        split = ("train", "train", "validate", "train", "train", "test")[case.patient % 6]
        film = Image.fromarray(render(case, seed, max(size))[0])
        for number, view in enumerate(VIEW_SETS[case.index % len(VIEW_SETS)]):
            digits = hashlib.sha256(f"{seed} {study} {number}".encode()).hexdigest()
            dicom = "-".join(digits[i : i + 8] for i in range(0, 40, 8))
            files.images.append((dicom, study, subject, split, view))
            metadata.append(
                [dicom, subject, study, "CHEST (PA AND LAT)", view, *map(str, size), "21800506", "213014.5", "", ""]
            )
            place = files.jpg / "files" / path / f"{dicom}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            _picture(film, size, view, number).save(place, quality=92)
    write_table(files.table("split"), ("dicom_id", "study_id", "subject_id", "split"), [i[:4] for i in files.images])
    write_table(files.table("metadata"), METADATA, metadata)
    for name in ("chexpert", "negbio"):
        header = ("subject_id", "study_id", *(name.title() for name in sorted(CHEXPERT_CATEGORIES)))
        write_table(files.table(name), header, labels)
    files.write_reports()
    return files


def write_table(path: Path, header, rows) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _value(statuses: tuple[int, ...], category: str) -> str:
    return TABLE_VALUES[statuses[CHEXPERT_CATEGORIES.index(category)]]


def _impression(findings: str) -> str:
    return "As described: " + findings.split(". ")[0].rstrip(".").lower() + "."


def _page(layout: str, indication: str, findings: str, impression: str) -> str:
    """Indented by one blank, paragraphs wrapped, as the real ones are."""
    text = LAYOUTS[layout].format(i=indication, f=findings, m=impression)
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, 78, break_on_hyphens=False) or [""]]
    return "\n".join(line.center(80).rstrip() if line.startswith("FINAL") else f" {line}" for line in lines) + "\n"


def _picture(film: Image.Image, size: tuple[int, int], view: str, number: int) -> Image.Image:
    """The phantom's film, cut to size; later views are darker, a side view is also narrow and mirrored."""
    rows, columns = size
    film = film.point(lambda value: value * (1 - 0.08 * number))
    if view in ("LATERAL", "LL"):
        film = film.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((film.width // 2, film.height))
    left, top = (film.width - columns) // 2, (film.height - rows) // 2
    return film.crop((left, top, left + columns, top + rows))


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Write a miniature MIMIC-CXR: PhysioNet's layout, invented content.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=24)
    written = write_mimic(**vars(parser.parse_args()))
    print(f"{len(written.images)} images: {written.jpg}\nreports: {written.reports_zip}")
