"""Where a variant is trained, and in which precision."""

import numpy as np
import pytest
import torch

from twotower.data import Dataset, Queries
from twotower.errors import InputError
from twotower.training import device
from twotower.training.device import on_device
from twotower.workflow.models import train_variant
from twotower.workflow.variants import VARIANTS

SMALL = VARIANTS["v10"].vary(text_encoder="hashing").with_epochs(2)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_has_mps", lambda: False)
    assert on_device(SMALL, "auto").training.accelerator == "cpu"
    with pytest.raises(InputError, match=r"'cuda' is not there: PyTorch .* finds cpu"):
        on_device(SMALL, "cuda")
    monkeypatch.setattr(device, "_has_mps", lambda: True)
    assert on_device(SMALL, "auto").training.accelerator == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_device(SMALL, "auto").training.accelerator == "cuda"


def test_what_is_not_given_stays() -> None:
    assert on_device(SMALL, None) == SMALL
    assert on_device(SMALL, None, "bf16").training.precision == "bf16-mixed"
    for where, how in (("tpu", None), (None, "64")):
        with pytest.raises(InputError, match="unknown"):
            on_device(SMALL, where, how)


def test_bfloat16_trains_as_well(blocks: Dataset) -> None:
    whole, half = (
        train_variant(on_device(SMALL, "cpu", precision), blocks) for precision in ("32", "bf16")
    )
    assert whole.metric is not None
    assert half.metric == pytest.approx(whole.metric, abs=0.1)
    queries = Queries.anonymous(blocks.train)
    vectors = half.module.scorer().user_vectors(queries)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
