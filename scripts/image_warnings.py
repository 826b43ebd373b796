"""How often `revtaf.data.examine.examine` warns of the images of a folder: as they are, as negatives, on their side,
upside down. The figures of docs/data.md:

    python scripts/image_warnings.py data/iu_xray/images
    python scripts/image_warnings.py data/phantom/images
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from PIL import Image, ImageOps

from revtaf.data.examine import examine
from revtaf.data.images import read_noted

SHOWN = {
    "as they are": lambda image: image,
    "negatives": ImageOps.invert,
    "on their side": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "upside down": lambda image: image.transpose(Image.Transpose.ROTATE_180),
}


def main(arguments: list[str] | None = None) -> None:
    """Print one line for each way of showing the images, and one for the notes on the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="every n-th image in order of name (default: all)")
    options = parser.parse_args(arguments)
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())[:: options.every]
    found = {name: Counter() for name in (*SHOWN, "files")}
    for path in files:
        image, notes = read_noted(path)
        found["files"].update(note.split(":")[0] for note in notes)
        for name, show in SHOWN.items():
            found[name].update(warning.split(":")[0] for warning in examine(show(image)))
    for name, counts in found.items():
        told = ", ".join(f"{kind} {count:,} ({count / len(files):.2%})" for kind, count in counts.most_common())
        print(f"{name}, {len(files):,} images: {told or 'no warning'}")


if __name__ == "__main__":
    main()
