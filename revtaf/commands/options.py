"""The options of each command. Their names are those of the functions and records that they are passed to."""

from __future__ import annotations

import argparse
from pathlib import Path

from revtaf.data.annotations import SPLITS
from revtaf.data.text import SECTIONS


def add_configured(command: argparse.ArgumentParser) -> None:
    """A configuration and its overrides, of which `revtaf.cli.main` makes `settings`."""
    command.add_argument("--config", required=True, type=Path, help="a YAML file, see configs/")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. train.batch_size=8")


def add_ablate(command: argparse.ArgumentParser) -> None:
    """Grids, and what `revtaf.ablation.command.GridRequest` parses."""
    command.add_argument("--config", required=True, nargs="+", help="grids, see configs/ablations/")
    command.add_argument(
        "given",
        nargs="*",
        metavar="key=value",
        help="data=phantom, jobs=2, seeds=0,1, rows=a,b, runs=FOLDER, out=FOLDER, and settings of all rows",
    )


def add_replay(given: argparse.ArgumentParser) -> None:
    """Arguments of `revtaf.commands.replay.replay_step`."""
    given.add_argument("folder", type=Path, help="a folder nonfinite-STEP of a run")
    given.add_argument("given", nargs="*", metavar="KEY=VALUE", help="settings that differ, such as device=cpu")


def add_report(command: argparse.ArgumentParser) -> None:
    """Arguments of `revtaf.ablation.documents.report`."""
    command.add_argument("--tables", type=Path, default=Path("results/tables"))
    command.add_argument("--root", type=Path, default=Path(), help="folder of README.md and docs/")
    command.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a document is stale")


def add_reproduce(command: argparse.ArgumentParser) -> None:
    """Arguments of `revtaf.commands.reproduce.ReproduceRequest`."""
    command.add_argument("report", type=Path, help="report.json of a test")
    command.add_argument("--out", required=True, type=Path, help="a new folder, which becomes a run, or a stopped one")
    command.add_argument("--train", action="store_true", help="train anew, too; else the trained model is tested again")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="where files are now: data.images=FOLDER")


def add_lre_study(study: argparse.ArgumentParser) -> None:
    """A configuration, and arguments of `revtaf.system.lre_study.study`."""
    add_configured(study)
    study.add_argument("--out", required=True, type=Path, help="folder for table.md, summary.json and the rows")
    study.add_argument("--split", help="whose images ask; the validation split by default, val+test for both")
    study.add_argument("--seeds", type=positive, default=30)
    study.add_argument("--steps", type=positive, help="updates of each training; lre.steps by default, or 2000")


def add_audit(audit: argparse.ArgumentParser) -> None:
    """A configuration, and how `revtaf.audit.audit.audit` compares images."""
    add_configured(audit)
    audit.add_argument("--hash-images", action="store_true", help="compare the images' bytes too, not only their paths")


def add_features(features: argparse.ArgumentParser) -> None:
    """A configuration, and the part of the work (`revtaf.data.blocks.Shard.parse`)."""
    add_configured(features)
    features.add_argument("--shard", metavar="I/N", help="compute part I of N only; several machines share the work")


def add_phantom(phantom: argparse.ArgumentParser) -> None:
    """Arguments of `revtaf.data.sources.phantom.prepare.prepare_phantom`."""
    phantom.add_argument("--out", required=True, type=Path)
    phantom.add_argument("--images", type=positive, default=1500)
    phantom.add_argument("--seed", type=int, default=0)
    phantom.add_argument("--size", type=positive, default=256, help="pixels per side")


