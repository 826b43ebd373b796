"""The command line: python -m revtaf train | test | analyse | ablate | report | score | llm | prepare | ..."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from revtaf import __version__
from revtaf.commands.options import (
    ADVANCED,
    add_ablate,
    add_audit,
    add_configured,
    add_export,
    add_features,
    add_generate,
    add_import,
    add_index,
    add_iu,
    add_llm,
    add_lre_study,
    add_mimic,
    add_phantom,
    add_replay,
    add_report,
    add_reproduce,
    add_score,
    add_search,
    add_serve,
    add_table,
)
from revtaf.config_file import load_settings
from revtaf.errors import UserError
from revtaf.process import INTERRUPTED, USER_ERROR, configure, memory_ran_out, print_anything

LEAK = STALE = UNREADABLE = NOT_FINITE = DIFFERENT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a leak, a stale document, an image that cannot be read or a
    step that is not finite again, 2 bad input (one message), 130 interrupted."""
    print_anything()  # help and errors of options, too
    options = _parser().parse_args(arguments)
    configure(offline=options.run is not _fetch)
    try:
        if hasattr(options, "config") and hasattr(options, "overrides"):  # a command on one configuration
            options.settings = load_settings(options.config, options.overrides)
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
    except (MemoryError, RuntimeError, ImportError) as error:
        message = memory_ran_out(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="revtaf", description="Radiology reports from chest radiographs: REVTAF. Not a medical device."
    )
    parser.add_argument("--version", action="version", version=f"revtaf {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, text, add in (
        ("train", _train, "train a model, or continue an interrupted run", add_configured),
        ("test", _test, "write and score reports with a run's best checkpoint", add_configured),
        ("analyse", _analyse, "where a trained model's maps look, and what its retriever finds", add_configured),
        ("replay", _replay, "repeat a training step that was not finite (docs/reliability.md)", add_replay),
        ("ablate", _ablate, "run a grid of settings: every table and figure of the paper", add_ablate),
        ("report", _report, "print the tables of README.md and docs/ from results/tables", add_report),
        (
            "reproduce",
            _reproduce,
            "run a test again from its report.json; exit code 1 where a figure differs",
            add_reproduce,
        ),
        ("check", _check, "say which needed files are missing, and what to do", add_configured),
        (
            "fetch",
            _fetch,
            "download the pretrained weights that are public; say where to ask for the rest",
            add_configured,
        ),
        ("audit", _audit, "look for leaks between the splits; exit code 1 where there is one", add_audit),
        ("score", _score, "score any system's predictions: no model, no GPU", add_score),
        (
            "index",
            _index,
            "make a data set searchable by a model that embeds images and texts (docs/search.md)",
            add_index,
        ),
        ("generate", _generate, "write the reports of image files (docs/generate.md)", add_generate),
        ("serve", _serve, "try a model on a local page (docs/serve.md)", add_serve),
        ("export", _export, "make a trained model a folder that travels (docs/generate.md)", add_export),
        ("search", _search, "find reports by image, images by text, images by image", add_search),
        ("llm", _llm, "ask a language model for reports (docs/llm.md)", add_llm),
    ):
        _command(commands, name, run, text, add)
    study = commands.add_parser("study", help="ask one module many small questions; no report is written")
    questions = study.add_subparsers(title="what", required=True, metavar="WHAT")
    text = "what each choice of the retrieval enhancer does to the reports that are found"
    _command(questions, "lre", _study_lre, text, add_lre_study)
    prepare = commands.add_parser("prepare", help="make a data folder from raw files")
    sources = prepare.add_subparsers(title="what", required=True, metavar="WHAT")
    for name, run, text, add in (
        ("features", _features, "make the features of a configuration, which train would make else", add_features),
        ("table", _table, "any data set by its own columns: CSV, JSON lines, Parquet", add_table),
        ("mimic_cxr", _mimic_cxr, "MIMIC-CXR, from the files of PhysioNet", add_mimic),
        ("iu_xray", _iu_xray, "Indiana University collection, from Open-i's files or R2Gen's", add_iu),
        ("import", _import, "the artefacts of PromptMRG or REVTAF's authors", add_import),
        ("phantom", _phantom, "draw synthetic radiographs with reports", add_phantom),
    ):
        _command(sources, name, run, text, add)
    return parser


def _command(commands, name: str, run: Callable, text: str, add_options: Callable) -> None:
    command = commands.add_parser(name, help=text, description=text)
    add_options(command)
    command.set_defaults(run=run)


def _train(options: argparse.Namespace) -> int:
    from revtaf.commands.train import train
    from revtaf.engine.train import Interrupted

    try:
        train(options.settings)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return INTERRUPTED
    return 0


def _test(options: argparse.Namespace) -> None:
    from revtaf.commands.test import test

    test(options.settings)


def _analyse(options: argparse.Namespace) -> None:
    from revtaf.commands.test import analyse

    for path in analyse(options.settings):
        print(path)


def _replay(options: argparse.Namespace) -> int:
    from revtaf.commands.replay import replay_step

    return NOT_FINITE if replay_step(options.folder, options.given) else 0


