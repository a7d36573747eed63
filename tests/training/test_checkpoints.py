from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from twotower.data import Dataset
from twotower.errors import ArtefactError
from twotower.training.checkpoints import load_tensors, read_state, save_checkpoint
from twotower.training.fit import fit, run_fingerprint


def stepped(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A small model after two steps of Adam."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        module(torch.randn(5, 3)).sum().backward()
        optimiser.step()
    return module, optimiser


def test_weights_moments_and_state_come_back(tmp_path: Path) -> None:
    module, optimiser = stepped(0)
    save_checkpoint(tmp_path / "last", {"module": module}, optimiser, {"epoch": 3, "loss": 0.1})
    other, others = stepped(1)
    load_tensors(tmp_path / "last", {"module": other}, others)
    assert read_state(tmp_path / "last") == {"epoch": 3, "loss": 0.1}
    for name, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    moments, expected = others.state_dict()["state"], optimiser.state_dict()["state"]
    assert moments.keys() == expected.keys()
    for parameter, values in expected.items():
        for name, value in values.items():
            assert torch.equal(moments[parameter][name], value)


def load(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    read_state(folder)
    load_tensors(folder, {"module": module}, optimiser)


@pytest.mark.parametrize("file", ["module.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("break_it", ["truncate", "empty", "delete"])
def test_a_broken_checkpoint_is_refused(file: str, break_it: str, tmp_path: Path) -> None:
    module, optimiser = stepped(0)
    save_checkpoint(tmp_path / "last", {"module": module}, optimiser, {"epoch": 3})
    path = tmp_path / "last" / file
    if break_it == "delete":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -5 if break_it == "truncate" else 0])
    with pytest.raises(
        ArtefactError, match=r"^checkpoint .*last cannot be read \(.*; delete it to train afresh$"
    ):
        load(tmp_path / "last", module, optimiser)


def run(variant: Any, blocks: Dataset, folder: Path, text: Any = None, seed: int = 0) -> Any:
    return fit(variant, blocks, validate=lambda _: 1.0, text=text, seed=seed, checkpoint=folder)


@pytest.mark.parametrize("change", ["seed", "settings", "model"])
def test_a_checkpoint_of_another_run_is_refused(
    change: str, blocks: Dataset, block_text: Any, small_variants: Any, tmp_path: Path
) -> None:
    variant, seed = small_variants["mf"], 0
    run(variant, blocks, tmp_path / "run")
    mine = run_fingerprint(variant, blocks, seed)[:12]
    if change == "seed":
        seed = 1
    elif change == "settings":
        variant = variant.vary(training=variant.training.vary(learning_rate=0.5))
    else:
        variant = small_variants["v5"]
    now = run_fingerprint(variant, blocks, seed)[:12]
    with pytest.raises(
        ArtefactError,
        match=rf"^checkpoint .*run belongs to another run \(fingerprint '{mine}', "
        rf"this run has '{now}'\); delete it, or choose another folder$",
    ):
        run(variant, blocks, tmp_path / "run", block_text, seed)


def test_a_checkpoint_of_other_data_is_refused(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    variant = small_variants["mf"]
    run(variant, blocks, tmp_path / "run")
    items = blocks.interactions.items.copy()
    items[[0, 1]] = items[[1, 0]]
    log = type(blocks.interactions)(blocks.interactions.indptr, items)
    other = type(blocks)(
        "other", blocks.users, blocks.items, blocks.catalogue, log, blocks.split, blocks.summary
    )
    with pytest.raises(ArtefactError, match=r"belongs to another run"):
        run(variant, other, tmp_path / "run")


def test_a_broken_checkpoint_stops_training(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    run(small_variants["mf"], blocks, tmp_path / "run")
    file = tmp_path / "run" / "last" / "module.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        ArtefactError, match=r"last cannot be read \(.*; delete it to train afresh$"
    ):
        run(small_variants["mf"], blocks, tmp_path / "run")


def test_a_finished_run_is_not_trained_again(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    first = run(small_variants["mf"], blocks, tmp_path / "run")
    steps: list[int] = []
    again = fit(
        small_variants["mf"],
        blocks,
        validate=lambda _: pytest.fail("validated again"),
        checkpoint=tmp_path / "run",
        progress=lambda state, *_: steps.append(state.step),
    )
    assert steps == []
    assert again.state == first.state
    for name, value in first.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], value)
