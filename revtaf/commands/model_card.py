"""README.md of a model's folder: what it is, trained on what, its figures, whose terms hold, how it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from revtaf import __version__, systems
from revtaf.config import RunSettings
from revtaf.config_file import load_settings
from revtaf.engine.checkpoint import META, SETTINGS
from revtaf.files import read_json

CARD = "README.md"
_TAGS = ["radiology", "chest-x-ray", "report-generation", "medical-imaging"]
_DEVICE = (
    "**Not a medical device.** For research. Its reports contain errors and omissions; never use them in the care of a "
    "patient."
)
_TERMS = {
    "mimic_cxr": "MIMIC-CXR is under PhysioNet's data use agreement: neither its images, reports and features nor a "
    "model trained on it may be shared with people who have not signed it.",
    "iu_xray": "The Indiana University collection (Open-i) is CC BY-NC-ND 4.0.",
    "phantom": "The training set is drawn: synthetic images and reports, MIT. No patient is in it.",
}
_OTHER_TERMS = "The terms of the training set hold for whatever is derived from it. Ask whoever gave it to you."


def model_card(folder: Path, manifest: Mapping[str, Any], results: Mapping[str, str]) -> str:
    """Of a model's folder that is complete but for card and manifest; results: test -> table in Markdown."""
    settings = load_settings(folder / SETTINGS, bases=False)
    front = yaml.safe_dump(
        {
            "library_name": "revtaf",
            "pipeline_tag": "image-to-text",
            "language": ["en"],
            "license": "other",
            "license_name": "terms-of-the-training-data",
            "tags": [settings.system, *_TAGS],
        },
        sort_keys=False,
    )
    parts = [
        f"---\n{front}---",
        f"# {settings.name}",
        _DEVICE,
        _what(settings, folder),
        "## Test results",
        *(_results(results)),
        "## Data agreement",
        _agreement(settings, folder),
        "## Use it",
        _use(settings, folder, manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _what(settings: RunSettings, folder: Path) -> str:
    meta, title = read_json(folder / META, "model"), systems.find(settings.system).title
    lines = [f"| system | {title} |", "|---|---|", f"| trained on | {settings.training_data.name} |"]
    lines += [f"| epoch | {meta['epoch']} |", f"| seed | {settings.seed} |"]
    lines += [f"| {what} | {_cell(source)} |" for what, source in meta.get("sources", {}).items()]
    lines += [f"| written by | revtaf {__version__} |"]
    return (
        f"A chest radiograph in, findings out, or reports found: {title}, all settings in `{SETTINGS}`.\n\n"
        + "\n".join(lines)
    )


def _results(results: Mapping[str, str]) -> list[str]:
    if not results:
        return ["None: the run had not been tested when this folder was made."]
    return [f"### {test}\n\n{table.strip()}" for test, table in results.items()]


def _agreement(settings: RunSettings, folder: Path) -> str:
    terms = _TERMS.get(settings.training_data.name, _OTHER_TERMS)
    if (folder / "reports.jsonl").is_file():
        held = "**This folder holds the training reports** (`reports.jsonl`): treat it like the data."
    else:
        held = "The training reports are not in this folder."
    return (
        f"{terms}\n\n{held} Whatever it holds beside the weights is derived from the training set: vectors of "
        "sentences and images, statuses, names of samples and patients, the vocabulary."
    )


def _use(settings: RunSettings, folder: Path, manifest: Mapping[str, Any]) -> str:
    lines = [
        "Install revtaf (`pip install .` in its repository). A further package that this model needs is named when it "
        "is opened.",
        '```python\nimport revtaf\n\nmodel = revtaf.load("FOLDER")\nprint(model.report("chest.png").report)\n```',
        "```bash\nrevtaf generate --checkpoint FOLDER chest.png --out reports\n```",
    ]
    if "reports.jsonl" in manifest["files"] and not (folder / "reports.jsonl").is_file():
        chooses = getattr(getattr(settings, "generation", None), "candidates", 0)
        beam = (
            " No candidate is chosen by them: the likeliest beam is written, which is another text." if chooses else ""
        )
        lines.append(
            f"Retrieved reports are known by their id.{beam} Who has the training set attaches them: "
            "`revtaf export FOLDER NEW --reports annotation.json`."
        )
    for key, files in manifest.get("external", {}).items():
        if files:
            lines.append(
                f"Needs {', '.join(f'`{name}`' for name in files)} beside it: name the place with `{key}=PATH`."
            )
    return "\n\n".join(lines)


def _cell(text: str) -> str:
    return str(text).replace("|", r"\|")