def add_score(score: argparse.ArgumentParser) -> None:
    """Names are those of `revtaf.commands.score.ScoreRequest` and `AdvancedSources`."""
    add = score.add_argument
    add("predictions", type=Path, help=".jsonl, .json or .csv with id, reference, prediction; raw texts")
    add("--out", type=Path, help="folder for report.json, report.html, the tables and the numbers by sample")
    add("--name", default="REVTAF", help="of the system, for the tables")
    add("--protocol", default="revtaf", help="revtaf, r2gen, r2gen-iu, cvt2distilgpt2, raw, clean; or all")
    several = {"type": Path, "nargs": "+", "action": "extend", "default": [], "metavar": "FILE"}
    add("--against", **several, help="other systems on the same ids")
    add("--llm", **several, help="outputs of language models (docs/llm.md)")
    add("--train", type=Path, metavar="ANNOTATION", help="its training reports give the rows without an image")
    add("--labeler", choices=("rules", "chexbert", "file", "none"), default="rules", help="none: no clinical scores")
    add("--chexbert", type=Path, default=Path("checkpoints/chexbert/chexbert.pth"))
    add("--chexbert-vocabulary", type=Path, default=Path("checkpoints/bert-base-uncased/vocab.txt"))
    add("--labels", type=Path, help="statuses of the predictions, made elsewhere")
    add("--reference-labels", type=Path, help="statuses of the references, made elsewhere")
    add("--codes", choices=("chexpert", "ours"), default="chexpert", help="of these files: 1/0/-1/blank, or 0 to 3")
    add("--published", choices=("mimic_cxr", "iu_xray"), help="show the paper's rows on this set")
    add("--export", nargs="+", choices=("rexrank", "cxr_report_metric"), default=[])
    add("--cider-idf", choices=("references", "train"), default="references", help="what CIDEr weighs words by")
    add("--java", help="for METEOR; found by itself otherwise")
    add("--resamples", type=not_negative, default=10_000, help="for intervals and tests; 0 leaves them out")
    add("--seed", type=not_negative, default=0)
    for name, what in ADVANCED.items():
        add(f"--{name.replace('_', '-')}", type=Path, help=what)
    add("--bertscore-idf", action="store_true")


ADVANCED = {
    "radgraph_references": "RadGraph annotations of the references, by id",
    "radgraph_predictions": "RadGraph annotations of the predictions, by id",
    "radgraph_model": "folder of the RadGraph model, where there are no annotations",
    "bertscore_model": "folder of distilroberta-base",
    "bertscore_baseline": "bert-score's baseline file, for another model",
    "embeddings": "CheXbert vectors made elsewhere, for SembScore",
    "subscores": "a table with id, radgraph_combined, bertscore, semb, bleu2, for RadCliQ",
}