def _ablate(options: argparse.Namespace) -> None:
    from revtaf.ablation.command import ablate

    # argparse hands everything behind --config to it, which takes several files.
    given = [*(item for item in options.config if "=" in item), *options.given]
    for folder in ablate([Path(item) for item in options.config if "=" not in item], given):
        print(f"tables: {folder}")


def _study_lre(options: argparse.Namespace) -> None:
    from revtaf.commands import study

    folder = study.lre(options.settings, options.out, options.split, options.seeds, options.steps)
    print((folder / "table.md").read_text(encoding="utf-8"))


def _report(options: argparse.Namespace) -> int:
    from revtaf.ablation.documents import report

    changed = report(options.root, options.tables, options.check)
    for path in changed:
        print(f"{'stale' if options.check else 'printed'}: {path}")
    return STALE if options.check and changed else 0


def _reproduce(options: argparse.Namespace) -> int:
    from revtaf.commands.reproduce import ReproduceRequest, reproduce, told
    from revtaf.engine.train import Interrupted

    try:
        found = reproduce(ReproduceRequest(**_arguments(options)))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return INTERRUPTED
    print("\n".join(told(found)))
    return DIFFERENT if found["figures"] or found["predictions"] else 0


def _check(options: argparse.Namespace) -> int:
    from revtaf.check import inspect

    lines = inspect(options.settings)
    for line in lines:
        print(line)
    errors = sum(line.level == "error" for line in lines)
    print("everything that is needed is there" if not errors else f"{errors} problem(s)")
    return USER_ERROR if errors else 0


def _fetch(options: argparse.Namespace) -> None:
    from revtaf.commands.fetch import fetch

    fetch(options.settings)


def _score(options: argparse.Namespace) -> None:
    from revtaf.commands.score import ScoreRequest, score
    from revtaf.eval.advanced import AdvancedSources

    given = _arguments(options)
    sources = {name: given.pop(name) for name in (*ADVANCED, "bertscore_idf")}
    score(ScoreRequest(**given, sources=AdvancedSources(**sources)))


def _index(options: argparse.Namespace) -> None:
    from revtaf.commands.index import IndexRequest, index

    index(IndexRequest(**_arguments(options)))


def _generate(options: argparse.Namespace) -> int:
    from revtaf.commands.generate import GenerateRequest, generate

    return UNREADABLE if generate(GenerateRequest(**_arguments(options))) else 0


def _serve(options: argparse.Namespace) -> None:
    from revtaf.commands.serve import ServeRequest, serve

    serve(ServeRequest(**_arguments(options)))


def _export(options: argparse.Namespace) -> None:
    from revtaf.commands.export import ExportRequest, export

    print(f"model: {export(ExportRequest(**_arguments(options)))}")


def _search(options: argparse.Namespace) -> None:
    from revtaf.commands.search import SearchRequest, search

    search(SearchRequest(**_arguments(options)))


def _llm(options: argparse.Namespace) -> None:
    from revtaf.data.annotations import load_annotations
    from revtaf.llm.ask import run
    from revtaf.llm.endpoint import Endpoint

    studies = load_annotations(options.annotation).get(options.split, [])[: options.first]
    if not studies:
        raise UserError(f"{options.annotation}: no study in split '{options.split}'")
    names = ("url", "model", "key_variable", "timeout", "retries", "requests_per_minute", "max_tokens")
    endpoint = Endpoint(**{name: getattr(options, name) for name in names})
    samples = [(study.id, options.images / study.image_path[0]) for study in studies]
    run(endpoint, samples, options.out, agreement_allows=options.agreement_allows)


def _phantom(options: argparse.Namespace) -> None:
    from revtaf.data.sources.phantom.prepare import prepare_phantom

    path = prepare_phantom(options.out, options.images, options.seed, options.size)
    print(f"phantom set: {path}")


def _iu_xray(options: argparse.Namespace) -> None:
    from revtaf.data.sources.iu_xray.prepare import prepare_iu_xray

    prepare_iu_xray(**_arguments(options))


def _table(options: argparse.Namespace) -> None:
    from revtaf.data.sources.table.prepare import prepare_table

    prepare_table(**_arguments(options))


def _mimic_cxr(options: argparse.Namespace) -> None:
    from revtaf.data.sources.mimic_cxr.prepare import prepare_mimic_cxr

    prepare_mimic_cxr(**_arguments(options))


def _import(options: argparse.Namespace) -> None:
    from revtaf.data.sources.imported.prepare import prepare_import

    prepare_import(**_arguments(options))


def _arguments(options: argparse.Namespace) -> dict:
    return {name: value for name, value in vars(options).items() if name != "run"}


def _features(options: argparse.Namespace) -> None:
    from revtaf.commands.features import prepare_features
    from revtaf.data.blocks import WHOLE, Shard

    prepare_features(options.settings, Shard.parse(options.shard) if options.shard else WHOLE)


def _audit(options: argparse.Namespace) -> int:
    from revtaf.audit.audit import audit, table

    lines = audit(options.settings, hash_images=options.hash_images)
    print(table(lines))
    return LEAK if any(line.verdict == "LEAK" for line in lines) else 0
