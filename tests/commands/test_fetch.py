"""`revtaf fetch`: what is public arrives whole or not at all; for the rest it says whom to ask, and tries what is
there."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
import yaml
from bert_files import small_vocabulary, write_bert_folder, write_chexbert
from file_server import serve
from medklip_files import write_medklip

from revtaf.cli import main
from revtaf.errors import UserError
from revtaf.knowledge.components import EXPLANATIONS
from revtaf.locks import alone
from revtaf.pretrained.fetch import OWN, fetch_bert

ROOT = Path(__file__).parents[2]
BERT, CLINICAL = "google-bert/bert-base-uncased", "emilyalsentzer/Bio_ClinicalBERT"
FIRST, NEWER = "a1" * 20, "b2" * 20  # commits
# The command, where torchvision knows no weights but the test's.
COMMAND = """
import sys, types, torchvision
name = sys.argv.pop(1)
torchvision.models.get_model_weights = lambda _: [types.SimpleNamespace(url=f"https://weights.invalid/{name}")]
from revtaf.cli import main
sys.exit(main(sys.argv[1:]))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Two small BERTs with the real key layouts, one in today's file format, one in the old."""
    folder = tmp_path_factory.mktemp("models")
    return {
        BERT: contents(write_bert_folder(folder / "bert", old_names=False)),
        CLINICAL: contents(write_bert_folder(folder / "clinical", width=32, heads=1)),
    }


@pytest.fixture(scope="module")
def resnet() -> tuple[str, bytes]:
    """torchvision's ResNet-18 on random weights, named as torchvision names its files."""
    torch.manual_seed(0)
    file = io.BytesIO()
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), file)
    content = file.getvalue()
    return f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth", content


@pytest.fixture
def server(models, resnet):
    """All of it on 127.0.0.1. The repositories hold other frameworks' files as well."""
    with serve() as server:
        for name, files in models.items():
            server.add_model(name, FIRST, files | {"tf_model.h5": b"of another framework" * 1000})
        server.files[f"/weights/{resnet[0]}"] = resnet[1]
        yield server


@pytest.fixture
def place(tiny_config, server, tmp_path, monkeypatch) -> Path:
    """A folder with a configuration that needs the three of them, and nothing that only a person could get."""
    content = yaml.safe_load(tiny_config.read_text())
    content |= {"run": str(tmp_path / "run"), "missing": "error"}
    content["fetch"] = {"hub": f"{server.address}/", "torchvision": f"{server.address}/weights"}
    content["data"] |= {"features": str(tmp_path / "features"), "max_samples": 12}
    content["encoder"] |= {"weights": "imagenet"}
    content["knowledge"] |= {"text": "bio_clinicalbert"}
    content["decoder"] |= {"weights": "bert-base-uncased", "width": 64, "feed_forward": 256}
    content["train"] |= {"epochs": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def online(monkeypatch):
    """The hub allowed in this process, which the suite forbids."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)


@pytest.fixture
def only_weights(resnet, monkeypatch):
    """torchvision knows the test's weights alone."""
    weights = [SimpleNamespace(url=f"https://weights.invalid/{resnet[0]}")]
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: weights)


def arguments(resnet, *overrides: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, resnet[0], "fetch", "--config", "config.yaml", *overrides]


def surroundings() -> dict[str, str]:
    """Of a process that may use the network: the suite's switch is off."""
    kept = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    return kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "NO_PROXY": "127.0.0.1"}


def outcome(place, resnet, *overrides: str) -> tuple[int, str]:
    """The command in a process of its own: exit code, and all that it said."""
    done = subprocess.run(
        arguments(resnet, *overrides), cwd=place, env=surroundings(), capture_output=True, text=True, timeout=300
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def called(capsys, *overrides: str) -> tuple[int, str]:
    """The same in this process."""
    code = main(["fetch", "--config", "config.yaml", *overrides])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_cut_resumed_found_again_and_used(place, server, models, resnet, only_weights, capsys):
    """A cut connection ends with one message and no file; the same command goes on from there, at the same commit
    though the hub has a newer one; a third asks nobody for anything; `check` and `train` take what has come."""
    weights = models[BERT]["model.safetensors"]
    large = f"/cdn/{hashlib.sha256(weights).hexdigest()}"
    server.cut[large] = 50_000
    code, said = outcome(place, resnet)
    assert code == 2 and f"broke off after 50,000 of {len(weights):,} bytes; the same command goes on" in said
    folder = place / "checkpoints" / "bert-base-uncased"
    assert "model.safetensors" not in files_below(folder)

    server.add_model(BERT, NEWER, {name: content + b" " for name, content in models[BERT].items()})
    code, said = outcome(place, resnet)
    assert code == 0, said
    assert server.asked.count(("GET", large, "bytes=50000-")) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "revision.json"} == models[BERT]
    assert files_below(place / "checkpoints" / "Bio_ClinicalBERT") == {*models[CLINICAL], "revision.json"}
    assert (place / "checkpoints" / resnet[0]).read_bytes() == resnet[1]
    assert server.times("tf_model") == 0
    pinned = json.loads((folder / "revision.json").read_text())
    assert (pinned["repository"], pinned["commit"]) == (BERT, FIRST)
    assert pinned["files"]["model.safetensors"] == {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}

    server.asked.clear()
    code, said = outcome(place, resnet)
    assert code == 0 and not server.asked and "fetched" not in said
    assert said.count("already there") == 7 and said.count("fits  ") == 3

    assert main(["check", "--config", "config.yaml"]) == 0
    assert "decoder weights bert-base-uncased: checkpoints/bert-base-uncased" in capsys.readouterr().out
    assert main(["train", "--config", "config.yaml"]) == 0
    sources = json.loads((place / "run" / "checkpoints" / "best" / "meta.json").read_text())["sources"]
    assert sources["image encoder"] == f"resnet18 from {resnet[0]}"
    assert sources["report decoder"].startswith("decoder from bert-base-uncased")
    assert sources["text embeddings"] == "Bio_ClinicalBERT [CLS]"


