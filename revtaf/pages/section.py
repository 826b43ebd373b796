"""A part of the page that a system draws itself."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class PageSection:
    """A heading and what stands below it, after the samples.

    title: plain text. body: HTML, from a template of the system with autoescape, or from `Markup(..).format(..)`, which
    escapes what it fills in. A body that is a plain `str` is text: it is escaped. The page allows no script and loads
    nothing, so a picture is SVG or a `data:` PNG (`revtaf.pages.images.image_data`).
    """

    title: str
    body: Markup
