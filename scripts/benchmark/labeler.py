"""How well `rules-v3` agrees with human coding: the CheXpert sample and the IU X-Ray collection.

    python scripts/benchmark/labeler.py --data DIR [--split train|val|all] [--misses CLASS]

DIR holds chexpert_labeler/ (sample_reports.csv, labeled_reports.csv) and iu_xray/ (annotation.json,
negbio_gold.csv). A report is positive for a class if the labeler says positive; coders of the collection marked
asserted findings only, so uncertain counts as not asserted. The second gold is the collection's own MeSH coding.
"""

from __future__ import annotations

import argparse
import csv
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from revtaf.files import read_json
from revtaf.knowledge.mentions import PRESENT, Mentions, entity_mentions
from revtaf.knowledge.rules import RuleLabeler
from revtaf.labels import CATEGORIES, ENTITIES, POSITIONS, POSITIVE, UNCERTAIN

CODES = {"": 0, "1.0": 1, "0.0": 2, "-1.0": 3}
FEW = 30  # classes with fewer gold positives are listed but left out of the averages

# Our category <- columns of negbio_gold.csv (14 NIH classes and `normal`).
NEGBIO = {
    "atelectasis": ("Atelectasis",),
    "cardiomegaly": ("Cardiomegaly",),
    "pleural effusion": ("Effusion",),
    "pneumonia": ("Pneumonia",),
    "pneumothorax": ("Pneumothorax",),
    "consolidation": ("Consolidation",),
    "edema": ("Edema",),
    "lung lesion": ("Mass", "Nodule"),
    "lung opacity": ("Infiltration",),
    "pleural other": ("Pleural_Thickening", "Fibrosis"),
    "no finding": ("normal",),
}
# Our category <- MeSH codes ("Aorta, Thoracic/tortuous/mild") that match.
MESH = {
    "enlarged cardiomediastinum": r"Mediastinum/(?:prominent|enlarged)",
    "cardiomegaly": r"Cardiomegaly|Cardiac Shadow/enlarged",
    "lung opacity": r"Opacity/|Infiltrate|Airspace Disease|Cicatrix/(?:lung|pulm)|Lung Diseases, Interstitial"
    r"|Markings/.*interstitial",
    "lung lesion": r"Nodule|Mass/|Neoplasm|Lung Neoplasms",
    "edema": r"Pulmonary Edema|Pulmonary Congestion|Heart Failure",
    "consolidation": r"Consolidation",
    "pneumonia": r"Pneumonia",
    "atelectasis": r"Pulmonary Atelectasis",
    "pneumothorax": r"Pneumothorax|Hydropneumothorax",
    "pleural effusion": r"Pleural Effusion|Hydropneumothorax",
    "pleural other": r"Thickening/pleura|Cicatrix/pleura|Calcinosis/pleura|(?:Pulmonary )?Fibrosis|Empyema",
    "fracture": r"Fractures, Bone",
    "support devices": r"Catheters, Indwelling|Medical Device|Implanted Medical Device|Tube, Inserted|Stents"
    r"|Pacemaker",
    "aorta abnormality": r"Aort[^/]*/(?!.*normal)|(?:Atherosclerosis|Calcinosis)/aort|Aneurysm",
    "bone/spine abnormality": r"Spine/|[^/]*Vertebrae/|Scoliosis|Kyphosis|Spondylosis|Osteophyte|Fractures, Bone"
    r"|Bone Diseases|Arthritis|Deformity/(?:ribs|thoracic vert|lumbar vert|clavicle|thorax)"
    r"|Shoulder/.*degenerative|Funnel Chest|Pectus|Sclerosis|Hyperostosis|Bone and Bones|Spinal Fusion|Dislocations",
    "hemidiaphragm abnormality": r"Diaphragm/(?!.*obscured)|Diaphragmatic Eventration|Hernia, Diaphragmatic",
    "lung volume abnormality": r"Lung/(?:.*/)?(?:hypoinflation|hyperdistention)",
}
# Entity <- MeSH codes, for the entities that the collection codes.
ENTITY_MESH = {
    "effusion": r"Pleural Effusion",
    "opacity": r"Opacity/|Airspace Disease",
    "edema": r"Pulmonary Edema",
    "atelectasis": r"Pulmonary Atelectasis",
    "low": r".*hypoinflation",
    "congestion": r"Pulmonary Congestion",
    "catheter": r"Catheters",
    "cardiomegaly": r"Cardiomegaly|Cardiac Shadow/enlarged",
    "fracture": r"Fractures",
    "tortuous": r".*tortuous",
    "calcification": r"Calcinosis|Calcified|Granuloma|Atherosclerosis",
    "clip": r"Surgical Instr|Sutures",
    "elevation": r".*elevated|Diaphragmatic Event",
    "nodule": r"Nodule",
    "degenerative": r".*degenerative|Osteophyte|Spondylosis|Arthritis",
    "scar": r"Cicatrix",
    "hyperinflate": r".*hyperdistention",
    "blunt": r".*blunted",
    "emphysema": r"(?:Pulmonary )?Emphysema|Pulmonary Disease, Chronic Obs|Lung, Hyperlucent|Blister",
    "crowd": r"Markings/(?:.*/)?bronchovascular",
}
# Entities whose code names a side often enough to compare it.
SIDED_ENTITIES = ("effusion", "opacity", "atelectasis", "elevation", "nodule", "scar", "blunt")
# MeSH place -> words of our position names that mean it.
ZONES = {
    "upper lobe": {"upper"},
    "lower lobe": {"lower", "bases", "retrocardiac"},
    "base": {"lower", "bases", "retrocardiac", "costophrenic"},
    "middle lobe": {"mid", "middle"},
    "lingula": {"mid"},
    "apex": {"apical", "apices"},
    "hilum": {"hilar"},
}
ZONED_ENTITIES = ("opacity", "atelectasis", "nodule", "scar")


