"""`revtaf report`: the tables in the README and in docs/, printed from the committed summaries.

A document marks the place: everything between `<!-- report: NAME ARGUMENTS -->` and `<!-- end of report -->` is printed
anew. With --check nothing is written, and a document that differs from its files is an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from revtaf.ablation.claims import CLAIMS, claims_markdown
from revtaf.ablation.claims_medfuse import MEDFUSE_CLAIMS
from revtaf.ablation.claims_trrg import TRRG_CLAIMS
from revtaf.ablation.controls import controls_markdown, summaries_with_controls
from revtaf.ablation.output import LATEX, TABLE, latex, markdown, render
from revtaf.ablation.tables import (
    HEADINGS,
    NAMES,
    SUMMARY,
    bounds_of,
    cell,
    columns_markdown,
    columns_of,
    distinct,
    heading,
    read_summary,
    rows_markdown,
    seeds_of,
    signed,
    summaries,
)
from revtaf.errors import UserError, nearest
from revtaf.files import atomic_write
from revtaf.pages.parts import without_zero

DOCUMENTS = (
    "README.md",
    "docs/differences.md",
    "docs/medfuse.md",
    "docs/reproduce.md",
    "docs/results.md",
    "docs/trrg.md",
)
DATA = {
    "revtaf": ("phantom", "phantom_other", "iu_xray", "mimic_cxr"),
    "medfuse": ("medfuse_phantom", "medfuse_iu_xray", "medfuse_mimic_cxr"),
    "trrg": ("trrg_phantom", "trrg_iu_xray", "trrg_mimic_cxr"),
}
CLAIMED = {"revtaf": CLAIMS, "medfuse": MEDFUSE_CLAIMS, "trrg": TRRG_CLAIMS}
_BLOCK = re.compile(r"(<!-- report: ([a-z_]+)((?: \S+)*) -->\n)(.*?)(\n?<!-- end of report -->)", re.DOTALL)
_COMPACT = ("BLEU_4", "METEOR", "ROUGE_L", "CIDEr", "example_f1", "micro_f1", "tail_f1")


def report(root: Path, tables: Path, check: bool = False) -> list[Path]:
    """Print all tables anew; returns the files that changed. With `check` they stay as they are.

    Raises UserError for a block that nobody knows, or whose grid is not there.
    """
    changed = []
    for path, content in summaries(tables):
        folder = path.parent
        texts = {TABLE: markdown(content), LATEX: latex(content)}
        stale = [folder / name for name, text in texts.items() if text and _read(folder / name) != text]
        changed += stale
        if stale and not check:
            render(folder)
    there = [root / name for name in DOCUMENTS if (root / name).is_file()]
    if not there:
        raise UserError(f"{root.resolve()} has none of {', '.join(DOCUMENTS)}; name the project's folder with --root")
    for path in there:
        before = path.read_text(encoding="utf-8")
        _check_markers(path, before)
        after = _BLOCK.sub(partial(_filled, tables=tables, path=path), before)
        if after != before:
            changed.append(path)
            if not check:
                with atomic_write(path) as temporary:
                    temporary.write_text(after, encoding="utf-8")
    return changed


def _check_markers(path: Path, text: str) -> None:
    """A block that is never ended would swallow what follows, and a misspelt one would never be printed."""
    marks = re.findall(r"<!-- *(report: [^>]*?|end of report) *-->", text)
    for i, mark in enumerate(marks):
        opens = mark.startswith("report: ")
        follows = marks[i + 1] if i + 1 < len(marks) else ""
        if opens != (i % 2 == 0) or (opens and follows != "end of report"):
            raise UserError(
                f"{path}: the block '<!-- {mark} -->' has no partner; every block ends before the next begins"
            )
    if len(marks) != 2 * len(_BLOCK.findall(text)):
        raise UserError(f"{path}: a report marker is not on a line of its own, as <!-- report: NAME ARGUMENTS -->")


def _filled(match: re.Match, tables: Path, path: Path) -> str:
    opening, name, arguments, _, _ = match.groups()
    if name not in BLOCKS:
        raise UserError(f"{path}: unknown report block '{name}'; known: {', '.join(BLOCKS)}")
    try:
        inspect.signature(BLOCKS[name]).bind(tables, *arguments.split())
    except TypeError:
        raise UserError(f"{path}: report block '{name}' does not take {arguments.strip() or 'nothing'}") from None
    text = BLOCKS[name](tables, *arguments.split())
    if path.parent.name == "docs":  # links are written as from the project's folder
        text = text.replace("](results/tables/", "](../results/tables/")
    return f"{opening}{text.strip()}\n<!-- end of report -->"


def main_table(tables: Path) -> str:
    """The README's first table: the model, the rows without an image, the ceilings, on every set that has been run."""
    keys = ("BLEU_4", "METEOR", "ROUGE_L", "CIDEr", "example_f1")
    lines = [["data, split", "system", *(HEADINGS[key] for key in keys)], ["---", "---", *["---:"] * len(keys)]]
    run = [data for data in ("phantom", "iu_xray") if (tables / data / "table1" / SUMMARY).is_file()]
    for data in run or ("phantom",):  # none: says how to make the first
        content = _summary(tables, f"{data}/table1")
        where = f"{NAMES[data]}, {content['split']} ({content['samples']})"
        for name, row in content["rows"].items():
            cells = [cell(row, key) for key in keys]
            if name == content["reference"]:
                cells = [cell(row, key) + _interval(row["interval"].get(key)) for key in keys]
            elif "oracle" in row["label"]:
                cells = [f"*{text}*" for text in cells]
            lines.append([where, row["label"], *cells])
            where = ""
    return rows_markdown(lines)


