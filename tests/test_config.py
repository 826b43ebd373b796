from pathlib import Path

import pytest

from revtaf.config_file import changes, load_settings, save_settings
from revtaf.errors import UserError
from revtaf.settings import Settings

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent != FOLDER / "ablations")  # those are grids


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_configuration_loads(path):
    """No shipped file holds a key or a value that the settings do not know."""
    assert load_settings(path).name


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_base_is_read_first_and_overridden_key_by_key(tmp_path):
    """A file keeps what it does not name from its base, and an override beats both."""
    write(tmp_path, "a.yaml", "name: a\ntrain: {lr: 5e-5, batch_size: 3, epochs: 9}\n")
    path = write(tmp_path, "b.yaml", "base: a.yaml\ntrain: {epochs: 2}\n")
    settings = load_settings(path, ["train.batch_size=7", "train.clip_value=null"])
    assert (settings.name, settings.train.lr) == ("a", 5e-5)  # 5e-5 is a number, not a text
    assert (settings.train.epochs, settings.train.batch_size) == (2, 7)
    assert settings.train.clip_value is None


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.bach_size=3", "did you mean 'train.batch_size'"),
        ("lre.metrik=cosine", "did you mean 'lre.metric'"),
        ("trane.lr=1", "did you mean 'train'"),
        ("train.lr.x=2", "'train.lr' is a value"),
        ("train.lr", "expected key=value"),
        ("lre.metric=hyper", "lre.metric"),
        ("train.epochs=zero", "train.epochs"),
        ("train.epochs=0", "train.epochs"),
    ],
)
def test_a_wrong_override_names_the_key_and_the_nearest_one(tmp_path, override, says):
    """A typo never becomes a silent default."""
    path = write(tmp_path, "a.yaml", "name: a\n")
    with pytest.raises(UserError, match=says.replace("(", r"\(")):
        load_settings(path, [override])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nmae: x\n", "did you mean 'name'"),
        ("train:\n  lr: [1\n", "not a YAML file"),
        ("- a\n", "expected keys and values"),
        ("base: missing.yaml\n", "missing.yaml"),
        ("base: a.yaml\n", "refers back to itself"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, says):
    """The message names the file that is wrong."""
    path = write(tmp_path, "a.yaml", text)
    with pytest.raises(UserError, match=says) as error:
        load_settings(path)
    assert ".yaml" in str(error.value)


def test_saved_settings_read_back_equal(tmp_path):
    """The config.yaml of a run folder is the run's configuration, nothing lost."""
    settings = Settings(name="x", encoder={"weights": None}, trained_on={"name": "m"})
    save_settings(tmp_path / "config.yaml", settings)
    assert load_settings(tmp_path / "config.yaml") == settings


def test_the_paper_run_has_the_papers_values():
    """configs/mimic_cxr.yaml holds what section 4.1 and the supplement print."""
    s = load_settings(Path(__file__).parents[1] / "configs" / "mimic_cxr.yaml")
    assert (s.encoder.backbone, s.encoder.image_size) == ("resnet101", 224)
    assert (s.train.lr, s.train.weight_decay, s.train.epochs, s.train.batch_size) == (5e-5, 0.05, 6, 18)
    assert (s.loss.alpha, s.loss.beta, s.lre.width, s.knowledge.text_width) == (2, 0.5, 512, 768)
    assert s.lre.metric == "hyperbolic" and s.fvtaf.attention == "mpsa" and s.lre.grp_source == "batch_labels"
    assert set(Settings.architecture) < set(Settings.model_fields)


def test_places_are_no_changes_but_one_that_comes_or_goes_is():
    """A file that moved is the same run; a setting that begins like a free one is not free; null is no place."""
    before = Settings(encoder={"weights": None})
    moved = before.model_copy(update={"knowledge": before.knowledge.model_copy(update={"clip": Path("elsewhere.pt")})})
    assert changes(before, moved, Settings.free) == []
    for key, value in (("clip_model", "ViT-L-14"), ("imported", Path("imported")), ("explanations", Path("x.json"))):
        other = before.model_copy(update={"knowledge": before.knowledge.model_copy(update={key: value})})
        assert [name for name, *_ in changes(before, other, Settings.free)] == [f"knowledge.{key}"]


def test_what_an_earlier_version_had_is_passed_over(tmp_path, caplog):
    """A run that it trained stays readable; what would have done something is told. A new wish for it is refused."""
    for value, told in ((1, False), (2.5, True)):
        caplog.clear()
        assert (
            load_settings(write(tmp_path, "a.yaml", f"generation: {{guidance: {value}, beams: 2}}\n")).generation.beams
            == 2
        )
        assert ("'guidance: 2.5' is a setting of an earlier version" in caplog.text) is told
    with pytest.raises(UserError, match="unknown key 'generation.guidance'"):
        load_settings(write(tmp_path, "a.yaml", "{}\n"), ["generation.guidance=2"])


def test_earlier_names_are_read_as_what_they_meant(tmp_path, caplog):
    """In a file, its base and an override; both names at once are refused."""
    write(tmp_path, "base.yaml", "memory: {name: theirs}\ngeneration: {references: random}\n")
    path = write(tmp_path, "a.yaml", "base: base.yaml\ntrained_on: {max_words: 50}\n")
    with caplog.at_level("INFO"):
        settings = load_settings(path, ["generation.prompts=oracle"])
    assert (settings.trained_on.name, settings.trained_on.max_words) == ("theirs", 50)
    assert (settings.generation.retrieved, settings.generation.statuses) == ("random", "oracle")
    assert "'generation.prompts' is now called 'generation.statuses'" in caplog.text
    write(tmp_path, "base.yaml", "generation: {references: retrieved}\n")
    assert load_settings(tmp_path / "base.yaml").generation.retrieved == "learned"
    path = write(tmp_path, "b.yaml", "memory: {name: a}\ntrained_on: {name: b}\n")
    with pytest.raises(UserError, match="'memory' is the earlier name of 'trained_on'"):
        load_settings(path)


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("cp1252", "line 1: not UTF-8 text .byte 0xfc.; as cp1252 .Windows. it reads 'M\u00fcller'"),
        ("utf-16", "UTF-16 text"),
        ("utf-16-le", "UTF-16 text"),
    ],
)
def test_a_configuration_in_another_encoding_is_read_or_told(tmp_path, encoding, says):
    """Notepad puts a byte order mark in front, PowerShell writes UTF-16."""
    path = tmp_path / "own.yaml"
    path.write_bytes("name: M\u00fcller\n".encode(encoding))
    if says is None:
        assert load_settings(path).name == "M\u00fcller"
    else:
        with pytest.raises(UserError, match=f"own.yaml.*({says})"):
            load_settings(path)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    """YAML's library would forget the first section without a word; a merged one may be overridden."""
    path = tmp_path / "twice.yaml"
    path.write_text(f"base: {FOLDER / 'phantom.yaml'}\ntrain: {{epochs: 3}}\ntrain: {{lr: 1e-4}}\n")
    with pytest.raises(UserError, match="'train' appears twice"):
        load_settings(path)
    path.write_text(f"base: {FOLDER / 'phantom.yaml'}\ntrain: &x {{epochs: 3}}\ntrunk: {{<<: *x, epochs: 4}}\n")
    assert load_settings(path).trunk.epochs == 4
