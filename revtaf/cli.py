"""The command line: python -m revtaf train | test | score | llm | prepare | check | audit."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from revtaf import __version__
from revtaf.config import Settings
from revtaf.config_file import load_settings
from revtaf.data.text import SECTIONS
from revtaf.errors import UserError

LEAK = 1
USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a leak found, 2 bad input (one message), 130 interrupted."""
    # No command may reach for a model hub by itself: weights come from files that the user names.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    for noisy in ("transformers", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("accelerate").setLevel(logging.ERROR)  # it warns of tied weights at every checkpoint
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a file that cannot be read, a place that cannot be written: the system's own words
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="revtaf", description="Radiology reports from chest radiographs: REVTAF. Not a medical device."
    )
    parser.add_argument("--version", action="version", version=f"revtaf {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, text in (
        ("train", _train, "train a model, or continue an interrupted run"),
        ("test", _test, "write and score reports with a run's best checkpoint"),
        ("check", _check, "say which needed files are missing, and what to do"),
        ("audit", _audit, "look for leaks between the splits; exit code 1 where there is one"),
    ):
        _configured(commands.add_parser(name, help=text, description=text), run)
    commands.choices["audit"].add_argument(
        "--hash-images", action="store_true", help="compare the images' bytes too, not only their paths"
    )

    _add_score(commands.add_parser("score", help="score any system's predictions: no model, no GPU"))

    _add_llm(commands.add_parser("llm", help="ask a language model for reports (docs/llm.md)"))

    prepare = commands.add_parser("prepare", help="make a data folder from raw files")
    sources = prepare.add_subparsers(title="what", required=True, metavar="WHAT")
    features = sources.add_parser("features", help="make the features of a configuration, which train would make else")
    _configured(features, _features)
    features.add_argument("--shard", metavar="I/N", help="compute part I of N only; several machines share the work")
    _add_mimic(sources.add_parser("mimic_cxr", help="MIMIC-CXR, from the files of PhysioNet"))
    _add_import(sources.add_parser("import", help="the artefacts of PromptMRG or REVTAF's authors"))
    phantom = sources.add_parser("phantom", help="draw synthetic radiographs with reports")
    phantom.add_argument("--out", required=True, type=Path)
    phantom.add_argument("--images", type=_positive, default=1500)
    phantom.add_argument("--seed", type=int, default=0)
    phantom.add_argument("--size", type=_positive, default=256, help="pixels per side")
    phantom.set_defaults(run=_phantom)
    _add_iu(sources.add_parser("iu_xray", help="Indiana University collection, from Open-i's files or R2Gen's"))
    return parser


def _configured(command: argparse.ArgumentParser, run: Callable) -> None:
    command.add_argument("--config", required=True, type=Path, help="a YAML file, see configs/")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. train.batch_size=8")
    command.set_defaults(run=run)


def _add_score(score: argparse.ArgumentParser) -> None:
    """Names are those of `revtaf.eval.score.Request` and `AdvancedSources`."""
    add = score.add_argument
    add("predictions", type=Path, help=".jsonl, .json or .csv with id, reference, prediction; raw texts")
    add("--out", type=Path, help="folder for report.json, report.html, per_sample.csv, table.md, table.tex")
    add("--name", default="REVTAF", help="of the system, for the tables")
    add("--protocol", default="revtaf", help="revtaf, r2gen, r2gen-iu, cvt2distilgpt2, raw, clean; or all")
    add("--against", type=Path, nargs="+", default=[], metavar="FILE", help="other systems on the same ids")
    add("--llm", type=Path, nargs="+", default=[], metavar="FILE", help="outputs of language models (docs/llm.md)")
    add("--train", type=Path, metavar="ANNOTATION", help="its training reports give the rows without an image")
    add("--labeler", choices=("rules", "chexbert", "file"), default="rules")
    add("--chexbert", type=Path, default=Path("checkpoints/chexbert/chexbert.pth"))
    add("--chexbert-vocabulary", type=Path, default=Path("checkpoints/bert-base-uncased/vocab.txt"))
    add("--labels", type=Path, help="statuses of the predictions, made elsewhere")
    add("--reference-labels", type=Path, help="statuses of the references, made elsewhere")
    add("--codes", choices=("chexpert", "ours"), default="chexpert", help="of these files: 1/0/-1/blank, or 0 to 3")
    add("--published", choices=("mimic_cxr", "iu_xray"), help="show the paper's rows on this set")
    add("--export", nargs="+", choices=("rexrank", "cxr_report_metric"), default=[])
    add("--cider-idf", choices=("references", "train"), default="references", help="what CIDEr weighs words by")
    add("--java", help="for METEOR; found by itself otherwise")
    add("--resamples", type=_count, default=10_000, help="for intervals and tests; 0 leaves them out")
    add("--seed", type=_count, default=0)
    for name, what in _ADVANCED.items():
        add(f"--{name.replace('_', '-')}", type=Path, help=what)
    add("--bertscore-idf", action="store_true")
    score.set_defaults(run=_score)


