"""One report as text for the terminal."""

from __future__ import annotations

from textwrap import fill, shorten

from revtaf.data.text import readable
from revtaf.generate.result import ImageReport
from revtaf.labels import STATUSES

_WIDTH = 100  # of a line


def as_text(report: ImageReport) -> str:
    """The file, what was written, what it rests on."""
    lines = [str(report.image), _indented(readable(report.report) or "(no word)")]
    lines += [_indented(f"WARNING: {warning}") for warning in report.warnings]
    for status in STATUSES[1:]:
        of_it = [s for s in report.statuses if s.status == status]
        if of_it:
            said = (f"{s.category} {'(given)' if s.given else f'{s.probabilities[status]:.2f}'}" for s in of_it)
            lines.append(_indented(f"{status}: {', '.join(said)}"))
    blank = [s.category for s in report.statuses if s.status == STATUSES[0] and s.given]
    if blank:
        lines.append(_indented(f"blank: {', '.join(f'{name} (given)' for name in blank)}"))
    for found in report.retrieved:
        distance = "" if found.distance is None else f", distance {found.distance:.3f}"
        text = "(this model's folder has no texts)" if found.report is None else shorten(readable(found.report), 400)
        lines.append(_indented(f"retrieved: {found.id}{distance}: {text}"))
    lines += [_indented(f"clue {weight:.3f}: {name}") for name, weight in report.clues]
    if report.scores:
        lines.append(_indented("scores: " + ", ".join(f"{name} {value:.3f}" for name, value in report.scores.items())))
    return "\n".join(lines)


def _indented(text: str) -> str:
    return fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
