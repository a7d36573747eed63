"""How the bundle's model was trained and what validation chose, read from the manifest."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from twotower.bundle.manifest import ModelInfo, TrainingInfo
from twotower.reporting.choices import columns_in_words

_ENDED: Final = {
    "validation": "validation rose no more",
    "time": "the given minutes were over",
    "epochs": "all planned epochs were done",
}


class Choice(NamedTuple):
    """Something that validation decided."""

    what: str
    taken: str
    why: str
    """NDCG@10 on validation with it and without."""


def facts(training: TrainingInfo) -> dict[str, str]:
    """Figures of a training with their names."""
    seconds = sum(epoch.seconds for epoch in training.epochs)
    found = {"epochs": f"{len(training.epochs):,}", "seconds of training": f"{seconds:,.0f}"}
    if training.best is not None:
        found["weights kept of epoch"] = f"{training.best + 1:,}"
    return {**found, "ended because": _ENDED[training.ended]}


def choices(info: ModelInfo, second_stage: bool | None) -> list[Choice]:
    """What validation chose for a model.

    Parameters
    ----------
    second_stage
        Whether the second stage is served unless a request says otherwise; None without one.
    """
    found = [*_choices(info.config.get("chosen", {}))]
    if second_stage is not None:
        served = "re-ranks by default" if second_stage else "only where a request asks for it"
        compared = "both stages were better" if second_stage else "the first stage was as good"
        found.append(Choice("Second stage", served, compared))
    return found


def _choices(chosen: Mapping[str, Any]) -> Iterator[Choice]:
    if "least_squares" in chosen:
        search = chosen["least_squares"]
        settings, trials = search["factors"], search["trials"]
        yield Choice(
            "Settings of the least-squares part",
            f"{settings['embedding_dim']} dimensions, recency {settings['recency']:g}, next items "
            f"{'fitted' if settings['next_item'] else 'not fitted'}",
            f"{search['metric']:.4f}, the best of {len(trials):,} trials; the first had "
            f"{trials[0]['NDCG@10']:.4f}",
        )
    if "gaps" in chosen:
        gaps = chosen["gaps"]
        yield Choice(
            "Times between events",
            "read" if gaps["read"] else "not read",
            f"{gaps['with']:.4f} with them, {gaps['without']:.4f} without",
        )
    if columns := columns_in_words(chosen.get("columns", {})):
        yield Choice("Declared columns", *columns)
    if "factor_weight" in chosen:
        weights = chosen["factor_weights"]
        best = max(weights, key=weights.__getitem__)
        yield Choice(
            "Weight of the least-squares part beside the towers",
            f"{chosen['factor_weight']:.3g}",
            f"{weights[best]:.4f}; the towers alone {chosen['towers_alone']:.4f}",
        )


def weight_curve(info: ModelInfo) -> dict[float, float]:
    """Weight of the least-squares part → NDCG@10 on validation; empty without such a part."""
    weights = info.config.get("chosen", {}).get("factor_weights", {})
    return {float(weight): found for weight, found in weights.items()}
