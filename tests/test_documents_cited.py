"""What the code and the documents cite is there: documents, their sections, files, links and settings."""

import re

import pytest
import yaml
from pydantic import TypeAdapter
from tiny import ROOT

from revtaf.settings import Settings

TEXTS = {".py", ".sh", ".yaml", ".txt", ".md", ".html"}
CITING = sorted(
    path
    for folder in ("revtaf", "tests", "scripts", "configs", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in TEXTS and path.name != "test_documents_cited.py"
)
PLACES = ("*.md", "*/README.md", "docs/*.md", "results/tables/**/*.md")
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))

DOCUMENT = re.compile(r"(?<![\w./-])((?:docs|checkpoints|data)/[\w-]+\.md)")
NUMBERS = r"\d+(?:\.\d+)*(?:(?:, | and | to )\d+(?:\.\d+)*)*"
NUMBERED = re.compile(rf"(docs/[\w-]+\.md) sections? ({NUMBERS})")
NAMED = re.compile(r'(docs/[\w-]+\.md), "([^"]+)"')
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
FILE = re.compile(r"`((?:revtaf|scripts|tests|configs)/[\w./-]*)`")
SETTING = re.compile(r"^([a-z]+)\.([a-z_]+)(?:=(\S+))?$")


def joined(text: str) -> str:
    """One line: a citation may be broken between two lines, also in a comment."""
    return re.sub(r"\s*\n\s*#?\s*", " ", text)


def without_code(text: str) -> str:
    """Markdown without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(document: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", without_code(document), flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """GitHub's name of a heading: lower case, blanks as hyphens, other marks dropped."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_citations(text: str, root=ROOT) -> list[str]:
    """Documents and sections that `text` cites and that are not there."""
    text = joined(text)
    broken = [name for name in DOCUMENT.findall(text) if not (root / name).is_file()]
    for name, cited in [*NUMBERED.findall(text), *NAMED.findall(text)]:
        if (root / name).is_file():
            have = headings((root / name).read_text(encoding="utf-8"))
            numbers = {heading.split()[0] for heading in have}
            wanted = re.findall(r"\d+(?:\.\d+)*", cited) if re.fullmatch(NUMBERS, cited) else [cited]
            broken += [f"{name} section {one}" for one in wanted if one not in numbers and one not in have]
    return broken + re.findall(r"\b[A-Z]{4,} sections? \d+", text)  # "METHOD section 7" of a document without a path


def broken_links(document, root=ROOT) -> list[str]:
    """Relative links of a Markdown file whose file or heading is not there."""
    text = without_code(document.read_text(encoding="utf-8"))
    broken = []
    for link in LINK.findall(text):
        name, _, fragment = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists():
            broken.append(link)
        elif fragment and fragment not in map(anchor, headings(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", CITING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_cited_documents_and_sections_exist(path):
    """Nobody is sent to a document or a section that is not in the repository."""
    assert broken_citations(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path):
    """Every relative link of a document leads to a file, and to a heading where it names one."""
    assert broken_links(path) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_named_files_exist(path):
    """Modules, scripts and configurations that a document names are there; CAPITALS stand for a name."""
    named = FILE.findall(path.read_text(encoding="utf-8"))
    assert [name for name in named if not re.search(r"[A-Z]{3}", name) and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "docs/method.md", "docs/differences.md"])
def test_named_settings_exist(name):
    """`lre.ties=first`: the section has that key, and the key takes that value. Keys of an earlier version pass, since
    they are read as what they meant."""
    sections = {key: getattr(field.annotation, "model_fields", None) for key, field in Settings.model_fields.items()}
    seen, wrong = 0, []
    for code in re.findall(r"`([^`\n]+)`", without_code((ROOT / name).read_text(encoding="utf-8"))):
        for word in code.split():
            found = SETTING.match(word)
            keys = sections.get(found[1]) if found else None
            if keys is None or f"{found[1]}.{found[2]}" in Settings.renamed:
                continue
            seen += 1
            if found[2] not in keys:
                wrong.append(word)
                continue
            for value in filter(None, (found[3] or "").split("\\|")):
                try:
                    TypeAdapter(keys[found[2]].annotation).validate_python(yaml.safe_load(value))
                except ValueError:
                    wrong.append(word)
    assert wrong == [] and seen > 10


def test_what_is_broken_is_found(tmp_path):
    """The checks themselves: one of each kind, right and wrong."""
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs" / "method.md"
    text = "# Title\n\n## 3 Space\n\n### 3.1 Where, and why\n\n```\n# no heading\n```\n[a](#31-where-and-why)\n"
    document.write_text(text)
    right = 'docs/method.md section 3.1, docs/method.md, "Title" and docs/method.md\n    # sections 3 and 3.1'
    assert broken_citations(right, tmp_path) == []
    wrong = 'docs/none.md; docs/method.md sections 3 and 4; docs/method.md, "no heading"; METHOD section 7'
    expected = ["docs/none.md", "docs/method.md section 4", "docs/method.md section no heading", "METHOD section 7"]
    assert broken_citations(wrong, tmp_path) == expected
    assert broken_links(document) == []
    document.write_text(text + "[b](none.md) [c](method.md#space) [d](https://example.org/none)\n")
    assert broken_links(document) == ["none.md", "method.md#space"]
