"""Every command that a document shows can be called: options parse, settings hold, files and extras are there."""

import re
import shutil

import pytest
from shown import DOCUMENTS, Shown, own_configuration, shown_in
from tiny import ROOT

from revtaf.ablation.command import GridRequest
from revtaf.ablation.grid import load_grid
from revtaf.cli import _parser, main
from revtaf.config_file import load_settings
from revtaf.errors import UserError

SHELL = {"source", "export", "cd", "sha256sum"}  # not ours; everything else has to be
INSTEAD = {"FILE": "configs/phantom.yaml", "GRID": "table3", "DATA": "phantom"}  # of a word that a reader replaces
COMMANDS = {path: shown_in(path) for path in DOCUMENTS}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The project's files that commands name, and the configuration that docs/data.md tells to write."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "configs" / "mine.yaml").write_text(own_configuration(), encoding="utf-8")
    return folder


def fault(shown):
    """Why a command that is shown cannot be called, or None. In the folder that holds `configs`."""
    head, *rest = shown.words
    if shown.inline and not rest:
        return None  # the name of a program
    if head in SHELL and not shown.inline:
        return None
    if head == "pip":
        return _extras(rest)
    if head == "torchrun":
        if len(rest) < 6 or rest[:2] + rest[3:5] != ["--standalone", "--nproc_per_node", "-m", "revtaf"]:
            return "torchrun: expected --standalone --nproc_per_node N -m revtaf"
        return _of_revtaf(rest[5:], shown.inline)
    if head == "bash":
        script = ROOT / rest[0]
        return _of_shell_script(script, rest[1:]) if script.is_file() else f"there is no {rest[0]}"
    if head == "python":
        script = ROOT / rest[0]
        if not script.is_file():
            return f"there is no {rest[0]}"
        text = script.read_text(encoding="utf-8")
        absent = [word for word in rest[1:] if word.startswith("--") and f'"{word}"' not in text]
        return f"{rest[0]} has no option {absent[0]}" if absent else None
    return _of_revtaf(rest, shown.inline) if head == "revtaf" else f"what is '{head}'? Nothing here runs it"


def _of_revtaf(words, inline):
    if inline:
        words = [re.sub(rf"\b({'|'.join(INSTEAD)})\b", lambda found: INSTEAD[found[0]], word) for word in words]
        if "--config" not in words or "..." in words:
            return _of_a_name(words)
    try:
        options = _parser().parse_args(words)
        if hasattr(options, "overrides"):
            load_settings(options.config, options.overrides)
        elif words[0] == "ablate":
            given = [*(word for word in options.config if "=" in word), *options.given]
            request = GridRequest.parse(given)
            for path in (word for word in options.config if "=" not in word):
                load_grid(path).runs(request.data, request.runs, request.overrides)
    except SystemExit:
        return f"revtaf {' '.join(words)}: its options do not parse"
    except UserError as error:
        return str(error)
    return None


def _of_a_name(words):
    """A command that is named within a sentence, with some of its options."""
    parser = _parser()
    for word in words:
        if parser._subparsers and not word.startswith("-"):
            parser = parser._subparsers._group_actions[0].choices.get(word)
            if parser is None:
                return f"there is no command {word}"
        elif word.startswith("--") and word not in parser._option_string_actions:
            return f"{parser.prog} has no option {word}"
    return None


def _of_shell_script(script, arguments):
    """Each command of ours in it, with what it is called with."""
    for line in script.read_text(encoding="utf-8").splitlines():
        if not line.lstrip().startswith("#") and (found := re.search(r"-m revtaf (.*?)(?:$| \|)", line)):
            words = found[1].replace('"$@"', " ".join(arguments)).split()
            if told := _of_revtaf(words, False):
                return f"{script.name}: {told}"
    return None


def _extras(words):
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"revtaf\[([\w,]+)\]", " ".join(words)):
        for name in extra.split(","):
            if not re.search(rf"^{name} = \[", declared, re.MULTILINE):
                return f"there is no extra '{name}'"
    return None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_a_document_can_be_called(path, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    told = {str(shown): why for shown in COMMANDS[path] if (why := fault(shown))}
    assert told == {}, capsys.readouterr().err


def test_the_documents_show_commands():
    """That the reading of documents finds what is there: of README all of its blocks, of docs/data.md most commands."""
    count = {path.name: len(COMMANDS[path]) for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs")}
    assert count["README.md"] >= 25 and count["data.md"] >= 30
    names = {shown.words[1] for shown in sum(COMMANDS.values(), []) if shown.words[0] == "revtaf" and shown.words[1:]}
    with pytest.raises(SystemExit):
        main(["no such command"])
    known = _parser()._subparsers._group_actions[0].choices
    assert set(known) <= names, "a command that no document names"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("revtaf tain --config configs/phantom.yaml", "do not parse"),
        ("revtaf train --config configs/phantom.yml", "phantom.yml"),
        ("revtaf train --config configs/phantom.yaml train.epoch=2", "train.epochs"),
        ("revtaf score predictions.jsonl --protocoll clean", "do not parse"),
        ("revtaf ablate --config configs/ablations/table9.yaml data=phantom", "table9.yaml"),
        ("revtaf ablate --config configs/ablations/table3.yaml dta=phantom", "unknown key 'dta'"),
        ("bash scripts/quick.sh", "there is no scripts/quick.sh"),
        ("bash train_mimic_cxr.sh train.batchsize=8", "batch_size"),
        ("python scripts/benchmark/fcc.py --kind all", "has no option --kind"),
        ("pip install 'revtaf[medfuze]'", "there is no extra 'medfuze'"),
        ("accelerate launch -m revtaf train", "what is 'accelerate'"),
        ("revtaf prepare iu_xray --source raw --out data/iu --split", "do not parse"),
    ],
)
def test_a_wrong_command_is_found(command, says, place, tmp_path, monkeypatch, capsys):
    """The check itself: in a block of a document."""
    monkeypatch.chdir(place)
    (tmp_path / "page.md").write_text(f"```bash\n{command}  # a comment\n```\n", encoding="utf-8")
    (shown,) = shown_in(tmp_path / "page.md")
    assert says in fault(shown)


def test_continued_lines_braces_and_quotes_are_those_of_a_shell(tmp_path):
    text = "```bash\nrevtaf a --csv x/{b,c}.csv \\\n  --s 'r_{split}' && cd d  # e\n```\nSee `revtaf analyse`.\n"
    (tmp_path / "page.md").write_text(f"{text}\n    revtaf b --out DIR [--c]\n", encoding="utf-8")
    first, second, third, fourth = shown_in(tmp_path / "page.md")
    assert fourth.words == ("revtaf", "b", "--out", "DIR", "--c") and fourth.inline
    assert first.words == ("revtaf", "a", "--csv", "x/b.csv", "x/c.csv", "--s", "r_{split}")
    assert second.words == ("cd", "d") and third == Shown("page.md:5", ("revtaf", "analyse"), True)