def test_a_full_disk_ends_with_one_message_and_the_rest_comes_later(place, server, resnet):
    """A small disk of memory: exit code 2, no final name; with more room the same command goes on."""
    (place / "checkpoints").mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this system")
    script = """
        mount -t tmpfs -o size=8m tmpfs checkpoints || exit 77
        "$@"; echo code=$?; ls checkpoints; echo listed
        mount -o remount,size=80m checkpoints
        "$@"; echo code=$?; ls checkpoints
    """
    fetch = arguments(resnet, "knowledge.text=tfidf", "decoder.weights=null")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *fetch],
        cwd=place,
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"a small disk cannot be made here: {done.stderr.strip()}")
    first, second = done.stdout.split("listed")
    assert "code=2" in first and resnet[0] not in first.split("code=2")[1]
    assert "no space left to write" in done.stderr and "Traceback" not in done.stderr
    assert "code=0" in second and resnet[0] in second.split("code=0")[1]
    assert any(asked[2] for asked in server.asked)  # it went on


def test_weights_with_another_checksum_than_their_name_are_refused(place, server, capsys):
    """torchvision's own file name, another content: exit code 2, and nothing is kept."""
    name = Path(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url).name
    server.files[f"/weights/{name}"] = b"not these weights"
    code, said = called(capsys, "knowledge.text=tfidf", "decoder.weights=null")
    assert code == 2 and f"wrong checksum: expected sha256 {name[9:17]}" in said
    assert not (place / "checkpoints").exists()


@pytest.mark.parametrize("file", ["vocab.txt", "model.safetensors"])
def test_hub_files_with_another_checksum_are_refused(place, server, models, online, only_weights, capsys, file):
    """Small files have git's checksum, large ones SHA-256: one flipped bit of either is found."""
    overrides = ["knowledge.text=tfidf", "encoder.weights=null"]
    content = models[BERT][file]
    for path in [path for path, there in server.files.items() if there == content]:
        server.files[path] = bytes([content[0] ^ 1]) + content[1:]
    code, said = called(capsys, *overrides)
    assert code == 2 and "wrong checksum: expected" in said
    assert file not in files_below(place / "checkpoints")
    server.add_model(BERT, FIRST, models[BERT])
    code, said = called(capsys, *overrides)
    assert code == 0 and f"fetched        checkpoints/bert-base-uncased/{file}" in said


@pytest.mark.parametrize("which", ["hub", "torchvision"])
def test_no_network_is_one_message_and_nothing_is_written(place, online, only_weights, capsys, which):
    """A port that nobody listens to."""
    code, said = called(capsys, f"fetch.{which}=http://127.0.0.1:9")
    assert code == 2 and "cannot reach http://127.0.0.1:9: " in said and said.count("error:") == 1
    assert not (place / "checkpoints").exists()