@dataclass
class Agreement:
    """Counts and scores of one class."""

    category: str
    gold: int
    said: int
    both: int
    unsure: int  # gold positives that the labeler calls uncertain

    @property
    def precision(self) -> float:
        return self.both / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        return self.both / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.both / (self.gold + self.said) if self.gold + self.said else 0.0


def load_iu(folder: Path, split: str) -> tuple[list[str], list[dict], list[list[str]]]:
    """Reports (findings + impression) of one split with their NegBio row and MeSH codes."""
    with open(folder / "negbio_gold.csv", newline="", encoding="utf-8") as file:
        gold = {row["filename"]: row for row in csv.DictReader(file)}
    annotation = read_json(folder / "annotation.json", "IU X-Ray annotation")
    records = [r for s in (("train", "val") if split == "all" else (split,)) for r in annotation[s]]
    # "No Indexing" marks a report that was never coded.
    records = [r for r in records if r["id"].split("_")[0] in gold and r["mesh"] != ["No Indexing"]]
    reports = [f"{r['report']} {r['impression']}" for r in records]
    return reports, [gold[r["id"].split("_")[0]] for r in records], [r["mesh"] for r in records]


def agreements(labels: np.ndarray, gold_of: dict[str, np.ndarray]) -> list[Agreement]:
    table = []
    for category, gold in gold_of.items():
        column = labels[:, CATEGORIES.index(category)]
        said = column == POSITIVE
        table.append(
            Agreement(category, gold.sum(), said.sum(), (gold & said).sum(), (gold & (column == UNCERTAIN)).sum())
        )
    return table


def negbio_gold(rows: list[dict]) -> dict[str, np.ndarray]:
    return {c: np.array([any(row[n] == "1" for n in names) for row in rows]) for c, names in NEGBIO.items()}


def mesh_gold(codes: list[list[str]]) -> dict[str, np.ndarray]:
    return {c: np.array([any(re.match(p, m) for m in mesh) for mesh in codes]) for c, p in MESH.items()}


def entity_agreements(mentions: Mentions, codes: list[list[str]]) -> list[Agreement]:
    table = []
    for entity, pattern in ENTITY_MESH.items():
        gold = np.array([any(re.match(pattern, code) for code in mesh) for mesh in codes])
        said = mentions.presence[:, ENTITIES.index(entity)] == PRESENT
        table.append(Agreement(entity, gold.sum(), said.sum(), (gold & said).sum(), 0))
    return table


def side_agreement(mentions: Mentions, codes: list[list[str]]) -> tuple[int, int, int]:
    """(same side, no side, other side): mentions whose single code names left or right."""
    same = none = other = 0
    for entity in SIDED_ENTITIES:
        column = ENTITIES.index(entity)
        for row in np.flatnonzero(mentions.presence[:, column] == PRESENT):
            found = [code.split("/") for code in codes[row] if re.match(ENTITY_MESH[entity], code)]
            sides = {"left", "right", "bilateral"} & set(found[0]) if len(found) == 1 else set()
            if len(sides) == 1 and "bilateral" not in sides:
                said = {"left", "right"} & set(POSITIONS[mentions.position[row, column]].split("_"))
                same, none, other = same + (said == sides), none + (not said), other + bool(said - sides)
    return same, none, other