def add_llm(llm: argparse.ArgumentParser) -> None:
    """An endpoint (`revtaf.llm.endpoint.Endpoint`), the studies that it is asked about, and where its answers go."""
    add = llm.add_argument
    add("--url", required=True, help="of an OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    add("--model", required=True)
    add("--annotation", required=True, type=Path)
    add("--images", required=True, type=Path)
    add("--split", default="test")
    add("--first", type=positive, metavar="N", help="ask for the first N studies only")
    add("--out", required=True, type=Path, help="a .jsonl file; the same command continues it")
    add("--key-variable", default="REVTAF_LLM_KEY", help="the environment variable that holds the key")
    add("--requests-per-minute", type=positive)
    add("--timeout", type=positive, default=60, help="seconds for one answer")
    add("--retries", type=int, default=5)
    add("--max-tokens", type=positive, default=512)
    add("--agreement-allows", action="store_true", help="your word that the data agreement permits this endpoint")


def add_index(index: argparse.ArgumentParser) -> None:
    """What `revtaf.commands.index.IndexRequest` holds."""
    add = index.add_argument
    add("--checkpoint", required=True, type=Path, help="a model that embeds images and texts: its run or its folder")
    add("--data", required=True, type=Path, metavar="ANNOTATION", help="annotation.json")
    add("--out", required=True, type=Path, metavar="INDEX", help="folder of the index; an earlier one is replaced")
    add("--images", type=Path, help="folder of the images; `images` beside the annotation by default")
    add("--split", nargs="+", choices=SPLITS, default=["train"], help="which splits are indexed")
    add("--add", action="store_true", help="add to the index that is there, with its engine and projection")
    add("--engine", choices=("exact", "faiss"), help="exact by default; faiss needs the extra `faiss`")
    add("--svd", type=positive, metavar="WIDTH", help="store fewer dimensions, by an SVD of the training vectors: 256")
    add("--svd-centred", action="store_true", default=None, help="take their mean off first; it reorders neighbours")
    add("--shard-rows", type=positive, help="rows of one file of vectors; 131072 by default")
    add("--recall", type=float, help="what faiss must find of the exact 10 nearest; .95 by default")
    add("--nlist", type=positive, help="lists of faiss; by the number of rows by default")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def add_search(search: argparse.ArgumentParser) -> None:
    """What `revtaf.commands.search.SearchRequest` holds."""
    add = search.add_argument
    add("images", nargs="*", type=Path, metavar="IMAGE", help="image files that are asked about")
    add("--index", required=True, type=Path, help="folder that `revtaf index` made")
    add("--text", action="append", default=[], help="a sentence or a report that is asked about; may be repeated")
    add("-k", type=positive, default=10, help="how many hits")
    add("--of", choices=("reports", "images"), help="what is found; reports for an image, images for a text by default")
    add("--checkpoint", type=Path, help="the model that made the index, where it has been moved")
    add("--exclude-patient", nargs="+", default=[], metavar="ID", help="leave out all rows of these patients")
    add("--jsonl", type=Path, help="also write one JSON line for each query")
    add("--page", type=Path, help="also write one HTML file, with thumbnails and the words that match")
    add("--image-root", type=Path, help="where the index's images lie, if they have been moved (for --page)")
    add("--verify", action="store_true", help="read the whole index first and compare its SHA-256")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def add_generate(generate: argparse.ArgumentParser) -> None:
    """What `revtaf.commands.generate.GenerateRequest` holds."""
    add = generate.add_argument
    add(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE|FOLDER|LIST.csv",
        help="a list has a column `image`, relative to the list, and may have one `reference`",
    )
    add("--checkpoint", required=True, type=Path, metavar="RUN", help="a finished run, or a model's folder")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write reports.jsonl and report.html; an interrupted command goes on",
    )
    add("--status", default="", metavar="CATEGORY=STATUS,...", help="what would it write if: pneumonia=pos,edema=neg")
    add("--no-retrieval", action="store_true", help="no past report enters")
    add("--retrieved", metavar="TEXT", help="this text in the place of the retrieved report")
    add("--json", action="store_true", help="JSON lines on the terminal in place of text")
    add("--batch-size", type=positive, help="images at once; the model's generation.batch_size by default")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def add_serve(serve: argparse.ArgumentParser) -> None:
    """What `revtaf.commands.serve.ServeRequest` holds."""
    add = serve.add_argument
    add("--checkpoint", required=True, type=Path, metavar="RUN", help="a finished run, or a model's folder")
    add("--host", default="127.0.0.1", help="the address to listen on; 127.0.0.1, this machine alone, by default")
    add("--port", type=int, default=7860, help="7860 by default; 0 takes a free one")
    add("--max-upload", type=positive, default=64, metavar="MB", help="size of a file that is taken; 64 by default")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def add_export(export: argparse.ArgumentParser) -> None:
    """What `revtaf.commands.export.ExportRequest` holds."""
    add = export.add_argument
    add("checkpoint", type=Path, metavar="RUN", help="a finished run, or a model's folder")
    add("out", type=Path, metavar="DIR", help="the new folder; one that is there has to be empty")
    add("--without-reports", action="store_true", help="leave the training reports out, where they may not be shared")
    add(
        "--reports",
        type=Path,
        metavar="FILE",
        help="attach them again: annotation.json, or the reports.jsonl of the run",
    )


