import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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


@pytest.mark.parametrize("name", ["mf", "lightgcn", "v5", "v5 with live negatives", "v10"])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    name: str, blocks: Dataset, block_text: Any, small_variants: Any, tmp_path: Path
) -> None:
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
    blocks.save(tmp_path / "data")
    np.save(tmp_path / "text.npy", block_text)
    variant = small.vary(model=model, training=training, negatives=negatives)
    (tmp_path / "variant.json").write_text(variant.model_dump_json())
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    killed, whole = (load_file(tmp_path / f"{run}.safetensors") for run in ("killed", "whole"))
    assert killed.keys() == whole.keys()
    for key, value in whole.items():
        assert torch.equal(killed[key], value), key
    *kills, last = json.loads((tmp_path / "kills.json").read_text())
    assert len(kills) == 8
    starts = [told[0] for told in (*kills, last) if told]
    assert starts[0] == 1
    assert sum(start > 1 for start in starts) >= 3  # it did go on, not begin again