def zone_agreement(mentions: Mentions, codes: list[list[str]]) -> tuple[int, int]:
    """(zone found, all): lung mentions whose single code names one zone."""
    found = total = 0
    for entity in ZONED_ENTITIES:
        column = ENTITIES.index(entity)
        for row in np.flatnonzero(mentions.presence[:, column] == PRESENT):
            matching = [code.split("/") for code in codes[row] if re.match(ENTITY_MESH[entity], code)]
            zones = ZONES.keys() & set(matching[0]) if len(matching) == 1 else set()
            if len(zones) == 1:
                total += 1
                found += bool(ZONES[zones.pop()] & set(POSITIONS[mentions.position[row, column]].split("_")))
    return found, total


def micro_macro(table: list[Agreement], few: int = FEW) -> tuple[float, float]:
    """Micro and macro F1 over the classes with at least `few` gold positives."""
    kept = [row for row in table if row.gold >= few]
    both, total = sum(r.both for r in kept), sum(r.gold + r.said for r in kept)
    return 2 * both / max(total, 1), sum(r.f1 for r in kept) / max(len(kept), 1)


def sample_errors(folder: Path) -> tuple[list[tuple[int, str, int, int]], int]:
    """(report, category, expected, got) of the wrong cells of the CheXpert sample, and the number of cells."""
    with open(folder / "labeled_reports.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = RuleLabeler().label([row["Reports"] for row in rows])
    wrong, cells = [], 0
    for number, row in enumerate(rows):
        for column, value in row.items():
            if column != "Reports":
                cells += 1
                got = int(labels[number, CATEGORIES.index(column.lower())])
                if got != CODES[value]:
                    wrong.append((number, column.lower(), CODES[value], got))
    return wrong, cells


def print_table(title: str, table: list[Agreement], write: Callable[[str], None] = print) -> None:
    write(
        f"\n{title}\n\n| category | gold | said | P | R | F1 | gold called uncertain |\n|---|---|---|---|---|---|---|"
    )
    for r in table:
        write(f"| {r.category} | {r.gold} | {r.said} | {r.precision:.3f} | {r.recall:.3f} | {r.f1:.3f} | {r.unsure} |")
    micro, macro = micro_macro(table)
    write(f"| **classes with >= {FEW} gold positives** | | | | | micro {micro:.3f}, macro {macro:.3f} | |")


def print_misses(category: str, labels: np.ndarray, gold: np.ndarray, reports: list[str]) -> None:
    column = labels[:, CATEGORIES.index(category)]
    for name, wrong in (("missed", gold & (column != POSITIVE)), ("wrongly said", ~gold & (column == POSITIVE))):
        print(f"\n{name}: {wrong.sum()}")
        for index in np.flatnonzero(wrong):
            print(f"[{column[index]}] {reports[index]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with iu_xray/ and chexpert_labeler/")
    parser.add_argument("--split", choices=("train", "val", "all"), default="train")
    parser.add_argument("--misses", choices=CATEGORIES, help="print the reports that disagree for one category")
    parser.add_argument("--gold", choices=("negbio", "mesh"), default="negbio", help="gold of --misses")
    arguments = parser.parse_args()

    reports, rows, codes = load_iu(arguments.data / "iu_xray", arguments.split)
    start = time.perf_counter()
    labels = RuleLabeler().label(reports)
    seconds = time.perf_counter() - start
    if arguments.misses:
        gold = negbio_gold(rows) if arguments.gold == "negbio" else mesh_gold(codes)
        print_misses(arguments.misses, labels, gold[arguments.misses], reports)
        return
    wrong, cells = sample_errors(arguments.data / "chexpert_labeler")
    print(f"CheXpert sample: {len(wrong)} of {cells} cells differ {wrong or ''}")
    print(f"IU X-Ray {arguments.split}: {len(reports)} reports in {seconds:.2f} s")
    print_table("Gold: NIH classes (NegBio)", agreements(labels, negbio_gold(rows)))
    print_table("Gold: MeSH codes", agreements(labels, mesh_gold(codes)))
    mentions = entity_mentions(reports)
    print_table("Entities (presence), gold: MeSH codes", entity_agreements(mentions, codes))
    same, none, other = side_agreement(mentions, codes)
    found, total = zone_agreement(mentions, codes)
    print(f"\nSide, of {same + none + other} coded left or right: {same} same, {none} none, {other} other")
    print(f"Zone, of {total} coded with one zone: {found} same")


if __name__ == "__main__":
    main()
