import io
import warnings
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from twotower.data import Dataset
from twotower.models.build import build_model
from twotower.models.fusion import ConcatMLPConfig, FMGates, FMGatesConfig
from twotower.models.two_tower import TwoTower

DIMS = (5, 3, 8)


@pytest.fixture(params=[ConcatMLPConfig(hidden_dim=6), FMGatesConfig()], ids=lambda c: c.kind)
def fusion(request: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    module: torch.nn.Module = request.param.build(DIMS, 4)
    return module


def parts(size: int = 7) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, dim, generator=generator) for dim in DIMS]


def test_parts_become_one_vector_that_every_part_moves(fusion: torch.nn.Module) -> None:
    given = [part.requires_grad_() for part in parts()]
    fused = fusion(given)
    assert fused.shape == (7, 4)
    fused[:, 0].sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in given)


@pytest.mark.parametrize("batch", [1, 7])
def test_onnx_gives_what_torch_gives(fusion: torch.nn.Module, batch: int) -> None:
    fusion.eval()
    buffer, names = io.BytesIO(), ["a", "b", "c"]
    axes = {name: {0: "batch"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            fusion, (parts(1),), buffer, input_names=names, dynamic_axes=axes, dynamo=False
        )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    given = parts(batch)
    inputs = {name: part.numpy() for name, part in zip(names, given, strict=True)}
    (found,) = session.run(None, inputs)
    with torch.no_grad():
        np.testing.assert_allclose(found, fusion(given).numpy(), atol=1e-5)


def test_gates_weigh_unit_vectors() -> None:
    module = FMGates((2, 2), 2)
    with torch.no_grad():
        for projection in module.projections:
            projection.weight.copy_(torch.eye(2))
            projection.bias.zero_()
        module.gates.copy_(torch.tensor([0.75, 0.25]).log())
    fused = module([torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, -9.0]])])
    expected = 0.75 * torch.tensor([[0.6, 0.8]]) + 0.25 * torch.tensor([[0.0, -1.0]])
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(module.gate_weights(), torch.tensor([0.75, 0.25]))


def test_gates_are_equal_at_first_and_are_learned() -> None:
    torch.manual_seed(0)
    module = FMGatesConfig().build(DIMS, 4)
    assert isinstance(module, FMGates)
    torch.testing.assert_close(module.gate_weights(), torch.full((3,), 1 / 3))
    given = parts(200)
    wanted = F.normalize(torch.randn(3, 4), dim=-1)[given[1].argmax(1)]  # only the second tells
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        (-(F.normalize(module(given), dim=-1) * wanted).sum(-1).mean()).backward()
        optimiser.step()
    weights = module.gate_weights()
    assert weights.sum().item() == pytest.approx(1)
    assert weights[1] > 0.6


def test_a_model_names_the_gates_of_both_towers(
    blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    v8 = build_model(small_variants["v8"].model, blocks, block_text)
    assert isinstance(v8, TwoTower)
    gates = v8.gate_weights()
    assert {tower: list(parts) for tower, parts in gates.items()} == {
        "user": ["id", "history", "features"],
        "item": ["id", "text", "features"],
    }
    assert all(sum(parts.values()) == pytest.approx(1) for parts in gates.values())
    v5 = build_model(small_variants["v5"].model, blocks, block_text)
    assert isinstance(v5, TwoTower)
    assert v5.gate_weights() == {}
