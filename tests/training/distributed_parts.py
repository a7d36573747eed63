"""Run by torchrun: the loss and gradients of one batch, written by the first rank.

``distributed_parts.py DATA OUT NAME …``: of each named variant, to ``OUT/NAME``.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from twotower.data import Dataset
from twotower.models.build import build_model
from twotower.training.collectives import leave, ranks
from twotower.training.examples import EXAMPLE_SOURCES
from twotower.workflow.models import item_text
from twotower.workflow.progress import Silent
from twotower.workflow.variants import VARIANTS


def parts(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """Losses and gradients of two batches; the same in every rank."""
    dataset = Dataset.load(folder)
    variant = VARIANTS[name].vary(text_encoder="hashing")
    processes = ranks()
    text = item_text(variant, dataset, Silent())
    torch.manual_seed(0)
    module = build_model(variant.model, dataset, text, None)
    module.eval()  # no dropout, which each rank draws for its part
    examples = EXAMPLE_SOURCES.find(module.example_source)(
        module,
        dataset.train,
        variant.negatives.fit(dataset.train, len(dataset.items)),
        variant.training.vary(batch_size=33, batch_positions=150 if name == "v10" else None),
        0,
    )
    found = {}
    for step in range(2):
        module.zero_grad()
        part = processes.part(examples.batch(0, step))
        embeddings = processes.gathered(module(part.batch), part)
        value = part.share * variant.loss(embeddings)
        value.backward()
        processes.sum_gradients(module)
        found[f"{step}.loss"] = processes.add_up(value.detach()).clone()
        for key, parameter in module.named_parameters():
            if parameter.grad is not None:
                found[f"{step}.{key}"] = parameter.grad.to_dense().clone()
    return found


if __name__ == "__main__":
    data, out, *names = sys.argv[1:]
    for wanted in names:
        made = parts(wanted, Path(data))
        if ranks().first:
            save_file(made, Path(out) / wanted)
    leave()
