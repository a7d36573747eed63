"""`twotower info`: what an artefact folder holds, in a few lines."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from twotower.cli.options import JsonFile, print_result, write_json
from twotower.errors import ArtefactError, InputError
from twotower.reporting.choices import columns_in_words
from twotower.reporting.product_names import product_name


def info(
    folder: Annotated[Path, typer.Argument(help="A data set, trained model or bundle.")],
    json_file: JsonFile = None,
) -> None:
    """Say what a data set, trained model or bundle is. `--json -` prints all that it records.

    Example: `twotower info bundle`
    """
    for name in ("manifest.json", "model.json"):
        file = folder / name
        if file.exists():
            try:
                described = json.loads(file.read_text(encoding="utf-8"))
                lines = list(_lines(described))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ArtefactError(f"{file} cannot be read ({error})") from error
            for line in lines:
                print_result(line)
            write_json(json_file, described)
            return
    made = "give a folder that prepare, train, index or run wrote"
    if not folder.is_dir():
        raise InputError(f"{folder} {'is a file' if folder.exists() else 'does not exist'}", made)
    inner = " or ".join(str(manifest.parent) for manifest in sorted(folder.glob("*/manifest.json")))
    raise InputError(
        f"{folder} holds neither manifest.json nor model.json", f"give {inner}" if inner else made
    )


def _lines(described: Mapping[str, Any]) -> Iterator[str]:
    if "model_version" in described:
        return _bundle_lines(described)
    return _model_lines(described) if "variant" in described else _dataset_lines(described)


def _bundle_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    model, files = manifest["info"], manifest["files"]
    size = sum(entry["bytes"] for entry in files.values()) / 2**20
    yield f"bundle {manifest['model_version']}, made {manifest['created']}"
    yield f"data set: {model['dataset']}"
    fitted = "all interactions" if model.get("fitted_on") == "all" else "the training part"
    yield f"model: {product_name(model['model'])}, fitted on {fitted}"
    yield f"vectors: {manifest['embedding_dim']} dimensions; {len(files)} files, {size:.1f} MiB"
    if model.get("metrics"):
        found = ", ".join(f"{name} {value:.4f}" for name, value in model["metrics"].items())
        yield f"test of the evaluated model, full ranking: {found}"
    yield from _chosen_lines(model["config"].get("chosen", {}))


def _model_lines(model: Mapping[str, Any]) -> Iterator[str]:
    training = model["training"]
    yield f"model {product_name(model['name'])}, seed {model['seed']}"
    yield f"data set: {model['dataset']}"
    family = model["variant"]["model"]
    yield f"family: {family['kind']}, {family['embedding_dim']} dimensions"
    epochs = training["epochs"]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    yield f"training: {len(epochs)} epochs in {seconds:.0f} s"
    if training.get("best_epoch") is not None:
        yield f"weights: of epoch {training['best_epoch'] + 1}"
    metric = model.get("validation_metric") or training.get("best_metric")
    if metric is not None:
        yield f"validation NDCG@10: {metric:.4f}"
    yield from _chosen_lines(model.get("chosen") or {})


def _chosen_lines(chosen: Mapping[str, Any]) -> Iterator[str]:
    """Choices made on validation, one line each."""
    if "factor_weight" in chosen:
        yield f"weight of least squares beside the towers: {chosen['factor_weight']:.4g}"
    if "towers_alone" in chosen:
        yield f"validation NDCG@10 of the towers alone: {chosen['towers_alone']:.4f}"
    if "least_squares" in chosen:
        found = chosen["least_squares"]
        factors = found["factors"]
        yield (
            f"least squares: {factors['embedding_dim']} dimensions, recency "
            f"{factors['recency']:g}; {len(found['trials'])} trials in {found['seconds']:.0f} s"
        )
    if columns := columns_in_words(chosen.get("columns", {})):
        yield f"declared columns: {columns[0]} (validation NDCG@10 with {columns[1]})"
    if "cold_start" in chosen:
        found = chosen["cold_start"]
        yield f"items without events: {found['items']:,}, {found['share']:.1%} of the places"


def _dataset_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    from twotower.data.summary import summary_lines

    summary = manifest["summary"]
    yield f"data set {manifest['name']}"
    yield (
        f"{manifest['users']:,} users, {manifest['items']:,} items, "
        f"{manifest['interactions']:,} interactions"
    )
    if "parts" not in summary:  # made in Python, not prepared
        return
    parts = ", ".join(f"{count:,} {part}" for part, count in summary["parts"].items())
    yield f"split: {summary['settings']['split']['kind']} ({parts})"
    yield from summary_lines(summary, cli=True)
