"""What other systems and terminals do differently: encodings, names of files, processes."""

import ast
import io
import os
import runpy
import sys
from pathlib import PurePosixPath

import pytest
import yaml
from tiny import ROOT

from revtaf import files
from revtaf.ablation.grid import load_grid
from revtaf.cli import main
from revtaf.config_file import load_settings
from revtaf.errors import UserError
from revtaf.files import atomic_folder, atomic_write, windows_refuses
from revtaf.process import print_anything

SOURCES = [path for folder in ("revtaf", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]


def texts_without_encoding(source):
    """Lines that open a text file in whatever encoding the system has."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or "encoding" in {keyword.arg for keyword in node.keywords}:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        modes = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        modes = [mode for mode in modes if mode and set(mode) <= set("rwaxbt+")]
        if name in ("read_text", "write_text") and len(node.args) <= (name == "write_text"):
            yield node.lineno
        elif name in ("open", "fdopen", "NamedTemporaryFile") and any("b" not in mode for mode in modes):
            yield node.lineno
        elif isinstance(node.func, ast.Name) and name == "open" and len(values) == 1:
            yield node.lineno


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("open(p)", [1]),
        ("open(p, 'w')", [1]),
        ("open(p, 'rb')\nopen(p, 'r', encoding='utf-8')", []),
        ("p.read_text()\n(a / B).write_text('x')", [1, 2]),
        ("p.read_text(encoding='utf-8')\np.write_text(x, 'utf-8')", []),
        ("gzip.open(p, 'wt')\ngzip.open(p, 'rb')", [1]),
        ("Image.open(p)\ntarfile.open(p, 'r:*')", []),
    ],
)
def test_a_text_without_encoding_is_found(source, lines):
    assert list(texts_without_encoding(source)) == lines


def test_every_text_file_names_its_encoding():
    """Windows' own is another in every country."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in texts_without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437", "latin-1", "utf-8"])
def test_no_command_dies_of_what_its_terminal_cannot_show(tiny_config, encoding, monkeypatch):
    """A Chinese folder, an accent and an arrow, on a console that has none of them."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["check", "--config", str(tiny_config), "data.images=放射/mu\u0308ller \u2193 \udcff"]) == 2
    out.flush()
    told = out.buffer.getvalue().decode(encoding, "strict")
    assert "image folder not found" in told and ("放射" in told if encoding == "utf-8" else "\\u653e\\u5c04" in told)
    with pytest.raises(SystemExit):
        main(["train", "--放射", "\udcff"])


def test_output_that_is_no_stream_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    print_anything()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("results/con", "device"),
        ("results/NUL.json", "device"),
        ("aux/x", "device"),
        ("Com1.tar.gz", "device"),
        ("results/2026-05-01T10:00", "holds :"),
        ('a"b', "holds"),
        ("what?", "holds ?"),
        ("a\\b", "holds \\"),
        ("run.", "dot or a blank"),
        ("run /x", "dot or a blank"),
        ("a\tb", "control character"),
    ],
)
def test_names_that_windows_refuses_are_known(name, says):
    assert says in windows_refuses(PurePosixPath(name))


@pytest.mark.parametrize(
    "name", ["results/console", "a b/müller", "../x", "./nullo", "com10", "/results/.hidden", "放射"]
)
def test_other_names_are_fine(name):
    assert windows_refuses(PurePosixPath(name)) is None


def test_on_windows_such_a_name_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WINDOWS", True)
    for write in (atomic_write, atomic_folder):
        with pytest.raises(UserError, match="Windows takes no such name .*device"), write(tmp_path / "aux" / "a.json"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "../x", "a:b", "nul", "x.", "", "what?", "a\\b"])
def test_a_data_set_has_a_name_that_is_a_folders(tiny_config, name):
    """Elsewhere too: results travel, and "../x" would leave the run's folder."""
    with pytest.raises(UserError, match="data.name.*results are folders of that name"):
        load_settings(tiny_config, [f"data.name='{name}'"])


@pytest.mark.parametrize("row", ["con", "NUL", "lpt1"])
def test_a_row_is_not_named_like_a_device(tmp_path, row):
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({"title": "T", "rows": {row: {}}}))
    with pytest.raises(UserError, match="name of a device"):
        load_grid(tmp_path / "grid.yaml")


def test_whether_a_process_lives_is_asked_for_any_number():
    assert files._alive(os.getpid()) and not files._alive(2**22 + 1) and not files._alive(10**30)


def test_nobody_sends_signal_0():
    """On Windows it is Ctrl-C, to the process and all that share its console; psutil asks otherwise there."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("kill", "killpg") and node.args:
                found += [path.name] if getattr(node.args[-1], "value", None) == 0 else []
    assert found == []


UNIX = {"SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "killpg", "fork", "setsid", "getuid", "geteuid", "WNOHANG"}
GUARDS = ("hasattr(os,", "hasattr(signal,", "AttributeError", "sys.platform")


LINUX = ROOT / "scripts/reliability"  # injects faults by its means, and refuses to start elsewhere


@pytest.mark.parametrize("script", ["hostile.py", "interrupt.py", "processes.py", "long_run.py"])
def test_faults_are_injected_on_linux_alone(script, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--out", str(tmp_path / "out")])
    monkeypatch.syspath_prepend(str(LINUX))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match="Linux's own means; here is win32"):
        runpy.run_path(str(LINUX / script), run_name="__main__")
    assert not (tmp_path / "out").exists()


def test_what_windows_lacks_is_asked_for_first():
    """A signal or a call that only Unix has stands within four lines of the question whether it is there."""
    found = []
    for path in (path for path in SOURCES if LINUX not in path.parents):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            named = isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in ("os", "signal")
            near = "\n".join(lines[max(node.lineno - 4, 0) : node.lineno + 3]) if named else ""
            if named and node.attr in UNIX and not any(guard in near for guard in GUARDS):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.attr}")
    assert found == []