_ADVANCED = {
    "radgraph_references": "RadGraph annotations of the references, by id",
    "radgraph_predictions": "RadGraph annotations of the predictions, by id",
    "radgraph_model": "folder of the RadGraph model, where there are no annotations",
    "bertscore_model": "folder of distilroberta-base",
    "bertscore_baseline": "bert-score's baseline file, for another model",
    "embeddings": "CheXbert vectors made elsewhere, for SembScore",
    "subscores": "a table with id, radgraph_combined, bertscore, semb, bleu2, for RadCliQ",
}


def _add_llm(llm: argparse.ArgumentParser) -> None:
    add = llm.add_argument
    add("--url", required=True, help="of an OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    add("--model", required=True)
    add("--annotation", required=True, type=Path)
    add("--images", required=True, type=Path)
    add("--split", default="test")
    add("--first", type=_positive, metavar="N", help="ask for the first N studies only")
    add("--out", required=True, type=Path, help="a .jsonl file; the same command continues it")
    add("--key-variable", default="REVTAF_LLM_KEY", help="the environment variable that holds the key")
    add("--requests-per-minute", type=_positive)
    add("--timeout", type=_positive, default=60, help="seconds for one answer")
    add("--retries", type=int, default=5)
    add("--max-tokens", type=_positive, default=512)
    add("--agreement-allows", action="store_true", help="your word that the data agreement permits this endpoint")
    llm.set_defaults(run=_llm)


def _add_iu(iu: argparse.ArgumentParser) -> None:
    iu.add_argument("--source", required=True, type=Path, help="folder with the XML and images, or R2Gen's package")
    iu.add_argument("--out", required=True, type=Path)
    iu.add_argument("--split", help="from the XML: whole, random, or an R2Gen annotation whose split is used")
    iu.add_argument("--seed", type=int, default=0, help="of --split random")
    iu.add_argument("--annotation", type=Path, help="R2Gen's, in place of SOURCE/annotation.json")
    iu.add_argument("--test", type=Path, help="a file with the test split, where the source has none")
    iu.add_argument("--blanks", choices=("keep", "drop"), default="keep", help="XXXX, which stands for removed words")
    iu.add_argument("--sections", choices=SECTIONS, default=SECTIONS[0])
    iu.add_argument("--missing", choices=("error", "drop"), default="error", help="images that are not there")
    iu.add_argument("--projections", type=Path, help="indiana_projections.csv, which names the frontal images")
    iu.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")
    iu.set_defaults(run=_iu_xray)


def _add_mimic(mimic: argparse.ArgumentParser) -> None:
    mimic.add_argument("--jpg", required=True, type=Path, help="MIMIC-CXR-JPG: files/ and mimic-cxr-2.0.0-*.csv.gz")
    mimic.add_argument("--reports", required=True, type=Path, help="mimic-cxr-reports.zip, or its files/")
    mimic.add_argument("--out", required=True, type=Path)
    mimic.add_argument("--sections", choices=SECTIONS, default=SECTIONS[0])
    mimic.add_argument("--views", choices=("all", "frontal", "first"), default="all")
    mimic.add_argument("--one-image-per-study", action="store_true", help="a study is one sample with all its images")
    mimic.add_argument("--labels", choices=("none", "chexpert", "negbio"), default="none", help="statuses of PhysioNet")
    mimic.add_argument("--like", type=Path, help="an annotation (R2Gen's) whose images and splits are reproduced")
    mimic.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")
    mimic.set_defaults(run=_mimic_cxr)


def _add_import(given: argparse.ArgumentParser) -> None:
    given.add_argument("--out", required=True, type=Path)
    given.add_argument("--annotation", required=True, type=Path)
    given.add_argument("--images", type=Path)
    given.add_argument("--scores", required=True, help="image_region_score_{split}.json, with {split} in it")
    given.add_argument("--score-kind", choices=("prob", "logit"), default="prob")
    given.add_argument("--memory-texts", required=True, type=Path, help="clip_text_features.json")
    given.add_argument("--memory-indices", help="labels_indices_{split}.json; without it the annotation's clip_indices")
    given.add_argument("--local", required=True, type=Path, help="folder region_txt_embeddings")
    given.add_argument("--reference", required=True, type=Path, help="folder of the reports' sentence embeddings")
    given.add_argument("--neighbours", type=Path, help="hash_distance.json; computed where it is not given")
    given.add_argument("--seed", type=int, default=0, help="of ties among computed neighbours")
    given.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")
    given.set_defaults(run=_import)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return value


def _settings(options: argparse.Namespace) -> Settings:
    return load_settings(options.config, options.overrides)


def _train(options: argparse.Namespace) -> int:
    from revtaf.commands import train
    from revtaf.engine.train import Interrupted

    try:
        train(_settings(options))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return INTERRUPTED
    return 0


def _test(options: argparse.Namespace) -> None:
    from revtaf.commands import test

    test(_settings(options))


def _check(options: argparse.Namespace) -> int:
    from revtaf.check import inspect

    findings = inspect(_settings(options))
    for finding in findings:
        print(finding)
    errors = sum(f.level == "error" for f in findings)
    print("everything that is needed is there" if not errors else f"{errors} problem(s)")
    return USER_ERROR if errors else 0


def _score(options: argparse.Namespace) -> None:
    from revtaf.eval.advanced import AdvancedSources
    from revtaf.eval.score import Request, score

    given = _arguments(options)
    sources = {name: given.pop(name) for name in (*_ADVANCED, "bertscore_idf")}
    score(Request(**given, sources=AdvancedSources(**sources)))


def _llm(options: argparse.Namespace) -> None:
    from revtaf.data.annotations import load_annotations
    from revtaf.eval.llm_endpoint import Endpoint
    from revtaf.eval.llm_run import run

    studies = load_annotations(options.annotation).get(options.split, [])[: options.first]
    if not studies:
        raise UserError(f"{options.annotation}: no study in split '{options.split}'")
    names = ("url", "model", "key_variable", "timeout", "retries", "requests_per_minute", "max_tokens")
    endpoint = Endpoint(**{name: getattr(options, name) for name in names})
    samples = [(study.id, options.images / study.image_path[0]) for study in studies]
    run(endpoint, samples, options.out, agreement_allows=options.agreement_allows)


def _phantom(options: argparse.Namespace) -> None:
    from revtaf.data.sources.phantom import prepare_phantom

    path = prepare_phantom(options.out, options.images, options.seed, options.size)
    print(f"phantom set: {path}")


def _iu_xray(options: argparse.Namespace) -> None:
    from revtaf.data.sources.iu_xray import prepare_iu_xray

    prepare_iu_xray(**_arguments(options))


def _mimic_cxr(options: argparse.Namespace) -> None:
    from revtaf.data.sources.mimic_cxr import prepare_mimic_cxr

    prepare_mimic_cxr(**_arguments(options))


def _import(options: argparse.Namespace) -> None:
    from revtaf.data.sources.imported import prepare_import

    prepare_import(**_arguments(options))


def _arguments(options: argparse.Namespace) -> dict:
    return {name: value for name, value in vars(options).items() if name != "run"}


def _features(options: argparse.Namespace) -> None:
    from revtaf.commands import prepare_features
    from revtaf.knowledge.blocks import WHOLE, Shard

    prepare_features(_settings(options), Shard.parse(options.shard) if options.shard else WHOLE)


def _audit(options: argparse.Namespace) -> int:
    from revtaf.audit import audit, table

    lines = audit(_settings(options), hash_images=options.hash_images)
    print(table(lines))
    return LEAK if any(line.verdict == "LEAK" for line in lines) else 0
