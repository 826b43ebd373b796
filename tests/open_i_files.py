"""Open-i's raw files in small: reports as its XML, in its archive."""

from __future__ import annotations

import io
import tarfile

FRONTAL, LATERAL, OTHER = "f0p0k338", "f0p0k666", "f0p0k1"


def xml(number, findings="The lungs are clear.", images=((1001, FRONTAL), (2001, LATERAL)), impression="Normal chest."):
    listed = "".join(
        f"<parentImage id='CXR{number}_IM-{number:04d}-{suffix}'><caption>Chest, two views</caption>"
        f"<globalImageFeatures><EdgeHistogram>{edges}</EdgeHistogram></globalImageFeatures></parentImage>"
        for suffix, edges in images
    )
    sections = {"COMPARISON": "None.", "INDICATION": "Cough and  XXXX.", "FINDINGS": findings, "IMPRESSION": impression}
    texts = "".join(f"<AbstractText Label='{name}'>{text}</AbstractText>" for name, text in sections.items())
    return (
        f"<?xml version='1.0' encoding='utf-8'?><eCitation><uId id='CXR{number}'/><Abstract>{texts}</Abstract>"
        "<MeSH><major>Lung/clear</major><major>Heart, Normal</major><automatic>lung</automatic></MeSH>"
        f"{listed}</eCitation>"
    )


def make_archive(folder, reports, name="ecgen-radiology.tgz"):
    with tarfile.open(folder / name, "w:gz") as tar:
        for number, text in reports.items():
            content = text if isinstance(text, bytes) else text.encode()
            member = tarfile.TarInfo(f"ecgen-radiology/{number}.xml")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
