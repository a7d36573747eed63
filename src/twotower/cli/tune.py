"""`twotower tune`: hyperparameter search of a variant."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from twotower.cli.options import (
    DeviceName,
    JsonFile,
    KCore,
    PrecisionName,
    TextEncoderName,
    changed_settings,
    console,
    notes,
    write_json,
)


def tune(
    variant: Annotated[str, typer.Argument(help="mf, lightgcn, v1 … v10")],
    dataset: Annotated[
        str, typer.Option("--dataset", help="A name, or a path, also of a prepared data set.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for trials and the best settings.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials in all.")] = 20,
    space: Annotated[
        Path | None, typer.Option("--space", help="JSON file of what to search, not the default.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Most epochs.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    k_core: KCore = None,
    text_encoder: TextEncoderName = "minilm",
    device: DeviceName = None,
    precision: PrecisionName = None,
    json_file: JsonFile = None,
) -> None:
    """Search a variant's settings by validation NDCG@10. Run again, it goes on.

    Example: `twotower tune v10 --dataset sample --trials 20 --out runs/tuned-v10`
    """
    from twotower.console import reporting
    from twotower.study.ablation.study import study_dataset
    from twotower.study.search_space import read_space, space_of
    from twotower.study.tuning import tune as search
    from twotower.training.device import on_device
    from twotower.workflow.datasets import find_dataset
    from twotower.workflow.models import named_variant

    settings = on_device(named_variant(variant, text_encoder), device, precision)
    if epochs is not None:
        settings = settings.with_epochs(epochs)
    chosen = space_of(settings) if space is None else read_space(space, settings)
    source, preparation = find_dataset(dataset)
    with reporting(notes()) as reporter:
        tuned = search(
            settings,
            chosen,
            study_dataset(
                source, out / "dataset", changed_settings(preparation, k_core=k_core), reporter
            ),
            out,
            name=variant,
            trials=trials,
            seed=seed,
            reporter=reporter,
        )
    counts = {state: sum(trial.state == state for trial in tuned.trials)
              for state in ("complete", "pruned", "failed")}  # fmt: skip
    console().print(
        f"best validation NDCG@10 {tuned.value:.4f}; trials: "
        + ", ".join(f"{count} {state}" for state, count in counts.items()),
        highlight=False,
    )
    command = f"twotower train --data {out / 'dataset'} --settings {tuned.file} --out …"
    notes().print(f"best settings: {tuned.file}; {command}", highlight=False, soft_wrap=True)
    write_json(
        json_file,
        {
            "value": tuned.value,
            "best": tuned.best.model_dump(mode="json"),
            "trials": [asdict(trial) for trial in tuned.trials],
        },
    )
