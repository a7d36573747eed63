"""Shared by benchmarks of the default model: options, its variant, prepared data sets."""

import argparse
import os
from pathlib import Path
from typing import Final

from twotower.data import Dataset
from twotower.data.declaration import Declaration
from twotower.data.prepare import prepare
from twotower.reporting.product_names import DEFAULT_MODEL
from twotower.training.variant import Variant
from twotower.workflow.datasets import DATA_VARIABLE
from twotower.workflow.models import named_variant

RESULTS: Final = Path(__file__).parent / "results"


def options(description: str, results: Path = RESULTS) -> argparse.ArgumentParser:
    """A parser with ``--out``, ``--results``, ``--seeds``, ``--text-encoder`` and ``--epochs``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for data and models")
    parser.add_argument("--results", type=Path, default=results)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--epochs", type=int, help="at most; default: what validation says")
    return parser


def data_folder(parser: argparse.ArgumentParser) -> Path:
    """The folder that ``TWOTOWER_DATA`` names; the parser's error where it names none."""
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        parser.error(f"set {DATA_VARIABLE} to the folder that holds the data sets")
    return Path(root)


def variant_of(given: argparse.Namespace) -> Variant:
    """The default model as the options have it."""
    variant = named_variant(DEFAULT_MODEL, given.text_encoder)
    return variant if given.epochs is None else variant.with_epochs(given.epochs)


def prepared(source: Path, out: Path, declaration: Declaration) -> Dataset:
    """The data set in ``out``, made of ``source`` where it is not there."""
    if out.exists():
        return Dataset.load(out)
    return prepare(source, declaration=declaration, out=out)
