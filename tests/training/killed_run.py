"""Train in a process of its own, kill it again and again, and let it go on.

``python killed_run.py JOB …`` reads ``data`` (a data set), ``variant.json`` and ``text.npy`` in
each folder JOB, and writes ``killed.safetensors``, ``whole.safetensors`` and ``kills.json`` there.
Attempts are forks of one process, so that torch is imported once.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lightning_fabric  # noqa: F401 (training imports it, which takes as long as torch)
import numpy as np
import torch
from safetensors.torch import save_file

from twotower.data import Dataset
from twotower.models.base import RetrievalModule
from twotower.training.fit import fit
from twotower.training.progress import TrainingState
from twotower.training.variant import Variant

KILLS = 8


def validate(module: RetrievalModule) -> float:
    """A metric that rises, falls and rises: the weights decide, nothing is random."""
    total = sum(float(value.double().sum()) for value in module.state_dict().values())
    return float(np.sin(20 * total))


def in_a_fork(work: Callable[[int], None]) -> tuple[int, int]:
    """Process id, and the file to read what ``work`` tells."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(receive)
            work(send)
            status = 0
        finally:
            os._exit(status)
    os.close(send)
    return child, receive


def main(job: Path) -> None:
    torch.set_num_threads(1)
    variant = Variant.model_validate_json((job / "variant.json").read_text())

    def train(checkpoint: Path | None, out: Path) -> Callable[[int], None]:
        def work(send: int) -> None:
            def progress(state: TrainingState, steps: int, speed: float) -> None:
                os.write(send, f"{state.epoch * steps + state.step}\n".encode())

            # Read here, in the child: the threads that polars starts do not survive a fork.
            dataset, text = Dataset.load(job / "data"), np.load(job / "text.npy")
            trained = fit(
                variant, dataset, validate=validate, text=text, checkpoint=checkpoint,
                progress=progress,
            )  # fmt: skip
            tensors = trained.module.state_dict().items()
            save_file({name: tensor.contiguous() for name, tensor in tensors}, out)

        return work

    def attempt(lines: int | None, checkpoint: Path | None, out: Path, wait: float) -> list[int]:
        """Positions that were told before the kill (after so many lines), or all of them."""
        child, receive = in_a_fork(train(checkpoint, out))
        told: list[int] = []
        with os.fdopen(receive) as stream:
            for line in stream:
                told.append(int(line))
                if len(told) == lines:
                    time.sleep(wait)
                    os.kill(child, signal.SIGKILL)
                    break
        _, status = os.waitpid(child, 0)
        if lines is None and status != 0:
            raise SystemExit(f"training failed with status {status}")
        return told

    rng = random.Random(5)
    folder, out = job / "checkpoint", job / "killed.safetensors"
    kills = [attempt(rng.randint(1, 9), folder, out, rng.uniform(0, 0.01)) for _ in range(KILLS)]
    last = attempt(None, folder, out, 0)
    attempt(None, None, job / "whole.safetensors", 0)
    (job / "kills.json").write_text(json.dumps([*kills, last]))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        main(Path(folder))