def compact(tables: Path, grid: str) -> str:
    """A grid's rows in seven columns, with what each run wrote; of rankings, all that the grid measures."""
    content = _summary(tables, grid)
    keys = columns_of(content, _COMPACT)
    texts = any(row["distinct reports"] for row in content["rows"].values())
    lines = [["", *(heading(content, key) for key in keys), *["different texts"] * texts]]
    lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
    for row in content["rows"].values():
        lines.append([row["label"], *(cell(row, key) for key in keys), *[distinct(row)] * texts])
    return rows_markdown(lines) + _where(content, grid)


def switches(tables: Path) -> str:
    """What each of the release's readings changes, on the sets that we may use."""
    grids = {data: _summary(tables, f"{data}/released") for data in ("phantom", "iu_xray") if _has(tables, data)}
    if not grids:
        _summary(tables, "phantom/released")  # says how to make it
    metrics = ("CIDEr", "example_f1", "micro_f1")
    heads = [f"{NAMES[data]}: {HEADINGS[metric]}" for data in grids for metric in metrics]
    lines = [["reading of the release", "setting", *heads], ["---", "---", *["---:"] * len(heads)]]
    some = next(iter(grids.values()))
    for name, row in some["rows"].items():
        if name == some["reference"]:
            continue
        values = row["settings"]
        setting = (
            ", ".join(f"`{key}={str(v).lower()}`" for key, v in values.items()) if len(values) < 3 else "all above"
        )
        cells = []
        for content in grids.values():
            pair = next((p for p in content["pairs"] if p["a"] == name and p["b"] == content["reference"]), None)
            cells += [_short(pair, metric) for metric in metrics]
        lines.append([row["label"], setting, *cells])
    notes = "; ".join(_where(content, f"{data}/released").strip() for data, content in grids.items())
    return rows_markdown(lines) + "\n" + notes


def claims(tables: Path, system: str = "revtaf") -> str:
    """Every claim of a system's paper with all of its evidence."""
    _known(system)
    return claims_markdown(tables, DATA[system], CLAIMED[system])


def controls(tables: Path, system: str = "revtaf") -> str:
    """Every control of every data set of a system: does the path work at all?"""
    _known(system)
    found = [content for name in DATA[system] for content in summaries_with_controls(tables, name)]
    return controls_markdown(found) if found else "No control has been run yet.\n"


def alignment(tables: Path, grid: str) -> str:
    """Maps against boxes in six columns."""
    columns = {
        "local pointing": "entity maps: pointing",
        "local iou": "IoU",
        "local mass": "mass",
        "global pointing": "sentence maps: pointing",
        "global mass": "mass",
        "agreement": "sentence with entity map: IoU",
    }
    return _view(_summary(tables, grid), "alignment", columns, grid)


def retrieval(tables: Path, grid: str) -> str:
    """Neighbours of the test images in six columns."""
    columns = {
        "distance@1": "status distance",
        "overlap@1": "overlap",
        "nDCG@5": "nDCG@5",
        "example_f1": "CE F1",
        "head_f1": "head F1",
        "tail_f1": "tail F1",
    }
    return _view(_summary(tables, grid), "retrieval", columns, grid)


def index(tables: Path) -> str:
    """Every table that is there, with its command."""
    lines = [["table", "data", "seeds", "command"], ["---"] * 4]
    for path, content in summaries(tables):
        place = f"[{content['title']}](results/tables/{path.parent.relative_to(tables)}/{TABLE})"
        lines.append([place, content["data"], ", ".join(map(str, seeds_of(content))), f"`{content['command']}`"])
    return rows_markdown(lines)


BLOCKS: dict[str, Callable[..., str]] = {
    "main": main_table,
    "compact": compact,
    "switches": switches,
    "claims": claims,
    "controls": controls,
    "alignment": alignment,
    "retrieval": retrieval,
    "index": index,
}


def _known(system: str) -> None:
    if system not in DATA:
        raise UserError(f"report: there is no system '{system}'; {nearest(system, DATA)}")


def _interval(bounds: list | None) -> str:
    if not bounds or None in bounds:
        return ""
    return f" <sub>[{', '.join(without_zero(bound) for bound in bounds)}]</sub>"


def _view(content: Mapping[str, Any], view: str, columns: Mapping[str, str], grid: str) -> str:
    return columns_markdown(content[view]["rows"].values(), columns) + _where(content, grid)


def _where(content: Mapping[str, Any], grid: str) -> str:
    seeds = seeds_of(content)
    many = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    where = f"{NAMES.get(content['data'], content['data'])}, {content['split']}, {content['samples']} images, {many}"
    made = f"{content['sources'].get('cores', '?')} cores, {content['sources'].get('device', '?')}, "
    return f"\n{where}; {made}{content['sources']['date']}: [results/tables/{grid}](results/tables/{grid}/{TABLE})\n"


def _short(pair: Mapping[str, Any] | None, metric: str) -> str:
    found = pair["metrics"].get(metric) if pair else None
    if found is None or found["difference"] is None:
        return "-"
    text = f"{signed(found['difference'])} <sub>{bounds_of(found)}</sub>"
    return text if found["verdict"] == "not shown" else f"**{text}**"


def _has(tables: Path, data: str) -> bool:
    return (tables / data / "released" / SUMMARY).is_file()


def _summary(tables: Path, grid: str) -> dict[str, Any]:
    path = tables / grid / SUMMARY
    if not path.is_file():
        data, _, name = grid.partition("/")
        hint = f"python -m revtaf ablate --config configs/ablations/{name}.yaml data={data}"
        raise UserError(f"{path} is not there; make it: {hint}")
    return read_summary(path)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
