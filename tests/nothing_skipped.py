"""With REVTAF_NO_SKIP=1 (`.ci/run`) a test that would be skipped for want of a package fails.

Skips for want of development data, of a GPU or of an operating system's service stay what they are.
"""

from __future__ import annotations

import os
import re

import pytest

_PACKAGE = re.compile(r"could not import|pip install|not installed|needs the package")
_FIX = "here no test is skipped for want of a package (REVTAF_NO_SKIP=1): pip install -e '.[dev]', or add it to dev"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """One test, its fixtures included."""
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    """A whole module, where it asks for the package at its top."""
    return _judged((yield))


def _judged(report):
    if report.outcome == "skipped" and os.environ.get("REVTAF_NO_SKIP") == "1" and not hasattr(report, "wasxfail"):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        if _PACKAGE.search(reason):
            report.outcome, report.longrepr = "failed", f"{reason}\n{_FIX}"
    return report
