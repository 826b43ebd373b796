"""Which results a grid takes as those of today: of this test, these data and this model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from revtaf.ablation.runs import is_tested, result_folder
from revtaf.commands import test as command
from revtaf.engine.system import Written


@pytest.fixture
def run(write_grid, pretend, tmp_path):
    """A finished run on the tiny phantom set."""
    rows = {"plain": {"set": {"lre.enabled": False, "fvtaf.enabled": False}}}
    (run,) = write_grid(rows=rows, seeds=[0], paper=None).runs("phantom", tmp_path / "runs", [])
    pretend(run)
    return run


def test_a_test_that_stops_leaves_no_earlier_figures_beside_its_settings(run, monkeypatch):
    """Other settings are written, then the process ends before the report: the old figures are not there."""
    settings = run.tested.model_copy(update={"generation": run.tested.generation.model_copy(update={"beams": 3})})
    changed = SimpleNamespace(**vars(run) | {"tested": settings})
    assert is_tested(run) and not is_tested(changed)
    accelerator = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)
    system = SimpleNamespace(accelerator=accelerator, evaluate=lambda: Written([{"id": "a"}], None))
    monkeypatch.setattr(command, "open_trained", lambda settings: system)
    monkeypatch.setattr(command, "_report", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        command.test(settings)
    assert not is_tested(changed) and not (result_folder(run) / "report.json").exists()
