import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from twotower.data import Dataset
from twotower.training.negatives import Curriculum, Hard, Queue, Stage

SCRIPT = Path(__file__).with_name("killed_run.py")


QUEUE_THEN_HARD = Curriculum(
    stages=(
        Stage(from_epoch=0, negatives=Queue(size=200)),
        Stage(from_epoch=5, negatives=Hard(pool=20, refresh_steps=3, in_batch=True)),
    )
)
"""Negatives of which the model has a part in every one."""


NAMES = ("mf", "lightgcn", "v5", "v5 with live negatives", "v10")


def job_of(name: str, small_variants: Any, folder: Path) -> Path:
    """What the script reads, in a folder; how it trains the named variant."""
    name, *live = name.split(" with ")
    small = small_variants[name]
    negatives = QUEUE_THEN_HARD if live else small.negatives
    training = small.training.vary(
        epochs=12, checkpoint_seconds=0, validate_steps=15, patience=4, batch_size=96
    )
    if name == "v10":  # windows, and an average of the weights
        training = training.vary(batch_positions=96)
    model = small.model
    if name == "v5":  # every kind of randomness: hidden ids and dropped units
        user, item = model.user_tower, model.item_tower
        model = model.vary(
            user_tower=user.vary(fusion=user.fusion.vary(dropout=0.3)),
            item_tower=item.vary(fusion=item.fusion.vary(dropout=0.3)),
        )
    variant = small.vary(model=model, training=training, negatives=negatives)
    (folder / "variant.json").write_text(variant.model_dump_json())
    return folder


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    blocks: Dataset, block_text: Any, small_variants: Any, tmp_path: Path
) -> None:
    """One process for all variants: to import torch takes longer than to train one."""
    blocks.save(tmp_path / "data")
    jobs = {}
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "data").symlink_to(tmp_path / "data")
        np.save(folder / "text.npy", block_text)
        jobs[name] = job_of(name, small_variants, folder)
    done = subprocess.run(
        [sys.executable, SCRIPT, *jobs.values()], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    for name, job in jobs.items():
        killed, whole = (load_file(job / f"{run}.safetensors") for run in ("killed", "whole"))
        assert killed.keys() == whole.keys(), name
        for key, value in whole.items():
            assert torch.equal(killed[key], value), (name, key)
        *kills, last = json.loads((job / "kills.json").read_text())
        assert len(kills) == 8
        starts = [told[0] for told in (*kills, last) if told]
        assert starts[0] == 1, name
        assert sum(start > 1 for start in starts) >= 3, name  # it did go on, not begin again
