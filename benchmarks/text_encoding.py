"""Titles encoded a second on one core: MiniLM in PyTorch, and quantised to 8 bits in onnxruntime.

    python benchmarks/text_encoding.py

writes ``benchmarks/results/text-encoding.json``: titles a processor second, and the cosine of the
quantised vectors to the full ones (mean, 5% quantile), over titles of Video Games 2023.
"""

import argparse
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch

from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.features import text_encoder

RESULTS = Path(__file__).parent / "results" / "text-encoding.json"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--titles", type=int, default=512)
    options.add_argument("--out", type=Path, default=RESULTS)
    chosen = options.parse_args()
    started = datetime.now(UTC)
    torch.set_num_threads(1)
    folder = Path(os.environ["TWOTOWER_DATA"]) / "video-games-2023"
    every = pl.read_parquet(folder / "items.parquet")["title"].drop_nulls().to_list()
    titles = every[:: max(len(every) // chosen.titles, 1)][: chosen.titles]
    rows, vectors = [], {}
    for name in ("minilm", "minilm-int8"):
        encoder = text_encoder(name)
        encoder.encode(titles[:8])  # loads it
        begin = time.process_time()
        vectors[name] = encoder.encode(titles)
        found = {"titles/s": len(titles) / (time.process_time() - begin)}
        cosines = (vectors[name] * vectors["minilm"]).sum(axis=1)
        found |= {"cosine": float(cosines.mean()), "cosine-5%": float(np.quantile(cosines, 0.05))}
        print(name, found, flush=True)
        rows += [
            Row(
                dataset="video-games-2023", split="items", model=name, protocol="timing",
                metric=metric, value=value, seeds=[0], users=len(titles),
            )
            for metric, value in found.items()
        ]  # fmt: skip
    packages = ("twotower", "numpy", "torch", "onnxruntime", "sentence-transformers")
    write_results(chosen.out, collect_meta(started, threads=1, packages=packages), rows)


if __name__ == "__main__":
    main()