def test_a_hub_that_is_forbidden_is_not_asked(place, server, only_weights, capsys, monkeypatch):
    """HF_HUB_OFFLINE of the user's own holds for this command too."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, said = called(capsys)
    assert code == 2 and "HF_HUB_OFFLINE forbids" in said and not server.asked


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (None, "does not say what google-bert/bert-base-uncased holds"),
        ("<html>", "does not say what google-bert/bert-base-uncased holds"),
        ({"sha": "main"}, "expected a commit of 40 hexadecimal digits, got 'main'"),
        ({"siblings": []}, "has no config.json"),
        ({"siblings": [{"rfilename": "config.json", "size": 3, "blobId": "?"}]}, "no size or checksum of config.json"),
    ],
)
def test_a_hub_that_tells_no_checksums_is_refused(place, server, online, capsys, page, says):
    """No listing, no commit, no file, no checksum: one message, and no revision is pinned but a whole one."""
    path = f"/api/models/{BERT}"
    right = json.loads(server.pages.pop(path))
    if page is not None:
        server.pages[path] = page if isinstance(page, str) else json.dumps(right | page)
    code, said = called(capsys, "knowledge.text=tfidf", "encoder.weights=null")
    assert code == 2 and says in said
    assert "vocab.txt" not in files_below(place)


def test_files_of_a_person_are_left_alone(place, server, models, only_weights, capsys):
    """A folder filled by hand is loaded and otherwise taken as it is; nobody is asked, nothing is pinned."""
    folder = write_bert_folder(place / "checkpoints" / "bert-base-uncased")
    before = contents(folder)
    code, said = called(capsys, "knowledge.text=tfidf", "encoder.weights=null")
    assert code == 0 and "put there by hand checkpoints/bert-base-uncased/vocab.txt" in said
    assert contents(folder) == before and not server.asked


def test_a_single_file_of_the_hub_is_pinned_and_found_again(server, online, tmp_path, monkeypatch, capsys):
    """open_clip's weights for MedFuse-CLIP; under another name they are a person's to bring."""
    name, content = "open_clip_model.safetensors", bytes(range(256)) * 40
    server.add_model("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", FIRST, {name: content, "README.md": b"of a model"})
    settings = {"system": "medfuse", "missing": "stand-in", "fetch": {"hub": server.address}}
    settings |= {"knowledge": {"text": "tfidf"}, "run": str(tmp_path / "run")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    code, said = called(capsys)
    path = Path("checkpoints/clip") / name
    assert code == 0 and f"fetched        {path}" in said and path.read_bytes() == content
    assert json.loads((path.parent / "revision.json").read_text())["commit"] == FIRST
    assert files_below(path.parent) == {name, "revision.json"}
    code, said = called(capsys)
    assert code == 0 and "already there" in said and server.times("cdn") == 1
    path.write_bytes(content[1:])
    code, said = called(capsys)
    assert code == 2 and f"{path} has" in said and "then fetch again" in said
    code, said = called(capsys, "space.weights=mine.safetensors")
    assert code == 0 and "ask for" in said and "mine.safetensors" in said


def test_a_changed_file_is_named_and_not_replaced(place, server, models, online, capsys):
    """What was fetched and differs from revision.json may be somebody's work: exit code 2, the file stays."""
    overrides = ["knowledge.text=tfidf", "encoder.weights=null"]
    assert called(capsys, *overrides)[0] == 0
    file = place / "checkpoints" / "bert-base-uncased" / "vocab.txt"
    changed = file.read_bytes().replace(b"lung", b"lamp", 1)
    file.write_bytes(changed)
    code, said = called(capsys, *overrides)
    assert (
        code == 2
        and f"vocab.txt has git {hashlib.sha1(b'blob %d' % len(changed) + bytes(1) + changed).hexdigest()}" in said
    )
    assert file.read_bytes() == changed
    (file.parent / "revision.json").write_text('{"commit": 3}')
    code, said = called(capsys, *overrides)
    assert code == 2 and "revision.json is not what a fetch writes" in said


@pytest.mark.parametrize("missing", ["config.json", "vocab.txt"])
def test_a_folder_with_other_weights_is_left_as_it_was(place, server, models, online, tmp_path, missing):
    """Somebody's own weights, and a file is missing beside them: not the model of the hub, so nothing of it is put
    there, and once the missing file has been brought the folder is still a person's."""
    folder = write_bert_folder(tmp_path / "own")
    (folder / "model.safetensors").write_bytes(b"fine-tuned by a person")
    content = (folder / missing).read_bytes()
    (folder / missing).unlink()
    for name in {"config.json", "vocab.txt"} - {missing}:
        (folder / name).write_bytes(models[BERT][name])
    before = contents(folder)
    with pytest.raises(UserError, match=f"model.safetensors has .* {BERT}, commit {FIRST}, says .*; delete or move it"):
        fetch_bert(BERT, folder, server.address)
    assert contents(folder) == before
    (folder / missing).write_bytes(content)
    assert {done for done, _ in fetch_bert(BERT, folder, server.address)} == {OWN}


def test_damaged_weights_in_torchvisions_cache_are_named(place, resnet, only_weights, capsys):
    """What torchvision has cached is found, and checked against its name."""
    cached = place / "cache" / "hub" / "checkpoints" / resnet[0]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(resnet[1])
    overrides = ["knowledge.text=tfidf", "decoder.weights=null"]
    code, said = called(capsys, *overrides)
    assert code == 0 and f"already there  {cached}" in said and not (place / "checkpoints").exists()
    cached.write_bytes(resnet[1][:-1])
    code, said = called(capsys, *overrides)
    assert code == 2 and f"{cached} has sha256" in said and "its own name says" in said


