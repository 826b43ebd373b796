"""Does a grey image look like a frontal chest radiograph? A few averages, no classifier of views.

In a frontal chest the middle (spine, heart) is brighter than the lungs on either side of it, what lies below the lungs
is brighter than they are, both halves are alike, and the corners above the shoulders are dark. Places are fractions of
the whole image; grey levels are in standard deviations of the image from its mean, so that exposure does not matter.
The thresholds were chosen on IU X-Ray and phantom images; the measured rates stand in docs/data.md.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

CONSTANT = 20  # of 255 levels, between the 2nd and 98th percentile; radiographs span 110 and more
LONGEST = 2.0  # longer side to shorter side
GRAINY = 0.9  # deviation of the 64 x 64 image to that of 256 x 256; radiographs keep .96, noise .3
ONE_LEVEL = 0.5  # share of the pixels that are of one grey level: paper, drawings
RIDGE = 0.05  # deviations by which the middle must be brighter than the lungs
INVERTED = -0.1  # the same of a negative, whose corners are bright too
ALIKE = 0.1  # correlation with the mirrored image, 16 x 16
_LUNG_ROWS, _BELOW = slice(19, 38), slice(40, 60)  # of 64
_MIDDLE, _RIGHT, _LEFT = slice(28, 36), slice(14, 24), slice(40, 50)  # columns of 64; the patient's sides


def examine(image: Image.Image) -> list[str]:
    """Warnings about an 8-bit grey image, each a kind, a colon and the reason; none for what looks right.

    Kinds: "nearly constant", "looks inverted", "does not look like a frontal chest radiograph". The first stands alone.
    """
    fine = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR), dtype=np.float64)
    coarse = _averaged(fine, 4)
    low, high = np.percentile(fine, (2, 98))
    if high - low < CONSTANT:
        return [f"nearly constant: its grey levels span {high - low:.0f} of 255"]
    levels = (coarse - coarse.mean()) / coarse.std()
    lungs = levels[_LUNG_ROWS]
    ridge = float(lungs[:, _MIDDLE].mean() - (lungs[:, _RIGHT].mean() + lungs[:, _LEFT].mean()) / 2)
    corners = float(levels[:5, :5].mean() + levels[:5, -5:].mean()) / 2
    reasons = []
    if max(image.size) > LONGEST * min(image.size):
        reasons.append(f"it is {image.width} x {image.height} pixels")
    if coarse.std() < GRAINY * fine.std():
        reasons.append("it is grainy, as noise or text")
    if max(image.histogram()) > ONE_LEVEL * image.width * image.height:
        reasons.append("most of it has one grey level")
    if not reasons and ridge < INVERTED and corners > 0:
        return ["looks inverted: bright corners, and lungs brighter than the spine"]
    if ridge < RIDGE:
        reasons.append("no bright spine between darker lungs")
    if _mirrored(_averaged(coarse, 4)) < ALIKE:
        reasons.append("its halves are not alike")
    if levels[_BELOW, 16:48].mean() < lungs[:, 16:48].mean():
        reasons.append("it is darker below the lungs' place than there")
    return [f"does not look like a frontal chest radiograph: {'; '.join(reasons)}"] if reasons else []


def _averaged(pixels: np.ndarray, factor: int) -> np.ndarray:
    """(n, n) -> (n / factor, n / factor), means of blocks."""
    side = len(pixels) // factor
    return pixels.reshape(side, factor, side, factor).mean((1, 3))


def _mirrored(pixels: np.ndarray) -> float:
    """Correlation with the mirror image, -1 to 1."""
    return float(np.corrcoef(pixels.ravel(), pixels[:, ::-1].ravel())[0, 1])