def add_iu(iu: argparse.ArgumentParser) -> None:
    """Arguments of `revtaf.data.sources.iu_xray.prepare.prepare_iu_xray`."""
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


def add_mimic(mimic: argparse.ArgumentParser) -> None:
    """Arguments of `revtaf.data.sources.mimic_cxr.prepare.prepare_mimic_cxr`."""
    mimic.add_argument("--jpg", required=True, type=Path, help="MIMIC-CXR-JPG: files/ and mimic-cxr-2.0.0-*.csv.gz")
    mimic.add_argument("--reports", required=True, type=Path, help="mimic-cxr-reports.zip, or its files/")
    mimic.add_argument("--out", required=True, type=Path)
    mimic.add_argument(
        "--protocol",
        choices=("revtaf", "trrg"),
        default="revtaf",
        help="the samples of a paper: images with findings (revtaf, the default), or all studies (trrg)",
    )
    mimic.add_argument("--sections", choices=SECTIONS, help="findings, unless the protocol has others")
    mimic.add_argument("--views", choices=("all", "frontal", "first"), help="all by default")
    mimic.add_argument(
        "--one-image-per-study", action="store_true", default=None, help="a study is one sample with all its images"
    )
    mimic.add_argument("--labels", choices=("none", "chexpert", "negbio"), default="none", help="statuses of PhysioNet")
    mimic.add_argument("--like", type=Path, help="an annotation (R2Gen's) whose images and splits are reproduced")
    mimic.add_argument("--missing", choices=("error", "drop"), default="error", help="images that are not there")
    mimic.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")


def add_table(table: argparse.ArgumentParser) -> None:
    """Arguments of `revtaf.data.sources.table.prepare.prepare_table`."""
    add = table.add_argument
    add(
        "--csv", required=True, nargs="+", type=Path, help=".csv, .tsv, .jsonl, .json or .parquet; several: one a split"
    )
    add("--images", required=True, type=Path, help="folder that the names of the images are relative to")
    add("--out", required=True, type=Path)
    add("--preset", help="the columns of a public set: chexpert_plus, padchest, indiana, rexgradient")
    add("--join", type=Path, help="a second table, such as the one that names the images")
    add("--on", metavar="COLUMN", help="what both tables share")
    for name, several, what in COLUMNS:
        add(f"--{name}", metavar="COLUMN", nargs="+" if several else None, help=what)
    add("--split", help="column of train, val, test; or whole (all is test), or random; random where there is none")
    add("--seed", type=int, default=0, help="of random splits, by patient")
    add("--views", choices=("all", "frontal"), default="all")
    add("--labels", choices=("chexpert", "ours"), help="the table holds statuses, in these codes (docs/data.md)")
    add("--strip", metavar="TEXT", help="what image names begin with that is not below --images")
    add("--missing", choices=("error", "drop"), default="error", help="images that are not there")
    add("--encoding", default="utf-8", help="of the tables, such as cp1252")
    add("--copy", action="store_true", help="copy the images instead of linking to them")


COLUMNS = (
    ("image", True, "file names, or lists of them"),
    ("report", True, "the text; of several columns, the texts are joined"),
    ("id", False, "of a sample; the study or the image by default"),
    ("patient", False, "who it is; a patient stays in one split"),
    ("study", True, "rows that share it are one sample with several images"),
    ("view", False, "PA, AP, frontal, lateral ...; frontal images come first"),
    ("folder", False, "of the image, in front of its name"),
    ("indication", False, "why the image was taken"),
    ("impression", False, "where it is no part of the report"),
)


def add_import(given: argparse.ArgumentParser) -> None:
    """Arguments of `revtaf.data.sources.imported.prepare.prepare_import`."""
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


def positive(text: str) -> int:
    """A whole number from 1 on; argparse shows the error of any other text beside the name of the option."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value


def not_negative(text: str) -> int:
    """A whole number from 0 on; see `positive`."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return value
