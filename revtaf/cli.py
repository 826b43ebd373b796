"""The command line: python -m revtaf train | test | prepare | check."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from revtaf import __version__
from revtaf.config import Settings
from revtaf.config_file import load_settings
from revtaf.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad input (one message), 130 interrupted."""
    # No command may reach for a model hub by itself: weights come from files that the user names.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    for noisy in ("transformers", "accelerate", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
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
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", required=True, type=Path, help="a YAML file, see configs/")
        command.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. train.batch_size=8")
        command.set_defaults(run=run)

    prepare = commands.add_parser("prepare", help="make a data folder from raw files")
    sources = prepare.add_subparsers(title="sources", required=True, metavar="SOURCE")
    phantom = sources.add_parser("phantom", help="draw synthetic radiographs with reports")
    phantom.add_argument("--out", required=True, type=Path)
    phantom.add_argument("--images", type=_positive, default=1500)
    phantom.add_argument("--seed", type=int, default=0)
    phantom.add_argument("--size", type=_positive, default=256, help="pixels per side")
    phantom.set_defaults(run=_phantom)
    iu = sources.add_parser("iu_xray", help="Indiana University collection, R2Gen-style folder")
    iu.add_argument("--source", required=True, type=Path, help="folder with annotation.json and images/")
    iu.add_argument("--out", required=True, type=Path)
    iu.add_argument("--annotation", type=Path, help="in place of SOURCE/annotation.json")
    iu.add_argument("--test", type=Path, help="a file with the test split, where the source has none")
    iu.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")
    iu.set_defaults(run=_iu_xray)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
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


def _phantom(options: argparse.Namespace) -> None:
    from revtaf.data.sources.phantom import prepare_phantom

    path = prepare_phantom(options.out, options.images, options.seed, options.size)
    print(f"phantom set: {path}")


def _iu_xray(options: argparse.Namespace) -> None:
    from revtaf.data.sources.iu_xray import prepare_iu_xray
    from revtaf.knowledge.rules import RuleLabeler

    prepare_iu_xray(options.source, options.out, RuleLabeler(), options.annotation, options.test, options.copy)