@pytest.fixture
def on_request(place) -> list[str]:
    """A configuration with what a person has to ask for."""
    words = small_vocabulary()
    folder = place / "checkpoints"
    write_bert_folder(folder / "Bio_ClinicalBERT", width=32, heads=1, layers=1)
    folder.joinpath("bert-base-uncased").mkdir()
    (folder / "bert-base-uncased" / "vocab.txt").write_text("\n".join(words) + "\n")
    return ["encoder.weights=null", "decoder.weights=null", "knowledge.labeler=chexbert", "knowledge.entities=medklip"]


def test_what_must_be_asked_for_is_named_with_its_terms_and_tried(place, on_request, server, capsys):
    """Where and under which terms while it is absent; once it is there, whether it fits; nothing is fetched for it."""
    code, said = called(capsys, *on_request)
    assert code == 0
    assert "ask for        CheXbert: checkpoints/chexbert/chexbert.pth (labels the reports)" in said
    assert "https://github.com/stanfordmlgroup/CheXbert" in said and "terms: that repository's LICENSE.pdf" in said
    assert "ask for        MedKLIP" in said and "https://github.com/MediaBrain-SJTU/MedKLIP" in said
    write_chexbert(place / "checkpoints" / "chexbert" / "chexbert.pth", len(small_vocabulary()))
    (place / "checkpoints" / "medklip").mkdir()
    write_medklip(place / "checkpoints" / "medklip" / "checkpoint_final.pth")
    code, said = called(capsys, *on_request, f"knowledge.explanations={EXPLANATIONS}")
    assert code == 0 and "ask for" not in said and not server.asked
    for what in ("CheXbert", "MedKLIP", "Bio_ClinicalBERT", "explanations"):
        assert f"fits           {what}: " in said


class Trap:
    """Would leave a file where a loader ran the code in a pickle."""

    def __reduce__(self):
        return open, ("ran", "w")


def test_files_that_do_not_fit_are_all_named_and_never_run(place, on_request, capsys):
    """A key too few and an object that is no tensor: exit code 2, both are told, and no code of a file runs."""
    path = place / "checkpoints" / "medklip" / "checkpoint_final.pth"
    path.parent.mkdir()
    state = torch.load(write_medklip(path), weights_only=True)
    state["model"].popitem()
    torch.save(state, path)
    chexbert = place / "checkpoints" / "chexbert" / "chexbert.pth"
    chexbert.parent.mkdir()
    torch.save({"model_state_dict": Trap()}, chexbert)
    code, said = called(capsys, *on_request)
    assert code == 2 and "it lacks 1 keys" in said and f"cannot read {chexbert.relative_to(place)}" in said
    assert "fits           Bio_ClinicalBERT" in said and not (place / "ran").exists()


def test_a_second_fetch_at_the_same_time_is_refused(place, server, only_weights, capsys):
    """Both would write the same hidden file. The lock goes with the process that holds it."""
    overrides = ["knowledge.text=tfidf", "decoder.weights=null"]
    with alone(place / "checkpoints"), ThreadPoolExecutor() as pool:
        assert pool.submit(main, ["fetch", "--config", "config.yaml", *overrides]).result() == 2
    assert "another process is fetching in checkpoints" in capsys.readouterr().err
    assert called(capsys, *overrides)[0] == 0


def test_the_folder_that_a_file_goes_into_is_locked(place, server, models, only_weights, online, capsys):
    """A BERT's folder may lie anywhere, and serve two configurations in two places."""
    overrides = ["knowledge.text=tfidf", "encoder.weights=null"]
    folder = place / "checkpoints" / "bert-base-uncased"
    with alone(folder), ThreadPoolExecutor() as pool:
        assert pool.submit(main, ["fetch", "--config", "config.yaml", *overrides]).result() == 2
        assert files_below(folder) == {".lock"} and server.times("cdn") == 0
    assert "another process is fetching in checkpoints/bert-base-uncased" in capsys.readouterr().err
    with alone(place / "checkpoints"), ThreadPoolExecutor() as pool:  # of another model, beside it
        assert pool.submit(main, ["fetch", "--config", "config.yaml", *overrides]).result() == 0
    assert files_below(folder) == {*models[BERT], "revision.json"}


def test_a_configuration_of_stand_ins_needs_nothing(place, server, capsys):
    """No weights named: nobody is asked."""
    code, said = called(capsys, "knowledge.text=tfidf", "decoder.weights=null", "encoder.weights=null")
    assert code == 0 and "needs no pretrained file" in said and not server.asked
