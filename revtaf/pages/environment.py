"""Where HTML is made: the templates beside this file, filled with values.

Markup lives in `templates/`, values are computed in the modules. Every value is escaped when it is printed, a name that
no value has is an error, and nothing is marked as safe: the only HTML that comes from elsewhere is the body of a
`revtaf.pages.section.PageSection`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from revtaf.pages import parts


@cache
def environment() -> Environment:
    """The environment of all pages. Filters: `number`, `percent`, `limits` and `whisker` of `revtaf.pages.parts`."""
    made = Environment(
        loader=PackageLoader("revtaf.pages"),
        autoescape=True,  # also of the style sheets, whatever a file's name ends with
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=parts.number, percent=parts.percent, limits=parts.limits, whisker=parts.whisker)
    return made


def fill(template: str, **values: Any) -> str:
    """The text of `templates/<template>` with `values`. Raises jinja2.UndefinedError where a value is missing."""
    return environment().get_template(template).render(values)
