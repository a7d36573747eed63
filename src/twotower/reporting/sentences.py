"""The sentences of the report, made from the figures they speak of."""

from collections.abc import Sequence

from twotower.evaluation.registry import FULL, SAMPLED
from twotower.evaluation.results import Difference
from twotower.reporting.study_results import QUALITY, StudyFigures, within_seeds


def verdicts_in_words(figures: StudyFigures, differences: Sequence[Difference]) -> str:
    """How many changes help, hurt, or show nothing, and the greatest of each."""
    counts = {
        verdict: [one for one in differences if one.verdict == verdict]
        for verdict in ("helps", "hurts", "no difference shown")
    }
    helps, hurts, nothing = counts.values()
    parts = [
        f"Of {_things(len(differences), 'change')}, {len(helps)} "
        f"{'helps' if len(helps) == 1 else 'help'}, {len(hurts)} "
        f"{'hurts' if len(hurts) == 1 else 'hurt'}, and for {len(nothing)} no difference is shown."
    ]
    if helps:
        best = max(helps, key=lambda one: one.value)
        parts.append(f"The greatest gain is {_named(figures, best)}: {_gain(best)}.")
    if hurts:
        worst = min(hurts, key=lambda one: one.value)
        parts.append(f"The greatest loss is {_named(figures, worst)}: {_gain(worst)}.")
    unsure = [one.model for one in differences if within_seeds(one) and one in (*helps, *hurts)]
    if unsure:
        parts.append(
            f"Of these, {', '.join(unsure)} (†) lie within two standard errors over training "
            "seeds, so that another seed may undo them."
        )
    return " ".join(parts)


def agreement_in_words(figures: StudyFigures) -> str:
    """Whether sampled and full ranking order the models alike: pairs in the same order."""
    full, sampled = (figures.by_model(name, QUALITY) for name in (FULL, SAMPLED))
    models = [model for model in full if model in sampled]
    pairs = [(a, b) for i, a in enumerate(models) for b in models[i + 1 :]]
    alike = sum(
        (full[a].value - full[b].value) * (sampled[a].value - sampled[b].value) > 0
        for a, b in pairs
    )
    best = {
        name: max(models, key=lambda model: of[model].value)
        for name, of in (("full ranking", full), ("sampled negatives", sampled))
    }
    said = f"The two order {alike} of {len(pairs)} pairs of models alike."
    first, second = best.values()
    if first == second:
        return f"{said} {first} is best under both."
    return (
        said + " Best is " + " and ".join(f"{model} by {how}" for how, model in best.items()) + "."
    )


def extremes_in_words(figures: StudyFigures, protocol: str, when: str = "") -> str:
    """The best model of a protocol, and how it stands to popularity."""
    rows = figures.by_model(protocol, QUALITY)
    best = max(rows.values(), key=lambda row: row.value)
    said = f"{when} {best.model} is best".strip() + f", with {QUALITY} {best.value:.4f}"
    if best.low is not None:
        said += f" [{best.low:.4f}, {best.high:.4f}]"
    popular = rows.get("popularity")
    if popular is not None and popular.value > 0 and best.model != "popularity":
        said += f", {best.value / popular.value:.1f} times popularity"
    return f"{said}, over {_things(best.users, 'query', 'queries')}."


def newcomers_in_words(figures: StudyFigures) -> str:
    """What each model keeps of its quality for people that training never saw."""
    known, new = (figures.by_model(name, QUALITY) for name in ("known-users", "new-users"))
    kept = [
        f"{model} {new[model].value / known[model].value:.0%}"
        for model in new
        if model in known and known[model].value > 0
    ]
    return f"Of the quality for known users, new ones get: {', '.join(kept)}."


def costs_in_words(figures: StudyFigures) -> str:
    """The best and the fastest model, with their training times."""
    quality, times = figures.by_model(FULL, QUALITY), figures.by_model("timing", "training-seconds")
    models = [model for model in times if model in quality]
    best = max(models, key=lambda model: quality[model].value)
    quickest = min(models, key=lambda model: times[model].value)
    return (
        f"The best, {best}, trained for {times[best].value:,.0f} s and reaches "
        f"{quality[best].value:.4f}; the quickest, {quickest}, for {times[quickest].value:,.0f} s, "
        f"and reaches {quality[quickest].value:.4f}."
    )


def _named(figures: StudyFigures, one: Difference) -> str:
    change = figures.changes.get(one.model)
    return f"{one.model} ({change})" if change else one.model


def _gain(one: Difference) -> str:
    return f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}] against {one.parent}"


def _things(count: int, one: str, several: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"
